"""A plan as shell lines that a person can run by hand: the AWS CLI's own words, checked against its model of the API.

Pure but for botocore's models, which are data files. Every value is quoted; what an earlier call answers, and what is
read just before a call, goes through shell variables. A system that is not behind AWS's API adds itself to `WRITERS`.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import OperationModel
from botocore.validate import ParamValidator

from ..actions.reads import READS
from ..api.meta import format_instant, parse_duration
from ..api.plan import Call, CallState, JournalEntry, Read, RemediationPlan, Repeat
from ..core.filling import FROM_NOW, FROM_PLAN, plan_name_of
from ..core.redact import redact_json
from . import script_postgres
from .errors import CommandError
from .glossary import PLAN_STATES
from .text import clean, command_line

_NUMBERS = ("integer", "long", "float", "double")
_SAMPLES: Mapping[str, Any] = {
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "boolean": True,
    "blob": b"x",
    "timestamp": 0,
}
_DONE = (CallState.SUCCEEDED, CallState.OBSERVED)


class ScriptError(CommandError):
    """A call that can't be written as a line; the message says which and why."""


@dataclass(frozen=True)
class Variable:
    """A value that the shell knows when the line runs; a number stands in JSON as it is."""

    name: str
    number: bool = False


@dataclass
class Writing:
    """A script as it grows: which earlier results its lines read, and which variables it has named."""

    plan: RemediationPlan
    #: Of each call that is made here, the paths of its answer that some line reads.
    wanted: Mapping[int, Sequence[str]] = field(default_factory=dict)


Writer = Callable[[Call, int, Writing], list[str]]


def script(plan: RemediationPlan, *, undo: bool) -> str:
    """Return the lines that apply a plan, with the undo as comments; or those that undo it. Errors: ScriptError."""
    if undo and plan.spec.undo is None:
        raise ScriptError("this plan can't be undone", clean(plan.spec.irreversible or ""))
    body = _undo(plan) if undo else _apply(plan)
    return "\n".join([*_head(plan, undo=undo, with_json=any("$(json " in line for line in body)), *body]) + "\n"


def _head(plan: RemediationPlan, *, undo: bool, with_json: bool) -> list[str]:
    spec, status = plan.spec, plan.status
    what = "Undo of: " if undo else ""
    lines = [
        "#!/usr/bin/env bash",
        f"# {what}{clean(spec.title)}",
        f"# Plan {plan.metadata.name} of run {spec.run_ref.name}: risk {spec.risk}, tier {spec.tier}.",
        f"# State {status.state}: {PLAN_STATES.get(status.state, '')}",
    ]
    lines += [f"# It touches {clean(arn)}" for arn in spec.touches]
    lines += [
        f"# It blocks: {gate.name}: {clean(gate.message)}" for gate in status.gates if not undo and not status.settled
    ]
    if spec.candidates and not undo:
        most = f", at most {spec.max_targets} of them" if spec.max_targets else ""
        lines.append(f"# It was planned for{most}: {clean(', '.join(spec.candidates))}")
    if not undo:
        lines.append(f"# It worked if: {clean(spec.verify.signal)}")
    lines += [
        "# While the operator may act too, tell it first: kubectl incident pause"
        f" -n {plan.metadata.namespace or 'default'} {spec.run_ref.name}",
        f"# The operator does this as {clean(spec.role)}; use credentials of that account.",
        "set -euo pipefail",
        'export AWS_PAGER=""',
        'stop() { echo "stopped: $1" >&2; exit 1; }',
    ]
    if with_json:
        lines.append('json() { local s=${1//\\\\/\\\\\\\\}; printf \'"%s"\' "${s//\\"/\\\\\\"}"; }')
    account = shlex.quote(spec.account)
    lines += [
        "",
        f"ACCOUNT=$(aws sts get-caller-identity --query Account --output text --region {shlex.quote(spec.region)})",
        f'[ "$ACCOUNT" = {account} ] || stop "these credentials are of account $ACCOUNT, the plan is for "{account}',
    ]
    return lines


