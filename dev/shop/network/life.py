"""The process in which the web servers live that reach the cache over the network."""

import contextlib
from collections.abc import Iterator

from dev.processes import wait_until

from ..living import Life
from ..shop import Shop, ShopError
from .place import tiers_of
from .traffic import traffic

_SECONDS = 60.0


@contextlib.contextmanager
def life(shop: Shop) -> Iterator[Life]:
    """Let web servers use the cache."""
    with traffic(shop, tiers_of(shop)) as web:
        if not wait_until(lambda: bool(web.failing), seconds=_SECONDS):
            raise ShopError(f"the web servers have asked for nothing after {_SECONDS:g} s")
        yield Life(answers={"failing": lambda _: list(web.failing)[-1]})
