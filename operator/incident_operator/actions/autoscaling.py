"""Auto Scaling groups: capacity, processes, activities; suspend and resume, raise capacity, replace one by one.

A group that checks by its load balancer replaces what the load balancer calls unhealthy, in a loop where all fail
alike. Capacity is never lowered here, and the minimum rises with it: a policy would scale back in what a person or a
machine added. Instances are replaced one at a time, each replacement in service and healthy before the next goes.
Source: facts on AWS (section 4, rows 11, 14, 16), on verification, on tickets (INC-2023-3421, INC-2023-2890).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..api.meta import Duration, Risk, parse_instant
from ..api.plan import Call, Capacity, DiffLine, Downstream, Guard, Hazard, Precondition, Read, Repeat, Undo, Verify
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft
from ..core.gates import DOWNSTREAM_SHARE
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Inputs, Output, ReasonInfo, Unclear, register
from .elbv2 import MOST, read_target_health
from .ports import NotFound, Reader, ReadError

CALL_TIMEOUT = timedelta(seconds=10)
#: A plan holds so many calls.
_MAX_REPLACED = 16
#: What a replacement takes besides the group's grace period: boot, registration, the first health checks.
_SETTLE = timedelta(seconds=150)
Process = Literal[
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
]
#: Without these a group does not grow when it should.
_SCALING = ("Launch", "AlarmNotification", "ScheduledActions", "AddToLoadBalancer", "HealthCheck")


class ScalingGroupInputs(Inputs):
    """A group, by name."""

    auto_scaling_group: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_./:@ -]{1,255}$")
    region: str | None = None


class Member(ActionModel):
    """An instance of a group."""

    id: str
    lifecycle: str
    health: str

    @property
    def in_service(self) -> bool:
        """Whether the group counts it as serving."""
        return self.lifecycle == "InService" and self.health == "Healthy"


class Suspended(ActionModel):
    """A suspended process; since when, where Auto Scaling says."""

    process: str
    at: datetime | None = None


class ScalingGroup(ActionModel):
    """A group as it is. Units: seconds."""

    name: str
    arn: str
    minimum: int
    maximum: int
    desired: int
    health_check: str
    grace: int
    target_groups: tuple[str, ...]
    members: tuple[Member, ...]
    suspended: tuple[Suspended, ...]

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of what is suspended."""
        return tuple(s.process for s in self.suspended)


def read_scaling_group(inputs: ScalingGroupInputs, reader: Reader) -> ScalingGroup:
    """Return the group. Errors: ReadError NotFound where there is none: AWS answers an empty list."""
    found = reader.aws(
        "autoscaling",
        "describe_auto_scaling_groups",
        {"AutoScalingGroupNames": [inputs.auto_scaling_group]},
        region=inputs.region,
    )
    if not found:
        raise NotFound(f"there is no Auto Scaling group {inputs.auto_scaling_group}")
    group = found[0]
    if len(group["Instances"]) > MOST:
        raise ReadError("InvalidRequest", f"{inputs.auto_scaling_group} has more than {MOST} instances")
    members = [
        Member(id=i["InstanceId"], lifecycle=i["LifecycleState"], health=i["HealthStatus"]) for i in group["Instances"]
    ]
    return ScalingGroup(
        name=group["AutoScalingGroupName"],
        arn=group["AutoScalingGroupARN"],
        minimum=group["MinSize"],
        maximum=group["MaxSize"],
        desired=group["DesiredCapacity"],
        health_check=group.get("HealthCheckType", "EC2"),
        grace=group.get("HealthCheckGracePeriod", 0),
        target_groups=tuple(group.get("TargetGroupARNs", ())),
        members=tuple(sorted(members, key=lambda m: m.id)),
        suspended=tuple(
            Suspended(process=s["ProcessName"], at=parse_instant(s["SuspendedAt"]) if s.get("SuspendedAt") else None)
            for s in group.get("SuspendedProcesses", ())
        ),
    )


def reading(group: ScalingGroup) -> Read:
    """Return the read that guards and preconditions about a group make."""
    return Read(
        service="autoscaling",
        operation="describe_auto_scaling_groups",
        arguments={"AutoScalingGroupNames": [group.name]},
    )


class Fleet(ActionModel):
    """A group, and which of its instances serve: in service, and healthy in every target group of it."""

    group: ScalingGroup
    serving: tuple[str, ...]
    #: In service and healthy in every target group, but marked unhealthy by the group: the mark never goes by itself.
    marked: tuple[str, ...] = ()
    #: Every target of some target group fails for the same reason.
    alike: bool = False


def read_serving(inputs: ScalingGroupInputs, reader: Reader) -> Fleet:
    """Return the group and which of its instances serve. Errors: ReadError."""
    group = read_scaling_group(inputs, reader)
    for arn in group.target_groups:
        reader.prefetch("elbv2", "describe_target_health", {"TargetGroupArn": arn}, region=group.region)
    well = {m.id for m in group.members if m.lifecycle == "InService"}
    alike = False
    for arn in group.target_groups:
        targets = read_target_health(arn, reader, group.region)
        bad = {(t.reason, t.codes) for t in targets if t.state == "unhealthy"}
        alike = alike or (len(targets) > 1 and all(t.state == "unhealthy" for t in targets) and len(bad) == 1)
        well &= {t.id for t in targets if t.state == "healthy"}
    healthy = {m.id for m in group.members if m.in_service}
    return Fleet(
        group=group,
        serving=tuple(sorted(well & healthy)),
        marked=tuple(sorted(well - healthy)) if group.target_groups else (),
        alike=alike,
    )


