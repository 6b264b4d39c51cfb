"""`postgres.query` on a real PostgreSQL: what it answers, and every way in which it could be misused."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql as quoting

from dev.databases import Server, admin
from dev.processes import wait_until
from incident_operator.actions.migrations import SESSIONS
from incident_operator.actions.ports import ReadError, Rows, Scalar
from incident_operator.adapters import sql
from incident_operator.adapters.connections import Slots, Target
from incident_operator.api.grant import Probes
from incident_operator.core.statement import statement_problem
from tests.contract.conftest import CANARY, MAX_CONNECTIONS, Known

ANY_LOOPBACK = Probes(cidrs=("127.0.0.0/8",))


@pytest.fixture
def reader(postgres: Known) -> Target:
    """Where the role `reader` connects."""
    server = postgres.server
    return Target(
        host=server.host, port=server.port, user="reader", password=CANARY, database="postgres", tls="disable"
    )


def asks(target: Target, statement: str, *arguments: Scalar, **options: Any) -> Rows:
    """Ask as a check does."""
    given: dict[str, Any] = {"max_rows": 20, "timeout": timedelta(seconds=5), "api_server": None, **options}
    return sql.query(target, given.pop("probes", ANY_LOOPBACK), Slots(), statement, arguments, **given)


def refused(target: Target, statement: str, *arguments: Scalar, **options: Any) -> ReadError:
    """Ask, and return why there is no answer; nobody learns the password from it."""
    with pytest.raises(ReadError) as caught:
        asks(target, statement, *arguments, **options)
    shown = f"{caught.value!r} {caught.value} {caught.value.message} {target!r} {target}"
    assert CANARY not in shown
    return caught.value


@contextlib.contextmanager
def a_role(server: Server, name: str, definition: str) -> Iterator[None]:
    """A login role for one test."""
    with admin(server) as connection:
        connection.execute(
            quoting.SQL("CREATE ROLE {} LOGIN PASSWORD {} ").format(quoting.Identifier(name), quoting.Literal(CANARY))
            + quoting.SQL(definition)  # type: ignore[arg-type]
        )
        try:
            yield
        finally:
            connection.execute(quoting.SQL("DROP ROLE {}").format(quoting.Identifier(name)))


def everything(server: Server) -> list[tuple[Any, ...]]:
    """Return what a write would have changed."""
    with admin(server) as connection:
        rows = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
        return rows + connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY 1").fetchall()


def test_values_come_as_json_has_them(reader: Target) -> None:
    """Numbers, booleans, seconds, instants, addresses, tokens; never a NaN."""
    answer = asks(
        reader,
        "SELECT 7 AS n, 1.5 AS f, true AS b, interval '5 min' AS i, timestamptz '2024-01-15 14:30:00+02' AS t, "
        "inet '10.0.0.1/8' AS ip, 'idle' AS s, NULL AS nothing, 'NaN'::float8 AS nan, date '2024-01-15' AS d",
    )
    assert answer.rows == (
        {
            **{"n": 7, "f": 1.5, "b": True, "i": 300.0, "t": "2024-01-15T12:30:00.000Z", "ip": "10.0.0.1", "s": "idle"},
            **{"nothing": None, "nan": None, "d": "2024-01-15"},
        },
    )
    assert not answer.truncated


def test_arguments_are_values_whatever_is_in_them(reader: Target) -> None:
    """Nothing that an argument holds is read as SQL."""
    evil = "x'; DROP TABLE orders; --"
    statement = "SELECT count(*) AS n FROM public.orders WHERE state = $1 OR id = $2"
    assert asks(reader, statement, evil, 1).rows == ({"n": 1},)
    assert asks(reader, "SELECT length($1) AS n", evil).rows == ({"n": len(evil)},)


def test_free_text_never_leaves_the_server(reader: Target) -> None:
    """Only tokens are returned; what was withheld is counted (decision 19)."""
    answer = asks(reader, "SELECT state, note FROM public.orders ORDER BY id")
    assert answer.rows == ({"state": "paid", "note": None}, {"state": None, "note": "ok"})
    assert answer.withheld == 1


def test_a_token_that_looks_like_a_password_is_withheld(reader: Target) -> None:
    """Whoever keeps passwords in a column of texts: none is returned, and it is counted."""
    answer = asks(reader, "SELECT 'x7Kp2mQv9LsT4hRw8ZcN3bYd' AS note, 'idle' AS state")
    assert answer.rows == ({"note": None, "state": "idle"},)
    assert answer.withheld == 1


def test_ten_million_rows_are_capped(reader: Target) -> None:
    """The cursor reads one row more than asked for, to say that there are more."""
    answer = asks(reader, "SELECT n FROM public.many", max_rows=10)
    assert len(answer.rows) == 10
    assert answer.truncated
    assert answer.elapsed < timedelta(seconds=5)


def test_a_slow_statement_is_cut(reader: Target) -> None:
    """By the server, in time."""
    began = datetime.now(UTC)  # noqa: TID251  (a measurement)
    slow = "SELECT count(*) AS n FROM public.many a, public.many b"
    error = refused(reader, slow, timeout=timedelta(milliseconds=500))
    assert (error.reason, error.code) == ("Timeout", "57014")
    assert datetime.now(UTC) - began < timedelta(seconds=10)  # noqa: TID251  (a measurement)


def test_a_server_that_stops_answering_is_cut_too(reader: Target, postgres: Known) -> None:
    """A backend that is stopped keeps no timeout of its own: the client ends the wait."""
    stopped: list[int] = []
    with admin(postgres.server) as connection:

        def backend() -> int | None:
            fetching = "SELECT pid FROM pg_stat_activity WHERE usename = 'reader' AND query LIKE 'FETCH%'"
            row = connection.execute(fetching).fetchone()
            return row[0] if row else None

        def stop() -> bool:
            pid = backend()
            if pid is not None:
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
            return pid is not None

        with ThreadPoolExecutor(1) as pool:
            slow = "SELECT count(*) AS n FROM public.many a, public.many b"
            # Long enough to be stopped before its own timeout, on a busy machine too.
            future = pool.submit(refused, reader, slow, timeout=timedelta(seconds=4))
            try:
                assert wait_until(stop, seconds=5, every=0.01)
                assert future.result(timeout=30).reason == "Unreachable"
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
        assert wait_until(lambda: backend() is None, seconds=30)


def test_a_lock_is_not_waited_for_long(reader: Target, postgres: Known) -> None:
    """A check must not stand in the queue behind a migration."""
    with admin(postgres.server) as connection, connection.transaction():
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        error = refused(reader, "SELECT count(*) AS n FROM public.orders")
    assert (error.reason, error.code) == ("Timeout", "55P03")


def test_a_migration_is_told_by_the_lock_it_holds(reader: Target, postgres: Known) -> None:
    """Recycling asks this before each instance: of sessions that it must be told of, whoever holds them."""
    answer = asks(reader, SESSIONS)
    (quiet,) = answer.rows
    assert answer.sees_all
    assert (quiet["migrations"], quiet["used"] >= 1, quiet["maximum"] > quiet["used"]) == (0, True, True)
    with admin(postgres.server) as connection, connection.transaction():
        connection.execute("LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE")
        assert asks(reader, SESSIONS).rows[0]["migrations"] == 1


ATTACKS = {
    "second statement": "SELECT 1 AS n; DROP TABLE public.orders",
    "end of the wrapping": "SELECT 1 AS n) AS x(c0); DROP TABLE public.orders; SELECT (1",
    "COPY PROGRAM": "COPY (SELECT 1) TO PROGRAM 'touch /tmp/owned'",
    "terminate": "SELECT pg_terminate_backend(pid) AS n FROM pg_stat_activity",
    "terminate, quoted": 'SELECT "pg_terminate_backend"(pid) AS n FROM pg_stat_activity',
    "terminate, qualified": "SELECT pg_catalog . pg_terminate_backend (1) AS n",
    "terminate as an attribute": "SELECT t.pg_terminate_backend AS n FROM unnest(array[1]) AS t",
    "cancel": "SELECT pg_cancel_backend(1) AS n",
    "insert": "INSERT INTO public.orders VALUES (9, 'x', 'x')",
    "update": "UPDATE public.orders SET state = 'x'",
    "delete": "DELETE FROM public.orders",
    "truncate": "TRUNCATE public.orders",
    "drop": "DROP TABLE public.orders",
    "create": "CREATE TABLE public.owned (n int)",
    "a CTE that writes": "WITH gone AS (DELETE FROM public.orders RETURNING id) SELECT id FROM gone",
    "select into": "SELECT 1 AS n INTO public.owned",
    "row locks": "SELECT id FROM public.orders FOR UPDATE",
    "advisory lock": "SELECT pg_advisory_lock(1) AS n",
    "set_config": "SELECT set_config('transaction_read_only', 'off', false) AS n",
    "set role": "SET ROLE postgres",
    "sleep": "SELECT pg_sleep(60) AS n",
    "files": "SELECT pg_read_file('/etc/passwd') AS n",
    "large objects": "SELECT lo_import('/etc/passwd') AS n",
    "dblink": "SELECT n FROM dblink('host=169.254.169.254', 'SELECT 1') AS t(n int)",
    "notify": "SELECT pg_notify('a', 'b') AS n",
    "statistics": "SELECT pg_stat_reset() AS n",
    "configuration": "SELECT pg_reload_conf() AS n",
    "a program in DO": "DO 'BEGIN PERFORM 1; END'",
    "a function of somebody": "SELECT public.owned() AS n",
    "an operator of somebody": "SELECT 1 OPERATOR(public.+) 1 AS n",
    "a type of somebody": "SELECT 'x'::public.owned AS n",
    "a comment": "SELECT 1 AS n -- DROP",
    "a block comment": "SELECT 1 /* ; */ AS n",
    "a dollar quote": "SELECT $$a$$ AS n",
    "an escape": "SELECT E'\\x41' AS n",
    "an escaped name": "SELECT U&\"zz0061\" UESCAPE 'z' AS n",
    "a template": "SELECT * FROM public.${parameters.table}",
}


@pytest.mark.parametrize("statement", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_is_refused_before_it_is_sent(statement: str, reader: Target, postgres: Known) -> None:
    """With what is wrong and where; and nothing has changed."""
    before = everything(postgres.server)
    error = refused(reader, statement)
    assert error.reason == "InvalidRequest"
    assert "column" in error.message
    assert everything(postgres.server) == before


#: What the second lock has to do with, should the first one ever let it through.
_PASSES_ONLY_UNJUDGED = [name for name in ATTACKS if name not in ("a comment", "a block comment", "a dollar quote")]
_HARMLESS_BUT_REFUSED = {"an escape", "terminate", "terminate, quoted", "terminate, qualified", "cancel"}
_HARMLESS_BUT_REFUSED |= {"terminate as an attribute", "advisory lock", "set_config", "notify", "sleep"}


@pytest.mark.parametrize("name", [n for n in _PASSES_ONLY_UNJUDGED if n not in _HARMLESS_BUT_REFUSED])
def test_the_server_refuses_it_without_us(
    name: str, reader: Target, postgres: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks do not rest on each other: with the first one open, nothing is changed or read that should not be."""
    monkeypatch.setattr(sql, "statement_problem", lambda text: None)
    before = everything(postgres.server)
    error = refused(reader, ATTACKS[name])
    assert error.reason in ("InvalidRequest", "AccessDenied", "Unreachable")
    assert everything(postgres.server) == before


