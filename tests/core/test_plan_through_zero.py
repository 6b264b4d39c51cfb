"""To zero and back, as the plan's decisions have it: whatever happens, nothing goes to zero without AWS's way back."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.autoscaling_zero import RecycleThroughZero
from incident_operator.api.plan import CallState, PlanState, RemediationPlan, RemediationPlanStatus
from incident_operator.api.run import Cancelling, IncidentRunStatus
from incident_operator.core.plan import (
    Answered,
    Await,
    Awaited,
    Execute,
    Look,
    Observed,
    PlanView,
    Replan,
    Replanned,
    decide_plan,
)
from incident_operator.core.schedule import Timing
from tests.actions.test_autoscaling_zero import planned
from tests.builders import NOW, a_grant, a_plan, a_run, an_approval

PUT, ZERO, BACK, FORGET = range(4)
LEASE = Timing().lease_duration + timedelta(seconds=10)


def fresh(**status: Any) -> RemediationPlan:
    """Return the plan, agreed to by somebody who broke the glass."""
    draft = planned()
    glass = an_approval("carol", tier="Destructive", break_glass=True, reason="nobody is served")
    return a_plan(
        action=RecycleThroughZero.name,
        calls=draft.calls,
        undo=draft.undo,
        touches=draft.touches,
        risk=draft.risk,
        tier="Destructive",
        needs_break_glass=True,
        status=RemediationPlanStatus(**{"approvals": (glass,), **status}),
    )


def view(plan: RemediationPlan, *, run: Any = None, **facts: Any) -> PlanView:
    """Return a view of the plan that has the baton."""
    values: dict[str, Any] = {
        "run": run or a_run(status=IncidentRunStatus(active_plan=plan.metadata.name)),
        "grant": a_grant(),
        "epoch": 1,
        "holder": "me",
        "call_timeout": timedelta(seconds=10),
        "timing": Timing(),
    }
    return PlanView(plan=plan, **{**values, **facts})


def after(plan: RemediationPlan, *, at: Any = NOW, **facts: Any) -> RemediationPlan:
    """Return the plan as its decision was written."""
    return plan.model_copy(update={"status": decide_plan(view(plan, **facts), at).status})


def intended(index: int) -> RemediationPlan:
    """Return the plan with the call of this index intended, those before it made."""
    plan = after(fresh(), replanned=Replanned(at=NOW, same=True, pre_image={}))
    for number in range(index):
        plan = after(plan, answered=Answered(phase="Apply", index=number, attempt=1, ok=True))
        plan = after(plan, awaited=Awaited(at=NOW, index=number + 1, missing=""))
    assert (plan.status.calls[-1].index, plan.status.calls[-1].state) == (index, CallState.INTENDED)
    return plan


def test_the_world_is_looked_at_again_first_and_then_aws_is_told_to_restore() -> None:
    """No other call is before it."""
    assert decide_plan(view(fresh()), NOW).effects == (Replan(),)
    decision = decide_plan(view(fresh(), replanned=Replanned(at=NOW, same=True, pre_image={})), NOW)
    assert decision.effects == (Execute("Apply", PUT, 1),)


@pytest.mark.parametrize("code", ["AccessDenied", "ValidationError", "LimitExceeded", "AlreadyExists"])
def test_a_refused_schedule_ends_the_plan_with_nothing_changed(code: str) -> None:
    """Nothing else is sent, now or later."""
    refused = Answered(phase="Apply", index=PUT, attempt=1, ok=False, code=code)
    decision = decide_plan(view(intended(PUT), answered=refused), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.NO_EFFECT, "CallFailed")
    assert [call.index for call in decision.status.calls] == [PUT]
    assert not any(isinstance(effect, Execute | Await) for effect in decision.effects)


def test_a_schedule_that_aws_does_not_show_ends_the_plan_before_zero() -> None:
    """It was accepted, and is not there: the group is left as it is."""
    plan = after(intended(PUT), answered=Answered(phase="Apply", index=PUT, attempt=1, ok=True))
    late = NOW + timedelta(minutes=2)
    missing = Awaited(at=late, index=ZERO, missing="AWS would not restore it in time")
    decision = decide_plan(view(plan, awaited=missing), late)
    assert (decision.status.state, decision.status.reason) == (PlanState.INCONCLUSIVE, "NotReadyInTime")
    assert [call.index for call in decision.status.calls] == [PUT]


def test_a_successor_that_finds_the_group_at_zero_brings_it_back() -> None:
    """The operator died after the call: who takes over looks, sees zero, and goes on with the way back."""
    plan, taken_over = intended(ZERO), NOW + LEASE
    assert decide_plan(view(plan), taken_over).effects == (Look("Apply", ZERO, 1),)
    seen = after(plan, at=taken_over, observed=Observed(phase="Apply", index=ZERO, attempt=1, applied=True))
    assert seen.status.calls[-1].state == CallState.OBSERVED
    go = Awaited(at=taken_over, index=BACK, missing="")
    assert decide_plan(view(seen, awaited=go), taken_over).effects == (Execute("Apply", BACK, 1),)


def test_a_successor_that_comes_after_aws_restored_it_does_not_take_it_away_again() -> None:
    """The group has its size and the schedule is gone: the look before zero says so, until the plan ends."""
    plan, taken_over = intended(ZERO), NOW + timedelta(minutes=15)
    lost = Observed(phase="Apply", index=ZERO, attempt=1, applied=False)
    plan = after(plan, at=taken_over, observed=lost)
    assert (plan.status.calls[-1].index, plan.status.calls[-1].state) == (ZERO, CallState.FAILED)
    soon = taken_over + timedelta(seconds=5)
    assert decide_plan(view(plan), soon).effects == (Await(ZERO),)
    later = taken_over + timedelta(minutes=2)
    gone = Awaited(at=later, index=ZERO, missing="AWS would not restore it in time")
    decision = decide_plan(view(plan, awaited=gone), later)
    assert (decision.status.state, decision.effects) == (PlanState.INCONCLUSIVE, ())


def test_a_call_to_zero_that_nobody_can_tell_of_is_never_made_again() -> None:
    """Without a grant there is no look: the plan ends for people, and AWS restores the size."""
    plan, taken_over = intended(ZERO), NOW + LEASE
    unseen = Observed(phase="Apply", index=ZERO, attempt=1, applied=None)
    decision = decide_plan(view(plan, observed=unseen), taken_over)
    assert (decision.status.state, decision.status.reason) == (PlanState.UNKNOWN, "CallUnknown")
    assert not any(isinstance(effect, Execute) for effect in decision.effects)


def test_a_halt_after_zero_holds_the_plan_and_then_it_comes_back() -> None:
    """AWS restores it meanwhile; whoever lifts the halt later lets the plan find that."""
    plan = after(intended(ZERO), answered=Answered(phase="Apply", index=ZERO, attempt=1, ok=True))
    halted = a_grant(suspended={"reason": "halt"})
    decision = decide_plan(view(plan, grant=halted, awaited=Awaited(at=NOW, index=BACK, missing="")), NOW)
    assert [gate.name for gate in decision.status.gates] == ["GrantSuspended"]
    assert not any(isinstance(effect, Execute) for effect in decision.effects)
    later = NOW + timedelta(minutes=20)
    assert decide_plan(view(plan), later).effects == (Await(BACK),)
    go = Awaited(at=later, index=BACK, missing="")
    assert decide_plan(view(plan, awaited=go), later).effects == (Execute("Apply", BACK, 1),)


def test_a_cancel_that_puts_back_restores_the_size_at_once() -> None:
    """Not in ten minutes."""
    plan = after(intended(ZERO), answered=Answered(phase="Apply", index=ZERO, attempt=1, ok=True, post_image=[0, 0]))
    cancelling = Cancelling(by="alice", at=NOW, then="Revert")
    cancelled = a_run(status=IncidentRunStatus(active_plan=plan.metadata.name, cancelling=cancelling))
    decision = decide_plan(view(plan, run=cancelled), NOW)
    assert [type(effect).__name__ for effect in decision.effects] == ["CheckUndo"]
    assert plan.spec.undo is not None
    assert plan.spec.undo.calls[0].arguments == plan.spec.calls[BACK].arguments


def test_a_way_back_that_is_refused_leaves_it_to_aws() -> None:
    """The plan ends flagged to people; the schedule, which nobody removed, restores the size."""
    denied = Answered(phase="Apply", index=BACK, attempt=1, ok=False, code="AccessDenied")
    decision = decide_plan(view(intended(BACK), answered=denied), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.INCONCLUSIVE, "PartlyApplied")
    assert FORGET not in [call.index for call in decision.status.calls]
