"""To zero and back: only in a total outage, as measured at that moment, and never without AWS's own way back."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.autoscaling_zero import (
    NET_PREFIX,
    RecycleThroughZero,
    ThroughZeroFacts,
    ThroughZeroInputs,
)
from incident_operator.actions.ports import ReadError
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard, Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.webtier import WebReader, instance_id, member, reader, scaling_group, suspended, target
from tests.builders import NOW

FIX = RecycleThroughZero()
INPUTS = ThroughZeroInputs(
    auto_scaling_group="web-asg",
    namespace="Shop",
    requests_metric="Requests",
    failed_metric="Failed",
    connection="database",
    migration_running=False,
)
THREE = (member(1), member(2), member(3))
ALL_BAD = [target(n, "unhealthy", "500") for n in (1, 2, 3)]
NEW = (member(4), member(5), member(6))
#: As many as the application can have.
FULL = {"used": 97}


def felt(requests: list[float], failed: list[float], *, seconds_ago: int = 60) -> Callable[[Any], Any]:
    """Return what CloudWatch has of users' requests, a minute each, the newest first."""

    def answer(arguments: Mapping[str, Any]) -> Any:
        values = {"requests": requests, "failed": failed}
        return [
            {
                "id": query["Id"],
                "at": [
                    (NOW - timedelta(seconds=seconds_ago + 60 * n)).isoformat() for n in range(len(values[query["Id"]]))
                ],
                "values": values[query["Id"]],
            }
            for query in arguments["MetricDataQueries"]
        ]

    return answer


def net(minutes: float = 10, name: str = f"{NET_PREFIX}plan-uid") -> dict[str, Any]:
    """Return a scheduled action as its listed read gives it."""
    return {"ScheduledActionName": name, "StartTime": (NOW + timedelta(minutes=minutes)).isoformat()}


def world(
    targets: list[dict[str, Any]] | None = None,
    group: Mapping[str, Any] | None = None,
    *,
    scheduled: tuple[dict[str, Any], ...] = (),
    sessions: Mapping[str, Any] | Exception = FULL,
    traffic: Any = None,
) -> WebReader:
    """Return a web tier of which nothing serves, where no migration runs."""
    return reader(
        ALL_BAD if targets is None else targets,
        group,
        sessions=sessions,
        autoscaling__describe_scheduled_actions=list(scheduled),
        cloudwatch__get_metric_data=felt([50, 50], [50, 50]) if traffic is None else traffic,
    )


def seen(it: WebReader) -> ThroughZeroFacts:
    """Return what is observed of a world."""
    return FIX.observe(INPUTS, it)


def planned(it: WebReader | None = None) -> PlanDraft:
    """Return the plan for a world."""
    plan = FIX.plan(INPUTS, seen(it or world()))
    assert isinstance(plan, PlanDraft), plan
    return plan


