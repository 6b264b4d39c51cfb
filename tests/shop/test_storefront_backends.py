"""What an instance's database and cache do to its pages: a leak that exhausts a pool, a client that never moves on."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis

from dev import databases
from dev.shop.storefront import backends
from dev.shop.storefront.web import Storefront


@pytest.fixture(scope="module")
def database() -> Iterator[databases.Server]:
    """A PostgreSQL."""
    with databases.postgres() as server:
        yield server


def dsn(server: databases.Server) -> str:
    """Return how to reach a database by its socket."""
    return f"host={server.folder} port={server.port} user=postgres dbname=postgres application_name=storefront"


def storefront(**configuration: Any) -> Storefront:
    """Return an instance's shop."""
    return Storefront({"pageSeconds": 0, **configuration})


def sessions(server: databases.Server) -> int:
    """Return how many connections the storefront holds."""
    with databases.admin(server) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storefront'"
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_pages_share_a_few_connections(database: databases.Server) -> None:
    """Without a leak a pool of two serves any number of pages."""
    shop = storefront(database={"dsn": dsn(database), "pool": 2})
    assert {shop.answer("GET", "/products/1", b"")[0] for _ in range(20)} == {200}
    assert sessions(database) <= 2
    shop.close()


def test_a_leak_exhausts_the_pool(database: databases.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second page keeps its connection, idle, until none is left; pages that read nothing go on."""
    monkeypatch.setattr(backends, "_WAIT_SECONDS", 0.1)
    before = sessions(database)
    shop = storefront(database={"dsn": dsn(database), "pool": 3, "leakEvery": 2})
    codes = [shop.answer("GET", "/products/1", b"")[0] for _ in range(8)]
    assert codes == [200] * 6 + [500] * 2
    assert sessions(database) - before == 3
    assert shop.answer("GET", "/products/1", b"")[1] == {"error": "Exhausted"}
    assert shop.answer("GET", "/", b"")[0] == shop.answer("GET", "/health", b"")[0] == 200
    shop.close()


def test_a_database_that_is_gone_costs_no_place_in_the_pool() -> None:
    """The error is the page's, and the next page may try."""
    pool = backends.Database(dsn="host=127.0.0.1 port=1 dbname=none connect_timeout=1", pool=1)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            pool.read()


class Endpoint:
    """A TCP address that leads to one node, then to another; connections that are open stay where they are."""

    def __init__(self, node: databases.Server) -> None:
        self.node = node
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                near = self._listening.accept()[0]
                far = socket.create_connection((self.node.host, self.node.port))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)

    def close(self) -> None:
        """End."""
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.parametrize("cling", [False, True])
def test_after_a_failover_a_client_that_clings_stays_with_its_old_node(cling: bool) -> None:
    """INC-2023-1654: the old primary is a replica now; who asks the endpoint anew is served, who clings is not."""
    with databases.valkey() as old, databases.valkey() as new:
        endpoint = Endpoint(old)
        shop = storefront(cache={"host": "127.0.0.1", "port": endpoint.port, "cling": cling})
        assert shop.answer("POST", "/cart/ada", b'{"product": "1"}') == (200, {"cart": ["1"]})
        endpoint.node = new
        with redis.Redis(host=old.host, port=old.port) as admin:
            admin.replicaof(new.host, str(new.port))
        for _ in range(3):
            answer = shop.answer("POST", "/cart/ada", b'{"product": "2"}')
            assert answer[0] == (500 if cling else 200), answer
        assert answer[1] == ({"error": "ReadOnlyError"} if cling else {"cart": ["2"] * 3})
        shop.close()
        endpoint.close()
