"""Auto Scaling: what a group lacks, capacity only up and within bounds, instances replaced one by one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.autoscaling import Activities, ActivityInputs, GroupCapacity, ScalingGroupInputs
from incident_operator.actions.autoscaling_fixes import (
    CapacityInputs,
    ProcessInputs,
    ResumeInputs,
    ResumeProcesses,
    SetCapacity,
    SuspendProcesses,
)
from incident_operator.actions.autoscaling_instances import (
    RecycleInputs,
    RecycleInstances,
    ReplaceInputs,
    ReplaceInstances,
)
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.reads import READS
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard, RemediationPlanSpec
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.gates import GateFacts, common_cause, downstream_budget, health_budget
from tests.actions.webtier import (
    GROUP_ARN,
    WebReader,
    address,
    instance_id,
    member,
    reader,
    scaling_group,
    suspended,
    target,
)
from tests.builders import NOW, a_grant, a_plan

GROUP = "web-asg"
THREE = (member(1), member(2), member(3))
PROTECTED = tuple({**one, "ProtectedFromScaleIn": True} for one in THREE)
ALIKE = [target(n, "unhealthy", "404") for n in (1, 2, 3)]


def gate(check: Any, draft: PlanDraft) -> Any:
    """Return what a gate says of a draft's numbers."""
    spec: RemediationPlanSpec = a_plan().spec.model_copy(
        update={"capacity": draft.capacity, "downstream": draft.downstream, "common_cause": draft.common_cause}
    )
    facts = GateFacts(plan=spec, run_automation=Any, grant=a_grant(), baseline=None, now=NOW)  # type: ignore[arg-type]
    return check(facts)


def group_findings(group: Mapping[str, Any]) -> set[str]:
    """Return the reasons of what is wrong with a group."""
    inputs = ScalingGroupInputs(auto_scaling_group=GROUP)
    found = GroupCapacity().findings(inputs, GroupCapacity().observe(inputs, reader(group=group)))
    assert isinstance(found, list)
    return {f.reason for f in found}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (scaling_group(*THREE), set()),
        (scaling_group(*THREE, DesiredCapacity=4), {"CapacityMissing"}),
        (scaling_group(*THREE, MaxSize=3), {"AtMaximum"}),
        (scaling_group(member(1), member(2, health="Unhealthy")), {"CapacityMissing"}),
        (scaling_group(), {"GroupIsEmpty"}),
        (scaling_group(*THREE, SuspendedProcesses=suspended("ReplaceUnhealthy")), {"ReplacementSuspended"}),
        (scaling_group(*THREE, SuspendedProcesses=suspended("Launch", "AZRebalance")), {"ScalingSuspended"}),
    ],
)
def test_a_group_is_compared_with_what_it_should_be(group: Mapping[str, Any], expected: set[str]) -> None:
    """An instance that is marked unhealthy is not in service, whatever its lifecycle says."""
    assert group_findings(group) == expected


@pytest.mark.parametrize("action", [GroupCapacity(), SuspendProcesses(), SetCapacity(), ReplaceInstances()])
def test_a_group_that_does_not_exist_is_an_error(action: Any) -> None:
    """AWS answers an empty list: no group is no empty group."""
    inputs = action.inputs_model(auto_scaling_group="nobody")
    with pytest.raises(NotFound):
        action.observe(inputs, reader(autoscaling__describe_auto_scaling_groups=[]))


def activity(kind: str, number: int, *, minutes: int = 5, **changes: Any) -> dict[str, Any]:
    """Return an activity as its listed read gives it."""
    return {
        "ActivityId": f"{kind}-{number}",
        "StatusCode": "Successful",
        "StartTime": (NOW - timedelta(minutes=minutes)).isoformat(),
        "Kind": kind,
        "InstanceId": instance_id(number),
        "ForHealth": kind == "Terminate",
        "Code": None,
        **changes,
    }


def activity_findings(*activities: Mapping[str, Any]) -> list[str]:
    """Return the reasons of what a group did."""
    inputs = ActivityInputs(auto_scaling_group=GROUP)
    world = reader(autoscaling__describe_scaling_activities=list(activities))
    found = Activities().findings(inputs, Activities().observe(inputs, world))
    assert isinstance(found, list)
    return [f.reason for f in found]


