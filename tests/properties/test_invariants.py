"""Each invariant sees its own breach: a check that can't fail proves nothing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.plan import (
    CallState,
    JournalEntry,
    PlanState,
    RemediationPlan,
    RemediationPlanStatus,
    Repeat,
)
from incident_operator.api.run import Baseline, IncidentRun, IncidentRunStatus, RunPhase
from incident_operator.core.invariants import INVARIANTS, Moment, Sent, check_end, check_history
from tests.builders import NOW, a_call, a_grant, a_plan, a_run

ENTRY = JournalEntry(
    index=0, state=CallState.INTENDED, intent_at=NOW, deadline=NOW + timedelta(seconds=10), epoch=1, holder="me"
)
APPLYING = RemediationPlanStatus(state=PlanState.APPLYING, epoch=1, calls=(ENTRY,))
RUN = a_run(status=IncidentRunStatus(phase=RunPhase.REMEDIATING, started_at=NOW, diagnosis=1))
PLAN = a_plan(status=APPLYING)
NAME = PLAN.metadata.name
SENT = Sent(at=NOW, plan=NAME, attempt=1, epoch=1, holder="me", call=a_call())


def moment(plan: RemediationPlan = PLAN, run: IncidentRun = RUN, **fields: Any) -> Moment:
    """Return a moment with one run and one plan."""
    values: dict[str, Any] = {"at": NOW, "grants": (a_grant(),), "runs": {"run": run}, "plans": {NAME: plan}}
    return Moment(**{**values, **fields})


def with_status(**changes: Any) -> RemediationPlan:
    """Return the plan with another status."""
    return PLAN.model_copy(update={"status": APPLYING.model_copy(update=changes)})


def ran(**changes: Any) -> IncidentRun:
    """Return the run with another status."""
    return RUN.model_copy(update={"status": RUN.status.model_copy(update=changes)})


ONCE = PLAN.model_copy(update={"spec": PLAN.spec.model_copy(update={"calls": (a_call(repeat=Repeat.ONCE),)})})
OBSERVING = a_run(status=RUN.status, automation={"applyUpTo": "None", "askUpTo": "None"})
DONE = ENTRY.model_copy(update={"state": CallState.SUCCEEDED})
UNKNOWN = ENTRY.model_copy(update={"state": CallState.UNKNOWN})
GLASS = PLAN.model_copy(update={"spec": PLAN.spec.model_copy(update={"needs_break_glass": True})})
NARROW = a_grant(
    aws={"roleArn": PLAN.spec.role, "regions": ["us-east-1"], "resources": ["arn:aws:iam::123456789012:role/x"]}
)


def test_a_call_under_its_intent_breaks_nothing() -> None:
    """The lawful history: an intent is stored, its call is sent, its result is stored."""
    done = with_status(state=PlanState.VERIFYING, calls=(DONE,))
    assert check_history([moment(), moment(sent=(SENT,)), moment(done)]) == []


@pytest.mark.parametrize(
    ("number", "history"),
    [
        ("I1", [moment(with_status(calls=())), moment(sent=(SENT,))]),
        ("I1", [moment(), moment(sent=(replace(SENT, epoch=2),))]),
        ("I1", [moment(), moment(sent=(replace(SENT, holder="another"),))]),
        ("I1", [moment(), moment(sent=(replace(SENT, attempt=2),))]),
        ("I1", [moment(), moment(sent=(replace(SENT, at=NOW + timedelta(seconds=11)),))]),
        ("I1", [moment(with_status(calls=(DONE,))), moment(sent=(SENT,))]),
        ("I1", [moment(), moment(with_status(calls=(UNKNOWN,)))]),
        ("I2", [moment(), moment(sent=(Sent(at=NOW, plan=None),))]),
        ("I2", [moment(run=OBSERVING), moment(run=OBSERVING, sent=(SENT,))]),
        ("I3", [moment(ONCE), moment(ONCE, sent=(SENT,)), moment(ONCE, sent=(SENT,))]),
        ("I3", [moment(with_status(state=PlanState.HELPED)), moment(sent=(SENT,))]),
        ("I4", [moment(), moment(sent=(replace(SENT, call=a_call(operation="delete_role")),))]),
        ("I4", [moment(), moment(sent=(replace(SENT, index=3),))]),
        ("I4", [moment(GLASS), moment(GLASS, sent=(SENT,))]),
        ("I4", [moment(), moment(ONCE)]),
        ("I6", [moment(), moment(with_status(message="password=hunter2"))]),
        ("I6", [moment(), moment(told=("postgres://a:hunter2@db",))]),
        ("I7", [moment(run=ran(settled=True)), moment(run=ran(settled=True), sent=(SENT,))]),
        ("I7", [moment(run=ran(settled=True)), moment(run=ran(settled=True, phase=RunPhase.RESOLVED))]),
        ("I7", [moment(with_status(settled=True)), moment(with_status(settled=True, message="again"))]),
        ("I8", [moment(), moment(run=ran(settled=True))]),
        ("I8", [moment(), moment(with_status(state=PlanState.NO_EFFECT), ran(settled=True))]),
        ("I10", [moment(), moment(with_status(state=PlanState.PROPOSED))]),
        ("I10", [moment(), moment(with_status(calls=()))]),
        ("I10", [moment(), moment(with_status(epoch=0))]),
        ("I10", [moment(with_status(calls=(DONE,))), moment()]),
        ("I10", [moment(), moment(with_status(calls=(ENTRY, ENTRY)))]),
        ("I10", [moment(), moment(run=ran(diagnosis=0))]),
        ("I10", [moment(), moment(run=ran(baseline=Baseline(state="Passing", at=NOW)))]),
        ("I10", [moment(), moment(run=ran(started_at=NOW + timedelta(seconds=1)))]),
        ("I11", [moment(grants=()), moment(sent=(SENT,))]),
        ("I11", [moment(grants=(NARROW,)), moment(sent=(SENT,))]),
    ],
)
def test_a_breach_is_named_with_its_reason(number: str, history: list[Moment]) -> None:
    """The violation says which invariant, at which step, and why it must hold."""
    found = {v.invariant.split()[0]: v for v in check_history(history)}
    assert number in found
    why = next(i.why for i in INVARIANTS if i.name.split()[0] == number)
    assert why in str(found[number])
    assert found[number].step == len(history) - 1


def test_what_hangs_is_a_breach() -> None:
    """A world at rest with an unsettled run or plan has forgotten somebody."""
    assert [v.invariant.split()[0] for v in check_end(moment())] == ["I8", "I8"]
    assert check_end(moment(with_status(settled=True), ran(settled=True))) == []