# --- autoscaling.group ------------------------------------------------------------------------------------------------


class GroupFacts(Facts):
    """The group, as it is."""

    group: ScalingGroup


class GroupOutput(Output):
    """Capacity, instances by state, and what is suspended."""

    group_arn: str
    minimum: int
    maximum: int
    desired: int
    in_service: int
    states: dict[str, int]
    health_check: str
    grace: int
    suspended: tuple[str, ...]


@register
class GroupCapacity(CheckAction[ScalingGroupInputs, GroupFacts]):
    """What the group should have, what it has, and what it was told not to do."""

    name = "autoscaling.group"
    title = "Capacity, instances and suspended processes"
    inputs_model = ScalingGroupInputs
    facts_model = GroupFacts
    reads = ("autoscaling:DescribeAutoScalingGroups",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "CapacityMissing": ReasonInfo(doc="Fewer instances are in service than the group should have."),
        "GroupIsEmpty": ReasonInfo(doc="The group is told to have no instances at all.", root_cause=True),
        "ReplacementSuspended": ReasonInfo(doc="The group does not replace unhealthy instances: it was told not to."),
        "ScalingSuspended": ReasonInfo(doc="A process that growing needs is suspended.", root_cause=True),
        "AtMaximum": ReasonInfo(doc="The group has the most instances that it may have.", kind=FindingKind.INFO),
    }

    def observe(self, inputs: ScalingGroupInputs, reader: Reader) -> GroupFacts:
        """Read the group. Errors: NotFound for a group that does not exist."""
        return GroupFacts(group=read_scaling_group(inputs, reader))

    def output(self, facts: GroupFacts) -> GroupOutput:
        """Return the counts."""
        group = facts.group
        return GroupOutput(
            group_arn=group.arn,
            minimum=group.minimum,
            maximum=group.maximum,
            desired=group.desired,
            in_service=sum(m.in_service for m in group.members),
            states=dict(Counter(m.lifecycle for m in group.members).most_common(8)),
            health_check=group.health_check,
            grace=group.grace,
            suspended=group.processes,
        )

    def findings(self, inputs: ScalingGroupInputs, facts: GroupFacts) -> Sequence[Found] | Unclear:
        """Compare what there is with what there should be."""
        group, found = facts.group, []
        serving = sum(m.in_service for m in group.members)
        if group.desired == 0 and group.maximum > 0:
            message = f"{group.name} is told to have no instances"
            found.append(Found(reason="GroupIsEmpty", message=message, subject=group.name))
        if serving < group.desired:
            message = f"{serving} of {group.desired} instances of {group.name} are in service"
            found.append(Found(reason="CapacityMissing", message=message, subject=group.name))
        if "ReplaceUnhealthy" in group.processes:
            message = f"{group.name} does not replace unhealthy instances: ReplaceUnhealthy is suspended"
            found.append(Found(reason="ReplacementSuspended", message=message, subject=group.name))
        stopped = [p for p in group.processes if p in _SCALING]
        if stopped:
            message = f"{group.name} can't grow: {', '.join(stopped)} suspended"
            found.append(Found(reason="ScalingSuspended", message=message, subject=group.name))
        if 0 < group.maximum <= group.desired:
            message = f"{group.name} has {group.desired} of at most {group.maximum} instances"
            found.append(Found(reason="AtMaximum", message=message, subject=group.name))
        return found


# --- autoscaling.activities -------------------------------------------------------------------------------------------


class ActivityInputs(ScalingGroupInputs):
    """From how many replaced instances on it is a loop."""

    loop_from: int = Field(2, ge=2)


class ActivityFacts(Facts):
    """What the group did since the incident began: counts, and EC2's codes of what failed."""

    launches: int = 0
    terminations: int = 0
    failed: dict[str, int] = Field(default_factory=dict)
    replaced: int = 0
    last_at: datetime | None = None


class ActivityOutput(Output):
    """The same."""

    launches: int
    terminations: int
    failed_launches: int
    codes: dict[str, int]
    replaced: int
    last_at: str = ""