def without_balancer(*members: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a group that no load balancer asks about."""
    return scaling_group(*(members or THREE), TargetGroupARNs=[], HealthCheckType="EC2", **changes)


def test_the_first_call_lets_aws_restore_the_former_size_by_itself() -> None:
    """Then to zero, back, and the net away, each of which waits; all may be looked at and made again."""
    plan = planned()
    first, zero, back, last = plan.calls
    marker = {"fromPlan": {"prefix": NET_PREFIX}}
    assert (first.operation, first.ready_within) == ("put_scheduled_update_group_action", None)
    assert first.arguments == {
        "AutoScalingGroupName": "web-asg",
        "ScheduledActionName": marker,
        "StartTime": {"fromNow": {"wait": "10m"}},
        "MinSize": 2,
        "MaxSize": 6,
        "DesiredCapacity": 3,
    }
    assert zero.arguments == {"AutoScalingGroupName": "web-asg", "MinSize": 0, "DesiredCapacity": 0}
    assert back.arguments == {"AutoScalingGroupName": "web-asg", "MinSize": 2, "DesiredCapacity": 3}
    assert last.arguments == {"AutoScalingGroupName": "web-asg", "ScheduledActionNames": [marker]}
    assert all(call.ready_within is not None for call in (zero, back, last))
    assert {call.repeat for call in plan.calls} == {Repeat.ABSOLUTE}
    assert (plan.risk, plan.hazards, plan.needs_break_glass) == (Risk.DESTRUCTIVE, (Hazard.OUTAGE,), True)
    assert plan.undo is not None
    assert [call.operation for call in plan.undo.calls] == [back.operation, last.operation]


@pytest.mark.parametrize(
    ("it", "reason"),
    [
        (world(traffic=felt([50, 50], [50, 49])), "NotTotalOutage"),
        (world(traffic=felt([50, 50], [50])), "NotTotalOutage"),
        (world([target(1), *ALL_BAD[1:]]), "NotTotalOutage"),
        (world(group=without_balancer(), sessions={"used": 40}), "NotTotalOutage"),
        (world(traffic=felt([], [])), "OutageUnknown"),
        (world(traffic=felt([9], [9])), "OutageUnknown"),
        (world(traffic=felt([50, 50], [50, 50], seconds_ago=600)), "OutageUnknown"),
        (world(traffic=ReadError("AccessDenied", "no")), "OutageUnknown"),
        (world([target(1, "initial"), *ALL_BAD[1:]]), "OutageUnknown"),
        (world([target(1, "draining"), *ALL_BAD[1:]]), "OutageUnknown"),
        (world(ALL_BAD[1:]), "OutageUnknown"),
        (world([]), "OutageUnknown"),
        (world(sessions={"migrations": 1}), "MigrationRunning"),
        (world(sessions=ReadError("ConnectionSlotsExhausted", "no slot")), "MigrationUnknown"),
        (world(group=scaling_group(*THREE, SuspendedProcesses=suspended("Launch"))), "ProcessesSuspended"),
        (world(group=scaling_group(*THREE, SuspendedProcesses=suspended("Terminate"))), "ProcessesSuspended"),
        (world(group=scaling_group(*THREE, SuspendedProcesses=suspended("ScheduledActions"))), "ProcessesSuspended"),
        (world(group=scaling_group({**THREE[0], "ProtectedFromScaleIn": True}, *THREE[1:])), "InstancesProtected"),
        (world([], scaling_group()), "NoInstances"),
        (world(scheduled=(net(),)), "ScheduledChange"),
        (world(scheduled=(net(-1),)), "ScheduledChange"),
        (world(scheduled=(net(30, "evening"),)), "ScheduledChange"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_anything_less_than_a_total_outage_is_left_to_recycling_one_by_one(it: WebReader, reason: str) -> None:
    """What can't be measured is no outage; a group that would not come back is not taken away."""
    plan = FIX.plan(INPUTS, seen(it))
    assert isinstance(plan, NotApplicable), plan
    assert plan.reason == reason


def test_without_a_load_balancer_exhausted_sessions_say_that_no_instance_can_be_used() -> None:
    """Beside no request that succeeded; without a connection nobody can tell."""
    assert planned(world(group=without_balancer())).calls[1].arguments["DesiredCapacity"] == 0
    asked = INPUTS.model_copy(update={"connection": None})
    plan = FIX.plan(asked, FIX.observe(asked, world(group=without_balancer())))
    assert isinstance(plan, NotApplicable)
    assert plan.reason == "OutageUnknown"


def test_a_schedule_of_another_day_is_not_in_the_way() -> None:
    """The evening's is hours off."""
    assert planned(world(scheduled=(net(240, "evening"),)))


@pytest.mark.parametrize(
    ("it", "missing"),
    [
        (world(scheduled=(net(10),)), ""),
        (world(), "AWS would not restore"),
        (world(scheduled=(net(4),)), "AWS would not restore"),
        (world(scheduled=(net(),), group=scaling_group(*THREE, MinSize=1)), "was changed meanwhile"),
        (world(scheduled=(net(),), traffic=felt([50], [49])), "recycle one by one"),
        (world(scheduled=(net(),), sessions={"migrations": 1}), "a migration runs"),
        (world(scheduled=(net(),), group=scaling_group(*THREE, SuspendedProcesses=suspended("Launch"))), "suspended"),
    ],
)
def test_it_goes_to_zero_only_while_aws_is_sure_to_restore_it_and_it_is_still_an_outage(
    it: WebReader, missing: str
) -> None:
    """Looked at again after the first call: a net that is due soon, or is gone, would leave the group at zero."""
    said = FIX.lacks(planned().calls[:1], INPUTS, seen(world()), seen(it))
    assert missing in said
    assert bool(missing) == bool(said)


def empty(*members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group at zero, with these that are not gone yet."""
    return scaling_group(*members, MinSize=0, DesiredCapacity=0)


@pytest.mark.parametrize(
    ("it", "waits"),
    [
        (world([], empty(), scheduled=(net(8),)), False),
        (world([], empty(member(1, "Terminating")), scheduled=(net(8),)), True),
        (world([], empty(member(1, "Terminating")), scheduled=(net(2),)), False),
        (world([], empty(member(1, "Terminating"))), False),
        (
            world(
                [],
                empty(),
                scheduled=(net(8),),
                sessions=ReadError("Unreachable", "x"),
                traffic=ReadError("Throttled", "x"),
            ),
            False,
        ),
        (world([], scaling_group(*NEW), scheduled=()), False),
        (world([], scaling_group(*NEW, MinSize=1, DesiredCapacity=5), scheduled=()), True),
    ],
    ids=["gone", "not gone", "not gone, and it is time", "the net is gone", "unmeasured", "restored", "somebody's"],
)
def test_the_former_size_comes_back_as_soon_as_it_may(it: WebReader, waits: bool) -> None:
    """At the latest before AWS does it; whatever can't be measured keeps nothing from coming back."""
    assert bool(FIX.lacks(planned().calls[:2], INPUTS, seen(world()), seen(it))) is waits


def healthy(*numbers: int) -> list[dict[str, Any]]:
    """Return healthy targets."""
    return [target(n) for n in numbers]


def test_the_net_goes_when_as_many_new_instances_serve() -> None:
    """In service and healthy, and none of those of before."""
    before, made = seen(world()), planned().calls[:3]
    back = world(healthy(4, 5, 6), scaling_group(*NEW), scheduled=(net(6),))
    assert FIX.lacks(made, INPUTS, before, seen(back)) == ""
    slow = world([*healthy(4, 5), target(6, "initial")], scaling_group(*NEW), scheduled=(net(6),))
    assert "2 of 3" in FIX.lacks(made, INPUTS, before, seen(slow))
    old = world(healthy(4, 5, 6), scaling_group(*NEW, member(1, "Terminating")), scheduled=(net(6),))
    assert instance_id(1) in FIX.lacks(made, INPUTS, before, seen(old))


def test_an_interrupted_call_is_told_by_the_size_and_by_the_net() -> None:
    """A net that is due too soon is no net: it is set anew, under the same name."""
    first, zero, back, last = planned().calls
    assert FIX.applied(first, INPUTS, seen(world(scheduled=(net(9),)))) is True
    assert FIX.applied(first, INPUTS, seen(world(scheduled=(net(4),)))) is False
    assert FIX.applied(first, INPUTS, seen(world())) is False
    at_zero = seen(world([], empty(), scheduled=(net(9),)))
    assert FIX.applied(zero, INPUTS, at_zero) is True
    assert FIX.applied(back, INPUTS, at_zero) is False
    assert FIX.applied(zero, INPUTS, seen(world())) is False
    assert FIX.applied(back, INPUTS, seen(world())) is True
    assert FIX.applied(last, INPUTS, at_zero) is False
    assert FIX.applied(last, INPUTS, seen(world())) is True


@pytest.mark.parametrize(
    ("it", "outcome"),
    [
        (world(healthy(4, 5, 6), scaling_group(*NEW)), "Helped"),
        (world(healthy(4, 5, 6), scaling_group(*NEW), scheduled=(net(6),)), None),
        (world(healthy(4, 5), scaling_group(*NEW)), None),
        (world(healthy(4, 5, 6), scaling_group(*NEW, MinSize=0)), None),
        (world(healthy(4, 5), scaling_group(*NEW[:2])), None),
        (world(healthy(1, 5, 6), scaling_group(member(1), *NEW[1:])), None),
    ],
)
def test_it_has_helped_when_all_is_new_and_nothing_is_left(it: WebReader, outcome: str | None) -> None:
    """The former size, as many that serve, none of before, no scheduled action of ours."""
    judgement = FIX.judge(INPUTS, seen(world()), FIX.measure(INPUTS, it))
    assert (judgement.outcome, judgement.measured) == (outcome, True)
