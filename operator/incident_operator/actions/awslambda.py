"""AWS Lambda, checks: configuration, errors in the log, what users feel, throttles.

Source: facts on AWS (section 4, rows 2, 3, 8); decision 19.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Duration
from ..core.redact import looks_random
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import NotFound, Reader, ReadError
from .traffic import Traffic, measure

FUNCTION_TIMEOUT = timedelta(seconds=10)
_FUNCTION = (
    r"^(arn:aws[a-z-]*:lambda:[a-z0-9-]{1,32}:[0-9]{12}:function:)?[A-Za-z0-9_-]{1,64}"
    r"(:(\$LATEST|[A-Za-z0-9_-]{1,128}))?$"
)


class FunctionInputs(Inputs):
    """A function, by name or ARN; without an alias, `$LATEST` is what serves."""

    function_name: str = Field(min_length=1, max_length=170, pattern=_FUNCTION)
    alias: str | None = None
    region: str | None = None

    @property
    def where(self) -> str | None:
        """The region: from an ARN, else as given."""
        return self.function_name.split(":")[3] if self.function_name.startswith("arn:") else self.region

    def region_to_read(self, reader: Reader) -> str | None:
        """Return the region, for a read of the grant's account.

        Errors: ReadError NotGranted for a function of another account: its log and its metrics are not in ours, where
        those of a namesake may be.
        """
        account = self.function_name.split(":")[4] if self.function_name.startswith("arn:") else reader.account
        if account != reader.account:
            message = f"{self.name} is in account {account}; the ActionGrant is for account {reader.account}"
            raise ReadError("NotGranted", message)
        return self.where

    @property
    def name(self) -> str:
        """The function's plain name."""
        return self.function_name.split(":")[6] if self.function_name.startswith("arn:") else self.function_name

    @property
    def label(self) -> str:
        """How people call it: `name:ALIAS`."""
        return f"{self.name}:{self.alias}" if self.alias else self.name


class Function(ActionModel):
    """A function as configured, and what its alias points to."""

    arn: str
    role: str
    state: str
    update_status: str
    timeout: int
    memory: int
    code: str
    reserved: int | None
    alias_version: str | None
    alias_weights: bool = False
    #: Of the version that serves: the alias's, else `$LATEST`.
    live_timeout: int
    live_memory: int
    live_code: str


def read_function(inputs: FunctionInputs, reader: Reader) -> Function:
    """Return the function and what serves.

    Errors: NotFound for a function or an alias that does not exist; ReadError MalformedAnswer.
    """
    try:
        return _read_function(inputs, reader)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{inputs.label} is described in an unexpected way ({type(error).__name__})"
        raise ReadError("MalformedAnswer", message) from None


