"""What is known late: log lines, metrics and CloudTrail events become visible after their ingestion delay."""

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.logs.models import logs_backends

from .clock import Clock
from .identity import Principal
from .wire import Call, Refused, Reply

LOGS_DELAY = timedelta(seconds=10)
METRICS_DELAY = timedelta(seconds=60)
TRAIL_DELAY = timedelta(seconds=300)
NAMESPACE = "AWS/Lambda"
#: What is measured here; all other namespaces are what somebody put there, and moto keeps them.
MEASURED = frozenset({NAMESPACE, "AWS/ApplicationELB", "AWS/EC2", "AWS/ApiGateway", "AWS/WAFV2", "AWS/SES", "AWS/S3"})
_PERIODS = frozenset({1, 5, 10, 20, 30})
_UNITS = {"Duration": "Milliseconds", "TargetResponseTime": "Seconds", "CPUUtilization": "Percent"}


@dataclass(kw_only=True)
class Delayed:
    """Things to become visible later. They do so when somebody looks: call `settle` before any read."""

    clock: Clock
    _heap: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def later(self, delay: timedelta, show: Callable[[], None]) -> None:
        """Have `show` called once the delay, scaled, has passed."""
        with self._lock:
            self._count += 1
            heapq.heappush(self._heap, (self.clock.now() + self.clock.scaled(delay), self._count, show))

    def settle(self) -> None:
        """Show what is due."""
        now = self.clock.now()
        due: list[Callable[[], None]] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
        for show in due:
            show()


# --- logs -------------------------------------------------------------------------------------------------------------


def log_stream(at: datetime, version: str, unique: str) -> str:
    """Return a stream's name as Lambda makes it."""
    return f"{at:%Y/%m/%d}/[{version}]{unique}"


def show_lines(account: str, region: str, group: str, stream: str, lines: Iterable[tuple[datetime, str]]) -> None:
    """Write lines to a log stream, made on its first line."""
    backend = logs_backends[account][region]
    backend.ensure_log_group(group)
    if stream not in backend.groups[group].streams:
        backend.create_log_stream(group, stream)
    events = [{"timestamp": int(at.timestamp() * 1000), "message": text} for at, text in lines]
    backend.put_log_events(group, stream, events)


# --- metrics ----------------------------------------------------------------------------------------------------------

Dimensions = tuple[tuple[str, str], ...]


@dataclass
class _Second:
    """The samples of one second."""

    total: float = 0.0
    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, value: float) -> None:
        self.total, self.count = self.total + value, self.count + 1
        self.low, self.high = min(self.low, value), max(self.high, value)

    def join(self, other: "_Second") -> None:
        self.total, self.count = self.total + other.total, self.count + other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def statistic(self, name: str) -> float:
        """Return one statistic. Errors: Refused for one that is not kept."""
        known = {
            "Sum": self.total,
            "SampleCount": float(self.count),
            "Average": self.total / self.count,
            "Minimum": self.low,
            "Maximum": self.high,
        }
        if name not in known:
            raise Refused("InvalidParameterValue", f"the simulator keeps no statistic {name} of what it measures")
        return known[name]


@dataclass(kw_only=True)
class Metrics:
    """The metrics of the namespaces `MEASURED`, by the second. Any period CloudWatch takes can be asked for."""

    _series: dict[tuple[str, str, str, str, Dimensions], dict[int, _Second]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(_Second))
    )

    def add(
        self,
        account: str,
        region: str,
        dimensions: Iterable[Dimensions],
        at: datetime,
        *,
        namespace: str = NAMESPACE,
        **values: float,
    ) -> None:
        """Add one sample of each named metric under each set of dimensions."""
        second = int(at.timestamp())
        for chosen in dimensions:
            for name, value in values.items():
                self._series[account, region, namespace, name, tuple(sorted(chosen))][second].add(value)

    def buckets(
        self, account: str, region: str, metric: Mapping[str, Any], start: datetime, end: datetime, period: int
    ) -> list[tuple[datetime, _Second]]:
        """Return what was sampled per period within [start, end), oldest first; periods without samples are absent."""
        if period not in _PERIODS and (period <= 0 or period % 60):
            message = f"The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, not {period}."
            raise Refused("InvalidParameterValue", message)
        dimensions = tuple(sorted((d["Name"], d["Value"]) for d in metric.get("Dimensions") or ()))
        series = self._series.get((account, region, metric["Namespace"], metric["MetricName"], dimensions), {})
        first, last = start.timestamp(), end.timestamp()
        found: dict[int, _Second] = defaultdict(_Second)
        for second, sample in list(series.items()):
            if first <= second < last:
                found[second - second % period].join(sample)
        return [(datetime.fromtimestamp(at, UTC), found[at]) for at in sorted(found)]

    def names(self, account: str, region: str, namespace: str) -> list[dict[str, Any]]:
        """Return all metrics of a namespace as ListMetrics does."""
        return [
            {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions],
            }
            for owner, where, space, name, dimensions in sorted(self._series)
            if (owner, where, space) == (account, region, namespace)
        ]


