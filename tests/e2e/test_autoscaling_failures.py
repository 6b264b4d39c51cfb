"""INC-2023-2890: the agent's metric comes late, and the group does not grow under a load that it can't carry."""

from datetime import UTC, datetime, timedelta

from dev.processes import wait_until
from dev.shop.shop import Shop
from dev.shop.storefront import faults, seed

from .storefront import calls, customers, open_storefront, run_of, terminations
from .world import TIME_SCALE, World, outcome, story

#: The runbook's default.
STALE_AFTER = timedelta(minutes=5)
#: Page views a second: two instances can carry 80, four can carry 160, also on a busy machine. Seconds for a page.
RATE, SLOW = 95, 0.4


def is_deployed(shop: Shop) -> bool:
    """Tell whether the deploy has reached every instance, and all are well."""
    refreshes = shop.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=seed.GROUP)
    return refreshes["InstanceRefreshes"][0]["Status"] == "Successful" and seed.is_well(shop)


def newest_samples(shop: Shop) -> int:
    """Return how many samples the group's metric has of the last minutes, as the time scale has them: `staleAfter`."""
    cloudwatch = shop.client("cloudwatch")
    now = datetime.now(UTC)  # noqa: TID251 asks a real server about now
    found = cloudwatch.get_metric_statistics(
        Namespace=seed.AGENT_NAMESPACE,
        MetricName=seed.AGENT_METRIC,
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": seed.GROUP}],
        StartTime=now - STALE_AFTER / TIME_SCALE,
        EndTime=now,
        Period=1,
        Statistics=["SampleCount"],
    )
    return len(found["Datapoints"])


def test_inc_2023_2890_capacity_and_minimum_are_raised_by_what_ec2_and_users_say(world: World) -> None:
    """One call, within the maximum; nothing scales in again, and the agent is left to people."""
    with open_storefront(world) as shop, world.operator():
        faults.named("inc-2023-2890").break_(shop)
        assert wait_until(lambda: is_deployed(shop), seconds=40, every=0.2), seed.health(shop)
        assert wait_until(lambda: newest_samples(shop) == 0, seconds=20, every=0.2)
        with customers(shop, rate=RATE) as felt:
            assert wait_until(lambda: felt.felt(3).median > SLOW, seconds=30, every=0.2), felt.felt(3)
            before = terminations(shop)
            run = run_of(
                world,
                "silent-metric",
                "autoscaling-failures",
                "INC-2023-2890",
                metricNamespace=seed.AGENT_NAMESPACE,
                metricName=seed.AGENT_METRIC,
                desired=8,
                maxLatency=SLOW,
            )
            world.apply(run)
            status = world.finished("silent-metric")
            assert outcome(status) == "Resolved/Runbook", story(status)
            assert wait_until(lambda: felt.felt(3).median < SLOW, seconds=20, every=0.2), felt.felt(3)
            found = seed.group_of(shop)
        assert (found["MinSize"], found["DesiredCapacity"], found["MaxSize"]) == (4, 4, 4)
        assert terminations(shop) == before
    told = {entry["reason"] for entry in status["timeline"]}
    assert {"MetricStale", "ThresholdBreached", "UsersWaiting"} <= told, story(status)
    assert seed.AGENT_METRIC in status["rootCause"]["summary"]
    assert calls(world.changes_by_operator()) == [("UpdateAutoScalingGroup", "OK")]
    # The launch template, and so the agent's configuration, is as the deploy left it.
    assert faults.named("inc-2023-2890").is_broken(shop)