def _apply(plan: RemediationPlan) -> list[str]:
    spec = plan.spec
    writing = Writing(plan=plan, wanted=_wanted([*spec.calls, *(spec.undo.calls if spec.undo else ())]))
    lines: list[str] = []
    for number, condition in enumerate(spec.preconditions, 1):
        lines += ["", f"# The plan rests on this ({number} of {len(spec.preconditions)})."]
        lines += _check(condition.read, condition.path, condition.equals, plan.spec.region)
    lines += _calls(spec.calls, "Apply", writing)
    if spec.undo is None:
        return [*lines, "", f"# It can't be undone: {clean(spec.irreversible or '')}"]
    again = (
        f"kubectl incident script -n {plan.metadata.namespace or 'default'} {spec.run_ref.name} --fix {spec.fix} --undo"
    )
    lines += ["", f"# To undo it, as a script of its own: {again}"]
    return lines + _commented([line for line in _undo(plan) if line])


def _undo(plan: RemediationPlan) -> list[str]:
    undo = plan.spec.undo
    assert undo is not None  # noqa: S101  (the callers have looked)
    lines: list[str] = [""]
    if undo.safe_when:
        lines.append(f"# Safe when {clean(undo.safe_when)}.")
    images = plan.status.post_image if isinstance(plan.status.post_image, list) else None
    for number, guard in enumerate(undo.guards):
        lines.append(f"# The undo rests on this ({number + 1} of {len(undo.guards)}): as it was right after the fix.")
        known = images is not None and number < len(images)
        expected = images[number] if images is not None and known else None
        lines += _check(guard.read, guard.path, expected, plan.spec.region, known=known)
    for index, paths in _wanted(undo.calls).items():
        entries = [e for e in plan.status.calls if e.phase == "Apply" and e.index == index]
        lines += _results(entries[-1] if entries else None, index, paths)
    return lines + _calls(undo.calls, "Undo", Writing(plan=plan))


def _calls(calls: Sequence[Call], phase: str, writing: Writing) -> list[str]:
    lines: list[str] = []
    for index, call in enumerate(calls):
        title = clean(call.summary or f"{call.service} {call.operation}")
        lines += ["", f"# {index + 1} of {len(calls)}: {title}"]
        written = WRITERS.get(call.service, write_aws)(call, index, writing)
        entries = [e for e in writing.plan.status.calls if e.phase == phase and e.index == index]
        verdict, skip = _journal(call, entries[-1]) if entries else ("", False)
        lines += [f"# {verdict}"] if verdict else []
        # What is skipped still names its results: later lines read them.
        lines += _commented(written) if skip else written
        if skip:
            lines += _results(entries[-1], index, writing.wanted.get(index, ()))
    return lines


def _commented(lines: Sequence[str]) -> list[str]:
    """Return lines as comments; a quoted text may go over several."""
    return [f"# {part}" for line in lines for part in line.split("\n")]


def _journal(call: Call, entry: JournalEntry) -> tuple[str, bool]:
    """Return what the operator's journal says of a call, and whether it must not be made again as it stands."""
    at = format_instant(entry.finished_at or entry.intent_at)
    if entry.state in _DONE:
        return f"The operator has made this call ({entry.state} at {at}):", True
    if entry.state == CallState.FAILED:
        return f"The operator's call failed at {at}: {clean(entry.error or 'no reason given')}", False
    look = f"The operator was interrupted in this call at {at}: look whether it took effect"
    if call.repeat == Repeat.ONCE:
        return f"{look}. It must not be made twice; take the # away if it was not made:", True
    return f"{look}, before you make it again.", False


def _results(entry: JournalEntry | None, index: int, paths: Sequence[str]) -> list[str]:
    """Return variables for what lines read of a call that is not made here: by the journal, else by a person."""
    kept = entry.result if entry is not None and isinstance(entry.result, Mapping) else {}
    lines = []
    for path in paths:
        name = _result_name(index, path)
        told = f"set it to {path} in the answer of call {index + 1}"
        lines.append(f"{name}={shlex.quote(str(kept[path]))}" if path in kept else f': "${{{name}:?{told}}}"')
    return lines


