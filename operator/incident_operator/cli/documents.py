"""What a plan writes, as people read it: JSON documents as YAML, secrets hidden, before and after side by side."""

import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from rich.text import Text

from ..api.plan import DiffLine
from ..core.filling import FROM_NOW, FROM_PLAN
from ..core.redact import redact_json
from .text import clean, clean_lines


def diff(change: DiffLine, *, indent: int, context: int = 2) -> Iterator[Text]:
    """Yield one change: what, then the lines that go and the lines that come, with lines of context around them."""
    yield Text(" " * indent + clean(change.what), overflow="fold")
    before, after = document(change.before), document(change.after)
    for text in difflib.unified_diff(before, after, lineterm="", n=context):
        if text.startswith(("---", "+++", "@@")):
            continue
        style = {"-": "red", "+": "green"}.get(text[0], "dim")
        yield Text.assemble(" " * (indent + 2), (f"{text[0]} {text[1:]}", style), overflow="fold")


def document(value: Any) -> list[str]:
    """Return a value as lines to compare and to read: JSON as YAML, text as it is, absent as no line."""
    if value is None:
        return []
    shown = readable(value)
    if isinstance(shown, str):
        return clean_lines(shown)
    return clean_lines(yaml.safe_dump(shown, sort_keys=False, width=sys.maxsize, allow_unicode=True))


def readable(value: Any) -> Any:
    """Return a JSON value for people: documents inside texts opened, references named, secrets hidden."""
    return _opened(redact_json(value))


def _opened(value: Any) -> Any:
    if isinstance(value, str):
        return _opened_text(value)
    if isinstance(value, Mapping):
        if set(value) == {"fromResult"}:
            source = value["fromResult"]
            return f"<{source.get('path')} of the result of call {int(source.get('call', 0)) + 1}>"
        if set(value) == {FROM_PLAN}:
            return f"<{clean(str(value[FROM_PLAN].get('prefix')))} and the plan's uid>"
        if set(value) == {FROM_NOW}:
            return f"<{clean(str(value[FROM_NOW].get('wait')))} after the call is sent>"
        if set(value) == {"secretKeyRef"}:
            source = value["secretKeyRef"]
            return f"<key {source.get('key')} of Secret {source.get('name')}>"
        return {clean(key): _opened(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_opened(inner) for inner in value]
    return value


def _opened_text(text: str) -> Any:
    if text[:1] in "{[" and text:
        try:
            return redact_json(json.loads(text))
        except ValueError:
            return text
    return text
