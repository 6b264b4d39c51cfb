"""Judge a runbook before anybody needs it: names, inputs, expressions, cycles; and bind what a run gives it.

A problem names its field; expressions add line and column. What the schema can refuse, the API server refuses; this
is the rest. Source: design §2 Runbook, decisions 8, 17, 18.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..api.runbook import Check, Fix, Parameter, ParameterType, RunbookProblem, RunbookSpec, Step
from .catalogue import ActionInfo, Catalogue
from .expressions import ExpressionError, Scope, checks_read, compile_expression, expressions_in, parameters_read
from .redact import is_clean, looks_random
from .rediscommand import command_problem
from .statement import placeholders, statement_problem

#: What judges an input by the language its schema names.
_LANGUAGES: Mapping[str, Callable[[str], str | None]] = {"sql": statement_problem, "redis": command_problem}

#: A finding the core adds by itself: an expression that failed on real data.
CORE_REASONS = frozenset({"ExpressionFailed"})


def needed_by(names: Iterable[str], graph: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return these checks with all that they read, directly or through others."""
    needed, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += graph.get(name, frozenset())
    return frozenset(needed)


def dependencies(spec: RunbookSpec) -> Mapping[str, frozenset[str]]:
    """Return for each check those whose outputs its inputs read. Shape: every check is a key."""
    known = {check.name for check in spec.checks}
    return {
        check.name: frozenset(
            name for source in _sources(check.inputs) for name in checks_read(source) if name in known
        )
        for check in spec.checks
    }


def _reasons_of(check: Check, catalogue: Catalogue) -> frozenset[str]:
    info = catalogue.get(check.action)
    return (info.reasons if info else frozenset()) | {rule.reason for rule in check.findings}


def finders(spec: RunbookSpec, catalogue: Catalogue, reasons: Collection[str]) -> tuple[str, ...]:
    """Return the names of the checks that can make one of these findings, in the document's order."""
    return tuple(c.name for c in spec.checks if not _reasons_of(c, catalogue).isdisjoint(reasons))


def with_closeout(spec: RunbookSpec) -> RunbookSpec:
    """Return the runbook as it is asked at the close-out: its checks of that time stand in a last step of their own."""
    if spec.closeout is None or not spec.closeout.checks:
        return spec
    last = Step(name="closeout", title="Close-out", expected_by=timedelta(), checks=spec.closeout.checks)
    closeout = spec.closeout.model_copy(update={"checks": ()})
    return spec.model_copy(update={"steps": (*spec.steps, last), "closeout": closeout})


def _sources(value: Any) -> tuple[str, ...]:
    try:
        return tuple(expressions_in(value))
    except ExpressionError:
        return ()


def bind_inputs(action: ActionInfo, inputs: Mapping[str, Any], parameters: Iterable[str]) -> dict[str, Any]:
    """Return the inputs with those of the same name as a parameter bound to it, where nothing else is said.

    A literal input is never bound: who starts a run gives arguments, not programs and addresses.
    """
    properties = action.inputs_schema.get("properties", {})
    open_ = {name for name, schema in properties.items() if not schema.get("literal")}
    bound = {name: f"${{parameters.{name}}}" for name in parameters if name in open_ and name not in inputs}
    return {**dict(inputs), **bound}


def validate(spec: RunbookSpec, catalogue: Catalogue) -> tuple[RunbookProblem, ...]:
    """Return everything that is wrong with a runbook, in the order of the document; empty means it can be run."""
    return tuple(_Validation(spec, catalogue).problems())[:32]