# --- the AWS CLI ------------------------------------------------------------------------------------------------------


@cache
def operation_of(service: str, operation: str) -> OperationModel:
    """Return the API's own model of an operation, by boto3's name. Errors: ScriptError where there is none."""
    try:
        model = _session().get_service_model(service)
    except (DataNotFoundError, UnknownServiceError) as error:
        raise ScriptError(f"{service} has no command line that this version can write: {error}") from error
    for name in model.operation_names:
        if xform_name(name) == operation:
            return model.operation_model(name)
    raise ScriptError(f"the AWS API {service} has no operation {operation!r}")


@cache
def _session() -> botocore.session.Session:
    return botocore.session.Session()


def words(service: str, operation: str) -> str:
    """Return service and operation as the AWS CLI spells them: `aws s3api put-bucket-policy`."""
    return command_line(service, xform_name(operation_of(service, operation).name, "-"))


def write_aws(call: Call, index: int, writing: Writing) -> list[str]:
    """Return the lines of one call: its guards read, its secrets named, the call, its results kept."""
    model = operation_of(call.service, call.operation)
    region = writing.plan.spec.region
    lines: list[str] = []
    arguments = _argued(call.arguments, writing, lines)
    for number, guard in enumerate(call.volatile, 1):
        name = f"GUARD_{index + 1}" + (f"_{number}" if len(call.volatile) > 1 else "")
        lines += [
            f"# {guard.argument} guards the call: read just before it, so that nobody's change in between is lost.",
            f"{name}=$({read_command(guard.read, guard.path, region)})",
        ]
        arguments[guard.argument] = Variable(name)
    arguments = _typed(arguments, model.input_shape)
    _validate(call, model, arguments)
    members = _members(model)
    # Version 1 of the AWS CLI takes bytes in the JSON as they are, version 2 as base64; a file is bytes to both. And it
    # takes no JSON at all where the answer is a stream.
    single = [n for n in arguments if model.has_streaming_output or members[n].type_name == "blob"]
    options = [_option(name, arguments.pop(name), members[name]) for name in single]
    parts = [words(call.service, call.operation), *options, f"--region {shlex.quote(region)}"]
    if not model.has_streaming_output:
        parts.insert(1, f"--cli-input-json {_quoted(arguments)}")
    if model.has_streaming_output:
        parts.append("/dev/stderr")
    wanted = writing.wanted.get(index, ())
    if not wanted:
        return [*lines, " ".join(parts)]
    # One line of text, a column each, in the order of the query.
    query = shlex.quote(f"[{', '.join(wanted)}]")
    answer = f"ANSWER_{index + 1}"
    lines.append(f"{answer}=$({' '.join(parts)} --query {query} --output text)")
    lines.append(f"IFS=$'\\t' read -r {' '.join(_result_name(index, path) for path in wanted)} <<< \"${answer}\"")
    return lines


def _option(name: str, value: Any, shape: Any) -> str:
    """Return one argument as an option of its own."""
    option = f"--{xform_name(name, '-')}"
    if isinstance(value, Variable):
        return f'{option} "${value.name}"'
    if shape.type_name == "blob":
        return f'{option} "fileb://"<(printf %s {shlex.quote(str(value))})'
    if shape.type_name == "boolean":
        return option if value else option.replace("--", "--no-", 1)
    return f"{option} {shlex.quote(value) if isinstance(value, str) else _quoted(value)}"


#: How calls of other systems are written, by `service`; all else is AWS.
WRITERS: dict[str, Writer] = {
    "postgres": lambda call, _, writing: script_postgres.lines(
        call, writing.plan.status.targets or writing.plan.spec.candidates
    )
}


def read_command(read: Read, path: str, region: str) -> str:
    """Return the command that reads one value of the catalogue's projection as text. Errors: ScriptError."""
    expression = source_of(read.service, read.operation, path)
    if expression is None:
        raise ScriptError(f"{path} of {read.service} {read.operation} is no single value of the answer")
    return f"{_asking(read, region)} --query {shlex.quote(expression)} --output text"


