"""The storefront: its customers feel what happens to its instances, and every fault heals without a trace."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dev.processes import wait_until
from dev.shop.shop import Shop, ShopError
from dev.shop.storefront import faults, seed
from dev.shop.storefront.traffic import Traffic, ask
from dev.shop.storefront.web import Busy

Dump = Callable[[Shop], Any]
ACCOUNT = 210000000000
#: The simulator of these tests.
TIME_SCALE = 3000
#: Seconds for a page. Sixty customers on two instances wait twice as long, on four a fraction of it; 0.15 of them is
#: the page itself. A busy machine is slower, by far less than that.
SLOW = 1.0


@pytest.fixture(scope="module")
def seeded(endpoint: str, tmp_path_factory: pytest.TempPathFactory, worker: int) -> Shop:
    """The storefront that these tests share."""
    shop = Shop(account=str(ACCOUNT + worker), endpoint=endpoint)
    return seed.seed(shop, tmp_path_factory.mktemp("storefront"), time_scale=TIME_SCALE)


@pytest.fixture(scope="module")
def worker() -> int:
    """A number of this process."""
    return os.getpid() % 100_000


@pytest.fixture
def shop(seeded: Shop) -> Iterator[Shop]:
    """The storefront as seeded; what a test breaks is healed after it.

    An alarm that still sees the load of the test before would scale out in the midst of the next one.
    """
    yield seeded
    assert eventually(lambda: alarm(seeded) != "ALARM")
    for part in (seed.template, seed.target_group, seed.group, seed.instances):
        part(seeded)


def alarm(shop: Shop) -> str:
    """Return the state of the alarm that scales out."""
    found = shop.client("cloudwatch").describe_alarms(AlarmNames=[seed.ALARM])["MetricAlarms"]
    return str(found[0]["StateValue"])


def traffic(shop: Shop, rate: float = 12) -> Traffic:
    """Return customers."""
    return Traffic(address=seed.address(shop), rate=rate)


def metric(shop: Shop, namespace: str, name: str, minutes: float = 5) -> list[float]:
    """Return a metric's samples of the group, newest first."""
    now = datetime.now(UTC)  # noqa: TID251 asks a real server about now
    stat = {
        "Metric": {
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": "AutoScalingGroupName", "Value": seed.GROUP}],
        },
        "Period": 1,
        "Stat": "Average",
    }
    answer = shop.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
        StartTime=now - timedelta(minutes=minutes),
        EndTime=now + timedelta(seconds=1),
    )
    return list(answer["MetricDataResults"][0]["Values"])


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Return whether a condition is met in time; enough of it for a busy machine."""
    return wait_until(condition, seconds=seconds, every=0.05)


def test_customers_are_served(shop: Shop) -> None:
    """By all instances, through the load balancer; carts and products are there, other paths are not."""
    where = seed.address(shop)
    assert [ask(where + path) for path in ("/", "/products/1", "/cart/ada", "/health", "/none")] == [200] * 4 + [404]
    with traffic(shop) as customers:
        assert eventually(lambda: customers.felt(60).visits >= 20)
        felt = customers.felt(60)
    assert felt.error_rate == 0
    assert felt.median >= 0.15


def test_seeding_twice_changes_nothing(shop: Shop, dump: Dump, tmp_path: Path) -> None:
    """Not the state, and not the instances."""
    before, instances = dump(shop), seed.addresses(shop)
    seed.seed(shop, tmp_path, time_scale=TIME_SCALE)
    assert dump(shop) == before
    assert seed.addresses(shop) == instances


@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_fault_is_broken_once_and_heals_exactly(name: str, shop: Shop, dump: Dump) -> None:
    """Breaking what is broken changes nothing; afterwards all is as seeded, and customers are served."""
    before, fault = dump(shop), faults.named(name)
    assert fault.break_(shop)
    broken = dump(shop)
    assert broken != before
    assert not fault.break_(shop)
    assert dump(shop) == broken
    fault.heal(shop)
    assert dump(shop) == before
    assert ask(seed.address(shop) + "/") == 200
    assert seed.is_well(shop)


def test_inc_2023_3421(shop: Shop, journal: Callable[[Shop], list[dict[str, Any]]]) -> None:
    """All targets answer 404 on the declared path and 200 on the new one; the group replaces in a loop; it is felt."""
    start = len(journal(shop))
    first = set(seed.addresses(shop))
    with traffic(shop, rate=15) as customers:
        faults.named("inc-2023-3421").break_(shop)
        assert eventually(lambda: "unhealthy" in seed.health(shop).values())
        codes: set[tuple[int, int]] = set()

        def asked() -> bool:
            codes.update(
                (ask(f"http://{address}:{seed.PORT}{seed.HEALTH_PATH}"), ask(f"http://{address}:{seed.PORT}/healthz"))
                for address in seed.addresses(shop).values()
            )
            return (404, 200) in codes

        assert eventually(asked)
        # Or it was replaced while it was asked.
        assert {old for old, _ in codes} <= {404, 599}
        assert {new for _, new in codes} <= {200, 599}
        activities = shop.client("autoscaling").describe_scaling_activities

        def replaced() -> set[str]:
            found = activities(AutoScalingGroupName=seed.GROUP)["Activities"]
            return {a["ActivityId"] for a in found if "ELB system health check failure" in a["Cause"]}

        assert eventually(lambda: len(replaced()) >= 4)
        assert eventually(lambda: customers.felt(30).error_rate > 0)
        shop.client("autoscaling", "web-sre").suspend_processes(
            AutoScalingGroupName=seed.GROUP, ScalingProcesses=["ReplaceUnhealthy"]
        )
        shop.client("elbv2").modify_target_group(
            TargetGroupArn=seed.target_group_arn(shop), HealthCheckPath=faults.MOVED_PATH
        )
        assert eventually(lambda: list(seed.health(shop).values()) == ["healthy", "healthy"])
        assert eventually(lambda: customers.felt(1).visits > 5 and customers.felt(1).error_rate == 0)
    assert not first & set(seed.addresses(shop))
    actors = {c["principal"].rsplit(":", 1)[-1] for c in journal(shop)[start:] if c["mutating"]}
    assert actors == {"user/web-deployer", "user/web-sre", "root"}


def test_inc_2023_2890(shop: Shop) -> None:
    """Load that two instances can't carry: natively seen, not by the late agent, so that nobody scales; more help."""
    faults.named("inc-2023-2890").break_(shop)
    assert eventually(lambda: seed.is_well(shop) and "1" not in _versions(shop))
    stale = datetime.now(UTC)  # noqa: TID251 a real server is asked
    with traffic(shop, rate=10) as customers:
        assert eventually(lambda: customers.felt(2).visits >= 5 and customers.felt(2).median < SLOW), customers.felt(2)
        customers.rate = faults.HEAVY_RATE
        assert eventually(lambda: customers.felt(1).median > SLOW), customers.felt(1)
        assert eventually(lambda: max(metric(shop, "AWS/EC2", "CPUUtilization", 0.1), default=0) > 90)
        since = (datetime.now(UTC) - stale).total_seconds() / 60  # noqa: TID251
        assert metric(shop, seed.AGENT_NAMESPACE, seed.AGENT_METRIC, max(since - 0.05, 0.01)) == []
        assert seed.group_of(shop)["DesiredCapacity"] == seed.DESIRED
        shop.client("autoscaling", "web-sre").set_desired_capacity(
            AutoScalingGroupName=seed.GROUP, DesiredCapacity=seed.MAXIMUM
        )
        assert eventually(lambda: list(seed.health(shop).values()) == ["healthy"] * seed.MAXIMUM)
        assert eventually(lambda: 0 < customers.felt(1).median < SLOW), customers.felt(1)


