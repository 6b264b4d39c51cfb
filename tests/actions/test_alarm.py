"""cloudwatch.alarm: an alarm works when it is there, quiet, enabled and sees samples; unknown is not health."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Found, Unclear
from incident_operator.actions.cloudwatch import Alarm, AlarmInputs, AlarmOutput
from incident_operator.actions.ports import ReadError
from incident_operator.actions.reads import READS
from incident_operator.api.meta import format_instant
from tests.actions.reader import DictReader
from tests.builders import NOW

NAME = "checkout-errors"
ARN = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:checkout: errors"


def stored(**fields: Any) -> dict[str, Any]:
    """Return an alarm as the reader gives it: it fell silent ten minutes ago."""
    return {
        "AlarmName": NAME,
        "StateValue": "OK",
        "StateUpdatedTimestamp": format_instant(NOW - timedelta(minutes=10)),
        "ActionsEnabled": True,
        "Namespace": "Shop",
        "MetricName": "Failed",
        "Dimensions": [{"Name": "Page", "Value": "cart"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 3,
    } | fields


def samples(*ages: timedelta) -> list[dict[str, Any]]:
    """Return series with samples of these ages."""
    return [{"id": "watched", "at": [format_instant(NOW - age) for age in ages], "values": [0.0] * len(ages)}]


def answered(*alarms: dict[str, Any], series: Any = None, **inputs: Any) -> tuple[list[str] | str, AlarmOutput, Any]:
    """Return the reasons of what is found, or the one of what is not known; the output; and the reader."""
    answers = {
        "cloudwatch.describe_alarms": list(alarms),
        "cloudwatch.get_metric_data": samples(timedelta(minutes=1)) if series is None else series,
    }
    reader: Any = DictReader(answers)
    given = AlarmInputs.model_validate({"alarmNames": [NAME], **inputs})
    facts = Alarm().observe(given, reader)
    found = Alarm().findings(given, facts)
    shown = found.reason if isinstance(found, Unclear) else [one.reason for one in found]
    return shown, Alarm().output(facts), reader


@pytest.mark.parametrize(
    ("fields", "series", "expected"),
    [
        pytest.param({}, None, [], id="it works"),
        pytest.param({"StateValue": "ALARM"}, None, ["AlarmFiring"], id="it rings"),
        pytest.param({"ActionsEnabled": False}, None, ["AlarmDisabled"], id="it would tell nobody"),
        pytest.param(
            {"ActionsEnabled": False, "StateValue": "ALARM"}, None, ["AlarmFiring", "AlarmDisabled"], id="both"
        ),
        pytest.param(
            {"StateValue": "INSUFFICIENT_DATA"}, None, ["AlarmWithoutData"], id="it says that it sees nothing"
        ),
        pytest.param({}, samples(), ["AlarmWithoutData"], id="it is quiet, for nothing comes"),
        pytest.param({}, [], ["AlarmWithoutData"], id="CloudWatch has no such series"),
    ],
)
def test_what_keeps_an_alarm_from_working_is_found(fields: dict[str, Any], series: Any, expected: list[str]) -> None:
    """By its state, whether it is enabled, and whether samples come."""
    found, output, _ = answered(stored(**fields), series=series)
    assert found == expected
    assert output.total == 1
    assert (output.firing, output.disabled, output.without_data) == tuple(
        int(reason in expected) for reason in ("AlarmFiring", "AlarmDisabled", "AlarmWithoutData")
    )


def test_an_alarm_that_rings_is_told_in_words() -> None:
    """Which one, and since when."""
    reader = answered(stored())[2]
    facts = Alarm().observe(AlarmInputs(alarm_names=(NAME,)), reader)
    ringing = facts.alarms[0].model_copy(update={"state": "ALARM"})
    (found,) = list(Alarm().findings(AlarmInputs(), facts.model_copy(update={"alarms": (ringing,)})))  # type: ignore[arg-type]
    assert isinstance(found, Found)
    assert found.message == f"alarm {NAME} is in ALARM since {NOW - timedelta(minutes=10):%Y-%m-%d %H:%M:%S}Z"


def test_a_missing_alarm_is_found_beside_those_that_work() -> None:
    """Each is looked at."""
    found, output, _ = answered(stored(), alarmNames=[NAME, "gone"])
    assert found == ["AlarmMissing"]
    assert (output.total, output.ok, output.missing) == (2, 1, 1)


def test_no_alarm_named_proves_nothing() -> None:
    """Nothing is asked, and nothing is known."""
    found, _, reader = answered(alarmNames=[])
    assert found == "NoAlarmNamed"
    assert reader.asked == []


@pytest.mark.parametrize(("age", "expected"), [(14, []), (15, []), (16, "AlarmSilent")])
def test_an_alarm_that_did_not_move_did_not_see_the_incident(age: int, expected: Any) -> None:
    """Since when is the reader's word; without the wish, nobody asks."""
    quiet = stored(StateUpdatedTimestamp=format_instant(NOW - timedelta(minutes=age)))
    assert answered(quiet, expectReaction=True)[0] == expected
    assert answered(quiet)[0] == []


