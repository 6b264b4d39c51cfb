"""How CloudWatch is asked for the samples of metrics: by periods that it keeps, up to this very second.

Units: `period` in whole seconds.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_PERIODS = (1, 5, 10, 20, 30, 60)


def metric_period(wanted: timedelta) -> int:
    """Return the kept period next to what is wanted, at least. Source: decision 1."""
    seconds = wanted.total_seconds()
    return next((p for p in _PERIODS if p >= seconds), _PERIODS[-1])


def first_whole_period(start: datetime, period: int) -> datetime:
    """Return when the first whole period begins: one begun before `start` counts what came before it as well."""
    return datetime.fromtimestamp(-(-start.timestamp() // period) * period, UTC)


def metric_query(
    id_: str,
    namespace: str,
    metric: str,
    dimensions: Sequence[Mapping[str, str]],
    *,
    period: int,
    statistic: str = "Sum",
) -> dict[str, Any]:
    """Return the question for one metric; `dimensions` and the whole are shaped as in GetMetricData."""
    asked = {"Namespace": namespace, "MetricName": metric, "Dimensions": list(dimensions)}
    return {"Id": id_, "MetricStat": {"Metric": asked, "Period": period, "Stat": statistic}}


def metric_data(queries: Sequence[Mapping[str, Any]], start: datetime, end: datetime) -> dict[str, Any]:
    """Return GetMetricData's arguments; the second that `end` is in counts, and so does its sample."""
    return {
        "MetricDataQueries": list(queries),
        "StartTime": start.isoformat(),
        "EndTime": (end.replace(microsecond=0) + timedelta(seconds=1)).isoformat(),
    }
