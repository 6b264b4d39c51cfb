"""Manifests of our kinds, judged without a cluster: what the API server and the operator would say, with its place.

Pure. A field is unknown where the kind's own schema (`api.crd`) has none of that name, which is what the API server
goes by; types and bounds are the models'; rules are the schema's own CEL, but those that compare with what was stored;
runbooks are judged as the operator judges them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from pydantic import ValidationError

from ..actions.catalogue import infos
from ..api.crd import schema
from ..api.escalation import EscalationPolicy
from ..api.kinds import KINDS
from ..api.meta import API_VERSION, GROUP, KubernetesObject
from ..api.run import IncidentRun
from ..api.runbook import ClusterRunbook, Runbook
from ..core.calendar import UnknownTimeZone, calendar_of
from ..core.expressions import ExpressionError, evaluate
from ..core.runbook import bind_parameters, validate
from .text import clean

_MODELS = {kind.resource.kind: kind for kind in KINDS}
Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong: where in which file, which field, why."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def text(self) -> str:
        """Return it as it is printed: `FILE:LINE: field: message (column N)`."""
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{clean(self.message)} (column {self.column})"


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML document: its value, and where each of its fields stands."""

    file: str
    value: Any
    node: yaml.Node

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem at a field, or at the nearest field around it that is written."""
        line, column = _place(self.node, path)
        return Problem(file=self.file, line=line, column=column, field=dotted(path), message=message)


def dotted(path: Path) -> str:
    """Return a path as people write it: `spec.steps[0].checks[1].action`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _undotted(field: str) -> Path:
    parts = re.findall(r"[^.\[\]]+|\[\d+\]", field)
    return tuple(int(part[1:-1]) if part.startswith("[") else part for part in parts)


def _place(node: yaml.Node, path: Path) -> tuple[int, int]:
    """Return line and column of the deepest written part of a path, both from 1."""
    mark = node.start_mark
    for part in path:
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    mark, inner = key.start_mark, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
            mark = inner.start_mark
        if inner is None:
            break
        node = inner
    return mark.line + 1, mark.column + 1


