"""The shop's ActionGrant: what runs of its namespaces may read and change. `grant.yaml` is this, written out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .shop import DEFAULT_ACCOUNT

FILE = Path(__file__).with_name("grant.yaml")
LABEL = "shopsmart.com/team"
_HEADER = """\
# What runs in namespaces of the birthday team may do to the birthday service.
# Written by `python -m dev.shop.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "birthday", name: str = "birthday-service") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    iam = f"arn:aws:iam::{account}"
    roles = [f"{iam}:role/lambda-execution-role", f"{iam}:role/service-role/*"]
    table = f"arn:aws:dynamodb:*:{account}:table/birthday-users"
    reading = {
        "actions": ["dynamodb:GetItem", "dynamodb:Query"],
        "resources": [table, f"{table}/index/*"],
    }
    templates = {"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::birthday-email-templates*/*"]}
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The birthday service: its functions, its roles, and the access it may be given back.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"{iam}:role/IncidentOperatorRemediation",
                "readRoleArn": f"{iam}:role/IncidentOperatorRead",
                "regions": ["us-east-1", "eu-west-1"],
                "resources": [
                    f"arn:aws:lambda:*:{account}:function:*",
                    *roles,
                    f"{iam}:policy/Birthday*",
                ],
                "protectedActors": [f"{iam}:role/SecurityAudit"],
            },
            "actions": ["aws.*", "cloudtrail.*", "cloudwatch.*", "http.*", "iam.*", "lambda.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Destructive"},
            "restorable": {"access": [{"role": role, **access} for role in roles for access in (reading, templates)]},
        },
    }


def written(manifest: Mapping[str, Any], header: str = _HEADER) -> str:
    """Return a grant as YAML, below a header of comments."""
    plain = json.loads(json.dumps(manifest))  # without the sharing that YAML would write as anchors
    return header + yaml.safe_dump(plain, sort_keys=False, width=110)


if __name__ == "__main__":
    FILE.write_text(written(grant()))