def test_a_composite_alarm_is_not_judged() -> None:
    """It has no samples of its own; that it rings is known all the same."""
    bare = {k: v for k, v in stored().items() if k not in ("MetricName", "Namespace", "Period")}
    found, output, reader = answered(bare)
    assert (found, output.without_data) == ("CompositeAlarm", 0)
    assert [name for name, _, _ in reader.asked] == ["cloudwatch.describe_alarms"]
    assert answered({**bare, "StateValue": "ALARM"})[0] == ["AlarmFiring"]


def test_the_metric_is_asked_as_the_alarm_sees_it() -> None:
    """Statistic, dimensions, unit; over maxAge, or two of its own periods where longer; metric math as it is."""
    (_, asked, _) = answered(stored(Unit="Count"))[2].asked[1]
    (query,) = asked["MetricDataQueries"]
    assert query["MetricStat"]["Metric"]["Dimensions"] == [{"Name": "Page", "Value": "cart"}]
    assert (query["MetricStat"]["Stat"], query["MetricStat"]["Unit"]) == ("Sum", "Count")
    assert asked["StartTime"] == (NOW - timedelta(minutes=15)).isoformat()
    (_, asked, _) = answered(stored(Period=86400, Statistic=None, ExtendedStatistic="p90"))[2].asked[1]
    assert asked["MetricDataQueries"][0]["MetricStat"]["Stat"] == "p90"
    assert asked["StartTime"] == (NOW - timedelta(days=2)).isoformat()
    math = [{"Id": "rate", "Expression": "a / b", "Period": 300}]
    (_, asked, _) = answered({**stored(), "Metrics": math})[2].asked[1]
    assert asked["MetricDataQueries"] == math


def test_an_arn_says_where_the_alarm_is() -> None:
    """Region and name are the ARN's; one of another account is not asked for, a namesake may be there."""
    asked = answered(stored(AlarmName="checkout: errors"), alarmNames=[ARN], region="us-east-1")[2].asked
    assert [region for _, _, region in asked] == ["eu-west-1"] * 2
    assert asked[0][1]["AlarmNames"] == ["checkout: errors"]
    with pytest.raises(ReadError, match="is in account 999999999999") as refused:
        answered(alarmNames=[ARN.replace("123456789012", "999999999999")])
    assert refused.value.reason == "NotGranted"


def test_the_read_keeps_no_free_text() -> None:
    """Neither description nor reason (decision 19); both kinds of alarm are kept."""
    free = {"AlarmDescription": "call Ada", "StateReason": "text", "StateReasonData": "{}", "AlarmActions": ["arn"]}
    composite = {"AlarmName": "all", "AlarmRule": "ALARM(a)", "StateValue": "OK", "ActionsEnabled": True, **free}
    kept = READS["cloudwatch", "describe_alarms"].project(
        {"MetricAlarms": [stored() | free], "CompositeAlarms": [composite]}
    )
    assert kept == [stored(), {"AlarmName": "all", "StateValue": "OK", "ActionsEnabled": True}]
