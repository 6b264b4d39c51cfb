"""The process in which the hosts that keep sessions live, and their customers."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dev.processes import wait_until

from ..living import Life
from ..shop import Shop, ShopError
from .hosts import hosts, launch_anew

_SECONDS = 60.0


@contextlib.contextmanager
def life(shop: Shop) -> Iterator[Life]:
    """Let the hosts serve; half of them have a client that handles no failover."""
    with hosts(shop) as fleet:
        if not wait_until(lambda: bool(fleet.failing), seconds=_SECONDS):
            raise ShopError(f"the sessions' hosts have served nobody after {_SECONDS:g} s")

        def recycle(_: Mapping[str, Any]) -> bool:
            launch_anew(shop)
            return True

        yield Life(answers={"failing": lambda _: list(fleet.failing)[-1], "recycle": recycle})