@register
class Activities(CheckAction[ActivityInputs, ActivityFacts]):
    """What the group did: launches that fail, and instances that it replaces over and over."""

    name = "autoscaling.activities"
    title = "Scaling activities"
    inputs_model = ActivityInputs
    facts_model = ActivityFacts
    reads = ("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "LaunchesFail": ReasonInfo(doc="The group tries to launch instances and EC2 refuses.", root_cause=True),
        "ReplacingInLoop": ReasonInfo(doc="The group takes instances out of service for their health over and over."),
    }

    def observe(self, inputs: ActivityInputs, reader: Reader) -> ActivityFacts:
        """Read what was done since the incident began. Errors: NotFound for a group that does not exist."""
        group = read_scaling_group(inputs, reader)
        listed = reader.aws(
            "autoscaling",
            "describe_scaling_activities",
            {"AutoScalingGroupName": group.name},
            region=inputs.region,
        )
        times = [parse_instant(str(activity["StartTime"])) for activity in listed]
        since = [a for a, at in zip(listed, times, strict=True) if at >= reader.since]
        failed = [a for a in since if a["StatusCode"] == "Failed" and a["Kind"] == "Launch"]
        done = [a for a in since if a["StatusCode"] not in ("Failed", "Cancelled")]
        return ActivityFacts(
            launches=sum(a["Kind"] == "Launch" for a in done),
            terminations=sum(a["Kind"] == "Terminate" for a in done),
            failed=dict(Counter(a["Code"] for a in failed).most_common(6)),
            replaced=len({a["InstanceId"] for a in done if a["Kind"] == "Terminate" and a["ForHealth"]}),
            last_at=max(times, default=None),
        )

    def output(self, facts: ActivityFacts) -> ActivityOutput:
        """Return the counts."""
        return ActivityOutput(
            launches=facts.launches,
            terminations=facts.terminations,
            failed_launches=sum(facts.failed.values()),
            codes=facts.failed,
            replaced=facts.replaced,
            last_at=f"{facts.last_at:%Y-%m-%dT%H:%M:%SZ}" if facts.last_at else "",
        )

    def findings(self, inputs: ActivityInputs, facts: ActivityFacts) -> Sequence[Found] | Unclear:
        """Say what failed, and what goes in a circle."""
        found, name = [], inputs.auto_scaling_group
        if facts.failed:
            codes = ", ".join(f"{n} × {code}" for code, n in facts.failed.items())
            message = f"launches of {name} fail: {codes}"
            found.append(Found(reason="LaunchesFail", message=message, subject=name))
        if facts.replaced >= inputs.loop_from:
            message = f"{name} took {facts.replaced} instances out of service for their health"
            found.append(Found(reason="ReplacingInLoop", message=message, subject=name))
        return found


# --- autoscaling.suspend-processes, autoscaling.resume-processes ------------------------------------------------------


class ProcessInputs(ScalingGroupInputs):
    """Which processes."""

    processes: tuple[Process, ...] = Field(("ReplaceUnhealthy",), min_length=1, max_length=9)


class ProcessFacts(Facts):
    """The group."""

    group: ScalingGroup


class ProcessEffect(Facts):
    """The group after it, and how many activities began since."""

    group: ScalingGroup
    activities: int = 0


def process_call(operation: str, group: ScalingGroup, processes: Sequence[str]) -> Call:
    """Return the call that suspends or resumes processes of a group."""
    permission = {"suspend_processes": "SuspendProcesses", "resume_processes": "ResumeProcesses"}[operation]
    word = operation.split("_")[0]
    return Call(
        service="autoscaling",
        operation=operation,
        arguments={"AutoScalingGroupName": group.name, "ScalingProcesses": list(processes)},
        permissions=(f"autoscaling:{permission}",),
        resources=(group.arn,),
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary=f"{word} {', '.join(processes)} of {group.name}",
    )


def unmark_call(group: ScalingGroup, instance: str) -> Call:
    """Return the call that takes the mark off an instance that serves."""
    return Call(
        service="autoscaling",
        operation="set_instance_health",
        arguments={"InstanceId": instance, "HealthStatus": "Healthy", "ShouldRespectGracePeriod": False},
        permissions=("autoscaling:SetInstanceHealth",),
        resources=(group.arn,),
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary=f"take the mark Unhealthy off {instance}, which {group.name}'s load balancer finds healthy",
    )


