"""Load balancers, checks: target health and its reasons, each target's own answer, what users feel.

All targets failing alike is told apart from some failing: the load balancer then sends to all of them (it fails
open), what they share is broken, and taking any away is no cure. An empty target group is neither. Source: facts on
AWS (section 4, rows 13, 14), on verification, on tickets (INC-2023-3421).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from ..api.meta import Duration
from ..core.draft import Judgement
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .metric_data import first_whole_period, metric_data, metric_period, metric_query
from .ports import NotFound, Reader, ReadError

CALL_TIMEOUT = timedelta(seconds=10)
_TARGET_GROUP = (
    r"^(arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]{1,32}:[0-9]{12}:targetgroup/[A-Za-z0-9-]{1,32}/[0-9a-f]{16}"
    r"|[A-Za-z0-9-]{1,32})$"
)
HEALTH_PATH = r"^/[A-Za-z0-9/_.~%?=&+:@!$'()*,;-]{0,1023}$"
#: How many targets are asked themselves, and after how many silent ones the rest is not asked any more.
_MAX_ASKED, _MAX_SILENT = 32, 3
#: Of a group: what is stored of each must fit into a status.
MOST = 120


class TargetGroupInputs(Inputs):
    """A target group, by name or ARN."""

    target_group: str = Field(min_length=1, max_length=256, pattern=_TARGET_GROUP)
    region: str | None = None

    def region_to_read(self, reader: Reader) -> str | None:
        """Return the region. Errors: ReadError NotGranted for a target group of another account."""
        if not self.target_group.startswith("arn:"):
            return self.region
        parts = self.target_group.split(":")
        if parts[4] != reader.account:
            message = f"the target group is in account {parts[4]}; the ActionGrant is for account {reader.account}"
            raise ReadError("NotGranted", message)
        return parts[3]

    @property
    def label(self) -> str:
        """How people call it: its name."""
        return self.target_group.split("/")[1] if "/" in self.target_group else self.target_group


class TargetGroup(ActionModel):
    """A target group as configured. Units: seconds."""

    arn: str
    name: str
    port: int
    target_type: str
    probe_protocol: str
    probe_port: str
    path: str | None
    matcher: str | None
    enabled: bool
    interval: int
    healthy_threshold: int
    load_balancers: tuple[str, ...]

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]

    def accepts(self, answer: str) -> bool:
        """Tell whether the health check takes an answer (a status code, or a word for none) for healthy."""
        if not answer.isdigit():
            return False
        for part in (self.matcher or "200").split(","):
            low, _, high = part.partition("-")
            if int(low) <= int(answer) <= int(high or low):
                return True
        return False


class Target(ActionModel):
    """A target's health, in ELB's words."""

    id: str
    port: int | None = None
    state: str
    reason: str | None = None
    codes: str | None = None

    @property
    def why(self) -> str:
        """Why it is not healthy, as far as ELB says."""
        return f"{self.reason or self.state}{f' [{self.codes}]' if self.codes else ''}"


def read_target_group(inputs: TargetGroupInputs, reader: Reader) -> TargetGroup:
    """Return the target group. Errors: ReadError NotFound where there is none of that name."""
    chosen = (
        {"TargetGroupArns": [inputs.target_group]}
        if inputs.target_group.startswith("arn:")
        else {"Names": [inputs.target_group]}
    )
    found = reader.aws("elbv2", "describe_target_groups", chosen, region=inputs.region_to_read(reader))
    if not found:
        raise NotFound(f"there is no target group {inputs.label}")
    group = found[0]
    return TargetGroup(
        arn=group["TargetGroupArn"],
        name=group["TargetGroupName"],
        port=group["Port"],
        target_type=group.get("TargetType", "instance"),
        probe_protocol=group.get("HealthCheckProtocol", "HTTP"),
        probe_port=str(group.get("HealthCheckPort", "traffic-port")),
        path=group.get("HealthCheckPath"),
        matcher=group.get("Matcher"),
        enabled=group.get("HealthCheckEnabled", True),
        interval=group.get("HealthCheckIntervalSeconds", 30),
        healthy_threshold=group.get("HealthyThresholdCount", 5),
        load_balancers=tuple(group.get("LoadBalancerArns", ())),
    )


def read_target_health(arn: str, reader: Reader, region: str | None) -> tuple[Target, ...]:
    """Return the targets of a group, those that are on their way out left out, by id. Errors: ReadError."""
    described = reader.aws("elbv2", "describe_target_health", {"TargetGroupArn": arn}, region=region)
    if len(described) > MOST:
        raise ReadError("InvalidRequest", f"the target group has more than {MOST} targets")
    targets = (
        Target(id=t["Id"], port=t.get("Port"), state=t["State"], reason=t.get("Reason"), codes=t.get("Codes"))
        for t in described
    )
    return tuple(sorted((t for t in targets if t.state != "draining"), key=lambda t: (t.id, t.port or 0)))


def fail_alike(targets: Sequence[Target]) -> bool:
    """Tell whether there are targets, none is healthy, and all fail for the same reason."""
    return (
        len(targets) > 1
        and all(t.state == "unhealthy" for t in targets)
        and len({(t.reason, t.codes) for t in targets}) == 1
    )


# --- elbv2.target-health ----------------------------------------------------------------------------------------------


class TargetHealthFacts(Facts):
    """The group and its targets."""

    group: TargetGroup
    targets: tuple[Target, ...]


class TargetHealthOutput(Output):
    """Counts by state, and why; ids of those that are not healthy, at most ten."""

    target_group_arn: str
    load_balancer_arn: str = ""
    path: str = ""
    total: int
    healthy: int
    unhealthy: int
    states: dict[str, int]
    reasons: dict[str, int]
    unhealthy_targets: tuple[str, ...]
    fail_alike: bool


@register
class TargetHealth(CheckAction[TargetGroupInputs, TargetHealthFacts]):
    """What the load balancer thinks of each target, and why."""

    name = "elbv2.target-health"
    title = "Target health and reasons"
    inputs_model = TargetGroupInputs
    facts_model = TargetHealthFacts
    reads = ("elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AllTargetsFailAlike": ReasonInfo(
            doc="Every target is unhealthy for the same reason: what they share is broken, no target by itself."
        ),
        "TargetsUnhealthy": ReasonInfo(doc="Some targets are unhealthy."),
        "NoTargets": ReasonInfo(doc="The target group is empty: nobody is there to be healthy or unhealthy."),
        "TargetsUnused": ReasonInfo(doc="Targets get no traffic: stopped, or of a zone or group that is not in use."),
    }

    def observe(self, inputs: TargetGroupInputs, reader: Reader) -> TargetHealthFacts:
        """Read the group and the health of its targets. Errors: NotFound for a group that does not exist."""
        group = read_target_group(inputs, reader)
        return TargetHealthFacts(group=group, targets=read_target_health(group.arn, reader, group.region))

    def output(self, facts: TargetHealthFacts) -> TargetHealthOutput:
        """Return the counts."""
        bad = [t for t in facts.targets if t.state == "unhealthy"]
        return TargetHealthOutput(
            target_group_arn=facts.group.arn,
            load_balancer_arn=next(iter(facts.group.load_balancers), ""),
            path=(facts.group.path or "")[:256],
            total=len(facts.targets),
            healthy=sum(t.state == "healthy" for t in facts.targets),
            unhealthy=len(bad),
            states=dict(Counter(t.state for t in facts.targets)),
            reasons=dict(Counter(t.why for t in bad).most_common(6)),
            unhealthy_targets=tuple(t.id for t in bad[:10]),
            fail_alike=fail_alike(facts.targets),
        )

    def findings(self, inputs: TargetGroupInputs, facts: TargetHealthFacts) -> Sequence[Found] | Unclear:
        """Say who is not healthy; what ELB has no verdict on yet is neither healthy nor unhealthy."""
        name, targets = facts.group.name, facts.targets
        if not targets:
            return [Found(reason="NoTargets", message=f"{name} has no targets", subject=name)]
        bad = [t for t in targets if t.state == "unhealthy"]
        unused = [t for t in targets if t.state == "unused"]
        found = []
        if fail_alike(targets):
            message = f"all {len(bad)} targets of {name} are unhealthy alike: {bad[0].why}"
            found.append(Found(reason="AllTargetsFailAlike", message=message, subject=name))
        elif bad:
            why = ", ".join(f"{n} {w}" for w, n in Counter(t.why for t in bad).most_common(3))
            message = f"{len(bad)} of {len(targets)} targets of {name} are unhealthy: {why}"
            found.append(Found(reason="TargetsUnhealthy", message=message, subject=name))
        if unused:
            message = f"{len(unused)} of {len(targets)} targets of {name} get no traffic: {unused[0].why}"
            found.append(Found(reason="TargetsUnused", message=message, subject=name))
        unknown = [t for t in targets if t.state not in ("healthy", "unhealthy", "unused")]
        if unknown and (found or not any(t.state == "healthy" for t in targets) or unknown[0].state != "initial"):
            message = f"{len(unknown)} of {len(targets)} targets of {name} have no verdict yet: {unknown[0].why}"
            return Unclear(reason="NoVerdictYet", message=message, found=tuple(found))
        return found


# --- elbv2.target-endpoints -------------------------------------------------------------------------------------------


class EndpointInputs(TargetGroupInputs):
    """The group, and the path that the application declares as its health endpoint, if it does."""

    declared_path: str | None = Field(None, pattern=HEALTH_PATH)
    timeout: Duration = timedelta(seconds=3)


class Asked(ActionModel):
    """What a target answered by itself: a status code, `Refused`, or `Silent` where nothing came back."""

    id: str
    configured: str
    declared: str | None = None


class EndpointFacts(Facts):
    """The group, and what its targets answer. `not_asked`: of those there was no time or no address for."""

    group: TargetGroup
    asked: tuple[Asked, ...] = ()
    not_asked: int = 0
    not_http: bool = False


class EndpointOutput(Output):
    """Answers by path."""

    path: str
    answers: dict[str, int]
    declared_path: str = ""
    declared_answers: dict[str, int]
    failing_targets: tuple[str, ...]


def ask_targets(inputs: EndpointInputs, reader: Reader) -> EndpointFacts:
    """Ask each target by its own address, with the group's port, path and protocol. Errors: ReadError."""
    group = read_target_group(inputs, reader)
    targets = read_target_health(group.arn, reader, group.region)
    if group.probe_protocol not in ("HTTP", "HTTPS") or group.path is None:
        return EndpointFacts(group=group, not_asked=len(targets), not_http=True)
    addresses = {t.id: t.id for t in targets}
    if group.target_type == "instance" and targets:
        ids = sorted({t.id for t in targets})
        described = reader.aws("ec2", "describe_instances", {"InstanceIds": ids}, region=group.region)
        addresses = {i["InstanceId"]: i.get("PrivateIpAddress") for i in described}
    asked: list[Asked] = []
    silent = 0
    for target in targets[:_MAX_ASKED]:
        address = addresses.get(target.id)
        if not address or silent >= _MAX_SILENT:
            continue
        port = target.port if group.probe_port == "traffic-port" else int(group.probe_port)
        base = f"{group.probe_protocol.lower()}://{address}:{port or group.port}"
        configured = _answer_of(base + group.path, inputs, reader)
        declared = None
        if inputs.declared_path is not None and configured != "Silent":
            declared = _answer_of(base + inputs.declared_path, inputs, reader)
        silent += "Silent" in (configured, declared)
        asked.append(Asked(id=target.id, configured=configured, declared=declared))
    return EndpointFacts(group=group, asked=tuple(asked), not_asked=len(targets) - len(asked))


