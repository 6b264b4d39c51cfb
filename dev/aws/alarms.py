"""Metric alarms: what moto keeps of them, and their state, which moto never changes, from the metrics.

An alarm is judged at every end of its period since it was judged last, whenever somebody looks, so that one which rang
and fell silent in between has moved. Each judgement sees the last EvaluationPeriods periods and no others, where
CloudWatch looks a little further back for missing ones. Alarms on metric math, on percentiles and on other alarms are
refused: their state would be nobody's. Periods may be shorter than CloudWatch's 10 s, as a scaled stack needs them.
Actions are sent nowhere.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends

from .clock import Clock
from .identity import Principal
from .telemetry import MEASURED, METRICS_DELAY, Metrics, moto_metric
from .wire import Call, Refused, Reply

Forward = Callable[[], Reply]
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
_MISSING = frozenset({"missing", "breaching", "notBreaching", "ignore"})
#: How many periods are made up for at most, where nobody has looked for long.
_MOST = 2000


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """Judges alarms by these metrics."""

    clock: Clock
    metrics: Metrics

    def put(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        """Answer PutMetricAlarm: a new alarm knows nothing yet, a changed one keeps its state."""
        asked = call.arguments
        for name in ("Metrics", "ExtendedStatistic", "ThresholdMetricId"):
            if asked.get(name):
                raise Refused("NotImplemented", f"the simulator judges no alarm with {name}", status=501)
        if asked.get("ComparisonOperator") not in _COMPARISONS:
            message = f"the simulator judges no alarm by {asked.get('ComparisonOperator')}"
            raise Refused("NotImplemented", message, status=501)
        if asked.get("TreatMissingData", "missing") not in _MISSING:
            raise Refused("ValidationError", f"Option {asked['TreatMissingData']} is not supported.")
        known = cloudwatch_backends[principal.account][call.region].alarms
        before = known.get(asked["AlarmName"])
        reply = forward()
        alarm = known.get(asked["AlarmName"])
        if reply.status < 400 and alarm is not None:
            if before is None:
                alarm.state_value = "INSUFFICIENT_DATA"
                alarm.state_updated_timestamp = _naive(self.clock.now())
                vars(alarm)["judged_to"] = self.clock.now()
            else:
                for name in (
                    "state_value",
                    "state_reason",
                    "state_reason_data",
                    "state_updated_timestamp",
                    "judged_to",
                ):
                    setattr(alarm, name, getattr(before, name))
        return reply

    def refuse_composite(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        """Answer PutCompositeAlarm."""
        raise Refused("NotImplemented", "the simulator judges no composite alarm", status=501)

    def looked_at(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        """Answer what shows or changes alarms, each judged up to now."""
        self.judge(principal.account, call.region)
        return forward()

    def judge(self, account: str, region: str) -> None:
        """Judge all alarms of a region up to now."""
        for alarm in cloudwatch_backends[account][region].alarms.values():
            self._judge(alarm, account, region)

    def _judge(self, alarm: Any, account: str, region: str) -> None:
        """Bring an alarm up to now: to the last end of a period whose samples are to be seen."""
        delay, length = self.clock.scaled(METRICS_DELAY), timedelta(seconds=int(alarm.period))
        last = _floor(self.clock.now() - delay, length)
        first = _floor(alarm.judged_to - delay, length) + length
        first = max(first, last - _MOST * length)
        if first > last:
            return
        count = int(alarm.evaluation_periods)
        values = self._values(alarm, account, region, first - count * length, last)
        end = first
        while end <= last:
            seen = [values.get(end - (count - n) * length) for n in range(count)]
            state = _state(alarm, seen)
            if state != alarm.state_value:
                _move(alarm, state, seen, end + delay)
            end += length
        alarm.judged_to = last + delay

    def _values(
        self, alarm: Any, account: str, region: str, start: datetime, end: datetime
    ) -> Mapping[datetime, float]:
        """Return the metric's value by the beginning of each period that has samples."""
        dimensions = [{"Name": d.name, "Value": d.value} for d in alarm.dimensions]
        metric = {"Namespace": alarm.namespace, "MetricName": alarm.metric_name, "Dimensions": dimensions}
        period = int(alarm.period)
        if alarm.namespace in MEASURED:
            found = self.metrics.buckets(account, region, metric, start, end, period)
            return {at: sample.statistic(alarm.statistic) for at, sample in found}
        stat = {"Metric": metric, "Period": period, "Stat": alarm.statistic}
        (series,) = moto_metric(account, region, {"Id": "watched", "MetricStat": stat}, start, end)
        return {
            at.replace(tzinfo=UTC) if at.tzinfo is None else at: float(value)
            for at, value in zip(series["Timestamps"], series["Values"], strict=True)
        }


def _state(alarm: Any, seen: list[float | None]) -> str:
    """Return the state that these periods make, oldest first; None is a period without samples."""
    treat = alarm.treat_missing_data or "missing"
    if all(value is None for value in seen) and treat in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if treat == "missing" else str(alarm.state_value)
    beyond = _COMPARISONS[alarm.comparison_operator]
    breaching = sum(treat == "breaching" if value is None else beyond(value, float(alarm.threshold)) for value in seen)
    return "ALARM" if breaching >= int(alarm.datapoints_to_alarm or alarm.evaluation_periods) else "OK"


def _move(alarm: Any, state: str, seen: list[float | None], at: datetime) -> None:
    """Give an alarm another state, with the reason in CloudWatch's form."""
    points = [value for value in reversed(seen) if value is not None]
    data = {
        "version": "1.0",
        "queryDate": at.isoformat(timespec="milliseconds").replace("+00:00", "+0000"),
        "statistic": alarm.statistic,
        "period": int(alarm.period),
        "recentDatapoints": points,
        "threshold": float(alarm.threshold),
    }
    reason = f"Threshold Crossed: {len(points)} of the last {len(seen)} datapoints {points}: {state}"
    alarm.update_state(reason, json.dumps(data), state)
    alarm.state_updated_timestamp = _naive(at)


def _floor(at: datetime, length: timedelta) -> datetime:
    seconds = length.total_seconds()
    return datetime.fromtimestamp(math.floor(at.timestamp() / seconds) * seconds, UTC)


def _naive(at: datetime) -> datetime:
    """Return an instant as moto keeps it."""
    return at.astimezone(UTC).replace(tzinfo=None)
