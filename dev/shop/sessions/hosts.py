"""Application hosts: each keeps sessions in the cache from an address of its own, and says how that goes.

A host connects through the primary endpoint. When a write is refused, a good client connects anew, and so comes to
the new primary; one that clings keeps its connection, and with it the node that the endpoint once led to.
"""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import redis
from botocore.exceptions import BotoCoreError, ClientError
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from ..shop import Shop
from .place import FAILED, FAILING, HIT_RATE, NAMESPACE, REQUESTS, Place, cache, host_addresses

_TIMEOUT_SECONDS = 1.0
#: Sessions of one host; they are asked for in turn, and written anew each time.
_SESSIONS = 10


class _FromAddress(Connection):
    """A connection from a host's own address."""

    def __init__(self, *, source: str, **rest: Any) -> None:
        self._source = source
        super().__init__(**rest)

    def _connect(self) -> Any:
        return socket.create_connection((self.host, self.port), self.socket_connect_timeout, (self._source, 0))


@dataclass(kw_only=True)
class Host:
    """One host. Shape: `clings` says whether it stays on a connection that refuses its writes."""

    address: str
    endpoint: Place
    clings: bool
    rate: float
    ok: int = 0
    failed: int = 0
    hits: int = 0
    misses: int = 0
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _recycle: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._thread = threading.Thread(target=self._serve, name=f"host {self.address}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def recycle(self) -> None:
        """Drop the connection, as a restart of the host does."""
        self._recycle.set()

    def _connection(self) -> _FromAddress:
        return _FromAddress(
            source=self.address,
            host=self.endpoint[0],
            port=self.endpoint[1],
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            driver_info=None,
        )

    def _serve(self) -> None:
        connection = self._connection()
        number = 0
        try:
            while not self._stopped.wait(1 / self.rate):
                if self._recycle.is_set():
                    self._recycle.clear()
                    connection.disconnect()
                number += 1
                try:
                    self._request(connection, number)
                    self.ok += 1
                except redis.ReadOnlyError:
                    self._failed("READONLY")
                    if not self.clings:
                        connection.disconnect()
                except (redis.RedisError, OSError) as error:
                    self._failed(type(error).__name__)
                    connection.disconnect()
        finally:
            connection.disconnect()

    def _failed(self, why: str) -> None:
        self.failed += 1
        self.errors.append(why)

    def _request(self, connection: _FromAddress, number: int) -> None:
        """Serve one customer: read their session, then write it. Errors: redis.RedisError, OSError."""
        key = f"session:{self.address}:{number % _SESSIONS}"
        connection.send_command("GET", key)
        if connection.read_response() is None:
            self.misses += 1
        else:
            self.hits += 1
        connection.send_command("SET", key, f"cart {number}", "EX", "600")
        connection.read_response()


@dataclass(kw_only=True)
class Hosts:
    """All hosts, and what they publish once a second: the share of failing requests, and of hits among reads."""

    shop: Shop
    hosts: tuple[Host, ...]
    failing: deque[float] = field(default_factory=lambda: deque(maxlen=600))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def at(self, address: str) -> Host:
        """Return one host."""
        return next(host for host in self.hosts if host.address == address)

    @property
    def clinging(self) -> tuple[str, ...]:
        """The addresses of the hosts whose client handles no failover, sorted as text."""
        return tuple(sorted(host.address for host in self.hosts if host.clings))

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
            sum(h.ok for h in self.hosts),
            sum(h.failed for h in self.hosts),
            sum(h.hits for h in self.hosts),
            sum(h.misses for h in self.hosts),
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
        for host in self.hosts:
            host.stop()
        if self._thread is not None:
            self._thread.join()

    def open(self) -> None:
        """Begin."""
        for host in self.hosts:
            host.start()
        self._thread = threading.Thread(target=self.publish, name="sessions' metrics", daemon=True)
        self._thread.start()


@contextlib.contextmanager
def hosts(shop: Shop, *, clinging: int = 2, rate: float = 20) -> Iterator[Hosts]:
    """Let the hosts serve; the first `clinging` of them have a client that handles no failover."""
    endpoint = cache(shop).endpoint
    made = Hosts(
        shop=shop,
        hosts=tuple(
            Host(address=address, endpoint=endpoint, clings=number < clinging, rate=rate)
            for number, address in enumerate(host_addresses())
        ),
    )
    made.open()
    try:
        yield made
    finally:
        made.close()
