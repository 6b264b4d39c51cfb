"""What people and admins do to a plan: agree, refuse, hold, stop, put back; and the life of a temporary fix."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.intervention import Intervention
from incident_operator.api.plan import (
    CallState,
    PlanState,
    RemediationPlan,
    RemediationPlanStatus,
    TemporaryFix,
    TemporaryStatus,
)
from incident_operator.api.run import Cancelling, Paused, RunPhase
from incident_operator.core.approval import Answer
from incident_operator.core.plan import (
    BLOCKED_EVERY,
    FINALIZER,
    Answered,
    CheckUndo,
    Execute,
    Guarded,
    PlanDecision,
    Replanned,
    Unprotect,
    decide_plan,
)
from incident_operator.core.story import Tell
from tests.builders import NOW, a_call, a_grant, a_plan, a_run, a_word, an_approval
from tests.core.test_plan import applying, stored, the_run, verifying, view

DISRUPTIVE = {"risk": "Disruptive", "tier": "Disruptive"}
PAUSED = Paused(by="bob", at=NOW, reason="let me look")
SUSPENDED = a_grant(suspended={"reason": "game day"})
WAITING = the_run(phase=RunPhase.AWAITING_APPROVAL, diagnosed_at=NOW)


def answers(decision: PlanDecision) -> list[tuple[bool, str]]:
    """Return which answers are given."""
    return [(e.effective, e.reason) for e in decision.effects if isinstance(e, Answer)]


def proposed(*approvals: Any, **spec: Any) -> RemediationPlan:
    """Return a Disruptive plan that a Low ceiling does not let through."""
    status = RemediationPlanStatus(approvals=approvals)
    return a_plan(status=status, **{**DISRUPTIVE, **spec})


# --- agree and refuse ---


def test_what_blocks_is_said_while_people_are_asked() -> None:
    """The plan itself names the facts."""
    decision = decide_plan(view(proposed(), run=WAITING), NOW)
    assert [gate.name for gate in decision.status.gates] == ["ApprovalMissing"]
    assert "0 of 1 person agrees" in decision.status.gates[0].message


@pytest.mark.parametrize("phase", [RunPhase.REMEDIATING, RunPhase.VERIFYING, RunPhase.AWAITING_APPROVAL])
def test_what_blocks_is_said_from_the_first_diagnosis_on(phase: RunPhase) -> None:
    """Also while another plan is applied: who reads the object at once sees why it waits. Said once, not again."""
    early = the_run(phase=RunPhase.DIAGNOSING)
    assert decide_plan(view(proposed(), run=early), NOW).status == proposed().status, "how users are is not known yet"
    diagnosed = the_run(phase=phase, diagnosed_at=NOW)
    decision = decide_plan(view(proposed(), run=diagnosed), NOW)
    assert [gate.name for gate in decision.status.gates] == ["ApprovalMissing"]
    again = stored(proposed(), decision.status)
    assert decide_plan(view(again, run=diagnosed), NOW).status == again.status


def test_an_approval_is_stored_before_it_is_answered() -> None:
    """The same decision writes it and answers it, in this order."""
    word = a_word(tier="Disruptive")
    decision = decide_plan(view(proposed(), run=WAITING, words=(word,)), NOW)
    assert [a.responder for a in decision.status.approvals] == ["alice"]
    assert answers(decision) == [(True, "Approved")]
    assert decision.status.state == PlanState.PROPOSED


def test_enough_approvals_make_it_approved_and_the_baton_starts_it() -> None:
    """Approved is stored; the run chooses when."""
    plan = proposed(an_approval("alice", tier="Disruptive"))
    decision = decide_plan(view(plan, run=WAITING), NOW)
    assert (decision.status.state, decision.status.approved_at) == (PlanState.APPROVED, NOW)
    agreed = stored(plan, decision.status)
    assert decide_plan(view(agreed, run=WAITING), NOW).effects == ()
    begun = decide_plan(view(agreed, replanned=Replanned(at=NOW, same=True)), NOW)
    assert begun.effects == (Execute("Apply", 0, 1),)


def test_an_approval_that_runs_out_closes_the_gate_again() -> None:
    """It is looked at again at that very instant."""
    plan = proposed(an_approval("alice", tier="Disruptive"))
    agreed = stored(plan, decide_plan(view(plan, run=WAITING), NOW).status)
    assert decide_plan(view(agreed, run=WAITING), NOW).wake_at == NOW + timedelta(hours=1)
    late = decide_plan(view(agreed, run=WAITING), NOW + timedelta(hours=1))
    assert late.status.state == PlanState.PROPOSED
    assert [gate.name for gate in late.status.gates] == ["ApprovalMissing"]


def test_nobody_is_heard_until_it_is_proven_that_admission_checks_them() -> None:
    """A forged word must not count because the policies were off for a minute."""
    decision = decide_plan(
        view(proposed(), run=WAITING, words=(a_word(tier="Disruptive"),), admission="not there"), NOW
    )
    assert decision.status.approvals == ()
    assert answers(decision) == []
    assert "AdmissionUnproven" in {gate.name for gate in decision.status.gates}
    assert decision.wake_at == NOW + BLOCKED_EVERY


def test_a_rejection_beats_an_approval_whatever_the_order() -> None:
    """Reject > Approve."""
    words = (a_word("yes", tier="Disruptive"), a_word("no", by="bob", verb="Reject", reason="sale today"))
    decision = decide_plan(view(proposed(), run=WAITING, words=words), NOW)
    assert (decision.status.state, decision.status.message) == (PlanState.REJECTED, "bob said no: sale today")
    assert answers(decision) == [(True, "Rejected")]


@pytest.mark.parametrize("verb", ["Approve", "Reject"])
def test_it_is_too_late_once_a_call_is_made(verb: str) -> None:
    """What is under way is stopped by Cancel, Pause or Revert."""
    tier = {"tier": "Low"} if verb == "Approve" else {}
    decision = decide_plan(view(applying(), words=(a_word(verb=verb, **tier),)), NOW)
    assert answers(decision) == [(False, "TooLate")]


def test_a_plan_that_changed_says_whose_approval_is_void() -> None:
    """Approved was another plan."""
    changed = Replanned(at=NOW, same=False, reason="WorldChanged", message="somebody fixed it")
    decision = decide_plan(view(proposed(an_approval("alice", tier="Disruptive")), replanned=changed), NOW)
    assert decision.status.message == "somebody fixed it; the approval of alice is void"


# --- hold ---


@pytest.mark.parametrize(
    ("facts", "gate"),
    [
        ({"run": the_run(active_plan=a_plan().metadata.name, paused=PAUSED)}, "Paused"),
        ({"grant": SUSPENDED}, "GrantSuspended"),
    ],
    ids=["paused", "halted"],
)
def test_no_call_is_made_while_held_and_the_next_one_afterwards(facts: dict[str, Any], gate: str) -> None:
    """Between two calls: what is made, what comes next and why it waits; then it goes on."""
    plan = applying(calls=3)
    first = Answered(phase="Apply", index=0, attempt=1, ok=True)
    decision = decide_plan(view(plan, answered=first, **facts), NOW)
    assert decision.effects == ()
    assert [e.state for e in decision.status.calls] == [CallState.SUCCEEDED]
    assert [g.name for g in decision.status.gates] == [gate]
    assert decision.status.message.startswith("1 of 3 calls are made; next: iam:put_role_policy;")
    held = stored(plan, decision.status)
    assert decide_plan(view(held, **facts), NOW).status == held.status
    on = decide_plan(view(held), NOW)
    assert on.effects == (Execute("Apply", 1, 1),)
    assert on.status.gates == ()


def test_a_held_plan_does_not_begin() -> None:
    """It keeps the baton, and says what it waits for."""
    decision = decide_plan(view(a_plan(), grant=SUSPENDED, replanned=Replanned(at=NOW, same=True)), NOW)
    assert decision.status.state == PlanState.PROPOSED
    assert [gate.name for gate in decision.status.gates] == ["GrantSuspended"]
    assert decision.wake_at == NOW + BLOCKED_EVERY


def test_a_locked_resource_is_waited_for() -> None:
    """The gate names the holder; the world is looked at again before the next try."""
    locked = view(a_plan(), grant=SUSPENDED).grant
    assert locked is not None
    gates = decide_plan(view(a_plan(), grant=locked), NOW).status.gates
    decision = decide_plan(view(a_plan(), replanned=Replanned(at=NOW, same=True, gates=gates)), NOW)
    assert decision.status.state == PlanState.PROPOSED
    assert decision.status.gates == gates


# --- stop ---


def cancelled(then: str) -> dict[str, Any]:
    """Return a view's run that somebody cancelled."""
    cancelling = Cancelling(by="bob", at=NOW, then=then)  # type: ignore[arg-type]
    return {"run": the_run(active_plan=a_plan().metadata.name, cancelling=cancelling)}


