"""Auto Scaling, all instances at once: to zero and back, in a total outage and with broken glass.

It is an outage by design, so it is planned only where there is one already, as measured at that moment: no request
succeeded, and no instance can be used. Whatever becomes of the operator afterwards, the group has its former size
again: the first call is a scheduled action, in AWS, that restores it ten minutes later. Vocabulary: that action is the
*net*. Source: facts on AWS (section 4, row 11), on verification, on tickets (INC-2023-0445).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Duration, Risk, parse_instant
from ..api.plan import Call, Capacity, DiffLine, Guard, Hazard, Repeat, Undo
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from ..core.filling import from_now, named_for_plan
from .autoscaling import CALL_TIMEOUT, Fleet, ScalingGroup, ScalingGroupInputs, read_serving, reading
from .autoscaling_instances import SETTLE
from .base import ActionModel, Facts, FixAction, ReasonInfo, register
from .metric_data import metric_data, metric_period, metric_query
from .migrations import REASONS, ConnectionName, Sessions, migration, read_sessions
from .ports import Reader, ReadError

#: How long after the first call AWS restores the former size by itself.
NET = timedelta(minutes=10)
NET_PREFIX = "incident-operator-restore-"
#: The group is taken to zero only while the net is still so far off: what is under way then ends before it.
ENOUGH = timedelta(minutes=5)
#: Instances that are not gone by then are waited for no longer: the former size is restored beside them.
LATEST = timedelta(minutes=3)
#: Another scheduled action of the group that is due so soon would meet ours.
QUIET = timedelta(hours=1)
#: Of the slots that the application can have, as the runbook judges them.
EXHAUSTED = 0.95
#: What to zero and back again need; suspended, one of them would leave the group where it must not stay.
_NEEDED = ("Launch", "Terminate", "ScheduledActions")


class ThroughZeroInputs(ScalingGroupInputs):
    """The group; the metrics that tell whether users' requests succeed; whom to ask whether a migration runs.

    `window`: in all of it no request may have succeeded, of at least `min_requests`. `max_age`: how old the newest
    sample of `requests_metric` may be. `migration_running` and `connection` as for recycling one by one.
    """

    namespace: str
    requests_metric: str
    failed_metric: str
    dimensions: dict[str, str] = Field(default_factory=dict)
    window: Duration = timedelta(minutes=5)
    max_age: Duration = timedelta(minutes=3)
    min_requests: int = Field(20, ge=1)
    migration_running: bool | None = None
    connection: ConnectionName | None = None


class Felt(ActionModel):
    """What users felt in the window: requests, and how many failed; `fresh`: the newest sample is no older than may be.

    `failed` counts only those of periods that have requests.
    """

    requests: float
    failed: float
    fresh: bool


class SizeFacts(Facts):
    """The group, and its nets.

    Shape: `net_minutes` until the nearest net is due, not scaled, below zero where it is overdue; None: there is none.
    `others`: how many scheduled actions of somebody else are due soon.
    """

    fleet: Fleet
    net_minutes: float | None = None
    others: int = 0

    def net_within(self, wait: timedelta) -> bool:
        """Tell whether the net is at least so far off."""
        return self.net_minutes is not None and self.net_minutes * 60 >= wait.total_seconds()


class ThroughZeroFacts(SizeFacts):
    """The same, and what is measured of the outage; None where it can't be, and `unread` says why."""

    felt: Felt | None = None
    sessions: Sessions | None = None
    unread: tuple[str, ...] = ()


