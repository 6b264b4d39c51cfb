"""The web hosts: each a pool of connections from its own address, and customers who feel what becomes of it.

A host opens a connection for each request and closes it; a release that forgets to do so leaves them open, idle or
inside a transaction. What customers feel is put into CloudWatch: Requests, Failed and FailedPercent.
"""

import contextlib
import itertools
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psycopg

from dev.processes import wait_until
from dev.shop.shop import Shop

from .database import Database

METRICS = "ShopSmart/Orders"
#: How long a customer waits for the page.
_PATIENCE_SECONDS = 1.0
_PAGE = """
SELECT o.id, (SELECT sum(i.price) FROM orders.items i WHERE i.order_id = o.id)
FROM orders.orders o WHERE o.customer = %s
"""
_HOSTS = 3
#: How many pages a host makes at a time; who finds no place within their patience gets nothing. Six slow
#: statements at once take seconds each, and leave something of a small machine to who repairs them.
_PLACES = 2


class Way:
    """A way to the database from an address of one's own: libpq can't choose where it connects from."""

    def __init__(self, source: str, place: tuple[str, int]) -> None:
        self.source, self._place = source, place
        self._listener = socket.create_server((source, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._relays: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        # Closing the listener ends it.
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._relays = [relay for relay in self._relays if relay.is_alive()]
                self._relays.append(threading.Thread(target=self._carry, args=(near,), daemon=True))
                self._relays[-1].start()

    def _carry(self, near: socket.socket) -> None:
        """Carry bytes both ways until an end is closed."""
        source = (self.source, 0)
        with near, contextlib.suppress(OSError), socket.create_connection(self._place, source_address=source) as far:
            others = {near: far, far: near}
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    others[ready].sendall(data)

    def close(self) -> None:
        """Take no more connections; those that are left end with their clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for relay in self._relays:
            relay.join(_PATIENCE_SECONDS)


@dataclass(kw_only=True)
class Host:
    """One web host. Shape: `leaked` are connections that nobody closes any more."""

    way: Way
    database: Database
    #: Whether each page writes down who was there: then one that can't be written is one that fails.
    writing: bool = False
    leaked: list["psycopg.Connection[Any]"] = field(default_factory=list)
    _places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_PLACES))

    def connect(self) -> "psycopg.Connection[Any]":
        """Open a connection, as the application does. Errors: psycopg.Error."""
        return psycopg.connect(
            host=self.way.source,
            port=self.way.port,
            user="app",
            password=self.database.passwords["app"],
            dbname="postgres",
            sslmode="disable",
            gssencmode="disable",
            application_name="orders-web",
            connect_timeout=3,
        )

    def page(self, customer: int) -> bool:
        """Serve a page; False where it fails, or comes later than the customer waits for.

        The query goes on meanwhile: a customer who goes away cancels nothing, so slow pages pile up.
        """
        began = monotonic()
        if not self._places.acquire(timeout=_PATIENCE_SECONDS):
            return False
        try:
            with contextlib.suppress(psycopg.Error), contextlib.closing(self.connect()) as connection:
                connection.execute(_PAGE, (customer,)).fetchall()
                if self.writing:
                    connection.execute("INSERT INTO orders.visits (customer) VALUES (%s)", (customer,))
                    connection.commit()
                return monotonic() - began <= _PATIENCE_SECONDS
            return False
        finally:
            self._places.release()

    def leak(self, *, in_transaction: bool) -> bool:
        """Forget one connection; False where the server has none left."""
        try:
            connection = self.connect()
            connection.autocommit = not in_transaction
            connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        self.leaked.append(connection)
        return True


class Hosts:
    """All web hosts and their customers, for as long as it is entered."""

    def __init__(self, database: Database, shop: Shop, *, rate: float = 8, writing: bool = False) -> None:
        near = database.server.host.rpartition(".")[0]
        ways = [Way(f"{near}.{11 + number}", database.place) for number in range(_HOSTS)]
        self.hosts = [Host(way=way, database=database, writing=writing) for way in ways]
        self._cloudwatch = shop.client("cloudwatch")
        self._serving: list[threading.Thread] = []
        self._rate, self._stopped = rate, threading.Event()
        self._lock, self._ok, self._failed = threading.Lock(), 0, 0
        #: Since it was last emptied: what customers got, in order.
        self.felt: list[bool] = []
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._come, self._tell)]

    def __enter__(self) -> "Hosts":
        """Open the shop."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        with self._lock:
            serving = list(self._serving)
        for thread in serving:
            thread.join()
        for host in self.hosts:
            for connection in host.leaked:
                connection.close()
            host.way.close()

    def _come(self) -> None:
        number = 0
        while not self._stopped.wait(1 / self._rate):
            host = self.hosts[number % len(self.hosts)]
            customer = threading.Thread(target=self._serve, args=(host, number % 100), daemon=True)
            with self._lock:
                self._serving = [thread for thread in self._serving if thread.is_alive()]
                self._serving.append(customer)
            customer.start()
            number += 1

    def _serve(self, host: Host, customer: int) -> None:
        served = host.page(customer)
        with self._lock:
            self._ok, self._failed = self._ok + served, self._failed + (not served)
            self.felt.append(served)

    def _tell(self) -> None:
        """Put into CloudWatch what customers felt, each second."""
        while not self._stopped.wait(1):
            with self._lock:
                ok, failed = self._ok, self._failed
                self._ok = self._failed = 0
            if ok + failed:
                values = {"Requests": ok + failed, "Failed": failed, "FailedPercent": 100 * failed / (ok + failed)}
                data = [{"MetricName": name, "Value": float(value)} for name, value in values.items()]
                self._cloudwatch.put_metric_data(Namespace=METRICS, MetricData=data)

    def failing(self, last: int = 8) -> float:
        """Return which share of the last customers got nothing."""
        with self._lock:
            some = self.felt[-last:]
        return some.count(False) / last if len(some) == last else 0.0

    def leak(self, *, in_transaction: float = 0.0, seconds: float = 60) -> bool:
        """Leak connections, host by host, until most customers are refused; a share of them inside a transaction.

        What served customers just before gives its connection back, so the last slots take a few turns.
        """
        turns = zip(self._turns(), itertools.count())

        def refused() -> bool:
            while True:
                host, number = next(turns)
                if not host.leak(in_transaction=number % 10 < 10 * in_transaction):
                    return self.failing() > 0.5

        return wait_until(refused, seconds=seconds, every=0.05)

    @property
    def leaked(self) -> int:
        """How many connections nobody closes any more."""
        return sum(len(host.leaked) for host in self.hosts)

    def _turns(self) -> Iterator[Host]:
        # The first host takes twice as many: it is the worst holder.
        while True:
            yield self.hosts[0]
            yield from self.hosts