def _read_function(inputs: FunctionInputs, reader: Reader) -> Function:
    name, region = inputs.function_name, inputs.region_to_read(reader)
    reader.prefetch("lambda", "get_function_concurrency", {"FunctionName": name}, region=region)
    if inputs.alias:
        reader.prefetch("lambda", "get_alias", {"FunctionName": name, "Name": inputs.alias}, region=region)
    latest = reader.aws("lambda", "get_function_configuration", {"FunctionName": name}, region=region)
    concurrency = reader.aws("lambda", "get_function_concurrency", {"FunctionName": name}, region=region)
    alias, live = None, latest
    if inputs.alias:
        alias = reader.aws("lambda", "get_alias", {"FunctionName": name, "Name": inputs.alias}, region=region)
        live = reader.aws(
            "lambda",
            "get_function_configuration",
            {"FunctionName": name, "Qualifier": alias["FunctionVersion"]},
            region=region,
        )
    weights = ((alias or {}).get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    arn = ":".join(latest["FunctionArn"].split(":")[:7])
    return Function(
        arn=arn,
        role=latest["Role"],
        state=latest.get("State", "Active"),
        update_status=latest.get("LastUpdateStatus", "Successful"),
        timeout=latest["Timeout"],
        memory=latest["MemorySize"],
        code=latest["CodeSha256"],
        reserved=concurrency.get("ReservedConcurrentExecutions"),
        alias_version=alias["FunctionVersion"] if alias else None,
        alias_weights=bool(weights),
        live_timeout=live["Timeout"],
        live_memory=live["MemorySize"],
        live_code=live["CodeSha256"],
    )


# --- lambda.configuration ---------------------------------------------------------------------------------------------


class ConfigurationFacts(Facts):
    """The function, or what is missing."""

    function: Function | None = None
    missing: str = ""


class ConfigurationOutput(Output):
    """What other checks read: above all the role."""

    role_arn: str = ""
    function_arn: str = ""
    version: str = ""
    timeout: int = 0
    memory: int = 0
    reserved_concurrency: int | None = None


@register
class Configuration(CheckAction[FunctionInputs, ConfigurationFacts]):
    """Is the function there, active, and its last update done?"""

    name = "lambda.configuration"
    title = "Function configuration and state"
    inputs_model = FunctionInputs
    facts_model = ConfigurationFacts
    reads = ("lambda:GetFunctionConfiguration", "lambda:GetFunctionConcurrency", "lambda:GetAlias")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "FunctionMissing": ReasonInfo(doc="The function or its alias does not exist.", root_cause=True),
        "FunctionNotActive": ReasonInfo(doc="The function can't be invoked in its state.", root_cause=True),
        "UpdateFailed": ReasonInfo(doc="The function's last update failed.", root_cause=True),
    }

    def observe(self, inputs: FunctionInputs, reader: Reader) -> ConfigurationFacts:
        """Read the function, its alias and its reserved concurrency."""
        try:
            return ConfigurationFacts(function=read_function(inputs, reader))
        except NotFound as error:
            return ConfigurationFacts(missing=error.message)

    def output(self, facts: ConfigurationFacts) -> ConfigurationOutput:
        """Return role, version and limits of what serves."""
        found = facts.function
        if found is None:
            return ConfigurationOutput()
        return ConfigurationOutput(
            role_arn=found.role,
            function_arn=found.arn,
            version=found.alias_version or "$LATEST",
            timeout=found.live_timeout,
            memory=found.live_memory,
            reserved_concurrency=found.reserved,
        )

    def findings(self, inputs: FunctionInputs, facts: ConfigurationFacts) -> Sequence[Found] | Unclear:
        """Say what keeps the function from being invoked at all."""
        found = facts.function
        if found is None:
            return [Found(reason="FunctionMissing", message=f"{inputs.label}: {facts.missing}", subject=inputs.label)]
        if found.state not in ("Active", "Inactive"):
            return [Found(reason="FunctionNotActive", message=f"{inputs.label} is {found.state}", subject=found.arn)]
        if found.update_status == "Failed":
            return [Found(reason="UpdateFailed", message=f"the last update of {inputs.name} failed", subject=found.arn)]
        return []


# --- lambda.errors ----------------------------------------------------------------------------------------------------

#: A log line is written by whoever can make the function log: a resource that is no ARN of usual length, or is cut
#: off, or has in it what no name has (markup, escapes), makes it no denial, never one of something else.
_DENIED = re.compile(
    r"User: (?P<user>arn:[\w:/.+=,@-]+) is not authorized to perform: (?P<action>[a-z0-9-]{1,32}:\w{1,64})\b"
    r"(?: on resource: \\?\"?(?P<resource>arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:[\w!#-/:;=?@\[\]^{|}~]{1,512})"
    r"(?![^\s\"\\])"
    r"|(?! on resource:))"
)
_EXPLICIT = re.compile(r"with an explicit deny")
_TIMEOUT = re.compile(r"Task timed out after [\d.]+ seconds")
_MEMORY = re.compile(r"Runtime\.OutOfMemory|signal: killed|Memory Size: (\d+) MB\s+Max Memory Used: \1 MB")
_CODE = re.compile(r"An error occurred \((\w{1,64})\) when calling the (\w{1,64}) operation")
_ERROR = re.compile(r"\[ERROR\]\s+(?:\S+\s+)?(?P<type>[A-Za-z_][\w.]{0,63}):")
_SES = frozenset({"MessageRejected", "MailFromDomainNotVerified", "AccountSendingPausedException"})
_PATTERN = '?ERROR ?"Task timed out" ?AccessDenied ?OutOfMemory ?"signal: killed"'