@register
class SuspendProcesses(FixAction[ProcessInputs, ProcessFacts]):
    """Keep the group from doing something, such as replacing instances in a loop."""

    name = "autoscaling.suspend-processes"
    title = "Suspend processes of the group"
    inputs_model = ProcessInputs
    facts_model = ProcessFacts
    reads = ("autoscaling:DescribeAutoScalingGroups",)
    writes = ("autoscaling:SuspendProcesses", "autoscaling:ResumeProcesses")
    risk = "Low: users notice nothing; unhealthy instances stay until the process is resumed."
    undo = "The processes are resumed."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AlreadySuspended": ReasonInfo(doc="The group does not do it already."),
    }

    def observe(self, inputs: ProcessInputs, reader: Reader) -> ProcessFacts:
        """Read the group."""
        return ProcessFacts(group=read_scaling_group(inputs, reader))

    def plan(self, inputs: ProcessInputs, facts: ProcessFacts) -> PlanDraft | NotApplicable:
        """Plan one call for those that are not suspended."""
        group = facts.group
        wanted = sorted(set(inputs.processes) - set(group.processes))
        if not wanted:
            message = f"{', '.join(inputs.processes)} of {group.name} is suspended already"
            return NotApplicable(reason="AlreadySuspended", message=message)
        return PlanDraft(
            title=f"suspend {', '.join(wanted)} of {group.name}",
            calls=(process_call("suspend_processes", group, wanted),),
            touches=(group.arn,),
            risk=Risk.LOW,
            region=group.region,
            verify=Verify(
                signal=f"{', '.join(wanted)} of {group.name} is suspended",
                wait=timedelta(seconds=10),
                every=timedelta(seconds=10),
                deadline=timedelta(minutes=2),
            ),
            diff=tuple(DiffLine(what=f"{p} of {group.name}", before="on", after="suspended") for p in wanted),
            undo=Undo(
                calls=(process_call("resume_processes", group, wanted),),
                safe_when="nobody suspended or resumed anything since; instances that are unhealthy then are replaced",
                guards=(Guard(read=reading(group), path="0.SuspendedProcesses"),),
            ),
        )

    def applied(self, call: Call, inputs: ProcessInputs, facts: ProcessFacts) -> bool | None:
        """Tell by what is suspended."""
        meant = set(call.arguments["ScalingProcesses"])
        suspended = set(facts.group.processes)
        return meant <= suspended if call.operation == "suspend_processes" else not meant & suspended

    def judge(self, inputs: ProcessInputs, before: ProcessFacts, after: ProcessFacts) -> Judgement:
        """Suspended is what was wanted."""
        missing = sorted(set(inputs.processes) - set(after.group.processes))
        if missing:
            message = f"{', '.join(missing)} of {after.group.name} is not suspended"
            return Judgement(outcome=None, measured=True, message=message)
        message = f"{', '.join(inputs.processes)} of {after.group.name} is suspended"
        return Judgement(outcome="Helped", measured=True, message=message)


class ResumeInputs(ProcessInputs):
    """How short ago a process was suspended for it to be of this incident: real, since people's doings are."""

    suspended_within: Duration = timedelta(hours=1)


class ResumeFacts(Facts):
    """The group and which of it serve; `recent`: what is meant and suspended was suspended a short while ago."""

    fleet: Fleet
    recent: bool = False


@register
class ResumeProcesses(FixAction[ResumeInputs, ResumeFacts]):
    """Let the group do again what it was kept from.

    An instance that was marked unhealthy while it was kept from replacing stays marked, and is terminated as soon as
    replacing is resumed: marks of instances that are healthy for their load balancer are taken off first.
    """

    name = "autoscaling.resume-processes"
    title = "Resume processes of the group"
    inputs_model = ResumeInputs
    facts_model = ResumeFacts
    reads = (
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeScalingActivities",
        "elasticloadbalancing:DescribeTargetHealth",
    )
    writes = ("autoscaling:ResumeProcesses", "autoscaling:SuspendProcesses", "autoscaling:SetInstanceHealth")
    risk = "Low: the group may launch, replace or scale in at once what it was kept from."
    undo = "The processes are suspended again."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NotSuspended": ReasonInfo(doc="None of the processes is suspended."),
        "AllFailAlike": ReasonInfo(doc="Every target fails alike: the group would replace all of them, over and over."),
    }

    def observe(self, inputs: ResumeInputs, reader: Reader) -> ResumeFacts:
        """Read the group and its targets, and how long ago the processes were suspended."""
        fleet = read_serving(inputs, reader)
        meant = [s for s in fleet.group.suspended if s.process in inputs.processes]
        start = reader.now - inputs.suspended_within
        return ResumeFacts(fleet=fleet, recent=all(s.at is not None and s.at >= start for s in meant))

    def plan(self, inputs: ResumeInputs, facts: ResumeFacts) -> PlanDraft | NotApplicable:
        """Plan one call for those that are suspended; a suspension from before the incident is asked for."""
        fleet = facts.fleet
        group = fleet.group
        wanted = sorted(set(inputs.processes) & set(group.processes))
        if not wanted:
            message = f"{', '.join(inputs.processes)} of {group.name} is not suspended"
            return NotApplicable(reason="NotSuspended", message=message)
        replacing = "ReplaceUnhealthy" in wanted
        if replacing and fleet.alike:
            message = f"every target of {group.name} fails alike: it would replace all of them, over and over"
            return NotApplicable(reason="AllFailAlike", message=message)
        marked = fleet.marked[: _MAX_REPLACED - 1] if replacing else ()
        return PlanDraft(
            title=f"resume {', '.join(wanted)} of {group.name}",
            calls=(
                *(unmark_call(group, id_) for id_ in marked),
                process_call("resume_processes", group, wanted),
            ),
            touches=(group.arn,),
            risk=Risk.LOW,
            region=group.region,
            ask_because=() if facts.recent else ("SuspendedBefore",),
            verify=Verify(
                signal=f"{', '.join(wanted)} of {group.name} goes on, and the group has what it should have",
                wait=timedelta(seconds=10),
                every=timedelta(seconds=20),
                deadline=timedelta(minutes=10),
            ),
            diff=(
                *(DiffLine(what=f"health mark of {id_}", before="Unhealthy", after="Healthy") for id_ in marked),
                *(DiffLine(what=f"{p} of {group.name}", before="suspended", after="on") for p in wanted),
            ),
            undo=Undo(
                calls=(process_call("suspend_processes", group, wanted),),
                safe_when="nobody suspended or resumed anything since",
                guards=(Guard(read=reading(group), path="0.SuspendedProcesses"),),
            ),
        )

    def applied(self, call: Call, inputs: ResumeInputs, facts: ResumeFacts) -> bool | None:
        """Tell by what is suspended, and how instances are marked."""
        if call.operation == "set_instance_health":
            health = {m.id: m.health for m in facts.fleet.group.members}.get(call.arguments["InstanceId"])
            return bool(health == call.arguments["HealthStatus"])
        meant, suspended = set(call.arguments["ScalingProcesses"]), set(facts.fleet.group.processes)
        return not meant & suspended if call.operation == "resume_processes" else meant <= suspended

    def measure(self, inputs: ResumeInputs, reader: Reader) -> ProcessEffect:
        """Read the group, and what it began since the call."""
        group = read_scaling_group(inputs, reader)
        listed = reader.aws(
            "autoscaling",
            "describe_scaling_activities",
            {"AutoScalingGroupName": group.name},
            region=inputs.region,
        )
        begun = sum(parse_instant(str(activity["StartTime"])) >= reader.since for activity in listed)
        return ProcessEffect(group=group, activities=begun)

    def judge(self, inputs: ResumeInputs, before: ResumeFacts, after: ProcessEffect) -> Judgement:
        """Not suspended any more; and a group that lacks instances has begun to launch them."""
        group = after.group
        still = sorted(set(inputs.processes) & set(group.processes))
        if still:
            return Judgement(outcome=None, measured=True, message=f"{', '.join(still)} of {group.name} is suspended")
        serving = sum(m.in_service for m in group.members)
        told = f"{serving} of {group.desired} instances of {group.name} are in service, {after.activities} activities"
        if serving < group.desired and not after.activities:
            return Judgement(outcome=None, measured=True, message=told, waiting_for="a scaling activity")
        return Judgement(outcome="Helped", measured=True, message=told)


