"""The storefront's ActionGrant: what runs of the web team may read and change. `grant.yaml` is this, written out."""

from pathlib import Path
from typing import Any

from ..grant import LABEL, written
from ..shop import DEFAULT_ACCOUNT
from . import seed

FILE = Path(__file__).with_name("grant.yaml")
HEADER = """\
# What runs in namespaces of the web team may do to the storefront.
# Written by `python -m dev.shop.storefront.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "web", name: str = "storefront") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`.

    Shape: probes may lead to loopback addresses, for that is where the simulator's instances are.
    """
    iam = f"arn:aws:iam::{account}:role/IncidentOperator"
    groups = f"arn:aws:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/{seed.GROUP}"
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The storefront: its Auto Scaling group and its target group.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"{iam}Remediation",
                "readRoleArn": f"{iam}Read",
                "regions": ["us-east-1"],
                "resources": [
                    groups,
                    f"arn:aws:elasticloadbalancing:*:{account}:targetgroup/{seed.TARGET_GROUP}/*",
                ],
            },
            "actions": ["autoscaling.*", "aws.*", "cloudtrail.*", "cloudwatch.*", "elbv2.*", "http.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Destructive"},
            "probes": {"cidrs": ["127.0.0.0/8"], "ports": [seed.PORT]},
        },
    }


if __name__ == "__main__":
    FILE.write_text(written(grant(), HEADER))
