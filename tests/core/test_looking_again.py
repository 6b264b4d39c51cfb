"""Looking at everything again, after a fix or while waiting, adds what is new and forgets nothing."""

from datetime import timedelta

import pytest

from incident_operator.api.plan import PlanState
from incident_operator.api.run import FixState, Impact, RunPhase
from incident_operator.core.impact import impact_in_words, impact_of, worse
from incident_operator.core.run import FixResult
from incident_operator.core.story import told_anew
from tests.builders import NOW
from tests.core.runs import a_round, decide, end_of, ended, proposed, protected, started

#: A fix that time alone may make fit.
NOT_YET = FixResult(
    name="endIdle", state=FixState.NOT_APPLICABLE, reason="NobodyIdle", message="nobody is idle yet", for_now=True
)


def test_a_fix_that_does_not_fit_yet_is_looked_at_again() -> None:
    """The run says for what it waits and until when, and diagnoses anew in half a minute."""
    decision = decide(started(diagnosis=1), a_round(fixes={"endIdle": NOT_YET}))
    status = decision.status
    assert (status.phase, status.settled, decision.wake_at) == (RunPhase.DIAGNOSING, False, NOW + timedelta(seconds=30))
    assert (status.now.waiting_for, status.now.because) == ("NobodyIdle", "nobody is idle yet")
    assert status.now.until == NOW + timedelta(minutes=15)


def test_a_fix_that_fits_is_not_kept_waiting_for_one_that_does_not() -> None:
    """It goes first; everything is looked at again afterwards anyway."""
    round_ = a_round(fixes={"endIdle": NOT_YET, "restoreAccess": proposed()})
    decision = decide(protected(started(diagnosis=1)), round_)
    assert decision.status.active_plan == "run-restoreaccess-1-00000000"


@pytest.mark.parametrize(
    ("minutes", "changes", "view"),
    [
        pytest.param(15, {}, {}, id="it has waited for long enough"),
        pytest.param(0, {"skipped": ("endIdle",)}, {}, id="somebody left the fix out"),
        pytest.param(0, {}, {"observe_only": True}, id="it only observes"),
    ],
)
def test_nobody_waits_for_nothing(minutes: int, changes: dict[str, object], view: dict[str, object]) -> None:
    """Then the run ends as it would have."""
    run, later = started(diagnosis=1, **changes), NOW + timedelta(minutes=minutes)
    phase, _ = end_of(decide(run, a_round(fixes={"endIdle": NOT_YET}), later, **view))
    assert phase == RunPhase.UNRESOLVED


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


@pytest.mark.parametrize(
    ("failed", "total", "summary"),
    [
        (36, 240, "15% of requests failed (36 of 240)"),
        (0, 240, "0% of requests failed (0 of 240)"),
        (520, 484, "100% of requests failed (520 of 520)"),
        (5, 0, None),
        (None, 240, None),
        (5, None, None),
    ],
)
def test_no_more_fail_than_ask(failed: float | None, total: float | None, summary: str | None) -> None:
    """Two metrics are read one after the other, and samples come in between; what is not known is no impact."""
    impact = impact_of(failed, total)
    assert (impact and impact.summary) == summary
    assert impact is None or (impact.percent or 0) <= 100


def test_impact_stays_what_it_was_at_its_worst() -> None:
    """A diagnosis after the fix sees fewer failures: the incident was not smaller for that."""
    worst = Impact(summary="all", failed=9, total=9, percent=100, measured_at=NOW)
    better = Impact(summary="few", failed=1, total=9, percent=11.1)
    first = started(diagnosis=1, impact=worst)
    assert decide(first, a_round(impact=better)).status.impact == worst
    assert decide(first, a_round(impact=None)).status.impact == worst


def test_impact_says_what_was_measured_when() -> None:
    """At the first diagnosis, and at its worst: each percentage with its own instant, in every text."""
    few = Impact(summary="24% of requests failed (19 of 79)", failed=19, total=79, percent=24)
    more = Impact(summary="60% of requests failed (6 of 10)", failed=6, total=10, percent=60)
    worst = Impact(summary="100% of requests failed (30 of 30)", failed=30, total=30, percent=100)
    run = started()
    stored = []
    for minutes, measured in ((0, few), (2, more), (4, worst), (6, few)):
        status = decide(run, a_round(impact=measured), NOW + timedelta(minutes=minutes)).status
        stored.append(status.impact)
        run = started(run, diagnosis=1, impact=status.impact)
    first, second, third, fourth = stored
    assert first == few.model_copy(update={"measured_at": NOW})
    assert impact_in_words(first) == "24% of requests failed"
    assert second.summary == "60% of requests failed (6 of 10) at worst; 24% at the first diagnosis"
    assert third == fourth, "better again is no news"
    assert third.summary == "100% of requests failed (30 of 30) at worst; 24% at the first diagnosis"
    assert impact_in_words(third) == (
        "100% of requests failed at worst (30 of 30, measured at 14:34:00 UTC); "
        "24% at the first diagnosis (19 of 79, at 14:30:00 UTC)"
    )


def test_a_worst_whose_instant_nobody_stored_is_not_told_as_a_first() -> None:
    """As of a run that an earlier version began."""
    old = Impact(summary="few", failed=1, total=9, percent=11.1)
    worst = Impact(summary="all", failed=9, total=9, percent=100)
    found = decide(started(impact=old), a_round(impact=worst)).status.impact
    assert found == worst.model_copy(update={"measured_at": NOW})
    assert worse(old, None) == worse(None, old) == worse(old, old.model_copy(update={"summary": "x"})) == old


def test_what_is_measured_goes_before_what_was_estimated() -> None:
    """Until a fix is applied: what is measured after it is not of the outage. That none failed refutes no estimate."""
    estimate = Impact(summary="about 100%", method="Estimated", failed=3, total=3, percent=100)
    measured = Impact(summary="34% of requests failed (34 of 100)", failed=34, total=100, percent=34)
    none = Impact(summary="0% of requests failed (0 of 100)", failed=0, total=100, percent=0)
    run = started(impact=estimate, diagnosis=1)
    found = decide(run, a_round(impact=measured)).status.impact
    assert found == measured.model_copy(update={"measured_at": NOW}), "with no first: that was no measurement"
    assert decide(started(impact=found, diagnosis=1), a_round(impact=estimate)).status.impact == found
    assert decide(run, a_round(impact=none)).status.impact == estimate
    helped = ended(PlanState.HELPED, hash="1" * 64)
    helped = helped.model_copy(update={"status": helped.status.model_copy(update={"applied_at": NOW})})
    assert decide(run, a_round(impact=measured), plans=(helped,)).status.impact == estimate
    assert impact_in_words(estimate) == "about 100% of requests failed (estimated)"


def test_waiting_does_not_fill_the_timeline() -> None:
    """The same said again by the same source is no news; something else in between makes it none either."""
    once = told_anew((), NOW, "Planned", "restore", "plan p")
    other = told_anew(once, NOW, "Diagnosed", "1 problem")
    assert told_anew(other, NOW, "Planned", "restore", "plan p") == other
    assert len(told_anew(other, NOW, "Planned", "restore (not by itself)", "plan p")) == 3
    assert len(told_anew(other, NOW, "Planned", "restore", "plan q")) == 3