def _answer_of(url: str, inputs: EndpointInputs, reader: Reader) -> str:
    """Return what a target answers. That it refuses is its answer; that nothing came back may be our own network."""
    try:
        return str(reader.http_get(url, timeout=inputs.timeout).status)
    except ReadError as error:
        if error.reason == "Refused":
            return "Refused"
        if error.reason in ("Timeout", "Unreachable"):
            return "Silent"
        raise


@register
class TargetEndpoints(CheckAction[EndpointInputs, EndpointFacts]):
    """Each target asked as the load balancer asks it, and by the path that the application declares."""

    name = "elbv2.target-endpoints"
    title = "Each target's own health endpoint"
    inputs_model = EndpointInputs
    facts_model = EndpointFacts
    reads = (
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "ec2:DescribeInstances",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "HealthCheckPathStale": ReasonInfo(
            doc="No target answers the path that the load balancer asks; all answer the declared one.", root_cause=True
        ),
        "ApplicationUnhealthy": ReasonInfo(
            doc="Every target fails on the declared path too: the application itself is broken.", root_cause=True
        ),
        "HealthPathUnanswered": ReasonInfo(
            doc="No target answers the path that the load balancer asks, and no other is declared."
        ),
        "TargetEndpointFailing": ReasonInfo(doc="Some targets fail when they are asked themselves.", root_cause=True),
    }

    def observe(self, inputs: EndpointInputs, reader: Reader) -> EndpointFacts:
        """Ask the targets. Errors: ReadError NotGranted where the grant's probes do not list their addresses."""
        return ask_targets(inputs, reader)

    def output(self, facts: EndpointFacts) -> EndpointOutput:
        """Return the answers, counted."""
        return EndpointOutput(
            path=(facts.group.path or "")[:256],
            answers=dict(Counter(a.configured for a in facts.asked).most_common(8)),
            declared_answers=dict(Counter(a.declared for a in facts.asked if a.declared is not None).most_common(8)),
            failing_targets=tuple(a.id for a in facts.asked if not facts.group.accepts(a.configured))[:10],
        )

    def findings(self, inputs: EndpointInputs, facts: EndpointFacts) -> Sequence[Found] | Unclear:
        """Tell a wrong path from a broken application, and both from single broken targets."""
        group, asked = facts.group, facts.asked
        if facts.not_http:
            return Unclear(reason="NotHttp", message=f"{group.name} is not checked by HTTP: its targets are not asked")
        if not asked:
            message = f"no target of {group.name} could be asked"
            return Unclear(reason="NobodyAsked", message=message)
        found = self._found(inputs, group, asked)
        silent = sum("Silent" in (a.configured, a.declared) for a in asked) + facts.not_asked
        if silent:
            message = f"{silent} targets of {group.name} gave no answer: theirs or our network's fault can't be told"
            return Unclear(reason="TargetsSilent", message=message, found=tuple(found))
        return found

    def _found(self, inputs: EndpointInputs, group: TargetGroup, asked: Sequence[Asked]) -> list[Found]:
        heard = [a for a in asked if "Silent" not in (a.configured, a.declared)]
        failing = [a for a in heard if not group.accepts(a.configured)]
        if not failing:
            return []
        answers = ", ".join(f"{n} × {a}" for a, n in Counter(a.configured for a in failing).most_common(3))
        if len(failing) < len(asked):
            return [
                Found(reason="TargetEndpointFailing", message=f"{a.id} answers {a.configured} on {group.path}"[:900],
                      subject=a.id)
                for a in failing[:5]
            ]  # fmt: skip
        if inputs.declared_path is None or inputs.declared_path == group.path:
            reason = "HealthPathUnanswered" if inputs.declared_path is None else "ApplicationUnhealthy"
            message = f"every target of {group.name} fails on {group.path}: {answers}"
            return [Found(reason=reason, message=message, subject=group.name)]
        declared = Counter(a.declared or "Silent" for a in failing)
        if all(group.accepts(answer) for answer in declared):
            message = f"every target of {group.name} answers {inputs.declared_path}, none {group.path} ({answers})"
            return [Found(reason="HealthCheckPathStale", message=message, subject=group.name)]
        also = ", ".join(f"{n} × {a}" for a, n in declared.most_common(3))
        message = f"targets of {group.name} fail on {group.path} ({answers}) and on {inputs.declared_path} ({also})"
        return [Found(reason="ApplicationUnhealthy", message=message, subject=group.name)]


