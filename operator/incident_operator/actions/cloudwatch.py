"""CloudWatch: one metric against a threshold or what was usual; whether alarms work. Missing or old is never health.

`StateReasonData` of an alarm is not looked at: it stands still while the state does, so an alarm that has long been OK
would say nothing of today. The samples of the metric that it watches do. Source: CloudWatch, DescribeAlarms.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..api.meta import Duration, Instant, parse_instant
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .metric_data import metric_period, metric_query
from .ports import Reader, ReadError


class MetricInputs(Inputs):
    """A metric, the window, and what is too much or too little. Units: the metric's own.

    `stale_after`: of what comes all the time, that it came and comes no more is a finding; it is less than `window`.
    That nothing came at all is none: nobody knows then whether it should have.
    `baselineTolerance`: by how much the newest sample may be beyond what was usual, on the side of `comparison`. Usual
    is the average over `baselineWindow`, which ends `baselineLead` before `baselineUntil`, the incident's detection: it
    began before somebody saw it. A `threshold` that is given goes before it, and then no baseline is read.
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
    baseline_tolerance: float | None = Field(None, ge=0)
    baseline_until: Instant | None = None
    baseline_window: Duration = timedelta(hours=1)
    baseline_lead: Duration = timedelta(minutes=15)
    region: str | None = None

    @property
    def by_baseline(self) -> bool:
        """Whether the newest sample is compared with what was usual."""
        return self.baseline_tolerance is not None and self.threshold is None


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
    baseline: float | None = None
    baseline_samples: int = 0


class MetricOutput(Output):
    """The same for expressions; the newest sample's age in seconds; what was usual, where that was asked for."""

    samples: int
    latest: float | None = None
    age_seconds: float | None = None
    total: float = 0
    highest: float | None = None
    lowest: float | None = None
    baseline: float | None = None


@register
class Metric(CheckAction[MetricInputs, MetricFacts]):
    """One metric over a window, against a threshold or what was usual before the incident."""

    name = "cloudwatch.metric"
    title = "A metric"
    inputs_model = MetricInputs
    facts_model = MetricFacts
    reads = ("cloudwatch:GetMetricData",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ThresholdBreached": ReasonInfo(doc="The newest sample is beyond the threshold."),
        "BaselineBreached": ReasonInfo(
            doc="The newest sample is further beyond what was usual before the incident than it may be."
        ),
        "MetricStale": ReasonInfo(
            doc="The metric came, and comes late or no more: what rests on it is blind.", root_cause=True
        ),
    }

    def observe(self, inputs: MetricInputs, reader: Reader) -> MetricFacts:
        """Read the samples, and those from before the incident where they are compared. Errors: ReadError."""
        start = (reader.now - reader.scaled(inputs.window)).replace(microsecond=0)
        now = _between(inputs, reader, start, reader.now.replace(microsecond=0) + timedelta(seconds=1))
        usual: Sequence[float] = ()
        if inputs.by_baseline and inputs.baseline_until is not None:
            end = (inputs.baseline_until - reader.scaled(inputs.baseline_lead)).replace(microsecond=0)
            before = _between(inputs, reader, end - reader.scaled(inputs.baseline_window), end)
            reader.prefetch("cloudwatch", "get_metric_data", now, before, region=inputs.region)
            usual = [value for _, value in _samples(inputs, reader, before)]
        pairs = _samples(inputs, reader, now)
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
            baseline=sum(usual) / len(usual) if usual else None,
            baseline_samples=len(usual),
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
            baseline=round(facts.baseline, 6) if facts.baseline is not None else None,
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
        if facts.latest is None:
            return []
        if inputs.by_baseline:
            return self._against_baseline(inputs, facts, facts.latest)
        if inputs.threshold is None or not _is_beyond(inputs, facts.latest, inputs.threshold):
            return []
        message = f"{name} is {facts.latest:g}, {_SIDES[inputs.comparison]} {inputs.threshold:g}"
        return [Found(reason="ThresholdBreached", message=message, subject=inputs.metric_name)]

    @staticmethod
    def _against_baseline(inputs: MetricInputs, facts: MetricFacts, latest: float) -> Sequence[Found] | Unclear:
        """Compare with what was usual; where nobody knows that, nothing is said of the newest sample."""
        name = f"{inputs.namespace} {inputs.metric_name}"
        if facts.baseline is None or facts.baseline_samples < inputs.min_samples:
            message = (
                f"{name}: {facts.baseline_samples} samples from before the incident, {inputs.min_samples} are needed: "
                f"what is usual is not known, so {latest:g} is not judged"
            )
            return Unclear(reason="NoBaseline", message=message)
        tolerance = inputs.baseline_tolerance or 0.0
        bound = facts.baseline + (tolerance if inputs.comparison == "GreaterThan" else -tolerance)
        if not _is_beyond(inputs, latest, bound):
            return []
        message = (
            f"{name} is {latest:.4g}, more than {tolerance:g} {_SIDES[inputs.comparison]} "
            f"the {facts.baseline:.4g} that was usual before the incident"
        )
        return [Found(reason="BaselineBreached", message=message, subject=inputs.metric_name)]