class ErrorInputs(FunctionInputs):
    """Where to look; the log group is the function's own where none is given."""

    log_group: str | None = None


class Denial(ActionModel):
    """A permission that the function was refused."""

    action: str
    resource: str = "*"
    count: int = 1
    explicit: bool = False


class ErrorFacts(Facts):
    """What the log says, as tokens of known grammar only."""

    log_group_missing: bool = False
    lines: int = 0
    denials: tuple[Denial, ...] = ()
    timeouts: int = 0
    out_of_memory: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    refused: dict[str, int] = Field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None


class ErrorOutput(Output):
    """Counts, and the denials other checks look into."""

    denials: tuple[Denial, ...] = ()
    timeouts: int = 0
    out_of_memory: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    total: int = 0


def read_errors(inputs: ErrorInputs, reader: Reader, start: datetime, end: datetime) -> ErrorFacts:
    """Read the function's log between two instants. Errors: ReadError."""
    group = inputs.log_group or f"/aws/lambda/{inputs.name}"
    arguments = {
        "logGroupName": group,
        "startTime": int(start.timestamp() * 1000),
        "endTime": int(end.timestamp() * 1000) + 1,
        "filterPattern": _PATTERN,
    }
    try:
        events = reader.aws("logs", "filter_log_events", arguments, region=inputs.region_to_read(reader))
    except NotFound:
        return ErrorFacts(log_group_missing=True)
    return parse_errors(events)


def parse_errors(events: Sequence[Mapping[str, Any]]) -> ErrorFacts:
    """Return what log lines say: only tokens that match a known grammar, never their text. Source: decision 19."""
    denials: Counter[tuple[str, str, bool]] = Counter()
    errors: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    timeouts = memory = 0
    for event in events:
        text = event["message"]
        denied = _DENIED.search(text)
        code = _CODE.search(text)
        if denied is not None:
            denials[denied["action"], denied["resource"] or "*", bool(_EXPLICIT.search(text))] += 1
        elif _TIMEOUT.search(text):
            timeouts += 1
        elif _MEMORY.search(text):
            memory += 1
        elif code is not None and code[1] in _SES:
            refused[code[1]] += 1
        elif code is not None and "[ERROR]" in text:
            errors[_named(code[1])] += 1
        elif found := _ERROR.search(text):
            errors[_named(found["type"])] += 1
    times = [event["timestamp"] for event in events]
    return ErrorFacts(
        lines=len(events),
        denials=tuple(Denial(action=a, resource=r, count=n, explicit=e) for (a, r, e), n in denials.most_common(8)),
        timeouts=timeouts,
        out_of_memory=memory,
        errors=dict(errors.most_common(8)),
        refused=dict(refused.most_common(4)),
        first_at=datetime.fromtimestamp(min(times) / 1000, UTC) if times else None,
        last_at=datetime.fromtimestamp(max(times) / 1000, UTC) if times else None,
    )


def _named(error: str) -> str:
    """Return an error's name, unless something else stands in its place."""
    return "Error" if looks_random(error) else error


