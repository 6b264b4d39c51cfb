"""CEL, the one expression language, behind this one module; and `${…}` templates of it.

Scopes name what an expression may see: a *finding* rule sees `output`, `inputs`, `parameters`, `now`; an *input* or a
fix's `when` sees `parameters`, `checks`, `findings`, `incident`, `now`; a *rule* of our own kinds sees `self`.
Compiling tells unknown names and types with line and column; evaluating what others wrote happens in
`adapters.evaluating`, a child process that calls `evaluate` here.
Source: decision 18; the library's limits are measured in the dependency notes (32 chained operands, JSON-safe input).
"""

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Literal

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_optional, ext_strings

from ..api.meta import format_duration

Scope = Literal["finding", "input", "rule"]
MAX_SOURCE = 4096
MAX_DEPTH = 64


class ExpressionError(ValueError):
    """An expression or template that can't be used; `line` and `column` count from 1, None where unknown."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@lru_cache(maxsize=3)
def _environment(scope: Scope) -> Any:
    object_ = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    variables = {
        "finding": {"output": object_, "inputs": object_, "parameters": object_, "now": cel.Type.STRING},
        "input": {
            "parameters": object_,
            "checks": object_,
            "findings": cel.Type.List(cel.Type.STRING),
            "incident": object_,
            "now": cel.Type.STRING,
        },
        "rule": {"self": cel.Type.DYN},
    }[scope]
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_math.ExtMath()]
    return cel.NewEnv(variables=variables, extensions=extensions)


_POSITION = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


@lru_cache(maxsize=4096)
def compile_expression(source: str, scope: Scope, boolean: bool = False) -> Any:
    """Return the compiled expression.

    Errors: ExpressionError with position for what does not compile, is too long, or (with `boolean`) can't be a bool.
    """
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"an expression has at most {MAX_SOURCE} characters, this one {len(source)}")
    try:
        compiled = _environment(scope).compile(source)
    except RuntimeError as error:
        found = _POSITION.search(str(error))
        if not found:
            raise ExpressionError(str(error).splitlines()[0][:300]) from None
        message = re.sub(r" \(in container ''\)", "", found[3])
        raise ExpressionError(message[:300], int(found[1]), int(found[2])) from None
    if boolean and compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise ExpressionError(f"this must be true or false, it is {compiled.return_type()}", 1, 1)
    return compiled


def evaluate(source: str, scope: Scope, variables: Mapping[str, Any]) -> Any:
    """Return the JSON value of an expression over JSON variables. Errors: ExpressionError."""
    compiled = compile_expression(source, scope)
    try:
        value = compiled.eval(_environment(scope).Activation(plain(dict(variables))))
        if value.type() == cel.Type.ERROR:
            raise ExpressionError(str(value.value())[:300])
        return plain(value.plain_value())
    except (RuntimeError, TypeError) as error:
        raise ExpressionError(str(error).splitlines()[0][:300]) from None


def render(template: Any, scope: Scope, variables: Mapping[str, Any]) -> Any:
    """Return the template with each `${…}` replaced; a value that is exactly one keeps its type.

    Errors: ExpressionError.
    """
    if isinstance(template, str):
        if "${" not in template:
            return template
        parts = split(template)
        if len(parts) == 1 and parts[0][0]:
            return evaluate(parts[0][1], scope, variables)
        return "".join(_text(evaluate(text, scope, variables)) if is_code else text for is_code, text in parts)
    if isinstance(template, Mapping):
        return {key: render(value, scope, variables) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [render(value, scope, variables) for value in template]
    return template


def has_template(value: Any) -> bool:
    """Tell whether anything in a JSON value has to be rendered."""
    return any("${" in text for text in _strings(value))


def expressions_in(value: Any) -> Iterator[str]:
    """Yield the source of every `${…}` in a JSON value. Errors: ExpressionError for one that is not closed."""
    for text in _strings(value):
        for is_code, source in split(text):
            if is_code:
                yield source


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[tuple[bool, str], ...]:
    """Split into `(is expression, text)`; `$${` is a literal `${`. Errors: ExpressionError for an unclosed `${`."""
    parts: list[tuple[bool, str]] = []
    literal: list[str] = []
    i = 0
    while i < len(text):
        if text.startswith("$${", i):
            literal.append("${")
            i += 3
        elif text.startswith("${", i):
            end = _closing_brace(text, i + 2)
            if end is None:
                raise ExpressionError("this ${ is not closed by a }", 1, i + 1)
            if literal:
                parts.append((False, "".join(literal)))
                literal = []
            parts.append((True, text[i + 2 : end]))
            i = end + 1
        else:
            literal.append(text[i])
            i += 1
    if literal:
        parts.append((False, "".join(literal)))
    return tuple(parts)


_TOKEN = re.compile(
    r"""(?:[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"]*"|'[^']*'))"""
    r"""|\"{3}(?:\\.|.)*?\"{3}|'{3}(?:\\.|.)*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{}]|.""",
    re.DOTALL,
)


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for token in _TOKEN.finditer(text, start):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return None


_CHECK = re.compile(r"""\bchecks\s*(?:\.\s*\??|\[\s*\??\s*["'])([a-zA-Z_][A-Za-z0-9_]*)""")
_PARAMETER = re.compile(r"""\bparameters\s*(?:\.\s*\??|\[\s*\??\s*["'])([a-zA-Z_][A-Za-z0-9_]*)""")


def checks_read(source: str) -> frozenset[str]:
    """Return the checks an expression names: `checks.NAME` or `checks["NAME"]`."""
    return frozenset(_CHECK.findall(source))


def parameters_read(source: str) -> frozenset[str]:
    """Return the parameters an expression names."""
    return frozenset(_PARAMETER.findall(source))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, sort_keys=True)


def plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON-safe copy, for status and for CEL.

    Units: instants become RFC 3339 text, durations `90s`, integers beyond 64 bits text. Errors: ValueError for a value
    nested deeper than 64 (deeper ones crash the evaluator).
    """
    if value is None or value is True or value is False or type(value) is str:
        return value
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else str(value)
    if type(value) is float:
        return value if math.isfinite(value) else None
    if depth > MAX_DEPTH:
        raise ValueError(f"a value is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**63 else float(value)
    if isinstance(value, Enum):
        return plain(value.value, depth + 1)
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)
