"""The storefront's ActionGrant: what runs of the web team may read and change. `grant.yaml` is this, written out."""

from pathlib import Path
from typing import Any

from ..granting import a_grant, written
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
    return a_grant(
        account,
        name=name,
        label=label,
        description="The storefront: its Auto Scaling group and its target group.",
        resources=[
            f"arn:aws:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/{seed.GROUP}",
            f"arn:aws:elasticloadbalancing:*:{account}:targetgroup/{seed.TARGET_GROUP}/*",
        ],
        actions=["autoscaling.*", "aws.*", "cloudtrail.*", "cloudwatch.*", "elbv2.*", "http.*"],
        ask_up_to="Destructive",
        probes={"cidrs": ["127.0.0.0/8"], "ports": [seed.PORT]},
    )


if __name__ == "__main__":
    FILE.write_text(written(grant(), HEADER))
