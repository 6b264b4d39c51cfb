"""Decide for a run: accept, diagnose, choose the next fix, wait for recovery, end.

The run is the story; the plan is the only truth about execution (decision 4). A *round* is one diagnosis in this
process: the checks' answers, then what the fixes propose. It lives in memory, is read-only for this module and is
simply made again after a restart, since reading is free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ..api.meta import Risk, Severity
from ..api.plan import GateVerdict, PlanState, RemediationPlan
from ..api.run import (
    Baseline,
    CheckState,
    CheckStatus,
    Finding,
    FixState,
    FixStatus,
    Impact,
    IncidentRun,
    IncidentRunStatus,
    Now,
    RecoveryStatus,
    Resolution,
    RootCause,
    RunbookPin,
    RunPhase,
    StepStatus,
)
from ..api.runbook import FindingKind, IfNoHelp, RunbookSpec
from .conditions import with_condition
from .plan import TERMINAL
from .redact import redact
from .schedule import Timing, earliest
from .story import told, told_anew, within_bounds

START_DEADLINE = timedelta(hours=1)
STABLE_FOR = timedelta(minutes=5)
STABLE_FOR_SEVERE = timedelta(minutes=10)
RECOVERY_WITHIN = timedelta(minutes=15)
RECOVERY_EVERY = timedelta(seconds=30)
MIN_SAMPLES = 5
MAX_SUPERSEDED = 3
#: How long a diagnosis waits for what catches up with time (CloudTrail).
CATCH_UP = timedelta(minutes=15)

ENDS = frozenset(
    {
        RunPhase.RESOLVED,
        RunPhase.NOTHING_FOUND,
        RunPhase.UNRESOLVED,
        RunPhase.CANCELLED,
        RunPhase.EXPIRED,
        RunPhase.FAILED,
    }
)
_STOPPED = frozenset({PlanState.INCONCLUSIVE, PlanState.UNKNOWN, PlanState.UNDO_BLOCKED})
_HARMED = frozenset({PlanState.WORSE, PlanState.REVERTED})


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check's answer and what it found."""

    status: CheckStatus
    findings: tuple[Finding, ...] = ()
    #: When the same look could say more (CloudTrail catches up).
    retry_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FixResult:
    """What a fix proposes: a plan to store, or why not. `gates` are those that close it now."""

    name: str
    plan: RemediationPlan | None = None
    state: FixState = FixState.NOT_NEEDED
    reason: str | None = None
    message: str = ""
    gates: tuple[GateVerdict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Round:
    """One diagnosis under way. Full asks every check and every fix; Recovery only what recovery rests on."""

    kind: Literal["Full", "Recovery"]
    started_at: datetime
    checks: Mapping[str, CheckResult] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    planning: bool = False
    fixes: Mapping[str, FixResult] | None = None
    impact: Impact | None = None
    stored: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a run can't be accepted (yet)."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class RunView:
    """All that the decision may know.

    Shape: `runbook` and `revision` are None with a `refusal`. `dependencies` has every check of the runbook with the
    checks it reads. `plans` are all plans of this run that are known, in any order.
    """

    run: IncidentRun
    runbook: RunbookSpec | None = None
    revision: str | None = None
    refusal: Refusal | None = None
    dependencies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    plans: tuple[RemediationPlan, ...] = ()
    round: Round | None = None
    timing: Timing = field(default_factory=Timing)
    observe_only: bool = False


@dataclass(frozen=True)
class StartRound:
    """Begin a diagnosis."""

    kind: Literal["Full", "Recovery"]


@dataclass(frozen=True)
class RunChecks:
    """Ask these checks now."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PlanFixes:
    """See which fixes apply to what was found, and plan them."""


@dataclass(frozen=True)
class StorePlans:
    """Create the plans of this round; existing ones of the same name are the same plan."""


@dataclass(frozen=True)
class EndRound:
    """Forget the round: it is in status now."""


@dataclass(frozen=True)
class Tell:
    """Post a Kubernetes Event."""

    reason: str
    message: str
    warning: bool = False


RunEffect = StartRound | RunChecks | PlanFixes | StorePlans | EndRound | Tell


@dataclass(frozen=True, kw_only=True)
class RunDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: IncidentRunStatus
    effects: tuple[RunEffect, ...] = ()
    wake_at: datetime | None = None


def detected_at(run: IncidentRun, now: datetime) -> datetime:
    """Return when the incident was detected: as written, else the object's creation. Source: decision 3."""
    return run.spec.incident.detected_at or run.metadata.creation_timestamp or now


def decide_run(view: RunView, now: datetime) -> RunDecision:
    """Return the next status, effects and wake-up of a run. Total and deterministic; `now` is aware UTC."""
    status = view.run.status
    if status.settled:
        return RunDecision(status=status)
    if status.started_at is None:
        return _accept(view, now)
    # A plan under way comes first: a run that ended without it would leave it to act for a settled run (I7, I8).
    if status.active_plan is not None:
        return _with_baton(view, now)
    if view.runbook is None:
        refusal = view.refusal or Refusal(reason="RevisionLost", message="the pinned revision of the runbook is gone")
        return _end(view, status, RunPhase.FAILED, refusal.reason, refusal.message, now)
    if status.phase == RunPhase.DIAGNOSING or status.diagnosed_at is None:
        return _diagnose(view, now)
    return _wait_for_recovery(view, now)


# --- accept --------------------------------------------------------------------------------------------------------


def _accept(view: RunView, now: datetime) -> RunDecision:
    run, status = view.run, view.run.status
    deadline = detected_at(run, now) + (run.spec.start_deadline or START_DEADLINE)
    base = status.model_copy(
        update={"severity": run.spec.incident.severity, "observed_generation": run.metadata.generation}
    )
    if now >= deadline:
        message = f"not started by {deadline:%Y-%m-%d %H:%M}Z (startDeadline): nothing was read or changed"
        return _end(view, base, RunPhase.EXPIRED, "StartDeadline", message, now)
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
            "now": Now(doing=f"diagnosing: {len(runbook.checks)} checks at once", next=_watch(run)),
            "conditions": with_condition(
                base.conditions, "Accepted", True, "Accepted", f"follows {revision}", now, run.metadata.generation
            ),
            "timeline": told(base.timeline, now, "Started", f"runbook {ref.name}: {runbook.title}"),
        }
    )
    return RunDecision(status=accepted, effects=(Tell("Started", f"diagnosing with runbook {ref.name}"),), wake_at=now)


