"""CloudWatch: one metric against a threshold. Missing, too few or too old samples are Inconclusive, never health."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from pydantic import Field

from ..api.meta import Duration, parse_instant
from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import Reader
from .traffic import metric_period


class MetricInputs(Inputs):
    """A metric, the window, and what is too much or too little. Units: the metric's own.

    `stale_after`: of what comes all the time, that it came and comes no more is a finding; it is less than `window`.
    That nothing came at all is none: nobody knows then whether it should have.
    """

    namespace: str
    metric_name: str
    dimensions: dict[str, str] = Field(default_factory=dict)
    statistic: Literal["Sum", "Average", "Minimum", "Maximum", "SampleCount"] = "Average"
    window: Duration = timedelta(minutes=10)
    period: Duration = timedelta(minutes=1)
    min_samples: int = Field(1, ge=1)
    max_age: Duration = timedelta(minutes=10)
    stale_after: Duration | None = None
    comparison: Literal["GreaterThan", "LessThan"] = "GreaterThan"
    threshold: float | None = None
    region: str | None = None


class MetricFacts(Facts):
    """The samples of the window, in short."""

    samples: int
    latest: float | None = None
    latest_at: datetime | None = None
    total: float = 0
    highest: float | None = None
    lowest: float | None = None
    looked_at: datetime
    too_old: bool = False
    stale: bool = False


class MetricOutput(Output):
    """The same for expressions; the newest sample's age in seconds."""

    samples: int
    latest: float | None = None
    age_seconds: float | None = None
    total: float = 0
    highest: float | None = None
    lowest: float | None = None


@register
class Metric(CheckAction[MetricInputs, MetricFacts]):
    """One metric over a window, against a threshold."""

    name = "cloudwatch.metric"
    title = "A metric"
    inputs_model = MetricInputs
    facts_model = MetricFacts
    reads = ("cloudwatch:GetMetricData",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ThresholdBreached": ReasonInfo(doc="The newest sample is beyond the threshold."),
        "MetricStale": ReasonInfo(
            doc="The metric came, and comes late or no more: what rests on it is blind.", root_cause=True
        ),
    }

    def observe(self, inputs: MetricInputs, reader: Reader) -> MetricFacts:
        """Read the samples."""
        start = (reader.now - reader.scaled(inputs.window)).replace(microsecond=0)
        query = {
            "Id": "metric",
            "MetricStat": {
                "Metric": {
                    "Namespace": inputs.namespace,
                    "MetricName": inputs.metric_name,
                    "Dimensions": [{"Name": n, "Value": v} for n, v in sorted(inputs.dimensions.items())],
                },
                "Period": metric_period(reader.scaled(inputs.period)),
                "Stat": inputs.statistic,
            },
        }
        arguments = {
            "MetricDataQueries": [query],
            "StartTime": start.isoformat(),
            "EndTime": (reader.now.replace(microsecond=0) + timedelta(seconds=1)).isoformat(),
        }
        series = reader.aws("cloudwatch", "get_metric_data", arguments, region=inputs.region)
        pairs = sorted((str(t), float(v)) for s in series for t, v in zip(s["at"], s["values"], strict=True))
        values = [v for _, v in pairs]
        latest_at = parse_instant(pairs[-1][0]) if pairs else None
        age = reader.now - latest_at if latest_at is not None else timedelta(0)
        return MetricFacts(
            samples=len(values),
            latest=values[-1] if values else None,
            latest_at=latest_at,
            total=sum(values),
            highest=max(values, default=None),
            lowest=min(values, default=None),
            looked_at=reader.now,
            too_old=age > reader.scaled(inputs.max_age),
            stale=inputs.stale_after is not None and age > reader.scaled(inputs.stale_after),
        )

    def output(self, facts: MetricFacts) -> MetricOutput:
        """Return the numbers."""
        return MetricOutput(
            samples=facts.samples,
            latest=facts.latest,
            age_seconds=(facts.looked_at - facts.latest_at).total_seconds() if facts.latest_at else None,
            total=facts.total,
            highest=facts.highest,
            lowest=facts.lowest,
        )

    def findings(self, inputs: MetricInputs, facts: MetricFacts) -> Sequence[Found] | Unclear:
        """Compare the newest sample."""
        name = f"{inputs.namespace} {inputs.metric_name}"
        if facts.samples < inputs.min_samples:
            message = f"{name}: {facts.samples} samples, {inputs.min_samples} are needed"
            return Unclear(reason="TooFewSamples", message=message)
        if facts.stale:
            message = f"{name}: the newest sample is of {facts.latest_at:%H:%M:%S}Z, what rests on it is blind"
            return [Found(reason="MetricStale", message=message, subject=inputs.metric_name)]
        if facts.too_old:
            message = f"{name}: the newest sample is of {facts.latest_at:%H:%M:%S}Z"
            return Unclear(reason="SamplesTooOld", message=message)
        if inputs.threshold is None or facts.latest is None:
            return []
        beyond = (
            facts.latest > inputs.threshold if inputs.comparison == "GreaterThan" else facts.latest < inputs.threshold
        )
        if not beyond:
            return []
        side = "above" if inputs.comparison == "GreaterThan" else "below"
        message = f"{name} is {facts.latest:g}, {side} {inputs.threshold:g}"
        return [Found(reason="ThresholdBreached", message=message, subject=inputs.metric_name)]