# --- autoscaling.set-capacity -----------------------------------------------------------------------------------------


class CapacityInputs(ScalingGroupInputs):
    """How many instances are wanted, and what each takes of a database.

    `desired` left out: half as many again. `pool_size`: connections that one instance may open; with it, how many are
    used of how many, as a check found.
    """

    desired: int | None = Field(None, ge=1)
    pool_size: int | None = Field(None, ge=0)
    connections_used: int | None = Field(None, ge=0)
    connections_maximum: int | None = Field(None, ge=1)


class CapacityFacts(Facts):
    """The group, and which of its instances serve."""

    fleet: Fleet


@register
class SetCapacity(FixAction[CapacityInputs, CapacityFacts]):
    """Add instances: more than now, at most the group's maximum; the minimum rises too."""

    name = "autoscaling.set-capacity"
    title = "Add instances"
    inputs_model = CapacityInputs
    facts_model = CapacityFacts
    reads = ("autoscaling:DescribeAutoScalingGroups", "elasticloadbalancing:DescribeTargetHealth")
    writes = ("autoscaling:UpdateAutoScalingGroup",)
    risk = "Low: users notice nothing; it costs more, and each instance opens connections to the database."
    undo = "The minimum is as it was; the group's policies, or a person, scale in again."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AtTheMaximum": ReasonInfo(doc="The group has the most instances that it may have."),
        "NotMore": ReasonInfo(doc="The group has as many already: capacity is never lowered here."),
        "LaunchesSuspended": ReasonInfo(doc="The group is told not to launch: more capacity would never come."),
        "AllFailAlike": ReasonInfo(doc="Every instance fails alike: more of the same cure nothing."),
    }

    def observe(self, inputs: CapacityInputs, reader: Reader) -> CapacityFacts:
        """Read the group and its targets."""
        return CapacityFacts(fleet=read_serving(inputs, reader))

    def plan(self, inputs: CapacityInputs, facts: CapacityFacts) -> PlanDraft | NotApplicable:
        """Plan one call that sets minimum and desired capacity."""
        group = facts.fleet.group
        asked = inputs.desired if inputs.desired is not None else group.desired + max(1, (group.desired + 1) // 2)
        wanted = min(group.maximum, asked)
        if asked <= group.desired:
            message = f"{group.name} has {group.desired} instances already, {asked} are asked for"
            return NotApplicable(reason="NotMore", message=message)
        if wanted <= group.desired:
            message = f"{group.name} has {group.desired} instances, its maximum: raising that is for a person"
            return NotApplicable(reason="AtTheMaximum", message=message)
        if "Launch" in group.processes:
            message = f"Launch of {group.name} is suspended: resume it first"
            return NotApplicable(reason="LaunchesSuspended", message=message)
        if facts.fleet.alike:
            message = f"every target of {group.name} fails alike: more of the same cure nothing"
            return NotApplicable(reason="AllFailAlike", message=message)
        minimum = max(group.minimum, wanted)
        added = wanted - group.desired
        downstream = None
        if inputs.pool_size and inputs.connections_used is not None and inputs.connections_maximum is not None:
            downstream = Downstream(
                used=inputs.connections_used, added=added * inputs.pool_size, maximum=inputs.connections_maximum
            )
        unknown = bool(inputs.pool_size) and downstream is None
        read = reading(group)
        return PlanDraft(
            title=f"raise {group.name} from {group.desired} to {wanted} instances",
            calls=(self._set(group, minimum, wanted),),
            touches=(group.arn,),
            risk=Risk.LOW,
            hazards=(Hazard.COST,),
            region=group.region,
            ask_because=("DatabaseUnknown",) if unknown else (),
            downstream=downstream,
            preconditions=tuple(
                Precondition(read=read, path=f"0.{name}", equals=value)
                for name, value in (
                    ("MinSize", group.minimum),
                    ("MaxSize", group.maximum),
                    ("DesiredCapacity", group.desired),
                )
            ),
            verify=Verify(
                signal=f"{wanted} instances of {group.name} are in service and healthy",
                wait=timedelta(seconds=group.grace) + timedelta(seconds=60),
                every=timedelta(seconds=20),
                deadline=max(timedelta(minutes=15), timedelta(seconds=group.grace) + timedelta(minutes=5)),
            ),
            diff=(
                DiffLine(what=f"desired capacity of {group.name}", before=str(group.desired), after=str(wanted)),
                DiffLine(what=f"minimum of {group.name}", before=str(group.minimum), after=str(minimum)),
                *self._database(inputs, added),
            ),
            undo=Undo(
                calls=(self._set(group, group.minimum, None),),
                safe_when="minimum and maximum are as the fix left them; the instances stay until a policy or a "
                "person scales in",
                guards=(Guard(read=read, path="0.MinSize"), Guard(read=read, path="0.MaxSize")),
            ),
        )

    @staticmethod
    def _database(inputs: CapacityInputs, added: int) -> tuple[DiffLine, ...]:
        if not inputs.pool_size:
            return ()
        used, maximum = inputs.connections_used, inputs.connections_maximum
        most = f"; at most {DOWNSTREAM_SHARE:.0%} of {maximum} may be" if maximum is not None else ""
        return (
            DiffLine(
                what="database connections",
                before="unknown" if used is None else str(used),
                after=f"up to {added * inputs.pool_size} more{most}",
            ),
        )

    @staticmethod
    def _set(group: ScalingGroup, minimum: int, desired: int | None) -> Call:
        arguments: dict[str, Any] = {"AutoScalingGroupName": group.name, "MinSize": minimum}
        if desired is not None:
            arguments["DesiredCapacity"] = desired
        also = f", the desired capacity to {desired}" if desired is not None else ""
        return Call(
            service="autoscaling",
            operation="update_auto_scaling_group",
            arguments=arguments,
            permissions=("autoscaling:UpdateAutoScalingGroup",),
            resources=(group.arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            summary=f"set the minimum of {group.name} to {minimum}{also}",
        )

    def applied(self, call: Call, inputs: CapacityInputs, facts: CapacityFacts) -> bool | None:
        """Tell by minimum and desired capacity."""
        group = facts.fleet.group
        same = group.minimum == call.arguments["MinSize"]
        return bool(same and call.arguments.get("DesiredCapacity", group.desired) == group.desired)

    def judge(self, inputs: CapacityInputs, before: CapacityFacts, after: CapacityFacts) -> Judgement:
        """As many serve as are wanted, and more than before."""
        group, serving = after.fleet.group, len(after.fleet.serving)
        told = f"{serving} of {group.desired} instances of {group.name} are in service and healthy"
        if group.desired <= before.fleet.group.desired:
            message = f"{told}: somebody, or a policy, scaled in again"
            return Judgement(outcome=None, measured=True, message=message)
        if serving < group.desired:
            return Judgement(outcome=None, measured=True, message=told)
        return Judgement(outcome="Helped", measured=True, message=told)


# --- autoscaling.replace-instances, autoscaling.recycle-instances -----------------------------------------------------


class FleetFacts(Facts):
    """The group, which of its instances serve, and their private addresses, where those are asked for."""

    fleet: Fleet
    addresses: dict[str, str] = Field(default_factory=dict)


def terminate_calls(fleet: Fleet, ids: Sequence[str]) -> tuple[Call, ...]:
    """Return the calls that replace instances one by one: each after the first waits until the group is whole."""
    group = fleet.group
    patience = timedelta(seconds=group.grace) + 2 * _SETTLE
    return tuple(
        Call(
            service="autoscaling",
            operation="terminate_instance_in_auto_scaling_group",
            arguments={"InstanceId": id_, "ShouldDecrementDesiredCapacity": False},
            permissions=("autoscaling:TerminateInstanceInAutoScalingGroup",),
            resources=(group.arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            ready_within=patience if number else None,
            summary=f"terminate {id_}, which {group.name} replaces"
            + (f", once what replaces {ids[number - 1]} serves" if number else ""),
        )
        for number, id_ in enumerate(ids)
    )


def terminated(calls: Sequence[Call]) -> tuple[str, ...]:
    """Return the instances that these calls terminate."""
    return tuple(call.arguments["InstanceId"] for call in calls)


def not_replaced(gone: Sequence[str], before: Fleet, now: Fleet, wanted: int) -> str:
    """Say what is missing before an instance more may go: those terminated are gone, and as many serve as should."""
    there = {m.id for m in now.group.members} & set(gone)
    if there:
        return f"{', '.join(sorted(there))} of {now.group.name} is not gone yet"
    if len(now.serving) < wanted:
        return f"{len(now.serving)} of {wanted} instances of {now.group.name} are in service and healthy"
    return ""


def replacing_draft(title: str, fleet: Fleet, ids: Sequence[str], *, wanted: int, healthy_after: int) -> PlanDraft:
    """Return the plan that replaces these instances, one after the other. `wanted`: so many serve in the end."""
    group = fleet.group
    each = timedelta(seconds=group.grace) + _SETTLE
    return PlanDraft(
        title=title,
        calls=terminate_calls(fleet, ids),
        touches=(group.arn,),
        risk=Risk.DISRUPTIVE,
        region=group.region,
        common_cause=fleet.alike,
        capacity=Capacity(healthy_before=len(fleet.serving), healthy_after=healthy_after, minimum=group.minimum),
        verify=Verify(
            signal=f"{wanted} instances of {group.name} are in service and healthy, none of them one of these",
            wait=timedelta(seconds=30),
            every=timedelta(seconds=20),
            deadline=each + timedelta(minutes=12),
        ),
        diff=tuple(DiffLine(what=f"instance {id_}", before="in the group", after="replaced") for id_ in ids),
        irreversible="a terminated instance is gone; the group launches another in its place",
    )


class ReplaceInputs(ScalingGroupInputs):
    """Which instances, as a check found them."""

    instances: tuple[str, ...] = Field((), max_length=64)


@register
class ReplaceInstances(FixAction[ReplaceInputs, FleetFacts]):
    """Terminate instances that do not serve, one by one; the group launches others in their place."""

    name = "autoscaling.replace-instances"
    title = "Replace unhealthy instances"
    inputs_model = ReplaceInputs
    facts_model = FleetFacts
    reads = ("autoscaling:DescribeAutoScalingGroups", "elasticloadbalancing:DescribeTargetHealth")
    writes = ("autoscaling:TerminateInstanceInAutoScalingGroup",)
    risk = "Disruptive: what runs on those instances ends; each replacement serves before the next one goes."
    undo = "None: a terminated instance is gone."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NotOfTheGroup": ReasonInfo(doc="None of these instances is in the group and fails to serve."),
        "LaunchesSuspended": ReasonInfo(doc="The group is told not to launch: nothing would come in their place."),
    }

    def observe(self, inputs: ReplaceInputs, reader: Reader) -> FleetFacts:
        """Read the group and its targets."""
        return FleetFacts(fleet=read_serving(inputs, reader))

    def plan(self, inputs: ReplaceInputs, facts: FleetFacts) -> PlanDraft | NotApplicable:
        """Plan one call for each that is of the group, in service by the group's word, and does not serve."""
        fleet = facts.fleet
        group = fleet.group
        failing = {m.id for m in group.members if m.lifecycle == "InService"} - set(fleet.serving)
        ids = [id_ for id_ in dict.fromkeys(inputs.instances) if id_ in failing][:_MAX_REPLACED]
        if not ids:
            message = f"none of {len(inputs.instances)} instances is in {group.name} and fails to serve"
            return NotApplicable(reason="NotOfTheGroup", message=message)
        if "Launch" in group.processes:
            message = f"Launch of {group.name} is suspended: nothing would come in their place"
            return NotApplicable(reason="LaunchesSuspended", message=message)
        title = f"replace {len(ids)} unhealthy of {len(group.members)} instances of {group.name}, one by one"
        serving = len(fleet.serving)
        return replacing_draft(title, fleet, ids, wanted=serving + len(ids), healthy_after=serving)

    def lacks(self, made: Sequence[Call], inputs: ReplaceInputs, before: FleetFacts, facts: FleetFacts) -> str:
        """The replacement of each one terminated so far serves."""
        gone = terminated(made)
        return not_replaced(gone, before.fleet, facts.fleet, len(before.fleet.serving) + len(gone))

    def applied(self, call: Call, inputs: ReplaceInputs, facts: FleetFacts) -> bool | None:
        """Tell by whether the instance is still in service."""
        return _is_leaving(call, facts.fleet)

    def judge(self, inputs: ReplaceInputs, before: FleetFacts, after: FleetFacts) -> Judgement:
        """As many serve as before, and one more for each that was replaced."""
        was = before.fleet
        failing = {m.id for m in was.group.members if m.lifecycle == "InService"} - set(was.serving)
        gone = [id_ for id_ in dict.fromkeys(inputs.instances) if id_ in failing][:_MAX_REPLACED]
        return _judge_fleet(gone, was, after.fleet, len(was.serving) + len(gone))


def _is_leaving(call: Call, fleet: Fleet) -> bool:
    lifecycle = {m.id: m.lifecycle for m in fleet.group.members}.get(call.arguments["InstanceId"])
    return lifecycle is None or lifecycle.startswith("Terminat")


def _judge_fleet(gone: Sequence[str], before: Fleet, after: Fleet, wanted: int) -> Judgement:
    missing = not_replaced(gone, before, after, min(wanted, max(after.group.desired, len(before.serving))))
    if missing:
        return Judgement(outcome=None, measured=True, message=missing)
    message = f"{len(after.serving)} instances of {after.group.name} are in service and healthy, {len(gone)} are new"
    return Judgement(outcome="Helped", measured=True, message=message)


class RecycleInputs(ScalingGroupInputs):
    """Whose turn it is, the worst first; and whether a migration runs, which a restart would cut in two.

    `hosts`: private addresses or instance ids, as a check found them; empty: every instance of the group.
    `migration_running` left out: unknown, and nothing is recycled.
    """

    hosts: tuple[str, ...] = Field((), max_length=64)
    migration_running: bool | None = None


@register
class RecycleInstances(FixAction[RecycleInputs, FleetFacts]):
    """Replace instances that serve, one by one, the worst first: what each holds (connections, memory) is let go."""

    name = "autoscaling.recycle-instances"
    title = "Recycle instances one by one"
    inputs_model = RecycleInputs
    facts_model = FleetFacts
    reads = (
        "autoscaling:DescribeAutoScalingGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "ec2:DescribeInstances",
    )
    writes = ("autoscaling:TerminateInstanceInAutoScalingGroup",)
    risk = "Disruptive: one instance less serves at a time, and the new ones begin with cold caches."
    undo = "None: a terminated instance is gone; the group's size is never changed."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "MigrationRunning": ReasonInfo(doc="A migration runs: replacing its instance would cut it in two."),
        "MigrationUnknown": ReasonInfo(doc="Whether a migration runs is not known."),
        "NoInstances": ReasonInfo(doc="None of these hosts is an instance of the group that is in service."),
        "LaunchesSuspended": ReasonInfo(doc="The group is told not to launch: nothing would come in their place."),
        "TooFewServing": ReasonInfo(doc="No other instance serves: the last one is never taken."),
    }

    def observe(self, inputs: RecycleInputs, reader: Reader) -> FleetFacts:
        """Read the group, its targets, and the addresses of its instances where hosts are given."""
        fleet = read_serving(inputs, reader)
        addresses: dict[str, str] = {}
        ids = [m.id for m in fleet.group.members]
        if inputs.hosts and ids:
            found = reader.aws("ec2", "describe_instances", {"InstanceIds": ids}, region=fleet.group.region)
            addresses = {i["PrivateIpAddress"]: i["InstanceId"] for i in found if i.get("PrivateIpAddress")}
        return FleetFacts(fleet=fleet, addresses=addresses)

    def plan(self, inputs: RecycleInputs, facts: FleetFacts) -> PlanDraft | NotApplicable:
        """Plan one call for each host, in the order given; never during a migration, never the last that serves."""
        fleet = facts.fleet
        group = fleet.group
        if inputs.migration_running is None:
            message = "whether a migration runs is not known: recycling could cut it in two"
            return NotApplicable(reason="MigrationUnknown", message=message)
        if inputs.migration_running:
            message = "a migration runs: recycling would cut it in two"
            return NotApplicable(reason="MigrationRunning", message=message)
        if "Launch" in group.processes:
            message = f"Launch of {group.name} is suspended: nothing would come in their place"
            return NotApplicable(reason="LaunchesSuspended", message=message)
        ids = self._meant(inputs, facts)
        if not ids:
            message = f"none of {len(inputs.hosts)} hosts is an instance of {group.name} in service"
            return NotApplicable(reason="NoInstances", message=message)
        left = len(set(fleet.serving) - {ids[0]})
        if not left:
            message = f"no other instance of {group.name} serves: add one first"
            return NotApplicable(reason="TooFewServing", message=message)
        title = f"recycle {len(ids)} of {len(group.members)} instances of {group.name}, one by one"
        after = len(fleet.serving) - any(id_ in fleet.serving for id_ in ids)
        return replacing_draft(title, fleet, ids, wanted=len(fleet.serving), healthy_after=after)

    @staticmethod
    def _meant(inputs: RecycleInputs, facts: FleetFacts) -> list[str]:
        """Return the instances to recycle, in order."""
        there = [m.id for m in facts.fleet.group.members if m.lifecycle == "InService"]
        wanted = [facts.addresses.get(host, host) for host in inputs.hosts] if inputs.hosts else there
        return [id_ for id_ in dict.fromkeys(wanted) if id_ in there][:_MAX_REPLACED]

    def lacks(self, made: Sequence[Call], inputs: RecycleInputs, before: FleetFacts, facts: FleetFacts) -> str:
        """As many serve as before the first went."""
        return not_replaced(terminated(made), before.fleet, facts.fleet, len(before.fleet.serving))

    def applied(self, call: Call, inputs: RecycleInputs, facts: FleetFacts) -> bool | None:
        """Tell by whether the instance is still in service."""
        return _is_leaving(call, facts.fleet)

    def judge(self, inputs: RecycleInputs, before: FleetFacts, after: FleetFacts) -> Judgement:
        """All of them gone, as many serve as before."""
        return _judge_fleet(self._meant(inputs, before), before.fleet, after.fleet, len(before.fleet.serving))
