"""Runbook and ClusterRunbook: read, judge, say Ready or where it is wrong; validate them on a schedule, in turn."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from ..adapters.kube import Conflict, Forbidden, Invalid, NotFound
from ..adapters.store import Key, Raw
from ..api.run import IncidentRun, IncidentRunStatus
from ..api.runbook import ClusterRunbook, Runbook, RunbookSpec, UpdateReason, Validation
from ..core.maintenance import (
    RunbookView,
    Validate,
    decide_runbook,
    leaves_reviewers_open,
    used_in_major_incident,
    with_update_due,
)
from ..core.schedule import earliest
from ..core.story import Tell
from .context import Context
from .escalating import Policies
from .resolving import other_reviewers
from .runbooks import revision_name
from .trials import Trials

log = logging.getLogger(__name__)

_MODELS: dict[str, type[Runbook | ClusterRunbook]] = {"Runbook": Runbook, "ClusterRunbook": ClusterRunbook}
_TRIES = 5
#: How soon a change of those on call is seen where it is in no watch of this operator.
ON_CALL_EVERY = timedelta(minutes=5)


@dataclass
class Session:
    """What this process knows of a runbook besides what is stored: lost at a restart, made again by looking.

    Shape: `since` is when it first saw the `generation`; `failure` is of the last validation.
    """

    uid: str
    generation: int
    since: datetime
    task: asyncio.Task[None] | None = None
    made: Validation | None = None
    failure: Exception | None = None


class RunbookController:
    """Moves runbooks: the only writer of their status, with `note_use`."""

    def __init__(self, context: Context, kind: str, trials: Trials) -> None:
        self._context = context
        self._kind = kind
        self._trials = trials
        self._policies = Policies(context)
        self._sessions: dict[Key, Session] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Decide, store, validate when it is time. Errors: those of the API server and of validations."""
        context = self._context
        raw = context.store.get(self._kind, key)
        if raw is None:
            self._forget(key)
            return None
        stored = _MODELS[self._kind].model_validate(raw)
        session = self._session(key, stored)
        if session.failure is not None:
            failure, session.failure = session.failure, None
            raise failure
        revision = revision_name(self._kind, stored.metadata.name, raw["spec"])
        spec, problems, _ = context.runbooks.read(revision, raw["spec"])
        view = RunbookView(
            metadata=stored.metadata,
            spec=spec,
            status=stored.status,
            revision=revision,
            since=session.since,
            problems=tuple(problems),
            mine=self._is_mine(stored),
            busy=session.task is not None,
            made=session.made,
            others=await other_reviewers(self._policies, key[0], spec.maintenance),
            timing=context.settings.timing,
        )
        decision = decide_runbook(view, context.clock.now())
        if decision.status != stored.status:
            try:
                raw = await context.kube.write_status(raw, decision.status.wire())
                context.store.put(self._kind, raw)
            except Conflict:
                context.store.put(self._kind, {**await context.kube.get(self._kind, *key), "kind": self._kind})
                return context.clock.now()
            except NotFound:
                context.store.remove(self._kind, key)
                self._forget(key)
                return None
        session.made = None
        for effect in decision.effects:
            match effect:
                case Tell(reason, message, warning):
                    about = {"kind": self._kind, "metadata": stored.metadata.wire()}
                    context.kube.post_event(about, reason, message, "Warning" if warning else "Normal")
                case Validate():
                    self._start(key, session, stored, raw["spec"], revision)
        return earliest(decision.wake_at, self._ask_again_at(spec))

    def _ask_again_at(self, spec: RunbookSpec) -> datetime | None:
        """Return when to look who is on call again; None where a change of it is watched, or does not matter."""
        namespaces = self._context.settings.namespaces
        watched = not namespaces or self._context.settings.operator_namespace in namespaces
        if watched or not leaves_reviewers_open(spec.maintenance):
            return None
        return self._context.clock.now() + ON_CALL_EVERY

    def _session(self, key: Key, runbook: Runbook | ClusterRunbook) -> Session:
        """Return what is known of this very runbook, with a new start for each generation."""
        metadata, known = runbook.metadata, self._sessions.get(key)
        if known is None or known.uid != metadata.uid:
            self._forget(key)
            now = self._context.clock.now()
            known = self._sessions[key] = Session(uid=metadata.uid, generation=metadata.generation, since=now)
        elif known.generation != metadata.generation:
            known.generation, known.since = metadata.generation, self._context.clock.now()
        return known

    def _is_mine(self, runbook: Runbook | ClusterRunbook) -> bool:
        """Tell whether this operator works in the namespace of the trial; where there is none, every operator may."""
        maintenance = runbook.spec.maintenance
        namespace = maintenance.trial.namespace if maintenance is not None and maintenance.trial is not None else None
        return (
            namespace is None or not self._context.settings.namespaces or namespace in self._context.settings.namespaces
        )

    def _start(self, key: Key, session: Session, runbook: Runbook | ClusterRunbook, spec: Raw, revision: str) -> None:
        async def guarded() -> None:
            try:
                session.made = await self._trials.validate(runbook, spec, revision)
            except Exception as error:  # handed to the next reconcile, which raises it for the queue to back off
                session.failure = error
            finally:
                session.task = None
                self._context.enqueue(self._kind, key)

        session.task = asyncio.create_task(guarded())

    def _forget(self, key: Key) -> None:
        session = self._sessions.pop(key, None)
        if session is not None and session.task is not None:
            session.task.cancel()


async def note_use(context: Context, run: IncidentRun, ended: IncidentRunStatus) -> None:
    """Note on a runbook that it is to be updated, after a major incident in which a run, about to be settled, used it.

    Made again after a crash, it finds its note made. What can't be cured by trying again (rights, CRDs of another
    version) is told, and keeps no run from its end. Errors: others of the API server, for the queue to back off.
    """
    pin, namespace = ended.runbook, run.metadata.namespace or ""
    if pin is None or not used_in_major_incident(run.model_copy(update={"status": ended})):
        return
    key = (namespace if pin.kind == "Runbook" else "", pin.name)
    try:
        await note_update(context, pin.kind, key, UpdateReason.INCIDENT_ENDED, f"{namespace}/{run.metadata.name}")
    except (Forbidden, Invalid, ValidationError) as error:
        log.exception("%s %s is not noted to be updated", pin.kind, pin.name)
        about = {"kind": "IncidentRun", "metadata": run.metadata.wire()}
        message = f"{pin.kind} {pin.name} can't be noted to be updated: {error}"
        context.kube.post_event(about, "UpdateNotNoted", message, "Warning")


async def note_update(context: Context, kind: str, key: Key, reason: UpdateReason, about: str) -> None:
    """Note on a runbook, if it is still there, that it is to be updated, once for each `about`.

    Errors: those of the API server.
    """
    raw = context.store.get(kind, key)
    for _ in range(_TRIES):
        if raw is None:
            return
        stored = _MODELS[kind].model_validate(raw)
        status = with_update_due(stored.status, stored.metadata.generation, reason, about, context.clock.now())
        if status == stored.status:
            return
        try:
            context.store.put(kind, await context.kube.write_status(raw, status.wire()))
        except Conflict:  # its controller writes it, too
            raw = {**await context.kube.get(kind, *key), "kind": kind}
            continue
        except NotFound:
            return
        told = {"kind": kind, "metadata": stored.metadata.wire()}
        context.kube.post_event(told, "UpdateDue", f"{reason} {about}: see what the runbook should learn from it")
        return
    raise Conflict(f"{kind} {key[1]} is written by others all the time")
