"""PostgreSQL: the calls of plans. Four operations of service `postgres`, written here and nowhere else.

A plan never carries SQL: it carries an operation and values, which become arguments or quoted identifiers. Whom an
operation may hit is asked again in the very statement that hits, so that a plan that is minutes old harms nobody new.
The locks, from the outside in: some fix of the catalogue declares the operation; the Secret still leads where the
plan says; the grant's probes admit the address; the login role can do no more than it is for. Source: docs/connections.
"""

import contextlib
import select
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq
from psycopg import sql as quoting
from psycopg.rows import tuple_row

from ..actions.base import FixAction
from ..actions.catalogue import catalogue
from ..actions.ports import ReadError
from ..actions.postgres_backends import CANCEL, TERMINATE
from ..api.grant import Probes
from ..api.plan import Call
from .aws import CallAnswer, CallFailed
from .connections import Connections, Target
from .probe import Endpoint, admitted_address
from .sql import connect, require_role

SERVICE = "postgres"
_SIGNALS = frozenset({"cancel_backends", "terminate_backends"})
#: Reads that fail so may succeed in a moment: the call is surely not sent, and tried again.
_PASSING = frozenset({"Timeout", "Unreachable", "StartingUp"})
#: What the answer needs on its way back: the server is given less time than the caller has.
_MARGIN = timedelta(seconds=1)

_INDEX = """
SELECT i.indisvalid, tn.nspname = $1 AND t.relname = $3,
       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
"""


def execute(
    call: Call,
    connections: Connections,
    probes: Probes,
    timeout: timedelta,
    deadline: datetime,
    *,
    now: Callable[[], datetime],
    api_server: Endpoint | None,
) -> CallAnswer:
    """Make one call of a plan, once.

    Shape: `call.arguments` are `connection`, `place` (where the plan found it to lead) and the operation's own; the
    answer keeps `signalled` (how many backends) or `underWay` (the server goes on by itself). `deadline` is the
    intent's: after it nothing is sent any more.
    Errors: CallFailed.
    """
    if call.operation not in _OPERATIONS or not any(
        call.operation in a.statements for a in catalogue().values() if isinstance(a, FixAction)
    ):
        raise CallFailed("CallNotInCatalogue", definite=True)
    arguments = dict(call.arguments)
    try:
        target = connections.target(str(arguments.pop("connection")), "PostgreSQL")
        if target.place != arguments.pop("place"):
            raise CallFailed("ConnectionMoved", definite=True)
        with connections.slots.taken(target.place, seconds=timeout.total_seconds()):
            address = admitted_address(target.host, target.port, probes, api_server)
            with _session(target, address, call.operation) as connection:
                if now() >= deadline:
                    raise CallFailed("NotSentInTime", definite=True)
                return CallAnswer(
                    request_id=None, result=_OPERATIONS[call.operation](connection, arguments, timeout - _MARGIN)
                )
    except ReadError as error:
        if error.reason in _PASSING:
            raise CallFailed("NotSentInTime", definite=True) from None
        raise CallFailed(error.code or error.reason, definite=True) from None
    except (KeyError, TypeError, ValueError):
        raise CallFailed("InvalidRequest", definite=True) from None