@register
class Errors(CheckAction[ErrorInputs, ErrorFacts]):
    """What went wrong inside the function over the incident: denials, timeouts, errors of its code."""

    name = "lambda.errors"
    title = "Denials, timeouts and errors in the log"
    inputs_model = ErrorInputs
    facts_model = ErrorFacts
    reads = ("logs:FilterLogEvents",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AccessDenied": ReasonInfo(doc="The function's role was refused a permission."),
        "FunctionTimeouts": ReasonInfo(doc="Invocations ran into the function's timeout.", root_cause=True),
        "FunctionOutOfMemory": ReasonInfo(doc="Invocations ran out of memory.", root_cause=True),
        "FunctionErrors": ReasonInfo(doc="The function's code raised errors that are no denials.", root_cause=True),
        "MailRefused": ReasonInfo(doc="SES refused to send.", root_cause=True),
    }

    def observe(self, inputs: ErrorInputs, reader: Reader) -> ErrorFacts:
        """Read the log since the incident began."""
        return read_errors(inputs, reader, reader.since, reader.now)

    def output(self, facts: ErrorFacts) -> ErrorOutput:
        """Return the counts."""
        return ErrorOutput(
            denials=facts.denials[:6],
            timeouts=facts.timeouts,
            out_of_memory=facts.out_of_memory,
            errors=dict(list(facts.errors.items())[:5]),
            total=facts.lines,
        )

    def findings(self, inputs: ErrorInputs, facts: ErrorFacts) -> Sequence[Found] | Unclear:
        """Say what the log proves; no log group yet proves nothing."""
        if facts.log_group_missing:
            group = inputs.log_group or f"/aws/lambda/{inputs.name}"
            return Unclear(reason="LogGroupMissing", message=f"there is no log group {group} (yet)")
        found = [
            Found(
                reason="AccessDenied",
                message=f"{d.count} × {d.action} denied on {d.resource}" + (" by an explicit deny" * d.explicit),
                subject=d.resource,
                at=facts.first_at,
            )
            for d in facts.denials
        ]
        if facts.timeouts:
            message = f"{facts.timeouts} invocations of {inputs.label} timed out"
            found.append(Found(reason="FunctionTimeouts", message=message, subject=inputs.label, at=facts.first_at))
        if facts.out_of_memory:
            message = f"{facts.out_of_memory} invocations of {inputs.label} ran out of memory"
            found.append(Found(reason="FunctionOutOfMemory", message=message, subject=inputs.label))
        if facts.refused:
            kinds = ", ".join(f"{n} × {code}" for code, n in facts.refused.items())
            found.append(Found(reason="MailRefused", message=f"SES refused to send: {kinds}", subject=inputs.label))
        if facts.errors:
            kinds = ", ".join(f"{n} × {kind}" for kind, n in facts.errors.items())
            message = f"the code of {inputs.label} fails: {kinds}"
            found.append(Found(reason="FunctionErrors", message=message, subject=inputs.label, at=facts.first_at))
        return found


# --- lambda.invocations -----------------------------------------------------------------------------------------------


class InvocationInputs(FunctionInputs):
    """How long to look back, and how much failing is too much."""

    window: Duration = timedelta(minutes=5)
    min_requests: int = Field(3, ge=1)
    max_failure_rate: float = Field(0.05, ge=0, le=1)


class InvocationFacts(Facts):
    """Traffic over the window."""

    traffic: Traffic
    seconds: float


class InvocationOutput(Output):
    """What users felt."""

    requests: float
    failed: float
    errors: float
    throttles: float
    failure_rate: float


