"""The orders' database: a real PostgreSQL, small enough to be filled, with a table big enough to hurt without index."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import sql

from dev import databases
from dev.loopback import address

INSTANCE = "shopsmart-prod-db"
MAX_CONNECTIONS = 40
#: Kept for roles with pg_use_reserved_connections: who repairs must get in when nobody else does.
RESERVED = 4
SETTINGS = {
    "max_connections": str(MAX_CONNECTIONS),
    "reserved_connections": str(RESERVED),
    "superuser_reserved_connections": "3",
    "shared_preload_libraries": "pg_stat_statements",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
INDEX = "CREATE INDEX CONCURRENTLY items_order_id ON orders.items (order_id)"
#: Forty of each customer: without the index a page reads all items as often, which takes a second of CPU or more.
_ORDERS = 4_000
_ITEMS = 400_000


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database that runs.

    Shape: `passwords` by role: app (the web hosts), the operator's three, and postgres, RDS's master user. `endpoint`
    is where its clients go, if not straight to the server.
    """

    server: databases.Server
    passwords: dict[str, str] = field(repr=False)
    endpoint: tuple[str, int] | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Where clients go."""
        return self.endpoint or (self.server.host, self.server.port)

    def url(self, role: str) -> str:
        """Return a role's connection, as its Secret has it."""
        host, port = self.place
        return f"postgresql://{role}:{self.passwords[role]}@{host}:{port}/postgres?sslmode=disable"

    def has_index(self) -> bool:
        """Tell whether the index is there and valid."""
        with databases.admin(self.server) as admin:
            statement = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orders.items_order_id')"
            row = admin.execute(statement).fetchone()
        return bool(row and row[0])

    def deploy_without_index(self) -> None:
        """Drop the index, as a migration that was not thought through does."""
        with databases.admin(self.server) as admin:
            admin.execute("DROP INDEX IF EXISTS orders.items_order_id")

    def idle(self, *, seconds: float = 0) -> dict[str, int]:
        """Return how many sessions of the web hosts have done nothing for so long, by host."""
        with databases.admin(self.server) as admin:
            rows = admin.execute(
                "SELECT host(client_addr), count(*) FROM pg_stat_activity "
                "WHERE usename = 'app' AND state LIKE 'idle%%' "
                "AND state_change < clock_timestamp() - make_interval(secs => %s) GROUP BY 1",
                (seconds,),
            ).fetchall()
        return {str(host): int(count) for host, count in rows}


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """Run the database, seeded; it takes a few seconds."""
    passwords = {
        role: secrets.token_hex(12) for role in ("app", "incident_reader", "incident_operator", "orders_owner")
    }
    master = secrets.token_hex(12)
    with databases.postgres(address(), settings=SETTINGS) as server:
        # It has a machine of its own in production; here it must not take this one from the operator when it is slow.
        postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.setpriority(os.PRIO_PROCESS, postmaster, os.getpriority(os.PRIO_PROCESS, postmaster) + 5)
        with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
            # Each web host has an address of its own.
            rules.write("host all all 127.0.0.0/8 scram-sha-256\n")
        with databases.admin(server) as admin:
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("CREATE EXTENSION pg_stat_statements")
            for role, password in passwords.items():
                statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                admin.execute(statement.format(sql.Identifier(role), sql.Literal(password)))
            admin.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(master)))
            admin.execute("GRANT pg_monitor, pg_use_reserved_connections TO incident_reader, incident_operator")
            admin.execute("GRANT pg_use_reserved_connections TO orders_owner")
            admin.execute("GRANT pg_signal_backend TO incident_operator")
            admin.execute("CREATE SCHEMA orders AUTHORIZATION orders_owner")
            admin.execute("SET ROLE orders_owner")
            admin.execute("CREATE TABLE orders.orders (id bigint PRIMARY KEY, customer int NOT NULL)")
            admin.execute("CREATE TABLE orders.items (id bigint, order_id bigint, price numeric(8, 2))")
            admin.execute("INSERT INTO orders.orders SELECT n, n %% 100 FROM generate_series(1, %s::int) n", (_ORDERS,))
            admin.execute(
                "INSERT INTO orders.items SELECT n, 1 + n %% %s::int, n %% 90 FROM generate_series(1, %s::int) n",
                (_ORDERS, _ITEMS),
            )
            admin.execute(INDEX)
            admin.execute("CREATE INDEX orders_customer ON orders.orders (customer)")
            admin.execute("ANALYZE orders.orders, orders.items")
            admin.execute("GRANT USAGE ON SCHEMA orders TO app, incident_reader")
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA orders TO app")
            admin.execute("CREATE TABLE orders.visits (customer int NOT NULL, at timestamptz DEFAULT now())")
            admin.execute("GRANT INSERT ON orders.visits TO app")
            admin.execute("RESET ROLE")
        yield Database(server=server, passwords={**passwords, "postgres": master})
