"""Auto Scaling, instances: replace those that fail, recycle those that hold something, one by one.

Each replacement is in service and healthy before the next one goes. Source: facts on AWS (section 4, rows
11, 14), on verification.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, Capacity, DiffLine, Repeat
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .autoscaling import CALL_TIMEOUT, MAX_REPLACED, Fleet, ScalingGroupInputs, read_serving
from .base import Facts, FixAction, ReasonInfo, register
from .migrations import REASONS, ConnectionName, Sessions, migration, read_sessions
from .ports import Reader

#: What a replacement takes besides the group's grace period: boot, registration, the first health checks.
SETTLE = timedelta(seconds=150)
_WAITS = Waits(
    wait=timedelta(seconds=30),
    every=timedelta(seconds=20),
    deadline=SETTLE + timedelta(minutes=12),
    longer="the group's grace period is added to the end",
)

# --- autoscaling.replace-instances, autoscaling.recycle-instances -----------------------------------------------------


class FleetFacts(Facts):
    """The group, which of its instances serve, and their private addresses, where those are asked for."""

    fleet: Fleet
    addresses: dict[str, str] = Field(default_factory=dict)


def terminate_calls(fleet: Fleet, ids: Sequence[str]) -> tuple[Call, ...]:
    """Return the calls that replace instances one by one: each after the first waits until the group is whole."""
    group = fleet.group
    patience = timedelta(seconds=group.grace) + 2 * SETTLE
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
    return PlanDraft(
        title=title,
        calls=terminate_calls(fleet, ids),
        touches=(group.arn,),
        risk=Risk.DISRUPTIVE,
        region=group.region,
        common_cause=fleet.alike,
        capacity=Capacity(healthy_before=len(fleet.serving), healthy_after=healthy_after, minimum=group.minimum),
        verify=_WAITS.verify(
            f"{wanted} instances of {group.name} are in service and healthy, none of them one of these",
            at_least=timedelta(seconds=group.grace) + _WAITS.deadline,
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
    waits = _WAITS
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
        ids = [id_ for id_ in dict.fromkeys(inputs.instances) if id_ in failing][:MAX_REPLACED]
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
        gone = [id_ for id_ in dict.fromkeys(inputs.instances) if id_ in failing][:MAX_REPLACED]
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

    `hosts`: private addresses or instance ids, as a check found them; left out: every instance of the group; empty:
    nobody is meant. `migration_running` is what was known when this was planned. `connection`: whom to ask anew before
    each instance goes, since a migration may begin while people are asked. Both left out: unknown, and nothing is
    recycled.
    """

    hosts: tuple[str, ...] | None = Field(None, max_length=64)
    migration_running: bool | None = None
    connection: ConnectionName | None = None


class RecycleFacts(FleetFacts):
    """The same, and the database's sessions where it is to be asked."""

    sessions: Sessions | None = None