@dataclass(frozen=True)
class _Validation:
    spec: RunbookSpec
    catalogue: Catalogue

    def problems(self) -> Iterable[RunbookProblem]:
        yield from self._names()
        reasons = self._reasons()
        for s, step in enumerate(self.spec.steps):
            for c, check in enumerate(step.checks):
                yield from self._check(f"spec.steps[{s}].checks[{c}]", check)
            for f, fix in enumerate(step.fixes):
                yield from self._fix(f"spec.steps[{s}].fixes[{f}]", fix, reasons)
        yield from self._cycles()
        yield from self._closeout()
        names = [c.name for c in self.spec.checks]
        for r, name in enumerate(self.spec.recovery.checks):
            if name not in names:
                yield _problem(f"spec.recovery.checks[{r}]", f"there is no check {name!r}{_near(name, names)}")
        if self.spec.impact is not None:
            yield from self._expression("spec.impact.failed", self.spec.impact.failed, "input")
            yield from self._expression("spec.impact.total", self.spec.impact.total, "input")
            estimate = self.spec.impact.estimate
            if estimate is not None:
                yield from self._expression("spec.impact.estimate.failed", estimate.failed, "input")
                yield from self._expression("spec.impact.estimate.total", estimate.total, "input")
        for p, parameter in enumerate(self.spec.parameters):
            if parameter.pattern is not None and not _compiles(parameter.pattern):
                yield _problem(f"spec.parameters[{p}].pattern", "this is not a regular expression")
            if parameter.required and parameter.default is not None:
                message = f"parameter {parameter.name!r} is required and has a default: drop one of the two"
                yield _problem(f"spec.parameters[{p}].default", message)
            if parameter.default is not None:
                wrong = _value_problem(parameter, parameter.default)
                if wrong:
                    yield _problem(f"spec.parameters[{p}].default", wrong)

    def _names(self) -> Iterable[RunbookProblem]:
        for what, names in (
            ("check", [c.name for c in self.spec.every_check]),
            ("fix", [f.name for f in self.spec.fixes]),
        ):
            for name, count in Counter(names).items():
                if count > 1:
                    yield _problem("spec.steps", f"{count} steps have a {what} {name!r}: names are unique in a runbook")

    def _closeout(self) -> Iterable[RunbookProblem]:
        """Judge the checks of the close-out, which may read those of the steps and each other, and who names them."""
        closeout = self.spec.closeout
        if closeout is None:
            return
        whole = _Validation(with_closeout(self.spec), self.catalogue)
        for c, check in enumerate(closeout.checks):
            yield from whole._check(f"spec.closeout.checks[{c}]", check)
        names = [c.name for c in self.spec.every_check]
        for field, named in (("alarms", closeout.alarms), ("watchAlso", closeout.watch_also)):
            for n, name in enumerate(named):
                if name not in names:
                    yield _problem(f"spec.closeout.{field}[{n}]", f"there is no check {name!r}{_near(name, names)}")

    def _reasons(self) -> frozenset[str]:
        return CORE_REASONS.union(*(_reasons_of(check, self.catalogue) for check in self.spec.checks))

    def _action(self, field: str, name: str, kind: str) -> ActionInfo | RunbookProblem:
        info = self.catalogue.get(name)
        if info is None:
            return _problem(f"{field}.action", f"there is no action {name!r}{_near(name, self.catalogue)}")
        if info.kind != kind:
            use = "steps[].fixes" if info.kind == "Fix" else "steps[].checks"
            return _problem(f"{field}.action", f"{name} is a {info.kind.lower()}: use it under {use}")
        return info

    def _check(self, field: str, check: Check) -> Iterable[RunbookProblem]:
        info = self._action(field, check.action, "Check")
        if isinstance(info, RunbookProblem):
            yield info
        else:
            yield from self._inputs(field, info, check.inputs)
        for i, rule in enumerate(check.findings):
            yield from self._expression(f"{field}.findings[{i}].when", rule.when, "finding", boolean=True)

    def _fix(self, field: str, fix: Fix, reasons: frozenset[str]) -> Iterable[RunbookProblem]:
        info = self._action(field, fix.action, "Fix")
        if isinstance(info, RunbookProblem):
            yield info
        else:
            yield from self._inputs(field, info, fix.inputs)
        for i, reason in enumerate(fix.on_findings):
            if reason not in reasons:
                message = f"no check of this runbook can find {reason!r}{_near(reason, reasons)}"
                yield _problem(f"{field}.onFindings[{i}]", message)
        if fix.when is not None:
            yield from self._expression(f"{field}.when", fix.when, "input", boolean=True)

    def _inputs(self, field: str, info: ActionInfo, inputs: Mapping[str, Any]) -> Iterable[RunbookProblem]:
        schema = info.inputs_schema
        properties = schema.get("properties", {})
        bound = bind_inputs(info, inputs, [p.name for p in self.spec.parameters])
        for name, value in inputs.items():
            if name not in properties:
                message = f"{info.name} has no input {name!r}{_near(name, properties)}"
                yield _problem(f"{field}.inputs.{name}", message)
                continue
            if properties[name].get("literal") and _sources(value):
                yield _problem(
                    f"{field}.inputs.{name}", "this input is literal: no ${} in it, values go in as arguments"
                )
                continue
            yield from self._program(f"{field}.inputs", properties[name].get("language"), name, value, inputs)
        for name in schema.get("required", ()):
            if name not in bound:
                yield _problem(f"{field}.inputs.{name}", f"{info.name} needs the input {name!r}")
        for name, value in bound.items():
            yield from self._template(f"{field}.inputs.{name}", value)
        if why := info.refused(bound):
            yield _problem(f"{field}.inputs", why)

    def _program(
        self, field: str, language: str | None, name: str, value: Any, inputs: Mapping[str, Any]
    ) -> Iterable[RunbookProblem]:
        """Judge an input that is a statement or a command. Source: design §5, attack table."""
        judge = _LANGUAGES.get(language or "")
        if judge is None:
            return
        if not isinstance(value, str):
            yield _problem(f"{field}.{name}", "this input is a text")
            return
        wrong = judge(value)
        if wrong is not None:
            yield _problem(f"{field}.{name}", wrong)
            return
        arguments = inputs.get("arguments", ())
        if language == "sql" and isinstance(arguments, list | tuple) and len(arguments) != placeholders(value):
            message = (
                f"the statement takes {placeholders(value)} arguments ($1, $2, ...), and {len(arguments)} are given"
            )
            yield _problem(f"{field}.arguments", message)

    def _template(self, field: str, value: Any) -> Iterable[RunbookProblem]:
        try:
            sources = tuple(expressions_in(value))
        except ExpressionError as error:
            yield _problem(field, error.message, error.line, error.column)
            return
        for source in sources:
            yield from self._expression(field, source, "input")

    def _expression(self, field: str, source: str, scope: Scope, *, boolean: bool = False) -> Iterable[RunbookProblem]:
        try:
            compile_expression(source, scope, boolean)
        except ExpressionError as error:
            yield _problem(field, f"{error.message} in {source!r}"[:1024], error.line, error.column)
            return
        checks = [c.name for c in self.spec.checks]
        for name in sorted(checks_read(source) - set(checks)):
            yield _problem(field, f"there is no check {name!r}{_near(name, checks)}")
        parameters = [p.name for p in self.spec.parameters]
        for name in sorted(parameters_read(source) - set(parameters)):
            yield _problem(field, f"there is no parameter {name!r}{_near(name, parameters)}")

    def _cycles(self) -> Iterable[RunbookProblem]:
        try:
            TopologicalSorter(dependencies(with_closeout(self.spec))).prepare()
        except CycleError as error:
            yield _problem("spec.steps", f"these checks read each other in a circle: {' → '.join(error.args[1])}")


