"""What follows a diagnosis: end well, hand over to the next fix, ask people, wait, or end and escalate."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ...api.plan import PlanState, RemediationPlan
from ...api.run import CheckState, CheckStatus, Finding, FixState, IncidentRunStatus, Now, RunPhase
from ...api.runbook import FindingKind
from ..approval import OPEN_STATES
from ..conditions import is_true, with_condition
from ..gates import can_open
from ..plan import APPROVAL_TIMEOUT
from ..schedule import earliest
from ..story import Tell, told, told_anew, within_bounds
from .again import REPLACED, spent
from .ending import end
from .recovery import next_sample, waiting_stable
from .steps import at_step
from .view import (
    FINALIZER,
    PASSING_ERRORS,
    STOPPED,
    EndRound,
    FixResult,
    Protect,
    Recovery,
    Round,
    RunDecision,
    RunEffect,
    RunView,
    applying,
    command,
    stopped,
)

MAX_SUPERSEDED = 3
#: How long a diagnosis waits for what comes with time: for CloudTrail to catch up, for a fix to fit.
CATCH_UP = timedelta(minutes=15)
#: How often it looks meanwhile.
LOOK_AGAIN = timedelta(seconds=30)
#: Real: how long a run keeps asking what does not answer.
PATIENCE = timedelta(minutes=5)
RETRY_SILENT = timedelta(seconds=30)


def choose(
    view: RunView,
    status: IncidentRunStatus,
    fixes: Mapping[str, FixResult],
    round_: Round,
    recovery: Recovery,
    now: datetime,
) -> RunDecision:
    """Choose what follows a diagnosis. `status` is what the diagnosis showed, not stored yet."""
    helped = any(p.status.state == PlanState.HELPED for p in view.plans)
    problems = [f for f in status.findings if f.kind == FindingKind.PROBLEM]
    unclear = [
        r.status for r in round_.checks.values() if r.status.state in (CheckState.ERROR, CheckState.INCONCLUSIVE)
    ]
    cause = status.root_cause.summary if status.root_cause else "no cause found"
    tell = (Tell("Diagnosed", cause if problems else "no problem found"),)
    done = (*tell, EndRound())
    if not problems and not unclear and recovery == "Passing" and not helped and not view.plans:
        return end(view, status, RunPhase.NOTHING_FOUND, "NothingFound", "every check passed, users are well", now)
    free = view.run.status.paused is None
    approved = approved_plan(view)
    if approved is not None and free:
        return hand_over(view, status, approved, now, done)
    next_fix = _next_fix(view, fixes)
    if next_fix is not None and next_fix.plan is not None and recovery != "Passing" and free:
        return hand_over(view, status, next_fix.plan, now, done)
    if recovery == "Passing":
        return RunDecision(status=waiting_stable(view, status, now), effects=done, wake_at=next_sample(view, now))
    retry = _catching_up(view, status, round_, fixes, now)
    if retry is not None:
        waiting = status.model_copy(
            update={
                "phase": RunPhase.DIAGNOSING,
                "now": Now(
                    doing="waiting for CloudTrail to show who changed what, then diagnosing again",
                    waiting_for="CloudTrail",
                    because="changes appear there minutes late; who made them decides whether a fix may act by itself",
                    until=retry,
                    next=_plans_to_read(view, fixes),
                ),
            }
        )
        return RunDecision(status=waiting, effects=(EndRound(),), wake_at=retry)
    asked = _to_ask(view, fixes)
    if asked:
        return _ask(view, status, asked, done, now)
    unreachable = _unreachable(view, status, unclear, now)
    if unreachable is not None:
        return unreachable
    if helped or any(p.status.state in STOPPED for p in stopped(view)) or _mended_by_hand(view, fixes):
        return RunDecision(status=waiting_stable(view, status, now), effects=done, wake_at=next_sample(view, now))
    not_yet = _not_yet(view, status, fixes, now)
    if not_yet is not None:
        return not_yet
    reason, message = _why_unresolved(view, problems, unclear, fixes)
    return end(view, status, RunPhase.UNRESOLVED, reason, message, now)


def _mended_by_hand(view: RunView, fixes: Mapping[str, FixResult]) -> bool:
    """Tell whether the world changed so that a fix is not needed any more: what users feel follows a while later.

    A plan that is still open, of a fix that nothing calls for now, is as good as superseded: another run, or somebody,
    was faster. A plan that a newer one replaced, which people then refused, was mended by nobody.
    """
    idle = {name for name, fix in fixes.items() if fix.state == FixState.NOT_NEEDED}
    gone = any(
        (p.status.state == PlanState.SUPERSEDED and p.status.reason == "WorldChanged")
        or (p.status.state in OPEN_STATES and p.spec.fix in idle)
        for p in view.plans
    )
    refused = any(p.status.state == PlanState.REJECTED for p in view.plans)
    return gone and not refused and all(fix.plan is None for fix in fixes.values())


def approved_plan(view: RunView) -> RemediationPlan | None:
    """Return the plan that was approved first, of those nothing blocks."""
    agreed = [
        (p.status.approved_at, p.metadata.name, p)
        for p in view.plans
        if p.status.state == PlanState.APPROVED and not p.status.gates and p.status.approved_at is not None
    ]
    return min(agreed)[2] if agreed else None


def _may_try(view: RunView, result: FixResult) -> bool:
    """Tell whether a planned fix is worth doing: not left out, and not what was tried, or refused, already."""
    status, plan = view.run.status, result.plan
    if plan is None or view.observe_only or result.name in status.skipped:
        return False
    if spent(plan, view.plans, status) is not None:
        return False
    # One that another took the place of while people were asked was never begun: it says nothing of the fix.
    begun_in_vain = [
        p
        for p in view.plans
        if p.spec.fix == result.name
        and p.status.state == PlanState.SUPERSEDED
        and p.status.reason != REPLACED
        and p.metadata.name not in status.waived
    ]
    return len(begun_in_vain) < MAX_SUPERSEDED


def _next_fix(view: RunView, fixes: Mapping[str, FixResult]) -> FixResult | None:
    """Return the first fix, in the document's order, that the machine may apply by itself now."""
    if view.runbook is None or stopped(view):
        return None
    results = (fixes.get(fix.name) for fix in view.runbook.fixes)
    return next((r for r in results if r is not None and not r.gates and _may_try(view, r)), None)