@register
class RecycleInstances(FixAction[RecycleInputs, RecycleFacts]):
    """Replace instances that serve, one by one, the worst first: what each holds (connections, memory) is let go."""

    name = "autoscaling.recycle-instances"
    title = "Recycle instances one by one"
    inputs_model = RecycleInputs
    facts_model = RecycleFacts
    reads = (
        "autoscaling:DescribeAutoScalingGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "ec2:DescribeInstances",
    )
    writes = ("autoscaling:TerminateInstanceInAutoScalingGroup",)
    risk = "Disruptive: one instance less serves at a time, and the new ones begin with cold caches."
    undo = "None: a terminated instance is gone; the group's size is never changed."
    waits = _WAITS
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **REASONS,
        "NoInstances": ReasonInfo(doc="None of these hosts is an instance of the group that is in service."),
        "LaunchesSuspended": ReasonInfo(doc="The group is told not to launch: nothing would come in their place."),
        "TooFewServing": ReasonInfo(doc="No other instance serves: the last one is never taken."),
        "InstancesProtected": ReasonInfo(doc="Each of these instances is protected from scale-in: somebody needs it."),
    }

    def observe(self, inputs: RecycleInputs, reader: Reader) -> RecycleFacts:
        """Read the group, its targets, the addresses of its instances where hosts are given, and the sessions."""
        seen = self.measure(inputs, reader)
        return RecycleFacts(
            fleet=seen.fleet, addresses=seen.addresses, sessions=read_sessions(inputs.connection, reader)
        )

    def measure(self, inputs: RecycleInputs, reader: Reader) -> FleetFacts:
        """Read the same, but not whether a migration runs: what was recycled is judged whatever runs by then."""
        fleet = read_serving(inputs, reader)
        addresses: dict[str, str] = {}
        ids = [m.id for m in fleet.group.members]
        if inputs.hosts and ids:
            found = reader.aws("ec2", "describe_instances", {"InstanceIds": ids}, region=fleet.group.region)
            addresses = {i["PrivateIpAddress"]: i["InstanceId"] for i in found if i.get("PrivateIpAddress")}
        return FleetFacts(fleet=fleet, addresses=addresses)

    def plan(self, inputs: RecycleInputs, facts: RecycleFacts) -> PlanDraft | NotApplicable:
        """Plan one call for each host, in the order given; never during a migration, never the last that serves."""
        fleet = facts.fleet
        group = fleet.group
        held = migration(inputs.migration_running, facts.sessions)
        if held is not None:
            return held
        if "Launch" in group.processes:
            message = f"Launch of {group.name} is suspended: nothing would come in their place"
            return NotApplicable(reason="LaunchesSuspended", message=message)
        ids = self._meant(inputs, facts)
        if not ids and (kept := self._protected(inputs, facts)):
            message = f"{', '.join(kept)} of {group.name} is protected from scale-in: who asked for that decides"
            return NotApplicable(reason="InstancesProtected", message=message)
        if not ids:
            hosts = "instances" if inputs.hosts is None else f"{len(inputs.hosts)} hosts"
            message = f"none of the {hosts} meant is an instance of {group.name} in service"
            return NotApplicable(reason="NoInstances", message=message)
        left = len(set(fleet.serving) - {ids[0]})
        if not left:
            message = f"no other instance of {group.name} serves: add one first"
            return NotApplicable(reason="TooFewServing", message=message)
        title = f"recycle {len(ids)} of {len(group.members)} instances of {group.name}, one by one"
        after = len(fleet.serving) - any(id_ in fleet.serving for id_ in ids)
        return replacing_draft(title, fleet, ids, wanted=len(fleet.serving), healthy_after=after)

    @classmethod
    def _meant(cls, inputs: RecycleInputs, facts: RecycleFacts) -> list[str]:
        """Return the instances to recycle, in order; not those that are protected: terminating ignores that."""
        protected = set(cls._protected(inputs, facts))
        return [id_ for id_ in cls._named(inputs, facts) if id_ not in protected][:MAX_REPLACED]

    @classmethod
    def _protected(cls, inputs: RecycleInputs, facts: RecycleFacts) -> list[str]:
        """Return those that are meant and protected from scale-in."""
        protected = {m.id for m in facts.fleet.group.members if m.protected}
        return [id_ for id_ in cls._named(inputs, facts) if id_ in protected]

    @staticmethod
    def _named(inputs: RecycleInputs, facts: RecycleFacts) -> list[str]:
        """Return the instances in service that the hosts are, in order."""
        there = [m.id for m in facts.fleet.group.members if m.lifecycle == "InService"]
        wanted = there if inputs.hosts is None else [facts.addresses.get(host, host) for host in inputs.hosts]
        return [id_ for id_ in dict.fromkeys(wanted) if id_ in there]

    def lacks(self, made: Sequence[Call], inputs: RecycleInputs, before: RecycleFacts, facts: RecycleFacts) -> str:
        """As many serve as before the first went, and no migration has begun since."""
        missing = not_replaced(terminated(made), before.fleet, facts.fleet, len(before.fleet.serving))
        held = migration(inputs.migration_running, facts.sessions)
        return missing or (held.message if held is not None else "")

    def applied(self, call: Call, inputs: RecycleInputs, facts: RecycleFacts) -> bool | None:
        """Tell by whether the instance is still in service."""
        return _is_leaving(call, facts.fleet)

    def judge(self, inputs: RecycleInputs, before: RecycleFacts, after: FleetFacts) -> Judgement:
        """All of them gone, as many serve as before."""
        return _judge_fleet(self._meant(inputs, before), before.fleet, after.fleet, len(before.fleet.serving))
