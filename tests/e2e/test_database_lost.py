"""The orders' primary is lost: a person agrees to promoting its replica, and customers can order again.

Judged from outside: by customers whose pages write, by the promoted server's own books, and by the simulator's journal.
"""

from collections.abc import Callable
from typing import Any

from dev.processes import wait_until
from dev.shop.orders import grant as orders_grant
from dev.shop.orders.faults import FAULTS
from dev.shop.orders.life import life as orders_life
from dev.shop.orders.replica import REPLICA

from .world import World, outcome, story

FAULT = FAULTS["database-primary-lost"]


def test_a_lost_primary_s_replica_is_promoted_by_a_person_and_takes_the_writes(
    make_world: Callable[..., World],
) -> None:
    """It takes two people, and is done once; the application's endpoint is led there by a third."""
    world = make_world()
    with orders_life(world.shop) as life:

        def ask(word: str, **arguments: Any) -> Any:
            return life.answers[word](arguments)

        base, application = orders_grant.reached(life.told)
        world.admin.apply(
            [
                orders_grant.grant(world.shop.account, world.name, world.name, base, application),
                *orders_grant.secrets(world.name, base, application),
            ]
        )
        with world.operator():
            assert FAULT.break_(ask)
            assert wait_until(lambda: ask("failing") == 1, seconds=60)
            world.apply(world.manifest(FAULT.example))
            plan = world.open_plan(FAULT.name, "promoteReplica")
            assert plan["spec"]["tier"] == "Destructive"
            assert plan["spec"]["calls"][0]["repeat"] == "Once"
            written = ask("visits")
            for person in ("bob", "carol"):
                assert world.changes_by_operator() == []
                assert world.answer(world.say(person, "Approve", plan, tier="Destructive"))["status"] == "True"
            ended = world.finished(FAULT.name)
            assert outcome(ended) == "Resolved/Runbook", story(ended)
            assert wait_until(lambda: ask("failing") == 0, seconds=30), "customers can order again"
            assert ask("visits") > written, "and what they write is where the endpoint leads"
    (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
    assert (applied["metadata"]["name"], applied["status"]["state"]) == (plan["metadata"]["name"], "Helped")
    changes = world.changes_by_operator()
    assert [(c["operation"], c["outcome"]) for c in changes] == [("PromoteReadReplica", "OK")], "once, and nothing else"
    (promoted,) = world.shop.client("rds").describe_db_instances(DBInstanceIdentifier=REPLICA)["DBInstances"]
    assert promoted.get("ReadReplicaSourceDBInstanceIdentifier") is None
    assert promoted["BackupRetentionPeriod"] > 0, "it is backed up as a primary is"
    secrets = list(base.passwords.values())
    assert not any(secret in str([ended, applied, world.log()]) for secret in secrets)
