"""Where the sessions are kept: the replication group, its endpoint and its nodes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.loopback import address

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


@contextlib.contextmanager
def client_of(place: Place) -> "Iterator[redis.Redis]":
    """Yield a client of a node's own address that tries once."""
    host, port = place
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(host=host, port=port, retry=retry, socket_timeout=5, decode_responses=True) as client:
        yield client


def answers(place: Place) -> bool:
    """Tell whether a node answers."""
    with contextlib.suppress(redis.RedisError, OSError), client_of(place) as client:
        return bool(client.ping())
    return False


def is_in_sync(place: Place) -> bool:
    """Tell whether a replica has all that its primary has."""
    with contextlib.suppress(redis.RedisError, OSError), client_of(place) as client:
        return bool(client.info("replication").get("master_link_status") == "up")
    return False


def hosts_network() -> str:
    """Return the network of the hosts, which are the checkout's own addresses: the operator is no host."""
    return address().rpartition(".")[0] + ".0/24"
