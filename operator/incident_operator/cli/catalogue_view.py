"""The catalogue in words: what `kubectl incident explain` prints, and what docs/actions/ is written from. Pure.

What is told of an action is one list of facts (`facts`), in the order in which people need them at night; a terminal
and a page differ only in how they draw a text, a table or a list.
"""

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..actions.base import Action, FixAction
from ..actions.vantage import PROBE
from ..api.meta import format_duration
from ..core.draft import Waits

_WIDTH = 100
#: What people read on a terminal and on a page alike.
_BY_PLAN = "Each plan says its own: kubectl incident plan RUN"


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


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that is told of an action: a text, a table (`columns` and `rows`) or a list of names."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    names: tuple[str, ...] = ()


def description(action: Action[Any, Any]) -> str:
    """Return what an action does, as its class says it: a line, and paragraphs where it needs more."""
    return inspect.getdoc(type(action)) or f"{action.title}."


def facts(action: Action[Any, Any]) -> Iterator[Fact]:
    """Yield what the class tells of an action; nothing of what does not hold for it."""
    if isinstance(action, FixAction):
        yield from _of_fix(action)
    given = tuple((i.name, i.type, i.default) for i in inputs(action))
    if given:
        yield Fact(title="Inputs", columns=("input", "type", "default"), rows=given)
    told = sorted(action.reasons.items())
    if told and isinstance(action, FixAction):
        rows = tuple((reason, info.doc) for reason, info in told)
        yield Fact(title="Does not apply", columns=("reason", "meaning"), rows=rows)
    elif told:
        kinds = tuple((r, f"{i.kind}, root cause" if i.root_cause else str(i.kind), i.doc) for r, i in told)
        yield Fact(title="Finds", columns=("reason", "kind", "meaning"), rows=kinds)
    if action.reads:
        yield Fact(title="Reads with", names=action.reads)
    if action.reads_from_instances:
        yield Fact(title="With `vantage: instances` also", names=(*action.reads_from_instances, PROBE))
    if isinstance(action, FixAction) and action.writes:
        yield Fact(title="Writes with", names=action.writes)
    if isinstance(action, FixAction) and action.statements:
        yield Fact(title="Calls of PostgreSQL", names=action.statements)


def _of_fix(action: FixAction[Any, Any]) -> Iterator[Fact]:
    """Yield what a fix may cost, does, is judged by and waits for, and how it is undone; each plan says it exactly."""
    yield Fact(title="Risk", text=action.risk or _BY_PLAN)
    yield Fact(title="Undo", text=action.undo or _BY_PLAN)
    yield Fact(title="Plan", text=_said(action, "plan") or _BY_PLAN)
    between = _said(action, "lacks")
    if between:
        yield Fact(title="Before the next call", text=between)
    measured = _said(action, "measure")
    if measured:
        yield Fact(title="Measured", text=measured)
    yield Fact(title="Judged", text=_said(action, "judge") or _BY_PLAN)
    yield Fact(title="Waits", text=_waits(getattr(action, "waits", None)))


def _said(action: FixAction[Any, Any], method: str) -> str:
    """Return what the class says of one of its methods, not what that raises; empty where it has none of its own."""
    own = getattr(type(action), method)
    said = "" if own is getattr(FixAction, method) else (inspect.getdoc(own) or "")
    return said.partition("Errors: ")[0].rstrip()


def _waits(waits: Waits | None) -> str:
    if waits is None:
        return _BY_PLAN
    first, every, last = (format_duration(d) for d in (waits.wait, waits.every, waits.deadline))
    longer = f"; {waits.longer}" if waits.longer else ""
    return f"Judged {first} after the last call, then every {every}, for {last} at most{longer}."


def markdown(name: str, action: Action[Any, Any]) -> Iterator[str]:
    """Yield the lines of an action on the page of its service."""
    yield from (f"## {name}", "", f"{action.kind}: {action.title}.", "", description(action), "")
    for fact in facts(action):
        yield from _drawn(fact)


def _drawn(fact: Fact) -> Iterator[str]:
    if fact.rows:
        yield from (f"**{fact.title}**", "", *table(fact.columns, fact.rows), "")
    else:
        yield from (f"**{fact.title}:** {fact.text or ', '.join(f'`{name}`' for name in fact.names)}", "")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table of a page."""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def explained(name: str, action: Action[Any, Any]) -> Iterator[str]:
    """Yield the lines that explain an action on a terminal."""
    kind = "check: it reads, and changes nothing" if action.kind == "Check" else "fix: it plans, and a plan changes"
    yield f"{name}  ({kind})"
    for line in description(action).splitlines():
        yield f"  {line}".rstrip()
    for fact in facts(action):
        yield from ("", fact.title.replace("`", ""))
        yield from (f"  {line}" for line in _printed(fact))


def _printed(fact: Fact) -> Iterator[str]:
    if not fact.rows:
        yield from textwrap.wrap(fact.text or ", ".join(fact.names), _WIDTH, break_on_hyphens=False)
        return
    rows = [tuple(cell.replace("`", "") for cell in row) for row in fact.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(fact.columns))]
    yield from ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
