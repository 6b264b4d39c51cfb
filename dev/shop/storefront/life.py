"""The process in which the storefront's customers live: they come through its load balancer."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..living import Life
from ..shop import Shop
from .seed import address
from .traffic import Traffic

#: Over so long is told what customers felt. Seconds.
_FELT = 3.0


@contextlib.contextmanager
def life(shop: Shop) -> Iterator[Life]:
    """Let customers come; how many a second can be changed."""
    with Traffic(address=address(shop)) as customers:

        def rate(said: Mapping[str, Any]) -> float:
            customers.rate = float(said["perSecond"])
            return customers.rate

        yield Life(answers={"felt": lambda _: asdict(customers.felt(_FELT)), "rate": rate})
