"""Every ending of a run, and how it says why (decision 7)."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.plan import PlanState, RemediationPlan
from incident_operator.api.run import (
    Baseline,
    CheckState,
    FixState,
    Resolution,
    RunPhase,
)
from incident_operator.core.conditions import is_true
from incident_operator.core.run import (
    FixResult,
    Round,
    RunDecision,
    Tell,
)
from tests.builders import NOW, a_run
from tests.core.runs import CEILING, a_round, a_sample, decide, end_of, ended, proposed, recovering, started, the_plan

# --- endings: decision 7 ---


def test_nothing_found() -> None:
    """All checks passed, users are well, nothing applied."""
    decision = decide(started(), a_round(CheckState.PASSED, CheckState.PASSED))
    assert end_of(decision) == (RunPhase.NOTHING_FOUND, "NothingFound")
    assert decision.status.baseline == Baseline(state="Passing", at=NOW)


@pytest.mark.parametrize("state", [CheckState.ERROR, CheckState.INCONCLUSIVE])
def test_no_finding_but_no_answer_either_is_diagnosis_incomplete(state: CheckState) -> None:
    """Unknown is never healthy: a check without an answer is no NothingFound, and is named."""
    decision = decide(started(), a_round(state, CheckState.PASSED))
    assert end_of(decision) == (RunPhase.UNRESOLVED, "DiagnosisIncomplete")
    assert "users" in decision.status.timeline[-1].message
    assert decision.status.baseline == Baseline(state="Unknown", at=NOW)


@pytest.mark.parametrize(
    ("round_", "view", "reason"),
    [
        pytest.param(a_round(), {}, "NoFixApplies", id="a problem, and no fix for it"),
        pytest.param(
            a_round(fixes={"restoreAccess": FixResult(name="restoreAccess", state=FixState.NOT_APPLICABLE)}),
            {},
            "NoFixApplies",
            id="the fix declines",
        ),
        pytest.param(
            a_round(fixes={"restoreAccess": proposed(gates=(CEILING,))}),
            {},
            "NotPermitted",
            id="the only fix is more than may be asked for",
        ),
        pytest.param(
            a_round(fixes={"restoreAccess": proposed()}), {"observe_only": True}, "ObserveOnly", id="only observed"
        ),
        pytest.param(
            a_round(fixes={"restoreAccess": proposed()}),
            {"plans": (ended(PlanState.NO_EFFECT),)},
            "FixesExhausted",
            id="the fix was tried and had no effect",
        ),
        pytest.param(
            a_round(fixes={"restoreAccess": proposed()}),
            {"plans": (ended(PlanState.WORSE),)},
            "FixesExhausted",
            id="a fix made it worse: not again",
        ),
        pytest.param(
            a_round(),
            {"plans": (ended(PlanState.REVERTED),)},
            "FixesExhausted",
            id="a fix was put back, and there is no other",
        ),
        pytest.param(
            a_round(fixes={"restoreAccess": proposed()}),
            {"plans": tuple(ended(PlanState.SUPERSEDED, attempt=n) for n in (1, 2, 3))},
            "NoFixApplies",
            id="the world changed under the same fix three times",
        ),
    ],
)
def test_unresolved_says_why(round_: Round, view: dict[str, Any], reason: str) -> None:
    """Each dead end has its own reason, and people are told."""
    assert end_of(decide(started(), round_, **view)) == (RunPhase.UNRESOLVED, reason)


def test_observe_only_hands_no_baton_and_writes_twice() -> None:
    """Decision 5: two status writes and one Event, whatever was found."""
    run = a_run(automation={"applyUpTo": "None", "askUpTo": "None"})
    round_ = a_round(fixes={"restoreAccess": proposed()})
    decision = decide(started(run), round_, observe_only=True)
    assert decision.status.settled
    assert decision.status.active_plan is None
    assert sum(isinstance(e, Tell) for e in decision.effects) == 1


def test_recovery_not_reached() -> None:
    """A fix helped, users did not get well within 15 minutes."""
    run = recovering(helped_at=NOW, last_checked_at=NOW)
    plans = (ended(PlanState.HELPED),)
    sample = a_sample(CheckState.FAILED)
    before = decide(run, sample, NOW + timedelta(minutes=15, seconds=-1), plans=plans)
    assert not before.status.settled
    after = decide(run, sample, NOW + timedelta(minutes=15), plans=plans)
    assert end_of(after) == (RunPhase.UNRESOLVED, "RecoveryNotReached")


@pytest.mark.parametrize("state", [PlanState.INCONCLUSIVE, PlanState.UNKNOWN])
def test_fix_inconclusive(state: PlanState) -> None:
    """Automation stops; a person has until recovery.within, then the run says so."""
    stopped = ended(state)
    waiting = decide(started(), a_round(fixes={"rollback": proposed("rollback")}), plans=(stopped,))
    assert not waiting.status.settled
    assert waiting.status.active_plan is None
    run = recovering(last_checked_at=NOW)
    late = decide(run, a_sample(CheckState.FAILED), NOW + timedelta(minutes=15), plans=(stopped,))
    assert end_of(late) == (RunPhase.UNRESOLVED, "FixInconclusive")


def test_a_deleted_plan_does_not_hold_its_run_for_ever() -> None:
    """What it did can't be told: FixInconclusive, aloud."""
    run = started(active_plan="run-gone-1-00000000", phase=RunPhase.REMEDIATING)
    assert end_of(decide(run)) == (RunPhase.UNRESOLVED, "FixInconclusive")


@pytest.mark.parametrize(
    ("plans", "resolution"),
    [((ended(PlanState.HELPED),), Resolution.RUNBOOK), ((), Resolution.SELF_RECOVERED)],
)
def test_resolved_says_who_did_it(plans: tuple[RemediationPlan, ...], resolution: Resolution) -> None:
    """Runbook if a plan helped, else the service recovered by itself."""
    run = recovering(state="Passing", passing_since=NOW, samples=5, last_checked_at=NOW)
    decision = decide(run, now=NOW + timedelta(minutes=5), plans=plans)
    assert end_of(decision) == (RunPhase.RESOLVED, str(resolution))
    assert decision.status.resolution == resolution
    assert is_true(decision.status.conditions, "Resolved")


def test_a_settled_run_is_left_alone() -> None:
    """The end is the end, whatever comes later."""
    run = decide(started(), a_round(CheckState.PASSED, CheckState.PASSED)).status
    again = decide(a_run(status=run), a_round(), NOW + timedelta(days=1), plans=(the_plan(),))
    assert again == RunDecision(status=run)


def test_users_who_stay_unwell_after_a_fix_are_looked_at_anew() -> None:
    """The look after the fix may have met a passing state; every five minutes, until their time is over."""
    run = recovering(helped_at=NOW, last_checked_at=NOW)
    failing = a_sample(CheckState.FAILED)
    soon = decide(run, failing, NOW + timedelta(minutes=4))
    assert soon.status.phase == RunPhase.VERIFYING
    later = decide(run, failing, NOW + timedelta(minutes=5))
    assert later.status.phase == RunPhase.DIAGNOSING
    over = decide(run, failing, NOW + timedelta(minutes=15))
    assert end_of(over) == (RunPhase.UNRESOLVED, "RecoveryNotReached")
    unknown = decide(run, a_sample(CheckState.ERROR), NOW + timedelta(minutes=5))
    assert unknown.status.phase == RunPhase.VERIFYING
