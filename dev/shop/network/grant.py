"""What runs of the network's team may read and change: the one way between the tiers."""

from typing import Any

from ..grant import LABEL
from .place import CACHE, PORT, WEB, Tiers


def grant(account: str, label: str, name: str, tiers: Tiers, *, protected: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the grant for one account; `protected` are ARNs of those whose removals are on purpose."""
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The network between the tiers: the declared ways may be opened again.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"arn:aws:iam::{account}:role/IncidentOperatorRemediation",
                "readRoleArn": f"arn:aws:iam::{account}:role/IncidentOperatorRead",
                "regions": ["us-east-1"],
                "resources": [f"arn:aws:ec2:*:{account}:security-group/*"],
                "protectedActors": list(protected),
            },
            "actions": ["aws.*", "cloudtrail.*", "cloudwatch.*", "ec2.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Disruptive"},
            "restorable": {"paths": [{"from": tiers.groups[WEB], "to": tiers.groups[CACHE], "port": PORT}]},
        },
    }