@register
class RecycleThroughZero(FixAction[ThroughZeroInputs, ThroughZeroFacts]):
    """Take all instances away at once and launch new ones, where no instance serves anybody any more."""

    name = "autoscaling.recycle-through-zero"
    title = "Take the group to zero and back"
    inputs_model = ThroughZeroInputs
    facts_model = ThroughZeroFacts
    reads = (
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeScheduledActions",
        "cloudwatch:GetMetricData",
        "elasticloadbalancing:DescribeTargetHealth",
    )
    writes = (
        "autoscaling:PutScheduledUpdateGroupAction",
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:BatchDeleteScheduledAction",
    )
    risk = "Destructive: an outage by design; somebody must break the glass, and only in a total outage."
    undo = "The former size is restored: at once, or by AWS itself ten minutes after the first call."
    waits = Waits(
        wait=timedelta(seconds=30),
        every=timedelta(seconds=20),
        deadline=timedelta(minutes=7),
        longer="the group's grace period and 5m are added to the end",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **REASONS,
        "NotTotalOutage": ReasonInfo(doc="Requests succeed, or an instance can be used: recycle one by one."),
        "OutageUnknown": ReasonInfo(doc="Whether anything still serves can't be told: unknown is no outage."),
        "NoInstances": ReasonInfo(doc="The group has no instances."),
        "InstancesProtected": ReasonInfo(doc="Instances are protected from scale-in: they would never go."),
        "ProcessesSuspended": ReasonInfo(doc="The group is told not to launch, to terminate, or to heed schedules."),
        "ScheduledChange": ReasonInfo(doc="A scheduled action of the group is due soon, or one of ours is left."),
    }

    def observe(self, inputs: ThroughZeroInputs, reader: Reader) -> ThroughZeroFacts:
        """Read the group and its scheduled actions, then measure the outage. Errors: ReadError of the former only.

        What can't be measured is unknown: it keeps the group from going to zero, never from coming back.
        """
        size = self.measure(inputs, reader)
        unread: list[str] = []
        felt, sessions = None, None
        try:
            felt = _read_felt(inputs, reader)
        except ReadError as error:
            unread.append(error.reason)
        try:
            sessions = read_sessions(inputs.connection, reader)
        except ReadError as error:
            unread.append(error.reason)
        return ThroughZeroFacts(
            fleet=size.fleet,
            net_minutes=size.net_minutes,
            others=size.others,
            felt=felt,
            sessions=sessions,
            unread=tuple(unread),
        )

    def measure(self, inputs: ThroughZeroInputs, reader: Reader) -> SizeFacts:
        """Read the group and its scheduled actions. Errors: ReadError."""
        fleet = read_serving(inputs, reader)
        arguments = {"AutoScalingGroupName": fleet.group.name}
        scheduled = reader.aws("autoscaling", "describe_scheduled_actions", arguments, region=fleet.group.region)
        minute = reader.scaled(timedelta(minutes=1))
        nets, others = [], 0
        for action in scheduled:
            left = parse_instant(str(action["StartTime"])) - reader.now
            if str(action["ScheduledActionName"]).startswith(NET_PREFIX):
                nets.append(left / minute)
            elif left < reader.scaled(QUIET):
                others += 1
        return SizeFacts(fleet=fleet, net_minutes=min(nets, default=None), others=others)

    def plan(self, inputs: ThroughZeroInputs, facts: ThroughZeroFacts) -> PlanDraft | NotApplicable:
        """Plan four calls: let AWS restore the size in ten minutes; to zero; back; forget the first one."""
        group = facts.fleet.group
        if facts.net_minutes is not None or facts.others:
            whose = "an earlier restore" if facts.net_minutes is not None else "somebody else's"
            message = f"a scheduled action of {group.name} is due soon: {whose}"
            return NotApplicable(reason="ScheduledChange", message=message)
        held = _held(inputs, facts)
        if held is not None:
            return held
        restore = _resize(group, group.minimum, group.desired, f"back to {group.desired} instances")
        zero = _resize(group, 0, 0, "to zero, once AWS is sure to restore it")
        patience = timedelta(seconds=group.grace) + 2 * SETTLE
        forget = _scheduled(
            group,
            "batch_delete_scheduled_action",
            "autoscaling:BatchDeleteScheduledAction",
            {"ScheduledActionNames": [named_for_plan(NET_PREFIX)]},
            f"remove the scheduled action of {group.name}, once {group.desired} new instances serve",
        )
        net = _scheduled(
            group,
            "put_scheduled_update_group_action",
            "autoscaling:PutScheduledUpdateGroupAction",
            {
                "ScheduledActionName": named_for_plan(NET_PREFIX),
                "StartTime": from_now(NET),
                "MinSize": group.minimum,
                "MaxSize": group.maximum,
                "DesiredCapacity": group.desired,
            },
            f"let AWS itself restore {group.desired} instances of {group.name} ten minutes from now",
        )
        return PlanDraft(
            title=f"take {group.name} to zero and back to {group.desired} instances",
            calls=(
                net,
                zero.model_copy(update={"ready_within": timedelta(minutes=2)}),
                restore.model_copy(update={"ready_within": NET}),
                forget.model_copy(update={"ready_within": patience}),
            ),
            touches=(group.arn,),
            risk=Risk.DESTRUCTIVE,
            hazards=(Hazard.OUTAGE,),
            needs_break_glass=True,
            region=group.region,
            common_cause=facts.fleet.alike,
            # Nobody is served now: that is what was measured.
            capacity=Capacity(healthy_before=0, healthy_after=0, minimum=group.minimum),
            verify=self.waits.verify(
                f"{group.desired} instances of {group.name} are in service and healthy, none of them of before",
                at_least=patience + self.waits.deadline,
            ),
            diff=(
                DiffLine(
                    what=f"instances of {group.name}", before=str(group.desired), after=f"0, then {group.desired}"
                ),
                *(
                    DiffLine(what=f"instance {m.id}", before="in the group", after="replaced")
                    for m in group.members[:16]
                ),
            ),
            undo=Undo(
                calls=(restore, forget),
                safe_when="nobody changed the size since; AWS restores it by itself meanwhile",
                guards=(
                    Guard(read=reading(group), path="0.MinSize"),
                    Guard(read=reading(group), path="0.DesiredCapacity"),
                ),
            ),
        )

    def lacks(
        self, made: Sequence[Call], inputs: ThroughZeroInputs, before: ThroughZeroFacts, facts: ThroughZeroFacts
    ) -> str:
        """Wait before each call but the first.

        To zero: until AWS is sure to restore the size, late enough, and only while it is an outage still. Back: until
        all instances are gone, or AWS is about to restore them. The last: until as many new ones serve as there were.
        """
        was, group = before.fleet.group, facts.fleet.group
        if len(made) == 1:
            if not facts.net_within(ENOUGH):
                return f"AWS would not restore {group.name} in time: its scheduled action is not there, or due too soon"
            if (group.minimum, group.maximum, group.desired) != (was.minimum, was.maximum, was.desired):
                return f"the size of {group.name} was changed meanwhile"
            held = _held(inputs, facts)
            return held.message if held is not None else ""
        if len(made) == 2:
            # Nobody's own size is overwritten; ours has a minimum of zero until this call.
            if group.minimum and (group.minimum, group.desired) != (was.minimum, was.desired):
                return f"the size of {group.name} was changed meanwhile"
            if group.members and facts.net_within(LATEST):
                return f"{len(group.members)} instances of {group.name} are not gone yet"
            return ""
        return _not_back(before, facts)

    def applied(self, call: Call, inputs: ThroughZeroInputs, facts: ThroughZeroFacts) -> bool | None:
        """Tell by the group's size, and by whether the net is there; one that is due too soon is set anew."""
        if call.operation == "put_scheduled_update_group_action":
            return facts.net_within(ENOUGH)
        if call.operation == "batch_delete_scheduled_action":
            return facts.net_minutes is None
        size = (call.arguments["MinSize"], call.arguments["DesiredCapacity"])
        return (facts.fleet.group.minimum, facts.fleet.group.desired) == size

    def judge(self, inputs: ThroughZeroInputs, before: ThroughZeroFacts, after: SizeFacts) -> Judgement:
        """Helped: as many new instances serve as there were before, and nothing is left for AWS to restore."""
        was, group = before.fleet.group, after.fleet.group
        missing = _not_back(before, after)
        if group.minimum != was.minimum or group.desired < was.desired:
            missing = f"{group.name} has not its former size of {was.desired} instances, at least {was.minimum}"
        elif after.net_minutes is not None:
            missing = missing or f"the scheduled action of {group.name} is still there"
        if missing:
            return Judgement(outcome=None, measured=True, message=missing)
        message = f"{len(after.fleet.serving)} instances of {group.name} are in service and healthy, all are new"
        return Judgement(outcome="Helped", measured=True, message=message)


