"""The orders' primary is lost for good: what was replicated is left, and people lead the application's endpoint."""

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import psycopg

from dev import databases
from dev.processes import wait_until

from ..shop import Shop, ShopError
from .database import INSTANCE, Database
from .hosts import Hosts
from .replica import REPLICA, Monitoring, lose, replica
from .seed import replicated, status

_SECONDS = 60.0
_EVERY_SECONDS = 0.5
_VISITS = "SELECT count(*) FROM orders.visits"


class Endpoint:
    """The application's endpoint: a name that leads where people want it to."""

    def __init__(self, database: Database) -> None:
        self.leads_to = database.place

    def place(self) -> tuple[str, int]:
        """Return where clients are led now."""
        return self.leads_to


class Loss(contextlib.ExitStack):
    """What becomes of the database once it is asked to be lost, for as long as it is entered.

    Somebody of the orders team leads the endpoint to the replica as soon as that takes writes: no run does it.
    """

    def __init__(self, shop: Shop, database: Database, endpoint: Endpoint) -> None:
        super().__init__()
        self._shop, self._database, self._endpoint = shop, database, endpoint
        self._standby: databases.Server | None = None
        self._stopped = threading.Event()

    def is_lost(self, _: Mapping[str, Any]) -> bool:
        """Tell whether the primary is gone."""
        return self._standby is not None

    def visits(self, _: Mapping[str, Any]) -> int:
        """Return how many customers have written, in the books of who is left."""
        with databases.admin(self._standby or self._database.server) as admin:
            row = admin.execute(_VISITS).fetchone()
        return int(row[0]) if row else 0

    def lose(self, hosts: Hosts) -> bool:
        """Replace the standby in another zone by a read replica, let customers write, then lose the primary.

        Errors: ShopError where RDS does not say so in time.
        """
        rds = self._shop.client("rds")
        rds.modify_db_instance(DBInstanceIdentifier=INSTANCE, MultiAZ=False, ApplyImmediately=True)
        self._await(INSTANCE, "available")
        standby = self.enter_context(replica(self._database))
        replicated(self._shop, standby)
        self._await(REPLICA, "available")
        self.enter_context(Monitoring(self._shop, self._database.server, standby))
        for host in hosts.hosts:
            host.writing = True
        if not wait_until(lambda: self.visits({}) > 0, seconds=_SECONDS):
            raise ShopError(f"no customer wrote within {_SECONDS:g} s")
        lose(self._database)
        self._standby = standby
        self._await(INSTANCE, "failed")
        thread = threading.Thread(target=self._lead, args=(standby,), daemon=True)
        thread.start()
        self.callback(thread.join)
        self.callback(self._stopped.set)
        return True

    def _await(self, name: str, wanted: str) -> None:
        if not wait_until(lambda: status(self._shop, name) == wanted, seconds=_SECONDS, every=0.2):
            raise ShopError(f"RDS does not call {name} {wanted} after {_SECONDS:g} s")

    def _lead(self, standby: databases.Server) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            if _takes_writes(standby):
                self._endpoint.leads_to = standby.host, standby.port
                return


def _takes_writes(standby: databases.Server) -> bool:
    with contextlib.suppress(psycopg.OperationalError), databases.admin(standby) as admin:
        return admin.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    return False
