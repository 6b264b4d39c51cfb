"""The orders' primary is lost: a person agrees to promoting its replica, and customers can order again.

Judged from outside: by customers whose pages write, by the promoted server's own books, and by the simulator's journal.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from dev.aws.gate import Gates
from dev.databases import admin
from dev.loopback import address
from dev.processes import wait_until
from dev.shop.orders import grant as orders_grant
from dev.shop.orders.database import INSTANCE, database
from dev.shop.orders.hosts import METRICS, Hosts
from dev.shop.orders.replica import REPLICA, Monitoring, lose, replica
from dev.shop.orders.seed import seed

from .world import World, outcome, story


def test_a_lost_primary_s_replica_is_promoted_by_a_person_and_takes_the_writes(
    make_world: Callable[..., World],
) -> None:
    """It takes two people, and is done once; the application's endpoint is led there by a third."""
    world = make_world()
    with contextlib.ExitStack() as stacked:
        base = stacked.enter_context(database())
        standby = stacked.enter_context(replica(base))
        gates = Gates()
        stacked.callback(gates.close)
        #: The application's endpoint; where it leads, people decide.
        leads_to = [base.place]
        gate = gates.open(address(), lambda: leads_to[0])
        stacked.callback(gates.shut, gate)
        led = replace(base, endpoint=gate.place)
        seed(world.shop, base, replica=standby)
        world.admin.apply(
            [
                orders_grant.grant(world.shop.account, world.name, world.name, led),
                *orders_grant.secrets(world.name, led),
            ]
        )
        stacked.enter_context(Monitoring(world.shop, base.server, standby))
        hosts = stacked.enter_context(Hosts(led, world.shop, writing=True))
        stacked.enter_context(world.operator())
        assert wait_until(lambda: len(hosts.felt) >= 8 and hosts.failing() == 0, seconds=60)
        written = [0]

        def writes() -> int:
            with admin(standby) as promoted:
                row = promoted.execute("SELECT count(*) FROM orders.visits").fetchone()
            return int(row[0]) if row else 0

        lose(base)
        rds = world.shop.client("rds")

        def status(name: str) -> str:
            (found,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
            return str(found["DBInstanceStatus"])

        assert wait_until(lambda: status(INSTANCE) == "failed" and hosts.failing() == 1, seconds=60)
        world.apply(_run(world))
        plan = world.open_plan("primary-lost", "promoteReplica")
        assert plan["spec"]["tier"] == "Destructive"
        assert plan["spec"]["calls"][0]["repeat"] == "Once"
        written[0] = writes()
        for person in ("bob", "carol"):
            assert world.changes_by_operator() == []
            assert world.answer(world.say(person, "Approve", plan, tier="Destructive"))["status"] == "True"
        leads_to[0] = standby.host, standby.port
        ended = world.finished("primary-lost")
        assert outcome(ended) == "Resolved/Runbook", story(ended)
        assert wait_until(lambda: hosts.failing() == 0, seconds=30), "customers can order again"
        assert writes() > written[0], "and what they write is where the endpoint leads"
    (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
    assert (applied["metadata"]["name"], applied["status"]["state"]) == (plan["metadata"]["name"], "Helped")
    changes = world.changes_by_operator()
    assert [(c["operation"], c["outcome"]) for c in changes] == [("PromoteReadReplica", "OK")], "once, and nothing else"
    (promoted,) = rds.describe_db_instances(DBInstanceIdentifier=REPLICA)["DBInstances"]
    assert promoted.get("ReadReplicaSourceDBInstanceIdentifier") is None
    assert promoted["BackupRetentionPeriod"] > 0, "it is backed up as a primary is"
    secrets = list(base.passwords.values())
    assert not any(secret in str([ended, applied, world.log()]) for secret in secrets)


def _run(world: World) -> dict[str, object]:
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "IncidentRun",
        "metadata": {"name": "primary-lost", "namespace": world.name},
        "spec": {
            "incident": {"ticket": "INC-2024-0107", "title": "Nobody can order", "severity": "P2"},
            "runbookRef": {"kind": "ClusterRunbook", "name": "database-performance"},
            "parameters": {
                "databaseInstance": INSTANCE,
                "replicaInstance": REPLICA,
                "applicationUsers": ["app"],
                "errorNamespace": METRICS,
                "maxFailedPercent": 20,
            },
            "connections": orders_grant.connections(),
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Destructive"},
        },
    }