def test_cancelled_in_the_middle_it_says_exactly_what_was_done_and_what_not() -> None:
    """The call under way ends; no other begins; both lists are in status and in an Event."""
    plan = applying(calls=3)
    assert decide_plan(view(plan, busy=True, **cancelled("Leave")), NOW).effects == ()
    first = Answered(phase="Apply", index=0, attempt=1, ok=True)
    decision = decide_plan(view(plan, answered=first, **cancelled("Leave")), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.INCONCLUSIVE, "Cancelled")
    assert decision.status.message == (
        "bob cancelled the run; 1 of 3 calls were made and stay in place: iam:put_role_policy; "
        "not made: iam:put_role_policy, iam:put_role_policy"
    )
    assert any(isinstance(e, Tell) and e.warning for e in decision.effects)


def test_cancelled_with_revert_the_undo_is_guarded_and_made() -> None:
    """First the call's result is written, then the guards are read, then the undo is journaled."""
    plan = applying(calls=2)
    first = Answered(phase="Apply", index=0, attempt=1, ok=True, post_image=["v3"])
    written = decide_plan(view(plan, answered=first, **cancelled("Revert")), NOW)
    assert written.status.post_image == ["v3"]
    made = stored(plan, written.status)
    assert decide_plan(view(made, **cancelled("Revert")), NOW).effects == (CheckUndo(),)
    decision = decide_plan(view(made, guarded=Guarded(at=NOW), **cancelled("Revert")), NOW)
    assert decision.status.state == PlanState.REVERTING
    assert decision.effects == (Execute("Undo", 0, 1),)


