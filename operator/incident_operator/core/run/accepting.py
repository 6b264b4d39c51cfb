"""Accept a run: everything it refers to is there, and it comes in time."""

from datetime import datetime

from ...api.run import CheckStatus, FixStatus, IncidentRunStatus, Now, RunbookPin, RunPhase, StepStatus
from ..conditions import with_condition
from ..redact import redact
from ..story import Tell, told
from .ending import end
from .view import START_DEADLINE, Refusal, RunDecision, RunView, command, detected_at


def accept(view: RunView, now: datetime) -> RunDecision:
    """Start the run (R1), or say why it can't start (yet)."""
    run, status = view.run, view.run.status
    deadline = detected_at(run, now) + (run.spec.start_deadline or START_DEADLINE)
    base = status.model_copy(
        update={"severity": run.spec.incident.severity, "observed_generation": run.metadata.generation}
    )
    if now >= deadline:
        message = f"not started by {deadline:%Y-%m-%d %H:%M}Z (startDeadline): nothing was read or changed"
        return end(view, base, RunPhase.EXPIRED, "StartDeadline", message, now)
    if view.refusal is not None:
        # Redacted here, not only when written: what is told must equal what is stored, or it is told for ever.
        refusal = Refusal(reason=view.refusal.reason, message=redact(view.refusal.message))
        conditions = with_condition(
            base.conditions, "Accepted", False, refusal.reason, refusal.message, now, run.metadata.generation
        )
        refused = base.model_copy(
            update={
                "phase": RunPhase.PENDING,
                "conditions": conditions,
                "now": Now(
                    doing="nothing: the run can't start as it is written",
                    waiting_for=refusal.reason,
                    because=refusal.message,
                    until=deadline,
                    next=(f"kubectl edit irun -n {run.metadata.namespace} {run.metadata.name}",),
                ),
            }
        )
        effects = (Tell(refusal.reason, refusal.message, warning=True),) if _changed(status, refused) else ()
        return RunDecision(status=refused, effects=effects, wake_at=deadline)
    runbook, revision = view.runbook, view.revision
    if runbook is None or revision is None:
        return RunDecision(status=status, wake_at=deadline)
    ref = run.spec.runbook_ref
    steps = tuple(
        StepStatus(
            name=step.name,
            title=step.title,
            expected_by=now + view.timing.scaled(step.expected_by),
            checks=tuple(CheckStatus(name=c.name, action=c.action) for c in step.checks),
            fixes=tuple(FixStatus(name=f.name, action=f.action) for f in step.fixes),
        )
        for step in runbook.steps
    )
    accepted = base.model_copy(
        update={
            "phase": RunPhase.DIAGNOSING,
            "started_at": now,
            "runbook": RunbookPin(kind=ref.kind, name=ref.name, revision=revision),
            "steps": steps,
            "step": steps[0].title,
            "now": Now(doing=f"diagnosing: {len(runbook.checks)} checks at once", next=(command(run, "watch"),)),
            "conditions": with_condition(
                base.conditions, "Accepted", True, "Accepted", f"follows {revision}", now, run.metadata.generation
            ),
            "timeline": told(base.timeline, now, "Started", f"runbook {ref.name}: {runbook.title}"),
        }
    )
    return RunDecision(status=accepted, effects=(Tell("Started", f"diagnosing with runbook {ref.name}"),), wake_at=now)


def _changed(before: IncidentRunStatus, after: IncidentRunStatus) -> bool:
    strip = {"last_transition_time"}
    return [c.model_dump(exclude=strip) for c in before.conditions] != [
        c.model_dump(exclude=strip) for c in after.conditions
    ]