def _not_back(before: SizeFacts, facts: SizeFacts) -> str:
    """Say what is missing of the former size in new instances."""
    was, group = before.fleet.group, facts.fleet.group
    old = {m.id for m in was.members} & {m.id for m in group.members}
    if old:
        return f"{', '.join(sorted(old))} of {group.name} is not gone yet"
    if len(facts.fleet.serving) < was.desired:
        return f"{len(facts.fleet.serving)} of {was.desired} instances of {group.name} are in service and healthy"
    return ""


def _held(inputs: ThroughZeroInputs, facts: ThroughZeroFacts) -> NotApplicable | None:
    """Return why the group must not go to zero now; None where it may."""
    group = facts.fleet.group
    suspended = [process for process in _NEEDED if process in group.processes]
    if suspended:
        message = f"{', '.join(suspended)} of {group.name} is suspended: it would not come back"
        return NotApplicable(reason="ProcessesSuspended", message=message)
    if not group.members or not group.desired:
        return NotApplicable(reason="NoInstances", message=f"{group.name} has no instances")
    kept = [m.id for m in group.members if m.protected]
    if kept:
        message = f"{', '.join(kept)} of {group.name} is protected from scale-in: who asked for that decides"
        return NotApplicable(reason="InstancesProtected", message=message)
    # What was known when this was planned says nothing of a database that was to be asked and gave no answer.
    told = inputs.migration_running if inputs.connection is None or inputs.migration_running else None
    return migration(told, facts.sessions) or _outage(inputs, facts)


