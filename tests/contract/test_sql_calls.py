"""The calls of plans on a real PostgreSQL: whom they hit, and above all whom they never hit."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql as quoting

from dev import databases
from dev.databases import Server, admin
from dev.loopback import address
from dev.processes import wait_until
from incident_operator.actions.postgres_backends import (
    PROTECTED,
    BackendFacts,
    CancelBackends,
    CancelInputs,
    TerminateBackends,
    TerminateInputs,
)
from incident_operator.adapters import sql, sqlcalls
from incident_operator.adapters.aws import CallFailed
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import Connections, Slots, Target
from incident_operator.api.grant import Probes
from incident_operator.api.plan import Call, Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.planning import with_targets
from tests.actions.reader import DictReader
from tests.contract.conftest import CANARY

PROBES = Probes(cidrs=("127.0.0.0/8",))
ARN = "arn:aws:rds:us-east-1:123456789012:db:orders"
SECONDS = timedelta(seconds=5)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """PostgreSQL with the two roles of the operator, the shop's own, and a big table that `app` owns."""
    settings = {"max_connections": "40", "compute_query_id": "on", "max_prepared_transactions": "2"}
    with databases.postgres(address(), settings=settings) as server:
        with admin(server) as connection:
            for name, memberships in (
                ("reader", "IN ROLE pg_monitor"),
                ("operator", "IN ROLE pg_monitor, pg_signal_backend"),
                ("app", ""),
                ("reporting", ""),
                ("too_much", "CREATEDB IN ROLE pg_signal_backend"),
            ):
                connection.execute(
                    quoting.SQL(f"CREATE ROLE {name} LOGIN PASSWORD {{}} {memberships}").format(CANARY)  # type: ignore[arg-type]
                )
            connection.execute("CREATE ROLE owner LOGIN PASSWORD 'unused' IN ROLE app")
            connection.execute(quoting.SQL("ALTER ROLE owner PASSWORD {}").format(CANARY))
            connection.execute("CREATE SCHEMA shop AUTHORIZATION app")
            connection.execute(
                "CREATE TABLE shop.items AS SELECT n AS id, n % 100 AS order_id FROM generate_series(1, 5000) n"
            )
            connection.execute("ALTER TABLE shop.items OWNER TO app")
            connection.execute("CREATE TABLE shop.other AS SELECT 1 AS id")
            connection.execute("ALTER TABLE shop.other OWNER TO app")
        yield server


def target(server: Server, user: str) -> Target:
    """Where a role connects."""
    return Target(host=server.host, port=server.port, user=user, password=CANARY, database="postgres", tls="disable")


@dataclass
class Placed(DictReader):
    """Reads the real database as `reader`."""

    server: Server | None = None

    def postgres(self, connection: str, statement: str, arguments: Any = (), **options: Any) -> Any:
        """Ask as a check does."""
        assert self.server is not None
        given = {"max_rows": 20, "timeout": SECONDS, "api_server": None, **options}
        return sql.query(target(self.server, "reader"), PROBES, Slots(), statement, arguments, **given)


def reader(server: Server) -> Placed:
    """Return a reader for which the instance is where the connections lead."""
    place = f"{server.host}:{server.port}"
    answers = {
        "place.database": place,
        "place.operator": place,
        "rds.describe_db_instances": {"arn": ARN, "place": place},
    }
    return Placed(answers, server=server)


class Made(Connections):
    """Connections whose targets are known, as Secrets would give them."""

    def __init__(self, **targets: Target) -> None:
        super().__init__({}, dict, Slots())
        self._targets = targets

    def target(self, name: str, system: Any) -> Target:
        """Return a target by its name."""
        return self._targets[name]


def make(server: Server, call: Call, user: str = "operator", *, timeout: timedelta = SECONDS, **options: Any) -> Any:
    """Make a call as the operator does; return what is kept."""
    clock = Clock()
    connections = Made(operator=target(server, user))
    probes, deadline = options.pop("probes", PROBES), options.pop("deadline", clock.now() + SECONDS)
    return sqlcalls.execute(
        call, connections, probes, timeout, deadline, now=clock.now, api_server=None, **options
    ).result