# --- diagnose ------------------------------------------------------------------------------------------------------


def _diagnose(view: RunView, now: datetime) -> RunDecision:
    """Drive a full round to its end, then store it and choose what follows."""
    status, round_ = view.run.status, view.round
    if round_ is None or round_.kind != "Full":
        return RunDecision(status=status, effects=(StartRound("Full"),))
    ready = _ready_checks(view, round_)
    if ready:
        return RunDecision(status=_partly(view, round_, now), effects=(RunChecks(ready),))
    if round_.running:
        return RunDecision(status=_partly(view, round_, now))
    if round_.fixes is None:
        return RunDecision(status=status, effects=() if round_.planning else (PlanFixes(),))
    if any(fix.plan is not None for fix in round_.fixes.values()) and not round_.stored:
        return RunDecision(status=status, effects=(StorePlans(),))
    return _diagnosed(view, round_, now)


def _ready_checks(view: RunView, round_: Round) -> tuple[str, ...]:
    """Return the checks whose inputs are known and that nobody asked yet, in the document's order."""
    wanted = _wanted(view, round_.kind)
    return tuple(
        name
        for name in wanted
        if name not in round_.checks
        and name not in round_.running
        and all(dep in round_.checks for dep in view.dependencies.get(name, frozenset()))
    )


def _wanted(view: RunView, kind: str) -> tuple[str, ...]:
    runbook = view.runbook
    assert runbook is not None  # noqa: S101  (callers have it)
    if kind == "Full":
        return tuple(c.name for c in runbook.checks)
    needed, todo = set[str](), list(runbook.recovery.checks)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(view.dependencies.get(name, frozenset()))
    return tuple(c.name for c in runbook.checks if c.name in needed)