def test_replacing_in_a_loop_is_told_from_one_replacement_and_from_scaling_in() -> None:
    """Distinct instances, for their health, since the incident began."""
    assert activity_findings(activity("Terminate", 1), activity("Launch", 2), activity("Terminate", 2)) == [
        "ReplacingInLoop"
    ]
    assert activity_findings(activity("Terminate", 1), activity("Terminate", 1)) == []
    assert activity_findings(*(activity("Terminate", n, ForHealth=False) for n in (1, 2))) == []
    assert activity_findings(*(activity("Terminate", n, minutes=40) for n in (1, 2))) == []


def test_failed_launches_are_named_by_code() -> None:
    """EC2's own code, never its prose."""
    failed = activity("Launch", 1, StatusCode="Failed", Code="InsufficientInstanceCapacity")
    assert activity_findings(failed) == ["LaunchesFail"]


def test_of_an_activity_no_prose_is_kept() -> None:
    """Descriptions, causes and messages are read by a known grammar."""
    listed = {
        "Activities": [
            {
                "ActivityId": "1",
                "StatusCode": "Failed",
                "StartTime": NOW,
                "Description": "Launching a new EC2 instance: i-0123456789abcdef0",
                "Cause": "At 2026-01-15T10:00:00Z an instance was taken out of service in response to an ELB system "
                "health check failure. token=hunter2",
                "StatusMessage": "You lack hunter2. (Service: AmazonEC2; Status Code: 400; "
                "Error Code: VcpuLimitExceeded; Request ID: 1)",
            }
        ]
    }
    (kept,) = READS["autoscaling", "describe_scaling_activities"].project(listed)
    assert (kept["Kind"], kept["ForHealth"], kept["Code"]) == ("Launch", True, "VcpuLimitExceeded")
    assert "hunter2" not in str(kept)


# --- processes --------------------------------------------------------------------------------------------------------


def suspend(group: Mapping[str, Any]) -> PlanDraft | NotApplicable:
    """Return what suspending ReplaceUnhealthy plans."""
    inputs = ProcessInputs(auto_scaling_group=GROUP)
    return SuspendProcesses().plan(inputs, SuspendProcesses().observe(inputs, reader(group=group)))


def test_replacing_is_suspended_and_resumed_exactly() -> None:
    """One Low call; the undo names the same process and rests on what is suspended."""
    plan = suspend(scaling_group(*THREE))
    assert isinstance(plan, PlanDraft)
    assert (plan.risk, plan.touches) == (Risk.LOW, (GROUP_ARN,))
    assert plan.calls[0].arguments["ScalingProcesses"] == ["ReplaceUnhealthy"]
    assert plan.undo is not None
    assert [c.operation for c in plan.undo.calls] == ["resume_processes"]
    assert plan.undo.calls[0].arguments == plan.calls[0].arguments


def test_what_is_suspended_already_is_left() -> None:
    """Its undo would resume what somebody else suspended."""
    plan = suspend(scaling_group(*THREE, SuspendedProcesses=suspended("ReplaceUnhealthy")))
    assert isinstance(plan, NotApplicable)
    assert plan.reason == "AlreadySuspended"


def resume(targets: list[Any], group: Mapping[str, Any]) -> PlanDraft | NotApplicable:
    """Return what resuming ReplaceUnhealthy plans."""
    inputs = ResumeInputs(auto_scaling_group=GROUP)
    return ResumeProcesses().plan(inputs, ResumeProcesses().observe(inputs, reader(targets, group)))


RECENT = (NOW - timedelta(minutes=10)).isoformat()


@pytest.mark.parametrize(
    ("at", "asks"),
    [(RECENT, ()), ((NOW - timedelta(days=2)).isoformat(), ("SuspendedBefore",)), (None, ("SuspendedBefore",))],
)
def test_a_suspension_from_before_the_incident_is_asked_for(at: str | None, asks: tuple[str, ...]) -> None:
    """Somebody may have meant it; unknown counts as before."""
    plan = resume([target(1)], scaling_group(member(1), SuspendedProcesses=suspended("ReplaceUnhealthy", at=at)))
    assert isinstance(plan, PlanDraft)
    assert plan.ask_because == asks


