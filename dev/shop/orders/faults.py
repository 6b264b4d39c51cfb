"""What can go wrong with the orders: releases of the web hosts, and a migration; healed exactly.

None of it is a call to AWS: it is done by the process in which hosts and database live (`dev.shop.orders.life`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .database import INDEX

#: Asks that process: a word, its arguments → what it answers.
Ask = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong. Shape: as `dev.shop.faults.Fault`, done where hosts and database live.

    `parameters` are those of a run that are another's in the example.
    """

    name: str
    title: str
    ticket: str
    actor: str
    example: str
    is_broken: Callable[[Ask], bool]
    act: Callable[[Ask], Any]
    heal: Callable[[Ask], Any]
    ends: str = ""
    parameters: Mapping[str, Any]

    def break_(self, ask: Ask) -> bool:
        """Break it; False where it is broken in this way already."""
        if self.is_broken(ask):
            return False
        self.act(ask)
        return True


def _leak(name: str, ticket: str, title: str, *, in_transaction: float, ends: str = "") -> Fault:
    return Fault(
        name=name,
        title=title,
        ticket=ticket,
        actor="a release of the web hosts",
        example="database-performance.yaml",
        is_broken=lambda ask: bool(ask("leaking", inTransaction=in_transaction)),
        act=lambda ask: ask("leak", inTransaction=in_transaction),
        heal=lambda ask: ask("give-back"),
        ends=ends,
        parameters={},
    )


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        _leak(
            "inc-2023-2156",
            "INC-2023-2156",
            "a release gives no connection back: the database's are used up, most of them idle",
            in_transaction=0.0,
        ),
        _leak(
            "inc-2023-0445",
            "INC-2023-0445",
            "a release leaves connections behind, half of them inside a transaction",
            in_transaction=0.5,
            ends="Resolved/Runbook",
        ),
        Fault(
            name="inc-2023-1789",
            title="a migration dropped an index: pages time out behind one statement",
            ticket="INC-2023-1789",
            actor="a migration, as role orders_owner",
            example="database-performance.yaml",
            is_broken=lambda ask: not ask("has-index"),
            act=lambda ask: ask("drop-index"),
            heal=lambda ask: ask("build-index"),
            ends="Resolved/Runbook",
            parameters={"indexStatement": INDEX},
        ),
        Fault(
            name="database-primary-lost",
            title="the primary is gone for good, and a read replica is all that is left",
            ticket="INC-2024-0204",
            actor="the primary's own host",
            example="database-primary-lost.yaml",
            is_broken=lambda ask: bool(ask("lost")),
            act=lambda ask: ask("lose"),
            # Nothing brings it back: the department is made anew.
            heal=lambda ask: None,
            parameters={},
        ),
    )
}
