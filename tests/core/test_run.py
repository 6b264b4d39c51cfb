"""The run's decisions: every ending, the baseline, two causes, waits and bounds."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from incident_operator.api.meta import Severity
from incident_operator.api.plan import GateVerdict, PlanState, RemediationPlanStatus
from incident_operator.api.run import (
    Baseline,
    CheckState,
    Finding,
    FixState,
    Paused,
    RunPhase,
    TimelineEntry,
)
from incident_operator.api.runbook import FindingKind
from incident_operator.core.conditions import is_true
from incident_operator.core.run import (
    CheckResult,
    EndRound,
    FixResult,
    PlanFixes,
    Protect,
    Refusal,
    Round,
    RunChecks,
    RunDecision,
    RunView,
    StartRound,
    StorePlans,
    stable_for,
)
from incident_operator.core.schedule import Timing
from incident_operator.core.story import MAX_STATUS_BYTES, size, told, within_bounds
from tests.builders import NOW, a_plan, a_run, a_runbook
from tests.core.runs import (
    GATE,
    RUNBOOK,
    a_round,
    a_sample,
    check,
    decide,
    end_of,
    ended,
    proposed,
    protected,
    recovering,
    started,
    the_plan,
)

# --- accept: decision 6 ---


def test_a_run_that_can_start_is_accepted_and_diagnosed_at_once() -> None:
    """R1: startedAt, revision, steps of the document, severity for the column."""
    decision = decide(a_run())
    status = decision.status
    assert (status.phase, status.started_at, status.severity) == (RunPhase.DIAGNOSING, NOW, Severity.P2)
    assert status.runbook is not None
    assert status.runbook.revision == "rev"
    assert [s.expected_by for s in status.steps] == [NOW + timedelta(minutes=5), NOW + timedelta(minutes=10)]
    assert is_true(status.conditions, "Accepted")
    assert decision.wake_at == NOW


def test_a_wrong_reference_waits_to_be_corrected() -> None:
    """Pending, Accepted=False with the reason, told once, looked at again until the deadline."""
    refusal = Refusal(reason="RunbookNotFound", message="there is no ClusterRunbook 'lamda-failures'")
    first = decide(a_run(), runbook=None, revision=None, refusal=refusal)
    assert first.status.phase == RunPhase.PENDING
    assert first.status.conditions[0].reason == "RunbookNotFound"
    assert not is_true(first.status.conditions, "Accepted")
    assert first.status.now is not None
    assert first.status.now.waiting_for == "RunbookNotFound"
    assert first.wake_at == NOW + timedelta(hours=1)
    assert len(first.effects) == 1
    again = decide(a_run(status=first.status), runbook=None, revision=None, refusal=refusal)
    assert again.status == first.status
    assert again.effects == ()


def test_a_refusal_with_a_credential_is_told_once_without_it() -> None:
    """What is decided equals what is stored redacted: no run is written for ever."""
    refusal = Refusal(reason="ParametersInvalid", message="'postgres://a:hunter2@db' is not one")
    first = decide(a_run(), runbook=None, revision=None, refusal=refusal)
    assert "hunter2" not in str(first.status.wire())
    assert decide(a_run(status=first.status), runbook=None, revision=None, refusal=refusal).effects == ()


@pytest.mark.parametrize("refusal", [None, Refusal(reason="RunbookNotFound", message="none")])
def test_a_run_not_started_in_time_expires(refusal: Refusal | None) -> None:
    """A restored backup or a Git replay repairs nothing, right or wrong."""
    runbook = None if refusal else RUNBOOK
    decision = decide(a_run(), now=NOW + timedelta(hours=1), refusal=refusal, runbook=runbook)
    assert end_of(decision) == (RunPhase.EXPIRED, "StartDeadline")
    assert decision.status.started_at is None


def test_the_start_deadline_counts_from_detection() -> None:
    """A written detectedAt counts, not the moment the manifest was applied."""
    run = a_run(incident={"title": "t", "detectedAt": NOW - timedelta(hours=2)})
    assert end_of(decide(run)) == (RunPhase.EXPIRED, "StartDeadline")


def test_failed_exists_only_after_the_start() -> None:
    """A lost revision ends a started run; it never ends one that waits."""
    lost = Refusal(reason="RevisionLost", message="gone")
    gone: dict[str, Any] = {"runbook": None, "revision": None, "refusal": lost}
    assert end_of(decide(started(), **gone)) == (RunPhase.FAILED, "RevisionLost")
    assert not decide(a_run(), **gone).status.settled


def test_a_lost_revision_does_not_end_a_run_over_its_plan() -> None:
    """I7, I8: the plan under way is waited for, else it would act for a settled run."""
    plan = the_plan(status=RemediationPlanStatus(state=PlanState.APPLYING))
    run = started(active_plan=plan.metadata.name, phase=RunPhase.REMEDIATING)
    assert not decide(run, runbook=None, revision=None, plans=(plan,)).status.settled


# --- diagnose ---


def test_checks_start_as_soon_as_what_they_read_is_known() -> None:
    """A check that reads another one's output waits for it, and for nothing else."""
    run = started()
    assert decide(run).effects == (StartRound("Full"),)
    empty = Round(kind="Full", started_at=NOW)
    assert decide(run, empty).effects == (RunChecks(("users",)),)
    answered = a_round(checks={"users": check("users", CheckState.PASSED)}, fixes=None)
    assert decide(run, answered).effects == (RunChecks(("access",)),)
    assert decide(run, a_round(fixes=None)).effects == (PlanFixes(),)
    assert decide(run, a_round(fixes=None, planning=True)).effects == ()