def test_a_timely_agent_scales_out(shop: Shop) -> None:
    """What would have happened on that day with an agent that does its work."""
    scaling = shop.client("autoscaling")

    def triggered() -> set[str]:
        found = scaling.describe_scaling_activities(AutoScalingGroupName=seed.GROUP)["Activities"]
        cause = f"alarm {seed.ALARM} in state ALARM triggered policy {seed.POLICY}"
        return {a["ActivityId"] for a in found if cause in a["Cause"]}

    before = triggered()
    with traffic(shop, rate=faults.HEAVY_RATE):
        assert eventually(lambda: bool(triggered() - before))
        assert eventually(lambda: seed.group_of(shop)["DesiredCapacity"] > seed.DESIRED)
    assert eventually(lambda: alarm(shop) == "OK")


def _versions(shop: Shop) -> set[str]:
    return {i["LaunchTemplate"]["Version"] for i in seed.group_of(shop)["Instances"]}


def test_one_bad_instance_is_left_out(shop: Shop) -> None:
    """It is felt until the load balancer finds it out."""
    # Two seconds until it is found out: long enough for some customers to come, on a busy machine too.
    shop.client("elbv2").modify_target_group(TargetGroupArn=seed.target_group_arn(shop), UnhealthyThresholdCount=10)
    with traffic(shop) as customers:
        faults.named("web-one-bad-instance").act(shop)
        assert eventually(lambda: sorted(seed.health(shop).values()) == ["healthy", "unhealthy"])
        assert eventually(lambda: customers.felt(60).error_rate > 0)
        assert eventually(lambda: customers.felt(1).visits > 5 and customers.felt(1).error_rate == 0)


