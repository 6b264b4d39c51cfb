"""A real PostgreSQL and a real Redis-compatible server, one of each for all tests."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dev import databases
from dev.loopback import address

#: Looked for in everything that leaves: no test may find it.
CANARY = f"canary-{secrets.token_hex(8)}"
MAX_CONNECTIONS = 12


@dataclass(frozen=True, kw_only=True)
class Known:
    """A server and the password of the role or user that checks use."""

    server: databases.Server
    password: str


@pytest.fixture(scope="session")
def postgres() -> Iterator[Known]:
    """PostgreSQL with the role `reader` (pg_monitor) a table of the shop's and a view of ten million rows."""
    settings = {"max_connections": str(MAX_CONNECTIONS), "max_prepared_transactions": "0"}
    with databases.postgres(address(), settings=settings) as server:
        with databases.admin(server) as admin:
            admin.execute(f"CREATE ROLE reader LOGIN PASSWORD '{CANARY}' IN ROLE pg_monitor")
            admin.execute("CREATE TABLE orders (id bigint PRIMARY KEY, state text, note text)")
            admin.execute("INSERT INTO orders VALUES (1, 'paid', 'call Eve at 5 pm'), (2, NULL, 'ok')")
            admin.execute("CREATE VIEW many AS SELECT generate_series(1, 10000000) AS n")
            admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON orders, many TO reader")
        yield Known(server=server, password=CANARY)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Known]:
    """Valkey with a password and room for ten clients."""
    with databases.valkey(address(), password=CANARY, arguments=["--maxclients", "10"]) as server:
        yield Known(server=server, password=CANARY)