def _partly(view: RunView, round_: Round, now: datetime) -> IncidentRunStatus:
    """Return the status with what is found so far, at most once a second; unchanged in between."""
    status = view.run.status
    last = status.timeline[-1].at if status.timeline else None
    found = _findings(view, round_)
    known = {(f.reason, f.subject) for f in status.findings}
    news = [f for f in found if f.kind == FindingKind.PROBLEM and (f.reason, f.subject) not in known]
    if not news or (last is not None and now - last < timedelta(seconds=1)):
        return status
    timeline = status.timeline
    for finding in news:
        timeline = told(timeline, now, finding.reason, finding.message, f"check {finding.check}")
    return status.model_copy(update={"findings": found, "timeline": timeline})


def _findings(view: RunView, round_: Round) -> tuple[Finding, ...]:
    names = [c.name for c in view.runbook.checks] if view.runbook else []
    found = [f for name in names if name in round_.checks for f in round_.checks[name].findings]
    return tuple(found[:48])


def _recovery_of(view: RunView, round_: Round) -> Literal["Passing", "Failing", "Unknown"]:
    """Return what users feel now: Failing beats Unknown beats Passing."""
    assert view.runbook is not None  # noqa: S101  (callers have it)
    states = [round_.checks[name].status.state for name in view.runbook.recovery.checks if name in round_.checks]
    if CheckState.FAILED in states:
        return "Failing"
    if not states or any(s != CheckState.PASSED for s in states):
        return "Unknown"
    return "Passing"


def _baseline(view: RunView, recovery: Literal["Passing", "Failing", "Unknown"], now: datetime) -> Baseline:
    """Return how users were before anything was touched: the latest answer until the first call, frozen from then."""
    known = view.run.status.baseline
    touched = any(p.status.started_at is not None for p in view.plans)
    if known is None or (known.state != recovery != "Unknown" and not touched):
        return Baseline(state=recovery, at=now)
    return known


def _diagnosed(view: RunView, round_: Round, now: datetime) -> RunDecision:
    """Store the round (R2) and choose what follows in the next decision."""
    run, status = view.run, view.run.status
    fixes = round_.fixes or {}
    findings = _findings(view, round_)
    recovery = _recovery_of(view, round_)
    baseline = _baseline(view, recovery, now)
    cause = _root_cause(findings) or status.root_cause
    timeline = status.timeline
    known = {(f.reason, f.subject) for f in status.findings}
    for finding in findings:
        if finding.kind == FindingKind.PROBLEM and (finding.reason, finding.subject) not in known:
            timeline = told(timeline, now, finding.reason, finding.message, f"check {finding.check}")
    problems = sum(f.kind == FindingKind.PROBLEM for f in findings)
    summary = f"{problems} problem{'s' if problems != 1 else ''} found by {len(round_.checks)} checks"
    blamed = f"; probable cause: {cause.summary}" if cause and problems else ""
    timeline = told_anew(timeline, now, "Diagnosed", summary + blamed)
    plans = [f for f in fixes.values() if f.plan is not None]
    for fix in plans:
        assert fix.plan is not None  # noqa: S101  (filtered above)
        gate = f" (not by itself: {fix.gates[0].message})" if fix.gates else ""
        timeline = told_anew(timeline, now, "Planned", fix.plan.spec.title + gate, f"plan {fix.plan.metadata.name}")
    diagnosed = status.model_copy(
        update={
            "diagnosis": status.diagnosis + 1,
            "diagnosed_at": now,
            "phase": RunPhase.VERIFYING,
            "steps": _with_fixes(_with_checks(status.steps, round_), fixes),
            "findings": findings,
            "root_cause": cause,
            "impact": _worst(status.impact, round_.impact),
            "baseline": baseline,
            "recovery": _sampled(view, status.recovery, recovery, now),
            "timeline": timeline,
            "conditions": with_condition(
                status.conditions, "Diagnosed", True, "Diagnosed", summary, now, run.metadata.generation
            ),
        }
    )
    return _choose(view, diagnosed, fixes, round_, recovery, now)


