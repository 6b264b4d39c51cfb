"""What people do to a run: agree, pause, cancel, skip, retry, keep, note, delete; and what it does while it asks."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.intervention import Intervention
from incident_operator.api.plan import PlanState, RemediationPlanStatus
from incident_operator.api.run import Cancelling, CheckState, FixState, Paused, RecoveryStatus, RunPhase
from incident_operator.core.approval import Answer
from incident_operator.core.conditions import is_true
from incident_operator.core.run import (
    EndRound,
    FixResult,
    Protect,
    RunDecision,
    StartRound,
    Tell,
    Unprotect,
)
from tests.builders import NOW, a_run, a_word, an_approval
from tests.core.runs import (
    CEILING,
    GATE,
    a_round,
    a_sample,
    decide,
    end_of,
    ended,
    proposed,
    protected,
    started,
    the_plan,
)

BLOCKED = a_round(fixes={"restoreAccess": proposed(gates=(GATE,))})
PAUSED = Paused(by="bob", at=NOW, reason="let me look")


def answers(decision: RunDecision) -> list[tuple[bool, str]]:
    """Return which answers are given."""
    return [(e.effective, e.reason) for e in decision.effects if isinstance(e, Answer)]


def asking(**status: Any) -> Any:
    """Return a run that asks people, since now."""
    return started(**{"phase": RunPhase.AWAITING_APPROVAL, "diagnosed_at": NOW, "awaiting_since": NOW, **status})


def hear(run: Any, *words: Intervention, **view: Any) -> RunDecision:
    """Return the decision after these words."""
    return decide(run, words=words, **view)


# --- asking ---


def test_a_fix_that_must_ask_asks() -> None:
    """The phase, the condition, an Event, and what to type."""
    decision = decide(started(), BLOCKED)
    assert decision.status.phase == RunPhase.AWAITING_APPROVAL
    assert is_true(decision.status.conditions, "AwaitingApproval")
    now = decision.status.now
    assert now is not None
    assert (now.waiting_for, now.until) == ("approval", NOW + timedelta(hours=4))
    assert "kubectl incident approve -n shop run restoreAccess" in now.next
    assert [e.reason for e in decision.effects if isinstance(e, Tell) and e.warning] == ["AwaitingApproval"]


def test_what_nobody_may_approve_is_not_asked() -> None:
    """A hard gate that neither people nor time can open."""
    round_ = a_round(fixes={"restoreAccess": proposed(gates=(GATE, CEILING))})
    assert end_of(decide(started(), round_)) == (RunPhase.UNRESOLVED, "NotPermitted")


def test_an_approved_plan_gets_the_baton() -> None:
    """Also when users happen to be well: a person asked for it. The timeline says who agreed."""
    agreed = RemediationPlanStatus(state=PlanState.APPROVED, approved_at=NOW, approvals=(an_approval("alice"),))
    plan = the_plan(status=agreed)
    assert decide(asking(), plans=(plan,)).effects == (Protect(),)
    decision = decide(protected(asking()), plans=(plan,))
    assert decision.status.active_plan == plan.metadata.name
    assert decision.status.timeline[-1].message == "restoreAccess! (agreed: alice)"
    assert not is_true(decision.status.conditions, "AwaitingApproval")


def test_approved_plans_go_in_the_order_of_agreement() -> None:
    """Not in the document's."""
    later, sooner = (
        the_plan(fix, RemediationPlanStatus(state=PlanState.APPROVED, approved_at=NOW + timedelta(minutes=m)))
        for fix, m in (("restoreAccess", 2), ("rollback", 1))
    )
    decision = decide(protected(asking()), plans=(later, sooner))
    assert decision.status.active_plan == sooner.metadata.name


def test_users_are_sampled_while_people_think() -> None:
    """Every minute; a full look every five."""
    plan = the_plan()
    run = asking(recovery=RecoveryStatus(last_checked_at=NOW))
    assert decide(run, plans=(plan,)).wake_at == NOW + timedelta(minutes=1)
    assert decide(run, None, NOW + timedelta(minutes=1), plans=(plan,)).effects == (StartRound("Recovery"),)
    assert decide(run, None, NOW + timedelta(minutes=5), plans=(plan,)).effects == (StartRound("Full"),)
    sampled = decide(run, a_sample(CheckState.PASSED), NOW + timedelta(minutes=1), plans=(plan,))
    assert sampled.status.recovery is not None
    assert sampled.status.recovery.samples == 1
    assert sampled.status.phase == RunPhase.AWAITING_APPROVAL


