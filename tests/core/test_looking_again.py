"""Looking at everything again, after a fix or while waiting, adds what is new and forgets nothing."""

from incident_operator.api.plan import PlanState
from incident_operator.api.run import Impact
from incident_operator.core.story import told_anew
from tests.builders import NOW
from tests.core.runs import a_round, decide, ended, proposed, protected, started


def test_the_same_fix_may_cure_a_second_cause() -> None:
    """Another change by the same fix: what it restores now was hidden by the first cause."""
    round_ = a_round(fixes={"restoreAccess": proposed()})
    decision = decide(protected(started(diagnosis=1)), round_, plans=(ended(PlanState.HELPED, hash="1" * 64),))
    assert decision.status.active_plan == "run-restoreaccess-1-00000000"


def test_a_fix_without_effect_is_not_varied() -> None:
    """Twice as much of what did not help is for people to decide."""
    round_ = a_round(fixes={"restoreAccess": proposed()})
    decision = decide(started(diagnosis=1), round_, plans=(ended(PlanState.NO_EFFECT, hash="1" * 64),))
    assert decision.status.active_plan is None


def test_impact_stays_what_it_was_at_its_worst() -> None:
    """A diagnosis after the fix sees fewer failures: the incident was not smaller for that."""
    worst = Impact(summary="all", failed=9, total=9, percent=100)
    better = Impact(summary="few", failed=1, total=9, percent=11.1)
    first = started(diagnosis=1, impact=worst)
    assert decide(first, a_round(impact=better)).status.impact == worst
    assert decide(started(impact=better), a_round(impact=worst)).status.impact == worst


def test_waiting_does_not_fill_the_timeline() -> None:
    """The same said again by the same source is no news; something else in between makes it none either."""
    once = told_anew((), NOW, "Planned", "restore", "plan p")
    other = told_anew(once, NOW, "Diagnosed", "1 problem")
    assert told_anew(other, NOW, "Planned", "restore", "plan p") == other
    assert len(told_anew(other, NOW, "Planned", "restore (not by itself)", "plan p")) == 3
    assert len(told_anew(other, NOW, "Planned", "restore", "plan q")) == 3
