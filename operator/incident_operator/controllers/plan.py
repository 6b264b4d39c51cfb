"""RemediationPlan: read → decide → persist → perform (`plan_effects`)."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.plan import RemediationPlan
from ..api.run import IncidentRun, RunPhase
from ..core.approval import OPEN_STATES, Answer, said_at
from ..core.plan import (
    FINALIZER,
    TERMINAL,
    Answered,
    Await,
    Awaited,
    CheckUndo,
    Execute,
    Guarded,
    Judge,
    Judged,
    Look,
    Observed,
    PlanEffect,
    PlanView,
    Replan,
    Replanned,
    Unprotect,
    decide_plan,
    last_words,
)
from ..core.story import Tell
from .answering import answer, words_on
from .context import Context
from .plan_effects import KIND, PlanEffects
from .resolving import guardrails_of, is_stale

log = logging.getLogger(__name__)

RUN = "IncidentRun"
#: Real: how soon to look again after a read that failed for a passing reason.
RETRY_READ = timedelta(seconds=3)


@dataclass
class Session:
    """What this process did and saw for a plan since it last wrote."""

    busy: bool = False
    replanned: Replanned | None = None
    answered: Answered | None = None
    observed: Observed | None = None
    awaited: Awaited | None = None
    judged: Judged | None = None
    guarded: Guarded | None = None
    retry_at: datetime | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class PlanController:
    """Moves plans: the only writer of their journals."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._effects = PlanEffects(context)
        self._sessions: dict[Key, Session] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Decide and act; return when to look again. Errors: those of the API server, for the queue to back off."""
        context = self._context
        raw = context.store.get(KIND, key)
        if raw is None:
            self._sessions.pop(key, None)
            return None
        session = self._sessions.setdefault(key, Session())
        while True:
            plan = RemediationPlan.model_validate(raw)
            view = await self._view(plan, session, key)
            now = context.clock.now()
            decision = decide_plan(view, now)
            if context.stopping():
                decision = last_words(plan.status, decision)
            written = decision.status != plan.status
            if written:
                try:
                    raw = await context.kube.write_status(raw, decision.status.wire())
                except NotFound:
                    context.store.remove(KIND, key)
                    self._sessions.pop(key, None)
                    return None
                except Conflict:
                    context.store.put(KIND, await context.kube.get(KIND, *key))
                    return now
                context.store.put(KIND, raw)
                session.replanned = session.observed = session.guarded = None
                if decision.status.state != plan.status.state:
                    session.judged = None  # else kept: the next look is due `verify.every` after it
                    if decision.status.state in TERMINAL:
                        context.outcomes.count(str(decision.status.state), str(plan.spec.risk))
                if not session.busy:
                    session.answered = None
                context.enqueue(RUN, (key[0], plan.spec.run_ref.name))
            stored, again = RemediationPlan.model_validate(raw), False
            for effect in decision.effects:
                match effect:
                    case Answer():
                        await answer(context, key[0], effect)
                        again = True
                    case Tell(reason, message, warning):
                        about = {"kind": KIND, "metadata": plan.metadata.wire()}
                        context.kube.post_event(about, reason, message, "Warning" if warning else "Normal")
                    case Unprotect():
                        gone = await self._unprotect(key, raw)
                        if gone:
                            return None
                        raw, again = context.store.get(KIND, key) or raw, True
                    case _ if session.retry_at is not None and now < session.retry_at and not written:
                        return session.retry_at
                    case _:
                        self._start(key, session, self._perform(stored, view, session, effect))
            if written and decision.status.state in TERMINAL and stored.status.started_at is not None:
                await context.locks.release(stored)
            if decision.status.settled:
                self._answer_without(key)
                context.kube.post_no_more(plan.metadata.uid)
                if not session.busy:
                    self._sessions.pop(key, None)
                return None
            if again or (written and decision.wake_at is not None and decision.wake_at <= now):
                continue
            return decision.wake_at

    async def _view(self, plan: RemediationPlan, session: Session, key: Key) -> PlanView:
        """Gather what the decision may know."""
        context = self._context
        run = await self._run_of(plan)
        words = words_on(context, KIND, key)
        opening = plan.status.state in OPEN_STATES
        asked = run is not None and run.status.phase == RunPhase.AWAITING_APPROVAL
        active = run is not None and run.status.active_plan == plan.metadata.name
        admission = None
        if words or (opening and (asked or active or plan.spec.revert_of is not None)):
            newest = max((said_at(word) for word in words), default=None)
            admission = await context.admission.in_force(after=newest)
        cooldown, circuit_open = guardrails_of(context, run)
        return PlanView(
            plan=plan,
            run=run,
            grant=await self._effects.grant(plan),
            words=words,
            admission=admission,
            leading=context.leader.held(),
            runbook_stale=opening and run is not None and await is_stale(context, run),
            cooldown_until=cooldown,
            circuit_open=circuit_open,
            epoch=context.leader.epoch,
            holder=context.leader.holder,
            call_timeout=context.settings.call_timeout,
            timing=context.settings.timing,
            busy=session.busy,
            replanned=session.replanned,
            answered=session.answered,
            observed=session.observed,
            awaited=session.awaited,
            judged=session.judged,
            guarded=session.guarded,
        )

    async def _run_of(self, plan: RemediationPlan) -> IncidentRun | None:
        """Return the run of a plan; None when it is gone. A settled run is not in the store."""
        key = (plan.metadata.namespace or "", plan.spec.run_ref.name)
        raw = self._context.store.get(RUN, key)
        if raw is None:
            try:
                raw = await self._context.kube.get(RUN, *key)
            except NotFound:
                return None
        return IncidentRun.model_validate(raw)

    def _answer_without(self, key: Key) -> None:
        """Let what people still say of a plan that has settled be answered without it."""
        for word in self._context.store.words_on(KIND, key):
            self._context.enqueue("Intervention", (key[0], word["metadata"]["name"]))

    async def _unprotect(self, key: Key, raw: dict[str, Any]) -> bool:
        """Remove our finalizer; True when the plan is gone with it."""
        finalizers = [f for f in raw["metadata"].get("finalizers", ()) if f != FINALIZER]
        try:
            patched = await self._context.kube.patch_metadata(raw, finalizers=finalizers)
        except NotFound:
            patched = None
        if patched is None or (patched["metadata"].get("deletionTimestamp") and not finalizers):
            self._answer_without(key)
            self._context.store.remove(KIND, key)
            self._sessions.pop(key, None)
            return True
        self._context.store.put(KIND, patched)
        return False

    def _start(self, key: Key, session: Session, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                session.retry_at = self._context.clock.now() + RETRY_READ
                log.exception("effect for plan %s/%s failed; looking again in %s", *key, RETRY_READ)
            finally:
                session.busy = False
                self._context.go_on(KIND, key)

        session.busy = True
        task = asyncio.create_task(guarded())
        session.tasks.add(task)
        task.add_done_callback(session.tasks.discard)

    async def _perform(self, plan: RemediationPlan, view: PlanView, session: Session, effect: PlanEffect) -> None:
        effects, session.retry_at = self._effects, None
        seen: object = None
        match effect:
            case Replan():
                seen = session.replanned = await effects.replan(plan, view)
            case Execute(phase, index, attempt):
                seen = session.answered = await effects.execute(plan, phase, index, attempt)
            case Look(phase, index, attempt):
                seen = session.observed = await effects.look(plan, phase, index, attempt)
            case Await(index):
                seen = session.awaited = await effects.awaits(plan, index)
            case Judge():
                seen = session.judged = await effects.judge(plan)
            case CheckUndo():
                seen = session.guarded = await effects.check_undo(plan)
        if seen is None:
            session.retry_at = self._context.clock.now() + RETRY_READ
