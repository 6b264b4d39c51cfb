"""BehindSchedule: the document's minutes, told with what a run writes anyway."""

from datetime import datetime, timedelta

import pytest

from incident_operator.api.meta import Condition
from incident_operator.api.plan import PlanState, RemediationPlanStatus
from incident_operator.api.run import CheckState, IncidentRunStatus, RunPhase
from incident_operator.core.run import RunDecision
from tests.builders import NOW, a_run
from tests.core.runs import (
    GATE,
    a_round,
    a_sample,
    decide,
    end_of,
    proposed,
    recovering,
    started,
    the_plan,
)

#: After the second step's `expectedBy`, which is 10 m.
LATE = NOW + timedelta(minutes=11)


def pace(status: IncidentRunStatus) -> Condition | None:
    """Return the condition BehindSchedule; None where it is absent."""
    return next((c for c in status.conditions if c.type == "BehindSchedule"), None)


def asked(now: datetime) -> RunDecision:
    """Return what a diagnosis decides that ends in asking people about the fix of the second step."""
    return decide(started(), a_round(fixes={"restoreAccess": proposed(gates=(GATE,))}), now)


def test_a_step_that_is_late_is_told_with_what_is_written_anyway() -> None:
    """The step, and the minute that the document gives it."""
    condition = pace(asked(LATE).status)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "StepLate")
    assert condition.message == "Quick Remediation: expected by 2026-01-15 14:40:00Z"


@pytest.mark.parametrize("now", [NOW, NOW + timedelta(minutes=10)])
def test_in_time_nothing_is_told(now: datetime) -> None:
    """The condition is absent, up to the very minute."""
    assert pace(asked(now).status) is None


def test_being_late_is_worth_no_write_of_its_own() -> None:
    """A decision that changes nothing else changes nothing: while checks run, and between two samples."""
    run = started()
    assert decide(run, now=LATE).status == run.status
    due, plan = NOW + timedelta(minutes=10), the_plan(status=RemediationPlanStatus(gates=(GATE,)))
    waiting = a_run(status=asked(due - timedelta(seconds=10)).status)
    assert decide(waiting, now=due + timedelta(seconds=10), plans=(plan,)).status == waiting.status


def test_while_it_is_late_it_is_said_since_when() -> None:
    """The transition is kept, and the same decision again writes nothing."""
    first = asked(LATE)
    plan = the_plan(status=RemediationPlanStatus(gates=(GATE,)))
    later = decide(a_run(status=first.status), a_sample(CheckState.FAILED), LATE + timedelta(minutes=2), plans=(plan,))
    condition = pace(later.status)
    assert later.status != first.status
    assert condition is not None
    assert (condition.status, condition.last_transition_time) == ("True", LATE)


def test_it_is_over_when_the_step_is_done() -> None:
    """No fix of the runbook has anything left to do, and users are watched."""
    late = asked(LATE).status
    steps = tuple(
        step.model_copy(
            update={
                "checks": tuple(c.model_copy(update={"state": CheckState.PASSED}) for c in step.checks),
                "fixes": tuple(f.model_copy(update={"state": PlanState.HELPED}) for f in step.fixes),
            }
        )
        for step in late.steps
    )
    run = a_run(status=late.model_copy(update={"steps": steps, "phase": RunPhase.VERIFYING}))
    condition = pace(decide(run, a_sample(CheckState.PASSED), LATE + timedelta(minutes=2)).status)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("False", "OnSchedule", "no step is late")


def test_it_is_over_when_the_run_ends() -> None:
    """Whatever was left undone."""
    late = asked(LATE).status
    over = decide(a_run(status=late), now=NOW + timedelta(hours=5), plans=(the_plan(),))
    assert end_of(over)[0] == RunPhase.UNRESOLVED
    condition = pace(over.status)
    assert condition is not None
    assert condition.status == "False"


def test_a_run_that_ends_late_without_having_said_so_says_nothing_now() -> None:
    """Observe-only keeps its two writes, and has no condition that was never true."""
    only = started(a_run(automation={"applyUpTo": "None", "askUpTo": "None"}))
    observed = decide(only, a_round(fixes={"restoreAccess": proposed()}), LATE, observe_only=True)
    assert end_of(observed) == (RunPhase.UNRESOLVED, "ObserveOnly")
    assert pace(observed.status) is None
    assert pace(decide(recovering(), a_sample(CheckState.PASSED), NOW).status) is None
