"""Browsers: they ask for pictures as nobody in particular, and see what the bucket answers."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import urllib3

from ..shop import Shop
from .seed import PRODUCTS, bucket_of

_LIMIT = urllib3.Timeout(total=5)


@dataclass(kw_only=True)
class Browsers:
    """A steady stream of requests for product images, one after another.

    Shape: `counts` by HTTP status, 0 for no answer. Units: `rate` per second.
    """

    shop: Shop
    rate: float = 10
    counts: Counter[int] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(timeout=_LIMIT, retries=False))
    _thread: threading.Thread | None = None
    _newest: int | None = None

    def __enter__(self) -> "Browsers":
        """Start."""
        self._thread = threading.Thread(target=self._browse, name="browsers", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the request in flight."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.clear()

    def _browse(self) -> None:
        number = 0
        while not self._stopped.wait(1 / self.rate):
            status = self.get(PRODUCTS[number % len(PRODUCTS)])
            number += 1
            with self._changed:
                self.counts[status] += 1
                self._newest = status
                self._changed.notify_all()

    def get(self, key: str) -> int:
        """Ask for one object as a browser does; return the status, 0 for no answer."""
        try:
            answer = self._pool.request("GET", f"{self.shop.endpoint}/{bucket_of(self.shop)}/{key}")
        except urllib3.exceptions.HTTPError:
            return 0
        return answer.status

    def wait_for(self, condition: Callable[[int], bool], *, seconds: float) -> bool:
        """Return whether an answer that comes from now on meets a condition in time."""
        with self._changed:
            self._newest = None
            return self._changed.wait_for(lambda: self._newest is not None and condition(self._newest), timeout=seconds)

    def told(self) -> str:
        """Return the counts in words."""
        return ", ".join(f"{count} × {status}" for status, count in sorted(self.counts.items())) or "nobody came yet"
