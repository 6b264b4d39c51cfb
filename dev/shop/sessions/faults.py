"""What goes wrong with the cache, each done over the wire by who does it."""

import contextlib
from collections.abc import Mapping

import redis

from dev.processes import wait_until

from ..faults import Fault
from ..shop import Shop, ShopError
from . import seed
from .place import GROUP, answers, cache, client_of

_SECONDS = 60.0


def _fail_over(shop: Shop) -> None:
    """A failover drill at the wrong time: the new primary writes, and nobody told the applications."""
    former = cache(shop).primary
    shop.client("elasticache", "cache-admin").test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
    if not wait_until(lambda: _swapped(shop, former), seconds=_SECONDS):
        raise ShopError(f"{GROUP} did not fail over within {_SECONDS:g} s")


def _swapped(shop: Shop, former: str) -> bool:
    found = cache(shop)
    return found.primary != former and found.status == "available"


def _has_failed_over(shop: Shop) -> bool:
    """Without automatic failover it is what people made of a primary that was lost."""
    (group,) = shop.client("elasticache").describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"]
    return group["AutomaticFailover"] == "enabled" and cache(shop).primary != f"{GROUP}-001"


def _lose_primary(shop: Shop) -> None:
    """Automatic failover was turned off some time before, and the primary's server ends."""
    admin = shop.client("elasticache", "cache-admin")
    (found,) = admin.describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"]
    if found["AutomaticFailover"] == "enabled":
        admin.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=False)
    now = cache(shop)
    with contextlib.suppress(redis.ConnectionError), client_of(now.nodes[now.primary]) as client:
        client.shutdown(nosave=True)


def _is_lost(shop: Shop) -> bool:
    found = cache(shop)
    return not answers(found.nodes[found.primary])


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="inc-2023-1654",
            title="the cache failed over, and half of the hosts stay on the old primary",
            ticket="INC-2023-1654",
            actor="user cache-admin",
            example="cache-failover-done.yaml",
            parts=(seed.replication_group,),
            is_broken=_has_failed_over,
            act=_fail_over,
        ),
        Fault(
            name="cache-primary-lost",
            title="the primary is gone, and automatic failover is off",
            ticket="INC-2024-0201",
            actor="user cache-admin; the node's own host",
            example="cache-primary-lost.yaml",
            parts=(seed.replication_group,),
            is_broken=_is_lost,
            act=_lose_primary,
        ),
    )
}
