"""What a plan's decisions ask to be done: look, judge, and make the one call that the journal names.

Nothing else in the operator changes the world. A look that can't be had now, for a reason that passes, is None: the
controller looks again a little later.
"""

import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from ..actions.catalogue import catalogue
from ..actions.ports import Reader, ReadError
from ..adapters import sqlcalls
from ..adapters.aws import CallAnswer, CallFailed
from ..adapters.connections import Connections
from ..adapters.kube import KubeError, NotFound
from ..api.grant import ActionGrant
from ..api.plan import Call, CallState, Guard, RemediationPlan
from ..api.run import IncidentRun
from ..core.draft import Judgement, NotApplicable
from ..core.filling import filled
from ..core.gates import closed, outside_grant
from ..core.plan import (
    FINALIZER,
    Answered,
    Awaited,
    Guarded,
    Judged,
    Observed,
    Phase,
    PlanView,
    Replanned,
    gate_facts,
)
from ..core.planning import aimed, moved_guard, still_matching
from ..core.redact import redact
from ..core.run import PASSING_ERRORS
from .context import Context
from .observing import grant_for, reader_of, same_plan
from .resolving import grants_of

log = logging.getLogger(__name__)

KIND = "RemediationPlan"
RUN = "IncidentRun"
#: How far back an observation for a plan looks, before the plan was made; scaled.
LOOK_BACK = timedelta(minutes=15)


