"""A read replica of the orders' database: a real one that follows by streaming; and what RDS measures of both."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

from dev import databases
from dev.loopback import address
from dev.shop.shop import Shop

from .database import INSTANCE, SETTINGS, Database

REPLICA = f"{INSTANCE}-replica"
_EVERY_SECONDS = 1.0
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND client_addr IS NOT NULL"
#: As RDS has it: none behind while all that came is replayed, and -1 while the replica follows nobody.
_LAG = """
SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN -1
  WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
  ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) END
"""


@contextlib.contextmanager
def replica(database: Database) -> Iterator[databases.Server]:
    """Run a replica that has all that the database has."""
    with databases.standby(database.server, address(), settings=SETTINGS) as server:
        with databases.admin(database.server) as primary:
            if not databases.caught_up(primary):
                raise RuntimeError("the replica does not follow its primary")
        yield server


def lose(database: Database) -> None:
    """Let the primary's machine crash: nothing is written out, nobody is told."""
    os.kill(database.server.pid, signal.SIGQUIT)


class Monitoring:
    """What RDS puts into CloudWatch of the primary and its replica, for as long as it is entered."""

    def __init__(self, shop: Shop, primary: databases.Server, standby: databases.Server) -> None:
        self._asked = {
            ("DatabaseConnections", INSTANCE): (primary, _CONNECTIONS),
            ("ReplicaLag", REPLICA): (standby, _LAG),
        }
        self._cloudwatch = shop.client("cloudwatch")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "Monitoring":
        """Begin, with a first sample of each."""
        self._tell()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stopped.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            self._tell()

    def _tell(self) -> None:
        """Put what each server says of itself; of one that is gone there is no sample, as in AWS."""
        data: list[dict[str, Any]] = []
        for (metric, instance), (server, statement) in self._asked.items():
            with contextlib.suppress(psycopg.OperationalError), databases.admin(server) as admin:
                row = admin.execute(statement).fetchone()
                dimensions = [{"Name": "DBInstanceIdentifier", "Value": instance}]
                value = float(row[0]) if row else 0.0
                data.append({"MetricName": metric, "Dimensions": dimensions, "Value": value})
        if data:
            self._cloudwatch.put_metric_data(Namespace="AWS/RDS", MetricData=data)