def test_marks_of_healthy_instances_are_taken_off_before_replacing_is_resumed() -> None:
    """An instance that was marked meanwhile would be terminated at once, though it serves."""
    marked = (member(1), member(2, health="Unhealthy"), member(3, health="Unhealthy"))
    group = scaling_group(*marked, SuspendedProcesses=suspended("ReplaceUnhealthy", at=RECENT))
    plan = resume([target(1), target(2), target(3, "unhealthy", "500")], group)
    assert isinstance(plan, PlanDraft)
    assert [c.operation for c in plan.calls] == ["set_instance_health", "resume_processes"]
    assert plan.calls[0].arguments["InstanceId"] == instance_id(2)


def test_replacing_is_not_resumed_while_all_fail_alike() -> None:
    """It would begin the loop again."""
    group = scaling_group(*THREE, SuspendedProcesses=suspended("ReplaceUnhealthy", at=RECENT))
    plan = resume(ALIKE, group)
    assert isinstance(plan, NotApplicable)
    assert plan.reason == "AllFailAlike"


# --- capacity ---------------------------------------------------------------------------------------------------------


def capacity(
    group: Mapping[str, Any] | None = None, targets: list[Any] | None = None, **inputs: Any
) -> PlanDraft | NotApplicable:
    """Return what setting the capacity plans."""
    given = CapacityInputs(auto_scaling_group=GROUP, **inputs)
    return SetCapacity().plan(given, SetCapacity().observe(given, reader(targets, group)))


@pytest.mark.parametrize(("desired", "maximum", "expected"), [(4, 6, 4), (8, 6, 6), (None, 6, 5), (None, 4, 4)])
def test_capacity_rises_to_what_is_wanted_at_most_to_the_maximum(
    desired: int | None, maximum: int, expected: int
) -> None:
    """And the minimum with it: a policy would scale in again."""
    plan = capacity(scaling_group(*THREE, MaxSize=maximum), desired=desired)
    assert isinstance(plan, PlanDraft)
    (call,) = plan.calls
    assert call.arguments == {"AutoScalingGroupName": GROUP, "MinSize": expected, "DesiredCapacity": expected}
    assert (plan.risk, plan.hazards) == (Risk.LOW, (Hazard.COST,))
    assert plan.undo is not None
    assert plan.undo.calls[0].arguments == {"AutoScalingGroupName": GROUP, "MinSize": 2}


@pytest.mark.parametrize(
    ("group", "targets", "desired", "reason"),
    [
        (scaling_group(*THREE), None, 2, "NotMore"),
        (scaling_group(*THREE), None, 3, "NotMore"),
        (scaling_group(*THREE, MaxSize=3), None, 8, "AtTheMaximum"),
        (scaling_group(*THREE, SuspendedProcesses=suspended("Launch")), None, 4, "LaunchesSuspended"),
        (scaling_group(*THREE), ALIKE, 4, "AllFailAlike"),
    ],
)
def test_capacity_is_never_lowered_nor_raised_where_that_is_no_cure(
    group: Mapping[str, Any], targets: list[Any] | None, desired: int, reason: str
) -> None:
    """An absolute number, as the document gives one, could scale in or pass the maximum."""
    plan = capacity(group, targets, desired=desired)
    assert isinstance(plan, NotApplicable)
    assert plan.reason == reason


def test_scaling_out_that_would_exhaust_the_database_is_held_by_its_budget() -> None:
    """Two instances with a pool of 20 each, and 60 of 100 connections used: over 80 %; with 30 used it passes."""
    plan = capacity(desired=5, pool_size=20, connections_used=60, connections_maximum=100)
    assert isinstance(plan, PlanDraft)
    assert gate(downstream_budget, plan).name == "DownstreamBudget"
    fits = capacity(desired=5, pool_size=20, connections_used=30, connections_maximum=100)
    assert isinstance(fits, PlanDraft)
    assert gate(downstream_budget, fits) is None


def test_a_database_whose_use_is_unknown_makes_a_person_decide() -> None:
    """Unknown is not enough room."""
    plan = capacity(desired=5, pool_size=20)
    assert isinstance(plan, PlanDraft)
    assert plan.ask_because == ("DatabaseUnknown",)


