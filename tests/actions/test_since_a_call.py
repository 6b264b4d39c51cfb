"""What is measured since a call leaves out what began before it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from incident_operator.actions.awslambda import FunctionInputs
from incident_operator.actions.awslambda_fixes import measure_effect
from incident_operator.actions.ports import HttpAnswer
from incident_operator.actions.traffic import measure

CALLED = datetime(2026, 1, 15, 14, 30, 7, 400_000, tzinfo=UTC)
CONFIGURATION = {
    "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:mailer",
    "Role": "arn:aws:iam::123456789012:role/mailer",
    "Timeout": 2,
    "MemorySize": 256,
    "CodeSha256": "same",
}


class Recorder:
    """A reader that answers with nothing and remembers what was asked."""

    since, account, region, protected_actors = CALLED, "123456789012", "us-east-1", ()
    global_region = "us-east-1"

    def __init__(self, *, now: datetime, scale: int = 1) -> None:
        """Observe at `now`."""
        self.now, self.scale = now, scale
        self.asked: dict[str, Mapping[str, Any]] = {}

    def scaled(self, wait: timedelta) -> timedelta:
        """Divide a wait."""
        return wait / self.scale

    def prefetch(self, service: str, operation: str, *arguments: Any, region: str | None = None) -> None:
        """Begin nothing."""

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """Answer with nothing, or with the function."""
        self.asked[operation] = arguments or {}
        return CONFIGURATION if operation == "get_function_configuration" else ([] if service != "lambda" else {})

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """Nothing here asks the network."""
        raise AssertionError(url)


@pytest.mark.parametrize(("scale", "first"), [(1, "14:31:00"), (6, "14:30:10"), (60, "14:30:08")])
def test_metrics_begin_with_a_whole_period(scale: int, first: str) -> None:
    """CloudWatch counts by period: one that began before the call has what came before it."""
    reader = Recorder(now=CALLED + timedelta(minutes=2), scale=scale)
    measure(reader, "mailer", None, CALLED, reader.now, None)
    assert reader.asked["get_metric_data"]["StartTime"] == f"2026-01-15T{first}+00:00"


def test_before_the_first_whole_period_nothing_is_asked() -> None:
    """There is no answer yet, which is not the answer that all is well."""
    reader = Recorder(now=CALLED + timedelta(seconds=20))
    assert measure(reader, "mailer", None, CALLED, reader.now, None).invocations is None
    assert reader.asked == {}


def test_the_log_is_read_from_when_the_last_straggler_has_ended() -> None:
    """Who began before the call may run into the old timeout, until the function's timeout has passed."""
    reader = Recorder(now=CALLED + timedelta(seconds=60))
    measure_effect(FunctionInputs(function_name="mailer"), reader)
    assert reader.asked["filter_log_events"]["startTime"] == int((CALLED.timestamp() + 2) * 1000)
