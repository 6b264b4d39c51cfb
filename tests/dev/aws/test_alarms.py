"""Metric alarms, over the wire: their state follows the metric, a turn in between is not missed, nothing is made up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Account, eventually

#: Seconds. Shorter than CloudWatch takes: the simulator keeps what a scaled stack needs.
PERIOD = 1
FAILS = "def handler(event, context):\n    raise ValueError('no good')\n"
NAME = "errors"


def put(account: Account, **more: Any) -> None:
    """Make an alarm on a metric of the test's own."""
    wanted = {
        "AlarmName": NAME,
        "Namespace": "Shop",
        "MetricName": "Failed",
        "Statistic": "Sum",
        "Period": PERIOD,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0,
        **more,
    }
    account.client("cloudwatch").put_metric_alarm(**{k: v for k, v in wanted.items() if v is not None})


def sample(account: Account, value: float, at: datetime | None = None) -> None:
    """Report a value, by default of now."""
    data = {"MetricName": "Failed", "Value": value, "Timestamp": at or datetime.now(UTC)}  # noqa: TID251
    account.client("cloudwatch").put_metric_data(Namespace="Shop", MetricData=[data])


def alarm(account: Account) -> Any:
    """Return the alarm as described."""
    (found,) = account.client("cloudwatch").describe_alarms(AlarmNames=[NAME])["MetricAlarms"]
    return found


def in_state(account: Account, state: str, before: Callable[[], None] = lambda: None) -> Any:
    """Return the alarm once it is in a state."""

    def there() -> Any:
        before()
        found = alarm(account)
        return found if found["StateValue"] == state else None

    found = eventually(there, seconds=30 * PERIOD)
    assert found, alarm(account)
    return found


def test_a_new_alarm_knows_nothing_and_follows_the_metric(account: Account) -> None:
    """INSUFFICIENT_DATA, ALARM with the values it rests on, OK; and each turn has its instant."""
    put(account)
    new = alarm(account)
    assert (new["StateValue"], new["ActionsEnabled"]) == ("INSUFFICIENT_DATA", True)
    rang = in_state(account, "ALARM", before=lambda: sample(account, 1))
    assert rang["StateUpdatedTimestamp"] > new["StateUpdatedTimestamp"]
    assert '"recentDatapoints": [' in rang["StateReasonData"]
    well = in_state(account, "OK", before=lambda: sample(account, 0))
    turned = well["StateUpdatedTimestamp"] - rang["StateUpdatedTimestamp"]
    assert turned >= timedelta(seconds=PERIOD), "a state lasts whole periods"


def test_an_alarm_that_rang_while_nobody_looked_has_moved(account: Account) -> None:
    """What came in between is made up for: samples of the period before last, and nothing since."""
    put(account, TreatMissingData="notBreaching")
    in_state(account, "OK")
    quiet = alarm(account)["StateUpdatedTimestamp"]
    sample(account, 1)
    passed = datetime.now(UTC) + timedelta(seconds=2 * PERIOD + 1)  # noqa: TID251

    assert eventually(lambda: datetime.now(UTC) > passed, seconds=10 * PERIOD)  # noqa: TID251
    found = alarm(account)
    assert found["StateValue"] == "OK"
    assert found["StateUpdatedTimestamp"] >= quiet + timedelta(seconds=PERIOD)


@pytest.mark.parametrize(
    ("treat", "expected"),
    [("missing", "INSUFFICIENT_DATA"), ("breaching", "ALARM"), ("notBreaching", "OK"), ("ignore", "ALARM")],
)
def test_missing_samples_are_what_the_alarm_says(account: Account, treat: str, expected: str) -> None:
    """From ALARM, without a single sample; that it was in ALARM is what `ignore` shows, for it lasts one period."""
    put(account, TreatMissingData=treat)
    account.client("cloudwatch").set_alarm_state(AlarmName=NAME, StateValue="ALARM", StateReason="by hand")
    made = alarm(account)["AlarmConfigurationUpdatedTimestamp"]
    passed = made + timedelta(seconds=2 * PERIOD)
    assert eventually(lambda: datetime.now(UTC) > passed, seconds=10 * PERIOD)  # noqa: TID251
    assert alarm(account)["StateValue"] == expected


def test_the_errors_of_a_function_ring(account: Account) -> None:
    """The simulator's own metrics, too."""
    account.function(FAILS, account.role("app"))
    where = [{"Name": "FunctionName", "Value": "fn"}]
    put(account, Namespace="AWS/Lambda", MetricName="Errors", Dimensions=where)
    in_state(account, "ALARM", before=lambda: account.invoke() and None)


def test_actions_are_disabled_and_enabled_and_a_changed_alarm_keeps_its_state(account: Account) -> None:
    """Its configuration is state of the account, its state is not, which missing samples leave as it is here."""
    client = account.client("cloudwatch")
    put(account, TreatMissingData="ignore")
    client.set_alarm_state(AlarmName=NAME, StateValue="OK", StateReason="by hand")
    before = account.ask("dump")
    client.disable_alarm_actions(AlarmNames=[NAME])
    assert alarm(account)["ActionsEnabled"] is False
    assert account.ask("dump") != before
    client.enable_alarm_actions(AlarmNames=[NAME])
    assert account.ask("dump") == before
    put(account, Threshold=5, TreatMissingData="ignore")
    assert (alarm(account)["Threshold"], alarm(account)["StateValue"]) == (5, "OK")
    assert client.describe_alarms(AlarmNames=["other"])["MetricAlarms"] == []


@pytest.mark.parametrize(
    "more",
    [
        {"Statistic": None, "ExtendedStatistic": "p90"},
        {"ComparisonOperator": "LessThanLowerOrGreaterThanUpperThreshold"},
    ],
)
def test_what_can_not_be_judged_is_refused(account: Account, more: dict[str, Any]) -> None:
    """Never kept with a state that means nothing."""
    with pytest.raises(ClientError, match="NotImplemented"):
        put(account, **more)