def test_a_session_that_would_turn_writing_on_can_not(
    reader: Target, postgres: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only can't be left once a statement of the transaction has run."""
    monkeypatch.setattr(sql, "statement_problem", lambda text: None)
    error = refused(reader, ATTACKS["set_config"])
    assert error.code == "25001"


def test_an_attribute_that_is_a_function_would_be_called(postgres: Known) -> None:
    """PostgreSQL reads `alias.function` as a call: this is why the statement's judge knows dots."""
    with admin(postgres.server) as connection:
        assert connection.execute("SELECT t.abs FROM unnest(array[-7]) AS t").fetchall() == [(7,)]
    assert statement_problem("SELECT t.pg_sleep FROM unnest(array[7]) AS t") is not None


POWERS = {
    "SUPERUSER": "SUPERUSER",
    "CREATEROLE": "CREATEROLE",
    "REPLICATION": "REPLICATION",
    "BYPASSRLS": "BYPASSRLS",
    "pg_signal_backend": "IN ROLE pg_signal_backend",
    "pg_execute_server_program": "IN ROLE pg_execute_server_program",
    "pg_write_all_data": "IN ROLE pg_write_all_data",
}


@pytest.mark.parametrize(("power", "definition"), POWERS.items())
def test_a_role_that_can_do_more_than_read_is_refused(
    power: str, definition: str, reader: Target, postgres: Known
) -> None:
    """With what it has, and which role to create instead."""
    with a_role(postgres.server, "powerful", definition):
        error = refused(replace(reader, user="powerful"), "SELECT 1 AS n")
    assert error.reason == "RoleTooPowerful"
    assert power in error.message
    assert "CREATE ROLE incident_reader" in error.message


def test_a_power_held_by_way_of_another_role_counts(reader: Target, postgres: Known) -> None:
    """Membership is followed."""
    with admin(postgres.server) as connection:
        connection.execute("CREATE ROLE team IN ROLE pg_signal_backend")
        try:
            with a_role(postgres.server, "member", "IN ROLE team"):
                assert refused(replace(reader, user="member"), "SELECT 1 AS n").reason == "RoleTooPowerful"
        finally:
            connection.execute("DROP ROLE team")


def test_full_slots_are_told_apart(reader: Target, postgres: Known) -> None:
    """53300 is the symptom itself: it has a reason of its own."""
    with contextlib.ExitStack() as held:
        for _ in range(MAX_CONNECTIONS):
            with contextlib.suppress(psycopg.OperationalError):
                held.enter_context(admin(postgres.server))
        error = refused(reader, "SELECT 1 AS n")
    assert (error.reason, error.code) == ("ConnectionSlotsExhausted", "53300")


def test_the_slots_of_one_role_count_too(reader: Target, postgres: Known) -> None:
    """A role's own limit is the same code."""
    with a_role(postgres.server, "limited", "CONNECTION LIMIT 0"):
        error = refused(replace(reader, user="limited"), "SELECT 1 AS n")
    assert (error.reason, error.code) == ("ConnectionSlotsExhausted", "53300")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": f"wrong-{CANARY}"}, "AccessDenied"),
        ({"user": "nobody", "password": CANARY}, "AccessDenied"),
        ({"password": None}, "AccessDenied"),
        ({"database": "absent"}, "ConnectionInvalid"),
        ({"tls": "verify"}, "ConnectionInvalid"),
        ({"tls": "encrypt"}, "ConnectionInvalid"),
        ({"port": 1}, "Unreachable"),
    ],
)
def test_a_connection_that_fails_says_why_without_the_secret(
    changes: dict[str, Any], reason: str, reader: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error nor any log line, at any level, has the password."""
    caplog.set_level(logging.DEBUG)
    assert refused(replace(reader, **changes), "SELECT 1 AS n").reason == reason
    assert CANARY not in caplog.text


def test_what_the_role_may_not_read_is_denied(reader: Target) -> None:
    """The server's word, by its code."""
    error = refused(reader, "SELECT count(*) AS n FROM pg_authid")
    assert (error.reason, error.code) == ("AccessDenied", "42501")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT 1", "AS name"),
        ("SELECT 1 AS a, 2 AS a", "of its own"),
        ("SELECT array[1] AS a", "type that is not returned"),
        ("SELECT count(*) AS n FROM orders", "schema.name"),
        ("SELECT 1 / 0 AS n", "22012"),
    ],
)
def test_a_statement_that_can_not_be_answered_says_what_to_write(statement: str, message: str, reader: Target) -> None:
    """Names, types, schemas."""
    error = refused(reader, statement)
    assert error.reason == "InvalidRequest"
    assert message in error.message


