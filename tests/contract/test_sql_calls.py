"""The calls of plans on a real PostgreSQL: whom they hit, and above all whom they never hit."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql as quoting

from dev import databases
from dev.databases import Server, admin
from dev.loopback import address
from dev.processes import wait_until
from incident_operator.actions.ports import ReadError
from incident_operator.actions.postgres import Query
from incident_operator.actions.postgres_backends import (
    PROTECTED,
    BackendFacts,
    CancelBackends,
    CancelInputs,
    TerminateBackends,
    TerminateInputs,
)
from incident_operator.actions.postgres_index import CreateIndex, IndexFacts, IndexInputs
from incident_operator.adapters import sql, sqlcalls
from incident_operator.adapters.aws import CallFailed
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import Connections, Slots, Target
from incident_operator.api.grant import Probes
from incident_operator.api.plan import Call, Repeat
from incident_operator.api.runbook import ClusterRunbook
from incident_operator.cli import script_postgres
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.indexing import parse_index
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
                ("blind", ""),
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
    """Reads the real database as `reader`, or as another role."""

    server: Server | None = None
    user: str = "reader"

    def postgres(self, connection: str, statement: str, arguments: Any = (), **options: Any) -> Any:
        """Ask as a check does."""
        assert self.server is not None
        given = {"max_rows": 20, "timeout": SECONDS, "api_server": None, **options}
        return sql.query(target(self.server, self.user), PROBES, Slots(), statement, arguments, **given)


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

    assert wait_until(enough, seconds=30)
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
    slow, other = "SELECT pg_sleep(120), 1 AS slow", "SELECT pg_sleep(120), 2 AS a, 3 AS b"
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
                    "SELECT usename, query_id::text FROM pg_stat_activity WHERE usename IN ('app', 'reporting') "
                    "AND state = 'active' AND query_start < clock_timestamp() - interval '1.2 s'"
                ).fetchall()
                return len(found) == len(sessions)

            assert wait_until(running, seconds=30), found
        (queryid,) = [query for user, query in found if user == "reporting"]
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
        assert wait_until(lambda: sorted(ended) == ["one", "two"], seconds=30)
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
    assert (nobody.reason, nobody.for_now) == ("NobodyIdle", True), "they may be idle for long enough soon"
    elsewhere = reader(server)
    elsewhere.answers = {**elsewhere.answers, "place.operator": "10.0.0.1:5432"}
    with session(server):
        planned(server)
        refusal = action.plan(TERMINATE, action.observe(TERMINATE, elsewhere))
    assert isinstance(refusal, NotApplicable)
    assert refusal.reason == "ConnectionElsewhere"


def test_a_role_that_does_not_see_sessions_is_told_so(server: Server) -> None:
    """It is told of no session of others whose it is: what it counts would pass for a server that is empty."""
    blind = reader(server)
    blind.user = "blind"
    action = TerminateBackends()
    with session(server):
        facts = action.observe(TERMINATE, blind)
        assert facts.hidden > 0
        assert action.observe(TERMINATE, reader(server)).hidden == 0
        refusal = action.plan(TERMINATE, facts)
        assert isinstance(refusal, NotApplicable)
        assert refusal.reason == "NotVisible"
        index = CreateIndex()
        hidden = index.plan(INDEX, index.observe(INDEX, blind))
        assert isinstance(hidden, NotApplicable)
        assert hidden.reason == "NotVisible"


@pytest.mark.parametrize("name", ["slots", "holders", "longRunning", "blockers", "dominating"])
def test_the_runbook_counts_no_sessions_that_it_does_not_see(name: str, server: Server) -> None:
    """The statements that ship: half of the sessions would pass for a quiet server."""
    path = Path(__file__).parents[2] / "manifests/runbooks/database-performance.yaml"
    runbook = ClusterRunbook.model_validate(yaml.safe_load(path.read_text()))
    (given,) = (c.inputs for c in runbook.spec.checks if c.name == name)
    query, values = Query(), {**given, "arguments": ["{app}", 30] if "arguments" in given else []}
    inputs = query.inputs_model.model_validate(values)
    blind = reader(server)
    blind.user = "blind"
    with session(server):
        query.observe(inputs, reader(server))
        with pytest.raises(ReadError, match=r"pg_stat_activity hides other roles' sessions .* GRANT pg_monitor"):
            query.observe(inputs, blind)


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


INDEX = IndexInputs(
    connection="database",
    operator_connection="operator",
    instance="orders",
    statement="CREATE INDEX CONCURRENTLY items_order ON shop.items (order_id)",
    long_seconds=1,
)


@contextlib.contextmanager
def without_index(server: Server) -> Iterator[None]:
    """A test of its own: no index before, none after."""
    try:
        yield
    finally:
        with admin(server) as connection:
            connection.execute("DROP INDEX IF EXISTS shop.items_order")


def index_facts(server: Server) -> IndexFacts:
    """Read what there is of the index."""
    return CreateIndex().observe(INDEX, reader(server))


def index_plan(server: Server) -> PlanDraft:
    """Return the plan for what there is; the test fails where there is none."""
    assert wait_until(lambda: not index_facts(server).long, seconds=30)
    draft = CreateIndex().plan(INDEX, index_facts(server))
    assert isinstance(draft, PlanDraft), draft
    return draft


def make_invalid(server: Server) -> None:
    """Leave what a failed build leaves: a unique index that can't be, built concurrently."""
    with admin(server) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY items_order ON shop.items (order_id)")