def _asking(read: Read, region: str) -> str:
    model = operation_of(read.service, read.operation)
    wrong = ParamValidator().validate(dict(read.arguments), model.input_shape) if model.input_shape else None
    if wrong is not None and wrong.has_errors():
        raise ScriptError(f"{read.service} {read.operation}: {wrong.generate_report()}")
    name = words(read.service, read.operation)
    return f"{name} --cli-input-json {_quoted(dict(read.arguments))} --region {shlex.quote(region)}"


def _check(read: Read, path: str, expected: Any, region: str, *, known: bool = True) -> list[str]:
    """Return the lines that stop where a fact is not as expected; a look for a person where a shell can't compare."""
    text = _as_text(expected)
    expression = source_of(read.service, read.operation, path)
    if not known or text is None or expression is None:
        wanted = (
            f"must be {clean(json.dumps(redact_json(expected)))}" if known else "must be as it was right after the fix"
        )
        return [f"# {clean(path)} {wanted}; look, and go on only if it is:", f"# {_asking(read, region)}"]
    command = read_command(read, path, region)
    shown = shlex.quote(f"{path} of {read.service} {read.operation} is not {text} any more: plan anew")
    return [f'[ "$({command})" = {shlex.quote(text)} ] || stop {shown}']


def _as_text(value: Any) -> str | None:
    """Return a value as the AWS CLI prints it with `--output text`; None for what takes more than one word."""
    if value is None or isinstance(value, bool | int | str):
        return str(value)
    return None


@cache
def source_of(service: str, operation: str, path: str) -> str | None:
    """Return where in the API's answer a value of the catalogue's projection comes from, as a JMESPath.

    Found by asking the projection itself, with an answer in which every text says where it stands. None where the
    value is computed, or is more than one.
    """
    listed = READS.get((service, operation))
    if listed is None:
        raise ScriptError(f"{service} {operation} is not a read of the catalogue")
    output = operation_of(service, operation).output_shape
    found: Any = None
    try:
        found = listed.project(_marked(output, ""))
        for part in path.split("."):
            found = found[part]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return found.strip('"').removeprefix("@") if isinstance(found, str) and found.strip('"').startswith("@") else None


def _marked(shape: Any, path: str) -> Any:
    """Return an answer of a shape whose leaves name their own path. Lists have no one place: they are empty."""
    if shape is not None and shape.type_name == "structure":
        return {
            name: _marked(member, f"{path}.{name}" if path else name) if path.count(".") < 4 else None
            for name, member in shape.members.items()
        }
    # In quotes, so that a projection that reads a document as JSON finds a text.
    return [] if shape is not None and shape.type_name == "list" else json.dumps(f"@{path}")


# --- values -----------------------------------------------------------------------------------------------------------


def _argued(arguments: Mapping[str, Any], writing: Writing, lines: list[str]) -> dict[str, Any]:
    """Return arguments with variables for results and secrets; a secret's own lines say where a person finds it."""
    namespace = writing.plan.metadata.namespace or "default"

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {"fromResult"}:
                return Variable(_result_name(value["fromResult"]["call"], value["fromResult"]["path"]))
            if set(value) == {"secretKeyRef"}:
                return _secret(value["secretKeyRef"], namespace, lines)
            if set(value) == {FROM_PLAN}:
                return plan_name_of(value[FROM_PLAN], writing.plan)
            if set(value) == {FROM_NOW}:
                return _instant(parse_duration(value[FROM_NOW]["wait"]), lines)
            return {key: walk(inner) for key, inner in value.items()}
        return [walk(inner) for inner in value] if isinstance(value, list | tuple) else value

    if redact_json(dict(arguments)) != dict(arguments):
        raise ScriptError(
            "a call holds what looks like a secret, so it is not printed",
            f"read it with the rights for it: kubectl get rplan -n {namespace} {writing.plan.metadata.name} -o yaml",
        )
    return {key: walk(value) for key, value in arguments.items()}