# --- elbv2.requests ---------------------------------------------------------------------------------------------------

_COUNTS = ("RequestCount", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count")


class Requests(ActionModel):
    """What users feel over a window; None where CloudWatch has no sample. Units: counts, seconds."""

    requests: float | None = None
    failed: float = 0
    latency: float | None = None


def measure_requests(reader: Reader, group: TargetGroup, start: datetime, end: datetime) -> Requests:
    """Return the requests of the group's load balancers between two instants. Errors: ReadError.

    CloudWatch has a count of errors only where there were some: with requests, none is none.
    """
    period = metric_period(reader.scaled(timedelta(minutes=1)))
    whole = first_whole_period(start, period)
    if end <= whole or not group.load_balancers:
        return Requests()
    queries = [
        metric_query(
            f"m{number}_{name.lower()}",
            "AWS/ApplicationELB",
            name,
            [{"Name": "LoadBalancer", "Value": arn.split(":loadbalancer/")[1]}],
            period=period,
            statistic="Average" if name == "TargetResponseTime" else "Sum",
        )
        for number, arn in enumerate(group.load_balancers[:4])
        for name in (*_COUNTS, "TargetResponseTime")
    ]
    asked = metric_data(queries, whole, end)
    answer = reader.aws("cloudwatch", "get_metric_data", asked, region=group.region)
    values: dict[str, list[float]] = {}
    for series in answer:
        values.setdefault(str(series["id"]).split("_", 1)[1], []).extend(float(v) for v in series["values"])
    requests, latency = values.get("requestcount", []), values.get("targetresponsetime", [])
    return Requests(
        requests=sum(requests) if requests else None,
        failed=sum(sum(values.get(name.lower(), [])) for name in _COUNTS[1:]),
        latency=round(sum(latency) / len(latency), 4) if latency else None,
    )


def judge_users(label: str, requests: Requests, *, max_failure_rate: float, min_requests: int) -> Judgement | None:
    """Return why users do not show yet that all is well; None where they do."""
    made = requests.requests or 0
    if made < min_requests:
        message = f"{made:g} of {min_requests} requests to {label} seen since"
        return Judgement(outcome=None, measured=False, message=message, waiting_for=f"traffic on {label}")
    if requests.failed / made > max_failure_rate:
        message = f"{requests.failed:g} of {made:g} requests to {label} fail"
        return Judgement(outcome=None, measured=True, message=message)
    return None


class RequestInputs(TargetGroupInputs):
    """How much failing, and how long an answer, users live with."""

    window: Duration = timedelta(minutes=5)
    max_failure_rate: float = Field(0.05, ge=0, le=1)
    #: Of the average, in seconds; None: it is not judged.
    max_latency: float | None = Field(None, gt=0)
    min_requests: int = Field(3, ge=1)


class RequestFacts(Facts):
    """The requests of the window, in seconds."""

    requests: Requests
    seconds: float
    attached: bool


class RequestOutput(Output):
    """Counts, rate, and the average latency in seconds."""

    requests: float
    failed: float
    failure_rate: float
    latency: float | None = None


@register
class BalancedRequests(CheckAction[RequestInputs, RequestFacts]):
    """What users feel at the load balancer: failing requests and slow answers."""

    name = "elbv2.requests"
    title = "Failing and slow requests"
    inputs_model = RequestInputs
    facts_model = RequestFacts
    reads = ("cloudwatch:GetMetricData", "elasticloadbalancing:DescribeTargetGroups")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "UsersFailing": ReasonInfo(doc="Too many requests are answered by a 5xx, of a target or of the load balancer."),
        "UsersWaiting": ReasonInfo(doc="Targets take longer to answer than users live with."),
        "NotBehindLoadBalancer": ReasonInfo(doc="No load balancer sends to the target group.", root_cause=True),
    }

    def observe(self, inputs: RequestInputs, reader: Reader) -> RequestFacts:
        """Read the metrics of the window, no further back than the last fix."""
        group = read_target_group(inputs, reader)
        start = max(reader.since, reader.now - reader.scaled(inputs.window))
        return RequestFacts(
            requests=measure_requests(reader, group, start, reader.now),
            seconds=(reader.now - start).total_seconds(),
            attached=bool(group.load_balancers),
        )

    def output(self, facts: RequestFacts) -> RequestOutput:
        """Return the numbers."""
        r = facts.requests
        made = r.requests or 0
        rate = round(r.failed / made, 4) if made else 0.0
        return RequestOutput(requests=made, failed=r.failed, failure_rate=rate, latency=r.latency)

    def findings(self, inputs: RequestInputs, facts: RequestFacts) -> Sequence[Found] | Unclear:
        """Compare with what is too much; too few requests prove nothing."""
        r, label = facts.requests, inputs.label
        if not facts.attached:
            message = f"no load balancer sends to {label}"
            return [Found(reason="NotBehindLoadBalancer", message=message, subject=label)]
        made = r.requests or 0
        if made < inputs.min_requests:
            message = f"{made:g} requests in {facts.seconds:.0f} s: too few to tell, {inputs.min_requests} are needed"
            return Unclear(reason="TooFewSamples", message=message)
        found = []
        if r.failed / made > inputs.max_failure_rate:
            message = f"{r.failed:g} of {made:g} requests to {label} failed ({100 * r.failed / made:.0f}%)"
            found.append(Found(reason="UsersFailing", message=message, subject=label))
        if inputs.max_latency is None:
            return found
        if r.latency is None:
            message = f"CloudWatch has no response time of {label}"
            return Unclear(reason="TooFewSamples", message=message, found=tuple(found))
        if r.latency > inputs.max_latency:
            message = f"targets of {label} take {r.latency:.3g} s on average, more than {inputs.max_latency:g} s"
            found.append(Found(reason="UsersWaiting", message=message, subject=label))
        return found
