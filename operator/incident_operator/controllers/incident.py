"""Incident: read → decide → persist → perform. Opened for a run that names none; runs know nothing of it."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.escalation import EscalationPolicy
from ..api.incident import Incident
from ..api.intervention import Verb
from ..api.run import IncidentRun
from ..core.approval import Answer, said_at
from ..core.incident import (
    AskRecovery,
    Handed,
    IncidentEffect,
    IncidentView,
    Look,
    Send,
    decide_incident,
    ended_by_person,
    has_incident,
    incident_of,
)
from ..core.story import Tell
from .answering import answer, words_on
from .background import Background
from .context import Context
from .escalating import NoPolicy, Policies, hand_over
from .looking import look_at_recovery
from .reviewing import record_end

log = logging.getLogger(__name__)

KIND = "Incident"
RUN = "IncidentRun"


@dataclass
class Session(Background):
    """What this process knows of an incident besides what is stored: lost at a restart, made again by trying again."""

    handed: tuple[Handed, ...] = ()
    sending: set[str] = field(default_factory=set)
    look: Look | None = None
    looking: bool = False


class IncidentController:
    """Moves incidents: the only writer of their status, and who opens them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._policies = Policies(context)
        self._sessions: dict[Key, Session] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Decide and act until nothing is left to do now; return when to look again.

        Errors: those of the API server, for the queue to back off.
        """
        context = self._context
        policy = await self._policies.of(key[0])
        runs, gone = await self._runs(key)
        raw = context.store.get(KIND, key) or await self._opened(key, policy, runs)
        if raw is None:
            self._forget(key)
            return None
        session = self._sessions.setdefault(key, Session())
        session.raise_failure()
        while True:
            incident = Incident.model_validate(raw)
            view = await self._view(key, incident, session, policy, runs, gone)
            now = context.clock.now()
            decision = decide_incident(view, now)
            if decision.status != incident.status:
                if decision.status.phase != incident.status.phase and ended_by_person(decision.status):
                    await record_end(context, key, incident.model_copy(update={"status": decision.status}))
                try:
                    raw = await context.kube.write_status({**raw, "kind": KIND}, decision.status.wire())
                except NotFound:
                    context.store.remove(KIND, key)
                    self._forget(key)
                    return None
                except Conflict:
                    context.store.put(KIND, await context.kube.get(KIND, *key))
                    return now
                context.store.put(KIND, raw)
            session.handed = tuple(one for one in session.handed if one not in view.handed)
            session.look = None
            incident = incident.model_copy(update={"status": decision.status})
            self._take_leave(key, incident)
            again = await self._perform(key, incident, session, policy, decision.effects)
            if decision.status.settled:
                for word in context.store.words_on(KIND, key):  # answered without the incident
                    context.enqueue("Intervention", (key[0], word["metadata"]["name"]))
                self._forget(key)
                return None
            if not again:
                return self._wake(view, decision.wake_at)
            raw = context.store.get(KIND, key) or raw

    def _wake(self, view: IncidentView, wake_at: datetime | None) -> datetime | None:
        """Return when to look again: sooner where people's words wait for the proof of admission."""
        if view.admission is None:
            return wake_at
        retry = self._context.clock.now() + self._context.settings.admission_retry
        return min(wake_at, retry) if wake_at is not None else retry

    async def _runs(self, key: Key) -> tuple[tuple[IncidentRun, ...], frozenset[str]]:
        """Return the incident's runs that are live or whose end is not written down yet, and names of those gone."""
        store, found, gone = self._context.store, list[IncidentRun](), set[str]()
        stored = store.get(KIND, key)
        entries = ((stored or {}).get("status") or {}).get("runs", ())
        unended = {(key[0], entry["name"]) for entry in entries if not entry.get("finishedAt")}
        for run_key in sorted(store.joined(key) | unended):
            run = store.read(RUN, run_key, IncidentRun.model_validate)
            if run is None:
                try:
                    run = IncidentRun.model_validate(await self._context.kube.get(RUN, *run_key))
                except NotFound:
                    gone.add(run_key[1])
                    store.leave(key, run_key)
                    continue
            found.append(run)
        return tuple(found), frozenset(gone)

    def _take_leave(self, key: Key, incident: Incident) -> None:
        """Forget the runs whose end is written down."""
        for entry in incident.status.runs:
            if entry.finished_at is not None and self._context.store.get(RUN, (key[0], entry.name)) is None:
                self._context.store.leave(key, (key[0], entry.name))

    async def _opened(
        self, key: Key, policy: EscalationPolicy | NoPolicy, runs: tuple[IncidentRun, ...]
    ) -> dict[str, Any] | None:
        """Return the incident of these runs, opened where there is none; None where people are not to be told.

        Without an EscalationPolicy nobody could be told anything, so nothing is opened.
        """
        opening = [run for run in runs if has_incident(run) and run.spec.incident.name is None]
        if not opening or isinstance(policy, NoPolicy):
            for run in runs:
                self._context.store.leave(key, (key[0], run.metadata.name))
            return None
        first = min(opening, key=lambda run: (run.status.started_at is None, run.status.started_at, run.metadata.name))
        raw = await self._context.kube.create_once(incident_of(first))
        if (raw.get("status") or {}).get("settled"):  # a later run of the same ticket: that incident is over
            about = {"kind": RUN, "metadata": first.metadata.wire()}
            message = f"incident {key[1]} was closed before this run: nobody is told; give it a ticket of its own"
            self._context.kube.post_event(about, "IncidentClosed", message, "Warning")
            for run in runs:
                self._context.store.leave(key, (key[0], run.metadata.name))
            return None
        self._context.store.put(KIND, raw)
        return raw

    async def _view(
        self,
        key: Key,
        incident: Incident,
        session: Session,
        policy: EscalationPolicy | NoPolicy,
        runs: tuple[IncidentRun, ...],
        gone: frozenset[str],
    ) -> IncidentView:
        words = words_on(self._context, KIND, key)
        newest = max((said_at(word) for word in words), default=None)
        named = {w.spec.duplicate_of for w in words if w.spec.verb == Verb.DUPLICATE and w.spec.duplicate_of}
        missing = {name for name in named if not await self._exists((key[0], name))}
        return IncidentView(
            incident=incident,
            runs=runs,
            gone=gone,
            words=words,
            admission=await self._context.admission.in_force(after=newest) if words else None,
            policy=None if isinstance(policy, NoPolicy) else policy.spec,
            no_policy=policy.message if isinstance(policy, NoPolicy) else None,
            handed=session.handed,
            sending=frozenset(session.sending),
            missing=frozenset(missing),
            look=session.look,
            can_look=not session.looking,
            timing=self._context.settings.timing,
        )

    async def _exists(self, key: Key) -> bool:
        if self._context.store.get(KIND, key) is not None:
            return True
        try:
            await self._context.kube.get(KIND, *key)
        except NotFound:
            return False
        return True

    async def _perform(
        self,
        key: Key,
        incident: Incident,
        session: Session,
        policy: EscalationPolicy | NoPolicy,
        effects: tuple[IncidentEffect, ...],
    ) -> bool:
        """Perform effects; True when there is something to decide at once."""
        again = False
        for effect in effects:
            match effect:
                case Tell(reason, message, warning):
                    about = {"kind": KIND, "metadata": incident.metadata.wire()}
                    self._context.kube.post_event(about, reason, message, "Warning" if warning else "Normal")
                case Answer():
                    await answer(self._context, key[0], effect)
                    again = True
                case Send(name) if isinstance(policy, EscalationPolicy):
                    session.sending.add(name)
                    self._start(key, session, self._send(incident, session, policy, name))
                case AskRecovery():
                    session.looking = True
                    self._start(key, session, self._look(key, session, effect))
                case _:
                    log.warning("nothing to do %s for: %s has no policy", type(effect).__name__, key)
        return again

    async def _send(self, incident: Incident, session: Session, policy: EscalationPolicy, name: str) -> None:
        engagement = next(e for e in incident.status.engagements if e.key == name)
        try:
            handed = await hand_over(self._context, incident, engagement, policy)
        finally:
            session.sending.discard(name)
        session.handed = (*session.handed, handed)

    async def _look(self, key: Key, session: Session, asked: AskRecovery) -> None:
        try:
            session.look = await look_at_recovery(self._context, key[0], asked)
        finally:
            session.looking = False

    def _start(self, key: Key, session: Session, work: Coroutine[Any, Any, None]) -> None:
        session.start(work, lambda: self._context.enqueue(KIND, key))

    def under_way(self, key: Key) -> frozenset[asyncio.Task[None]]:
        """Return what is being sent, or asked, for an incident now."""
        session = self._sessions.get(key)
        return frozenset(session.tasks) if session is not None else frozenset()

    def _forget(self, key: Key) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.cancel()