def _secret(ref: Mapping[str, Any], namespace: str, lines: list[str]) -> Variable:
    secret, key = clean(ref["name"]), clean(ref["key"])
    name = re.sub(r"\W", "_", f"SECRET_{secret}_{key}").upper()
    lines += [
        f"# Key {key} of Secret {secret} in namespace {namespace}; put it into {name} without printing it.",
        f': "${{{name}:?set it to that key}}"',
    ]
    return Variable(name)


def _instant(wait: timedelta, lines: list[str]) -> Variable:
    """Return the variable of the instant so long after the line runs; GNU's date and BSD's are asked differently."""
    seconds = int(wait.total_seconds())
    name, form = f"IN_{seconds}_SECONDS", "+%Y-%m-%dT%H:%M:%SZ"
    lines.append(f'{name}=$(date -u -d "+{seconds} seconds" {form} 2> /dev/null || date -u -v+{seconds}S {form})')
    return Variable(name)


def _validate(call: Call, model: OperationModel, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the API does not take. Errors: ScriptError."""
    if model.input_shape is None:
        return
    report = ParamValidator().validate(_sampled(arguments, model.input_shape), model.input_shape)
    if report.has_errors():
        raise ScriptError(f"{call.service} {call.operation} does not take these arguments: {report.generate_report()}")


def _typed(value: Any, shape: Any) -> Any:
    """Return a value whose variables know whether a number stands in their place."""
    if isinstance(value, Variable):
        return Variable(value.name, number=shape is not None and shape.type_name in _NUMBERS)
    if isinstance(value, Mapping):
        return {key: _typed(item, _part(shape, key)) for key, item in value.items()}
    return [_typed(item, _part(shape, None)) for item in value] if isinstance(value, list) else value


def _part(shape: Any, key: Any) -> Any:
    """Return the shape of a member, of a map's values, of a list's items; None where the API names none."""
    kind = shape.type_name if shape is not None else ""
    if kind == "structure":
        return shape.members.get(key)
    return shape.value if kind == "map" else shape.member if kind == "list" else None


def _sampled(value: Any, shape: Any) -> Any:
    """Return a value with each variable replaced by something of the type that stands there."""
    kind = shape.type_name if shape is not None else "string"
    if isinstance(value, Variable):
        return _SAMPLES.get(kind, "x" * max(1, int(shape.metadata.get("min", 1)) if shape is not None else 1))
    if isinstance(value, Mapping):
        return {key: _sampled(item, _part(shape, key)) for key, item in value.items()}
    return [_sampled(item, _part(shape, None)) for item in value] if isinstance(value, list) else value


def _members(model: OperationModel) -> Mapping[str, Any]:
    return model.input_shape.members if model.input_shape is not None else {}


def _quoted(value: Any) -> str:
    """Return a JSON value as one word of bash: text in single quotes, variables spliced in as JSON strings."""
    variables: list[Variable] = []

    def encode(item: Any) -> Any:
        if isinstance(item, Variable):
            variables.append(item)
            return f"\0{len(variables) - 1}\0"
        if isinstance(item, Mapping):
            return {key: encode(inner) for key, inner in item.items()}
        return [encode(inner) for inner in item] if isinstance(item, list | tuple) else item

    text = shlex.quote(json.dumps(encode(value), ensure_ascii=False))
    for number, variable in enumerate(variables):
        shown = f"${variable.name}" if variable.number else f'$(json "${variable.name}")'
        text = text.replace(f'"\\u0000{number}\\u0000"', f"'\"{shown}\"'")
    return text


def _wanted(calls: Sequence[Call]) -> dict[int, list[str]]:
    """Return which paths of which call's answer other calls read."""
    wanted: dict[int, list[str]] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            if set(value) == {"fromResult"}:
                paths = wanted.setdefault(value["fromResult"]["call"], [])
                if value["fromResult"]["path"] not in paths:
                    paths.append(value["fromResult"]["path"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner)

    for call in calls:
        walk(call.arguments)
    return wanted


def _result_name(index: int, path: str) -> str:
    return f"RESULT_{index + 1}_" + re.sub(r"\W", "_", path)