def _choose(
    view: RunView,
    status: IncidentRunStatus,
    fixes: Mapping[str, FixResult],
    round_: Round,
    recovery: Literal["Passing", "Failing", "Unknown"],
    now: datetime,
) -> RunDecision:
    """Choose what follows a diagnosis: end well, apply the next fix, wait, or end and escalate."""
    helped = any(p.status.state == PlanState.HELPED for p in view.plans)
    problems = [f for f in status.findings if f.kind == FindingKind.PROBLEM]
    unclear = [
        r.status for r in round_.checks.values() if r.status.state in (CheckState.ERROR, CheckState.INCONCLUSIVE)
    ]
    tell = (Tell("Diagnosed", status.root_cause.summary if status.root_cause else "no cause found"),)
    done = (*tell, EndRound())
    if not problems and not unclear and recovery == "Passing" and not helped and not view.plans:
        return _end(view, status, RunPhase.NOTHING_FOUND, "NothingFound", "every check passed, users are well", now)
    open_fix = _next_fix(view, fixes)
    if open_fix is not None and open_fix.plan is not None and recovery != "Passing":
        return _hand_over(view, status, open_fix.plan, now, done)
    if recovery == "Passing":
        return RunDecision(status=_waiting_stable(view, status, now), effects=done, wake_at=_next_sample(view, now))
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
                    next=_plans_to_read(view.run, fixes),
                ),
            }
        )
        return RunDecision(status=waiting, effects=(EndRound(),), wake_at=retry)
    if helped or any(p.status.state in _STOPPED for p in view.plans):
        return RunDecision(status=_waiting_stable(view, status, now), effects=done, wake_at=_next_sample(view, now))
    reason, message = _why_unresolved(view, problems, unclear, fixes)
    return _end(view, status, RunPhase.UNRESOLVED, reason, message, now)


def _next_fix(view: RunView, fixes: Mapping[str, FixResult]) -> FixResult | None:
    """Return the first fix, in the document's order, that the machine may apply now."""
    if view.observe_only or view.runbook is None or any(p.status.state in _STOPPED | _HARMED for p in view.plans):
        return None
    tried = [p for p in view.plans if p.status.settled or p.status.state in TERMINAL]
    for fix in view.runbook.fixes:
        result = fixes.get(fix.name)
        if result is None or result.plan is None or result.gates:
            continue
        mine = [p for p in tried if p.spec.fix == fix.name]
        past = [p.status.state for p in mine]
        # What helped may be needed again for a cause that shows only now, but never the same change twice.
        helped = {p.spec.hash for p in mine if p.status.state == PlanState.HELPED}
        if PlanState.NO_EFFECT in past or result.plan.spec.hash in helped:
            continue
        if past.count(PlanState.SUPERSEDED) >= MAX_SUPERSEDED:
            continue
        return result
    return None


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
    soonest = now + view.timing.scaled(timedelta(seconds=30))
    return max(soonest, earliest(*retries) or soonest)


def _why_unresolved(
    view: RunView, problems: list[Finding], unclear: list[CheckStatus], fixes: Mapping[str, FixResult]
) -> tuple[str, str]:
    planned = [f for f in fixes.values() if f.plan is not None]
    if view.observe_only:
        return "ObserveOnly", "observed only, as the run asks (askUpTo: None or drill); nothing was changed"
    stopped = [p for p in view.plans if p.status.state in _STOPPED | _HARMED]
    if stopped:
        return "FixesExhausted", f"{stopped[0].spec.title}: {stopped[0].status.state}: {stopped[0].status.message}"
    blocked = [f for f in planned if f.gates]
    if blocked:
        return "NotPermitted", f"{blocked[0].name}: {blocked[0].gates[0].message}"
    if any(p.status.state == PlanState.NO_EFFECT for p in view.plans):
        return "FixesExhausted", "every fix that applies was tried"
    if not problems and unclear:
        first = unclear[0]
        return "DiagnosisIncomplete", f"check {first.name} gave no answer ({first.reason}): {first.message}"
    declined = next((f for f in fixes.values() if f.state == FixState.NOT_APPLICABLE), None)
    tail = f"; {declined.name}: {declined.message}" if declined else ""
    return "NoFixApplies", f"no fix of this runbook fits what was found{tail}"


