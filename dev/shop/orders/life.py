"""The process in which the orders' database, web hosts and customers live."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dev.aws.gate import Gates
from dev.loopback import address
from dev.processes import wait_until

from ..living import Life
from ..shop import Shop, ShopError
from .database import Database, database
from .hosts import Hosts
from .loss import Endpoint, Loss
from .seed import seed

_SECONDS = 60.0


@contextlib.contextmanager
def life(shop: Shop) -> Iterator[Life]:
    """Run the database, let customers come, and make the DB instance that RDS knows."""
    with contextlib.ExitStack() as stacked:
        base = stacked.enter_context(database())
        seed(shop, base)
        endpoint, gates = Endpoint(base), Gates()
        stacked.callback(gates.close)
        gate = gates.open(address(), endpoint.place)
        stacked.callback(gates.shut, gate)
        loss = stacked.enter_context(Loss(shop, base, endpoint))
        hosts = stacked.enter_context(Hosts(replace(base, endpoint=gate.place), shop))
        if not wait_until(lambda: len(hosts.felt) >= 8 and hosts.failing() == 0, seconds=_SECONDS):
            raise ShopError(f"the orders' customers are not served after {_SECONDS:g} s")
        yield Life(
            answers={
                **_answers(base, hosts),
                "lost": loss.is_lost,
                "lose": lambda _: loss.lose(hosts),
                "visits": loss.visits,
            },
            told={
                "host": base.server.host,
                "port": base.server.port,
                "application": list(gate.place),
                "passwords": base.passwords,
            },
        )


def _answers(base: Database, hosts: Hosts) -> dict[str, Any]:
    leaks: dict[str, float] = {}

    def leak(said: Mapping[str, Any]) -> bool:
        leaks["inTransaction"] = float(said["inTransaction"])
        if not hosts.leak(in_transaction=leaks["inTransaction"]):
            raise ShopError("no customer was refused although connections leaked")
        return True

    def leaking(said: Mapping[str, Any]) -> bool:
        # Those that somebody ended are gone, whatever the hosts still hold of them.
        return leaks.get("inTransaction") == said["inTransaction"] and sum(base.idle(seconds=1).values()) > 5

    def give_back(_: Mapping[str, Any]) -> bool:
        leaks.clear()
        hosts.give_back()
        return True

    def build_index(_: Mapping[str, Any]) -> bool:
        if not base.has_index():
            base.build_index()
        return True

    def drop_index(_: Mapping[str, Any]) -> bool:
        base.deploy_without_index()
        return True

    return {
        "leak": leak,
        "leaking": leaking,
        "give-back": give_back,
        "has-index": lambda _: base.has_index(),
        "drop-index": drop_index,
        "build-index": build_index,
        "failing": lambda _: hosts.failing(),
    }
