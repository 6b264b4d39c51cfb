"""The plan's decisions: write ahead, orphans by the call's nature, outcomes."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.plan import CallState, PlanState, RemediationPlan, Repeat
from incident_operator.api.run import Cancelling, IncidentRun, IncidentRunStatus
from incident_operator.core.draft import Judgement
from incident_operator.core.plan import (
    Answered,
    Await,
    Awaited,
    CheckUndo,
    Execute,
    Guarded,
    Judge,
    Judged,
    Look,
    Observed,
    PlanView,
    Replan,
    Replanned,
    decide_plan,
)
from incident_operator.core.schedule import Timing
from tests.builders import NOW, a_call, a_grant, a_plan, a_run


def view(plan: RemediationPlan, **facts: Any) -> PlanView:
    """Return a view of a plan that has the baton."""
    values: dict[str, Any] = {
        "run": the_run(active_plan=plan.metadata.name),
        "grant": a_grant(),
        "epoch": 1,
        "holder": "me",
        "call_timeout": timedelta(seconds=10),
        "timing": Timing(),
    }
    return PlanView(plan=plan, **{**values, **facts})


def the_run(**status: Any) -> IncidentRun:
    """Return a run under way."""
    return a_run(status=IncidentRunStatus(**status), requestedBy="carol")


def stored(plan: RemediationPlan, status: Any) -> RemediationPlan:
    """Return the plan as it reads after the decision was written."""
    return plan.model_copy(update={"status": status})


def applying(repeat: Repeat = Repeat.ABSOLUTE, calls: int = 1) -> RemediationPlan:
    """Return a plan whose first call is intended."""
    plan = a_plan(calls=tuple(a_call(repeat=repeat) for _ in range(calls)))
    decision = decide_plan(view(plan, replanned=Replanned(at=NOW, same=True, pre_image={"a": 1})), NOW)
    assert decision.effects == (Execute("Apply", 0, 1),)
    return stored(plan, decision.status)


def test_a_plan_without_the_baton_does_nothing() -> None:
    """Only the plan its run names is executed."""
    decision = decide_plan(view(a_plan(), run=the_run()), NOW)
    assert decision.effects == ()
    assert decision.status == a_plan().status


def test_the_first_write_holds_approval_epoch_and_intent() -> None:
    """P1 is one write: state, epoch and the first intent."""
    plan = applying()
    assert plan.status.state == PlanState.APPLYING
    assert plan.status.epoch == 1
    (entry,) = plan.status.calls
    assert (entry.state, entry.epoch, entry.holder) == (CallState.INTENDED, 1, "me")
    assert plan.status.pre_image == {"a": 1}


def test_looking_again_comes_before_the_first_call() -> None:
    """The baton alone starts no call: the world is looked at again first."""
    assert decide_plan(view(a_plan()), NOW).effects == (Replan(),)


def test_a_changed_world_supersedes_the_plan() -> None:
    """WorldChanged: nothing is called, and the plan is over."""
    changed = Replanned(at=NOW, same=False, reason="WorldChanged", message="somebody fixed it")
    decision = decide_plan(view(a_plan(), replanned=changed), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.SUPERSEDED, "WorldChanged")
    assert decision.status.settled
    assert decision.effects == ()


def test_a_result_is_written_with_the_next_intent() -> None:
    """P2: result n and intent n+1 are one write."""
    plan = applying(calls=2)
    answered = Answered(phase="Apply", index=0, attempt=1, ok=True, request_id="r-1")
    decision = decide_plan(view(plan, answered=answered), NOW)
    first, second = decision.status.calls
    assert (first.state, first.request_id) == (CallState.SUCCEEDED, "r-1")
    assert (second.state, second.index) == (CallState.INTENDED, 1)
    assert decision.effects == (Execute("Apply", 1, 1),)


@pytest.mark.parametrize("repeat", list(Repeat))
def test_an_orphan_waits_for_its_deadline_and_the_lease(repeat: Repeat) -> None:
    """Whoever sent it may still be at work: nobody touches it before."""
    plan = applying(repeat)
    decision = decide_plan(view(plan), NOW + timedelta(seconds=24))
    assert decision.effects == ()
    assert decision.wake_at == NOW + timedelta(seconds=25)


@pytest.mark.parametrize("repeat", [Repeat.ABSOLUTE, Repeat.GUARDED])
def test_an_orphan_that_left_no_trace_is_repeated_under_a_new_intent(repeat: Repeat) -> None:
    """Look first; only what is seen not to have happened is repeated."""
    plan, late = applying(repeat), NOW + timedelta(seconds=30)
    assert decide_plan(view(plan), late).effects == (Look("Apply", 0, 1),)
    seen = Observed(phase="Apply", index=0, attempt=1, applied=False)
    decision = decide_plan(view(plan, observed=seen), late)
    assert decision.effects == (Execute("Apply", 0, 2),)
    assert decision.status.calls[-1].attempt == 2


def test_an_orphan_found_done_is_not_repeated() -> None:
    """The world shows the effect: the journal says Observed, and verification begins."""
    plan, late = applying(), NOW + timedelta(seconds=30)
    seen = Observed(phase="Apply", index=0, attempt=1, applied=True)
    decision = decide_plan(view(plan, observed=seen), late)
    assert decision.status.calls[0].state == CallState.OBSERVED
    assert decision.status.state == PlanState.VERIFYING


def test_a_once_call_is_never_repeated() -> None:
    """An orphaned Once call is Unknown; verification decides when it was the last."""
    plan, late = applying(Repeat.ONCE), NOW + timedelta(seconds=30)
    decision = decide_plan(view(plan), late)
    assert decision.effects == ()
    assert decision.status.calls[0].state == CallState.UNKNOWN
    assert decision.status.state == PlanState.VERIFYING


def test_a_once_call_in_the_middle_stops_the_plan() -> None:
    """What follows an unknown Once call is not made: a person is told."""
    plan, late = applying(Repeat.ONCE, calls=2), NOW + timedelta(seconds=30)
    decision = decide_plan(view(plan), late)
    assert (decision.status.state, decision.status.reason) == (PlanState.UNKNOWN, "CallUnknown")


def test_a_call_without_an_answer_is_judged_at_its_deadline() -> None:
    """A broken connection proves nothing: look, once the call can't be under way any more."""
    plan = applying()
    lost = Answered(phase="Apply", index=0, attempt=1, ok=False, definite=False, code="Timeout")
    assert decide_plan(view(plan, answered=lost), NOW + timedelta(seconds=5)).wake_at == NOW + timedelta(seconds=10)
    assert decide_plan(view(plan, answered=lost), NOW + timedelta(seconds=11)).effects == (Look("Apply", 0, 1),)


