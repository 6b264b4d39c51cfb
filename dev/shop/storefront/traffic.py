"""Customers of the storefront: a steady stream of page views through the load balancer, and how they fared.

It is open: a customer comes at each tick however slow the answers are, as people do, up to a bound. So load that the
instances can't carry shows as latency, then as errors.
"""

import http.client
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_PATHS = ("/", "/products/1", "/products/2", "/cart/ada", "/products/3")
_PATIENCE_SECONDS = 10.0
#: More than these are never on their way at once.
_CUSTOMERS = 60
#: What a request that got no answer counts as.
NO_ANSWER = 599


def ask(url: str, *, method: str = "GET", body: bytes | None = None, seconds: float = _PATIENCE_SECONDS) -> int:
    """Return the status of a request; `NO_ANSWER` where there was none."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=seconds)
    try:
        connection.request(method, split.path or "/", body=body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return NO_ANSWER
    finally:
        connection.close()


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One page view. Shape: `at` is when it ended, on the monotonic clock. Units: seconds."""

    at: float
    status: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Felt:
    """What customers felt over a while. Shape: rates are 0 to 1. Units: seconds; 0 where nobody came."""

    visits: int
    error_rate: float
    median: float
    slowest: float


@dataclass(kw_only=True)
class Traffic:
    """Customers who come `rate` times a second to `address`; the rate can be changed while they come."""

    address: str
    rate: float = 10
    _visits: deque[Visit] = field(default_factory=lambda: deque(maxlen=20_000))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_CUSTOMERS))

    def __enter__(self) -> "Traffic":
        """Start."""
        self._threads = [threading.Thread(target=self._come, name="storefront-traffic", daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for who is on the way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _come(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            self._threads[1:] = [thread for thread in self._threads[1:] if thread.is_alive()]
            if self._free.acquire(blocking=False):
                visitor = threading.Thread(target=self._visit, args=(_PATHS[number % len(_PATHS)],), daemon=True)
                visitor.start()
                self._threads.append(visitor)
                number += 1

    def _visit(self, path: str) -> None:
        begun = time.monotonic()
        try:
            status = ask(self.address + path)
            ended = time.monotonic()
            self._visits.append(Visit(at=ended, status=status, seconds=ended - begun))
        finally:
            self._free.release()

    def felt(self, seconds: float) -> Felt:
        """Return what customers felt over the last so many seconds."""
        since = time.monotonic() - seconds
        visits = [visit for visit in list(self._visits) if visit.at >= since]
        times = sorted(visit.seconds for visit in visits)
        failed = sum(visit.status >= 500 for visit in visits)
        return Felt(
            visits=len(visits),
            error_rate=failed / len(visits) if visits else 0.0,
            median=times[len(times) // 2] if times else 0.0,
            slowest=times[-1] if times else 0.0,
        )