def read(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    """Return the documents of a YAML stream, those inside a List too, and why it could not be read to its end."""
    found: list[Document] = []
    try:
        # Twice: constructing a value resolves merge keys in its nodes, and would move their places.
        for node, value in zip(yaml.compose_all(text, yaml.SafeLoader), yaml.safe_load_all(text), strict=True):
            found += _objects(file, value, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"this is no YAML: {error.problem or error.context}"
        return found, [Problem(file=file, line=line, column=column, field="", message=message)]
    except (yaml.YAMLError, ValueError) as error:
        message = f"this is no YAML: {' '.join(str(error).split())}"
        return found, [Problem(file=file, line=1, column=1, field="", message=message)]
    return found, []


def _objects(file: str, value: Any, node: yaml.Node) -> Iterator[Document]:
    if isinstance(value, Mapping) and value.get("kind") == "List" and isinstance(node, yaml.MappingNode):
        items = next((inner for key, inner in node.value if key.value == "items"), None)
        if isinstance(items, yaml.SequenceNode):
            for item, inner in zip(value["items"], items.value, strict=True):
                yield from _objects(file, item, inner)
    elif value is not None:
        yield Document(file=file, value=value, node=node)


def is_ours(document: Document) -> bool:
    """Tell whether a document claims to be of our group."""
    return isinstance(document.value, Mapping) and str(document.value.get("apiVersion", "")).split("/")[0] == GROUP


def problems(documents: Sequence[Document]) -> list[Problem]:
    """Return everything that is wrong with those documents that are of our kinds, by file and line."""
    ours = [document for document in documents if is_ours(document)]
    read_: list[tuple[Document, KubernetesObject]] = []
    found: list[Problem] = []
    for document in ours:
        object_, wrong = _parsed(document)
        found += wrong
        if object_ is not None:
            read_.append((document, object_))
    runbooks = {(o.kind, o.metadata.name): o for _, o in read_ if isinstance(o, Runbook | ClusterRunbook)}
    for document, object_ in read_:
        if isinstance(object_, Runbook | ClusterRunbook):
            found += _of_runbook(document, object_)
        if isinstance(object_, EscalationPolicy):
            found += _of_policy(document, object_)
        if isinstance(object_, IncidentRun):
            ref = object_.spec.runbook_ref
            runbook = runbooks.get((ref.kind, ref.name))
            if isinstance(runbook, Runbook | ClusterRunbook):
                _, wrong_values = bind_parameters(runbook.spec, object_.spec.parameters)
                found += [document.problem(_undotted(p.field), p.message) for p in wrong_values]
                maintenance = runbook.spec.maintenance
                if maintenance is not None and maintenance.archived is not None:
                    why = f"{ref.kind} {ref.name} is archived: {maintenance.archived.reason}"
                    found.append(document.problem(("spec", "runbookRef", "name"), why))
    return sorted(set(found))


def _parsed(document: Document) -> tuple[KubernetesObject | None, list[Problem]]:
    value = document.value
    if value.get("apiVersion") != API_VERSION:
        return None, [document.problem(("apiVersion",), f"write {API_VERSION}: there is no {value.get('apiVersion')}")]
    model = _MODELS.get(str(value.get("kind")))
    if model is None:
        known = ", ".join(_MODELS)
        return None, [
            document.problem(("kind",), f"there is no kind {value.get('kind')!r} of this group; known: {known}")
        ]
    found = [
        document.problem(path, f"unknown field; known here: {', '.join(sorted(known)[:12])}")
        for path, known in _unknown(value, _schema(model), ())
    ]
    metadata = value.get("metadata")
    named = value
    if isinstance(metadata, Mapping) and "name" not in metadata and metadata.get("generateName"):
        named = {**value, "metadata": {**metadata, "name": "generated"}}
    found += [
        document.problem(path, message)
        for path, message in _broken(_defaulted(value, _schema(model)), _schema(model), ())
    ]
    try:
        return model.model_validate(named), found
    except ValidationError as error:
        return None, found + [document.problem(_where(e["loc"]), _message(e)) for e in error.errors()]


@cache
def _schema(model: type[KubernetesObject]) -> Mapping[str, Any]:
    return schema(model)


def _unknown(value: Any, node: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Iterable[str]]]:
    """Yield each field that a schema does not know, with those it knows there."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, node.get("items", {}), (*path, number))
    if not isinstance(value, Mapping):
        return
    properties = node.get("properties")
    for key, item in value.items():
        if isinstance(node.get("additionalProperties"), Mapping):
            yield from _unknown(item, node["additionalProperties"], (*path, str(key)))
        elif properties is not None and key in properties:
            yield from _unknown(item, properties[key], (*path, str(key)))
        elif properties is not None and not node.get("x-kubernetes-preserve-unknown-fields"):
            yield (*path, str(key)), properties


def _defaulted(value: Any, node: Mapping[str, Any]) -> Any:
    """Return a value as the API server stores it: with the schema's defaults."""
    if isinstance(value, list):
        return [_defaulted(item, node.get("items", {})) for item in value]
    if not isinstance(value, Mapping):
        return value
    properties = node.get("properties", {})
    missing = {key: inner["default"] for key, inner in properties.items() if "default" in inner and key not in value}
    others = node.get("additionalProperties", {})
    return {key: _defaulted(item, properties.get(key, others)) for key, item in {**missing, **value}.items()}


def _broken(value: Any, node: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each rule of the schema that a value breaks, by its message.

    Shape: one that can't be evaluated on the value is left to the types.
    """
    for rule in node.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and _holds(rule["rule"], value) is False:
            yield path, rule["message"]
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _broken(item, node.get("items", {}), (*path, number))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = node.get("properties", {}).get(key, node.get("additionalProperties"))
            yield from _broken(item, inner or {}, (*path, str(key)))


def _holds(rule: str, value: Any) -> bool | None:
    try:
        return bool(evaluate(rule, "rule", {"self": value}))
    except ExpressionError:
        return None


def _where(loc: tuple[int | str, ...]) -> Path:
    """Return a model error's place without the parts that name a type, not a field."""
    return tuple(part for part in loc if isinstance(part, int) or re.fullmatch(r"[A-Za-z][\w./-]*", part))


def _message(error: Any) -> str:
    given = error.get("input")
    shown = f"; it is {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) <= 80 else ""
    return f"{str(error['msg']).removeprefix('Value error, ')}{shown}"


def _of_runbook(document: Document, runbook: Runbook | ClusterRunbook) -> Iterator[Problem]:
    for problem in validate(runbook.spec, infos()):
        place = ""
        if problem.line is not None:
            place = f" at line {problem.line}, column {problem.column} of the expression"
        yield document.problem(_undotted(problem.field), problem.message + place)
    trial = runbook.spec.maintenance.trial if runbook.spec.maintenance is not None else None
    if trial is not None:
        for problem in bind_parameters(runbook.spec, trial.parameters)[1]:
            where = problem.field.replace("spec.parameters", "spec.maintenance.trial.parameters", 1)
            yield document.problem(_undotted(where), problem.message)


def _of_policy(document: Document, policy: EscalationPolicy) -> Iterator[Problem]:
    try:
        calendar_of(policy.spec)
    except UnknownTimeZone as error:
        yield document.problem(("spec", "timeZone"), str(error))
