"""While a plan has the baton: the run waits for it, and looks at everything again when it has ended."""

from datetime import datetime

from ...api.plan import PlanState
from ...api.run import Now, RecoveryStatus, RunPhase
from ...api.runbook import IfNoHelp
from ..conditions import with_condition
from ..plan import TERMINAL
from ..story import Tell, told
from .ending import end
from .steps import with_plan
from .view import EndRound, RunDecision, RunView, command


def with_baton(view: RunView, now: datetime) -> RunDecision:
    """Follow the plan under way; take the baton back when it has ended."""
    status = view.run.status
    plan = next((p for p in view.plans if p.metadata.name == status.active_plan), None)
    if plan is None:
        message = f"plan {status.active_plan} was deleted while it was applied: what it did can't be told"
        return end(view, status, RunPhase.UNRESOLVED, "FixInconclusive", message, now)
    state = plan.status.state
    if state == PlanState.VERIFYING and status.phase != RunPhase.VERIFYING:
        verifying = status.model_copy(
            update={
                "phase": RunPhase.VERIFYING,
                "steps": with_plan(status.steps, plan),
                "now": Now(
                    doing=f"verifying: {plan.spec.verify.signal}",
                    waiting_for="verification",
                    until=plan.status.verify_deadline,
                    next=(command(view.run, "watch"),),
                ),
                "timeline": told(status.timeline, now, "Applied", plan.spec.title, f"plan {plan.metadata.name}"),
            }
        )
        return RunDecision(status=verifying, effects=(Tell("Applied", plan.spec.title),))
    if state not in TERMINAL:
        return RunDecision(status=status)
    recovery = status.recovery or RecoveryStatus()
    helped = state == PlanState.HELPED
    ended = status.model_copy(
        update={
            "phase": RunPhase.DIAGNOSING,
            "active_plan": None,
            "steps": with_plan(status.steps, plan),
            "recovery": recovery.model_copy(update={"helped_at": now}) if helped else recovery,
            "timeline": told(
                status.timeline,
                now,
                str(state),
                f"{plan.spec.title}: {plan.status.message or state}",
                f"plan {plan.metadata.name}",
            ),
            "now": Now(doing="looking at everything again after the fix", next=(command(view.run, "watch"),)),
            "conditions": with_condition(
                status.conditions,
                "Mitigated",
                helped,
                str(state),
                plan.status.message or plan.spec.title,
                now,
                view.run.metadata.generation,
            ),
        }
    )
    fix = next((f for f in view.runbook.fixes if f.name == plan.spec.fix), None) if view.runbook else None
    told_people = Tell(str(state), f"{plan.spec.title}: {plan.status.message}", warning=not helped)
    if state == PlanState.NO_EFFECT and fix is not None and fix.if_no_help == IfNoHelp.STOP:
        message = f"{plan.spec.title} had no effect, and the runbook says {fix.if_no_help}"
        return end(view, ended, RunPhase.UNRESOLVED, "FixesExhausted", message, now)
    return RunDecision(status=ended, effects=(EndRound(), told_people), wake_at=now)
