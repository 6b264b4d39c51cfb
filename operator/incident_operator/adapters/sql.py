"""PostgreSQL: one SELECT, by a role that may only read, in a transaction that can only read.

The locks, from the outside in: `core.statement` takes one SELECT of listed functions; the login role is looked at
and refused if it could do more than read; the transaction is READ ONLY with timeouts and a search path of PostgreSQL's
own names; the statement is declared as a cursor by the extended protocol, which takes one statement that is a SELECT;
and what comes back is projected by the server, so that a text that is no token never leaves it (decision 19).
"""

import contextlib
import math
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ..actions.ports import ReadError, Rows, Scalar
from ..api.grant import Probes
from ..core.redact import looks_random
from ..core.statement import statement_problem, without_end
from .connections import Slots, Target
from .probe import Endpoint, admitted_address

MAX_ROWS = 100
MAX_COLUMNS = 32
MAX_TIMEOUT = timedelta(seconds=30)
_CONNECT_SECONDS = 5
_LOCK_WAIT = timedelta(seconds=1)
#: What the client waits beyond the server's own timeout, before it gives up on the server.
_GRACE = timedelta(seconds=3)

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TOKEN = "^[A-Za-z0-9_.:-]{0,64}$"  # noqa: S105  (a grammar)
#: Sent in place of a text that is no token: it is none itself.
_WITHHELD = " "

#: By type, what the server makes of a column. Shape: `{c}` is the column. Source: OIDs of pg_type.
_NUMBER = "{c}::float8"
_IS_TOKEN = "{c}::text ~ '" + _TOKEN.replace("{", "{{").replace("}", "}}") + "'"
_TEXT = f"CASE WHEN {_IS_TOKEN} THEN {{c}}::text WHEN {{c}} IS NOT NULL THEN '{_WITHHELD}' END"
_PROJECTIONS: Mapping[int, str] = {
    **dict.fromkeys((21, 23, 20, 26), "{c}::int8"),  # int2, int4, int8, oid
    **dict.fromkeys((700, 701, 1700), _NUMBER),  # float4, float8, numeric
    16: "{c}",  # bool
    1186: "extract(epoch from {c})::float8",  # interval, in seconds
    1184: "to_char({c} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",  # timestamptz
    1114: "to_char({c}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS')",  # timestamp
    1082: "to_char({c}, 'YYYY-MM-DD')",  # date
    869: "host({c})",  # inet
    **dict.fromkeys((25, 1043, 1042, 18, 19, 2950, 705), _TEXT),  # texts, name, uuid, unknown
}

#: Attributes of a role that let it do more than read.
_ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
#: Roles whose members can do more than read; those of managed services too.
_POWERFUL = (
    "pg_signal_backend",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_write_all_data",
    "pg_maintain",
    "pg_checkpoint",
    "pg_create_subscription",
    "rds_superuser",
    "rds_replication",
    "cloudsqlsuperuser",
    "azure_pg_admin",
    "alloydbsuperuser",
)
_ROLE = sql.SQL(
    "SELECT r.rolname = session_user, {attributes}, "
    "ARRAY(SELECT p.rolname::text FROM pg_catalog.pg_roles p "
    "WHERE p.rolname = ANY($1) AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER') ORDER BY 1) "
    "FROM pg_catalog.pg_roles r WHERE r.rolname IN (session_user, current_user)"
)


def query(
    target: Target,
    probes: Probes,
    slots: Slots,
    statement: str,
    arguments: Sequence[Scalar],
    *,
    max_rows: int,
    timeout: timedelta,
    api_server: Endpoint | None,
) -> Rows:
    """Ask one SELECT and return its rows, at most `max_rows`. Errors: ReadError, without anything of the server's."""
    problem = statement_problem(statement)
    if problem is not None:
        raise ReadError("InvalidRequest", problem)
    max_rows, timeout = min(max_rows, MAX_ROWS), min(timeout, MAX_TIMEOUT)
    with slots.taken(target.place, seconds=MAX_TIMEOUT.total_seconds()):
        address = admitted_address(target.host, target.port, probes, api_server)
        began = monotonic()
        with _session(target, address, timeout) as connection:
            require_role(connection)
            sees_all = _sees_all(connection)
            names, rows = _select(connection, statement, arguments, max_rows)
    withheld = sum(_is_withheld(value) for row in rows for value in row)
    return Rows(
        rows=tuple({n: _plain(v) for n, v in zip(names, row, strict=True)} for row in rows[:max_rows]),
        truncated=len(rows) > max_rows,
        withheld=withheld,
        sees_all=sees_all,
        elapsed=timedelta(seconds=monotonic() - began),
    )


