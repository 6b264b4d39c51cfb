"""While a plan has the baton: the run waits for it, and looks at everything again when it has ended.

A plan that may not begin yet, since another one changes the same resource, is waited for, and the run says for whom.
"""

from datetime import datetime

from ...api.plan import PlanState, RemediationPlan
from ...api.run import IncidentRunStatus, Now, RecoveryStatus, RunPhase
from ...api.runbook import IfNoHelp
from ..approval import OPEN_STATES
from ..conditions import is_true, with_condition
from ..gates import PASSING
from ..plan import TERMINAL
from ..story import Tell, told, told_anew, within_bounds
from .ending import end
from .steps import with_plan
from .view import EndRound, RunDecision, RunView, applying, command


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
    if state in OPEN_STATES:
        return _kept_waiting(view, plan, now)
    if state not in TERMINAL:
        return RunDecision(status=_goes_on(view, status, plan, now))
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


def _kept_waiting(view: RunView, plan: RemediationPlan, now: datetime) -> RunDecision:
    """Say what keeps a plan with the baton from its first call, where that passes by itself: whose lock it is."""
    status, gate = view.run.status, next((g for g in plan.status.gates if g.name in PASSING), None)
    if gate is None or status.paused is not None or status.cancelling is not None:
        return RunDecision(status=status)
    if status.now is not None and status.now.because == gate.message:
        return RunDecision(status=status)
    title, generation = plan.spec.title, view.run.metadata.generation
    conditions = status.conditions
    if not is_true(conditions, "Mitigated"):
        conditions = with_condition(conditions, "Mitigated", False, gate.name, gate.message, now, generation)
    message = f"{title}: {gate.message}"
    waiting = status.model_copy(
        update={
            "conditions": conditions,
            "now": Now(
                doing=f"waiting until it may be applied: {title}",
                waiting_for=gate.name,
                because=gate.message,
                next=(command(view.run, "plan"), command(view.run, "watch")),
            ),
            "timeline": told_anew(status.timeline, now, gate.name, message, f"plan {plan.metadata.name}"),
        }
    )
    return RunDecision(status=within_bounds(waiting), effects=(Tell(gate.name, message),))


def _goes_on(view: RunView, status: IncidentRunStatus, plan: RemediationPlan, now: datetime) -> IncidentRunStatus:
    """Return the status of a run whose plan is under way: what kept it waiting is over."""
    if status.now is None or status.now.waiting_for not in PASSING:
        return status
    conditions, title = status.conditions, plan.spec.title
    if not is_true(conditions, "Mitigated"):
        generation = view.run.metadata.generation
        conditions = with_condition(conditions, "Mitigated", False, "Applying", title, now, generation)
    return status.model_copy(update={"conditions": conditions, "now": applying(view.run, plan)})