def test_plans_are_stored_before_the_run_speaks_of_them() -> None:
    """The plans exist before R2 refers to them."""
    round_ = a_round(fixes={"restoreAccess": proposed()}, stored=False)
    decision = decide(started(), round_)
    assert decision.effects == (StorePlans(),)
    assert decision.status.diagnosed_at is None


@pytest.mark.parametrize(("after", "written"), [(0.5, False), (1.0, True)])
def test_findings_appear_while_diagnosing_at_most_once_a_second(after: float, written: bool) -> None:
    """Partial findings are written, but not faster than people read."""
    run = started()
    round_ = Round(
        kind="Full",
        started_at=NOW,
        checks={"users": check("users", CheckState.FAILED)},
        running=frozenset({"access"}),
    )
    status = decide(run, round_, NOW + timedelta(seconds=after)).status
    assert (status != run.status) == written
    assert bool(status.findings) == written


# --- baseline: decision 9 ---


@pytest.mark.parametrize(
    ("users", "state"),
    [
        (CheckState.PASSED, "Passing"),
        (CheckState.FAILED, "Failing"),
        (CheckState.ERROR, "Unknown"),
        (CheckState.INCONCLUSIVE, "Unknown"),
    ],
)
def test_the_baseline_is_what_users_felt_first(users: CheckState, state: str) -> None:
    """Only recovery checks speak for users."""
    baseline = decide(started(), a_round(users, CheckState.FAILED)).status.baseline
    assert baseline is not None
    assert baseline.state == state


def test_the_baseline_is_frozen_by_the_first_call() -> None:
    """A later diagnosis does not rewrite what was before anything was touched."""
    first = Baseline(state="Failing", at=NOW)
    touched = a_plan(status=RemediationPlanStatus(state=PlanState.HELPED, started_at=NOW, settled=True))
    later = decide(started(baseline=first), a_round(CheckState.PASSED), NOW + timedelta(minutes=9), plans=(touched,))
    assert later.status.baseline == first


def test_users_who_fail_later_are_no_longer_well() -> None:
    """Until the first call the baseline is how users are now; what could not be measured rewrites nothing."""
    first, later = Baseline(state="Passing", at=NOW), NOW + timedelta(minutes=9)
    failing = decide(started(baseline=first), a_round(CheckState.FAILED), later).status.baseline
    assert failing == Baseline(state="Failing", at=later)
    assert decide(started(baseline=first), a_round(CheckState.INCONCLUSIVE), later).status.baseline == first


def test_while_users_are_well_no_fix_applies_itself() -> None:
    """Baseline passing: a problem is found, nothing is changed, stability decides."""
    decision = decide(started(), a_round(CheckState.PASSED, fixes={"restoreAccess": proposed()}))
    assert decision.status.active_plan is None
    assert decision.status.phase == RunPhase.VERIFYING
    assert decision.status.now is not None
    assert decision.status.now.waiting_for == "stability"


# --- the baton; two causes: decision 10 ---


