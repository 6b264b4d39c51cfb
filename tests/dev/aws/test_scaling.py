"""Auto Scaling: a group holds its capacity with real instances, within its bounds, and says what it did."""

import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Account, Caller, allow, eventually, start, where
from .webtier import GROUP, PORT, TEMPLATE, Tier, request, user_data

ACCOUNT = "100000999999"


@pytest.fixture
def tier(account: Account) -> Any:
    """Two healthy instances of a group of up to four."""
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


def test_an_instance_is_a_process_with_an_address_of_its_own(tier: Tier) -> None:
    """It answers there while it runs; afterwards nobody does."""
    one, other = tier.in_service
    addresses = {tier.address(one), tier.address(other)}
    assert len(addresses) == 2
    assert all(address.startswith("127.") for address in addresses)
    address = tier.address(one)
    assert request(f"http://{address}:{PORT}/health")[0] == 200
    tier.ec2.terminate_instances(InstanceIds=[one])
    assert eventually(lambda: one not in tier.health and one not in tier.in_service)
    with pytest.raises(urllib.error.URLError):
        request(f"http://{address}:{PORT}/health")
    tier.settle(["healthy", "healthy"])
    assert "EC2 health check" in next(a["Cause"] for a in tier.activities if one in a["Description"])


def test_capacity_stays_within_the_bounds(tier: Tier) -> None:
    """In AWS's words; and nothing changed."""
    tier.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=1)
    for wanted, word in ((0, "below min value 1"), (8, "above max value 4")):
        with pytest.raises(ClientError, match=f"ValidationError.*New SetDesiredCapacity value {wanted} is {word}"):
            tier.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=wanted)
    with pytest.raises(ClientError, match="between the specified min size:1 and max size:4"):
        tier.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, DesiredCapacity=5)
    with pytest.raises(ClientError, match="must be greater than or equal to min bound"):
        tier.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=5)
    assert (tier.group["DesiredCapacity"], tier.group["MaxSize"]) == (2, 4)


def test_a_raised_minimum_raises_the_desired_capacity(tier: Tier) -> None:
    """And the cause says who asked."""
    tier.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=3)
    assert tier.group["DesiredCapacity"] == 3
    tier.settle(["healthy"] * 3)
    newest = tier.activities[0]
    assert newest["StatusCode"] == "Successful"
    assert "constraints to min: 3, max: 4, desired: 3" in newest["Cause"]


def test_scaling_in_drains_and_terminates(unhurried_tier: Tier) -> None:
    """The instance leaves its target group first, then ends."""
    tier = unhurried_tier
    tier.elb.modify_target_group_attributes(
        TargetGroupArn=tier.arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "360"}]
    )
    before = set(tier.in_service)
    tier.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    assert eventually(lambda: tier.states == ["draining", "healthy"])
    (gone,) = before - set(tier.in_service)
    tier.settle(["healthy"])
    assert eventually(lambda: tier.activities[0]["StatusCode"] == "Successful")
    newest = tier.activities[0]
    assert gone in newest["Description"]
    assert newest["EndTime"] - newest["StartTime"] >= timedelta(seconds=1), "it went on while the instance drained"
    state = tier.ec2.describe_instances(InstanceIds=[gone])["Reservations"][0]["Instances"][0]["State"]["Name"]
    assert state == "terminated"
    assert "changing the desired capacity from 2 to 1" in tier.activities[0]["Cause"]


@pytest.mark.parametrize("decrement", [False, True])
def test_terminating_one_instance(tier: Tier, decrement: bool) -> None:
    """It is replaced, or the group shrinks by it; never below its minimum."""
    one = tier.in_service[0]
    answer = tier.scaling.terminate_instance_in_auto_scaling_group(
        InstanceId=one, ShouldDecrementDesiredCapacity=decrement
    )
    assert answer["Activity"]["Description"] == f"Terminating EC2 instance: {one}"
    assert eventually(lambda: one not in tier.health)
    tier.settle(["healthy"] * (1 if decrement else 2))
    assert one not in tier.in_service
    if decrement:
        tier.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=1)
        with pytest.raises(ClientError, match=r"desiredSize equals minSize \(1\)"):
            tier.scaling.terminate_instance_in_auto_scaling_group(
                InstanceId=tier.in_service[0], ShouldDecrementDesiredCapacity=True
            )


