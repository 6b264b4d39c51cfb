"""AWS Lambda, fixes: roll an alias back, set a configuration.

A published version's configuration never changes, so a larger timeout for an alias means: set it on `$LATEST`,
publish, move the alias; and only where `$LATEST` has the code that is live. Source: facts on AWS (section 4, row 9),
on verification; decisions 21, 22.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Guard, Hazard, Read, Repeat, Undo, Volatile
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .awslambda import FUNCTION_TIMEOUT, ErrorInputs, Function, FunctionInputs, read_errors, read_function
from .base import Facts, FixAction, ReasonInfo, register
from .ports import Reader
from .traffic import Traffic, measure

# --- what fixes share -------------------------------------------------------------------------------------------------


class EffectFacts(Facts):
    """What requests met since a fix."""

    traffic: Traffic
    timeouts: int = 0
    out_of_memory: int = 0
    waited: bool = False


#: Nobody waits longer than this for invocations that began before a fix.
_LONGEST_STRAGGLER = timedelta(minutes=5)


def measure_effect(inputs: FunctionInputs, reader: Reader) -> EffectFacts:
    """Read traffic and log since the last call, the log without those who began before it. Errors: ReadError.

    A metric has the time when its invocation began, a log line when it was written: who began before the call may
    still run into the old limit, for as long as the function's timeout.
    """
    traffic = measure(
        reader, inputs.function_name, inputs.alias, reader.since, reader.now, inputs.region_to_read(reader)
    )
    straggling = timedelta(seconds=read_function(inputs, reader).live_timeout)
    start = reader.since + min(straggling, _LONGEST_STRAGGLER)
    if start >= reader.now:
        return EffectFacts(traffic=Traffic())
    errors = ErrorInputs(function_name=inputs.function_name, alias=inputs.alias, region=inputs.region_to_read(reader))
    log = read_errors(errors, reader, start, reader.now)
    return EffectFacts(traffic=traffic, timeouts=log.timeouts, out_of_memory=log.out_of_memory)


def revision_of(inputs: FunctionInputs, *, alias: bool) -> Volatile:
    """Return the guard of a call: the RevisionId, read just before."""
    arguments = {"FunctionName": inputs.function_name}
    if alias:
        read = Read(service="lambda", operation="get_alias", arguments={**arguments, "Name": inputs.alias})
    else:
        read = Read(service="lambda", operation="get_function_configuration", arguments=arguments)
    return Volatile(argument="RevisionId", read=read, path="RevisionId")


def alias_guard(inputs: FunctionInputs) -> Guard:
    """Return what an undo of the alias rests on: it still points where the fix put it."""
    arguments = {"FunctionName": inputs.function_name, "Name": inputs.alias}
    return Guard(read=Read(service="lambda", operation="get_alias", arguments=arguments), path="FunctionVersion")


def move_alias(inputs: FunctionInputs, arn: str, version: Any, *, summary: str) -> Call:
    """Return the call that points the alias at one version and nothing else."""
    return Call(
        service="lambda",
        operation="update_alias",
        arguments={
            "FunctionName": inputs.function_name,
            "Name": inputs.alias,
            "FunctionVersion": version,
            "RoutingConfig": {"AdditionalVersionWeights": {}},
        },
        permissions=("lambda:UpdateAlias",),
        resources=(arn,),
        repeat=Repeat.GUARDED,
        timeout=FUNCTION_TIMEOUT,
        volatile=(revision_of(inputs, alias=True),),
        summary=summary,
    )


# --- lambda.rollback-alias --------------------------------------------------------------------------------------------


class RollbackInputs(FunctionInputs):
    """How many clean invocations prove it."""

    min_invocations: int = Field(20, ge=1)


class RollbackFacts(Facts):
    """What the alias points to, and the newest versions below that."""

    arn: str = ""
    current: str | None = None
    weighted: bool = False
    versions: tuple[int, ...] = ()


@register
class RollbackAlias(FixAction[RollbackInputs, RollbackFacts]):
    """Point the alias back at the version before."""

    name = "lambda.rollback-alias"
    title = "Roll the alias back"
    inputs_model = RollbackInputs
    facts_model = RollbackFacts
    reads = (
        "lambda:GetAlias",
        "lambda:ListVersionsByFunction",
        "lambda:GetFunctionConfiguration",
        "lambda:GetFunctionConcurrency",
        "cloudwatch:GetMetricData",
        "logs:FilterLogEvents",
    )
    writes = ("lambda:UpdateAlias",)
    risk = "Disruptive: every user is served by the older version at once."
    undo = "The alias points at the version it left."
    waits = Waits(wait=timedelta(minutes=1), every=timedelta(seconds=30), deadline=timedelta(minutes=15))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NoAlias": ReasonInfo(doc="The function is not served by an alias."),
        "NoOlderVersion": ReasonInfo(doc="There is no version below the current one."),
    }

    def observe(self, inputs: RollbackInputs, reader: Reader) -> RollbackFacts:
        """Read alias and versions."""
        if not inputs.alias:
            return RollbackFacts()
        function = read_function(inputs, reader)
        listed = reader.aws(
            "lambda",
            "list_versions_by_function",
            {"FunctionName": inputs.function_name},
            region=inputs.region_to_read(reader),
        )
        serving = int(function.alias_version or 0) if (function.alias_version or "").isdigit() else 0
        below = sorted(int(v["Version"]) for v in listed if v["Version"].isdigit() and int(v["Version"]) < serving)
        return RollbackFacts(
            arn=function.arn,
            current=function.alias_version,
            weighted=function.alias_weights,
            versions=tuple(below[-10:]),
        )

    def plan(self, inputs: RollbackInputs, facts: RollbackFacts) -> PlanDraft | NotApplicable:
        """Choose the highest numeric version below the current one."""
        if not inputs.alias or facts.current is None:
            return NotApplicable(reason="NoAlias", message=f"{inputs.name} is not served by an alias")
        if not facts.versions:
            message = f"there is no version below {facts.current} to go back to"
            return NotApplicable(reason="NoOlderVersion", message=message)
        target = str(max(facts.versions))
        undo = move_alias(inputs, facts.arn, facts.current, summary=f"point {inputs.label} at {facts.current} again")
        return PlanDraft(
            title=f"roll {inputs.label} back from version {facts.current} to {target}",
            calls=(move_alias(inputs, facts.arn, target, summary=f"point {inputs.label} at version {target}"),),
            touches=(facts.arn,),
            risk=Risk.DISRUPTIVE,
            region=inputs.where,
            verify=self.waits.verify(f"{inputs.min_invocations} invocations of {inputs.label} without an error"),
            diff=(DiffLine(what=f"alias {inputs.label}", before=facts.current, after=target),),
            undo=Undo(
                calls=(undo,),
                safe_when=f"the alias still points at {target}",
                guards=(alias_guard(inputs),),
            ),
            revert_if_worse=False,
        )

    def applied(self, call: Call, inputs: RollbackInputs, facts: RollbackFacts) -> bool | None:
        """Tell whether the alias points where the call would point it."""
        return facts.current == call.arguments["FunctionVersion"] and not facts.weighted

    def measure(self, inputs: RollbackInputs, reader: Reader) -> EffectFacts:
        """Read traffic since the call."""
        return measure_effect(inputs, reader)

    def judge(self, inputs: RollbackInputs, before: RollbackFacts, after: EffectFacts) -> Judgement:
        """Clean invocations help; errors that go on do not."""
        return judge_errors(inputs.label, after, inputs.min_invocations)


def judge_errors(label: str, after: EffectFacts, wanted: int) -> Judgement:
    """Judge by errors since the call: none in enough invocations is Helped."""
    traffic = after.traffic
    made = traffic.invocations or 0
    if traffic.errors:
        return Judgement(
            outcome=None, measured=True, message=f"{traffic.errors:g} of {made:g} invocations of {label} still fail"
        )
    if made < wanted:
        return Judgement(
            outcome=None,
            measured=made > 0,
            message=f"{made:g} of {wanted} invocations of {label} seen, all well",
            waiting_for=f"traffic on {label}",
        )
    return Judgement(outcome="Helped", measured=True, message=f"{made:g} invocations of {label} without an error")


# --- lambda.set-configuration -----------------------------------------------------------------------------------------


class SetConfigurationInputs(FunctionInputs):
    """Which setting to raise, and up to what; a missing maximum means it is not raised at all. Source: decision 22."""

    setting: str = Field(pattern="^(timeout|memory|concurrency)$")
    maximum_timeout: int | None = Field(None, ge=1, le=900)
    maximum_memory: int | None = Field(None, ge=128, le=10240)
    maximum_concurrency: int | None = Field(None, ge=1)
    min_invocations: int = Field(20, ge=1)

    @property
    def maximum(self) -> int | None:
        """The maximum of the setting that is meant."""
        return {
            "timeout": self.maximum_timeout,
            "memory": self.maximum_memory,
            "concurrency": self.maximum_concurrency,
        }[self.setting]


class SettingFacts(Facts):
    """The function as it is."""

    function: Function


_ARGUMENT = {"timeout": "Timeout", "memory": "MemorySize"}
_UNIT = {"timeout": " s", "memory": " MB", "concurrency": ""}


@register
class SetConfiguration(FixAction[SetConfigurationInputs, SettingFacts]):
    """Raise timeout, memory or reserved concurrency: twice the current, at most the given maximum."""

    name = "lambda.set-configuration"
    title = "Raise a limit of the function"
    inputs_model = SetConfigurationInputs
    facts_model = SettingFacts
    reads = (
        "lambda:GetFunctionConfiguration",
        "lambda:GetFunctionConcurrency",
        "lambda:GetAlias",
        "cloudwatch:GetMetricData",
        "logs:FilterLogEvents",
    )
    risk = "Disruptive: users are served by the new setting at once, and it may cost more."
    undo = "The setting is as it was; an alias points at the version it left."
    waits = Waits(wait=timedelta(minutes=1), every=timedelta(seconds=30), deadline=timedelta(minutes=15))
    writes = (
        "lambda:UpdateFunctionConfiguration",
        "lambda:PublishVersion",
        "lambda:UpdateAlias",
        "lambda:PutFunctionConcurrency",
        "lambda:DeleteFunctionConcurrency",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NoMaximum": ReasonInfo(doc="The run gives no maximum for this setting."),
        "AtMaximum": ReasonInfo(doc="The setting is at its maximum already."),
        "UnreleasedCode": ReasonInfo(doc="$LATEST has code that is not live; publishing would release it."),
        "NoReserve": ReasonInfo(doc="The function has no reserved concurrency to raise."),
    }

    def observe(self, inputs: SetConfigurationInputs, reader: Reader) -> SettingFacts:
        """Read the function and what serves."""
        return SettingFacts(function=read_function(inputs, reader))

    def plan(self, inputs: SetConfigurationInputs, facts: SettingFacts) -> PlanDraft | NotApplicable:
        """Plan one call for `$LATEST` and concurrency, three for an alias."""
        function, setting, maximum = facts.function, inputs.setting, inputs.maximum
        if maximum is None:
            message = f"the run gives no maximum{setting.capitalize()}: set the parameter to let it be raised"
            return NotApplicable(reason="NoMaximum", message=message)
        if setting == "concurrency":
            return self._plan_concurrency(inputs, function, maximum)
        current = function.live_timeout if setting == "timeout" else function.live_memory
        wanted = min(maximum, 2 * current)
        if wanted <= current:
            message = f"the {setting} of {inputs.label} is {current}{_UNIT[setting]}, its maximum"
            return NotApplicable(reason="AtMaximum", message=message)
        if inputs.alias and function.code != function.live_code:
            message = "$LATEST has code that is not live: publishing it would release that code"
            return NotApplicable(reason="UnreleasedCode", message=message)
        former = function.timeout if setting == "timeout" else function.memory
        calls = [self._configure(inputs, function, wanted)]
        undo = [self._configure(inputs, function, former)]
        if inputs.alias:
            calls.append(self._publish(inputs, function))
            published = {"fromResult": {"call": 1, "path": "Version"}}
            summary = f"point {inputs.label} at the new version"
            calls.append(move_alias(inputs, function.arn, published, summary=summary))
            back = f"point {inputs.label} at version {function.alias_version} again"
            undo.insert(0, move_alias(inputs, function.arn, function.alias_version, summary=back))
        guards = [self._guard(inputs, "get_function_configuration", _ARGUMENT[setting])]
        guards += [alias_guard(inputs)] if inputs.alias else []
        signal = "timeouts" if setting == "timeout" else "runs out of memory"
        return self._draft(
            inputs,
            function,
            tuple(calls),
            tuple(undo),
            tuple(guards),
            before=current,
            after=wanted,
            signal=f"{inputs.min_invocations} invocations of {inputs.label} without {signal}",
        )

    def _plan_concurrency(
        self, inputs: SetConfigurationInputs, function: Function, maximum: int
    ) -> PlanDraft | NotApplicable:
        if function.reserved is None:
            return NotApplicable(reason="NoReserve", message=f"{inputs.name} has no reserved concurrency to raise")
        wanted = min(maximum, max(1, 2 * function.reserved))
        if wanted <= function.reserved:
            message = f"the reserved concurrency of {inputs.name} is {function.reserved}, its maximum"
            return NotApplicable(reason="AtMaximum", message=message)
        return self._draft(
            inputs,
            function,
            (self._reserve(inputs, function, wanted),),
            (self._reserve(inputs, function, function.reserved),),
            (self._guard(inputs, "get_function_concurrency", "ReservedConcurrentExecutions"),),
            before=function.reserved,
            after=wanted,
            signal=f"{inputs.min_invocations} requests to {inputs.label} without a throttle",
        )

    def _draft(
        self,
        inputs: SetConfigurationInputs,
        function: Function,
        calls: tuple[Call, ...],
        undo: tuple[Call, ...],
        guards: tuple[Guard, ...],
        *,
        before: int,
        after: int,
        signal: str,
    ) -> PlanDraft:
        unit = _UNIT[inputs.setting]
        return PlanDraft(
            title=f"raise the {inputs.setting} of {inputs.label} from {before}{unit} to {after}{unit}",
            calls=calls,
            touches=(function.arn,),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.COST,),
            region=inputs.where,
            verify=self.waits.verify(signal),
            diff=(
                DiffLine(what=f"{inputs.setting} of {inputs.label}", before=f"{before}{unit}", after=f"{after}{unit}"),
            ),
            undo=Undo(calls=undo, safe_when=f"the {inputs.setting} is still {after}{unit}", guards=guards),
        )

    @staticmethod
    def _guard(inputs: SetConfigurationInputs, operation: str, path: str) -> Guard:
        """Return what the undo rests on: the setting is still what the fix made it."""
        read = Read(service="lambda", operation=operation, arguments={"FunctionName": inputs.function_name})
        return Guard(read=read, path=path)

    def _configure(self, inputs: SetConfigurationInputs, function: Function, value: int) -> Call:
        return Call(
            service="lambda",
            operation="update_function_configuration",
            arguments={"FunctionName": inputs.function_name, _ARGUMENT[inputs.setting]: value},
            permissions=("lambda:UpdateFunctionConfiguration",),
            resources=(function.arn,),
            repeat=Repeat.GUARDED,
            timeout=FUNCTION_TIMEOUT,
            volatile=(revision_of(inputs, alias=False),),
            summary=f"set the {inputs.setting} of {inputs.name} to {value}{_UNIT[inputs.setting]}",
        )

    def _publish(self, inputs: SetConfigurationInputs, function: Function) -> Call:
        return Call(
            service="lambda",
            operation="publish_version",
            arguments={"FunctionName": inputs.function_name, "CodeSha256": function.code},
            permissions=("lambda:PublishVersion",),
            resources=(function.arn,),
            repeat=Repeat.GUARDED,
            timeout=FUNCTION_TIMEOUT,
            volatile=(revision_of(inputs, alias=False),),
            keep=("Version",),
            summary=f"publish a version of {inputs.name} with the same code",
        )

    def _reserve(self, inputs: SetConfigurationInputs, function: Function, value: int) -> Call:
        return Call(
            service="lambda",
            operation="put_function_concurrency",
            arguments={"FunctionName": inputs.function_name, "ReservedConcurrentExecutions": value},
            permissions=("lambda:PutFunctionConcurrency",),
            resources=(function.arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=FUNCTION_TIMEOUT,
            summary=f"reserve a concurrency of {value} for {inputs.name}",
        )

    def applied(self, call: Call, inputs: SetConfigurationInputs, facts: SettingFacts) -> bool | None:
        """Tell by the setting, or by what serves; a published version can't be told: publishing again is harmless."""
        function = facts.function
        if call.operation == "put_function_concurrency":
            return bool(function.reserved == call.arguments["ReservedConcurrentExecutions"])
        if call.operation == "update_function_configuration":
            value = function.timeout if inputs.setting == "timeout" else function.memory
            return bool(value == call.arguments[_ARGUMENT[inputs.setting]])
        if call.operation == "update_alias" and isinstance(call.arguments["FunctionVersion"], str):
            return function.alias_version == call.arguments["FunctionVersion"]
        if call.operation == "update_alias":
            live = function.live_timeout if inputs.setting == "timeout" else function.live_memory
            return live == (function.timeout if inputs.setting == "timeout" else function.memory)
        return None

    def measure(self, inputs: SetConfigurationInputs, reader: Reader) -> EffectFacts:
        """Read traffic and log since the last call."""
        return measure_effect(inputs, reader)

    def judge(self, inputs: SetConfigurationInputs, before: SettingFacts, after: EffectFacts) -> Judgement:
        """The setting's own signal: timeouts, memory, or throttles."""
        traffic = after.traffic
        seen, what = {
            "timeout": (after.timeouts, "timeouts"),
            "memory": (after.out_of_memory, "runs out of memory"),
            "concurrency": (traffic.throttles, "throttles"),
        }[inputs.setting]
        if seen:
            return Judgement(outcome=None, measured=True, message=f"still {seen:g} {what} on {inputs.label}")
        made = traffic.invocations or 0
        if made < inputs.min_invocations:
            return Judgement(
                outcome=None,
                measured=made > 0,
                message=f"{made:g} of {inputs.min_invocations} invocations of {inputs.label} seen, no {what}",
                waiting_for=f"traffic on {inputs.label}",
            )
        return Judgement(outcome="Helped", measured=True, message=f"{made:g} invocations of {inputs.label}, no {what}")
