"""S3: how many requests to a bucket fail, by the request metrics that its owner has configured.

A bucket has none by itself: a metrics configuration names what is counted, and its id is CloudWatch's FilterId. Without
one, how many requests fail is not known, which is not the same as none. Everybody's requests are counted, ours too.
Source: S3, CloudWatch metrics.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Duration
from ..api.runbook import FindingKind
from .base import CheckAction, Facts, Found, Output, ReasonInfo, Unclear, register
from .metric_data import first_whole_period, metric_data, metric_period, metric_query
from .ports import Reader
from .s3 import BucketInputs

_ALL = "AllRequests"
_FAILED = ("4xxErrors", "5xxErrors")


class RequestInputs(BucketInputs):
    """The id of the bucket's metrics configuration, empty where it has none; how much failing users live with."""

    metrics_filter: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    window: Duration = timedelta(minutes=5)
    max_failure_rate: float = Field(0.05, ge=0, le=1)
    min_requests: int = Field(3, ge=1)


class RequestFacts(Facts):
    """The requests of the window, in seconds; `requests` is None where CloudWatch has no sample at all."""

    measured: bool
    requests: float | None = None
    failed: float = 0
    seconds: float = 0


class RequestOutput(Output):
    """Counts and rate; none of them where nothing was measured: an unknown is no zero."""

    requests: float | None = None
    failed: float | None = None
    failure_rate: float | None = None


@register
class BucketRequests(CheckAction[RequestInputs, RequestFacts]):
    """What users feel at the bucket: requests that are answered by an error, refused ones and missing objects too."""

    name = "s3.requests"
    title = "Failing requests"
    inputs_model = RequestInputs
    facts_model = RequestFacts
    reads = ("cloudwatch:GetMetricData",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "RequestsFail": ReasonInfo(doc="Too many requests to the bucket are answered by a 4xx or 5xx."),
        "RequestsNotMeasured": ReasonInfo(
            doc="No metrics configuration is named: how many requests fail is not known.", kind=FindingKind.INFO
        ),
    }

    def observe(self, inputs: RequestInputs, reader: Reader) -> RequestFacts:
        """Read the metrics of the window, no further back than the last fix, by whole periods. Errors: ReadError."""
        if not inputs.metrics_filter:
            return RequestFacts(measured=False)
        start = max(reader.since, reader.now - reader.scaled(inputs.window))
        period = metric_period(reader.scaled(timedelta(minutes=1)))
        whole = first_whole_period(start, period)
        seconds = (reader.now - start).total_seconds()
        if reader.now <= whole:
            return RequestFacts(measured=True, seconds=seconds)
        values: dict[str, list[float]] = {}
        for series in reader.aws(
            "cloudwatch", "get_metric_data", self._asked(inputs, reader, whole, period), region=inputs.region
        ):
            values.setdefault(str(series["id"]), []).extend(float(v) for v in series["values"])
        made = values.get(_id(_ALL), [])
        return RequestFacts(
            measured=True,
            requests=sum(made) if made else None,
            failed=sum(sum(values.get(_id(name), [])) for name in _FAILED),
            seconds=seconds,
        )

    @staticmethod
    def _asked(inputs: RequestInputs, reader: Reader, start: datetime, period: int) -> dict[str, Any]:
        dimensions = [
            {"Name": "BucketName", "Value": inputs.bucket},
            {"Name": "FilterId", "Value": inputs.metrics_filter},
        ]
        queries = [metric_query(_id(name), "AWS/S3", name, dimensions, period=period) for name in (_ALL, *_FAILED)]
        return metric_data(queries, start, reader.now)

    def output(self, facts: RequestFacts) -> RequestOutput:
        """Return the numbers, where there are any."""
        if not facts.requests:
            return RequestOutput()
        rate = round(facts.failed / facts.requests, 4)
        return RequestOutput(requests=facts.requests, failed=facts.failed, failure_rate=rate)

    def findings(self, inputs: RequestInputs, facts: RequestFacts) -> Sequence[Found] | Unclear:
        """Compare with what is too much; too few requests prove nothing."""
        if not facts.measured:
            message = f"no request metrics of {inputs.bucket} are named: how many requests fail is not known"
            return [Found(reason="RequestsNotMeasured", message=message, subject=inputs.arn)]
        made = facts.requests or 0
        if made < inputs.min_requests:
            message = f"{made:g} requests in {facts.seconds:.0f} s: too few to tell, {inputs.min_requests} are needed"
            return Unclear(reason="TooFewSamples", message=message)
        if facts.failed / made <= inputs.max_failure_rate:
            return []
        message = f"{facts.failed:g} of {made:g} requests to {inputs.bucket} failed ({100 * facts.failed / made:.0f}%)"
        return [Found(reason="RequestsFail", message=message, subject=inputs.arn)]


def _id(metric: str) -> str:
    """Return a query's id: it begins with a small letter."""
    return f"m{metric.lower()}"
