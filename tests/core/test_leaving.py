"""What a leader that is told to end still stores of a plan."""

from datetime import timedelta

import pytest

from incident_operator.api.plan import CallState, PlanState
from incident_operator.core.draft import Judgement
from incident_operator.core.plan import (
    Answered,
    Execute,
    Judged,
    Look,
    PlanDecision,
    PlanView,
    Replanned,
    decide_plan,
)
from incident_operator.core.plan.leaving import last_words
from tests.builders import NOW, a_plan

from .test_plan import applying, stored, view


def leaving(view_: PlanView, seconds: float = 1) -> PlanDecision:
    """Return what is left of a decision."""
    return last_words(view_.plan.status, decide_plan(view_, NOW + timedelta(seconds=seconds)))


def test_the_outcome_is_stored_and_the_next_call_is_not_begun() -> None:
    """The successor finds a journal without a call in doubt, and intends the next in its own epoch."""
    plan = applying(calls=2)
    decision = leaving(view(plan, answered=Answered(phase="Apply", index=0, attempt=1, ok=True), busy=True))
    (entry,) = decision.status.calls
    assert entry.state == CallState.SUCCEEDED
    assert decision.effects == ()
    left = stored(plan, decision.status)
    taken = decide_plan(view(left, epoch=2, holder="other"), NOW + timedelta(seconds=2))
    assert taken.status.epoch == 2
    next_ = decide_plan(view(stored(left, taken.status), epoch=2, holder="other"), NOW + timedelta(seconds=2))
    assert next_.effects == (Execute("Apply", 1, 1),)


def test_the_last_outcome_ends_the_calls_as_ever() -> None:
    """Nothing new is begun by it, so nothing is held back."""
    decision = leaving(view(applying(), answered=Answered(phase="Apply", index=0, attempt=1, ok=True), busy=True))
    assert decision.status.state == PlanState.VERIFYING


def test_a_failure_that_would_be_repeated_is_stored_and_not_repeated() -> None:
    """The successor repeats it."""
    failed = Answered(phase="Apply", index=0, attempt=1, ok=False, code="Throttling")
    decision = leaving(view(applying(), answered=failed, busy=True))
    assert [entry.state for entry in decision.status.calls] == [CallState.FAILED]
    assert decision.effects == ()


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_lost_answer_is_looked_for(seconds: float) -> None:
    """Once the call can't be under way any more: who made it knows soonest."""
    lost = Answered(phase="Apply", index=0, attempt=1, ok=False, definite=False, code="Timeout")
    plan = applying()
    decision = leaving(view(plan, answered=lost), seconds)
    assert decision.status == plan.status
    assert decision.effects == ((Look("Apply", 0, 1),) if seconds else ())
    assert seconds or decision.wake_at == plan.status.calls[0].deadline


def test_nothing_is_begun() -> None:
    """Neither the first call of a plan nor the undo of one that made things worse."""
    proposed = a_plan()
    decision = leaving(view(proposed, replanned=Replanned(at=NOW, same=True, pre_image={})))
    assert (decision.status, decision.effects) == (proposed.status, ())
    applied = decide_plan(
        view(applying(), answered=Answered(phase="Apply", index=0, attempt=1, ok=True), busy=True), NOW
    )
    verifying = stored(applying(), applied.status)
    worse = Judged(at=NOW + timedelta(hours=1), judgement=Judgement(outcome="Worse", measured=True, message="worse"))
    assert decide_plan(view(verifying, judged=worse), worse.at).status != verifying.status
    decision = leaving(view(verifying, judged=worse), 3600)
    assert CallState.INTENDED not in {entry.state for entry in decision.status.calls}
    assert decision.effects == ()