def test_the_first_open_fix_in_the_documents_order_gets_the_baton() -> None:
    """A blocked fix is passed over, an open one applied."""
    fixes = {"rollback": proposed("rollback"), "restoreAccess": proposed()}
    assert decide(started(), a_round(fixes=fixes)).effects == (Protect(),)
    first = decide(protected(started()), a_round(fixes=fixes))
    assert first.status.active_plan == "run-restoreaccess-1-00000000"
    assert first.status.phase == RunPhase.REMEDIATING
    assert EndRound() in first.effects
    blocked = {**fixes, "restoreAccess": proposed(gates=(GATE,))}
    decision = decide(protected(started()), a_round(fixes=blocked))
    assert decision.status.active_plan == "run-rollback-1-00000000"
    states = {f.name: f.state for s in decision.status.steps for f in s.fixes}
    assert states == {"restoreAccess": FixState.BLOCKED, "rollback": PlanState.PROPOSED}


def test_after_a_fix_that_helped_everything_is_looked_at_again() -> None:
    """Helped is the fix's own signal, not recovery."""
    plan = ended(PlanState.HELPED)
    run = started(active_plan=plan.metadata.name, phase=RunPhase.VERIFYING, diagnosed_at=NOW)
    decision = decide(run, plans=(plan,))
    assert (decision.status.phase, decision.status.active_plan) == (RunPhase.DIAGNOSING, None)
    assert decision.status.recovery is not None
    assert decision.status.recovery.helped_at == NOW
    assert is_true(decision.status.conditions, "Mitigated")
    assert decision.wake_at == NOW


def test_the_second_cause_is_fixed_without_waiting_for_stability() -> None:
    """Recovery failed and another fix applies: it starts now."""
    round_ = a_round(fixes={"rollback": proposed("rollback")})
    decision = decide(protected(started(diagnosis=1)), round_, plans=(ended(PlanState.HELPED),))
    assert decision.status.active_plan == "run-rollback-1-00000000"


def test_a_fix_that_helped_is_not_applied_again() -> None:
    """The same finding after Helped is for people, not for another round of the same."""
    round_ = a_round(fixes={"restoreAccess": proposed()})
    decision = decide(started(diagnosis=1), round_, plans=(ended(PlanState.HELPED),))
    assert decision.status.active_plan is None
    assert not decision.status.settled


@pytest.mark.parametrize("state", [PlanState.APPLYING, PlanState.REVERTING])
def test_a_plan_under_way_is_waited_for(state: PlanState) -> None:
    """The plan is the only truth about execution."""
    plan = the_plan(status=RemediationPlanStatus(state=state))
    run = started(active_plan=plan.metadata.name, phase=RunPhase.REMEDIATING)
    assert decide(run, plans=(plan,)) == RunDecision(status=run.status)


def test_a_plan_that_waits_for_another_says_for_whom_once_and_then_goes_on() -> None:
    """Two incidents on one resource: the second look writes nothing, and what is over is not told any more."""
    locked = GateVerdict(name="ResourceLocked", message="arn:x is being changed by plan team/other")
    waiting = the_plan(status=RemediationPlanStatus(state=PlanState.APPROVED, gates=(locked,)))
    run = started(active_plan=waiting.metadata.name, phase=RunPhase.REMEDIATING)
    first = decide(run, plans=(waiting,))
    assert first.status.now is not None
    assert (first.status.now.waiting_for, first.status.now.because) == ("ResourceLocked", locked.message)
    (mitigated,) = [c for c in first.status.conditions if c.type == "Mitigated"]
    assert (mitigated.status, mitigated.reason, mitigated.message) == ("False", "ResourceLocked", locked.message)
    assert first.status.timeline[-1].reason == "ResourceLocked"
    again = run.model_copy(update={"status": first.status})
    assert decide(again, plans=(waiting,)) == RunDecision(status=first.status)
    begun = the_plan(status=RemediationPlanStatus(state=PlanState.APPLYING))
    on = decide(again, plans=(begun,)).status
    assert on.now is not None
    assert on.now.waiting_for == begun.metadata.name
    assert [c.reason for c in on.conditions if c.type == "Mitigated"] == ["Applying"]
    assert decide(run.model_copy(update={"status": on}), plans=(begun,)) == RunDecision(status=on)