def get_metric_data(call: Call, principal: Principal, metrics: Metrics, forward: Callable[[], Reply]) -> Reply:
    """Answer cloudwatch:GetMetricData: what was measured, and other namespaces as moto does."""
    queries = call.arguments.get("MetricDataQueries", [])
    ours = [q for q in queries if (q.get("MetricStat") or {}).get("Metric", {}).get("Namespace") in MEASURED]
    if not ours:
        return forward()
    start, end = _instant(call.arguments["StartTime"]), _instant(call.arguments["EndTime"])
    if start >= end:
        raise Refused("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
    newest_first = call.arguments.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    results = []
    for query in queries:
        if query not in ours:
            results.extend(moto_metric(principal.account, call.region, query, start, end))
            continue
        stat = query["MetricStat"]
        found = metrics.buckets(principal.account, call.region, stat["Metric"], start, end, int(stat["Period"]))
        if newest_first:
            found.reverse()
        results.append(
            {
                "Id": query["Id"],
                "Label": query.get("Label") or stat["Metric"]["MetricName"],
                "Timestamps": [at for at, _ in found],
                "Values": [sample.statistic(stat["Stat"]) for _, sample in found],
                "StatusCode": "Complete",
            }
        )
    return call.answer({"MetricDataResults": results, "Messages": []})


def moto_metric(account: str, region: str, query: Any, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return the results of one query of a namespace that is left to moto."""
    backend = cloudwatch_backends[account][region]
    naive = [t.astimezone(UTC).replace(tzinfo=None) for t in (start, end)]
    found = backend.get_metric_data(queries=[query], start_time=naive[0], end_time=naive[1])
    return [
        {
            "Id": r["id"],
            "Label": r["label"],
            "Timestamps": list(r["timestamps"]),
            "Values": list(r["values"]),
            "StatusCode": "Complete",
        }
        for r in found
    ]


def get_metric_statistics(call: Call, principal: Principal, metrics: Metrics, forward: Callable[[], Reply]) -> Reply:
    """Answer cloudwatch:GetMetricStatistics, in the same way."""
    asked = call.arguments
    if asked.get("Namespace") not in MEASURED:
        return forward()
    start, end = _instant(asked["StartTime"]), _instant(asked["EndTime"])
    found = metrics.buckets(principal.account, call.region, asked, start, end, int(asked["Period"]))
    points = [
        {
            "Timestamp": at,
            "Unit": _UNITS.get(asked["MetricName"], "Count"),
            **{name: sample.statistic(name) for name in asked.get("Statistics", ())},
        }
        for at, sample in found
    ]
    return call.answer({"Label": asked["MetricName"], "Datapoints": points})


def list_metrics(call: Call, principal: Principal, metrics: Metrics, forward: Callable[[], Reply]) -> Reply:
    """Answer cloudwatch:ListMetrics of a namespace that is measured; others as moto does."""
    asked = call.arguments
    if asked.get("Namespace") not in MEASURED:
        return forward()
    wanted = {(d["Name"], d.get("Value")) for d in asked.get("Dimensions") or ()}
    found = [
        m
        for m in metrics.names(principal.account, call.region, asked["Namespace"])
        if asked.get("MetricName") in (None, m["MetricName"])
        and all(
            any(d["Name"] == name and value in (None, d["Value"]) for d in m["Dimensions"]) for name, value in wanted
        )
    ]
    return call.answer({"Metrics": found})


def _instant(value: datetime | str) -> datetime:
    at = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)
