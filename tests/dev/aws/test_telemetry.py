"""What is known late: log lines, metrics, CloudTrail; and the patterns and periods they are asked with."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.aws.clock import Clock
from dev.aws.filters import matches
from dev.aws.telemetry import LOGS_DELAY, METRICS_DELAY, TRAIL_DELAY, Delayed
from dev.aws.wire import Refused

from .conftest import Account, eventually

SPEAKS = """
import logging
def handler(event, context):
    print("plain words")
    logging.getLogger().warning("a %s", "warning")
    if event == "fail":
        raise ValueError("no good")
    return event
"""


class Frozen(Clock):
    """A clock that stands until it is moved."""

    at = datetime(2024, 1, 15, 14, 30, tzinfo=UTC)

    def now(self) -> datetime:
        """Return where it stands."""
        return self.at


@pytest.fixture
def moved() -> Iterator[type[Frozen]]:
    """The clock's class, put back after the test."""
    before = Frozen.at
    yield Frozen
    Frozen.at = before


@pytest.mark.parametrize(
    ("delay", "scale", "expected"),
    [
        (LOGS_DELAY, 1, 10),
        (METRICS_DELAY, 1, 60),
        (TRAIL_DELAY, 1, 300),
        (TRAIL_DELAY, 60, 5),
        (METRICS_DELAY, 20, 3),
        (LOGS_DELAY, 60, 0.2),
    ],
)
def test_each_kind_has_its_ingestion_delay(
    moved: type[Frozen], delay: timedelta, scale: float, expected: float
) -> None:
    """Nothing shows a moment early; delays are divided by the time scale, not below 200 ms."""
    delayed, shown = Delayed(clock=Frozen(scale=scale)), list[str]()
    delayed.later(delay, lambda: shown.append("seen"))
    moved.at += timedelta(seconds=expected) - timedelta(milliseconds=1)
    delayed.settle()
    assert shown == []
    moved.at += timedelta(milliseconds=1)
    delayed.settle()
    delayed.settle()
    assert shown == ["seen"]


#: What all delays come down to under the time scale of these tests.
DELAY_MS = 200


def log(account: Account, wanted: str, group: str = "/aws/lambda/fn", **more: Any) -> list[str]:
    """Return the messages of a log group once one of them contains a text."""

    def read() -> list[str]:
        try:
            found = account.client("logs").filter_log_events(logGroupName=group, **more)["events"]
        except account.client("logs").exceptions.ResourceNotFoundException:
            return []
        return [e["message"] for e in found] if any(wanted in e["message"] for e in found) else []

    return list(eventually(read))


def test_an_invocation_writes_lambdas_lines(account: Account) -> None:
    """START, what the handler says, END, REPORT; the group is made by the first line, after the delay."""
    account.function(SPEAKS, account.role("app"))
    account.invoke(event="fine")
    lines = log(account, "REPORT")
    kinds = [line.split(" ")[0].split("\t")[0].rstrip("\n") for line in lines]
    assert kinds == ["INIT_START", "START", "plain", "[WARNING]", "END", "REPORT"]
    assert lines[3].endswith("\ta warning\n")
    assert lines[-1].split("\t")[1].startswith("Duration: ")
    assert "Memory Size: 128 MB" in lines[-1]
    assert "Init Duration" in lines[-1]
    stream = account.client("logs").describe_log_streams(logGroupName="/aws/lambda/fn")["logStreams"][0]
    assert "/[$LATEST]" in stream["logStreamName"]
    events = account.client("logs").filter_log_events(logGroupName="/aws/lambda/fn")["events"]
    assert all(event["ingestionTime"] - event["timestamp"] >= DELAY_MS for event in events), events


def test_errors_and_timeouts_read_as_lambda_writes_them(account: Account) -> None:
    """The lines that runbooks look for."""
    role = account.role("app")
    account.function(SPEAKS, role)
    account.function("import time\ndef handler(e, c):\n    time.sleep(9)\n", role, name="slow", Timeout=1)
    account.invoke(event="fail")
    account.invoke("slow")
    (line,) = log(account, "no good", filterPattern="?ERROR ?AccessDenied")
    assert line.startswith("[ERROR] ValueError: no good\nTraceback (most recent call last):\n  File ")
    (line,) = log(account, "Task", group="/aws/lambda/slow", filterPattern='"Task timed out"')
    stamp, _, rest = line.split(" ", 2)
    assert datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    assert rest == "Task timed out after 1.00 seconds\n\n"


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR] x", True),
        ("error", "[ERROR] x", False),
        ("a b", "b and a", True),
        ("a b", "only a", False),
        ('"a b"', "b a", False),
        ('?ERROR ?"Task timed out"', "Task timed out after 3.00 seconds", True),
        ('?ERROR ?"Task timed out"', "timed out Task", False),
        ("ERROR -Retry", "ERROR Retry", False),
        ("-Retry", "ERROR", True),
        ('?ERROR ?"signal: killed"', "START", False),
    ],
)
def test_filter_patterns(pattern: str, line: str, expected: bool) -> None:
    """Words, quoted words, alternatives, exclusions: case counts."""
    assert matches(pattern, line) is expected