@register
class Invocations(CheckAction[InvocationInputs, InvocationFacts]):
    """What users feel: how many requests fail or are throttled."""

    name = "lambda.invocations"
    title = "Failing and throttled requests"
    inputs_model = InvocationInputs
    facts_model = InvocationFacts
    reads = ("cloudwatch:GetMetricData",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "UsersFailing": ReasonInfo(doc="Too many requests fail or are throttled."),
        "Throttled": ReasonInfo(doc="Requests are refused for lack of concurrency."),
    }

    def observe(self, inputs: InvocationInputs, reader: Reader) -> InvocationFacts:
        """Read the metrics of the window, no further back than the last fix."""
        start = max(reader.since, reader.now - reader.scaled(inputs.window))
        traffic = measure(reader, inputs.function_name, inputs.alias, start, reader.now, inputs.region_to_read(reader))
        return InvocationFacts(traffic=traffic, seconds=(reader.now - start).total_seconds())

    def output(self, facts: InvocationFacts) -> InvocationOutput:
        """Return counts and the failure rate."""
        t = facts.traffic
        return InvocationOutput(
            requests=t.total,
            failed=t.failed,
            errors=t.errors,
            throttles=t.throttles,
            failure_rate=round(t.failed / t.total, 4) if t.total else 0.0,
        )

    def findings(self, inputs: InvocationInputs, facts: InvocationFacts) -> Sequence[Found] | Unclear:
        """Compare with the rate that is too much; too few requests prove nothing."""
        t = facts.traffic
        found = []
        if t.throttles:
            message = f"{t.throttles:g} of {t.total:g} requests to {inputs.label} were throttled"
            found.append(Found(reason="Throttled", message=message, subject=inputs.label))
        if t.total < inputs.min_requests:
            message = (
                f"{t.total:g} requests in {facts.seconds:.0f} s: too few to tell, {inputs.min_requests} are needed"
            )
            return Unclear(reason="TooFewSamples", message=message, found=tuple(found))
        if t.failed / t.total > inputs.max_failure_rate:
            message = f"{t.failed:g} of {t.total:g} requests to {inputs.label} failed ({100 * t.failed / t.total:.0f}%)"
            found.append(Found(reason="UsersFailing", message=message, subject=inputs.label))
        return found


# --- lambda.throttles -------------------------------------------------------------------------------------------------


class ThrottleFacts(Facts):
    """Throttles over the incident, and the reserve they ran into."""

    throttles: float
    reserved: int | None


class ThrottleOutput(Output):
    """The same."""

    throttles: float
    reserved_concurrency: int | None = None


@register
class Throttles(CheckAction[FunctionInputs, ThrottleFacts]):
    """Is the function's own reserved concurrency what refuses requests?"""

    name = "lambda.throttles"
    title = "Throttles and reserved concurrency"
    inputs_model = FunctionInputs
    facts_model = ThrottleFacts
    reads = ("cloudwatch:GetMetricData", "lambda:GetFunctionConcurrency")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ReservedConcurrencyTooLow": ReasonInfo(
            doc="Requests are throttled while the function has a reserve of its own.", root_cause=True
        ),
        "AccountConcurrencyExhausted": ReasonInfo(
            doc="Requests are throttled though the function has no reserve: the account's limit.", root_cause=True
        ),
    }

    def observe(self, inputs: FunctionInputs, reader: Reader) -> ThrottleFacts:
        """Read throttles since the incident, of the function as a whole: a reserve is the function's."""
        traffic = measure(reader, inputs.function_name, None, reader.since, reader.now, inputs.region_to_read(reader))
        concurrency = reader.aws(
            "lambda",
            "get_function_concurrency",
            {"FunctionName": inputs.function_name},
            region=inputs.region_to_read(reader),
        )
        return ThrottleFacts(throttles=traffic.throttles, reserved=concurrency.get("ReservedConcurrentExecutions"))

    def output(self, facts: ThrottleFacts) -> ThrottleOutput:
        """Return throttles and reserve."""
        return ThrottleOutput(throttles=facts.throttles, reserved_concurrency=facts.reserved)

    def findings(self, inputs: FunctionInputs, facts: ThrottleFacts) -> Sequence[Found] | Unclear:
        """Say whose limit it is."""
        if not facts.throttles:
            return []
        if facts.reserved is None:
            message = f"{inputs.name} is throttled without a reserve of its own: the account's concurrency is used up"
            return [Found(reason="AccountConcurrencyExhausted", message=message, subject=inputs.name)]
        message = f"{facts.throttles:g} requests were throttled by the reserved concurrency of {facts.reserved}"
        return [Found(reason="ReservedConcurrencyTooLow", message=message, subject=inputs.name)]
