"""What runs of the sessions' team may read and change, and the connections they name."""

from typing import Any

from ..granting import a_grant, connection_objects
from ..shop import Shop
from .place import FLEET, GROUP, cache


def grant(account: str, label: str, name: str) -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    return a_grant(
        account,
        name=name,
        label=label,
        description="The sessions' cache: one failover where people agree, and hosts that did not follow one.",
        resources=[
            f"arn:aws:elasticache:*:{account}:replicationgroup:{GROUP}",
            f"arn:aws:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/{FLEET.name}",
        ],
        actions=["autoscaling.recycle-instances", "aws.*", "cloudtrail.*", "cloudwatch.*", "elasticache.*", "redis.*"],
        probes={"cidrs": ["127.0.0.0/8"]},
    )


def connections(shop: Shop, namespace: str) -> list[dict[str, Any]]:
    """Return the Secrets of endpoint and nodes, and the Role that lets the operator and responders read them."""
    found = cache(shop)
    nodes = {f"cache-{node.removeprefix(f'{GROUP}-')}": place for node, place in found.nodes.items()}
    places = {"cache-endpoint": found.endpoint, **nodes}
    return connection_objects(namespace, {name: f"redis://{host}:{port}" for name, (host, port) in places.items()})