def test_an_index_is_built_found_built_and_dropped(server: Server) -> None:
    """By the owner's role; the second call changes nothing, and the undo takes it away."""
    with without_index(server):
        draft = index_plan(server)
        (build,) = draft.calls
        assert make(server, build, "owner") == {"underWay": False}
        facts = index_facts(server)
        assert (facts.valid, CreateIndex().applied(build, INDEX, facts)) == (1, True)
        assert make(server, build, "owner") == {"underWay": False}
        there = CreateIndex().plan(INDEX, facts)
        assert isinstance(there, NotApplicable)
        assert there.reason == "IndexThere"
        assert CreateIndex().judge(INDEX, facts, facts).outcome is None, "nobody has used it"
        used = facts.model_copy(update={"scans": 3})
        assert CreateIndex().judge(INDEX, facts, used).outcome == "Helped"
        assert draft.undo is not None
        assert make(server, draft.undo.calls[0], "owner") == {"underWay": False}
        assert index_facts(server).named == 0


def test_the_invalid_remnant_of_a_failed_build_is_removed_first(server: Server) -> None:
    """It is judged Worse by whoever built it, undone, and taken away before the next build."""
    with without_index(server):
        before = index_facts(server)
        make_invalid(server)
        after = index_facts(server)
        assert CreateIndex().judge(INDEX, before, after).outcome == "Worse"
        draft = index_plan(server)
        assert draft.revert_if_worse
        clean, build = draft.calls
        assert refused(server, build, "owner").code == "InvalidIndexLeft"
        assert make(server, clean, "owner") == {"underWay": False}
        assert make(server, build, "owner") == {"underWay": False}
        assert refused(server, clean, "owner").code == "IndexInUse", "a valid index is never cleaned away"
        assert index_facts(server).valid == 1