def _outage(inputs: ThroughZeroInputs, facts: ThroughZeroFacts) -> NotApplicable | None:
    """Return why this is no total outage, or not known to be one; None where it is, as measured."""
    group, felt = facts.fleet.group, facts.felt

    def unknown(what: str) -> NotApplicable:
        why = f" ({', '.join(facts.unread)})" if facts.unread else ""
        return NotApplicable(reason="OutageUnknown", message=f"{what}{why}: unknown is no outage")

    if felt is None or not felt.fresh or felt.requests < inputs.min_requests:
        return unknown(f"{inputs.namespace} {inputs.requests_metric} has too few samples, or too old ones")
    if felt.failed < felt.requests:
        message = f"{felt.requests - felt.failed:g} of {felt.requests:g} requests succeeded: recycle one by one"
        return NotApplicable(reason="NotTotalOutage", message=message)
    if group.target_groups:
        usable = [m.id for m in group.members if m.lifecycle == "InService" and m.id not in facts.fleet.failing]
        if set(usable) & set(facts.fleet.serving):
            message = f"{len(facts.fleet.serving)} instances of {group.name} are healthy for their load balancer"
            return NotApplicable(reason="NotTotalOutage", message=f"{message}: recycle one by one")
        if usable or not facts.fleet.failing:
            return unknown(f"whether {', '.join(usable) or 'any instance'} is healthy is not known")
        return None
    if facts.sessions is None:
        return unknown(f"{group.name} is behind no load balancer, and no connection says that sessions are used up")
    used, most = facts.sessions.used, facts.sessions.maximum
    if used < EXHAUSTED * most:
        message = f"{used} of {most} sessions of the database are used: instances can be used, recycle one by one"
        return NotApplicable(reason="NotTotalOutage", message=message)
    return None


def _read_felt(inputs: ThroughZeroInputs, reader: Reader) -> Felt:
    """Return requests and failures of the window, period by period. Errors: ReadError."""
    period = metric_period(reader.scaled(timedelta(minutes=1)))
    start = (reader.now - reader.scaled(inputs.window)).replace(microsecond=0)
    dimensions = [{"Name": name, "Value": value} for name, value in sorted(inputs.dimensions.items())]

    queries = [
        metric_query(name, inputs.namespace, metric, dimensions, period=period)
        for name, metric in (("requests", inputs.requests_metric), ("failed", inputs.failed_metric))
    ]
    arguments = metric_data(queries, start, reader.now)
    answer = reader.aws("cloudwatch", "get_metric_data", arguments, region=inputs.region)
    by_name = {
        series["id"]: {
            parse_instant(str(at)): float(value) for at, value in zip(series["at"], series["values"], strict=True)
        }
        for series in answer
    }
    requests, failed = by_name.get("requests", {}), by_name.get("failed", {})
    newest = max(requests, default=None)
    return Felt(
        requests=sum(requests.values()),
        failed=sum(min(failed.get(at, 0.0), count) for at, count in requests.items()),
        fresh=newest is not None and reader.now - newest <= reader.scaled(inputs.max_age) + timedelta(seconds=period),
    )


def _resize(group: ScalingGroup, minimum: int, desired: int, words: str) -> Call:
    return Call(
        service="autoscaling",
        operation="update_auto_scaling_group",
        arguments={"AutoScalingGroupName": group.name, "MinSize": minimum, "DesiredCapacity": desired},
        permissions=("autoscaling:UpdateAutoScalingGroup",),
        resources=(group.arn,),
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary=f"take {group.name} {words}",
    )


def _scheduled(
    group: ScalingGroup, operation: str, permission: str, arguments: Mapping[str, Any], summary: str
) -> Call:
    return Call(
        service="autoscaling",
        operation=operation,
        arguments={"AutoScalingGroupName": group.name, **arguments},
        permissions=(permission,),
        resources=(group.arn,),
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary=summary,
    )
