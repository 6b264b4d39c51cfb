"""What goes wrong with the cache, each done over the wire by who does it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.processes import wait_until

from ..shop import Shop, ShopError
from . import seed
from .place import GROUP, cache

_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong. Shape: as `dev.shop.faults.Fault`; `act` waits until it has happened."""

    name: str
    title: str
    ticket: str
    actor: str
    example: str
    act: Callable[[Shop], None]
    heal: Callable[[Shop], None]


def _fail_over(shop: Shop) -> None:
    """A failover drill at the wrong time: the new primary writes, and nobody told the applications."""
    former = cache(shop).primary
    shop.client("elasticache", "cache-admin").test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
    if not wait_until(lambda: _swapped(shop, former), seconds=_SECONDS):
        raise ShopError(f"{GROUP} did not fail over within {_SECONDS:g} s")


def _swapped(shop: Shop, former: str) -> bool:
    found = cache(shop)
    return found.primary != former and found.status == "available"


def _lose_primary(shop: Shop) -> None:
    """The primary's server ends, and automatic failover was turned off some time before."""
    found = cache(shop)
    host, port = found.nodes[found.primary]
    with (
        contextlib.suppress(redis.ConnectionError),
        redis.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0)) as client,
    ):
        client.shutdown(nosave=True)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            name="inc-2023-1654",
            title="the cache failed over, and half of the hosts stay on the old primary",
            ticket="INC-2023-1654",
            actor="user cache-admin",
            example="cache-failover-done.yaml",
            act=_fail_over,
            heal=seed.replication_group,
        ),
        Fault(
            name="cache-primary-lost",
            title="the primary is gone, and automatic failover is off",
            ticket="INC-2024-0201",
            actor="the node's own host",
            example="cache-primary-lost.yaml",
            act=_lose_primary,
            heal=lambda shop: seed.replication_group(shop, automatic_failover=False),
        ),
    )
}