class PlanEffects:
    """The hands and eyes of plans."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def grant(self, plan: RemediationPlan) -> ActionGrant | None:
        """Return the grant that permits a plan's action, as the watch knows it."""
        return grant_for(await grants_of(self._context, plan.metadata.namespace or ""), plan.spec.action)

    # --- looking ----------------------------------------------------------------------------------------------

    async def _looking(self, plan: RemediationPlan, grant: ActionGrant) -> Reader:
        """Return a reader that looks back to before the plan was made."""
        since = plan.metadata.creation_timestamp or self._context.clock.now()
        since -= self._context.settings.scaled(LOOK_BACK)
        return reader_of(self._context, grant, since, await self._run_of(plan))

    async def _run_of(self, plan: RemediationPlan) -> IncidentRun | None:
        """Return a plan's own run, whose connections it uses; None where it is gone. Errors: KubeError."""
        key = (plan.metadata.namespace or "", plan.spec.run_ref.name)
        raw = self._context.store.get(RUN, key)
        if raw is None:
            try:
                raw = await self._context.kube.get(RUN, *key)
            except NotFound:
                return None
        run = IncidentRun.model_validate(raw)
        return run if run.metadata.uid == plan.spec.run_ref.uid else None

    async def _observe(self, plan: RemediationPlan, grant: ActionGrant) -> tuple[Any, Any, Any]:
        """Return action, inputs and facts of a plan now. Errors: ReadError, TimeoutError, ValidationError."""
        action: Any = catalogue()[plan.spec.action]
        inputs = action.inputs_model.model_validate(plan.spec.inputs)
        timeout = self._context.settings.observe_timeout
        reader = await self._looking(plan, grant)
        facts = await self._context.pool.run(action.observe, inputs, reader, timeout=timeout)
        return action, inputs, facts

    async def replan(self, plan: RemediationPlan, view: PlanView) -> Replanned | None:
        """Look again just before the first call: same world, same plan, gates still open; then take the locks."""
        now = self._context.clock.now()

        def changed(reason: str, message: str) -> Replanned:
            return Replanned(at=now, same=False, reason=reason, message=message)

        grant = await self.grant(plan)
        if grant is None:
            return changed("GrantMissing", f"no ActionGrant permits {plan.spec.action}")
        try:
            action, inputs, facts = await self._observe(plan, grant)
            moved = await self._preconditions(plan, grant)
        except (ReadError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ReadError) else "Timeout"
            if reason in PASSING_ERRORS:
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

    async def check_undo(self, plan: RemediationPlan) -> Guarded | None:
        """Look whether everything is still as the fix left it, and take the locks again."""
        at = self._context.clock.now()
        grant = await self.grant(plan)
        if grant is None or plan.spec.undo is None:
            return Guarded(at=at, changed="no ActionGrant permits putting it back any more")
        try:
            now = [await self._read(guard, plan, grant) for guard in plan.spec.undo.guards]
        except (ReadError, TimeoutError) as error:
            log.warning("the undo of plan %s waits: %s", plan.metadata.name, error)
            return None
        changed = moved_guard(plan.spec.undo.guards, plan.status.post_image, now)
        if changed:
            return Guarded(at=at, changed=changed)
        locked = await self._context.locks.acquire(plan)
        return Guarded(at=at, gates=(locked,) if locked is not None else ())

    async def look(self, plan: RemediationPlan, phase: Phase, index: int, attempt: int) -> Observed | None:
        """Look whether an orphaned call took effect."""
        grant = await self.grant(plan)
        if grant is None:
            return Observed(phase=phase, index=index, attempt=attempt, applied=None)
        call = _calls(plan, phase)[index]
        try:
            action, inputs, facts = await self._observe(plan, grant)
        except (ReadError, TimeoutError):
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

    async def awaits(self, plan: RemediationPlan, index: int) -> Awaited:
        """Look whether the calls before this one have brought about what it waits for. A failed read is no yes."""
        at = self._context.clock.now()
        grant = await self.grant(plan)
        if grant is None:
            return Awaited(at=at, index=index, missing="no ActionGrant permits looking any more")
        try:
            action, inputs, facts = await self._observe(plan, grant)
            before = action.facts_model.model_validate(plan.status.pre_image)
        except (ReadError, TimeoutError) as error:
            return Awaited(at=at, index=index, missing=redact(f"it can't be seen whether to go on: {error}"))
        return Awaited(at=at, index=index, missing=action.lacks(plan.spec.calls[:index], inputs, before, facts))

    async def judge(self, plan: RemediationPlan) -> Judged:
        """Observe since the last call, and judge. A read that fails leaves the signal unmeasured."""
        at = self._context.clock.now()
        grant = await self.grant(plan)
        if grant is None:
            judgement = Judgement(outcome=None, measured=False, message="no ActionGrant permits looking any more")
            return Judged(at=at, judgement=judgement)
        action: Any = catalogue()[plan.spec.action]
        try:
            inputs = action.inputs_model.model_validate(plan.spec.inputs)
            reader = reader_of(self._context, grant, plan.status.applied_at or at, await self._run_of(plan))
            facts = await self._context.pool.run(
                action.measure, inputs, reader, timeout=self._context.settings.observe_timeout
            )
            before = action.facts_model.model_validate(plan.status.pre_image)
        except (ReadError, TimeoutError) as error:
            message = f"the signal can't be read: {error}"
            return Judged(at=at, judgement=Judgement(outcome=None, measured=False, message=message))
        return Judged(at=at, judgement=action.judge(inputs, before, facts), evidence=facts.wire())

    # --- calling ----------------------------------------------------------------------------------------------

    async def execute(self, plan: RemediationPlan, phase: Phase, index: int, attempt: int) -> Answered:
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
        context = self._context
        call = filled(_calls(plan, phase)[index], plan, context.clock.now(), context.settings.timing)
        results = {
            e.index: e.result
            for e in plan.status.calls
            if e.phase == "Apply" and e.state in (CallState.SUCCEEDED, CallState.OBSERVED)
        }
        timeout = min(call.timeout, self._context.settings.call_timeout)
        try:
            if call.service == sqlcalls.SERVICE:
                made = await self._execute_sql(plan, aimed(call, plan), grant, timeout)
            else:
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

    async def _execute_sql(
        self, plan: RemediationPlan, call: Call, grant: ActionGrant, timeout: timedelta
    ) -> CallAnswer:
        """Make a call through a connection of the plan's run. Errors: CallFailed, TimeoutError."""
        context = self._context
        try:
            run = await self._run_of(plan)
        except KubeError:
            raise CallFailed("NotSentInTime", definite=True) from None
        if run is None:
            raise CallFailed("RunGone", definite=True)
        made = partial(sqlcalls.execute, now=context.clock.now, api_server=context.kube.endpoint)
        return await context.pool.run(
            made,
            call,
            Connections.of(run, context.kube, context.slots),
            grant.spec.probes,
            timeout,
            plan.status.calls[-1].deadline,
            timeout=context.settings.call_limit(timeout),
        )

    async def _live_grant(self, plan: RemediationPlan) -> ActionGrant | None:
        """Return the plan's grant as it is at this moment: a halt counts at once. None where it does not cover it."""
        known = await self.grant(plan)
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