def _hand_over(
    view: RunView, status: IncidentRunStatus, plan: RemediationPlan, now: datetime, effects: tuple[RunEffect, ...]
) -> RunDecision:
    """Give the baton to a plan (R3); from here the plan controller acts."""
    run = view.run
    chosen = status.model_copy(
        update={
            "phase": RunPhase.REMEDIATING,
            "active_plan": plan.metadata.name,
            "now": Now(
                doing=f"applying: {plan.spec.title}",
                waiting_for=plan.metadata.name,
                next=(f"kubectl incident plan -n {run.metadata.namespace} {run.metadata.name}", *_watch(run)),
            ),
            "timeline": told(status.timeline, now, "Applying", plan.spec.title, f"plan {plan.metadata.name}"),
        }
    )
    return RunDecision(
        status=within_bounds(_at_step(view, chosen)), effects=(*effects, Tell("Applying", plan.spec.title))
    )


# --- while a plan has the baton ------------------------------------------------------------------------------------


def _with_baton(view: RunView, now: datetime) -> RunDecision:
    status = view.run.status
    plan = next((p for p in view.plans if p.metadata.name == status.active_plan), None)
    if plan is None:
        message = f"plan {status.active_plan} was deleted while it was applied: what it did can't be told"
        return _end(view, status, RunPhase.UNRESOLVED, "FixInconclusive", message, now)
    state = plan.status.state
    if state == PlanState.VERIFYING and status.phase != RunPhase.VERIFYING:
        verifying = status.model_copy(
            update={
                "phase": RunPhase.VERIFYING,
                "steps": _with_plan(status.steps, plan),
                "now": Now(
                    doing=f"verifying: {plan.spec.verify.signal}",
                    waiting_for="verification",
                    until=plan.status.verify_deadline,
                    next=_watch(view.run),
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
            "steps": _with_plan(status.steps, plan),
            "recovery": recovery.model_copy(update={"helped_at": now}) if helped else recovery,
            "timeline": told(
                status.timeline,
                now,
                str(state),
                f"{plan.spec.title}: {plan.status.message or state}",
                f"plan {plan.metadata.name}",
            ),
            "now": Now(doing="looking at everything again after the fix", next=_watch(view.run)),
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
    if state == PlanState.NO_EFFECT and fix is not None and fix.if_no_help in (IfNoHelp.STOP, IfNoHelp.ASK):
        message = f"{plan.spec.title} had no effect, and the runbook says {fix.if_no_help}"
        return _end(view, ended, RunPhase.UNRESOLVED, "FixesExhausted", message, now)
    return RunDecision(status=ended, effects=(EndRound(), told_people), wake_at=now)


# --- recovery ------------------------------------------------------------------------------------------------------


def stable_for(view: RunView) -> timedelta:
    """Return how long recovery must hold: the runbook's, at least 10 m on P0 and P1. Source: decision 10."""
    wanted = (view.runbook.recovery.stable_for if view.runbook else None) or STABLE_FOR
    severe = view.run.spec.incident.severity in (Severity.P0, Severity.P1)
    return view.timing.scaled(max(wanted, STABLE_FOR_SEVERE) if severe else wanted)


def _within(view: RunView) -> timedelta:
    return view.timing.scaled((view.runbook.recovery.within if view.runbook else None) or RECOVERY_WITHIN)


def _next_sample(view: RunView, now: datetime) -> datetime:
    return now + min(view.timing.scaled(RECOVERY_EVERY), stable_for(view) / MIN_SAMPLES)


def _sampled(
    view: RunView, recovery: RecoveryStatus | None, state: Literal["Passing", "Failing", "Unknown"], now: datetime
) -> RecoveryStatus:
    """Return the stability clock after one sample: Failed resets it, Unknown neither counts nor resets."""
    recovery = recovery or RecoveryStatus()
    if state == "Failing":
        return recovery.model_copy(update={"state": state, "last_checked_at": now, "passing_since": None, "samples": 0})
    if state == "Unknown":
        return recovery.model_copy(update={"state": state, "last_checked_at": now})
    return recovery.model_copy(
        update={
            "state": state,
            "last_checked_at": now,
            "passing_since": recovery.passing_since or now,
            "samples": recovery.samples + 1,
        }
    )


def _waiting_stable(view: RunView, status: IncidentRunStatus, now: datetime) -> IncidentRunStatus:
    recovery = status.recovery or RecoveryStatus()
    since = recovery.passing_since
    until = since + stable_for(view) if since else (recovery.helped_at or now) + _within(view)
    return within_bounds(
        _at_step(
            view,
            status.model_copy(
                update={
                    "phase": RunPhase.VERIFYING,
                    "now": Now(
                        doing="users are well again: watching that it stays so" if since else "waiting for recovery",
                        waiting_for="stability" if since else "recovery",
                        until=until,
                        next=_watch(view.run),
                    ),
                }
            ),
        )
    )


def _wait_for_recovery(view: RunView, now: datetime) -> RunDecision:
    """Sample recovery until it is stable, breaks again, or takes too long."""
    status, round_ = view.run.status, view.round
    recovery = status.recovery or RecoveryStatus()
    since = recovery.passing_since
    if since is not None and recovery.samples >= MIN_SAMPLES and now - since >= stable_for(view):
        return _resolved(view, now)
    due = recovery.last_checked_at + (_next_sample(view, now) - now) if recovery.last_checked_at else now
    if round_ is None or round_.kind != "Recovery":
        if now < due:
            return RunDecision(status=status, wake_at=due)
        return RunDecision(status=status, effects=(StartRound("Recovery"),))
    ready = _ready_checks(view, round_)
    if ready or round_.running:
        return RunDecision(status=status, effects=(RunChecks(ready),) if ready else ())
    state = _recovery_of(view, round_)
    sampled = status.model_copy(
        update={
            "recovery": _sampled(view, recovery, state, now),
            "steps": _with_checks(status.steps, round_),
        }
    )
    if state == "Failing" and since is not None:
        again = sampled.model_copy(
            update={
                "phase": RunPhase.DIAGNOSING,
                "timeline": told(status.timeline, now, "RecoveryLost", "users are failing again: diagnosing anew"),
                "now": Now(doing="diagnosing again: recovery did not last", next=_watch(view.run)),
            }
        )
        return RunDecision(status=again, effects=(EndRound(),), wake_at=now)
    gave_up_at = (recovery.helped_at or status.diagnosed_at or now) + _within(view)
    if state != "Passing" and recovery.passing_since is None and now >= gave_up_at:
        stopped = next((p for p in view.plans if p.status.state in _STOPPED), None)
        if stopped is not None:
            message = f"{stopped.spec.title}: {stopped.status.message}"
            return _end(view, sampled, RunPhase.UNRESOLVED, "FixInconclusive", message, now)
        message = "users are not well again in time: look at the recovery checks"
        return _end(view, sampled, RunPhase.UNRESOLVED, "RecoveryNotReached", message, now)
    waiting = _waiting_stable(view, sampled, now)
    return RunDecision(status=waiting, effects=(EndRound(),), wake_at=_next_sample(view, now))


def _resolved(view: RunView, now: datetime) -> RunDecision:
    helped = [p for p in view.plans if p.status.state == PlanState.HELPED]
    resolution = Resolution.RUNBOOK if helped else Resolution.SELF_RECOVERED
    message = (
        "; ".join(p.spec.title for p in helped) if helped else "the service recovered without a change by the operator"
    )
    status = view.run.status.model_copy(update={"resolution": resolution})
    return _end(view, status, RunPhase.RESOLVED, str(resolution), message, now)


# --- ends and details ----------------------------------------------------------------------------------------------


def _end(
    view: RunView, status: IncidentRunStatus, phase: RunPhase, reason: str, message: str, now: datetime
) -> RunDecision:
    """Store the end (R6): `settled` takes the run out of every watch with the same write."""
    run = view.run
    resolved = phase in (RunPhase.RESOLVED, RunPhase.NOTHING_FOUND)
    generation = run.metadata.generation
    conditions = with_condition(
        status.conditions, "Resolved", phase == RunPhase.RESOLVED, reason, message, now, generation
    )
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
                next=(
                    f"kubectl describe irun -n {run.metadata.namespace} {run.metadata.name}",
                    f"kubectl incident plan -n {run.metadata.namespace} {run.metadata.name}",
                )
                if not resolved
                else (),
            ),
        }
    )
    return RunDecision(
        status=within_bounds(_at_step(view, ended)),
        effects=(EndRound(), Tell(str(phase), f"{reason}: {message}", warning=not resolved)),
    )


