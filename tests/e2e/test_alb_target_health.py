"""INC-2023-3421: a deploy moved the health check's path, and every target turns unhealthy.

The world is looked at from outside: customers, the simulator's journal, the target group and the instances themselves.
"""

from typing import Any

from dev.processes import wait_until
from dev.shop.storefront import faults, seed

from .comparing import only_touched
from .storefront import (
    calls,
    customers,
    health_check_path,
    open_storefront,
    run_of,
    suspended,
    terminations,
    wait_until_all,
)
from .world import World, impact, outcome, story


def test_inc_2023_3421_the_path_is_set_and_no_target_is_taken(world: World) -> None:
    """Replacing is stopped first, then the declared path is set, then replacing goes on: nothing else is touched.

    From then on no instance is terminated, by the group or by anybody, nor when replacing goes on.
    """
    with open_storefront(world) as shop, customers(shop) as felt, world.operator():
        faults.named("inc-2023-3421").break_(shop)
        wait_until_all(shop, "unhealthy")
        before = world.dump()
        world.apply(world.manifest("alb-target-health.yaml"))
        assert wait_until(lambda: "ReplaceUnhealthy" in suspended(shop), seconds=60, every=0.1), world.log()
        replaced = terminations(shop)
        status = world.finished("inc-2023-3421")
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert wait_until(lambda: seed.is_well(shop), seconds=30, every=0.2), seed.health(shop)
        assert wait_until(lambda: felt.felt(2).visits > 5 and felt.felt(2).error_rate == 0, seconds=30, every=0.2)
    assert suspended(shop) == []
    assert health_check_path(shop) == faults.MOVED_PATH
    assert terminations(shop) == replaced
    # Of all that there is in the account, the path alone is another.
    changed = only_touched(world, before)
    assert changed == {("targetGroups", f"{shop.region}/{seed.TARGET_GROUP}", "path"): faults.MOVED_PATH}
    _is_told(status)
    assert impact(status)[1] >= 3, "customers came all the time"
    made = world.changes_by_operator()
    operations = [operation for operation, _ in calls(made)]
    assert operations[:2] == ["SuspendProcesses", "ModifyTargetGroup"]
    assert operations[-1] == "ResumeProcesses"
    assert set(operations[2:-1]) <= {"SetInstanceHealth"}, operations
    assert all(how == "OK" for _, how in calls(made))


def _is_told(status: dict[str, Any]) -> None:
    """The cause is named, and what was wrong is in the story.

    Of one target, in a moment when the other is replaced; of none, in a moment when both are.
    """
    assert "/health" in status["rootCause"]["summary"]
    told = {entry["reason"] for entry in status["timeline"]}
    assert "HealthCheckPathStale" in told, story(status)
    assert told & {"AllTargetsFailAlike", "TargetsUnhealthy", "NoTargets"}, story(status)


def test_a_release_that_is_broken_on_both_paths_is_left_to_people(world: World) -> None:
    """Whatever path is asked: setting it would hide that the application fails. No target is taken, none added."""
    with open_storefront(world) as shop, customers(shop), world.operator():
        faults.named("web-bad-deploy").break_(shop)
        wait_until_all(shop, "unhealthy")
        before = world.dump()
        world.apply(run_of(world, "bad-release", "alb-target-health", "INC-2024-0301", declaredPath="/healthz"))
        status = world.finished("bad-release")
    assert outcome(status) == "Unresolved/RecoveryNotReached", story(status)
    problems = {f["reason"] for f in status["findings"] if f["kind"] == "Problem"}
    assert "ApplicationUnhealthy" in problems | {e["reason"] for e in status["timeline"]}, story(status)
    operations = {operation for operation, _ in calls(world.changes_by_operator())}
    assert operations <= {"SuspendProcesses"}
    group = ("autoScalingGroups", f"{shop.region}/{seed.GROUP}", "suspended")
    assert only_touched(world, before) == ({group: ["ReplaceUnhealthy"]} if operations else {})
    assert health_check_path(shop) == seed.HEALTH_PATH
