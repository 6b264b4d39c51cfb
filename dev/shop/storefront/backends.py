"""The storefront's database and cache, as its instances use them; imported only where they are configured."""

import itertools
import socket
import threading
from collections import deque
from typing import Any

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from ..way import Way

_WAIT_SECONDS = 2.0


class Exhausted(RuntimeError):
    """No connection came free in time."""


class Database:
    """A small pool of PostgreSQL connections, all from the address `source`; empty for any.

    Shape: `leakEvery` n: each n-th read keeps its connection; 0 for none.
    """

    def __init__(self, dsn: str, source: str = "", pool: int = 5, leakEvery: int = 0) -> None:
        self._way: Way | None = None
        if source:
            place = conninfo_to_dict(dsn)
            self._way = Way(source, (str(place["host"]), int(str(place["port"]))))
            dsn = make_conninfo(dsn, host=source, port=self._way.port)
        self._dsn, self._leak = dsn, leakEvery
        self._idle: deque[Any] = deque()
        self._leaked: list[Any] = []
        self._free = threading.Semaphore(pool)
        self._reads = itertools.count(1)

    def read(self) -> None:
        """Read once. Errors: Exhausted when all connections are in use or leaked; psycopg's own."""
        connection = self._take("SELECT 1")
        if self._leak and next(self._reads) % self._leak == 0:
            self._leaked.append(connection)
            return
        self._idle.append(connection)
        self._free.release()

    def leak(self, *, in_transaction: bool) -> int:
        """Keep a connection for ever, and its place in the pool with it; return how many are kept by now.

        Errors: as `read`.
        """
        self._leaked.append(self._take("BEGIN" if in_transaction else "SELECT 1"))
        return len(self._leaked)

    def _take(self, statement: str) -> Any:
        """Return a connection that has made a statement, and a place in the pool."""
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise Exhausted
        connection = None
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = psycopg.connect(self._dsn, autocommit=True)
            connection.execute(statement)
        except BaseException:
            if connection is not None:
                connection.close()
            self._free.release()
            raise
        return connection

    def close(self) -> None:
        """Close all connections, leaked ones too."""
        for connection in (*self._idle, *self._leaked):
            connection.close()
        if self._way is not None:
            self._way.close()


class _FromAddress(Connection):
    """A connection from an instance's own address."""

    def __init__(self, *, source: str, **rest: Any) -> None:
        self._source = source
        super().__init__(**rest)

    def _connect(self) -> Any:
        return socket.create_connection((self.host, self.port), self.socket_connect_timeout, (self._source, 0))


class Cache:
    """Carts in Redis, at an endpoint that may move to another node; connections are from `source`; empty for any.

    Shape: with `cling`, the one connection is kept even where its node takes no more writes; else a new one is made.
    """

    def __init__(self, host: str, port: int, source: str = "", cling: bool = False) -> None:
        self._cling = cling
        pool = redis.ConnectionPool(
            connection_class=_FromAddress,
            source=source,
            host=host,
            port=port,
            decode_responses=True,
            socket_timeout=_WAIT_SECONDS,
            socket_connect_timeout=_WAIT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Any = redis.Redis(connection_pool=pool, single_connection_client=cling)

    def items(self, name: str) -> list[str]:
        """Return a cart's products, in the order they were added."""
        return list(self._again(lambda: self._client.lrange(f"cart:{name}", 0, -1)))

    def add(self, name: str, product: str) -> None:
        """Add a product to a cart."""
        self._again(lambda: self._client.rpush(f"cart:{name}", product))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _again(self, command: Any) -> Any:
        """Run a command; where the node has become a replica or went away, once more on a new connection."""
        try:
            return command()
        except (redis.exceptions.ReadOnlyError, redis.exceptions.ConnectionError):
            if self._cling:
                raise
            self._client.connection_pool.disconnect()
            return command()