def test_it_may_recover_by_itself_meanwhile() -> None:
    """Nothing was changed, and it says so."""
    stable = RecoveryStatus(state="Passing", passing_since=NOW, samples=5, last_checked_at=NOW)
    decision = decide(asking(recovery=stable), None, NOW + timedelta(minutes=5), plans=(the_plan(),))
    assert end_of(decision) == (RunPhase.RESOLVED, "SelfRecovered")


def test_nobody_agrees_in_time() -> None:
    """ApprovalTimeout, four hours after it asked."""
    decision = decide(asking(), None, NOW + timedelta(hours=4), plans=(the_plan(),))
    assert end_of(decision) == (RunPhase.UNRESOLVED, "ApprovalTimeout")


def test_when_everybody_said_no_it_looks_again_and_ends() -> None:
    """The refusal is the reason."""
    rejected = ended(PlanState.REJECTED)
    again = decide(asking(), plans=(rejected,))
    assert again.status.phase == RunPhase.DIAGNOSING
    decision = decide(started(), a_round(fixes={"restoreAccess": proposed()}), plans=(rejected,))
    assert end_of(decision) == (RunPhase.UNRESOLVED, "NotPermitted")


def test_what_was_replaced_and_then_refused_was_mended_by_nobody() -> None:
    """It ends at once; only where a fix is not needed any more do users get time to feel it."""
    status = RemediationPlanStatus(state=PlanState.SUPERSEDED, reason="WorldChanged", settled=True)
    replaced, rejected = the_plan(status=status), ended(PlanState.REJECTED, attempt=2)
    declined = a_round(fixes={"restoreAccess": FixResult(name="restoreAccess", state=FixState.NOT_APPLICABLE)})
    assert end_of(decide(started(), declined, plans=(replaced, rejected))) == (RunPhase.UNRESOLVED, "NotPermitted")
    waiting = decide(started(), declined, plans=(replaced,))
    assert waiting.status.phase == RunPhase.VERIFYING


def test_where_somebody_else_was_faster_users_get_time_to_feel_it() -> None:
    """The plan is open still, but nothing calls for its fix any more; one whose grant is gone was mended by nobody."""
    plan = the_plan()
    idle = a_round(fixes={"restoreAccess": FixResult(name="restoreAccess", state=FixState.NOT_NEEDED)})
    assert decide(started(), idle, plans=(plan,)).status.phase == RunPhase.VERIFYING
    declined = a_round(fixes={"restoreAccess": FixResult(name="restoreAccess", state=FixState.NOT_APPLICABLE)})
    assert end_of(decide(started(), declined, plans=(plan,))) == (RunPhase.UNRESOLVED, "NoFixApplies")


def test_after_harm_the_other_fix_asks_although_its_gates_are_open() -> None:
    """Decision 11: then Ask."""
    decision = decide(started(), a_round(fixes={"rollback": proposed("rollback")}), plans=(ended(PlanState.REVERTED),))
    assert decision.status.phase == RunPhase.AWAITING_APPROVAL


# --- words ---


def test_a_paused_run_hands_nothing_over() -> None:
    """It says who paused it, and what lets it go on."""
    heard = hear(started(), a_word(verb="Pause", by="bob", reason="let me look"))
    assert heard.status.paused == PAUSED
    assert answers(heard) == [(True, "Paused")]
    decision = decide(protected(started(paused=PAUSED)), a_round(fixes={"restoreAccess": proposed()}))
    assert decision.status.active_plan is None
    assert decision.status.now is not None
    assert decision.status.now.waiting_for == "resume"
    assert decision.status.now.next[0] == "kubectl incident resume -n shop run"


def test_resume_looks_again() -> None:
    """The world may have moved meanwhile."""
    decision = hear(asking(paused=PAUSED), a_word(verb="Resume"))
    assert decision.status.paused is None
    assert decision.status.phase == RunPhase.DIAGNOSING
    assert EndRound() in decision.effects


def test_a_fix_that_is_left_out_is_not_chosen() -> None:
    """Skip is stored, and the next diagnosis passes it over."""
    assert hear(asking(), a_word(verb="Skip", fix="restoreAccess")).status.skipped == ("restoreAccess",)
    fixes = {"restoreAccess": proposed(), "rollback": proposed("rollback")}
    decision = decide(protected(started(skipped=("restoreAccess",))), a_round(fixes=fixes))
    assert decision.status.active_plan == "run-rollback-1-00000000"


@pytest.mark.parametrize("state", [PlanState.NO_EFFECT, PlanState.INCONCLUSIVE, PlanState.REJECTED])
def test_retry_lets_a_fix_be_tried_again(state: PlanState) -> None:
    """What came of it before stops nothing any more."""
    before = ended(state)
    heard = hear(asking(), a_word(verb="Retry", fix="restoreAccess"), plans=(before,))
    assert heard.status.waived == (before.metadata.name,)
    run = protected(started(waived=heard.status.waived))
    again = decide(run, a_round(fixes={"restoreAccess": proposed()}), plans=(before,))
    assert again.status.active_plan is not None