def test_suspended_processes_are_obeyed(tier: Tier) -> None:
    """Nothing is launched, terminated or replaced meanwhile; what was due happens when they resume."""
    scaling = tier.scaling
    scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Launch", "Terminate"])
    assert {p["ProcessName"] for p in tier.group["SuspendedProcesses"]} == {"Launch", "Terminate"}
    before = tier.in_service
    scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=3)
    scheduled = datetime.now(UTC) + timedelta(seconds=1)  # noqa: TID251 the simulator's clock is real
    scaling.put_scheduled_update_group_action(
        AutoScalingGroupName=GROUP, ScheduledActionName="later", StartTime=scheduled, DesiredCapacity=4
    )
    assert eventually(lambda: tier.group["DesiredCapacity"] == 4)
    assert tier.in_service == before
    scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ScheduledActions"])
    scheduled = datetime.now(UTC) + timedelta(seconds=1)  # noqa: TID251
    scaling.put_scheduled_update_group_action(
        AutoScalingGroupName=GROUP, ScheduledActionName="never", StartTime=scheduled, DesiredCapacity=4
    )
    assert eventually(lambda: not scaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"])
    assert (tier.group["DesiredCapacity"], tier.in_service) == (1, before)
    scaling.resume_processes(AutoScalingGroupName=GROUP)
    assert tier.group["SuspendedProcesses"] == []
    tier.settle(["healthy"])
    with pytest.raises(ClientError, match="not a valid process type"):
        scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Lunch"])


def test_who_fails_the_load_balancers_checks_is_replaced(account: Account) -> None:
    """After the grace period; not while ReplaceUnhealthy is suspended, where the mark stays until somebody takes it."""
    tier = Tier(account, desired=1, HealthCheckType="ELB")
    tier.settle(["healthy"])
    (one,) = tier.in_service
    tier.scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    tier.chaos(one, "all")
    assert eventually(lambda: tier.group["Instances"][0]["HealthStatus"] == "Unhealthy")
    assert tier.health[one]["Reason"] == "Target.ResponseCodeMismatch"
    tier.chaos(one, "")
    assert eventually(lambda: tier.states == ["healthy"])
    assert tier.group["Instances"][0]["HealthStatus"] == "Unhealthy"
    tier.scaling.set_instance_health(InstanceId=one, HealthStatus="Healthy")
    tier.scaling.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    launched = len(tier.activities)
    tier.chaos(one, "all")
    assert eventually(lambda: len(tier.activities) > launched)
    assert eventually(lambda: one not in tier.health)
    tier.settle(["healthy"])
    causes = [a["Cause"] for a in tier.activities if a["Description"] == f"Terminating EC2 instance: {one}"]
    assert "ELB system health check failure" in causes[0]
    tier.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [({"program": "os"}, "none that an instance of the simulator may run"), ({"port": None}, "")],
    ids=["a program that is not allowed", "a program that ends at once"],
)
def test_a_launch_that_fails_is_told(account: Account, data: Any, why: str) -> None:
    """The activity says why; a program that dies leaves its instance pending, as a machine that never boots."""
    tier = Tier(account, desired=0)
    tier.template(**data)
    tier.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    if why:
        assert eventually(lambda: any(a["StatusCode"] == "Failed" for a in tier.activities))
        assert why in next(a["StatusMessage"] for a in tier.activities if a["StatusCode"] == "Failed")
        tier.template()
        tier.settle(["healthy"])
    else:
        assert eventually(lambda: [i["LifecycleState"] for i in tier.group["Instances"]] == ["Pending"])
        assert tier.health == {}
    tier.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)


def test_a_refresh_brings_a_new_release_to_all(tier: Tier) -> None:
    """One at a time while all but one must stay healthy; it ends when all are of the template's default version."""
    before, begun = set(tier.in_service), datetime.now(UTC)  # noqa: TID251 the simulator's clock is real
    tier.template(release="2.0")
    tier.scaling.start_instance_refresh(AutoScalingGroupName=GROUP, Preferences={"MinHealthyPercentage": 50})
    with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
        tier.scaling.start_instance_refresh(AutoScalingGroupName=GROUP)
    fewest = 2

    def ended() -> bool:
        nonlocal fewest
        fewest = min(fewest, tier.states.count("healthy"))
        found = tier.scaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]
        return bool(found[0]["Status"] == "Successful")

    assert eventually(ended, 60)
    assert fewest >= 1
    # Each is taken once its predecessor's replacement is there. By the group's own record: a look may come too late.
    ours = [a for a in reversed(tier.activities) if a["StartTime"] >= begun]
    taken = [a for a in ours if a["Description"].startswith("Terminating")]
    launched = [a for a in ours if a["Description"].startswith("Launching")]
    assert (len(taken), len(launched)) == (2, 2)
    assert launched[0]["EndTime"] <= taken[1]["StartTime"]
    assert not before & set(tier.in_service)
    assert {i["LaunchTemplate"]["Version"] for i in tier.group["Instances"]} == {"2"}
    assert '"2.0"' in request(f"http://{tier.host}:{PORT}/health")[1]


def test_a_refresh_that_can_not_go_on_is_cancelled(tier: Tier) -> None:
    """A release that never gets well takes one instance; the others stay, and cancelling leaves it at that."""
    before = set(tier.in_service)
    tier.template(fail="all")
    tier.scaling.start_instance_refresh(AutoScalingGroupName=GROUP, Preferences={"MinHealthyPercentage": 50})
    assert eventually(lambda: tier.states == ["healthy", "unhealthy"])
    answer = tier.scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP)
    found = tier.scaling.describe_instance_refreshes(
        AutoScalingGroupName=GROUP, InstanceRefreshIds=[answer["InstanceRefreshId"]]
    )["InstanceRefreshes"]
    assert [(r["Status"], r["InstancesToUpdate"]) for r in found] == [("Cancelled", 1)]
    assert len(before & set(tier.in_service)) == 1
    with pytest.raises(ClientError, match="ActiveInstanceRefreshNotFound"):
        tier.scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP)


