"""Customers: a steady, bounded stream of invocations of what serves.

At most three at a time, however slow they are: a function that answers at once meets them one after another, on one
warm worker, and never more than three are in flight.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from .seed import USERS
from .shop import Answer, Shop

CUSTOMERS = 3


@dataclass(kw_only=True)
class Traffic:
    """A stream of invocations. Shape: `counts` by "ok" or the error's first word. Units: `rate` per second."""

    shop: Shop
    rate: float = 5
    counts: Counter[str] = field(default_factory=Counter)
    #: The newest answer; None before the first.
    newest: Answer | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        """Start."""
        free = threading.Semaphore(CUSTOMERS)
        self.shop.client("lambda", "storefront")
        self._threads = [threading.Thread(target=self._come, args=(free,), name="traffic", daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the invocations in flight."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _come(self, free: threading.Semaphore) -> None:
        """Let a customer come at each tick, unless all are still waiting for their answers."""
        users = [user for user in USERS if user != "u-test"]
        number = 0
        while not self._stopped.wait(1 / self.rate):
            self._threads[1:] = [thread for thread in self._threads[1:] if thread.is_alive()]
            if free.acquire(blocking=False):
                customer = threading.Thread(target=self._greet, args=(free, users[number % len(users)]), daemon=True)
                customer.start()
                self._threads.append(customer)
                number += 1

    def _greet(self, free: threading.Semaphore, user: str) -> None:
        try:
            answer = self.shop.invoke({"userId": user})
        except (ClientError, BotoCoreError) as error:
            answer = Answer(ok=False, error=f"{type(error).__name__}: the API gave no answer")
        finally:
            free.release()
        with self._changed:
            self.counts["ok" if answer.ok else answer.error.split(":")[0]] += 1
            self.newest = answer
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Answer], bool], *, seconds: float) -> bool:
        """Return whether an answer that comes from now on meets a condition in time."""
        with self._changed:
            self.newest = None
            return self._changed.wait_for(lambda: self.newest is not None and condition(self.newest), timeout=seconds)

    def told(self) -> str:
        """Return the counts in words."""
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())) or "nobody came yet"
