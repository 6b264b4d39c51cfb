"""A DB instance is resized and failed over through the operator: nothing is flushed along, each call is made once.

Judged from outside, by RDS and by the simulator's journal.
"""

from collections.abc import Callable
from typing import Any

from dev.processes import wait_until
from dev.shop.granting import a_grant

from .world import World, outcome, story

NAME, SMALL, BIG = "shop", "db.r5.large", "db.r5.2xlarge"


def _runbook(world: World) -> dict[str, Any]:
    """Return one about the instance alone, whose users feel that it is small, and in a zone that has trouble."""
    small = {"when": f"output.answer['class'] == '{SMALL}'", "reason": "TooSmall", "message": "It is too small."}
    zone = {"when": "output.answer.zone == 'us-east-1a'", "reason": "InZoneA", "message": "Its zone has trouble."}
    query = {"service": "rds", "operation": "describe_db_instances", "arguments": {"DBInstanceIdentifier": NAME}}
    check = {"name": "instance", "action": "aws.query", "inputs": query, "findings": [small, zone]}
    fixes = [
        {
            "name": "resize",
            "onFindings": ["TooSmall"],
            "action": "rds.resize-instance",
            "inputs": {"instance": NAME, "instanceClass": BIG},
        },
        {
            "name": "failOver",
            "onFindings": ["InZoneA"],
            "when": "!('TooSmall' in findings)",
            "action": "rds.reboot-with-failover",
            "inputs": {"instance": NAME},
        },
    ]
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": "instance", "namespace": world.name},
        "spec": {
            "title": "The DB instance is too small, and in the wrong zone",
            "incidentType": "DatabaseInstance",
            "steps": [{"name": "look", "title": "Look", "expectedBy": "5m", "checks": [check], "fixes": fixes}],
            "recovery": {"checks": ["instance"], "stableFor": "1m"},
        },
    }


def _run(world: World, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "IncidentRun",
        "metadata": {"name": name, "namespace": world.name},
        "spec": {
            "incident": {"ticket": f"INC-2024-{name.upper()}", "title": "The database is slow", "severity": "P2"},
            "runbookRef": {"kind": "Runbook", "name": "instance"},
            "automation": {"applyUpTo": "None", "askUpTo": "Destructive"},
        },
    }


def test_an_instance_is_resized_and_failed_over_once_each_and_only_with_nothing_pending(
    make_world: Callable[..., World],
) -> None:
    """A change that waits for its window is not flushed along: the fix is refused until somebody decided on it."""
    world = make_world()
    account = world.shop.account
    rds = world.shop.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier=NAME,
        DBInstanceClass=SMALL,
        Engine="postgres",
        AllocatedStorage=20,
        MultiAZ=True,
        AvailabilityZone="us-east-1a",
        MasterUsername="postgres",
        MasterUserPassword="nobody-uses-it",
    )

    def instance() -> dict[str, Any]:
        (found,) = rds.describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"]
        return dict(found)

    grant = a_grant(
        account,
        name=world.name,
        label=world.name,
        description="A DB instance.",
        resources=[f"arn:aws:rds:*:{account}:db:{NAME}"],
        actions=["aws.*", "rds.*"],
    )
    world.admin.apply([grant, _runbook(world)])
    with world.operator():
        rds.modify_db_instance(DBInstanceIdentifier=NAME, AllocatedStorage=50)
        before = world.dump()
        world.apply(_run(world, "pending"))
        refused = world.finished("pending")
        assert outcome(refused) == "Unresolved/NoFixApplies", story(refused)
        (resize, _) = refused["steps"][0]["fixes"]
        assert "AllocatedStorage" in resize["message"], resize
        assert world.plans() == []
        assert world.dump() == before, "what waits for its window still waits"

        rds.modify_db_instance(DBInstanceIdentifier=NAME, AllocatedStorage=50, ApplyImmediately=True)
        assert wait_until(lambda: instance()["DBInstanceStatus"] == "available", seconds=60)
        world.apply(_run(world, "decided"))
        for fix in ("resize", "failOver"):
            plan = world.open_plan("decided", fix)
            assert "Outage" in plan["spec"]["hazards"]
            word = world.say("bob", "Approve", plan, tier="Disruptive")
            assert world.answer(word)["status"] == "True"
        status = world.finished("decided")
    assert outcome(status) == "Resolved/Runbook", story(status)
    found = instance()
    assert (found["DBInstanceClass"], found["AvailabilityZone"]) == (BIG, "us-east-1b")
    assert (found["DBInstanceStatus"], found["PendingModifiedValues"]) == ("available", {})
    made = [(c["operation"], c["outcome"]) for c in world.changes_by_operator()]
    assert made == [("ModifyDBInstance", "OK"), ("RebootDBInstance", "OK")]
    assert {p["spec"]["fix"]: p["status"]["state"] for p in world.plans()} == {"resize": "Helped", "failOver": "Helped"}
