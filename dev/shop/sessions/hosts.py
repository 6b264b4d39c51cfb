"""Application hosts and their customers: each host keeps carts in the cache, and how that goes is published.

The hosts are instances of an Auto Scaling group. They connect through the primary endpoint. When a write is refused, a
client that handles failovers connects anew, and so comes to the new primary; one that clings keeps its connection, and
with it the node that the endpoint once led to. An instance that takes its place begins with a connection of its own.
"""

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

from botocore.exceptions import BotoCoreError, ClientError

from incident_operator.adapters.clock import Clock

from ..fleet import Directory, Host
from ..shop import Shop
from ..storefront.traffic import NO_ANSWER
from .place import CLINGING, FAILED, FAILING, FLEET, HANDLING, HIT_RATE, HOSTS, NAMESPACE, REQUESTS, cache

#: Carts of one customer; they are asked for in turn.
_CARTS = 10
#: The hit rate of an ordinary day, as far back as a baseline reaches (an hour, a quarter of an hour before detection),
#: so often that any time scale finds samples of it.
_USUAL = 0.97
_PAST, _EVERY = timedelta(minutes=90), timedelta(seconds=10)
_AT_ONCE = 500


def seed(shop: Shop, *, clinging: int) -> None:
    """Launch the hosts, where there are none: the first `clinging` of them have a client that handles no failover."""
    if FLEET.described(shop) is not None:
        return
    host, port = cache(shop).endpoint
    for release, desired in ((CLINGING, clinging), (HANDLING, HOSTS)):
        client = {"host": host, "port": port, "cling": release == CLINGING}
        FLEET.release(shop, {"release": str(release), "cache": client}, desired)


def launch_anew(shop: Shop) -> None:
    """End all hosts, and launch them as they were: half of them with a client that handles no failover."""
    FLEET.retire(shop)
    seed(shop, clinging=HOSTS // 2)


def remember(shop: Shop, now: datetime) -> None:
    """Publish the hit rate of the time before there were these hosts, unless that time has samples of its own."""
    first = now - _PAST
    known = shop.client("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE, MetricName=HIT_RATE, StartTime=first, EndTime=now, Period=60, Statistics=["SampleCount"]
    )
    if known["Datapoints"]:
        return
    past = [
        {"MetricName": HIT_RATE, "Value": _USUAL, "Unit": "None", "Timestamp": first + number * _EVERY}
        for number in range(_PAST // _EVERY)
    ]
    client = shop.client("cloudwatch", "sessions")
    for start in range(0, len(past), _AT_ONCE):
        client.put_metric_data(Namespace=NAMESPACE, MetricData=past[start : start + _AT_ONCE])


@dataclass(kw_only=True)
class Customer:
    """Customers of one of the hosts that serve at the time, one request after the other. Shape: `slot` chooses it."""

    slot: int
    directory: Directory
    rate: float
    ok: int = 0
    failed: int = 0
    hits: int = 0
    misses: int = 0
    errors: deque[int] = field(default_factory=lambda: deque(maxlen=50))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to come."""
        self._thread = threading.Thread(target=self._come, name=f"customer {self.slot}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Come no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _come(self) -> None:
        for number in itertools.count():
            if self._stopped.wait(1 / self.rate):
                return
            hosts = self.directory.hosts()
            status = self._request(hosts[self.slot % len(hosts)], number) if hosts else NO_ANSWER
            if status == 200:
                self.ok += 1
            else:
                self.failed += 1
                self.errors.append(status)

    def _request(self, host: Host, number: int) -> int:
        """Look into a cart, then put something into it; return the first status that is no success."""
        path = f"/cart/{self.slot}-{number % _CARTS}"
        status, body = host.ask(path)
        if status == 200:
            hit = bool(body["cart"])
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
            status, _ = host.ask(path, method="POST", body={"product": "1"})
        return status


@dataclass(kw_only=True)
class Hosts:
    """All customers, and what is published once a second: the share of failing requests, and of hits among reads."""

    shop: Shop
    customers: tuple[Customer, ...]
    failing: deque[float] = field(default_factory=lambda: deque(maxlen=600))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def errors(self) -> list[tuple[int, ...]]:
        """The newest failing statuses of each customer."""
        return [tuple(customer.errors) for customer in self.customers]

    def publish(self) -> None:
        """Publish what happened since the last time, until stopped."""
        client = self.shop.client("cloudwatch", "sessions")
        before = self._counted()
        while not self._stopped.wait(1):
            now = self._counted()
            ok, failed, hits, misses = (b - a for a, b in zip(before, now, strict=True))
            before = now
            if ok + failed:
                share = failed / (ok + failed)
                self.failing.append(share)
                data = [
                    {"MetricName": FAILING, "Value": share, "Unit": "None"},
                    {"MetricName": REQUESTS, "Value": ok + failed, "Unit": "Count"},
                    {"MetricName": FAILED, "Value": failed, "Unit": "Count"},
                ]
                if hits + misses:
                    data.append({"MetricName": HIT_RATE, "Value": hits / (hits + misses), "Unit": "None"})
                # A metric that can't be published is one that is missing: what CloudWatch shows of it says so.
                with contextlib.suppress(ClientError, BotoCoreError):
                    client.put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def _counted(self) -> tuple[int, int, int, int]:
        return (
            sum(c.ok for c in self.customers),
            sum(c.failed for c in self.customers),
            sum(c.hits for c in self.customers),
            sum(c.misses for c in self.customers),
        )

    def wait_share(self, *, above: float | None = None, seconds: float = 60) -> bool:
        """Wait for three seconds in a row in which the failing share is above a value, or is zero."""
        limit = monotonic() + seconds
        self.failing.clear()
        while monotonic() < limit:
            newest = list(self.failing)[-3:]
            if len(newest) == 3 and all(share > above if above is not None else share == 0 for share in newest):
                return True
            self._stopped.wait(0.2)
        return False

    def close(self) -> None:
        """End everything."""
        self._stopped.set()
        for customer in self.customers:
            customer.stop()
        if self._thread is not None:
            self._thread.join()

    def open(self) -> None:
        """Begin."""
        for customer in self.customers:
            customer.start()
        self._thread = threading.Thread(target=self.publish, name="sessions' metrics", daemon=True)
        self._thread.start()


@contextlib.contextmanager
def hosts(shop: Shop, *, clinging: int = HOSTS // 2, rate: float = 10) -> Iterator[Hosts]:
    """Launch the hosts, and let customers come to each, `rate` a second."""
    remember(shop, Clock().now())
    seed(shop, clinging=clinging)
    directory = Directory(shop=shop, fleet=FLEET)
    customers = tuple(Customer(slot=slot, directory=directory, rate=rate) for slot in range(HOSTS))
    made = Hosts(shop=shop, customers=customers)
    made.open()
    try:
        yield made
    finally:
        made.close()