def test_a_paused_run_says_so_whatever_its_plan_waits_for() -> None:
    """Who paused it is more than whose lock it is."""
    locked = GateVerdict(name="ResourceLocked", message="arn:x is being changed by plan team/other")
    waiting = the_plan(status=RemediationPlanStatus(state=PlanState.APPROVED, gates=(locked,)))
    paused = Paused(by="bob", at=NOW)
    run = started(active_plan=waiting.metadata.name, phase=RunPhase.REMEDIATING, paused=paused)
    assert decide(run, plans=(waiting,)) == RunDecision(status=run.status)


def test_verifying_is_shown_once() -> None:
    """R4: the run says that the calls are made; the second look writes nothing."""
    plan = the_plan(status=RemediationPlanStatus(state=PlanState.VERIFYING))
    run = started(active_plan=plan.metadata.name, phase=RunPhase.REMEDIATING)
    first = decide(run, plans=(plan,))
    assert first.status.phase == RunPhase.VERIFYING
    again = run.model_copy(update={"status": first.status})
    assert decide(again, plans=(plan,)) == RunDecision(status=first.status)


# --- NoEffect: decision 11 ---


@pytest.mark.parametrize(("if_no_help", "ends"), [("Next", False), ("Ask", False), ("Stop", True)])
def test_no_effect_goes_on_as_the_runbook_says(if_no_help: str, ends: bool) -> None:
    """Next tries the next fix, Ask lets a person say so, Stop ends."""
    steps = RUNBOOK.model_dump(mode="json", by_alias=True)["steps"]
    steps[1]["fixes"][0]["ifNoHelp"] = if_no_help
    runbook = a_runbook(steps=steps)
    plan = ended(PlanState.NO_EFFECT)
    run = started(active_plan=plan.metadata.name, phase=RunPhase.VERIFYING, diagnosed_at=NOW)
    decision = decide(run, plans=(plan,), runbook=runbook)
    assert decision.status.settled == ends
    assert decision.status.outcome == ("FixesExhausted" if ends else None)


# --- stability: decision 10 ---


@pytest.mark.parametrize(
    ("severity", "written", "held"),
    [("P0", "5m", 10), ("P1", "5m", 10), ("P1", "20m", 20), ("P2", "5m", 5), ("P3", None, 5)],
)
def test_stable_for_is_at_least_ten_minutes_on_severe_incidents(severity: str, written: str | None, held: int) -> None:
    """The runbook's, raised for P0 and P1."""
    recovery = {"checks": ["users"], **({"stableFor": written} if written else {})}
    run = a_run(incident={"title": "t", "severity": severity})
    assert stable_for(RunView(run=run, runbook=a_runbook(recovery=recovery))) == timedelta(minutes=held)


def test_stable_for_is_scaled() -> None:
    """The demo waits seconds, not minutes."""
    view = RunView(run=a_run(), runbook=RUNBOOK, timing=Timing(scale=60))
    assert stable_for(view) == timedelta(seconds=5)


def test_time_alone_is_not_stable() -> None:
    """Fewer than five samples prove nothing, however long ago."""
    run = recovering(state="Passing", passing_since=NOW, samples=4, last_checked_at=NOW)
    decision = decide(run, now=NOW + timedelta(hours=1))
    assert decision.effects == (StartRound("Recovery"),)
    assert not decision.status.settled


@pytest.mark.parametrize(
    ("users", "samples", "since"),
    [
        (CheckState.PASSED, 4, NOW),
        (CheckState.ERROR, 3, NOW),
        (CheckState.INCONCLUSIVE, 3, NOW),
        (CheckState.FAILED, 0, None),
    ],
)
def test_failed_resets_and_unknown_neither_counts_nor_resets(
    users: CheckState, samples: int, since: datetime | None
) -> None:
    """Error and Inconclusive are no news."""
    run = recovering(state="Passing", passing_since=NOW, samples=3, last_checked_at=NOW)
    recovery = decide(run, a_sample(users), NOW + timedelta(minutes=1)).status.recovery
    assert recovery is not None
    assert (recovery.samples, recovery.passing_since) == (samples, since)


def test_recovery_that_breaks_again_is_diagnosed_anew() -> None:
    """Users failing again is a new question, not a longer wait."""
    run = recovering(state="Passing", passing_since=NOW, samples=3, last_checked_at=NOW)
    decision = decide(run, a_sample(CheckState.FAILED), NOW + timedelta(minutes=1))
    assert decision.status.phase == RunPhase.DIAGNOSING
    assert decision.status.timeline[-1].reason == "RecoveryLost"