def test_one_that_says_it_is_well_goes_on_being_felt(shop: Shop) -> None:
    """Both targets are healthy, and every second customer fails."""
    with traffic(shop, rate=15) as customers:
        faults.named("web-one-failing-pages").break_(shop)
        assert eventually(lambda: customers.felt(1).error_rate > 0.3)
        assert set(seed.health(shop).values()) == {"healthy"}


def test_the_last_healthy_one_carries_all(shop: Shop) -> None:
    """Customers are served by it; without it the load balancer fails open to those that fail."""
    faults.named("web-last-healthy").break_(shop)
    assert eventually(lambda: sorted(seed.health(shop).values()) == ["healthy", "unhealthy"])
    where = seed.address(shop)
    assert eventually(lambda: {ask(where + "/") for _ in range(4)} == {200})
    (last,) = [identity for identity, state in seed.health(shop).items() if state == "healthy"]
    shop.client("elbv2").deregister_targets(TargetGroupArn=seed.target_group_arn(shop), Targets=[{"Id": last}])
    assert eventually(lambda: {ask(where + "/") for _ in range(4)} == {500})


def test_a_bad_release_fails_on_both_paths(shop: Shop) -> None:
    """No health check's path would help."""
    faults.named("web-bad-deploy").break_(shop)
    assert eventually(lambda: "unhealthy" in seed.health(shop).values())
    codes = {
        ask(f"http://{address}:{seed.PORT}{path}")
        for address in seed.addresses(shop).values()
        for path in (seed.HEALTH_PATH, faults.MOVED_PATH)
    }
    assert codes <= {500, 599}


def test_an_unknown_fault_lists_the_known() -> None:
    """A name mistyped at 3 a.m. gets the names."""
    with pytest.raises(ShopError, match=r"no fault 'inc-3421'; there are: inc-2023-3421, "):
        faults.named("inc-3421")


def test_a_template_names_the_program() -> None:
    """As the simulator reads it."""
    told = json.loads(base64.b64decode(seed.template_data(seed.configuration(release="2"))["UserData"]))
    assert told["program"] == "dev.shop.storefront.web"
    assert told["configuration"]["release"] == "2"


def test_utilization_is_the_share_of_slots_in_use() -> None:
    """A slot that is in use all the while is half of two."""
    busy = Busy(2)
    with busy:
        busy.percent()
        wait_until(lambda: False, seconds=0.2)
        assert 40 <= busy.percent() <= 60
