"""What controllers work with: one object, made by `runtime.app`, so that tests make their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ..actions.ports import Reader
from ..adapters.admission import AdmissionProof
from ..adapters.aws import Gateway
from ..adapters.clock import Clock
from ..adapters.connections import Connections, Slots
from ..adapters.evaluator import Answer, Evaluator
from ..adapters.kube import Kube
from ..adapters.locks import Locks
from ..adapters.notify import Messenger
from ..adapters.pool import Pool
from ..adapters.store import Key, Store
from ..adapters.tally import Tally
from ..api.grant import ActionGrant
from ..api.run import IncidentRun
from ..core.expressions import Scope
from ..core.run import is_observe_only
from ..settings import Settings
from .runbooks import Revisions, Runbooks


class Leadership(Protocol):
    """Whether this process leads, and in which epoch."""

    @property
    def epoch(self) -> int:
        """The Lease's `leaseTransitions` at this acquisition."""
        ...

    @property
    def holder(self) -> str:
        """The identity written into the Lease and into every intent."""
        ...

    def held(self) -> bool:
        """Tell whether the Lease is surely held now, by the monotonic clock."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """The ports and the shared state of all controllers."""

    settings: Settings
    clock: Clock
    store: Store
    kube: Kube
    evaluator: Evaluator
    aws: Gateway
    pool: Pool
    leader: Leadership
    admission: AdmissionProof
    locks: Locks
    messenger: Messenger
    runbooks: Runbooks
    revisions: Revisions
    #: Ask for a reconcile: kind and key.
    enqueue: Callable[[str, Key], None]
    #: Ask for a reconcile of what was begun and can go on: it comes before what was not begun.
    go_on: Callable[[str, Key], None]
    #: Bounds the connections to each database and cache.
    slots: Slots = field(default_factory=Slots)
    #: How runs and plans ended, by what this process wrote.
    ends: Tally = field(default_factory=lambda: Tally("phase", "outcome", "severity"))
    outcomes: Tally = field(default_factory=lambda: Tally("outcome", "risk"))
    #: Whether this process is about to end: what is under way is finished, nothing new is begun.
    stopping: Callable[[], bool] = lambda: False

    async def render(self, template: Any, variables: Mapping[str, Any], *, owner: str) -> Answer:
        """Render inputs; `owner` is the runbook."""
        return await self.evaluator.render(template, "input", variables, owner=owner)

    async def evaluate(
        self, sources: Sequence[str], variables: Mapping[str, Any], *, owner: str, scope: Scope
    ) -> list[Answer]:
        """Evaluate expressions over the same variables."""
        return await self.evaluator.expressions(sources, scope, variables, owner=owner)

    def reader(self, grant: ActionGrant, *, since: datetime, memo: Any, run: IncidentRun | None = None) -> Reader:
        """Return one observation's view of the world under a grant.

        Shape: with a run it has the run's connections, and where that only observes, no instance is sent a command.
        """
        return self.aws.reader(
            grant,
            since=since,
            memo=memo,
            connections=None if run is None else Connections.of(run, self.kube, self.slots),
            api_server=self.kube.endpoint,
            observe_only=run is not None and is_observe_only(run),
        )