def test_more_capacity_helped_when_it_serves() -> None:
    """In service and healthy for the load balancer; somebody who scales in again is told."""
    fix, inputs = SetCapacity(), CapacityInputs(auto_scaling_group=GROUP, desired=4)
    before = fix.observe(inputs, reader())
    four = scaling_group(*THREE, member(4))
    targets = [target(n) for n in (1, 2, 3)]
    launching = fix.observe(inputs, reader([*targets, target(4, "initial")], four))
    assert fix.judge(inputs, before, launching).outcome is None
    serving = fix.observe(inputs, reader([*targets, target(4)], four))
    assert fix.judge(inputs, before, serving).outcome == "Helped"
    assert fix.judge(inputs, before, before).outcome is None


# --- one by one -------------------------------------------------------------------------------------------------------


def recycle(world: WebReader | None = None, **inputs: Any) -> PlanDraft | NotApplicable:
    """Return what recycling plans."""
    given = RecycleInputs(auto_scaling_group=GROUP, **inputs)
    return RecycleInstances().plan(given, RecycleInstances().observe(given, world or reader()))


def test_recycling_takes_the_worst_first_and_waits_before_each_next() -> None:
    """By private address as a database shows its clients; without decrement; the first call waits for nothing."""
    plan = recycle(hosts=(address(3), address(1), "10.9.9.9"), migration_running=False)
    assert isinstance(plan, PlanDraft)
    assert [c.arguments["InstanceId"] for c in plan.calls] == [instance_id(3), instance_id(1)]
    assert not any(c.arguments["ShouldDecrementDesiredCapacity"] for c in plan.calls)
    assert [c.ready_within is None for c in plan.calls] == [True, False]
    assert plan.risk == Risk.DISRUPTIVE
    assert plan.irreversible


@pytest.mark.parametrize(
    ("world", "inputs", "reason"),
    [
        (None, {"migration_running": True}, "MigrationRunning"),
        (reader(sessions={"migrations": 1}), {"connection": "database"}, "MigrationRunning"),
        (reader(sessions={}), {"connection": "database", "migration_running": True}, "MigrationRunning"),
        (
            reader(sessions={"migrations": 1}),
            {"connection": "database", "migration_running": False},
            "MigrationRunning",
        ),
        (None, {}, "MigrationUnknown"),
        (None, {"migration_running": False, "hosts": ("10.9.9.9",)}, "NoInstances"),
        (None, {"migration_running": False, "hosts": ()}, "NoInstances"),
        (reader(group=scaling_group(*PROTECTED)), {"migration_running": False}, "InstancesProtected"),
        (reader([target(1)], scaling_group(member(1))), {"migration_running": False}, "TooFewServing"),
        (reader([], scaling_group()), {"migration_running": False}, "NoInstances"),
        (
            reader(group=scaling_group(*THREE, SuspendedProcesses=suspended("Launch"))),
            {"migration_running": False},
            "LaunchesSuspended",
        ),
    ],
)
def test_nothing_is_recycled_where_that_would_do_harm(
    world: WebReader | None, inputs: dict[str, Any], reason: str
) -> None:
    """During a migration, or where nobody knows of one; the last that serves; where nothing would be launched."""
    plan = recycle(world, **inputs)
    assert isinstance(plan, NotApplicable)
    assert plan.reason == reason


@pytest.mark.parametrize(
    ("sessions", "reason"),
    [
        (ReadError("ConnectionSlotsExhausted", "no slot"), "ConnectionSlotsExhausted"),
        ({"sees_all": False}, "AccessDenied"),
        ({"migrations": None}, "MalformedAnswer"),
    ],
)
def test_a_database_that_does_not_say_whether_a_migration_runs_is_no_quiet_one(
    sessions: Mapping[str, Any] | Exception, reason: str
) -> None:
    """It is asked each time, whatever was known before; without an answer nothing is planned."""
    with pytest.raises(ReadError) as raised:
        recycle(reader(sessions=sessions), connection="database", migration_running=False)
    assert raised.value.reason == reason


def test_what_was_recycled_is_judged_whatever_runs_by_then() -> None:
    """Judging asks the group alone: a database that lets nobody in does not hide that the instances are new."""
    inputs = RecycleInputs(auto_scaling_group=GROUP, hosts=(instance_id(3),), connection="database")
    fix = RecycleInstances()
    before = fix.observe(inputs, reader(sessions={}))
    world = reader([target(1), target(2), target(4)], scaling_group(member(1), member(2), member(4)))
    assert fix.judge(inputs, before, fix.measure(inputs, world)).outcome == "Helped"


