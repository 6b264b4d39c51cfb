"""An operator's incidents at a clock that stands: without its processes, on the real API server, to real receivers."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from dev.receivers import Receivers
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.notify import Messenger
from incident_operator.adapters.store import Key, Store
from incident_operator.api.incident import Incident, IncidentSpec
from incident_operator.api.meta import Metadata, Severity
from incident_operator.controllers.incident import KIND, IncidentController
from incident_operator.runtime.watch import Watch
from incident_operator.settings import Settings

from .world import World


class StandingClock(Clock):
    """A clock that a test sets."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        """Return the instant that was set."""
        return self.at


class Desk:
    """An operator's incidents at a clock that stands: it lists, decides, writes and tells, whenever it is let."""

    def __init__(
        self,
        world: World,
        kube: Kube,
        clock: StandingClock,
        receivers: Receivers,
        addresses: Mapping[str, str],
    ) -> None:
        self.store, self.clock, self._receivers = Store(), clock, receivers
        self._addresses = addresses
        self._watch = Watch(self.store, kube, lambda kind, key: None, (world.name,))
        self._messenger = Messenger(clock, kube.endpoint, loopback=True)
        context: Any = SimpleNamespace(
            store=self.store,
            kube=kube,
            clock=clock,
            settings=Settings(identity="desk", namespaces=(world.name,)),
            messenger=self._messenger,
            enqueue=lambda kind, key: None,
            admission=SimpleNamespace(),
        )
        self._controller = IncidentController(context)
        #: By incident and role: when the first mail came.
        self.told: dict[tuple[str, str], datetime] = {}
        self._seen = 0

    async def list_all(self) -> None:
        """Take note of what is stored."""
        await self._watch.list_all()

    async def look(self, key: Key) -> datetime | None:
        """Reconcile one incident until it has nothing to do now; return when to look again."""
        for _ in range(20):
            wake_at = await self._controller.reconcile(key)
            if not (tasks := self._controller.under_way(key)):
                return wake_at
            await asyncio.wait(tasks)
            self._note(key[1])
        raise AssertionError("it never comes to rest")

    async def look_once(self, key: Key) -> None:
        """Reconcile once, and let arrive what was begun; what became of it is not written down."""
        await self._controller.reconcile(key)
        if tasks := self._controller.under_way(key):
            await asyncio.wait(tasks)

    async def begin_only(self, key: Key) -> None:
        """Reconcile once, and end before anything of what was written down is done."""
        await self._controller.reconcile(key)
        tasks = self._controller.under_way(key)
        await asyncio.sleep(0)  # each begins: it asks for its channel's Secret, and comes no further
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _note(self, name: str) -> None:
        mails, self._seen = self._receivers.mail.received[self._seen :], len(self._receivers.mail.received)
        for mail in mails:
            for address, role in self._addresses.items():
                if address in mail.what:
                    self.told.setdefault((name, role), self.clock.now())

    async def close(self) -> None:
        """Close what is open."""
        await self._messenger.close()


async def opened(kube: Kube, key: Key, severity: Severity, at: datetime) -> None:
    """Open an incident as a person would, who noticed it just now."""
    spec = IncidentSpec(title="Checkout fails", severity=severity, detected_at=at)
    await kube.create_once(Incident(metadata=Metadata(name=key[1], namespace=key[0]), spec=spec))


async def acknowledge(kube: Kube, desk: Desk, key: Key) -> None:
    """Take an incident as soon as it is paged: written as the operator does when it has heard somebody."""
    raw = {**(desk.store.get(KIND, key) or {}), "kind": KIND}
    incident = Incident.model_validate(raw)
    heard = incident.status.model_copy(update={"acknowledged_by": "alice", "acknowledged_at": desk.clock.now()})
    desk.store.put(KIND, await kube.write_status(raw, heard.wire()))
