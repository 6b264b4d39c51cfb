"""Load balancers: health by real requests, with AWS's reasons; forwarding, failing open, and what is measured of it."""

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.aws.services.balancing import Checked, Health, Probe, _judge, is_expected

from .conftest import Account, eventually
from .webtier import GROUP, Tier


@pytest.fixture
def tier(account: Account) -> Iterator[Tier]:
    """Two healthy instances of a group that replaces nobody by the load balancer's word."""
    made = Tier(account)
    made.settle(["healthy", "healthy"])
    yield made
    made.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)


@pytest.fixture
def unhurried_tier(unhurried: Account) -> Iterator[Tier]:
    """The same where a target drains for seconds: a busy machine sees it."""
    made = Tier(unhurried)
    made.settle(["healthy", "healthy"])
    yield made
    made.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)


@pytest.mark.parametrize(
    ("code", "matcher", "expected"),
    [(200, "200", True), (204, "200", False), (302, "200,302", True), (299, "200-299", True), (404, "200-399", False)],
)
def test_a_matcher_names_codes(code: int, matcher: str, expected: bool) -> None:
    """One, several, or a range."""
    assert is_expected(code, matcher) is expected


class Thresholds:
    """A group of which only its thresholds matter."""

    healthy_threshold_count, unhealthy_threshold_count = "3", "2"


def test_thresholds_count_rows() -> None:
    """A new target needs one success; afterwards it takes whole rows, and each other result begins anew."""
    good, bad = Health(state="healthy"), Health(state="unhealthy", reason="Target.Timeout")
    known = Checked(port=80, since=datetime.now(UTC))  # noqa: TID251 of no matter
    seen = []
    for result in (bad, good, bad, good, bad, bad, good, good, bad, good, good, good):
        _judge(Thresholds(), known, result)
        seen.append(known.health.state)
    assert seen == ["initial", *["healthy"] * 4, *["unhealthy"] * 6, "healthy"]


def test_nothing_leaves_this_machine() -> None:
    """A target elsewhere is not asked, and is not healthy."""
    probe = Probe(address="192.0.2.1", port=80, path="/", matcher="200", timeout=30)
    assert probe.run() == Health(state="unhealthy", reason="Target.Timeout", description="Request timed out")


def test_a_path_that_is_not_there_makes_all_unhealthy_and_they_are_asked_all_the_same(tier: Tier) -> None:
    """INC-2023-3421 in small: the codes are told, customers are served, and the right path heals."""
    tier.elb.modify_target_group(TargetGroupArn=tier.arn, HealthCheckPath="/gone")
    assert eventually(lambda: tier.states == ["unhealthy", "unhealthy"])
    (told,) = {(h["Reason"], h["Description"]) for h in tier.health.values()}
    assert told == ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [404]")
    assert [tier.get() for _ in range(4)] == [200] * 4
    tier.elb.modify_target_group(TargetGroupArn=tier.arn, Matcher={"HttpCode": "200,404"})
    assert eventually(lambda: tier.states == ["healthy", "healthy"])
    tier.elb.modify_target_group(TargetGroupArn=tier.arn, HealthCheckPath="/health", Matcher={"HttpCode": "200"})
    assert eventually(lambda: tier.states == ["healthy", "healthy"])


def test_an_unhealthy_target_gets_no_requests_while_another_is_healthy(tier: Tier) -> None:
    """Who fails is felt until it is found out, and no longer."""
    one = tier.in_service[0]
    tier.chaos(one, "all")
    assert 500 in [tier.get() for _ in range(2)] or tier.health[one]["State"] == "unhealthy"
    assert eventually(lambda: tier.states == ["healthy", "unhealthy"])
    assert eventually(lambda: {tier.get() for _ in range(4)} == {200})
    tier.chaos(one, "")
    tier.settle(["healthy", "healthy"])


