"""The storefront's database and cache, as its instances use them; imported only where they are configured."""

import itertools
import threading
from collections import deque
from typing import Any

import psycopg
import redis

_WAIT_SECONDS = 2.0


class Exhausted(RuntimeError):
    """No connection came free in time."""


class Database:
    """A small pool of PostgreSQL connections. Shape: `leakEvery` n: each n-th read keeps its connection; 0 for none."""

    def __init__(self, dsn: str, pool: int = 5, leakEvery: int = 0) -> None:
        self._dsn, self._leak = dsn, leakEvery
        self._idle: deque[Any] = deque()
        self._leaked: list[Any] = []
        self._free = threading.Semaphore(pool)
        self._reads = itertools.count(1)

    def read(self) -> None:
        """Read once. Errors: Exhausted when all connections are in use or leaked; psycopg's own."""
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise Exhausted
        connection = None
        try:
            connection = self._idle.pop() if self._idle else psycopg.connect(self._dsn, autocommit=True)
            connection.execute("SELECT 1").fetchone()
        except BaseException:
            if connection is not None:
                connection.close()
            self._free.release()
            raise
        if self._leak and next(self._reads) % self._leak == 0:
            self._leaked.append(connection)  # and its place in the pool with it
            return
        self._idle.append(connection)
        self._free.release()

    def close(self) -> None:
        """Close all connections, leaked ones too."""
        for connection in (*self._idle, *self._leaked):
            connection.close()


class Cache:
    """Carts in Redis, at an endpoint that may move to another node.

    Shape: with `cling`, the one connection is kept even where its node takes no more writes; else a new one is made.
    """

    def __init__(self, host: str, port: int, cling: bool = False) -> None:
        self._cling = cling
        self._client: Any = redis.Redis(
            host=host, port=port, decode_responses=True, single_connection_client=cling, socket_timeout=_WAIT_SECONDS
        )

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
