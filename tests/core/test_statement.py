"""What a check may ask PostgreSQL and Redis, judged before anything is sent."""

import pytest

from incident_operator.actions.catalogue import infos
from incident_operator.core.rediscommand import command_problem, parse
from incident_operator.core.runbook import bind_inputs, validate
from incident_operator.core.statement import FUNCTIONS, placeholders, statement_problem
from tests.builders import a_runbook
from tests.core.test_runbook import a_step

ALLOWED = [
    "SELECT count(*) AS used FROM pg_stat_activity;",
    "select usename, client_addr, state, count(*) as n from pg_catalog.pg_stat_activity group by 1, 2, 3 limit 5",
    "SELECT max(now() - query_start) FILTER (WHERE state = 'active') AS longest FROM pg_stat_activity",
    "WITH b AS MATERIALIZED (SELECT pid, unnest(pg_blocking_pids(pid)) AS by FROM pg_stat_activity) "
    "SELECT by, count(*) AS blocked FROM b WHERE by NOT IN (SELECT pid FROM b) GROUP BY by",
    "SELECT queryid, calls, round(mean_exec_time::numeric, 1) AS ms FROM public.pg_stat_statements ORDER BY 3 DESC",
    "SELECT seq_scan, relname FROM pg_stat_user_tables WHERE seq_scan > $1 AND relname LIKE $2 FETCH FIRST 5 ROWS ONLY",
    "SELECT extract(epoch FROM now() - pg_last_xact_replay_timestamp()) AS lag, pg_is_in_recovery() AS replica",
    "SELECT setting::int AS maximum FROM pg_settings WHERE name = 'max_connections'",
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted) THEN 'it''s; locked' ELSE 'free' END AS s",
    'SELECT "update" AS n, row_number() OVER (PARTITION BY a.x ORDER BY a.y) AS r FROM public.t AS a',
    "SELECT (ARRAY[1, 2])[1] AS n, data ->> 'a' AS b FROM public.t WHERE data @> '[1]' AND x <> ALL ($1)",
]


@pytest.mark.parametrize("statement", ALLOWED)
def test_what_diagnosis_asks_is_allowed(statement: str) -> None:
    """The statements that the database's runbook needs, and then some."""
    assert statement_problem(statement) is None


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT 1; SELECT 2", "line 1, column 9: one statement only"),
        ("SELECT 1\n  FROM a\n FOR UPDATE", "line 3, column 2: a check takes no locks"),
        ("EXPLAIN ANALYZE SELECT 1", "not EXPLAIN"),
        ("", "not nothing"),
        ("SELECT pg_terminate_backend(1)", "that is a fix with a plan"),
        ("SELECT pg_database_sizes('a')", "did you mean pg_database_size or"),
        ("SELECT evil.count(1)", "count() is not a function"),
        ("SELECT a.b.pg_sleep FROM c", "could call a function"),
        ("SELECT 1 FROM unnest(ARRAY[5]) AS pg_catalog", "schema's name"),
        ("SELECT (x).pg_sleep", "between two names"),
        ("SELECT $2", "without a gap"),
        ("SELECT '\\'", "no end"),
        ("SELECT 'a", "no end"),
        ("SELECT 'a\x00'", "no end"),
        ("SELECT (1", "not closed"),
        ("SELECT 1)", "closed that was not opened"),
        ("SELECT (1]", "closed that was not opened"),
        ("SELECT N'a'", "write a space"),
        ("SELECT U&'a'", "write a space"),
        ("SELECT 1a", "write a space"),
        ("SELECT 1 #", None),
        ("SELECT " + "1," * 4096 + "1", "longer than"),
    ],
)
def test_what_is_refused_says_where_and_what_instead(statement: str, message: str | None) -> None:
    """Line and column, as for expressions."""
    problem = statement_problem(statement)
    assert problem is None if message is None else message in (problem or "")


def test_no_listed_function_does_anything() -> None:
    """The list holds none of the names that act; it is short enough to be read."""
    acting = "terminate cancel sleep set_config pg_advisory notify reset reload file lo_ dblink nextval setval"
    assert [name for name in FUNCTIONS for word in acting.split() if word in name] == []


def test_placeholders_are_counted_outside_of_texts() -> None:
    """A `$1` in quotes is a text."""
    assert placeholders("SELECT $1, '$3', $2") == 2
    assert placeholders("SELECT 1") == 0


def test_a_command_is_read_as_one_types_it() -> None:
    """Letter case does not matter but in a key."""
    assert parse("config get MaxMemory").words == ("CONFIG", "GET", "maxmemory")
    assert parse("ttl Session:42").words == ("TTL", "Session:42")
    assert parse("info").words == ("INFO",)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("KEYS *", "KEYS is not a command"),
        ("CONFIG SET maxmemory 1", "CONFIG SET is not a command"),
        ("CONFIG GET maxmemori", "may be asked for maxmemory"),
        ("CONFIG GET", "takes one argument here, not 0"),
        ("PING now", "takes no argument here, not 1"),
        ("INFO memory stats", "takes one argument or none here, not 2"),
        ("TTL a*", "one key of letters"),
    ],
)
def test_a_command_that_is_refused_says_what_is_listed(command: str, message: str) -> None:
    """The author need not look it up."""
    assert message in (command_problem(command) or "")


INPUTS = "spec.steps[0].checks[0].inputs"


@pytest.mark.parametrize(
    ("action", "inputs", "field", "message"),
    [
        ("postgres.query", {"statement": "SELECT 1 AS n; SELECT 2"}, "statement", "one statement only"),
        ("postgres.query", {"statement": "DELETE FROM a"}, "statement", "not DELETE"),
        ("postgres.query", {"statement": "SELECT pg_terminate_backend(1) AS n"}, "statement", "is a fix"),
        ("postgres.query", {"statement": "SELECT 1 AS ${parameters.n}"}, "statement", "literal"),
        ("postgres.query", {"statement": ["SELECT 1"]}, "statement", "is a text"),
        ("postgres.query", {"statement": "SELECT $1 AS n"}, "arguments", "takes 1 arguments"),
        ("postgres.query", {"statement": "SELECT 1 AS n", "arguments": [1]}, "arguments", "takes 0 arguments"),
        ("redis.command", {"command": "KEYS *"}, "command", "known: CLIENT LIST"),
        ("redis.command", {"command": "TTL ${parameters.key}"}, "command", "literal"),
        ("tcp.connect", {"host": "${parameters.host}", "port": 1}, "host", "literal"),
    ],
)
def test_a_runbook_with_such_an_input_is_invalid_at_its_field(
    action: str, inputs: dict[str, object], field: str, message: str
) -> None:
    """Long before anybody needs it."""
    given = inputs if action == "tcp.connect" else {"connection": "database", **inputs}
    check = {"name": "users", "action": action, "inputs": given}
    problems = validate(a_runbook(steps=a_step(checks=[check], fixes=[])), infos())
    assert [p.message for p in problems if p.field == f"{INPUTS}.{field}" and message in p.message]


def test_who_starts_a_run_gives_no_programs() -> None:
    """A parameter of the same name is not bound to a literal input."""
    bound = bind_inputs(infos()["postgres.query"], {}, ["statement", "connection", "maxRows"])
    assert bound == {"maxRows": "${parameters.maxRows}"}