@pytest.mark.parametrize("pattern", ['{ $.level = "ERROR" }', "[ip, user]", "%a.*b%"])
def test_patterns_that_are_not_known_are_refused(pattern: str) -> None:
    """Returning every line would be worse than none."""
    with pytest.raises(Refused, match="does not evaluate filter pattern"):
        matches(pattern, "x")


def metric(account: Account, name: str, dimensions: dict[str, str], period: int = 1) -> list[float]:
    """Return the values of one metric over the last minute, newest first, once there are any."""
    stat = {
        "Metric": {
            "Namespace": "AWS/Lambda",
            "MetricName": name,
            "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
        },
        "Period": period,
        "Stat": "Sum",
    }

    def read() -> Any:
        now = datetime.now(UTC)  # noqa: TID251 asks a real server about now
        answer = account.client("cloudwatch").get_metric_data(
            MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
            StartTime=now - timedelta(minutes=1),
            EndTime=now + timedelta(seconds=1),
        )
        return answer["MetricDataResults"][0]["Values"]

    return list(eventually(read))


def test_metrics_count_by_function_and_by_alias(account: Account) -> None:
    """Invocations, errors, throttles; a throttled request is no invocation; unknown dimensions have no samples."""
    account.function(SPEAKS, account.role("app"))
    client = account.client("lambda")
    client.publish_version(FunctionName="fn")
    client.create_alias(FunctionName="fn", Name="LIVE", FunctionVersion="1")
    account.invoke(event="fail", Qualifier="LIVE")
    account.invoke(event="fine", Qualifier="LIVE")
    account.invoke(event="fine")
    client.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=0)
    with pytest.raises(client.exceptions.TooManyRequestsException):
        account.invoke(Qualifier="LIVE")
    whole = {"FunctionName": "fn"}
    alias = {"FunctionName": "fn", "Resource": "fn:LIVE"}
    assert eventually(lambda: sum(metric(account, "Throttles", whole)) == 1)
    assert sum(metric(account, "Invocations", whole)) == 3
    assert sum(metric(account, "Invocations", alias)) == 2
    assert sum(metric(account, "Errors", alias)) == 1
    assert sum(metric(account, "Throttles", alias)) == 1
    assert sum(metric(account, "Duration", alias)) > 0
    names = account.client("cloudwatch").list_metrics(Namespace="AWS/Lambda", MetricName="Errors")["Metrics"]
    assert {len(m["Dimensions"]) for m in names} == {1, 2, 3}


def _adds_up_to(read: Callable[[], list[float]], total: float) -> bool:
    return sum(read()) == total


def test_any_kept_period_can_be_asked_for(account: Account) -> None:
    """The same samples, in buckets of any size; GetMetricStatistics agrees; other periods are refused."""
    account.function(SPEAKS, account.role("app"))
    for _ in range(3):
        account.invoke()
    for period in (1, 5, 10, 20, 30, 60):
        read = partial(metric, account, "Invocations", {"FunctionName": "fn"}, period)
        assert eventually(partial(_adds_up_to, read, 3))
    now = datetime.now(UTC)  # noqa: TID251
    asked = {
        "Namespace": "AWS/Lambda",
        "MetricName": "Invocations",
        "Dimensions": [{"Name": "FunctionName", "Value": "fn"}],
        "StartTime": now - timedelta(minutes=2),
        "EndTime": now + timedelta(seconds=1),
        "Statistics": ["Sum", "Maximum"],
    }
    points = account.client("cloudwatch").get_metric_statistics(**asked, Period=60)["Datapoints"]
    assert sum(p["Sum"] for p in points) == 3
    with pytest.raises(ClientError, match="Period"):
        account.client("cloudwatch").get_metric_statistics(**asked, Period=7)


def test_other_namespaces_are_kept_as_they_are_put(account: Account) -> None:
    """What programs put themselves is there."""
    client = account.client("cloudwatch")
    now = datetime.now(UTC)  # noqa: TID251
    client.put_metric_data(Namespace="Shop", MetricData=[{"MetricName": "Orders", "Value": 2.0, "Timestamp": now}])
    stat = {"Metric": {"Namespace": "Shop", "MetricName": "Orders"}, "Period": 60, "Stat": "Sum"}
    answer = client.get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
    )
    assert answer["MetricDataResults"][0]["Values"] == [2.0]
