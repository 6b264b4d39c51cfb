"""INC-2023-2890: the agent's metric comes late, and the group does not grow under a load that it can't carry."""

from datetime import UTC, datetime, timedelta

from dev.processes import wait_until
from dev.shop.shop import Shop
from dev.shop.storefront import faults, seed

from .comparing import only_touched
from .storefront import calls, customers, open_storefront, terminations
from .world import TIME_SCALE, World, impact, outcome, story

#: The runbook's default.
STALE_AFTER = timedelta(minutes=5)
#: Seconds for a page. Under the heavy rate sixty customers wait 2 s on two instances, and on four a fraction of it:
#: 0.15 s are the page itself. A busy machine is slower, by far less than that.
SLOW = 1.0


def is_deployed(shop: Shop) -> bool:
    """Tell whether the deploy has reached every instance, and all are well."""
    refreshes = shop.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=seed.GROUP)
    return refreshes["InstanceRefreshes"][0]["Status"] == "Successful" and seed.is_well(shop)


def samples(shop: Shop, namespace: str, metric: str) -> list[float]:
    """Return a metric's samples of the last minutes, as the time scale has them (`staleAfter`), oldest first."""
    cloudwatch = shop.client("cloudwatch")
    now = datetime.now(UTC)  # noqa: TID251 asks a real server about now
    found = cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": seed.GROUP}],
        StartTime=now - STALE_AFTER / TIME_SCALE,
        EndTime=now,
        Period=1,
        Statistics=["Average"],
    )
    return [float(p["Average"]) for p in sorted(found["Datapoints"], key=lambda p: p["Timestamp"])]


def busy(shop: Shop) -> float:
    """Return the newest percentage of CPU that EC2 itself measured; 0 where it has measured nothing."""
    return next(reversed(samples(shop, "AWS/EC2", "CPUUtilization")), 0.0)


def test_inc_2023_2890_capacity_and_minimum_are_raised_by_what_ec2_and_users_say(world: World) -> None:
    """One call, within the maximum; nothing scales in again, and the agent is left to people."""
    with open_storefront(world) as shop, world.operator():
        faults.named("inc-2023-2890").break_(shop)
        assert wait_until(lambda: is_deployed(shop), seconds=60, every=0.2), seed.health(shop)
        assert wait_until(lambda: not samples(shop, seed.AGENT_NAMESPACE, seed.AGENT_METRIC), seconds=30, every=0.2)
        with customers(shop, rate=faults.HEAVY_RATE) as felt:
            assert wait_until(lambda: felt.felt(3).median > SLOW, seconds=40, every=0.2), felt.felt(3)
            assert wait_until(lambda: busy(shop) > 90, seconds=40, every=0.2), busy(shop)
            before, dump = terminations(shop), world.dump()
            world.apply(world.manifest("autoscaling-failures.yaml"))
            status = world.finished("inc-2023-2890")
            assert outcome(status) == "Resolved/Runbook", story(status)
            assert wait_until(lambda: 0 < felt.felt(3).median < SLOW, seconds=40, every=0.2), felt.felt(3)
            found = seed.group_of(shop)
        assert (found["MinSize"], found["DesiredCapacity"], found["MaxSize"]) == (4, 4, 4)
        assert terminations(shop) == before
        group = ("autoScalingGroups", f"{shop.region}/{seed.GROUP}")
        assert only_touched(world, dump) == {(*group, "desired"): 4, (*group, "min"): 4}
    told = {entry["reason"] for entry in status["timeline"]}
    assert {"MetricStale", "ThresholdBreached", "UsersWaiting"} <= told, story(status)
    assert seed.AGENT_METRIC in status["rootCause"]["summary"]
    assert impact(status)[1] >= 3, "they waited, and most were served: what failed is measured, not guessed"
    assert calls(world.changes_by_operator()) == [("UpdateAutoScalingGroup", "OK")]
    # The launch template, and so the agent's configuration, is as the deploy left it.
    assert faults.named("inc-2023-2890").is_broken(shop)