def test_a_target_that_is_taken_out_drains(unhurried_tier: Tier) -> None:
    """It says so while it does, then it is not there; taking out what is not there is no error."""
    tier = unhurried_tier
    one, other = tier.in_service
    tier.elb.modify_target_group_attributes(
        TargetGroupArn=tier.arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "360"}]
    )
    tier.elb.deregister_targets(TargetGroupArn=tier.arn, Targets=[{"Id": one}, {"Id": "i-none"}])
    assert tier.health[one]["Reason"] == "Target.DeregistrationInProgress"
    assert eventually(lambda: list(tier.health) == [other])
    asked = tier.elb.describe_target_health(TargetGroupArn=tier.arn, Targets=[{"Id": one}])
    assert asked["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"
    assert one in tier.in_service
    tier.elb.register_targets(TargetGroupArn=tier.arn, Targets=[{"Id": one}])
    assert tier.health[one]["State"] in ("initial", "healthy")
    tier.settle(["healthy", "healthy"])


def test_with_nobody_registered_the_load_balancer_answers_itself(tier: Tier) -> None:
    """503 where there is no target, 502 where the target is gone; each is counted as its own."""
    tier.elb.deregister_targets(TargetGroupArn=tier.arn, Targets=[{"Id": i} for i in tier.in_service])
    assert eventually(lambda: tier.get() == 503)
    tier.elb.register_targets(TargetGroupArn=tier.arn, Targets=[{"Id": "127.0.0.1", "Port": free_port()}])
    assert eventually(lambda: tier.states == ["unhealthy"])
    assert tier.health["127.0.0.1"]["Reason"] == "Target.FailedHealthChecks"
    assert eventually(lambda: tier.get() == 502)
    assert eventually(lambda: measured(tier, "HTTPCode_ELB_503_Count") >= 1)
    assert eventually(lambda: measured(tier, "HTTPCode_ELB_502_Count") >= 1)
    assert measured(tier, "HTTPCode_Target_5XX_Count") == 0


def test_a_target_that_says_nothing_times_out(tier: Tier) -> None:
    """A machine that accepts and is silent: the reason is the time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []
        threading.Thread(target=lambda: [held.append(silent.accept()[0]) for _ in range(2)], daemon=True).start()
        port = silent.getsockname()[1]
        tier.elb.register_targets(TargetGroupArn=tier.arn, Targets=[{"Id": "127.0.0.1", "Port": port}])
        assert eventually(lambda: tier.health["127.0.0.1"]["State"] == "unhealthy")
        assert tier.health["127.0.0.1"]["Reason"] == "Target.Timeout"
        for connection in held:
            connection.close()


def test_what_customers_get_is_measured(tier: Tier) -> None:
    """Requests, codes and times by load balancer and by target group; hosts as the health checks have them."""
    for _ in range(4):
        assert tier.get() == 200
    one = tier.in_service[0]
    tier.chaos(one, "pages")
    assert sorted(tier.get() for _ in range(4)) == [200, 200, 500, 500]
    # A request is counted when it comes, an answer when it is given: the last sample to be seen is of an answer.
    assert eventually(lambda: measured(tier, "HTTPCode_Target_2XX_Count") == 6)
    assert eventually(lambda: measured(tier, "HTTPCode_Target_5XX_Count", by_group=True) == 2)
    assert measured(tier, "RequestCount") == 8
    assert measured(tier, "HTTPCode_ELB_5XX_Count") == 0
    assert 0.005 <= measured(tier, "TargetResponseTime", stat="Average") < 5
    assert measured(tier, "HealthyHostCount", by_group=True, stat="Maximum") == 2
    tier.chaos(one, "all")
    assert eventually(lambda: measured(tier, "UnHealthyHostCount", by_group=True, stat="Maximum") == 1)


def test_an_unused_group_is_not_checked(account: Account) -> None:
    """No listener forwards to it."""
    elb, ec2 = account.client("elbv2"), account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    made = elb.create_target_group(Name="alone", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1"}])
    (found,) = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert found["TargetHealth"]["State"] == "unused"
    assert found["TargetHealth"]["Reason"] == "Target.NotInUse"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"HealthCheckTimeoutSeconds": 30}, "must be smaller than the interval"),
        ({"HealthCheckPath": "health"}, "must begin with a '/'"),
        ({"Matcher": {"HttpCode": "fine"}}, "HttpCode must be like"),
    ],
)
def test_a_health_check_that_can_not_be_is_refused(account: Account, changed: Any, why: str) -> None:
    """And nothing changes; a group that is not there is said so."""
    elb, ec2 = account.client("elbv2"), account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    made = elb.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=vpc, HealthCheckIntervalSeconds=30)
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    before = account.ask("dump")["targetGroups"]
    with pytest.raises(ClientError, match=why):
        elb.modify_target_group(TargetGroupArn=arn, **changed)
    assert account.ask("dump")["targetGroups"] == before
    gone = f"{arn}0"
    calls: list[Callable[[], Any]] = [
        lambda: elb.modify_target_group(TargetGroupArn=gone, HealthCheckPath="/"),
        lambda: elb.describe_target_health(TargetGroupArn=gone),
        lambda: elb.deregister_targets(TargetGroupArn=gone, Targets=[{"Id": "i-1"}]),
    ]
    for call in calls:
        with pytest.raises(ClientError, match="TargetGroupNotFound"):
            call()


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def measured(tier: Tier, name: str, *, by_group: bool = False, stat: str = "Sum") -> float:
    """Return a metric of the load balancer over the last minutes; 0 without samples."""
    now = datetime.now(UTC)  # noqa: TID251 asks a real server about now
    dimensions = [{"Name": "LoadBalancer", "Value": tier.balancer.split(":loadbalancer/")[1]}]
    if by_group:
        dimensions.append({"Name": "TargetGroup", "Value": tier.arn.rsplit(":", 1)[1]})
    answer = tier.account.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/ApplicationELB", MetricName=name, Dimensions=dimensions, Period=3600, Statistics=[stat],
        StartTime=now - timedelta(minutes=5), EndTime=now + timedelta(seconds=1),
    )  # fmt: skip
    values = [point[stat] for point in answer["Datapoints"]]
    return float(max(values) if stat != "Sum" else sum(values)) if values else 0.0
