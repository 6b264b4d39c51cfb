"""The steps of a run's status: what the checks answered, what became of the fixes, which step is at work."""

from collections.abc import Mapping

from ...api.plan import PlanState, RemediationPlan
from ...api.run import CheckState, FixState, FixStatus, IncidentRunStatus, StepStatus
from ..plan import TERMINAL
from .view import FixResult, Round


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
        if status.plan_ref is not None and result.state in (FixState.NOT_NEEDED, FixState.NOT_APPLICABLE):
            return status
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