_SIDES = {"GreaterThan": "above", "LessThan": "below"}


def _is_beyond(inputs: MetricInputs, value: float, bound: float) -> bool:
    return value > bound if inputs.comparison == "GreaterThan" else value < bound


def _between(inputs: MetricInputs, reader: Reader, start: datetime, end: datetime) -> dict[str, Any]:
    """Return the read of the metric between two instants."""
    dimensions = [{"Name": n, "Value": v} for n, v in sorted(inputs.dimensions.items())]
    query = metric_query(
        "metric",
        inputs.namespace,
        inputs.metric_name,
        dimensions,
        period=metric_period(reader.scaled(inputs.period)),
        statistic=inputs.statistic,
    )
    return {"MetricDataQueries": [query], "StartTime": start.isoformat(), "EndTime": end.isoformat()}


def _samples(inputs: MetricInputs, reader: Reader, asked: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return instants and values, oldest first. Errors: ReadError."""
    series = reader.aws("cloudwatch", "get_metric_data", asked, region=inputs.region)
    return sorted((str(t), float(v)) for s in series for t, v in zip(s["at"], s["values"], strict=True))


# --- cloudwatch.alarm -------------------------------------------------------------------------------------------------

_ALARM_ARN = re.compile(
    r"^arn:aws[a-z-]*:cloudwatch:(?P<region>[a-z0-9-]{1,32}):(?P<account>[0-9]{12}):alarm:(?P<name>.+)$"
)
#: Alarms of one check.
_MOST_ALARMS = 8


class AlarmInputs(Inputs):
    """Alarms, by name or ARN; a name is one of `region`.

    Shape: `expectReaction` wants an alarm that has moved since the incident began. `maxAge` is how old the newest
    sample of its metric may be, or two of the alarm's own periods where those are longer.
    """

    alarm_names: tuple[Annotated[str, Field(min_length=1, max_length=340, pattern=r"^[\x20-\x7e]+$")], ...] = Field(
        (), max_length=_MOST_ALARMS
    )
    expect_reaction: bool = False
    max_age: Duration = timedelta(minutes=15)
    region: str | None = None


class AlarmFact(ActionModel):
    """One alarm: its state, and when a sample last came of what it watches (None where none came within `maxAge`)."""

    name: str
    found: bool = True
    state: str = ""
    enabled: bool = False
    updated_at: datetime | None = None
    #: Of its metrics; a composite alarm has none of its own.
    composite: bool = False
    sample_at: datetime | None = None


class AlarmFacts(Facts):
    """The alarms, in the order of the inputs; `since` is the start of what may be looked back on."""

    alarms: tuple[AlarmFact, ...] = ()
    since: datetime


class AlarmOutput(Output):
    """How many there are of each kind."""

    total: int = 0
    ok: int = 0
    firing: int = 0
    disabled: int = 0
    missing: int = 0
    without_data: int = 0


@register
class Alarm(CheckAction[AlarmInputs, AlarmFacts]):
    """Do these alarms work: there, quiet, enabled, and looking at samples that still come?"""

    name = "cloudwatch.alarm"
    title = "Alarms"
    inputs_model = AlarmInputs
    facts_model = AlarmFacts
    reads = ("cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AlarmMissing": ReasonInfo(doc="There is no alarm of this name."),
        "AlarmFiring": ReasonInfo(doc="The alarm is in state ALARM."),
        "AlarmDisabled": ReasonInfo(doc="The alarm's actions are disabled: it would tell nobody."),
        "AlarmWithoutData": ReasonInfo(
            doc="The alarm is in state INSUFFICIENT_DATA, or no sample of its metric came within maxAge: it can't see."
        ),
    }

    def observe(self, inputs: AlarmInputs, reader: Reader) -> AlarmFacts:
        """Read the alarms, then the newest samples of what they watch. Errors: ReadError."""
        asked = [_alarm_place(name, inputs, reader) for name in inputs.alarm_names]
        found: dict[tuple[str | None, str], Mapping[str, Any]] = {}
        for region in dict.fromkeys(region for region, _ in asked):
            names = [name for where, name in asked if where == region]
            arguments = {"AlarmNames": names, "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
            for alarm in reader.aws("cloudwatch", "describe_alarms", arguments, region=region):
                found[region, alarm["AlarmName"]] = alarm
        reads = {place: _samples_of(alarm, inputs, reader) for place, alarm in found.items() if _metrics_of(alarm)}
        for (region, _), arguments in reads.items():
            reader.prefetch("cloudwatch", "get_metric_data", arguments, region=region)
        facts = []
        for place in asked:
            stored = found.get(place)
            if stored is None:
                facts.append(AlarmFact(name=place[1], found=False))
                continue
            newest = None
            if place in reads:
                series = reader.aws("cloudwatch", "get_metric_data", reads[place], region=place[0])
                newest = max((parse_instant(str(at)) for one in series for at in one["at"]), default=None)
            updated_at = stored.get("StateUpdatedTimestamp")
            facts.append(
                AlarmFact(
                    name=place[1],
                    state=stored["StateValue"],
                    enabled=stored["ActionsEnabled"],
                    updated_at=parse_instant(str(updated_at)) if updated_at is not None else None,
                    composite=place not in reads,
                    sample_at=newest,
                )
            )
        return AlarmFacts(alarms=tuple(facts), since=reader.since)

    def output(self, facts: AlarmFacts) -> AlarmOutput:
        """Return the counts."""
        there = [alarm for alarm in facts.alarms if alarm.found]
        return AlarmOutput(
            total=len(facts.alarms),
            ok=sum(alarm.state == "OK" for alarm in there),
            firing=sum(alarm.state == "ALARM" for alarm in there),
            disabled=sum(not alarm.enabled for alarm in there),
            missing=len(facts.alarms) - len(there),
            without_data=sum(_is_blind(alarm) for alarm in there),
        )

    def findings(self, inputs: AlarmInputs, facts: AlarmFacts) -> Sequence[Found] | Unclear:
        """Say what keeps each alarm from working; where nothing does, what is not known of it."""
        if not facts.alarms:
            return Unclear(reason="NoAlarmNamed", message="no alarm is named: whether one works is not known")
        problems = [found for alarm in facts.alarms for found in _alarm_problems(alarm)]
        if problems:
            return problems
        for alarm in facts.alarms:
            if alarm.composite:
                message = f"alarm {alarm.name} is composite: name the metric alarms that it rests on"
                return Unclear(reason="CompositeAlarm", message=message)
            if inputs.expect_reaction and (alarm.updated_at is None or alarm.updated_at < facts.since):
                when = f"{alarm.updated_at:%Y-%m-%d %H:%M:%S}Z" if alarm.updated_at is not None else "ever"
                message = f"alarm {alarm.name} is {alarm.state}, not moved since {when}: it did not see the incident"
                return Unclear(reason="AlarmSilent", message=message)
        return []


def _alarm_place(name: str, inputs: AlarmInputs, reader: Reader) -> tuple[str | None, str]:
    """Return region and name of an alarm. Errors: ReadError NotGranted for one of another account."""
    arn = _ALARM_ARN.match(name)
    if arn is None:
        return inputs.region, name
    if arn["account"] != reader.account:
        message = f"the alarm is in account {arn['account']}; the ActionGrant is for account {reader.account}"
        raise ReadError("NotGranted", message)
    return arn["region"], arn["name"]


def _metrics_of(alarm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what an alarm watches, as GetMetricData takes it; nothing for a composite alarm."""
    if alarm.get("Metrics"):
        return [dict(query) for query in alarm["Metrics"]]
    if "MetricName" not in alarm:
        return []
    metric = {
        "Namespace": alarm["Namespace"],
        "MetricName": alarm["MetricName"],
        "Dimensions": list(alarm.get("Dimensions", ())),
    }
    stat = {
        "Metric": metric,
        "Period": alarm["Period"],
        "Stat": alarm.get("Statistic") or alarm.get("ExtendedStatistic"),
    }
    unit = {"Unit": alarm["Unit"]} if alarm.get("Unit") else {}
    return [{"Id": "watched", "MetricStat": {**stat, **unit}}]


def _samples_of(alarm: Mapping[str, Any], inputs: AlarmInputs, reader: Reader) -> dict[str, Any]:
    """Return the read of an alarm's metric, over as long as its newest sample may be old."""
    queries = _metrics_of(alarm)
    periods = [int(q.get("MetricStat", {}).get("Period") or q.get("Period") or 0) for q in queries]
    window = max(reader.scaled(inputs.max_age), timedelta(seconds=2 * max(periods)))
    return {
        "MetricDataQueries": queries,
        "StartTime": (reader.now - window).replace(microsecond=0).isoformat(),
        "EndTime": (reader.now.replace(microsecond=0) + timedelta(seconds=1)).isoformat(),
    }


def _is_blind(alarm: AlarmFact) -> bool:
    return alarm.state == "INSUFFICIENT_DATA" or (not alarm.composite and alarm.sample_at is None)


def _alarm_problems(alarm: AlarmFact) -> Iterator[Found]:
    """Yield what keeps an alarm from working. Shape: built of its name, its state and instants alone."""
    if not alarm.found:
        yield Found(reason="AlarmMissing", message=f"there is no alarm {alarm.name}", subject=alarm.name)
        return
    if alarm.state == "ALARM":
        since = f" since {alarm.updated_at:%Y-%m-%d %H:%M:%S}Z" if alarm.updated_at is not None else ""
        yield Found(reason="AlarmFiring", message=f"alarm {alarm.name} is in ALARM{since}", subject=alarm.name)
    if not alarm.enabled:
        message = f"the actions of alarm {alarm.name} are disabled: it would tell nobody"
        yield Found(reason="AlarmDisabled", message=message, subject=alarm.name)
    if alarm.state == "INSUFFICIENT_DATA":
        message = f"alarm {alarm.name} is in INSUFFICIENT_DATA"
        yield Found(reason="AlarmWithoutData", message=message, subject=alarm.name)
    elif _is_blind(alarm):
        message = f"alarm {alarm.name} is {alarm.state}, but lately no sample of its metric came"
        yield Found(reason="AlarmWithoutData", message=message, subject=alarm.name)
