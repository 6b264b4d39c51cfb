"""How a run ends."""

from datetime import datetime

from ...api.plan import PlanState
from ...api.run import IncidentRunStatus, Now, Resolution, RunPhase
from ..conditions import is_true, with_condition
from ..story import Tell, told, within_bounds
from .steps import at_step
from .view import FINALIZER, EndRound, RunDecision, RunView, Unprotect, command


def end(
    view: RunView, status: IncidentRunStatus, phase: RunPhase, reason: str, message: str, now: datetime
) -> RunDecision:
    """Store the end (R6): `settled` takes the run out of every watch with the same write.

    A run that holds our finalizer loses it first: nobody would remove it later (decision 16).
    """
    run = view.run
    if FINALIZER in run.metadata.finalizers:
        gone = run.metadata.deletion_timestamp is not None
        last = (Tell(str(phase), f"{reason}: {message}", warning=True),) if gone else ()
        return RunDecision(status=run.status, effects=(*last, Unprotect()), wake_at=now)
    resolved = phase in (RunPhase.RESOLVED, RunPhase.NOTHING_FOUND)
    generation = run.metadata.generation
    conditions = with_condition(
        status.conditions, "Resolved", phase == RunPhase.RESOLVED, reason, message, now, generation
    )
    if is_true(conditions, "AwaitingApproval"):
        conditions = with_condition(conditions, "AwaitingApproval", False, reason, message, now, generation)
    describe = f"kubectl describe irun -n {run.metadata.namespace} {run.metadata.name}"
    ended = status.model_copy(
        update={
            "phase": phase,
            "outcome": reason,
            "finished_at": now,
            "active_plan": None,
            "settled": True,
            "conditions": with_condition(conditions, "Finished", True, reason, message, now, generation),
            "timeline": told(status.timeline, now, str(phase), f"{reason}: {message}"),
            "now": Now(
                doing=f"{phase}: {message}"[:1024],
                next=() if resolved else (describe, command(run, "plan")),
            ),
        }
    )
    return RunDecision(
        status=within_bounds(at_step(ended)),
        effects=(EndRound(), Tell(str(phase), f"{reason}: {message}", warning=not resolved)),
    )


def resolved(view: RunView, now: datetime) -> RunDecision:
    """End well: recovery held."""
    helped = [p for p in view.plans if p.status.state == PlanState.HELPED]
    if helped:
        resolution, message = Resolution.RUNBOOK, "; ".join(p.spec.title for p in helped)
    elif view.by_hand is not None:
        resolution, message = Resolution.MANUAL, view.by_hand
    else:
        resolution, message = Resolution.SELF_RECOVERED, _by_itself(view)
    status = view.run.status.model_copy(update={"resolution": resolution})
    return end(view, status, RunPhase.RESOLVED, str(resolution), message, now)


def _by_itself(view: RunView) -> str:
    applied = [f"{p.spec.title} ({p.status.state})" for p in view.plans if p.status.started_at is not None]
    if not applied:
        return "the service recovered without a change by the operator"
    return f"the service recovered, and nothing shows that what was applied helped: {'; '.join(applied)}"


def cancelled(view: RunView, now: datetime) -> RunDecision:
    """End because a person said so, or deleted the run; what plans left behind is said."""
    cancelling = view.run.status.cancelling
    if cancelling is None:
        message = "the run was deleted"
    else:
        message = f"{cancelling.by} cancelled it" + (f": {cancelling.reason}" if cancelling.reason else "")
    applied = [p for p in view.plans if p.status.started_at is not None and p.status.state != PlanState.EXPIRED]
    left = [f"{p.spec.title} ({p.status.state})" for p in applied]
    message += f"; applied: {', '.join(left)}" if left else "; nothing was changed"
    return end(view, view.run.status, RunPhase.CANCELLED, "Cancelled", message, now)
