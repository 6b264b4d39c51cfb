"""Writes docs/catalogue.md from the catalogue itself: `python -m tests.repo.catalogue_page`."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from incident_operator.actions.base import Action, FixAction
from incident_operator.actions.catalogue import catalogue
from incident_operator.api.meta import format_duration
from tests.repo.files import ROOT

PAGE = ROOT / "docs" / "catalogue.md"
_INTRODUCTION = """\
# The catalogue

Every check and fix that a runbook can name, with its inputs, the reasons it can give and the IAM actions it needs.
This page is written from the code (`python -m tests.repo.catalogue_page`); a test fails when the two differ.

An input of the same name as a parameter of the runbook is bound to it without saying so. A *literal* input takes no
`${}`. A reason of kind Problem makes its check Failed; Info only tells.
"""


def page() -> str:
    """Return the whole page."""
    lines = [_INTRODUCTION]
    for kind, title in (("Check", "Checks"), ("Fix", "Fixes")):
        lines.append(f"## {title}\n")
        for name, action in sorted(catalogue().items()):
            if action.kind == kind:
                lines += [*_entry(name, action), ""]
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, action: Action[Any, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{action.title}.\n"
    schema = action.inputs_model.model_json_schema(by_alias=True)
    defaults = {field.alias: field.default for field in action.inputs_model.model_fields.values()}
    rows = [_input(schema, key, value, defaults.get(key)) for key, value in schema.get("properties", {}).items()]
    if rows:
        yield from ("| input | type | default |", "|---|---|---|", *rows, "")
    if action.reasons:
        yield from ("| reason | kind | meaning |", "|---|---|---|")
        for reason, info in sorted(action.reasons.items()):
            kind = f"{info.kind}, root cause" if info.root_cause else str(info.kind)
            yield f"| {reason} | {kind} | {info.doc} |"
        yield ""
    if action.reads:
        yield f"Reads with: {', '.join(action.reads)}.\n"
    if isinstance(action, FixAction) and action.writes:
        yield f"Writes with: {', '.join(action.writes)}.\n"


def _input(schema: Mapping[str, Any], name: str, value: Mapping[str, Any], default: Any) -> str:
    shown = "required" if name in schema.get("required", ()) else _words(value.get("default"), default)
    literal = ", literal" if value.get("literal") else ""
    return f"| {name} | {_type(value)}{literal} | {shown} |"


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


if __name__ == "__main__":
    PAGE.write_text(page())
