"""What the shop's alarm sees: the share of failing requests, as CloudWatch has it, which is later than it happens."""

from datetime import timedelta

from dev.processes import wait_until
from incident_operator.adapters.clock import Clock

from .shop import Shop

#: The alarm's window and threshold; the window is divided by the time scale, as the look-back of a check is.
WINDOW = timedelta(minutes=5)
SHARE = 0.1
_METRICS = ("Invocations", "Errors", "Throttles")


def failing_share(shop: Shop, window: timedelta) -> float | None:
    """Return the share of requests in the last window that failed or were refused; None without any."""
    now = Clock().now()
    dimensions = [{"Name": "FunctionName", "Value": shop.function}]
    if shop.alias != "$LATEST":
        dimensions.append({"Name": "Resource", "Value": f"{shop.function}:{shop.alias}"})
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {"Namespace": "AWS/Lambda", "MetricName": name, "Dimensions": dimensions},
                "Period": 1,
                "Stat": "Sum",
            },
        }
        for name in _METRICS
    ]
    answer = shop.client("cloudwatch").get_metric_data(MetricDataQueries=queries, StartTime=now - window, EndTime=now)
    sums = {result["Id"]: sum(result["Values"]) for result in answer["MetricDataResults"]}
    requests = sums["invocations"] + sums["throttles"]
    return (sums["errors"] + sums["throttles"]) / requests if requests else None


def wait_until_felt(shop: Shop, *, time_scale: float, seconds: float = 60) -> bool:
    """Return whether the alarm rang within `seconds`: then a run that starts now finds users failing."""
    return wait_until(lambda: (failing_share(shop, WINDOW / time_scale) or 0) >= SHARE, seconds=seconds)


def wait_until_well(shop: Shop, *, time_scale: float, seconds: float = 60) -> bool:
    """Return whether requests came and none failed over a whole window, within `seconds`."""
    return wait_until(lambda: failing_share(shop, WINDOW / time_scale) == 0, seconds=seconds)