def test_nothing_is_undone_that_somebody_changed_since() -> None:
    """UndoBlocked, and a person is told what is in the way."""
    guarded = Guarded(at=NOW, changed="iam:get_policy DefaultVersionId was changed since")
    decision = decide_plan(view(verifying(), guarded=guarded, words=(a_word(verb="Revert"),)), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.UNDO_BLOCKED, "ChangedSince")
    assert "was changed since: nothing was put back" in decision.status.message
    assert answers(decision) == [(True, "Reverting")]


def test_a_cancelled_plan_that_has_not_begun_changes_nothing() -> None:
    """It expires."""
    decision = decide_plan(view(proposed(), **cancelled("Leave")), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.EXPIRED, "Cancelled")


def test_a_revert_while_it_is_verified_puts_it_back_at_once() -> None:
    """The word is answered with the write that begins the undo."""
    word = a_word(verb="Revert", reason="worse for me")
    decision = decide_plan(view(verifying(), guarded=Guarded(at=NOW), words=(word,)), NOW)
    assert decision.status.state == PlanState.REVERTING
    assert answers(decision) == [(True, "Reverting")]


# --- deletion and finalizers ---


def guarded_by_finalizer(plan: RemediationPlan, *, deleted: bool = False) -> RemediationPlan:
    """Return the plan with our finalizer, and perhaps on its way out."""
    changes: dict[str, Any] = {"finalizers": (FINALIZER,), "deletion_timestamp": NOW if deleted else None}
    return plan.model_copy(update={"metadata": plan.metadata.model_copy(update=changes)})


