"""RemediationPlan: read → decide → persist → perform. The only place from which the world is changed."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..actions.catalogue import catalogue
from ..actions.ports import Reader, ReadError
from ..adapters.aws import CallFailed
from ..adapters.kube import Conflict, KubeError, NotFound
from ..adapters.store import Key
from ..api.grant import ActionGrant
from ..api.plan import Call, CallState, Guard, RemediationPlan
from ..api.run import IncidentRun, RunPhase
from ..core.approval import OPEN_STATES, Answer, said_at
from ..core.draft import Judgement, NotApplicable
from ..core.gates import closed, outside_grant
from ..core.leaving import last_words
from ..core.plan import (
    FINALIZER,
    TERMINAL,
    Answered,
    CheckUndo,
    Execute,
    Guarded,
    Judge,
    Judged,
    Look,
    Observed,
    Phase,
    PlanEffect,
    PlanView,
    Replan,
    Replanned,
    Unprotect,
    decide_plan,
    gate_facts,
)
from ..core.planning import aimed, moved_guard, still_matching
from ..core.run import PASSING_ERRORS
from ..core.story import Tell
from .answering import answer, words_on
from .context import Context
from .observing import grant_for, reader_of, same_plan
from .resolving import grants_of, is_stale

log = logging.getLogger(__name__)

KIND = "RemediationPlan"
RUN = "IncidentRun"
#: Real: how soon to look again after a read that failed for a passing reason.
RETRY_READ = timedelta(seconds=3)
#: How far back an observation for a plan looks, before the plan was made; scaled.
LOOK_BACK = timedelta(minutes=15)


@dataclass
class Session:
    """What this process did and saw for a plan since it last wrote."""

    busy: bool = False
    replanned: Replanned | None = None
    answered: Answered | None = None
    observed: Observed | None = None
    judged: Judged | None = None
    guarded: Guarded | None = None
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
        return PlanView(
            plan=plan,
            run=run,
            grant=await self._grant(plan),
            words=words,
            admission=admission,
            leading=context.leader.held(),
            runbook_stale=opening and run is not None and await is_stale(context, run),
            epoch=context.leader.epoch,
            holder=context.leader.holder,
            call_timeout=context.settings.call_timeout,
            timing=context.settings.timing,
            busy=session.busy,
            replanned=session.replanned,
            answered=session.answered,
            observed=session.observed,
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
                self._context.enqueue(KIND, key)

        session.busy = True
        task = asyncio.create_task(guarded())
        session.tasks.add(task)
        task.add_done_callback(session.tasks.discard)

    async def _perform(self, plan: RemediationPlan, view: PlanView, session: Session, effect: PlanEffect) -> None:
        session.retry_at = None
        match effect:
            case Replan():
                session.replanned = await self._replan(plan, view, session)
            case Execute(phase, index, attempt):
                session.answered = await self._execute(plan, phase, index, attempt)
            case Look(phase, index, attempt):
                session.observed = await self._look(plan, session, phase, index, attempt)
            case Judge():
                session.judged = await self._judge(plan)
            case CheckUndo():
                session.guarded = await self._check_undo(plan, session)

    async def _grant(self, plan: RemediationPlan) -> ActionGrant | None:
        return grant_for(await grants_of(self._context, plan.metadata.namespace or ""), plan.spec.action)

    # --- looking ----------------------------------------------------------------------------------------------

    def _looking(self, plan: RemediationPlan, grant: ActionGrant) -> Reader:
        """Return a reader that looks back to before the plan was made."""
        since = plan.metadata.creation_timestamp or self._context.clock.now()
        return reader_of(self._context, grant, since - self._context.settings.scaled(LOOK_BACK))

    async def _observe(self, plan: RemediationPlan, grant: ActionGrant) -> tuple[Any, Any, Any]:
        """Return action, inputs and facts of a plan now. Errors: ReadError, TimeoutError, ValidationError."""
        action: Any = catalogue()[plan.spec.action]
        inputs = action.inputs_model.model_validate(plan.spec.inputs)
        timeout = self._context.settings.observe_timeout
        facts = await self._context.pool.run(action.observe, inputs, self._looking(plan, grant), timeout=timeout)
        return action, inputs, facts

    async def _replan(self, plan: RemediationPlan, view: PlanView, session: Session) -> Replanned | None:
        """Look again just before the first call: same world, same plan, gates still open; then take the locks."""
        now = self._context.clock.now()

        def changed(reason: str, message: str) -> Replanned:
            return Replanned(at=now, same=False, reason=reason, message=message)

        grant = await self._grant(plan)
        if grant is None:
            return changed("GrantMissing", f"no ActionGrant permits {plan.spec.action}")
        try:
            action, inputs, facts = await self._observe(plan, grant)
            moved = await self._preconditions(plan, grant)
        except (ReadError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ReadError) else "Timeout"
            if reason in PASSING_ERRORS:
                session.retry_at = self._context.clock.now() + RETRY_READ
                return None
            return changed(reason, str(error))
        except ValidationError:
            return changed("InvalidInput", "the action's inputs changed; plan again")
        if moved:
            return changed("WorldChanged", moved)
        targets = plan.spec.candidates
        if plan.spec.revert_of is None:
            draft = action.plan(inputs, facts)
            if isinstance(draft, NotApplicable):
                return changed("WorldChanged", draft.message)
            if not same_plan(plan, draft, grant):
                message = "the world changed since this was planned: the same fix would make other calls now"
                return changed("WorldChanged", message)
            targets = still_matching(plan.spec, draft)
            if plan.spec.candidates and not targets:
                message = "nothing that was agreed to still needs it"
                return changed("WorldChanged", message)
        facts_now = gate_facts(view, now)
        admission = await self._context.admission.in_force()
        leading = self._context.leader.held()
        gates = closed(replace(facts_now, grant=grant, admission=admission, leading=leading))
        if not gates:
            locked = await self._context.locks.acquire(plan)
            gates = (locked,) if locked is not None else ()
        if not gates:
            await self._protect(plan)
        return Replanned(at=now, same=True, pre_image=facts.wire(), gates=gates, targets=targets)

    async def _protect(self, plan: RemediationPlan) -> None:
        """Put the finalizer on, and let a temporary fix outlive its run. Errors: Conflict, to decide anew."""
        key = (plan.metadata.namespace or "", plan.metadata.name)
        raw = self._context.store.get(KIND, key)
        if raw is None or FINALIZER in raw["metadata"].get("finalizers", ()):
            return
        finalizers = [*raw["metadata"].get("finalizers", ()), FINALIZER]
        owners: list[dict[str, Any]] | None = [] if plan.spec.temporary is not None else None
        patched = await self._context.kube.patch_metadata(raw, finalizers=finalizers, owner_references=owners)
        self._context.store.put(KIND, patched)

    async def _read(self, guard: Guard, plan: RemediationPlan, grant: ActionGrant) -> Any:
        """Return what a guard reads now; None where there is nothing. Errors: ReadError, TimeoutError."""
        aws = grant.spec.aws
        if aws is None:
            raise ReadError("NotGranted", f"ActionGrant {grant.metadata.name} has no aws section")
        timeout = self._context.settings.observe_timeout
        return await self._context.pool.run(
            self._context.aws.value, aws, plan.spec.region, guard.read, guard.path, timeout=timeout
        )

    async def _preconditions(self, plan: RemediationPlan, grant: ActionGrant) -> str:
        """Return which fact the plan rests on is not so any more; empty where all are."""
        for fact in plan.spec.preconditions:
            if await self._read(Guard(read=fact.read, path=fact.path), plan, grant) != fact.equals:
                return f"{fact.read.service}:{fact.read.operation} {fact.path} was changed since"
        return ""

    async def _image(self, plan: RemediationPlan, grant: ActionGrant) -> Any:
        """Return what the undo's guards read now, in their order; None where that fails: then there is no undo."""
        if plan.spec.undo is None:
            return None
        try:
            return [await self._read(guard, plan, grant) for guard in plan.spec.undo.guards]
        except (ReadError, TimeoutError) as error:
            log.warning("the state after a call of plan %s can't be read: %s", plan.metadata.name, error)
            return None

    async def _check_undo(self, plan: RemediationPlan, session: Session) -> Guarded | None:
        """Look whether everything is still as the fix left it, and take the locks again."""
        at = self._context.clock.now()
        grant = await self._grant(plan)
        if grant is None or plan.spec.undo is None:
            return Guarded(at=at, changed="no ActionGrant permits putting it back any more")
        try:
            now = [await self._read(guard, plan, grant) for guard in plan.spec.undo.guards]
        except (ReadError, TimeoutError) as error:
            log.warning("the undo of plan %s waits: %s", plan.metadata.name, error)
            session.retry_at = self._context.clock.now() + RETRY_READ
            return None
        changed = moved_guard(plan.spec.undo.guards, plan.status.post_image, now)
        if changed:
            return Guarded(at=at, changed=changed)
        locked = await self._context.locks.acquire(plan)
        return Guarded(at=at, gates=(locked,) if locked is not None else ())

    async def _look(
        self, plan: RemediationPlan, session: Session, phase: Phase, index: int, attempt: int
    ) -> Observed | None:
        """Look whether an orphaned call took effect."""
        grant = await self._grant(plan)
        if grant is None:
            return Observed(phase=phase, index=index, attempt=attempt, applied=None)
        call = _calls(plan, phase)[index]
        try:
            action, inputs, facts = await self._observe(plan, grant)
        except (ReadError, TimeoutError):
            session.retry_at = self._context.clock.now() + RETRY_READ
            return None
        applied = action.applied(call, inputs, facts)
        changed = ""
        if applied is False and phase == "Apply" and index == 0 and plan.spec.revert_of is None:
            draft = action.plan(inputs, facts)
            if isinstance(draft, NotApplicable):
                changed = draft.message
            elif not same_plan(plan, draft, grant):
                changed = "the world changed while the call was interrupted"
        image = await self._image(plan, grant) if applied and phase == "Apply" else None
        return Observed(
            phase=phase, index=index, attempt=attempt, applied=applied, world_changed=changed, post_image=image
        )

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

    # --- calling ----------------------------------------------------------------------------------------------

    async def _execute(self, plan: RemediationPlan, phase: Phase, index: int, attempt: int) -> Answered:
        """Make the one call that the journal names; nothing else in the operator changes the world."""

        def answered(**fields: Any) -> Answered:
            return Answered(phase=phase, index=index, attempt=attempt, **fields)

        try:
            grant = await self._live_grant(plan)
        except KubeError as error:
            log.warning("call of plan %s not made, its grant can't be read: %s", plan.metadata.name, error)
            return answered(ok=False, code="GrantUnknown")
        if grant is None or grant.spec.aws is None:
            return answered(ok=False, code="GrantMissing")
        if grant.spec.suspended is not None:
            return answered(ok=False, code="GrantSuspended")
        if not self._context.leader.held():
            return answered(ok=False, code="NotLeader")
        call = _calls(plan, phase)[index]
        results = {
            e.index: e.result
            for e in plan.status.calls
            if e.phase == "Apply" and e.state in (CallState.SUCCEEDED, CallState.OBSERVED)
        }
        timeout = min(call.timeout, self._context.settings.call_timeout)
        try:
            made = await self._context.pool.run(
                self._context.aws.execute,
                aimed(call, plan),
                grant.spec.aws,
                plan.spec.region,
                plan.spec.run_ref.name,
                results,
                timeout,
                plan.status.calls[-1].deadline,
                timeout=self._context.settings.call_limit(timeout),
            )
        except CallFailed as failed:
            log.warning("call %s of plan %s: %s", call.operation, plan.metadata.name, failed.code)
            return answered(ok=False, definite=failed.definite, code=failed.code)
        except TimeoutError:
            return answered(ok=False, definite=False, code="Timeout")
        image = await self._image(plan, grant) if phase == "Apply" else None
        return answered(ok=True, request_id=made.request_id, result=made.result, post_image=image)

    async def _live_grant(self, plan: RemediationPlan) -> ActionGrant | None:
        """Return the plan's grant as it is at this moment: a halt counts at once. None where it does not cover it."""
        known = await self._grant(plan)
        if known is None:
            return None
        try:
            raw = await self._context.kube.get("ActionGrant", "", known.metadata.name)
        except NotFound:
            return None
        grant = ActionGrant.model_validate(raw)
        labels = await self._context.kube.namespace_labels(plan.metadata.namespace or "")
        if not grant.selects(labels) or grant_for((grant,), plan.spec.action) is None:
            return None
        return grant if outside_grant(plan.spec, grant) is None else None


def _calls(plan: RemediationPlan, phase: Phase) -> tuple[Call, ...]:
    return plan.spec.calls if phase == "Apply" else (plan.spec.undo.calls if plan.spec.undo else ())