def refused(server: Server, call: Call, user: str = "operator", **options: Any) -> CallFailed:
    """Make a call, and return why it failed; nobody learns the password from it."""
    with pytest.raises(CallFailed) as caught:
        make(server, call, user, **options)
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    return caught.value


@contextlib.contextmanager
def session(server: Server, user: str = "app", application: str = "shop", *statements: str) -> Iterator[Any]:
    """A session of a service that has done something and then nothing."""
    connection = psycopg.connect(
        host=server.host, port=server.port, user=user, password=CANARY, dbname="postgres", application_name=application
    )
    try:
        connection.autocommit = not statements
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
        if not statements:
            connection.execute("SELECT 1")
        yield connection
    finally:
        connection.close()


def lives(connection: Any) -> bool:
    """Tell whether a session still answers."""
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


TERMINATE = TerminateInputs(
    connection="database", operator_connection="operator", instance="orders", users=("app",), idle_seconds=1
)


def planned(
    server: Server, inputs: TerminateInputs = TERMINATE, *, count: int = 1
) -> tuple[PlanDraft, Call, BackendFacts]:
    """Wait until so many sessions are long idle; return the draft, its call as it would be made, and the facts."""
    action, found = TerminateBackends(), []

    def enough() -> bool:
        found[:] = [action.observe(inputs, reader(server))]
        return len(found[0].backends) >= count

    assert wait_until(enough, seconds=10)
    draft = action.plan(inputs, found[0])
    assert isinstance(draft, PlanDraft), draft
    (call,) = draft.calls
    aimed = call.model_copy(update={"arguments": with_targets(call.arguments, draft.candidates)})
    return draft, aimed, found[0]


def test_idle_sessions_of_the_named_users_are_ended_and_no_others(server: Server) -> None:
    """Idle and idle in transaction; not those of other users, protected applications, or who works."""
    with (
        session(server) as idle,
        session(server, "app", "shop", "SELECT 1") as in_transaction,
        session(server, "reporting") as other,
        session(server, "app", "nightly-migration") as migration,
        session(server, "app", "shop", "ALTER TABLE shop.items ADD COLUMN note text") as changing,
        session(server, "app", "shop", "ANALYZE shop.other") as maintaining,
        admin(server) as superuser,
    ):
        draft, call, before = planned(server, count=2)
        pids = {idle.info.backend_pid, in_transaction.info.backend_pid}
        assert {backend.pid for backend in before.backends} == pids
        assert draft.touches == (ARN,)
        assert make(server, call) == {"signalled": 2}
        assert not lives(idle)
        assert not lives(in_transaction)
        assert all(lives(kept) for kept in (other, migration, changing, maintaining, superuser))
        after = TerminateBackends().measure(TERMINATE, reader(server))
        assert TerminateBackends().judge(TERMINATE, before, after).outcome == "Helped"


def test_a_plan_that_is_old_hits_nobody_new(server: Server) -> None:
    """Who works again, holds a migration's lock by now, or has another start under the same pid is left alone."""
    with session(server, "app", "shop", "SELECT 1") as session_:
        _, call, _ = planned(server)
        session_.execute("LOCK TABLE shop.items IN ACCESS EXCLUSIVE MODE")
        assert make(server, call) == {"signalled": 0}
        assert lives(session_)
    with session(server) as session_:
        _, call, _ = planned(server)
        other = [f"{name.partition('.')[0]}.{int(name.partition('.')[2]) + 1}" for name in call.arguments["backends"]]
        assert make(server, call.model_copy(update={"arguments": {**call.arguments, "backends": other}})) == {
            "signalled": 0
        }
        assert lives(session_)
        assert make(server, call) == {"signalled": 0}, "it has just worked: it is not idle for long enough"


@pytest.mark.parametrize("protected", PROTECTED)
def test_what_is_always_protected_can_not_be_left_out(protected: str) -> None:
    """A run adds to the list; it never takes from it."""
    inputs = TERMINATE.model_copy(update={"protected_applications": ("mine%",)})
    assert protected in inputs.protected
    assert "mine%" in inputs.protected