def _select(
    connection: psycopg.Connection[Any], statement: str, arguments: Sequence[Scalar], max_rows: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and rows, one more than asked for where there are more."""
    text = sql.SQL(without_end(statement))  # judged by core.statement
    with psycopg.RawServerCursor(connection, "described") as described:
        described.execute(text, list(arguments))
        columns = [(c.name, c.type_code) for c in described.description or ()]
    _require_columns(columns)
    short = [sql.Identifier(f"c{i}") for i in range(len(columns))]
    projected = [sql.SQL(_PROJECTIONS[oid]).format(c=column) for column, (_, oid) in zip(short, columns, strict=True)]
    whole = sql.SQL("SELECT {} FROM ({}\n) AS asked({}) LIMIT {}").format(
        sql.SQL(", ").join(projected), text, sql.SQL(", ").join(short), sql.Literal(max_rows + 1)
    )
    with psycopg.RawServerCursor(connection, "asked", row_factory=tuple_row) as cursor:
        cursor.execute(whole, list(arguments))
        return [name for name, _ in columns], cursor.fetchmany(max_rows + 1)


def _require_columns(columns: Sequence[tuple[str, int]]) -> None:
    if not columns or len(columns) > MAX_COLUMNS:
        raise ReadError("InvalidRequest", f"the statement returns {len(columns)} columns: 1 to {MAX_COLUMNS} are taken")
    seen = set()
    for number, (name, oid) in enumerate(columns, start=1):
        if not _COLUMN.fullmatch(name) or name in seen:
            raise ReadError("InvalidRequest", f"column {number} needs a plain name of its own: write AS name")
        seen.add(name)
        if oid not in _PROJECTIONS:
            message = (
                f"column {name} is of a type that is not returned (OID {oid}): select a number, boolean, instant, "
                "interval, address or text, by a cast or a field of it"
            )
            raise ReadError("InvalidRequest", message)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it. The second lock on texts: what is no token is not returned."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if _is_withheld(value) else value


def _is_withheld(value: Any) -> bool:
    """Tell whether a text is none to return: no token, or one that looks like a password."""
    return isinstance(value, str) and (not re.fullmatch(_TOKEN[1:-1], value) or looks_random(value))


def require_role(connection: psycopg.Connection[Any], *, may: frozenset[str] = frozenset()) -> None:
    """Errors: ReadError RoleTooPowerful where the login role could do more than read, and `may` does not list it."""
    attributes = sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(a)) for a in _ATTRIBUTES)
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(_ROLE.format(attributes=attributes), [list(_POWERFUL)])
        roles = cursor.fetchall()
    for _, *flags, memberships in roles:
        has = [name for name, flag in zip(_ATTRIBUTES.values(), flags, strict=True) if flag]
        # A superuser is a member of everything: its own attribute says enough.
        too_much = has or [f"membership in {m}" for m in memberships if m not in may]
        if too_much:
            message = (
                f"the connection's role has {', '.join(too_much)}: more than it is for. "
                "Create one that may only read: CREATE ROLE incident_reader LOGIN PASSWORD '...' IN ROLE pg_monitor"
            )
            raise ReadError("RoleTooPowerful", message)


def _sees_all(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether PostgreSQL tells this role what other roles' sessions do."""
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute("SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")
        return cursor.fetchone() == (True,)


@contextlib.contextmanager
def _session(target: Target, address: str, timeout: timedelta) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection inside a read-only transaction, which is rolled back. Errors: ReadError."""
    place, connection = target.place, connect(target, address, autocommit=False)
    try:
        with _deadline(connection, timeout + _GRACE):
            connection.read_only = True
            _limit(connection, timeout)
            yield connection
    except psycopg.Error as error:
        raise _failed(error, place, timeout) from None
    finally:
        # Nothing to keep and nobody to ask: the server rolls back when the connection goes.
        connection.pgconn.finish()


def connect(target: Target, address: str, *, autocommit: bool) -> psycopg.Connection[Any]:
    """Return a connection to an admitted address of a target. Errors: ReadError."""
    with _authority(target) as authority:
        try:
            return psycopg.connect(
                host=target.host,
                hostaddr=address,
                port=target.port,
                user=target.user,
                password=target.password or "",
                dbname=target.database or target.user,
                passfile=os.devnull,
                options="",
                client_encoding="utf8",
                application_name="incident-operator",
                connect_timeout=_CONNECT_SECONDS,
                gssencmode="disable",
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                prepare_threshold=None,
                autocommit=autocommit,
                **_tls(target, authority),
            )
        except psycopg.Error as error:
            raise _refused(error, target.place) from None


def _limit(connection: psycopg.Connection[Any], timeout: timedelta) -> None:
    """Open the transaction and set what holds within it, and no longer: sessions behind a pooler are shared."""
    settings = {
        "statement_timeout": f"{round(timeout.total_seconds() * 1000)}ms",
        "lock_timeout": f"{round(_LOCK_WAIT.total_seconds() * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round((timeout + _GRACE).total_seconds() * 1000)}ms",
        "search_path": "pg_catalog",
        "standard_conforming_strings": "on",
        "transaction_read_only": "on",
        "TimeZone": "UTC",
        "max_parallel_workers_per_gather": "0",
    }
    with psycopg.RawCursor(connection) as cursor:
        for name, value in settings.items():
            cursor.execute("SELECT pg_catalog.set_config($1, $2, true)", [name, value])


@contextlib.contextmanager
def _deadline(connection: psycopg.Connection[Any], limit: timedelta) -> Iterator[None]:
    """Cut the connection when a server does not even keep its own timeouts: a thread can't be cancelled."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:

        def cut() -> None:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(limit.total_seconds(), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@contextlib.contextmanager
def _authority(target: Target) -> Iterator[str]:
    """Yield a file with the Secret's certificate authorities (they are public), or the system's own."""
    if target.ca is None or target.tls != "verify":
        yield "system"
        return
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(target.ca)
        file.flush()
        yield file.name


def _tls(target: Target, authority: str) -> dict[str, Any]:
    if target.tls == "verify":
        return {"sslmode": "verify-full", "sslrootcert": authority}
    return {"sslmode": "require" if target.tls == "encrypt" else "disable"}


#: libpq gives no SQLSTATE for a connection that failed: its English text is matched, none of it is kept. A server
#: that speaks another language is Unreachable then: an error, never a wrong finding.
_REFUSALS: Sequence[tuple[str, str, str, str]] = (
    (r"too many clients already|remaining connection slots are reserved", "ConnectionSlotsExhausted", "53300", ""),
    (r"too many connections for (role|database)", "ConnectionSlotsExhausted", "53300", ""),
    (r"the database system is (starting|shutting|not yet|in recovery)", "StartingUp", "57P03", ""),
    (
        r"password authentication failed|no password supplied",
        "AccessDenied",
        "28P01",
        "refuses the role or its password: look at the Secret",
    ),
    (r"no pg_hba\.conf entry|authentication failed", "AccessDenied", "28000", "does not let this role in from here"),
    (r"role \"[^\n]*\" (does not exist|is not permitted to log in)", "AccessDenied", "28000", "has no such login role"),
    (r"database \"[^\n]*\" does not exist", "ConnectionInvalid", "3D000", "has no such database: look at the Secret"),
    (r"permission denied for database", "AccessDenied", "42501", "does not let this role into the database"),
    (
        r"certificate verify failed|root certificate|server certificate for|certificate .*does not match",
        "ConnectionInvalid",
        "",
        "can't prove who it is: put its certificate authority into the Secret as ca.crt, or set tls to encrypt",
    ),
    (
        r"server does not support SSL",
        "ConnectionInvalid",
        "",
        "takes no TLS: set tls to disable in the Secret if that is meant",
    ),
    (r"timeout expired|timed out", "Timeout", "", "did not answer in time"),
)
_SYMPTOMS = {
    "ConnectionSlotsExhausted": "has no connection slot left",
    "StartingUp": "does not take connections yet: it is starting, stopping or recovering",
}


def _refused(error: psycopg.Error, place: str) -> ReadError:
    """Return what a failed attempt to connect means. Shape: nothing of the server's text is in it."""
    text = str(error)
    for pattern, reason, code, message in _REFUSALS:
        if re.search(pattern, text):
            return ReadError(reason, f"PostgreSQL at {place} {message or _SYMPTOMS[reason]}", code=code)
    timed_out = isinstance(error, psycopg.errors.ConnectionTimeout)
    what = "did not answer in time" if timed_out else "can't be reached"
    return ReadError("Timeout" if timed_out else "Unreachable", f"PostgreSQL at {place} {what}")


def _failed(error: psycopg.Error, place: str, timeout: timedelta) -> ReadError:
    """Return what an error of the session means. Shape: its code, never its text."""
    code = error.sqlstate or ""
    seconds = f"{timeout.total_seconds():g} s"
    if code == "57014":
        return ReadError("Timeout", f"the statement took longer than {seconds} and was cancelled", code=code)
    if code == "55P03":
        return ReadError("Timeout", f"the statement waited for a lock longer than {_LOCK_WAIT.seconds} s", code=code)
    if code == "53300":
        return ReadError("ConnectionSlotsExhausted", f"PostgreSQL at {place} has no connection slot left", code=code)
    if code == "57P03":
        return ReadError("StartingUp", f"PostgreSQL at {place} {_SYMPTOMS['StartingUp']}", code=code)
    if code == "42501":
        message = "the connection's role may not read this: GRANT SELECT to it, or make it a member of pg_monitor"
        return ReadError("AccessDenied", message, code=code)
    if code == "25006":
        return ReadError("InvalidRequest", "the statement would change something: a check only reads", code=code)
    if code in ("42P01", "42883", "42704"):
        message = f"PostgreSQL does not know a name in the statement ({code}): outside pg_catalog write schema.name"
        return ReadError("InvalidRequest", message, code=code)
    if code[:2] in ("0A", "21", "22", "42"):
        return ReadError("InvalidRequest", f"PostgreSQL does not take the statement or an argument ({code})", code=code)
    shown = f" ({code})" if re.fullmatch(r"[0-9A-Z]{5}", code) else ""
    return ReadError("Unreachable", f"PostgreSQL at {place} ended the session{shown}", code=code)