def _to_ask(view: RunView, fixes: Mapping[str, FixResult]) -> list[FixResult]:
    """Return the fixes that people's word, or time, can let through, in the document's order."""
    if view.runbook is None:
        return []
    results = [fixes[fix.name] for fix in view.runbook.fixes if fix.name in fixes]
    return [r for r in results if _may_try(view, r) and can_open(r.gates)]


def _ask(
    view: RunView,
    status: IncidentRunStatus,
    asked: Sequence[FixResult],
    effects: tuple[RunEffect, ...],
    now: datetime,
) -> RunDecision:
    """Ask people, and say what they can type; recovery is watched meanwhile."""
    run, paused, first = view.run, view.run.status.paused, asked[0]
    since = status.awaiting_since or now
    until = since + (run.spec.approval_timeout or APPROVAL_TIMEOUT)
    blocks = first.gates[0].message if first.gates else "an earlier fix did not go well: a person must agree"
    message = f"{first.name}: {blocks}" + (f" (+{len(asked) - 1} more)" if len(asked) > 1 else "")
    waiting_for = "approval"
    if first.gates and all(gate.name != "ApprovalMissing" and gate.hard for gate in first.gates):
        waiting_for = first.gates[0].name
    following = [command(run, "plan"), *(command(run, "approve", r.name) for r in asked[:3])]
    if paused is not None:
        waiting_for, message = "resume", f"{paused.by} paused the run" + (f": {paused.reason}" if paused.reason else "")
        following = [command(run, "resume"), command(run, "plan")]
    conditions = with_condition(
        status.conditions, "AwaitingApproval", True, "AwaitingApproval", message, now, run.metadata.generation
    )
    plans = ", ".join(r.plan.metadata.name for r in asked if r.plan is not None)
    awaiting = status.model_copy(
        update={
            "phase": RunPhase.AWAITING_APPROVAL,
            "awaiting_since": since,
            "conditions": conditions,
            "now": Now(
                doing="asking people; users are watched meanwhile",
                waiting_for=waiting_for,
                because=message[:1024],
                until=until,
                next=(*following, command(run, "watch")),
            ),
            "timeline": told_anew(status.timeline, now, "AwaitingApproval", message, f"plan {plans}"),
        }
    )
    new = not is_true(status.conditions, "AwaitingApproval")
    call = (Tell("AwaitingApproval", message, warning=True),) if new else ()
    wake_at = now + view.timing.scaled(timedelta(seconds=30))
    return RunDecision(status=within_bounds(at_step(awaiting)), effects=(*effects, *call), wake_at=wake_at)


