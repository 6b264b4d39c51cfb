"""What runs of the network's team may read and change: the one way between the tiers."""

from typing import Any

from ..granting import a_grant
from .place import CACHE, PORT, WEB, Tiers

_CIDR = "10.20.0.0/16"


def grant(account: str, label: str, name: str, tiers: Tiers, *, protected: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the grant for one account; `protected` are ARNs of those whose removals are on purpose."""
    return a_grant(
        account,
        name=name,
        label=label,
        description="The network between the tiers: the declared ways may be opened again.",
        resources=[f"arn:aws:ec2:*:{account}:security-group/*"],
        protected=protected,
        actions=["aws.*", "cloudtrail.*", "cloudwatch.*", "ec2.*"],
        probes={"cidrs": [_CIDR], "ports": [PORT], "instances": [f"arn:aws:ec2:*:{account}:instance/*"]},
        restorable={"paths": [{"from": tiers.groups[WEB], "to": tiers.groups[CACHE], "port": PORT}]},
    )