def test_a_build_behind_a_long_transaction_is_not_planned_and_goes_on_without_us(server: Server) -> None:
    """It would only wait; one that was begun waits on the server, and ends when the transaction does."""
    (build,) = index_plan(server).calls
    with without_index(server), session(server, "app", "shop", "SELECT count(*) FROM shop.items") as old:
        assert wait_until(lambda: index_facts(server).long > 0, seconds=30)
        refusal = CreateIndex().plan(INDEX, index_facts(server))
        assert isinstance(refusal, NotApplicable)
        assert refusal.reason == "LongTransactions"
        old.execute("UPDATE shop.items SET order_id = order_id WHERE id = 1")
        assert make(server, build, "owner", timeout=timedelta(seconds=2)) == {"underWay": True}
        # What was sent is begun by the server in its own time.
        assert wait_until(lambda: index_facts(server).building == 1, seconds=30)
        waiting = index_facts(server)
        assert (waiting.valid, waiting.building) == (0, 1)
        assert CreateIndex().judge(INDEX, waiting, waiting).outcome is None
        assert make(server, build, "owner", timeout=timedelta(seconds=2)) == {"underWay": True}, "and no second build"
        old.rollback()
        assert wait_until(lambda: index_facts(server).valid == 1, seconds=30)


def test_an_index_is_made_by_its_owner_only(server: Server) -> None:
    """PostgreSQL's own word; and a name that another table's index has is never dropped."""
    with without_index(server):
        (build,) = index_plan(server).calls
        assert refused(server, build, "reporting").code == "42501"
        assert make(server, build, "owner") == {"underWay": False}
        other = build.model_copy(update={"operation": "drop_index", "arguments": {**build.arguments, "table": "other"}})
        assert refused(server, other, "owner").code == "IndexElsewhere"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX items_order ON shop.items (order_id)",
        "CREATE UNIQUE INDEX CONCURRENTLY items_order ON shop.items (order_id)",
        "CREATE INDEX CONCURRENTLY items_order ON items (order_id)",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items (lower(order_id))",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items (order_id) WHERE order_id > 1",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items (order_id); DROP TABLE shop.items",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items (order_id) -- ; DROP TABLE shop.items",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items USING gist (order_id)",
        "CREATE INDEX CONCURRENTLY items_order ON shop.items (order_id, order_id)",
        'CREATE INDEX CONCURRENTLY "a""b" ON shop.items (order_id)',
        "DROP TABLE shop.items",
    ],
)
def test_no_other_statement_is_taken(statement: str) -> None:
    """What can call a function, refuse what users write, block the table or do a second thing is no index of ours."""
    with pytest.raises(ValueError, match=r"write CREATE INDEX|columns are|at most|USING takes"):
        parse_index(statement)


def test_the_printed_lines_are_bash_and_do_the_same(server: Server) -> None:
    """What `kubectl incident script` prints of a call, executed by the operator's role."""
    with session(server) as idle, session(server, "reporting") as other:
        draft, _, _ = planned(server)
        printed = script_postgres.lines(draft.calls[0], draft.candidates)
        subprocess.run(["bash", "-n"], input="\n".join(printed), text=True, check=True)
        assert printed[1].startswith(': "${PG_OPERATOR:?')
        statement = "\n".join(printed[printed.index(next(p for p in printed if p.endswith("<<'SQL'"))) + 1 : -1])
        operator = target(server, "operator")
        with psycopg.connect(
            host=operator.host, port=operator.port, user="operator", password=CANARY, dbname="postgres", autocommit=True
        ) as by_hand:
            by_hand.execute(statement)  # type: ignore[call-overload]
        assert not lives(idle)
        assert lives(other)
    with without_index(server):
        draft = index_plan(server)
        assert draft.undo is not None
        build, drop = (script_postgres.lines(call, ()) for call in (*draft.calls, *draft.undo.calls))
        assert build[3] == 'CREATE INDEX CONCURRENTLY "items_order" ON "shop"."items"'
        assert drop[3] == 'DROP INDEX CONCURRENTLY IF EXISTS "shop"."items_order";'
        with admin(server) as by_hand:
            by_hand.execute("\n".join(build[3:-1]))  # type: ignore[call-overload]
            assert index_facts(server).valid == 1
            by_hand.execute("\n".join(drop[3:-1]))  # type: ignore[call-overload]
        assert index_facts(server).named == 0
