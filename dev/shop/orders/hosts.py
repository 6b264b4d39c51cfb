"""The web hosts: each a pool of connections from its own address, and customers who feel what becomes of it.

A host opens a connection for each request and closes it; a release that forgets to do so leaves them open, idle or
inside a transaction. What customers feel is put into CloudWatch: Requests, Failed and FailedPercent.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

import psycopg

from dev.processes import wait_until
from dev.shop import fleet
from dev.shop.shop import Shop
from dev.shop.way import Way

from .database import Database

METRICS = "ShopSmart/Orders"
#: How long a customer waits for the page.
_PATIENCE_SECONDS = 1.0
_PAGE = """
SELECT o.id, (SELECT sum(i.price) FROM orders.items i WHERE i.order_id = o.id)
FROM orders.orders o WHERE o.customer = %s
"""
_HOSTS = 3
#: The web tier as instances, and how many connections each may open: together more than the server has.
FLEET = fleet.Fleet(name="shopsmart-orders-asg", minimum=2, maximum=4)
_POOL = 16
#: How many pages a host makes at a time; who finds no place within their patience gets nothing. Six slow
#: statements at once take seconds each, and leave something of a small machine to who repairs them.
_PLACES = 2


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


class Server(Protocol):
    """What serves pages: a host of this process, or an instance."""

    def page(self, customer: int) -> bool:
        """Serve a page; False where it fails, or comes later than the customer waits for."""

    def leak(self, *, in_transaction: bool) -> bool:
        """Forget one connection; False where there is none left."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance that serves pages. Shape: its pool is its own, and so is what it leaks."""

    host: fleet.Host

    def page(self, customer: int) -> bool:
        """Ask for a page; False where it fails, or comes later than the customer waits for."""
        return self.host.ask(f"/products/{1 + customer % 3}", seconds=_PATIENCE_SECONDS)[0] == 200

    def leak(self, *, in_transaction: bool) -> bool:
        """Let its pool keep one connection for ever; False where there is none left."""
        leak = "transaction" if in_transaction else "idle"
        return self.host.ask("/chaos", method="POST", body={"leak": leak})[0] == 200


def launch(shop: Shop, database: Database) -> None:
    """Launch the web tier as instances of a group, where there is none."""
    if FLEET.described(shop) is None:
        pool = {"dsn": database.url("app"), "pool": _POOL}
        FLEET.release(shop, {"release": "1", "database": pool}, _HOSTS)


class Hosts:
    """All web hosts and their customers, for as long as it is entered.

    Shape: hosts of this process, or whoever `serving` says serves at the time.
    """

    def __init__(
        self,
        database: Database,
        shop: Shop,
        *,
        rate: float = 8,
        writing: bool = False,
        serving: Callable[[], Sequence[Server]] | None = None,
    ) -> None:
        near = database.server.host.rpartition(".")[0]
        own = [] if serving else [f"{near}.{11 + number}" for number in range(_HOSTS)]
        self.hosts = [Host(way=Way(address, database.place), database=database, writing=writing) for address in own]
        self._servers: Callable[[], Sequence[Server]] = serving or (lambda: self.hosts)
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
        self.give_back()
        for host in self.hosts:
            host.way.close()

    def _come(self) -> None:
        number = 0
        while not self._stopped.wait(1 / self._rate):
            servers = self._servers()
            server = servers[number % len(servers)] if servers else None
            customer = threading.Thread(target=self._serve, args=(server, number % 100), daemon=True)
            with self._lock:
                self._serving = [thread for thread in self._serving if thread.is_alive()]
                self._serving.append(customer)
            customer.start()
            number += 1

    def _serve(self, server: Server | None, customer: int) -> None:
        served = server is not None and server.page(customer)
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
                server, number = next(turns)
                if not server.leak(in_transaction=number % 10 < 10 * in_transaction):
                    return self.failing() > 0.5

        return wait_until(refused, seconds=seconds, every=0.05)

    def give_back(self) -> None:
        """Close what was leaked, as a rolled-back release does."""
        for host in self.hosts:
            leaked, host.leaked = host.leaked, []
            for connection in leaked:
                connection.close()

    @property
    def leaked(self) -> int:
        """How many connections nobody closes any more."""
        return sum(len(host.leaked) for host in self.hosts)

    def _turns(self) -> Iterator[Server]:
        # The last host takes twice as many: it is the worst holder, which neither its name nor its address says.
        while True:
            servers = self._servers()
            yield servers[-1]
            yield from servers