def test_keep_lets_automation_go_on_after_an_outcome_nobody_knows() -> None:
    """The change stays, and stops nothing any more."""
    unknown = ended(PlanState.INCONCLUSIVE)
    word = a_word(verb="Keep", target={"name": unknown.metadata.name, "uid": unknown.metadata.uid})
    heard = hear(asking(), word, plans=(unknown,))
    assert answers(heard) == [(True, "Kept")]
    run = protected(started(waived=heard.status.waived))
    decision = decide(run, a_round(fixes={"rollback": proposed("rollback")}), plans=(unknown,))
    assert decision.status.active_plan == "run-rollback-1-00000000"


def test_a_note_is_in_the_story_once() -> None:
    """Heard again after a crash, it is answered and not told twice."""
    word = a_word(verb="Note", by="bob", reason="the supplier is on the phone")
    first = hear(started(), word)
    assert first.status.timeline[-1].message == "bob: the supplier is on the phone"
    again = hear(started(timeline=first.status.timeline), word)
    assert again.status.timeline == first.status.timeline
    assert answers(again) == [(True, "Noted")]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (a_word(verb="Skip", fix="noSuchFix"), "NoSuchFix"),
        (a_word(verb="Resume"), "NotPaused"),
        (a_word(verb="Pause", target={"uid": "former"}), "WrongUID"),
    ],
    ids=["no such fix", "not paused", "another run"],
)
def test_a_void_word_says_why(word: Intervention, reason: str) -> None:
    """Nothing is stored."""
    decision = hear(started(), word)
    assert answers(decision) == [(False, reason)]
    assert decision.status == started().status


def test_only_words_that_stop_are_heard_before_admission_is_proven() -> None:
    """A forged Pause costs time; a forged Retry could change production."""
    words = (a_word("a", verb="Retry", fix="restoreAccess"), a_word("b", verb="Pause"))
    decision = hear(asking(), *words, admission="not there")
    assert [e.word for e in decision.effects if isinstance(e, Answer)] == ["b"]


# --- the end by people ---


CANCELLING = Cancelling(by="bob", at=NOW, then="Leave", reason="wrong region")


def test_cancel_is_stored_and_ends_the_run() -> None:
    """Nothing was changed: it says so."""
    heard = hear(asking(), a_word(verb="Cancel", by="bob", then="Leave", reason="wrong region"))
    assert heard.status.cancelling == CANCELLING
    decision = decide(asking(cancelling=CANCELLING), plans=(the_plan(),))
    assert end_of(decision) == (RunPhase.CANCELLED, "Cancelled")
    assert decision.status.timeline[-1].message.endswith("bob cancelled it: wrong region; nothing was changed")


def test_cancel_waits_for_the_plan_under_way() -> None:
    """A run that ended before it would leave it to act for a settled run."""
    plan = the_plan(status=RemediationPlanStatus(state=PlanState.APPLYING, started_at=NOW))
    run = started(active_plan=plan.metadata.name, cancelling=CANCELLING, phase=RunPhase.REMEDIATING)
    decision = decide(run, plans=(plan,))
    assert not decision.status.settled


def test_a_run_that_had_not_started_can_be_cancelled_too() -> None:
    """It ends without having read anything."""
    pending = started(started_at=None, phase=RunPhase.PENDING)
    run = pending.model_copy(update={"status": pending.status.model_copy(update={"cancelling": CANCELLING})})
    assert end_of(decide(run)) == (RunPhase.CANCELLED, "Cancelled")


def test_deleting_a_run_cancels_it_and_frees_it() -> None:
    """The finalizer goes last; people are told what stays."""
    run = protected(asking())
    run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"deletion_timestamp": NOW})})
    decision = decide(run)
    told, free = decision.effects
    assert isinstance(told, Tell)
    assert free == Unprotect()


def test_a_run_that_is_deleted_before_it_started_does_not_start() -> None:
    """Somebody else's finalizer may keep it for a while."""
    run = a_run()
    gone = run.model_copy(update={"metadata": run.metadata.model_copy(update={"deletion_timestamp": NOW})})
    decision = decide(gone)
    assert (decision.status, decision.effects) == (run.status, ())


def test_the_finalizer_goes_before_the_run_settles() -> None:
    """Settled is out of every watch."""
    run = protected(asking(cancelling=CANCELLING))
    assert decide(run).effects == (Unprotect(),)
