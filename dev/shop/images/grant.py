"""The ActionGrant of the images' team: what its runs may read and change. `grant.yaml` is this, written out."""

import json
from pathlib import Path
from typing import Any

import yaml

from ..grant import LABEL
from ..shop import DEFAULT_ACCOUNT
from .seed import REMEDIATION

FILE = Path(__file__).with_name("grant.yaml")
_HEADER = """\
# What runs in namespaces of the images' team may do to the bucket of product images.
# Written by `python -m dev.shop.images.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "images", name: str = "product-images") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    iam = f"arn:aws:iam::{account}"
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The product images: the policy of their bucket, with two people's word.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"{iam}:role/{REMEDIATION}",
                "readRoleArn": f"{iam}:role/IncidentOperatorRead",
                "regions": ["us-east-1"],
                "resources": ["arn:aws:s3:::shopsmart-product-images*"],
                "protectedActors": [f"{iam}:role/SecurityAudit"],
            },
            "actions": ["aws.*", "cloudtrail.*", "iam.role-access", "s3.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Disruptive"},
        },
    }


def written() -> str:
    """Return the grant as YAML."""
    return _HEADER + yaml.safe_dump(json.loads(json.dumps(grant())), sort_keys=False, width=110)


if __name__ == "__main__":
    FILE.write_text(written())
