"""Calls of service `postgres` as psql lines: the operator's own statements, with their values written out."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..actions.postgres_backends import CANCEL, TERMINATE
from ..api.plan import Call
from ..core.planning import with_targets
from .errors import CommandError

#: What the operator never writes out is no line of a script either.
Arguments = Mapping[str, Any]


def variable(connection: str) -> str:
    """Return the variable that holds a connection's URL: it is a secret, and read by a person who may."""
    return "PG_" + re.sub(r"\W", "_", connection).upper()


def lines(call: Call, targets: Sequence[str]) -> list[str]:
    """Return the lines of one call. Shape: `targets` are the plan's, or its candidates before it has any.

    Errors: CommandError for an operation that this version does not know.
    """
    arguments = with_targets(dict(call.arguments), targets)
    write = _WRITERS.get(call.operation)
    if write is None:
        raise CommandError(f"postgres has no operation {call.operation!r} that this version can write")
    name = variable(arguments["connection"])
    return [
        f"# Connection {arguments['connection']} of the run, which led to {arguments['place']}.",
        f': "${{{name}:?set it to the URL in the Secret of that connection}}"',
        f"psql \"${name}\" -X -v ON_ERROR_STOP=1 <<'SQL'",
        *write(arguments),
        "SQL",
    ]


def _literal(value: Any) -> str:
    """Return a value as SQL has it; arrays of texts and numbers too."""
    if isinstance(value, list | tuple):
        return f"ARRAY[{', '.join(_literal(item) for item in value)}]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = str(value)
    if "\\" in text or "\n" in text or "\0" in text:
        raise CommandError("a value of this call can't be written as SQL text")
    return "'" + text.replace("'", "''") + "'"


def _filled(statement: str, *values: Any) -> list[str]:
    found = re.sub(r"\$([0-9]+)", lambda match: _literal(values[int(match[1]) - 1]), statement)
    return ["SET search_path = pg_catalog;", *found.strip().splitlines(), ";"]


def _terminate(arguments: Arguments) -> list[str]:
    pairs = [backend.split(".") for backend in arguments["backends"]]
    return _filled(
        TERMINATE,
        arguments["users"],
        arguments["protected"],
        arguments["idleSeconds"],
        [int(pid) for pid, _ in pairs],
        [int(started) for _, started in pairs],
    )


def _cancel(arguments: Arguments) -> list[str]:
    return _filled(
        CANCEL,
        arguments["users"],
        arguments["protected"],
        arguments["queryid"],
        arguments["olderThanSeconds"],
        arguments["limit"],
    )


def _identifier(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _create_index(arguments: Arguments) -> list[str]:
    columns = [_identifier(c["name"]) + (" DESC" if c["descending"] else "") for c in arguments["columns"]]
    table = _identifier(arguments["schema"], arguments["table"])
    return [
        f"CREATE INDEX CONCURRENTLY {_identifier(arguments['index'])} ON {table}",
        f"  USING {_identifier(arguments['method'])} ({', '.join(columns)});",
    ]


def _drop_index(arguments: Arguments) -> list[str]:
    return [f"DROP INDEX CONCURRENTLY IF EXISTS {_identifier(arguments['schema'], arguments['index'])};"]


_WRITERS: Mapping[str, Callable[[Arguments], list[str]]] = {
    "terminate_backends": _terminate,
    "cancel_backends": _cancel,
    "create_index": _create_index,
    "drop_index": _drop_index,
}