@contextlib.contextmanager
def _session(target: Target, address: str, operation: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session in which each statement commits by itself. Errors: ReadError, CallFailed."""
    connection = connect(target, address, autocommit=True)
    try:
        require_role(connection, may=frozenset({"pg_signal_backend"}) if operation in _SIGNALS else frozenset())
        with psycopg.RawCursor(connection) as cursor:
            cursor.execute("SELECT pg_catalog.set_config('search_path', 'pg_catalog', false)")
        yield connection
    except psycopg.Error as error:
        code = error.sqlstate
        # With a code the server has refused the statement; without one nobody knows.
        raise CallFailed(code or type(error).__name__, definite=code is not None and code[:2] != "08") from None
    finally:
        connection.pgconn.finish()


def _limited(connection: psycopg.Connection[Any], timeout: timedelta) -> None:
    with psycopg.RawCursor(connection) as cursor:
        milliseconds = str(max(100, round(timeout.total_seconds() * 1000)))
        cursor.execute("SELECT pg_catalog.set_config('statement_timeout', $1, false)", [milliseconds])


def _signal(connection: psycopg.Connection[Any], statement: str, arguments: list[Any], timeout: timedelta) -> int:
    _limited(connection, timeout)
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(statement, arguments)
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _whom(arguments: Mapping[str, Any]) -> list[Any]:
    return [[str(u) for u in arguments["users"]], [str(p) for p in arguments["protected"]]]


def _terminate(connection: psycopg.Connection[Any], arguments: Mapping[str, Any], timeout: timedelta) -> Any:
    """End sessions that are still the ones that were planned for: same pid, same start, still idle."""
    pairs = [backend.split(".") for backend in arguments["backends"]]
    given = [float(arguments["idleSeconds"]), [int(pid) for pid, _ in pairs], [int(start) for _, start in pairs]]
    return {"signalled": _signal(connection, TERMINATE, [*_whom(arguments), *given], timeout)}


def _cancel(connection: psycopg.Connection[Any], arguments: Mapping[str, Any], timeout: timedelta) -> Any:
    """Cancel executions of one statement; the sessions stay."""
    given = [int(arguments["queryid"]), float(arguments["olderThanSeconds"]), int(arguments["limit"])]
    return {"signalled": _signal(connection, CANCEL, [*_whom(arguments), *given], timeout)}


def _index_state(connection: psycopg.Connection[Any], schema: str, table: str, name: str) -> tuple[bool, bool] | None:
    """Return whether an index is valid, and whether one is being built on its table; None without the index.

    Errors: CallFailed IndexElsewhere where it is one of another table.
    """
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(_INDEX, [schema, name, table])
        row = cursor.fetchone()
    if row is None:
        return None
    valid, of_table, building = (bool(value) for value in row)
    if not of_table:
        raise CallFailed("IndexElsewhere", definite=True)
    return valid, building


def _create_index(connection: psycopg.Connection[Any], arguments: Mapping[str, Any], timeout: timedelta) -> Any:
    """Build an index concurrently, unless it is there or under way."""
    schema, table, name = arguments["schema"], arguments["table"], arguments["index"]
    known = _index_state(connection, schema, table, name)
    if known is not None:
        valid, building = known
        if not valid and not building:
            raise CallFailed("InvalidIndexLeft", definite=True)
        return {"underWay": not valid}
    columns = [
        quoting.SQL("{} DESC" if column["descending"] else "{}").format(quoting.Identifier(column["name"]))
        for column in arguments["columns"]
    ]
    statement = quoting.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING {} ({})").format(
        quoting.Identifier(name),
        quoting.Identifier(schema, table),
        quoting.Identifier(arguments["method"]),
        quoting.SQL(", ").join(columns),
    )
    return {"underWay": _long(connection, statement, timedelta(seconds=arguments["buildSeconds"]), timeout)}


def _drop_index(connection: psycopg.Connection[Any], arguments: Mapping[str, Any], timeout: timedelta) -> Any:
    """Drop an index concurrently. Errors: CallFailed IndexElsewhere where it is one of another table."""
    schema, table, name = arguments["schema"], arguments["table"], arguments["index"]
    known = _index_state(connection, schema, table, name)
    if known is None:
        return {"underWay": False}
    if arguments.get("onlyInvalid") and any(known):
        raise CallFailed("IndexInUse", definite=True)
    statement = quoting.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(quoting.Identifier(schema, name))
    return {"underWay": _long(connection, statement, timedelta(seconds=arguments["buildSeconds"]), timeout)}


def _long(connection: psycopg.Connection[Any], statement: quoting.Composed, limit: timedelta, wait: timedelta) -> bool:
    """Send a statement that may take long; return True where the server goes on with it after we have left.

    Shape: a server reads that its client has gone only after the statement, so the build goes on; `limit` is the
    server's own, so it never goes on for ever. Errors: CallFailed with the SQLSTATE; psycopg.Error.
    """
    _limited(connection, limit)
    wire, until = connection.pgconn, monotonic() + wait.total_seconds()
    wire.send_query(statement.as_bytes(connection))
    while wire.flush():
        select.select([], [wire.socket], [], 0.1)
    while True:
        left = until - monotonic()
        if left <= 0:
            return True
        if select.select([wire.socket], [], [], left)[0]:
            wire.consume_input()
            while not wire.is_busy():
                result = wire.get_result()
                if result is None:
                    return False
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")
                    raise CallFailed(code or "Unknown", definite=bool(code))


_OPERATIONS: Mapping[str, Callable[[psycopg.Connection[Any], Mapping[str, Any], timedelta], Any]] = {
    "cancel_backends": _cancel,
    "terminate_backends": _terminate,
    "create_index": _create_index,
    "drop_index": _drop_index,
}