def bind_parameters(spec: RunbookSpec, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[RunbookProblem, ...]]:
    """Return the parameters' values and what is wrong with those a run gives.

    Shape: every declared parameter is a key; one that is neither given nor has a default is None.
    """
    problems = []
    declared = {p.name: p for p in spec.parameters}
    for name in given:
        if name not in declared:
            message = f"the runbook has no parameter {name!r}{_near(name, declared)}"
            problems.append(_problem(f"spec.parameters.{name}", message))
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        values[name] = value
        if value is None:
            if parameter.required:
                hint = f" ({parameter.description})" if parameter.description else ""
                problems.append(_problem(f"spec.parameters.{name}", f"parameter {name!r} is required{hint}"))
            continue
        wrong = _value_problem(parameter, value)
        if wrong:
            problems.append(_problem(f"spec.parameters.{name}", wrong))
    return values, tuple(problems)


_TYPES: Mapping[ParameterType, Callable[[Any], bool]] = {
    ParameterType.STRING: lambda v: isinstance(v, str),
    ParameterType.INTEGER: lambda v: isinstance(v, int) and not isinstance(v, bool),
    ParameterType.NUMBER: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    ParameterType.BOOLEAN: lambda v: isinstance(v, bool),
    ParameterType.ARRAY: lambda v: isinstance(v, list | tuple),
    ParameterType.OBJECT: lambda v: isinstance(v, Mapping),
}


def _value_problem(parameter: Parameter, value: Any) -> str | None:
    """Return what is wrong with a value, without repeating a long one or what could be a secret."""
    name = parameter.name
    secret = not is_clean({name: value}) or looks_random(str(value))
    shown = repr(value) if len(repr(value)) <= 80 and not secret else "the value"
    if not _TYPES[parameter.type](value):
        return f"parameter {name!r} takes a {parameter.type}; {shown} is not one"
    if parameter.pattern is not None and _compiles(parameter.pattern) and not re.search(parameter.pattern, value):
        return f"parameter {name!r} must match {parameter.pattern}; {shown} does not"
    if parameter.enum is not None and value not in parameter.enum:
        return f"parameter {name!r} is one of {', '.join(parameter.enum)}; {shown} is not"
    if parameter.minimum is not None and value < parameter.minimum:
        return f"parameter {name!r} is at least {parameter.minimum:g}; {shown} is less"
    if parameter.maximum is not None and value > parameter.maximum:
        return f"parameter {name!r} is at most {parameter.maximum:g}; {shown} is more"
    return None


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _near(name: str, known: Iterable[str]) -> str:
    """Return a hint: the nearest known names, or all of a few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(names[:8])}" if names else ""


def _problem(field: str, message: str, line: int | None = None, column: int | None = None) -> RunbookProblem:
    return RunbookProblem(field=field[:256], message=message[:1024], line=line, column=column)
