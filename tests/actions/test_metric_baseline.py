"""cloudwatch.metric against what was usual before the incident: unknown is never a pass, and a threshold goes first."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.cloudwatch import Metric, MetricInputs
from incident_operator.actions.ports import ReadError
from incident_operator.api.meta import format_instant, parse_instant
from tests.actions.reader import DictReader
from tests.builders import NOW

DETECTED = NOW - timedelta(minutes=3)


def reader(now: list[float], before: list[float] | Exception) -> DictReader:
    """Return a reader whose metric has these samples now, and those in the hour before the incident."""

    def answer(asked: Mapping[str, Any]) -> Any:
        is_now = parse_instant(asked["EndTime"]) > DETECTED
        values = now if is_now else before
        if isinstance(values, Exception):
            return values
        start = parse_instant(asked["StartTime"])
        end = NOW - timedelta(minutes=len(values) - 1) if is_now else start
        return [
            {
                "id": "metric",
                "at": [(end + timedelta(minutes=m)).isoformat() for m in range(len(values))],
                "values": values,
            }
        ]

    return DictReader({"cloudwatch.get_metric_data": answer})


def asked(world: DictReader, **inputs: Any) -> tuple[dict[str, Any], Any]:
    """Return output and findings of the hit rate."""
    given = MetricInputs.model_validate(
        {
            "namespace": "Shop",
            "metricName": "HitRate",
            "comparison": "LessThan",
            "minSamples": 3,
            "baselineTolerance": 0.05,
            "baselineUntil": format_instant(DETECTED),
            **inputs,
        }
    )
    facts = Metric().observe(given, world)
    return Metric().output(facts).wire(), Metric().findings(given, facts)


@pytest.mark.parametrize(("newest", "reasons"), [(0.95, []), (0.92, []), (1.0, []), (0.9, ["BaselineBreached"])])
def test_the_newest_sample_may_be_so_far_below_what_was_usual(newest: float, reasons: list[str]) -> None:
    """Five points of a hit rate, on the side that is worse only; the findings say both numbers."""
    output, found = asked(reader([0.1, 0.1, newest], [0.94, 0.96, 0.98]))
    assert output["baseline"] == pytest.approx(0.96)
    assert [f.reason for f in found] == reasons
    for one in found:
        assert one.message == "Shop HitRate is 0.9, more than 0.05 below the 0.96 that was usual before the incident"


def test_above_is_worse_where_the_runbook_says_so() -> None:
    """Such as of a latency."""
    (found,) = asked(reader([1, 1, 9], [2, 2, 2]), comparison="GreaterThan", baselineTolerance=5)[1]
    assert found.message.startswith("Shop HitRate is 9, more than 5 above the 2 ")
    assert asked(reader([1, 1, 7], [2, 2, 2]), comparison="GreaterThan", baselineTolerance=5)[1] == []


def test_usual_is_the_hour_that_ends_before_the_incident_may_have_begun() -> None:
    """Detection comes late: a quarter of an hour before it is no part of the baseline."""
    world = reader([1, 1, 1], [1, 1, 1])
    asked(world, baselineWindow="2h")
    start, end = (parse_instant(world.asked[0][1][key]) for key in ("StartTime", "EndTime"))
    assert (start, end) == (DETECTED - timedelta(minutes=135), DETECTED - timedelta(minutes=15))


@pytest.mark.parametrize("before", [[], [0.9, 0.9]])
@pytest.mark.parametrize("newest", [1.0, 0.0])
def test_without_a_baseline_nothing_is_said_of_the_newest_sample(before: list[float], newest: float) -> None:
    """Neither a pass nor a finding; the output has no number that could be taken for one."""
    output, found = asked(reader([newest] * 3, before))
    assert isinstance(found, Unclear)
    assert (found.reason, found.found) == ("NoBaseline", ())
    assert ("baseline" in output) == bool(before)


def test_a_baseline_without_an_end_is_none() -> None:
    """Nobody said when the incident was detected."""
    found = asked(reader([1, 1, 1], [1, 1, 1]), baselineUntil=None)[1]
    assert isinstance(found, Unclear)
    assert found.reason == "NoBaseline"


def test_a_threshold_goes_before_the_baseline() -> None:
    """Who knows better says so: nothing is read of before."""
    world = reader([0.8, 0.8, 0.8], ReadError("AccessDenied", "denied"))
    assert asked(world, threshold=0.75)[1] == []
    assert [f.reason for f in asked(world, threshold=0.85)[1]] == ["ThresholdBreached"]
    assert len(world.asked) == 2


def test_a_baseline_that_can_not_be_read_is_an_error() -> None:
    """As of any read."""
    with pytest.raises(ReadError, match="denied"):
        asked(reader([1, 1, 1], ReadError("AccessDenied", "denied")))