def test_samples_are_taken_at_their_pace() -> None:
    """Not before the next one is due."""
    run = recovering(state="Passing", passing_since=NOW, samples=1, last_checked_at=NOW)
    early = decide(run, now=NOW + timedelta(seconds=29))
    assert (early.effects, early.wake_at) == ((), NOW + timedelta(seconds=30))
    assert decide(run, now=NOW + timedelta(seconds=30)).effects == (StartRound("Recovery"),)


# --- waiting for CloudTrail ---


def test_an_unknown_actor_is_waited_for() -> None:
    """All that is missing is who did it, and that comes with time: look again, then ask."""
    fix = FixResult(name="restoreAccess", plan=the_plan(ask_because=("ActorUnknown",)), gates=(GATE,))
    checks = {
        "users": check("users", CheckState.FAILED, "UsersFailing"),
        "access": check("access", CheckState.FAILED, retry_at=NOW),
    }
    round_ = a_round(checks=checks, fixes={"restoreAccess": fix})
    waiting = decide(started(), round_)
    assert waiting.status.phase == RunPhase.DIAGNOSING
    assert waiting.status.now is not None
    assert waiting.status.now.waiting_for == "CloudTrail"
    assert waiting.wake_at == NOW + timedelta(seconds=30)
    late = decide(started(), round_, NOW + timedelta(minutes=15))
    assert late.status.phase == RunPhase.AWAITING_APPROVAL


# --- findings, attempts, bounds: decisions 8, 13, 26 ---


def test_an_info_finding_is_no_problem() -> None:
    """Info never makes a run Unresolved."""
    info = Finding(reason="RecentChange", check="access", kind=FindingKind.INFO, message="somebody changed it")
    checks = {
        "users": check("users", CheckState.PASSED),
        "access": CheckResult(status=check("access", CheckState.PASSED).status, findings=(info,)),
    }
    assert end_of(decide(started(), a_round(checks=checks))) == (RunPhase.NOTHING_FOUND, "NothingFound")


def test_the_root_cause_names_the_first_and_counts_the_rest() -> None:
    """One line for the column, with who did it."""
    one = Finding(
        reason="RoleLacks", check="access", root_cause=True, message="the role lacks GetItem", actor="arn:mallory"
    )
    two = Finding(reason="BucketDenies", check="access", root_cause=True, message="the bucket denies")
    access = CheckResult(status=check("access", CheckState.FAILED).status, findings=(one, two))
    checks = {"users": check("users", CheckState.FAILED, "UsersFailing"), "access": access}
    cause = decide(started(), a_round(checks=checks)).status.root_cause
    assert cause is not None
    assert cause.summary == "the role lacks GetItem (by arn:mallory) (+1 more)"
    assert cause.reasons == ("RoleLacks", "BucketDenies")


def test_a_status_stays_within_64_kib() -> None:
    """The middle of the timeline goes first, then long messages; outputs never, and the status says so."""
    entries = tuple(TimelineEntry(at=NOW, reason="Note", message=f"{n} " + "x" * 1000) for n in range(96))
    output = {"top": ["y" * 100] * 10}
    big = started().status
    steps = tuple(
        step.model_copy(update={"checks": tuple(c.model_copy(update={"output": output}) for c in step.checks)})
        for step in big.steps
    )
    findings = tuple(Finding(reason="R", check="access", message="z" * 1000) for _ in range(48))
    bounded = within_bounds(big.model_copy(update={"timeline": entries, "steps": steps, "findings": findings}))
    assert size(bounded) <= MAX_STATUS_BYTES
    assert [t.message[:2].strip() for t in bounded.timeline] == [str(n) for n in (*range(20), *range(36, 96))]
    assert max(len(t.message) for t in bounded.timeline) == 300
    assert bounded.steps == steps
    assert len(bounded.truncated) == 2
    assert within_bounds(bounded) == bounded


def test_the_same_turn_is_told_once() -> None:
    """Repeating oneself is no news; returning to it later is."""
    once = told((), NOW, "Verifying", "waiting")
    assert told(once, NOW + timedelta(minutes=1), "Verifying", "waiting") == once
    twice = told(told(once, NOW, "Other", "x"), NOW, "Verifying", "waiting")
    assert [t.reason for t in twice] == ["Verifying", "Other", "Verifying"]