def test_an_alarm_scales_out(tier: Tier) -> None:
    """Its policy is executed once per cooldown, never beyond the maximum; not while AlarmNotification is suspended."""
    scaling, cloudwatch = tier.scaling, tier.account.client("cloudwatch")
    arn = scaling.put_scaling_policy(
        AutoScalingGroupName=GROUP, PolicyName="out", AdjustmentType="ChangeInCapacity", ScalingAdjustment=1,
        Cooldown=60,
    )["PolicyARN"]  # fmt: skip
    scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AlarmNotification"])
    cloudwatch.put_metric_alarm(
        AlarmName="busy", Namespace="AWS/EC2", MetricName="CPUUtilization", Statistic="Average", Period=1,
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": GROUP}], EvaluationPeriods=1, Threshold=-1,
        ComparisonOperator="GreaterThanThreshold", AlarmActions=[arn],
    )  # fmt: skip
    state = lambda: cloudwatch.describe_alarms(AlarmNames=["busy"])["MetricAlarms"][0]["StateValue"]  # noqa: E731
    assert eventually(lambda: state() == "ALARM")
    assert tier.group["DesiredCapacity"] == 2
    scaling.resume_processes(AutoScalingGroupName=GROUP)
    tier.settle(["healthy"] * 4)
    assert any("alarm busy in state ALARM triggered policy out" in a["Cause"] for a in tier.activities)


def test_simulators_side_by_side_share_no_address_and_leave_nothing_behind() -> None:
    """Not even one that is killed: an instance ends with the one that made it."""
    simulators = [start() for _ in range(2)]
    try:
        accounts = [
            Account(id=ACCOUNT, admin=Caller(url=where(simulator), key=f"SIMADMIN{ACCOUNT}"))
            for simulator in simulators
        ]
        tiers = [Tier(account, desired=1) for account in accounts]
        for tier in tiers:
            tier.settle(["healthy"])
        places = [tier.address(tier.in_service[0]) for tier in tiers] + [tier.host for tier in tiers]
        assert len(set(places)) == 4
        assert [request(f"http://{place}:{PORT}/health")[0] for place in places] == [200] * 4
    finally:
        for simulator in simulators:
            simulator.kill()
            simulator.communicate()
    assert eventually(lambda: not any(answers(place) for place in places))


def answers(place: str) -> bool:
    """Tell whether somebody answers at an address."""
    try:
        return request(f"http://{place}:{PORT}/health")[0] > 0
    except OSError:
        return False


def test_what_is_not_there_is_said_so(account: Account) -> None:
    """A missing group or instance is a ValidationError, not trouble of the server."""
    scaling, name = account.client("autoscaling"), {"AutoScalingGroupName": "none"}
    for call in (
        lambda: scaling.set_desired_capacity(**name, DesiredCapacity=1),
        lambda: scaling.update_auto_scaling_group(**name, MinSize=1),
        lambda: scaling.describe_scaling_activities(**name),
        lambda: scaling.suspend_processes(**name),
        lambda: scaling.start_instance_refresh(**name),
    ):
        with pytest.raises(ClientError, match=r"ValidationError.*AutoScalingGroup name not found"):
            call()
    with pytest.raises(ClientError, match="No managed instance found for instance ID: i-1234"):
        scaling.terminate_instance_in_auto_scaling_group(InstanceId="i-1234", ShouldDecrementDesiredCapacity=False)
    assert scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"] == []


def test_limited_callers_need_the_group_by_its_arn(tier: Tier) -> None:
    """A session for one group changes that one, and no other; who did it is in the trail, without the user data."""
    arn = tier.group["AutoScalingGroupARN"]
    role = tier.account.role("scaler", allow("autoscaling:*", "*"))
    policy = allow("autoscaling:SetDesiredCapacity", arn)
    limited = tier.account.admin.assume(role, "run-1", policy).client("autoscaling")
    limited.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=2)
    for denied in (
        lambda: limited.set_desired_capacity(AutoScalingGroupName="other", DesiredCapacity=1),
        lambda: limited.suspend_processes(AutoScalingGroupName=GROUP),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            denied()
    trail = tier.account.client("cloudtrail")
    attribute = [{"AttributeKey": "ResourceName", "AttributeValue": GROUP}]
    found = lambda: trail.lookup_events(LookupAttributes=attribute)["Events"]  # noqa: E731
    assert eventually(lambda: any(e["Username"] == "run-1" for e in found()))
    told = str(tier.account.ask("journal")["calls"])
    assert TEMPLATE in told
    assert user_data() not in told
