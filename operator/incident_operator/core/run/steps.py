"""The steps of a run's status: what the checks answered, what became of the fixes, which step is at work."""

from collections.abc import Mapping, Sequence

from ...api.plan import PlanState, RemediationPlan
from ...api.run import CheckState, FixState, FixStatus, IncidentRunStatus, StepStatus
from ...api.runbook import Fix
from ..gates import is_written
from ..plan import TERMINAL
from .view import CheckResult, FixResult, Round

#: Reasons of a fix that is not needed, where that is not all there is to say.
FINDER_SILENT, FINDING_GONE = "CheckUnanswered", "FindingGone"
#: States of a fix whose plan changed nothing, and may never do so.
_UNBEGUN = frozenset({FixState.BLOCKED, PlanState.PROPOSED, PlanState.SUPERSEDED})


def with_checks(steps: tuple[StepStatus, ...], round_: Round) -> tuple[StepStatus, ...]:
    """Return the steps with the answers of a round."""
    return tuple(
        step.model_copy(
            update={
                "checks": tuple(round_.checks[c.name].status if c.name in round_.checks else c for c in step.checks)
            }
        )
        for step in steps
    )


def with_fixes(steps: tuple[StepStatus, ...], fixes: Mapping[str, FixResult]) -> tuple[StepStatus, ...]:
    """Return the steps with what the fixes propose."""
    return tuple(
        step.model_copy(update={"fixes": tuple(_fix_status(f, fixes.get(f.name)) for f in step.fixes)})
        for step in steps
    )


def _fix_status(status: FixStatus, result: FixResult | None) -> FixStatus:
    if result is None:
        return status
    if result.plan is None:
        if status.plan_ref is not None and _stays(status, result):
            return status
        if result.state == FixState.NOT_NEEDED and _was_called_for(status):
            return _no_longer_called_for(status)
        return status.model_copy(
            update={"state": result.state, "reason": result.reason, "message": result.message[:1024]}
        )
    gate = result.gates[0] if result.gates else None
    return status.model_copy(
        update={
            "state": FixState.BLOCKED if gate else PlanState.PROPOSED,
            "reason": gate.name if gate else None,
            "message": gate.message if gate else result.plan.spec.title,
            "plan_ref": result.plan.metadata.name,
            "attempts": result.plan.spec.attempt,
        }
    )


def _stays(status: FixStatus, result: FixResult) -> bool:
    """Tell whether what became of a fix's plan stays its story although it is not planned now.

    Of a plan that changed nothing, why it does not fit any more is news: another run may have done the same.
    """
    if result.state == FixState.NOT_APPLICABLE:
        return status.state not in _UNBEGUN
    return result.state == FixState.NOT_NEEDED


def _was_called_for(status: FixStatus) -> bool:
    """Tell whether a fix was looked at in this run, since a finding called for it, and came to nothing."""
    declined = status.state in (FixState.NOT_APPLICABLE, FixState.ERROR) and not is_written(status)
    return declined or (status.state == FixState.NOT_NEEDED and status.reason == FINDING_GONE)


def _no_longer_called_for(status: FixStatus) -> FixStatus:
    """Return a fix whose finding is gone; the gate EvidenceMissing must know that there was one."""
    if status.reason == FINDING_GONE:
        return status
    why = f" ({status.reason})" if status.reason else ""
    message = f"what called for it is gone; it was {status.state}{why} before"
    return status.model_copy(update={"state": FixState.NOT_NEEDED, "reason": FINDING_GONE, "message": message})


def not_called_for(fix: Fix, finders: Sequence[str], checks: Mapping[str, CheckResult]) -> FixResult:
    """Return a fix none of whose findings was made; with a reason where a check that could make one is silent.

    Shape: `finders` are the names of those checks.
    """
    asked = [checks[name].status for name in finders if name in checks]
    silent = next((c for c in asked if c.state in (CheckState.ERROR, CheckState.INCONCLUSIVE)), None)
    if silent is None:
        return FixResult(name=fix.name, state=FixState.NOT_NEEDED)
    message = f"nothing called for it, but check {silent.name} gave no answer ({silent.reason})"
    return FixResult(name=fix.name, state=FixState.NOT_NEEDED, reason=FINDER_SILENT, message=message)


def with_plan(steps: tuple[StepStatus, ...], plan: RemediationPlan) -> tuple[StepStatus, ...]:
    """Return the steps with the copy of this plan's state refreshed."""

    def refreshed(fix: FixStatus) -> FixStatus:
        if fix.plan_ref != plan.metadata.name:
            return fix
        return fix.model_copy(
            update={
                "state": plan.status.state,
                "reason": plan.status.reason,
                "message": plan.status.message or plan.spec.title,
            }
        )

    return tuple(step.model_copy(update={"fixes": tuple(refreshed(f) for f in step.fixes)}) for step in steps)


def unfinished(status: IncidentRunStatus) -> StepStatus | None:
    """Return the first step with unfinished work; None where all is done."""
    finished = {FixState.NOT_NEEDED, FixState.NOT_APPLICABLE, FixState.ERROR, *TERMINAL}
    for step in status.steps:
        if any(c.state in (CheckState.PENDING, CheckState.RUNNING) for c in step.checks) or any(
            f.state not in finished for f in step.fixes
        ):
            return step
    return None


def at_step(status: IncidentRunStatus) -> IncidentRunStatus:
    """Return the status with its step column: the first step with unfinished work. Source: decision 26."""
    step = unfinished(status) or (status.steps[-1] if status.steps else None)
    return status.model_copy(update={"step": step.title[:128] if step is not None else None})