def test_a_refused_first_call_leaves_the_world_as_it_was() -> None:
    """A definite failure of the first call: no effect, said so."""
    refused = Answered(phase="Apply", index=0, attempt=1, ok=False, code="AccessDenied")
    decision = decide_plan(view(applying(), answered=refused), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.NO_EFFECT, "CallFailed")


def test_a_new_epoch_is_stamped_before_anything_else() -> None:
    """A takeover writes its epoch first, which makes every write of the former leader a conflict."""
    decision = decide_plan(view(applying(), epoch=2), NOW + timedelta(minutes=5))
    assert decision.status.epoch == 2
    assert decision.effects == ()


def verifying() -> RemediationPlan:
    """Return a plan whose calls are made."""
    plan = applying()
    done = Answered(phase="Apply", index=0, attempt=1, ok=True)
    return stored(plan, decide_plan(view(plan, answered=done), NOW).status)


@pytest.mark.parametrize(
    ("outcome", "measured", "after", "state"),
    [
        ("Helped", True, 60, PlanState.HELPED),
        (None, True, 600, PlanState.NO_EFFECT),
        (None, False, 600, PlanState.INCONCLUSIVE),
        ("Worse", True, 60, PlanState.WORSE),
    ],
)
def test_verification_ends_as_measured(outcome: str | None, measured: bool, after: int, state: PlanState) -> None:
    """None at the deadline is NoEffect only if the signal was measured."""
    at = NOW + timedelta(seconds=after)
    judged = Judged(at=at, judgement=Judgement(outcome=outcome, measured=measured, message="m"))
    decision = decide_plan(view(verifying(), judged=judged), at)
    assert decision.status.state == state
    assert decision.status.settled


def test_verification_waits_before_it_looks() -> None:
    """The signal is not read before the plan's own wait is over."""
    plan = verifying()
    assert decide_plan(view(plan), NOW + timedelta(seconds=59)).wake_at == NOW + timedelta(seconds=60)
    assert decide_plan(view(plan), NOW + timedelta(seconds=60)).effects == (Judge(),)


def test_worse_is_put_back_where_the_plan_allows_it() -> None:
    """Revert on Worse: the undo is journaled like any call."""
    plan = verifying()
    plan = plan.model_copy(update={"spec": plan.spec.model_copy(update={"revert_if_worse": True})})
    at = NOW + timedelta(seconds=60)
    judged = Judged(at=at, judgement=Judgement(outcome="Worse", measured=True, message="more denials"))
    assert decide_plan(view(plan, judged=judged), at).effects == (CheckUndo(),)
    decision = decide_plan(view(plan, judged=judged, guarded=Guarded(at=NOW)), at)
    assert decision.status.state == PlanState.REVERTING
    assert decision.effects == (Execute("Undo", 0, 1),)
    back = stored(plan, decision.status)
    undone = Answered(phase="Undo", index=0, attempt=1, ok=True)
    assert decide_plan(view(back, answered=undone), at).status.state == PlanState.REVERTED


def test_a_plan_of_a_finished_run_expires_untouched() -> None:
    """I7: nothing acts for a settled run."""
    decision = decide_plan(view(a_plan(), run=the_run(settled=True)), NOW)
    assert decision.status.state == PlanState.EXPIRED
    assert decision.effects == ()