def _changed(before: IncidentRunStatus, after: IncidentRunStatus) -> bool:
    strip = {"last_transition_time"}
    return [c.model_dump(exclude=strip) for c in before.conditions] != [
        c.model_dump(exclude=strip) for c in after.conditions
    ]


def _root_cause(findings: tuple[Finding, ...]) -> RootCause | None:
    causes = [f for f in findings if f.root_cause and f.kind == FindingKind.PROBLEM]
    if not causes:
        return None
    first = causes[0]
    who = f" (by {first.actor})" if first.actor and first.actor not in first.message else ""
    more = f" (+{len(causes) - 1} more)" if len(causes) > 1 else ""
    return RootCause(
        summary=f"{first.message}{who}{more}"[:1024], reasons=tuple(dict.fromkeys(f.reason for f in causes))[:16]
    )


def _worst(before: Impact | None, now: Impact | None) -> Impact | None:
    """Return what users felt at its worst: looking again after a fix does not make it less."""
    if before is None or now is None:
        return before or now
    return max(before, now, key=lambda impact: impact.percent or 0)


def _with_checks(steps: tuple[StepStatus, ...], round_: Round) -> tuple[StepStatus, ...]:
    return tuple(
        step.model_copy(
            update={
                "checks": tuple(round_.checks[c.name].status if c.name in round_.checks else c for c in step.checks)
            }
        )
        for step in steps
    )


