"""Where the sessions are kept: the replication group, its endpoint and its nodes."""

from dataclasses import dataclass
from typing import Any

from ..fleet import Fleet
from ..shop import Shop, ShopError

GROUP = "shopsmart-prod-redis-rg"
#: What hosts publish of themselves.
NAMESPACE = "ShopSmart/Sessions"
FAILING, HIT_RATE, REQUESTS, FAILED = "FailingShare", "HitRate", "Requests", "FailedRequests"
#: The application hosts: how many there are, in which group.
HOSTS = 4
FLEET = Fleet(name="shopsmart-sessions-asg", minimum=3, maximum=6)
#: The releases of what they run: the first one's client clings to its node, the second one's handles a failover.
CLINGING, HANDLING = 1, 2

Place = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The group as described just now. Shape: `nodes` by id, roles by id."""

    status: str
    endpoint: Place
    nodes: dict[str, Place]
    roles: dict[str, str]

    @property
    def primary(self) -> str:
        """The node that AWS calls the primary."""
        return next(node for node, role in self.roles.items() if role == "primary")

    @property
    def replica(self) -> str:
        """The other one."""
        return next(node for node, role in self.roles.items() if role == "replica")


def cache(shop: Shop) -> Cache:
    """Return where the group is now. Errors: ShopError where it is not described as expected."""
    found: list[Any] = shop.client("elasticache").describe_replication_groups(ReplicationGroupId=GROUP)[
        "ReplicationGroups"
    ]
    if len(found) != 1:
        raise ShopError(f"there is no replication group {GROUP}: seed the sessions first")
    (part,) = found[0]["NodeGroups"]
    return Cache(
        status=found[0]["Status"],
        endpoint=_place(part["PrimaryEndpoint"]),
        nodes={m["CacheClusterId"]: _place(m["ReadEndpoint"]) for m in part["NodeGroupMembers"]},
        roles={m["CacheClusterId"]: m["CurrentRole"] for m in part["NodeGroupMembers"]},
    )


def _place(endpoint: Any) -> Place:
    return str(endpoint["Address"]), int(endpoint["Port"])
