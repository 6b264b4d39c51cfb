"""What the users of a function feel: invocations, errors, throttles, by alias, from CloudWatch.

Units: counts over a window; `period` in whole seconds, one of those CloudWatch keeps.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .base import ActionModel
from .metric_data import first_whole_period, metric_data, metric_period, metric_query
from .ports import Reader


class Traffic(ActionModel):
    """Counts over a window; None where CloudWatch has no sample of a metric at all."""

    invocations: float | None = None
    errors: float = 0
    throttles: float = 0
    newest_at: datetime | None = None

    @property
    def total(self) -> float:
        """How many requests were made: a throttled one is no invocation."""
        return (self.invocations or 0) + self.throttles

    @property
    def failed(self) -> float:
        """How many requests failed."""
        return self.errors + self.throttles


def dimensions_of(function: str, alias: str | None) -> list[dict[str, str]]:
    """Return the CloudWatch dimensions of an alias's invocations, or of the whole function."""
    name = function.split(":")[6] if function.startswith("arn:") else function
    found = [{"Name": "FunctionName", "Value": name}]
    if alias:
        found.append({"Name": "Resource", "Value": f"{name}:{alias}"})
    return found


def measure(
    reader: Reader, function: str, alias: str | None, start: datetime, end: datetime, region: str | None
) -> Traffic:
    """Return the traffic between two instants. Errors: ReadError.

    Begins with the first whole period: CloudWatch would count what came before `start` in the same period as well.
    """
    period = metric_period(reader.scaled(timedelta(minutes=1)))
    names = ("Invocations", "Errors", "Throttles")
    dimensions = dimensions_of(function, alias)
    queries = [metric_query(name.lower(), "AWS/Lambda", name, dimensions, period=period) for name in names]
    whole = first_whole_period(start, period)
    if end <= whole:
        return Traffic()
    answer = reader.aws("cloudwatch", "get_metric_data", metric_data(queries, whole, end), region=region)
    series: Mapping[str, Any] = {s["id"]: s for s in answer}
    invocations = series.get("invocations", {}).get("values", [])
    times = [t for s in series.values() for t in s.get("at", ())]
    return Traffic(
        invocations=sum(invocations) if invocations else None,
        errors=sum(series.get("errors", {}).get("values", [])),
        throttles=sum(series.get("throttles", {}).get("values", [])),
        newest_at=max(times) if times else None,
    )