def _catching_up(
    view: RunView,
    status: IncidentRunStatus,
    round_: Round,
    fixes: Mapping[str, FixResult],
    now: datetime,
) -> datetime | None:
    """Return when to look again, if all that is missing comes with time; None when waiting is of no use."""
    started = status.started_at or now
    if view.observe_only or now >= started + view.timing.scaled(CATCH_UP):
        return None
    retries = [r.retry_at for r in round_.checks.values() if r.retry_at is not None]
    asks = [f.plan.spec.ask_because for f in fixes.values() if f.plan is not None]
    if not retries or not any(set(a) == {"ActorUnknown"} for a in asks):
        return None
    soonest = now + view.timing.scaled(LOOK_AGAIN)
    return max(soonest, earliest(*retries) or soonest)


def _not_yet(
    view: RunView, status: IncidentRunStatus, fixes: Mapping[str, FixResult], now: datetime
) -> RunDecision | None:
    """Diagnose again while time alone may make a fix fit: one that fits in a minute must not be missed by a minute."""
    until = (status.started_at or now) + view.timing.scaled(CATCH_UP)
    first = next((f for f in fixes.values() if f.for_now and f.name not in status.skipped), None)
    if first is None or view.observe_only or now >= until:
        return None
    waits = Now(
        doing=f"diagnosing again: fix {first.name} does not fit yet",
        waiting_for=first.reason,
        because=first.message[:1024],
        until=until,
        next=(command(view.run, "watch"),),
    )
    return _diagnose_again(status, waits, min(now + view.timing.scaled(LOOK_AGAIN), until))


def _diagnose_again(status: IncidentRunStatus, waits: Now, wake_at: datetime) -> RunDecision:
    """End this round; the next one is a diagnosis like it."""
    waiting = status.model_copy(update={"phase": RunPhase.DIAGNOSING, "now": waits})
    return RunDecision(status=within_bounds(at_step(waiting)), effects=(EndRound(),), wake_at=wake_at)


def _unreachable(
    view: RunView, status: IncidentRunStatus, unclear: Sequence[CheckStatus], now: datetime
) -> RunDecision | None:
    """Diagnose again while what checks ask does not answer: an outage of a minute must not end a run.

    The condition Diagnosed is Unknown meanwhile, and remembers since when.
    """
    silent = next((c for c in unclear if c.state == CheckState.ERROR and c.reason in PASSING_ERRORS), None)
    if silent is None:
        return None
    before = next((c for c in view.run.status.conditions if c.type == "Diagnosed" and c.status == "Unknown"), None)
    since = before.last_transition_time if before is not None else now
    if now >= since + PATIENCE:
        return None
    message = f"check {silent.name} gave no answer ({silent.reason}): {silent.message}"
    generation, retry = view.run.metadata.generation, now + view.timing.scaled(RETRY_SILENT)
    conditions = with_condition(
        view.run.status.conditions, "Diagnosed", None, str(silent.reason), message, now, generation
    )
    waits = Now(
        doing="diagnosing again: what is asked does not answer",
        waiting_for=silent.reason,
        because=message[:1024],
        until=since + PATIENCE,
        next=(command(view.run, "watch"),),
    )
    return _diagnose_again(status.model_copy(update={"conditions": conditions}), waits, retry)


