"""Killed and halted at the calls of plans to PostgreSQL: the run ends as it would have, and hits nobody besides.

One story with all three fixes, on a real server: the operator dies before one statement and after two others, and the
grant is halted between the two statements of one plan. Whoever connects while it is dead was never planned for.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from dev.databases import admin
from dev.loopback import address
from dev.processes import wait_until
from dev.shop.orders import grant as orders_grant
from dev.shop.orders.database import INDEX, INSTANCE, Database, database
from dev.shop.orders.hosts import METRICS
from dev.shop.orders.seed import seed
from dev.shop.shop import Shop

from .sqlproxy import CANCEL, CREATE, DROP, TERMINATE, SqlProxy, Turn
from .world import World, outcome, story

IDLE, BUSY, LATE = 27, 4, 3
#: As many as run for minutes would cancel themselves long after the test.
_SLEEP = "SELECT pg_sleep(600)"


@contextlib.contextmanager
def sessions(base: Database) -> "Iterator[list[psycopg.Connection[Any]]]":
    """Hold sessions of the application: many that do nothing, and some in one statement that never ends."""
    with contextlib.ExitStack() as stacked:

        def connect() -> "psycopg.Connection[Any]":
            return _connected(base, stacked)

        def wait(connection: "psycopg.Connection[Any]") -> None:
            with contextlib.suppress(psycopg.Error):
                connection.execute(_SLEEP)
            connection.close()

        idle = [connect() for _ in range(IDLE)]
        busy = [threading.Thread(target=wait, args=(connect(),), daemon=True) for _ in range(BUSY)]
        for thread in busy:
            thread.start()
        yield idle


def _connected(base: Database, stacked: contextlib.ExitStack) -> "psycopg.Connection[Any]":
    opened = psycopg.connect(base.url("app"), autocommit=True, application_name="orders-web")
    stacked.callback(opened.close)
    return opened


@contextlib.contextmanager
def pages(base: Database, shop: Shop) -> Iterator[None]:
    """Look up orders, and tell CloudWatch that all fail for as long as the index is missing."""
    stopped, cloudwatch = threading.Event(), shop.client("cloudwatch")

    def serve() -> None:
        with psycopg.connect(base.url("app"), autocommit=True, application_name="orders-web") as connection:
            while not stopped.wait(0.5):
                connection.execute("SELECT sum(price) FROM orders.items WHERE order_id = 7")
                failed = 0 if base.has_index() else 10
                values = {"Requests": 10.0, "Failed": float(failed), "FailedPercent": 10.0 * failed}
                data = [{"MetricName": name, "Value": value} for name, value in values.items()]
                cloudwatch.put_metric_data(Namespace=METRICS, MetricData=data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def leave_a_remnant(base: Database) -> None:
    """Let a build of the index fail, which leaves it invalid."""
    base.deploy_without_index()
    with admin(base.server) as owner:
        owner.execute("SET ROLE orders_owner")
        with pytest.raises(psycopg.errors.UniqueViolation):
            owner.execute(INDEX.replace("CREATE INDEX", "CREATE UNIQUE INDEX"))
    assert not base.has_index()


def test_killed_at_its_statements_and_halted_between_them_it_ends_as_it_would_have(
    make_world: Callable[..., World],
) -> None:
    """Cancelled, ended and built: each once, whoever died meanwhile, and nothing while the grant is halted."""
    world = make_world()
    with contextlib.ExitStack() as stacked:
        base = stacked.enter_context(database())
        proxy = stacked.enter_context(SqlProxy(address(), base.place))
        behind = replace(base, endpoint=proxy.place)
        seed(world.shop, behind)
        world.admin.apply(
            [
                orders_grant.grant(world.shop.account, world.name, world.name, behind),
                *orders_grant.secrets(world.name, behind),
            ]
        )
        leave_a_remnant(base)
        stacked.enter_context(pages(base, world.shop))
        idle = stacked.enter_context(sessions(base))
        bystander = stacked.enter_context(admin(base.server))
        operator = stacked.enter_context(world.operator(**{"lease-duration": "5s", "call-timeout": "3s"}))
        assert wait_until(lambda: sum(base.idle(seconds=3).values()) >= IDLE, seconds=30)
        world.apply(_run(world))

        def agreed(fix: str, turn: Turn) -> None:
            plan = world.open_plan("crashes", fix)
            proxy.arm(turn)
            word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
            assert world.answer(word)["status"] == "True"
            assert turn.struck.wait(150), f"{fix} was not called:\n{world.log()}"

        agreed("cancelStatement", Turn(statement=CANCEL, act=operator.kill, done=False))
        late: list[psycopg.Connection[Any]] = []

        def die_while_others_connect() -> None:
            """Nobody knows any more what was ended, and sessions of the same user come that look the same."""
            operator.kill()
            late.extend(_connected(base, stacked) for _ in range(LATE))

        agreed("endIdleSessions", Turn(statement=TERMINATE, act=die_while_others_connect, done=True))

        def suspended(value: Any) -> None:
            patch = json.dumps({"spec": {"suspended": value}})
            world.admin.run("patch", "actiongrant", world.name, "--type=merge", "-p", patch)

        halt = Turn(statement=DROP, act=lambda: suspended({"reason": "game day"}), done=True, lost=False)
        agreed("buildIndex", halt)
        building = {p["spec"]["fix"]: p["metadata"]["name"] for p in world.plans()}["buildIndex"]

        def held() -> list[str]:
            (plan,) = [p for p in world.plans() if p["metadata"]["name"] == building]
            return [gate["name"] for gate in plan["status"].get("gates", ())]

        assert wait_until(lambda: held() == ["GrantSuspended"], seconds=60), world.log()
        assert proxy.sent.count(CREATE) == 0, "nothing is called while the grant is halted"
        created = proxy.arm(Turn(statement=CREATE, act=operator.kill, done=True))
        suspended(None)
        status = world.finished("crashes", 240)
        assert created.struck.is_set()
        assert bystander.execute("SELECT 1").fetchone() == (1,), "a superuser's session is never ended"
        assert base.has_index(), "PostgreSQL itself says that it is valid"
        assert all(_is_over(session) for session in idle)
        assert [_is_over(session) for session in late] == [False] * LATE, "only who was planned for is ended"
    assert outcome(status) == "Resolved/Runbook", story(status)
    told = f"{proxy.sent}\n{story(status)}\n{world.log()}"
    # What may be made twice looks anew at whom it hits; what can be seen to be done is not.
    assert {name: proxy.sent.count(name) for name in (DROP, CREATE)} == {DROP: 1, CREATE: 1}, told
    assert all(proxy.sent.count(name) in (1, 2) for name in (CANCEL, TERMINATE)), told
    applied = {p["spec"]["fix"]: p["status"] for p in world.plans() if p["status"].get("startedAt")}
    assert {fix: plan["state"] for fix, plan in applied.items()} == dict.fromkeys(
        ("cancelStatement", "endIdleSessions", "buildIndex"), "Helped"
    ), told
    # One that was surely not sent in time is intended anew: the last word on each counts.
    last = {(fix, call["index"]): call["state"] for fix, plan in applied.items() for call in plan["calls"]}
    assert len(last) == 4, told
    assert set(last.values()) <= {"Succeeded", "Observed"}, (last, told)
    assert operator.ends.count(-9) == 3, "it was killed at each"


def _is_over(session: "psycopg.Connection[Any]") -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        session.execute("SELECT 1")
        return False
    return True


def _run(world: World) -> dict[str, object]:
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "IncidentRun",
        "metadata": {"name": "crashes", "namespace": world.name},
        "spec": {
            "incident": {"ticket": "INC-2024-0108", "title": "Orders can't be looked up", "severity": "P2"},
            "runbookRef": {"kind": "ClusterRunbook", "name": "database-performance"},
            "parameters": {
                "databaseInstance": INSTANCE,
                "applicationUsers": ["app"],
                "errorNamespace": METRICS,
                "idleSeconds": 2,
                "slowSeconds": 1,
                "maxFailedPercent": 20,
                "indexStatement": INDEX,
            },
            "connections": orders_grant.connections(),
            "automation": {"applyUpTo": "None", "askUpTo": "Destructive"},
        },
    }