@pytest.mark.parametrize(
    ("host", "probes"),
    [
        (None, Probes(hosts=("db.example",))),
        (None, Probes(cidrs=("127.0.0.0/8",), ports=(5432,))),
        ("169.254.169.254", Probes(hosts=("169.254.169.254",), cidrs=("0.0.0.0/0",))),
        ("::ffff:169.254.169.254", Probes(hosts=("::ffff:169.254.169.254",), cidrs=("::/0",))),
        ("fd00:ec2::254", Probes(cidrs=("::/0",))),
    ],
)
def test_where_the_grant_does_not_let_it_nothing_is_sent(host: str | None, probes: Probes, reader: Target) -> None:
    """A Secret can't widen a grant, and nothing can admit a metadata address."""
    target = reader if host is None else replace(reader, host=host)
    assert refused(target, "SELECT 1 AS n", probes=probes).reason == "NotGranted"


def test_the_api_server_is_never_a_database(reader: Target) -> None:
    """Whatever the grant lists."""
    error = refused(reader, "SELECT 1 AS n", api_server=(reader.host, reader.port))
    assert error.reason == "NotGranted"
    assert "API server" in error.message


def test_no_session_stays_behind(reader: Target, postgres: Known) -> None:
    """After an answer and after an error."""
    asks(reader, "SELECT 1 AS n")
    refused(reader, "SELECT 1 / 0 AS n")
    with admin(postgres.server) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'"
        assert wait_until(lambda: connection.execute(count).fetchone() == (0,), seconds=30)