def test_executions_of_one_statement_are_cancelled_and_their_sessions_stay(server: Server) -> None:
    """Another statement, and another user's execution of the same one, go on."""
    slow, other = "SELECT pg_sleep(30), 1 AS slow", "SELECT pg_sleep(30), 2 AS a, 3 AS b"
    ended: list[str] = []

    def execute(connection: Any, statement: str, name: str) -> None:
        try:
            connection.execute(statement)
        except psycopg.errors.QueryCanceled:
            ended.append(name)

    with contextlib.ExitStack() as stacked:
        sessions = {
            "one": (stacked.enter_context(session(server)), slow),
            "two": (stacked.enter_context(session(server)), slow),
            "other statement": (stacked.enter_context(session(server)), other),
            "other user": (stacked.enter_context(session(server, "reporting")), slow),
        }
        threads = [threading.Thread(target=execute, args=(c, s, name)) for name, (c, s) in sessions.items()]
        for thread in threads:
            thread.start()
        with admin(server) as looking:
            found: list[Any] = []

            def running() -> bool:
                found[:] = looking.execute(
                    "SELECT query_id::text FROM pg_stat_activity WHERE usename = 'reporting' AND state = 'active' "
                    "AND query_start < clock_timestamp() - interval '1.2 s'"
                ).fetchall()
                return bool(found)

            assert wait_until(running, seconds=10)
        ((queryid,),) = found
        inputs = CancelInputs(
            connection="database",
            operator_connection="operator",
            instance="orders",
            users=("app",),
            queryid=queryid,
            older_than_seconds=1,
        )
        action = CancelBackends()
        before = action.observe(inputs, reader(server))
        draft = action.plan(inputs, before)
        assert isinstance(draft, PlanDraft), draft
        assert len(before.backends) == 2
        assert make(server, draft.calls[0]) == {"signalled": 2}
        assert wait_until(lambda: sorted(ended) == ["one", "two"], seconds=5)
        assert lives(sessions["one"][0])
        assert action.judge(inputs, before, action.measure(inputs, reader(server))).outcome == "Helped"
        sessions["other statement"][0].cancel_safe()
        sessions["other user"][0].cancel_safe()
        for thread in threads:
            thread.join(10)


def test_nobody_to_hit_is_no_plan(server: Server) -> None:
    """And one whose connections lead elsewhere is none either."""
    action = TerminateBackends()
    nobody = action.plan(TERMINATE, action.observe(TERMINATE, reader(server)))
    assert isinstance(nobody, NotApplicable)
    assert nobody.reason == "NobodyIdle"
    elsewhere = reader(server)
    elsewhere.answers = {**elsewhere.answers, "place.operator": "10.0.0.1:5432"}
    with session(server):
        planned(server)
        refusal = action.plan(TERMINATE, action.observe(TERMINATE, elsewhere))
    assert isinstance(refusal, NotApplicable)
    assert refusal.reason == "ConnectionElsewhere"


def call_of(server: Server, operation: str = "terminate_backends", **arguments: Any) -> Call:
    """Return a call that hits nobody."""
    given = {
        "connection": "operator",
        "place": f"{server.host}:{server.port}",
        "users": ["app"],
        "protected": [],
        "backends": ["1.1"],
        "idleSeconds": 1,
        **arguments,
    }
    return Call(
        service="postgres",
        operation=operation,
        arguments=given,
        repeat=Repeat.ABSOLUTE,
        timeout=SECONDS,
        resources=(ARN,),
    )


def test_what_a_call_rests_on_is_looked_at_again(server: Server) -> None:
    """The operation's name, where the Secret leads now, the probes, the intent's deadline, the role, the values."""
    assert make(server, call_of(server)) == {"signalled": 0}
    assert refused(server, call_of(server, "drop_table")).code == "CallNotInCatalogue"
    assert refused(server, call_of(server, place="10.0.0.1:5432")).code == "ConnectionMoved"
    assert refused(server, call_of(server), probes=Probes(cidrs=("10.0.0.0/8",))).code == "NotGranted"
    late = refused(server, call_of(server), deadline=Clock().now() - SECONDS)
    assert (late.code, late.definite) == ("NotSentInTime", True)
    assert refused(server, call_of(server), "too_much").code == "RoleTooPowerful"
    assert refused(server, call_of(server), "postgres").code in ("28P01", "RoleTooPowerful")
    assert refused(server, call_of(server, backends=["1;DROP TABLE x.1"])).code == "InvalidRequest"
    assert refused(server, call_of(server, idleSeconds="1; DROP TABLE x")).code == "InvalidRequest"
