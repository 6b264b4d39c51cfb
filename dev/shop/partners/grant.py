"""The ActionGrant of the security team: what its runs may read and change. `grant.yaml` is this, written out."""

import json
from pathlib import Path
from typing import Any

import yaml

from ..grant import LABEL
from ..shop import DEFAULT_ACCOUNT
from .seed import REMEDIATION

FILE = Path(__file__).with_name("grant.yaml")
_HEADER = """\
# What runs in namespaces of the security team may do to partners' keys, and where they write evidence.
# Written by `python -m dev.shop.partners.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "security", name: str = "partner-keys") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    iam = f"arn:aws:iam::{account}"
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "Partners' access keys: disabled with a person's word, after the evidence is written.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"{iam}:role/{REMEDIATION}",
                "readRoleArn": f"{iam}:role/IncidentOperatorRead",
                "regions": ["us-east-1"],
                "resources": [f"{iam}:user/partner-*", "arn:aws:s3:::shopsmart-security-evidence*/cloudtrail/*"],
            },
            "actions": [
                "cloudtrail.*",
                "evidence.collect",
                "iam.access-key",
                "iam.disable-credentials",
                "iam.key-persistence",
            ],
            "automation": {"applyUpTo": "Low", "askUpTo": "Disruptive"},
        },
    }


def written() -> str:
    """Return the grant as YAML."""
    return _HEADER + yaml.safe_dump(json.loads(json.dumps(grant())), sort_keys=False, width=110)


if __name__ == "__main__":
    FILE.write_text(written())