def test_an_instance_that_is_protected_is_left() -> None:
    """Terminating an instance of a group ignores its protection from scale-in, so we heed it."""
    plan = recycle(reader(group=scaling_group(PROTECTED[0], member(2), member(3))), migration_running=False)
    assert isinstance(plan, PlanDraft)
    assert [c.arguments["InstanceId"] for c in plan.calls] == [instance_id(2), instance_id(3)]


@pytest.mark.parametrize(("minimum", "blocked"), [(2, False), (3, True)])
def test_recycling_is_held_where_too_few_would_serve(minimum: int, blocked: bool) -> None:
    """Two of three serve meanwhile: enough for a minimum of two."""
    plan = recycle(reader(group=scaling_group(*THREE, MinSize=minimum)), migration_running=False)
    assert isinstance(plan, PlanDraft)
    assert (gate(health_budget, plan) is not None) is blocked


@pytest.mark.parametrize(
    ("members", "targets", "ready"),
    [
        ((member(1), member(2), member(4)), [target(1), target(2), target(4)], True),
        ((member(1), member(2)), [target(1), target(2)], False),
        ((member(1), member(2), member(4, "Pending")), [target(1), target(2)], False),
        ((member(1), member(2), member(4)), [target(1), target(2), target(4, "initial")], False),
        ((member(1), member(2), member(4), member(3, "Terminating")), [target(1), target(2), target(4)], False),
    ],
)
def test_the_next_one_goes_only_when_the_replacement_serves(
    members: tuple[Any, ...], targets: list[Any], ready: bool
) -> None:
    """In service for the group and healthy for the load balancer, and the old one gone."""
    inputs, fix = RecycleInputs(auto_scaling_group=GROUP, migration_running=False), RecycleInstances()
    before = fix.observe(inputs, reader())
    plan = recycle(hosts=(instance_id(3), instance_id(1)), migration_running=False)
    assert isinstance(plan, PlanDraft)
    now = fix.observe(inputs, reader(targets, scaling_group(*members, DesiredCapacity=3)))
    assert (fix.lacks(plan.calls[:1], inputs, before, now) == "") is ready


def replace(targets: list[Any], *numbers: int) -> PlanDraft | NotApplicable:
    """Return what replacing these instances plans."""
    inputs = ReplaceInputs(auto_scaling_group=GROUP, instances=tuple(instance_id(n) for n in numbers))
    return ReplaceInstances().plan(inputs, ReplaceInstances().observe(inputs, reader(targets)))


def test_only_instances_that_fail_are_replaced() -> None:
    """One that recovered meanwhile, or is of another group, is left."""
    plan = replace([target(1), target(2, "unhealthy", "500"), target(3)], 1, 2, 7)
    assert isinstance(plan, PlanDraft)
    assert [c.arguments["InstanceId"] for c in plan.calls] == [instance_id(2)]
    assert gate(common_cause, plan) is None
    assert isinstance(replace([target(1), target(2), target(3)], 1, 2), NotApplicable)


def test_replacing_what_fails_alike_is_held_by_its_gate() -> None:
    """What they share is broken: replacing them is no cure."""
    plan = replace(ALIKE, 1, 2, 3)
    assert isinstance(plan, PlanDraft)
    assert gate(common_cause, plan).name == "CommonCause"


@pytest.mark.parametrize("lifecycle", ["Terminating", "Terminating:Wait", "Terminated"])
def test_an_interrupted_termination_is_seen_by_the_instance(lifecycle: str) -> None:
    """So that it is not made again; one still in service was not terminated."""
    plan = recycle(hosts=(instance_id(3),), migration_running=False)
    assert isinstance(plan, PlanDraft)
    fix, inputs = RecycleInstances(), RecycleInputs(auto_scaling_group=GROUP, migration_running=False)
    leaving = fix.observe(inputs, reader(group=scaling_group(member(1), member(2), member(3, lifecycle))))
    assert fix.applied(plan.calls[0], inputs, leaving) is True
    assert fix.applied(plan.calls[0], inputs, fix.observe(inputs, reader())) is False
    gone = fix.observe(inputs, reader(group=scaling_group(member(1), member(2))))
    assert fix.applied(plan.calls[0], inputs, gone) is True
