"""The catalogue in words: what `kubectl incident explain` prints, and what docs/catalogue.md is written from. Pure."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..actions.base import Action, FixAction
from ..actions.vantage import PROBE
from ..api.meta import format_duration


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of an action: its type in words, and its default as runbooks write it."""

    name: str
    type: str
    default: str


def inputs(action: Action[Any, Any]) -> list[Input]:
    """Return the inputs of an action, in their order."""
    schema = action.inputs_model.model_json_schema(by_alias=True)
    defaults = {field.alias: field.default for field in action.inputs_model.model_fields.values()}
    return [_input(schema, name, value, defaults.get(name)) for name, value in schema.get("properties", {}).items()]


def _input(schema: Mapping[str, Any], name: str, value: Mapping[str, Any], default: Any) -> Input:
    shown = "required" if name in schema.get("required", ()) else _words(value.get("default"), default)
    literal = ", literal" if value.get("literal") else ""
    return Input(name=name, type=f"{_type(value)}{literal}", default=shown)


def _type(value: Mapping[str, Any]) -> str:
    if "$ref" in value:
        return "object"
    if "anyOf" in value:
        return " or ".join(_type(option) for option in value["anyOf"] if option.get("type") != "null")
    if value.get("format") in ("duration", "date-time"):
        return {"duration": "duration", "date-time": "instant"}[value["format"]]
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    if "enum" in value:
        return " or ".join(f"`{option}`" for option in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    return str(value.get("type", "any"))


def _words(written: Any, default: Any) -> str:
    """Return a default as runbooks write it: durations in our notation, not in JSON schema's."""
    if isinstance(default, timedelta):
        return f"`{format_duration(default)}`"
    return "–" if written in (None, "", [], {}) else f"`{json.dumps(written)}`"


def reasons(action: Action[Any, Any]) -> list[tuple[str, str, str]]:
    """Return each reason an action can give, its kind in words, and what it means."""
    return [
        (reason, f"{info.kind}, root cause" if info.root_cause else str(info.kind), info.doc)
        for reason, info in sorted(action.reasons.items())
    ]


def markdown(name: str, action: Action[Any, Any]) -> Iterator[str]:
    """Yield the entry of an action on the page of the catalogue."""
    yield f"### {name}\n"
    yield f"{action.title}.\n"
    rows = [f"| {i.name} | {i.type} | {i.default} |" for i in inputs(action)]
    if rows:
        yield from ("| input | type | default |", "|---|---|---|", *rows, "")
    if action.reasons:
        yield from ("| reason | kind | meaning |", "|---|---|---|")
        yield from (f"| {reason} | {kind} | {doc} |" for reason, kind, doc in reasons(action))
        yield ""
    if action.reads:
        yield f"Reads with: {', '.join(action.reads)}.\n"
    if action.reads_from_instances:
        yield f"With `vantage: instances` also: {', '.join((*action.reads_from_instances, PROBE))}.\n"
    if isinstance(action, FixAction) and action.writes:
        yield f"Writes with: {', '.join(action.writes)}.\n"
    if isinstance(action, FixAction) and action.statements:
        yield f"Calls of PostgreSQL: {', '.join(f'`{name}`' for name in action.statements)}.\n"
    if isinstance(action, FixAction):
        yield from (f"{label}: {text}\n" for label, text in consequences(action) if text)


def consequences(action: FixAction[Any, Any]) -> list[tuple[str, str]]:
    """Return what a fix may cost and how it is undone, as its class says; each plan says it again, exactly."""
    return [("Risk", action.risk), ("Undo", action.undo)]


def explained(name: str, action: Action[Any, Any]) -> Iterator[str]:
    """Yield the lines that explain an action on a terminal."""
    kind = "check: it reads, and changes nothing" if action.kind == "Check" else "fix: it plans, and a plan changes"
    yield f"{name}  ({kind})"
    yield f"  {inspect.getdoc(type(action)) or action.title}"
    yield from _table("Inputs", [(i.name, i.type.replace("`", ""), i.default.replace("`", "")) for i in inputs(action)])
    yield from _table("Reasons", reasons(action))
    yield from _list("Reads with", action.reads)
    if action.reads_from_instances:
        yield from _list("From instances also", (*action.reads_from_instances, PROBE))
    if isinstance(action, FixAction):
        yield from _list("Writes with", action.writes)
        yield from _list("Calls of PostgreSQL", action.statements)
        for label, text in consequences(action):
            yield from ("", label)
            yield f"  {text or 'Each plan says its own: kubectl incident plan RUN'}"


def _table(title: str, rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        yield from ("", title)
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        yield from (f"  {a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in rows)


def _list(title: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        yield from ("", title)
        yield from (f"  {item}" for item in items)