def rolling() -> RemediationPlan:
    """Return a plan of two calls whose first is intended; the second waits for what the first brings about."""
    later = a_call().model_copy(update={"ready_within": timedelta(minutes=5)})
    plan = a_plan(calls=(a_call(), later))
    decision = decide_plan(view(plan, replanned=Replanned(at=NOW, same=True, pre_image={})), NOW)
    return stored(plan, decision.status)


DONE_FIRST = Answered(phase="Apply", index=0, attempt=1, ok=True)


def test_a_call_that_waits_is_not_intended_before_the_world_is_ready() -> None:
    """The first result is stored at once; the second call is neither intended nor made."""
    decision = decide_plan(view(rolling(), answered=DONE_FIRST), NOW)
    assert [c.state for c in decision.status.calls] == [CallState.SUCCEEDED]
    assert decision.effects == (Await(1),)
    plan = stored(rolling(), decision.status)
    missing = Awaited(at=NOW, index=1, missing="1 of 2 in service")
    decision = decide_plan(view(plan, awaited=missing), NOW)
    assert (len(decision.status.calls), decision.effects) == (1, ())
    assert "1 of 2 in service" in decision.status.message
    assert decision.wake_at == NOW + plan.spec.verify.every
    again = decide_plan(view(stored(plan, decision.status), awaited=missing), NOW + plan.spec.verify.every)
    assert again.effects == (Await(1),)


def waiting() -> RemediationPlan:
    """Return a plan whose first call is made, and whose second waits."""
    return stored(rolling(), decide_plan(view(rolling(), answered=DONE_FIRST), NOW).status)


def test_a_ready_world_lets_the_next_call_be_made() -> None:
    """Its intent is written first, as for every call."""
    decision = decide_plan(view(waiting(), awaited=Awaited(at=NOW, index=1, missing="")), NOW)
    assert decision.effects == (Execute("Apply", 1, 1),)
    assert (decision.status.calls[1].index, decision.status.calls[1].state) == (1, CallState.INTENDED)


@pytest.mark.parametrize(
    "seen",
    [
        Awaited(at=NOW - timedelta(seconds=20), index=1, missing=""),
        Awaited(at=NOW, index=0, missing=""),
        None,
    ],
)
def test_an_old_look_or_one_for_another_call_is_no_go(seen: Awaited | None) -> None:
    """What was ready a while ago may not be any more."""
    assert decide_plan(view(waiting(), awaited=seen), NOW).effects == (Await(1),)


def test_a_call_that_is_made_again_is_looked_at_again() -> None:
    """A halt may last: what was ready before it may not be any more. The same after an interruption."""
    decision = decide_plan(view(waiting(), awaited=Awaited(at=NOW, index=1, missing="")), NOW)
    intended = stored(waiting(), decision.status)
    halted = Answered(phase="Apply", index=1, attempt=1, ok=False, code="GrantSuspended")
    failed = stored(intended, decide_plan(view(intended, answered=halted), NOW).status)
    assert failed.status.calls[-1].state == CallState.FAILED
    later = NOW + timedelta(minutes=1)
    assert decide_plan(view(failed), later).effects == (Await(1),)
    missing = Awaited(at=later, index=1, missing="it was restored meanwhile")
    assert decide_plan(view(failed, awaited=missing), later).effects == ()
    ready = Awaited(at=later, index=1, missing="")
    assert decide_plan(view(failed, awaited=ready), later).effects == (Execute("Apply", 1, 2),)
    lost = Observed(phase="Apply", index=1, attempt=1, applied=False)
    unseen = stored(intended, decide_plan(view(intended, observed=lost), later).status)
    assert (unseen.status.calls[-1].state, len(unseen.status.calls)) == (CallState.FAILED, 2)
    assert decide_plan(view(unseen), later + timedelta(seconds=2)).effects == (Await(1),)


def test_what_does_not_come_in_time_ends_the_plan_for_a_person_to_look() -> None:
    """Only a look made after the deadline ends it; the calls made stay, and no other is made."""
    plan, late = waiting(), NOW + timedelta(minutes=5)
    early = Awaited(at=NOW + timedelta(minutes=4), index=1, missing="1 of 2 in service")
    assert decide_plan(view(plan, awaited=early), late).effects == (Await(1),)
    decision = decide_plan(view(plan, awaited=Awaited(at=late, index=1, missing="1 of 2 in service")), late)
    assert (decision.status.state, decision.status.reason) == (PlanState.INCONCLUSIVE, "NotReadyInTime")
    assert len(decision.status.calls) == 1
    assert decision.effects == ()


def test_people_stop_a_plan_that_waits() -> None:
    """A cancelled run makes no further call, however ready the world is."""
    cancelled = the_run(active_plan=waiting().metadata.name, cancelling=Cancelling(by="alice", at=NOW, then="Leave"))
    ready = Awaited(at=NOW, index=1, missing="")
    decision = decide_plan(view(waiting(), run=cancelled, awaited=ready), NOW)
    assert not any(isinstance(effect, Execute) for effect in decision.effects)
    assert len(decision.status.calls) == 1


def test_one_look_at_a_time_while_a_plan_waits() -> None:
    """A look that is under way is not begun twice."""
    assert decide_plan(view(waiting(), busy=True), NOW + timedelta(minutes=1)).effects == ()