def test_the_finalizer_goes_before_the_plan_settles() -> None:
    """Settled is out of every watch: nobody would remove it later."""
    plan = guarded_by_finalizer(applying())
    refused = Answered(phase="Apply", index=0, attempt=1, ok=False, code="AccessDenied")
    ended = decide_plan(view(plan, answered=refused), NOW)
    assert (ended.status.state, ended.status.settled) == (PlanState.NO_EFFECT, False)
    after = stored(plan, ended.status)
    assert decide_plan(view(after), NOW).effects == (Unprotect(),)
    free = after.model_copy(update={"metadata": after.metadata.model_copy(update={"finalizers": ()})})
    assert decide_plan(view(free), NOW).status.settled


@pytest.mark.parametrize(("policy", "state"), [("Orphan", PlanState.INCONCLUSIVE), ("Revert", PlanState.REVERTING)])
def test_a_deleted_plan_does_as_its_policy_says(policy: str, state: PlanState) -> None:
    """Orphan leaves it and says so; Revert puts it back."""
    plan = verifying()
    spec = plan.spec.model_copy(update={"deletion_policy": policy})
    plan = guarded_by_finalizer(plan.model_copy(update={"spec": spec}), deleted=True)
    decision = decide_plan(view(plan, guarded=Guarded(at=NOW)), NOW)
    assert decision.status.state == state


# --- temporary fixes ---


def temporary(on_expiry: str = "Flag", *, until: timedelta = timedelta(hours=24)) -> RemediationPlan:
    """Return a plan that helped for now."""
    fix = TemporaryFix(review_after=timedelta(hours=24), on_expiry=on_expiry)  # type: ignore[arg-type]
    journal = verifying().status.calls
    status = RemediationPlanStatus(
        state=PlanState.HELPED, calls=journal, epoch=1, temporary=TemporaryStatus(until=NOW + until)
    )
    return a_plan(status=status, temporary=fix)


def test_a_temporary_fix_stays_in_sight_until_its_time_is_over() -> None:
    """Its run may long be settled."""
    decision = decide_plan(view(temporary(), run=the_run(settled=True)), NOW)
    assert decision.status == temporary().status
    assert decision.wake_at == NOW + timedelta(hours=24)


def test_then_it_is_flagged_to_people() -> None:
    """Nothing is undone by itself unless the runbook says so."""
    plan = temporary(until=timedelta())
    decision = decide_plan(view(plan, run=None), NOW)
    assert decision.status.temporary is not None
    assert decision.status.temporary.flagged
    assert any(isinstance(e, Tell) and e.warning for e in decision.effects)
    assert decide_plan(view(stored(plan, decision.status), run=None), NOW).status.settled


@pytest.mark.parametrize(("changed", "state"), [("", PlanState.REVERTING), ("moved", PlanState.HELPED)])
def test_or_undone_if_that_is_safe(changed: str, state: PlanState) -> None:
    """UndoIfSafe: only while everything is as the fix left it; else people are told."""
    decision = decide_plan(
        view(temporary("UndoIfSafe", until=timedelta()), run=None, guarded=Guarded(at=NOW, changed=changed)), NOW
    )
    assert decision.status.state == state


def test_a_person_keeps_it() -> None:
    """Keep ends the wait."""
    plan = temporary()
    decision = decide_plan(view(plan, words=(a_word(verb="Keep"),)), NOW)
    assert answers(decision) == [(True, "Kept")]
    assert decide_plan(view(stored(plan, decision.status)), NOW).status.settled


def test_words_about_another_object_of_that_name_are_void() -> None:
    """A recreated run makes plans of the same name."""
    word: Intervention = a_word(tier="Low", target={"uid": "former"})
    decision = decide_plan(view(a_plan(calls=(a_call(),)), run=a_run(), words=(word,)), NOW)
    assert answers(decision) == [(False, "WrongUID")]
