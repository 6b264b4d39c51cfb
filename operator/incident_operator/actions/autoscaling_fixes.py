"""Auto Scaling, the group: stop or resume what it does by itself, and raise its capacity.

Capacity is never lowered here, and the minimum rises with it: a policy would scale back in what a person or a machine
added. Source: facts on AWS (section 4, rows 14, 16), on verification.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Duration, Risk, parse_instant
from ..api.plan import Call, DiffLine, Downstream, Guard, Hazard, Precondition, Repeat, Undo
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from ..core.gates import DOWNSTREAM_SHARE
from .autoscaling import (
    CALL_TIMEOUT,
    MAX_REPLACED,
    Fleet,
    Process,
    ScalingGroup,
    ScalingGroupInputs,
    read_scaling_group,
    read_serving,
    reading,
)
from .base import Facts, FixAction, ReasonInfo, register
from .elbv2 import Requests, TargetGroupInputs, judge_users, measure_requests, read_target_group
from .ports import Reader

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
    waits = Waits(wait=timedelta(seconds=10), every=timedelta(seconds=10), deadline=timedelta(minutes=2))
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
            verify=self.waits.verify(f"{', '.join(wanted)} of {group.name} is suspended"),
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
    waits = Waits(wait=timedelta(seconds=10), every=timedelta(seconds=20), deadline=timedelta(minutes=10))
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
        marked = fleet.marked[: MAX_REPLACED - 1] if replacing else ()
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
            verify=self.waits.verify(
                f"{', '.join(wanted)} of {group.name} goes on, and the group has what it should have",
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
    used of how many, as a check found. `max_failure_rate` and `min_requests`: when users count as well, and by how many
    requests that is told.
    """

    desired: int | None = Field(None, ge=1)
    pool_size: int | None = Field(None, ge=0)
    connections_used: int | None = Field(None, ge=0)
    connections_maximum: int | None = Field(None, ge=1)
    max_failure_rate: float = Field(0.05, ge=0, le=1)
    min_requests: int = Field(3, ge=1)


class CapacityFacts(Facts):
    """The group, and which of its instances serve."""

    fleet: Fleet


class CapacityEffect(CapacityFacts):
    """The group after it, and what users felt lately; None where no load balancer sends to it."""

    requests: Requests | None = None


#: Over which users are judged: what failed before the new instances served does not count against them for ever.
_USERS_WINDOW = timedelta(minutes=5)


@register
class SetCapacity(FixAction[CapacityInputs, CapacityFacts]):
    """Add instances: more than now, at most the group's maximum; the minimum rises too."""

    name = "autoscaling.set-capacity"
    title = "Add instances"
    inputs_model = CapacityInputs
    facts_model = CapacityFacts
    reads = (
        "autoscaling:DescribeAutoScalingGroups",
        "cloudwatch:GetMetricData",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    )
    writes = ("autoscaling:UpdateAutoScalingGroup",)
    risk = "Low: users notice nothing; it costs more, and each instance opens connections to the database."
    undo = "The minimum is as it was; the group's policies, or a person, scale in again."
    waits = Waits(
        wait=timedelta(seconds=60),
        every=timedelta(seconds=20),
        deadline=timedelta(minutes=15) + _USERS_WINDOW,
        longer="the group's grace period is waited for first, and 10m at least are left after it",
    )
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
            verify=self.waits.verify(
                f"{wanted} instances of {group.name} are in service and healthy, and users are served",
                first=timedelta(seconds=group.grace),
                at_least=timedelta(seconds=group.grace) + timedelta(minutes=5) + _USERS_WINDOW,
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

    def measure(self, inputs: CapacityInputs, reader: Reader) -> CapacityEffect:
        """Read the group, its targets, and what users felt lately. Errors: ReadError."""
        fleet = read_serving(inputs, reader)
        named = [TargetGroupInputs(target_group=arn, region=fleet.group.region) for arn in fleet.group.target_groups]
        behind = [group for group in (read_target_group(one, reader) for one in named) if group.load_balancers]
        start = max(reader.since, reader.now - reader.scaled(_USERS_WINDOW))
        felt = [measure_requests(reader, group, start, reader.now) for group in behind]
        counted = [one.requests for one in felt if one.requests is not None]
        requests = Requests(requests=sum(counted) if counted else None, failed=sum(one.failed for one in felt))
        return CapacityEffect(fleet=fleet, requests=requests if felt else None)

    def judge(self, inputs: CapacityInputs, before: CapacityFacts, after: CapacityEffect) -> Judgement:
        """As many serve as are wanted, more than before, and users are well: more of what fails them cures nothing."""
        group, serving = after.fleet.group, len(after.fleet.serving)
        told = f"{serving} of {group.desired} instances of {group.name} are in service and healthy"
        if group.desired <= before.fleet.group.desired:
            message = f"{told}: somebody, or a policy, scaled in again"
            return Judgement(outcome=None, measured=True, message=message)
        if serving < group.desired:
            return Judgement(outcome=None, measured=True, message=told)
        if after.requests is None:
            return Judgement(outcome="Helped", measured=True, message=told)
        users = judge_users(
            group.name, after.requests, max_failure_rate=inputs.max_failure_rate, min_requests=inputs.min_requests
        )
        return users or Judgement(outcome="Helped", measured=True, message=f"{told}, and users' requests do not fail")
