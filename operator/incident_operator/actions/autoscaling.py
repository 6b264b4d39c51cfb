"""Auto Scaling groups, checks: capacity, processes, activities.

A group that checks by its load balancer replaces what the load balancer calls unhealthy, in a loop where all fail
alike. Source: facts on AWS (section 4, rows 14, 16), on tickets (INC-2023-3421, INC-2023-2890).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from pydantic import Field

from ..api.meta import parse_instant
from ..api.plan import Read
from ..api.runbook import FindingKind
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .elbv2 import MOST, read_target_health
from .ports import NotFound, Reader, ReadError

CALL_TIMEOUT = timedelta(seconds=10)
#: A plan holds so many calls.
MAX_REPLACED = 16
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
    """An instance of a group. Shape: `protected`: somebody asked that the group never scales it in."""

    id: str
    lifecycle: str
    health: str
    protected: bool = False

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
        Member(
            id=i["InstanceId"],
            lifecycle=i["LifecycleState"],
            health=i["HealthStatus"],
            protected=i.get("ProtectedFromScaleIn", False),
        )
        for i in group["Instances"]
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
    #: Measured unhealthy in some target group; what is initial, draining or not known is not.
    failing: tuple[str, ...] = ()


def read_serving(inputs: ScalingGroupInputs, reader: Reader) -> Fleet:
    """Return the group and which of its instances serve. Errors: ReadError."""
    group = read_scaling_group(inputs, reader)
    for arn in group.target_groups:
        reader.prefetch("elbv2", "describe_target_health", {"TargetGroupArn": arn}, region=group.region)
    well = {m.id for m in group.members if m.lifecycle == "InService"}
    alike, failing = False, set[str]()
    for arn in group.target_groups:
        targets = read_target_health(arn, reader, group.region)
        bad = {(t.reason, t.codes) for t in targets if t.state == "unhealthy"}
        alike = alike or (len(targets) > 1 and all(t.state == "unhealthy" for t in targets) and len(bad) == 1)
        well &= {t.id for t in targets if t.state == "healthy"}
        failing |= {t.id for t in targets if t.state == "unhealthy"}
    healthy = {m.id for m in group.members if m.in_service}
    return Fleet(
        group=group,
        serving=tuple(sorted(well & healthy)),
        marked=tuple(sorted(well - healthy)) if group.target_groups else (),
        alike=alike,
        failing=tuple(sorted(failing)),
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