def _why_unresolved(
    view: RunView, problems: list[Finding], unclear: list[CheckStatus], fixes: Mapping[str, FixResult]
) -> tuple[str, str]:
    planned = [f for f in fixes.values() if f.plan is not None]
    if view.observe_only:
        return "ObserveOnly", "observed only, as the run asks (askUpTo: None or drill); nothing was changed"
    rejected = [p for p in view.plans if p.status.state == PlanState.REJECTED]
    if rejected:
        return "NotPermitted", f"{rejected[-1].spec.title}: {rejected[-1].status.message}"
    bad = stopped(view)
    if bad:
        return "FixesExhausted", f"{bad[0].spec.title}: {bad[0].status.state}: {bad[0].status.message}"
    blocked = [f for f in planned if f.gates]
    if blocked:
        return "NotPermitted", f"{blocked[0].name}: {blocked[0].gates[0].message}"
    if any(p.status.state == PlanState.NO_EFFECT for p in view.plans):
        return "FixesExhausted", "every fix that applies was tried"
    if view.run.status.skipped and planned:
        return "FixesExhausted", f"every fix that applies was tried or left out ({', '.join(view.run.status.skipped)})"
    if not problems and unclear:
        first = unclear[0]
        return "DiagnosisIncomplete", f"check {first.name} gave no answer ({first.reason}): {first.message}"
    declined = next((f for f in fixes.values() if f.state == FixState.NOT_APPLICABLE), None)
    tail = f"; {declined.name}: {declined.message}" if declined else ""
    return "NoFixApplies", f"no fix of this runbook fits what was found{tail}"


def hand_over(
    view: RunView, status: IncidentRunStatus, plan: RemediationPlan, now: datetime, effects: tuple[RunEffect, ...]
) -> RunDecision:
    """Give the baton to a plan (R3); from here the plan controller acts. First the run is protected from deletion."""
    run = view.run
    if FINALIZER not in run.metadata.finalizers:
        return RunDecision(status=run.status, effects=(Protect(),), wake_at=now)
    who = sorted({a.responder for a in plan.status.approvals})
    by = f" (agreed: {', '.join(who)})" if who else ""
    conditions = status.conditions
    if is_true(conditions, "AwaitingApproval"):
        message = f"{plan.spec.title}{by}"
        conditions = with_condition(
            conditions, "AwaitingApproval", False, "Approved", message, now, run.metadata.generation
        )
    chosen = status.model_copy(
        update={
            "phase": RunPhase.REMEDIATING,
            "active_plan": plan.metadata.name,
            "awaiting_since": None,
            "conditions": conditions,
            "now": applying(run, plan),
            "timeline": told(status.timeline, now, "Applying", plan.spec.title + by, f"plan {plan.metadata.name}"),
        }
    )
    told_people = Tell("Applying", plan.spec.title + by)
    return RunDecision(status=within_bounds(at_step(chosen)), effects=(*effects, told_people))


def _plans_to_read(view: RunView, fixes: Mapping[str, FixResult]) -> tuple[str, ...]:
    watch = command(view.run, "watch")
    return (command(view.run, "plan"), watch) if any(f.plan is not None for f in fixes.values()) else (watch,)


def is_anything_open(view: RunView) -> bool:
    """Tell whether any plan can still be agreed to."""
    return any(p.status.state in OPEN_STATES for p in view.plans)
