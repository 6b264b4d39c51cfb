"""RemediationPlan: read → decide → persist → perform. The only place from which the world is changed."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError

from ..actions.catalogue import catalogue
from ..actions.ports import ReadError
from ..adapters.aws import CallFailed
from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.grant import ActionGrant
from ..api.meta import Automation
from ..api.plan import CallState, RemediationPlan
from ..api.run import IncidentRun
from ..core.draft import Judgement, NotApplicable
from ..core.gates import GateFacts, closed, grant_missing
from ..core.leaving import last_words
from ..core.plan import (
    Answered,
    Execute,
    Judge,
    Judged,
    Look,
    Observed,
    PlanEffect,
    PlanView,
    Replan,
    Replanned,
    decide_plan,
)
from ..core.planning import reasons_to_ask, tier_of
from .context import Context
from .observing import PASSING, grant_for, reader_of, same_plan
from .resolving import grants_of

log = logging.getLogger(__name__)

KIND = "RemediationPlan"
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
    judged: Judged | None = None
    retry_at: datetime | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class PlanController:
    """Moves plans: the only writer of their journals."""

    def __init__(self, context: Context) -> None:
        self._context = context
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
            run, state = await self._run_of(plan)
            now = context.clock.now()
            view = PlanView(
                plan=plan,
                run_state=state,
                run_outcome=f"{run.status.phase}/{run.status.outcome}" if run and run.status.outcome else "",
                epoch=context.leader.epoch,
                holder=context.leader.holder,
                call_timeout=context.settings.call_timeout,
                timing=context.settings.timing,
                busy=session.busy,
                replanned=session.replanned,
                answered=session.answered,
                observed=session.observed,
                judged=session.judged,
            )
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
                session.replanned = session.observed = None
                if decision.status.state != plan.status.state:
                    session.judged = None  # else kept: the next look is due `verify.every` after it
                if not session.busy:
                    session.answered = None
                context.enqueue(RUN, (key[0], plan.spec.run_ref.name))
            for effect in decision.effects:
                if session.retry_at is not None and now < session.retry_at and not written:
                    return session.retry_at
                self._start(key, session, self._perform(RemediationPlan.model_validate(raw), run, session, effect))
            if decision.status.settled:
                if not session.busy:
                    self._sessions.pop(key, None)
                return None
            if written and decision.wake_at is not None and decision.wake_at <= now:
                continue
            return decision.wake_at

    async def _run_of(self, plan: RemediationPlan) -> tuple[IncidentRun | None, Literal["Active", "Idle", "Over"]]:
        """Return the run of a plan and whether it gave the plan the baton. A settled run is not in the store."""
        key = (plan.metadata.namespace or "", plan.spec.run_ref.name)
        raw = self._context.store.get(RUN, key)
        if raw is None:
            try:
                raw = await self._context.kube.get(RUN, *key)
            except NotFound:
                return None, "Over"
        run = IncidentRun.model_validate(raw)
        if run.metadata.uid != plan.spec.run_ref.uid or run.status.settled:
            return run, "Over"
        return run, "Active" if run.status.active_plan == plan.metadata.name else "Idle"

    def _start(self, key: Key, session: Session, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                session.retry_at = self._context.clock.now() + RETRY_READ
                log.exception("effect for plan %s/%s failed; looking again in %s", *key, RETRY_READ)
            finally:
                session.busy = False
                self._context.enqueue(KIND, key)

        session.busy = True
        task = asyncio.create_task(guarded())
        session.tasks.add(task)
        task.add_done_callback(session.tasks.discard)

    async def _perform(
        self, plan: RemediationPlan, run: IncidentRun | None, session: Session, effect: PlanEffect
    ) -> None:
        session.retry_at = None
        match effect:
            case Replan():
                session.replanned = await self._replan(plan, run, session)
            case Execute(phase, index, attempt):
                session.answered = await self._execute(plan, phase, index, attempt)
            case Look(phase, index, attempt):
                session.observed = await self._look(plan, session, phase, index, attempt)
            case Judge():
                session.judged = await self._judge(plan)

    async def _grant(self, plan: RemediationPlan) -> ActionGrant | None:
        return grant_for(await grants_of(self._context, plan.metadata.namespace or ""), plan.spec.action)

    async def _replan(self, plan: RemediationPlan, run: IncidentRun | None, session: Session) -> Replanned | None:
        """Look again just before the first call: same world, same plan, gates still open."""
        grant = await self._grant(plan)
        if grant is None or run is None:
            return Replanned(same=False, reason="GrantMissing", message=f"no ActionGrant permits {plan.spec.action}")
        action: Any = catalogue()[plan.spec.action]
        try:
            inputs = action.inputs_model.model_validate(plan.spec.inputs)
            since = plan.metadata.creation_timestamp or self._context.clock.now()
            reader = reader_of(self._context, grant, since - self._context.settings.scaled(timedelta(minutes=15)))
            facts = await self._context.pool.run(
                action.observe, inputs, reader, timeout=self._context.settings.observe_timeout
            )
            draft = action.plan(inputs, facts)
        except (ReadError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ReadError) else "Timeout"
            if reason in PASSING:
                session.retry_at = self._context.clock.now() + RETRY_READ
                return None
            return Replanned(same=False, reason=reason, message=str(error))
        except ValidationError:
            return Replanned(same=False, reason="InvalidInput", message="the action's inputs changed; plan again")
        if isinstance(draft, NotApplicable):
            return Replanned(same=False, reason="WorldChanged", message=draft.message)
        if not same_plan(plan, draft, grant):
            message = "the world changed since this was planned: the same fix would make other calls now"
            return Replanned(same=False, reason="WorldChanged", message=message)
        asks = reasons_to_ask(draft, grant)
        gates = closed(
            GateFacts(
                # What is known now decides: who took access away may have come to light since the plan was stored.
                plan=plan.spec.model_copy(update={"ask_because": asks, "tier": tier_of(draft, asks)}),
                run_automation=run.spec.automation,
                grant=grant,
                baseline=run.status.baseline,
                drill=run.spec.drill,
                leading=self._context.leader.held(),
            )
        )
        return Replanned(same=True, pre_image=facts.wire(), gates=gates)

    async def _execute(
        self, plan: RemediationPlan, phase: Literal["Apply", "Undo"], index: int, attempt: int
    ) -> Answered:
        """Make the one call that the journal names; nothing else in the operator changes the world."""

        def answer(**fields: Any) -> Answered:
            return Answered(phase=phase, index=index, attempt=attempt, **fields)

        grant = await self._grant(plan)
        if grant is None or grant.spec.aws is None or grant.spec.aws.role_arn != plan.spec.role:
            return answer(ok=False, code="GrantMissing")
        facts = GateFacts(plan=plan.spec, run_automation=Automation(), grant=grant, baseline=None)
        if grant_missing(facts) is not None:
            return answer(ok=False, code="GrantMissing")
        if not self._context.leader.held():
            return answer(ok=False, definite=True, code="NotLeader")
        undo = plan.spec.undo.calls if plan.spec.undo else ()
        call = plan.spec.calls[index] if phase == "Apply" else undo[index]
        results = {
            e.index: e.result
            for e in plan.status.calls
            if e.phase == "Apply" and e.state in (CallState.SUCCEEDED, CallState.OBSERVED)
        }
        timeout = min(call.timeout, self._context.settings.call_timeout)
        try:
            made = await self._context.pool.run(
                self._context.aws.execute,
                call,
                grant.spec.aws,
                plan.spec.region,
                plan.spec.run_ref.name,
                results,
                timeout,
                plan.status.calls[-1].deadline,
                timeout=timeout * 4,
            )
        except CallFailed as failed:
            log.warning("call %s of plan %s: %s", call.operation, plan.metadata.name, failed.code)
            return answer(ok=False, definite=failed.definite, code=failed.code)
        except TimeoutError:
            return answer(ok=False, definite=False, code="Timeout")
        return answer(ok=True, request_id=made.request_id, result=made.result)

    async def _look(
        self, plan: RemediationPlan, session: Session, phase: Literal["Apply", "Undo"], index: int, attempt: int
    ) -> Observed | None:
        """Look whether an orphaned call took effect."""
        grant = await self._grant(plan)
        if grant is None:
            return Observed(phase=phase, index=index, attempt=attempt, applied=None)
        action: Any = catalogue()[plan.spec.action]
        undo = plan.spec.undo.calls if plan.spec.undo else ()
        call = plan.spec.calls[index] if phase == "Apply" else undo[index]
        try:
            inputs = action.inputs_model.model_validate(plan.spec.inputs)
            since = plan.metadata.creation_timestamp or self._context.clock.now()
            reader = reader_of(self._context, grant, since - self._context.settings.scaled(timedelta(minutes=15)))
            facts = await self._context.pool.run(
                action.observe, inputs, reader, timeout=self._context.settings.observe_timeout
            )
        except (ReadError, TimeoutError):
            session.retry_at = self._context.clock.now() + RETRY_READ
            return None
        applied = action.applied(call, inputs, facts)
        changed = ""
        if applied is False and phase == "Apply" and index == 0:
            draft = action.plan(inputs, facts)
            if isinstance(draft, NotApplicable):
                changed = draft.message
            elif not same_plan(plan, draft, grant):
                changed = "the world changed while the call was interrupted"
        return Observed(phase=phase, index=index, attempt=attempt, applied=applied, world_changed=changed)

    async def _judge(self, plan: RemediationPlan) -> Judged:
        """Observe since the last call, and judge. A read that fails leaves the signal unmeasured."""
        at = self._context.clock.now()
        grant = await self._grant(plan)
        if grant is None:
            judgement = Judgement(outcome=None, measured=False, message="no ActionGrant permits looking any more")
            return Judged(at=at, judgement=judgement)
        action: Any = catalogue()[plan.spec.action]
        try:
            inputs = action.inputs_model.model_validate(plan.spec.inputs)
            reader = reader_of(self._context, grant, plan.status.applied_at or at)
            facts = await self._context.pool.run(
                action.measure, inputs, reader, timeout=self._context.settings.observe_timeout
            )
            before = action.facts_model.model_validate(plan.status.pre_image)
        except (ReadError, TimeoutError) as error:
            message = f"the signal can't be read: {error}"
            return Judged(at=at, judgement=Judgement(outcome=None, measured=False, message=message))
        return Judged(at=at, judgement=action.judge(inputs, before, facts), evidence=facts.wire())