def _with_fixes(steps: tuple[StepStatus, ...], fixes: Mapping[str, FixResult]) -> tuple[StepStatus, ...]:
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


def _with_plan(steps: tuple[StepStatus, ...], plan: RemediationPlan) -> tuple[StepStatus, ...]:
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


def _at_step(view: RunView, status: IncidentRunStatus) -> IncidentRunStatus:
    """Return the status with its step column: the first step with unfinished work. Source: decision 26."""
    finished = {FixState.NOT_NEEDED, FixState.NOT_APPLICABLE, FixState.ERROR, *TERMINAL}
    for step in status.steps:
        if any(c.state in (CheckState.PENDING, CheckState.RUNNING) for c in step.checks) or any(
            f.state not in finished for f in step.fixes
        ):
            return status.model_copy(update={"step": step.title[:128]})
    return status.model_copy(update={"step": status.steps[-1].title[:128] if status.steps else None})


def _watch(run: IncidentRun) -> tuple[str, ...]:
    return (f"kubectl incident watch -n {run.metadata.namespace} {run.metadata.name}",)


def _plans_to_read(run: IncidentRun, fixes: Mapping[str, FixResult]) -> tuple[str, ...]:
    if not any(f.plan is not None for f in fixes.values()):
        return _watch(run)
    return (f"kubectl incident plan -n {run.metadata.namespace} {run.metadata.name}", *_watch(run))


def is_observe_only(run: IncidentRun) -> bool:
    """Tell whether the run may change nothing at all."""
    return run.spec.drill or run.spec.automation.ask_up_to == Risk.NONE


def plan_attempt(plans: tuple[RemediationPlan, ...], fix: str) -> int:
    """Return the number of the next attempt at a fix, or that of its unsettled plan. Source: decision 13."""
    mine = [p for p in plans if p.spec.fix == fix]
    open_ = [p for p in mine if not p.status.settled]
    if open_:
        return max(p.spec.attempt for p in open_)
    return max((p.spec.attempt for p in mine), default=0) + 1


def outputs(checks: Mapping[str, CheckResult]) -> dict[str, Any]:
    """Return what expressions see of the checks: `{name: {output: …}}`."""
    return {name: {"output": result.status.output or {}} for name, result in checks.items()}
