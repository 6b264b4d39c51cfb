"""ElastiCache: a replication group and its failovers; fail over once, where the primary is really gone.

AWS fails over by itself, and applications notice late: what looks like a dead cache is mostly a failover that is done
already, and a second one would lose writes for nothing. So the fix asks the servers themselves: the primary gives no
answer to us, and its own replica has lost it as well, which until then had everything. Source: facts on AWS (section
4, rows 17 and 18), on verification (elasticache.failover), tickets (INC-2023-1654).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ..api.meta import Risk, parse_instant
from ..api.plan import Call, DiffLine, Hazard, Repeat
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import NotFound, Reader, ReadError

#: How far back the check names failovers.
_LOOK_BACK = timedelta(hours=24)
_CALL_TIMEOUT = timedelta(seconds=30)
#: Of a connection: the server gave no answer. Any other error says nothing about the server.
_SILENT = frozenset({"Refused", "Timeout", "Unreachable"})
#: States of a group that end by themselves. Source: ElastiCache API, ReplicationGroup.Status.
_PASSING = frozenset({"creating", "modifying", "snapshotting"})

Group = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$", max_length=40)]
ConnectionName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", max_length=63, json_schema_extra={"literal": True})
]


class GroupInputs(Inputs):
    """A replication group by its id; `nodeGroup` where it has more than one."""

    replication_group: Group
    node_group: Annotated[str, Field(pattern=r"^[0-9]{1,4}$")] | None = None
    region: str | None = None


class Member(ActionModel):
    """A node as AWS describes it. Shape: `role` is primary or replica; None where AWS does not say."""

    id: str
    role: str | None = None
    zone: str | None = None


class Failover(ActionModel):
    """A failover that is over."""

    former: str
    new: str
    at: datetime


class ReplicationGroup(ActionModel):
    """A group as AWS describes it, one of its node groups, and its newest failover."""

    arn: str
    status: str
    node_group: str | None
    node_groups: int
    automatic_failover: str
    members: tuple[Member, ...] = ()
    failover: Failover | None = None
    #: A failover was asked for and its end is not reported.
    under_way: bool = False

    @property
    def primary(self) -> str | None:
        """The node that AWS calls the primary."""
        return next((m.id for m in self.members if m.role == "primary"), None)


def read_group(inputs: GroupInputs, reader: Reader, since: datetime) -> ReplicationGroup:
    """Return the group, with failovers since then. Errors: NotFound; ReadError MalformedAnswer."""
    identity, region = inputs.replication_group, inputs.region
    start = since.replace(microsecond=0).isoformat()
    asked = {"SourceIdentifier": identity, "SourceType": "replication-group", "StartTime": start}
    reader.prefetch("elasticache", "describe_events", asked, region=region)
    given = {"ReplicationGroupId": identity}
    found = reader.aws("elasticache", "describe_replication_groups", given, region=region)
    events = reader.aws("elasticache", "describe_events", asked, region=region)
    try:
        return _group(inputs, found, events)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        message = f"{identity} is described in an unexpected way ({type(error).__name__})"
        raise ReadError("MalformedAnswer", message) from None


def _group(inputs: GroupInputs, groups: Sequence[Any], events: Sequence[Any]) -> ReplicationGroup:
    (group,) = [g for g in groups if g["id"].lower() == inputs.replication_group.lower()]
    parts = group["nodeGroups"]
    named = [p for p in parts if p["id"] == inputs.node_group] if inputs.node_group else parts
    part = named[0] if len(named) == 1 else None
    done = [
        Failover(former=e["first"], new=e["second"], at=_instant(e["at"]))
        for e in events
        if e["kind"] == "FailoverCompleted"
    ]
    newest = max(done, key=lambda f: f.at, default=None)
    asked = [_instant(e["at"]) for e in events if e["kind"] == "FailoverRequested"]
    return ReplicationGroup(
        arn=group["arn"],
        status=group["status"],
        node_group=part["id"] if part else None,
        node_groups=len(parts),
        automatic_failover=group["automaticFailover"],
        members=tuple(Member(id=m["id"], role=m["role"], zone=m["zone"]) for m in part["members"]) if part else (),
        failover=newest,
        under_way=bool(asked) and (newest is None or newest.at < max(asked)),
    )


def _instant(value: Any) -> datetime:
    return value if isinstance(value, datetime) else parse_instant(value)


# --- elasticache.replication-group ------------------------------------------------------------------------------------


class GroupFacts(Facts):
    """The group; `missing` where there is none."""

    group: ReplicationGroup | None = None
    missing: str = ""


class GroupOutput(Output):
    """Status and roles. Shape: `former` was the primary before the newest failover of the last 24 hours."""

    status: str | None = None
    automatic_failover: str | None = None
    primary: str | None = None
    replicas: tuple[str, ...] = ()
    former: str | None = None
    failover_at: datetime | None = None


@register
class DescribeGroup(CheckAction[GroupInputs, GroupFacts]):
    """Is the group available, who is its primary, and was there a failover lately?"""

    name = "elasticache.replication-group"
    title = "The replication group, its roles and failovers"
    inputs_model = GroupInputs
    facts_model = GroupFacts
    reads = ("elasticache:DescribeReplicationGroups", "elasticache:DescribeEvents")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ReplicationGroupMissing": ReasonInfo(doc="There is no such replication group.", root_cause=True),
        "ReplicationGroupNotAvailable": ReasonInfo(doc="The group is being changed, created or deleted."),
        "FailoverInProgress": ReasonInfo(doc="A failover was asked for, and its end is not reported."),
        "FailoverDone": ReasonInfo(
            doc="A failover is over: the primary is another node than before.", kind=FindingKind.INFO
        ),
        "NoReplica": ReasonInfo(doc="The node group has no replica to fail over to.", kind=FindingKind.INFO),
        "AutomaticFailoverOff": ReasonInfo(
            doc="AWS does not fail over by itself when the primary is gone.", kind=FindingKind.INFO
        ),
    }

    def observe(self, inputs: GroupInputs, reader: Reader) -> GroupFacts:
        """Read the group and its events of the last 24 hours."""
        try:
            return GroupFacts(group=read_group(inputs, reader, reader.now - reader.scaled(_LOOK_BACK)))
        except NotFound as error:
            return GroupFacts(missing=error.message)

    def output(self, facts: GroupFacts) -> GroupOutput:
        """Return status and roles."""
        group = facts.group
        if group is None:
            return GroupOutput()
        return GroupOutput(
            status=group.status,
            automatic_failover=group.automatic_failover,
            primary=group.primary,
            replicas=tuple(m.id for m in group.members if m.role == "replica")[:8],
            former=group.failover.former if group.failover else None,
            failover_at=group.failover.at if group.failover else None,
        )

    def findings(self, inputs: GroupInputs, facts: GroupFacts) -> Sequence[Found] | Unclear:
        """Say what is not as it should be, and what happened."""
        group, name = facts.group, inputs.replication_group
        if group is None:
            return [Found(reason="ReplicationGroupMissing", message=facts.missing, subject=name)]
        found = []
        if group.status != "available":
            message = f"{name} is {group.status}"
            found.append(Found(reason="ReplicationGroupNotAvailable", message=message, subject=group.arn))
        if group.under_way:
            message = f"a failover of {name} was asked for and is not reported complete"
            found.append(Found(reason="FailoverInProgress", message=message, subject=group.arn))
        if group.failover:
            done = group.failover
            message = f"{name} failed over from {done.former} to {done.new} at {done.at:%Y-%m-%d %H:%M:%S}Z"
            found.append(Found(reason="FailoverDone", message=message, subject=group.arn, at=done.at))
        if group.node_group is None:
            message = f"{name} has {group.node_groups} node groups: set nodeGroup"
            return Unclear(reason="NodeGroupUnknown", message=message, found=tuple(found))
        if group.primary is None:
            message = f"AWS does not say which node of {name} is the primary"
            return Unclear(reason="RolesUnknown", message=message, found=tuple(found))
        if len(group.members) == 1:
            found.append(Found(reason="NoReplica", message=f"{name} has one node", subject=group.arn))
        if group.automatic_failover != "enabled":
            message = f"automatic failover of {name} is {group.automatic_failover or 'unknown'}"
            found.append(Found(reason="AutomaticFailoverOff", message=message, subject=group.arn))
        return found


# --- elasticache.failover ---------------------------------------------------------------------------------------------


class NodeConnection(ActionModel):
    """A node, and the connection of the run that leads to it, not to an endpoint that moves."""

    member: Annotated[str, Field(max_length=50)]
    connection: ConnectionName


class FailoverInputs(GroupInputs):
    """The group, a connection to each node, and the one to the primary endpoint that applications use."""

    nodes: Annotated[tuple[NodeConnection, ...], Field(min_length=2, max_length=6)]
    endpoint: ConnectionName


class Node(ActionModel):
    """What a node says of itself; `silent` where it gave us no answer.

    Units: `down_seconds` since it lost its primary; -1 where it never had one.
    """

    member: str
    silent: bool = False
    role: str | None = None
    link: str | None = None
    down_seconds: int | None = None
    syncing: bool = False
    offset: int | None = None


class FailoverFacts(Facts):
    """The group and its nodes. `endpoint_role` is of the node behind the primary endpoint; None where none answered."""

    group: ReplicationGroup | None = None
    missing: str = ""
    nodes: tuple[Node, ...] = ()
    endpoint_role: str | None = None
    #: How long the incident lasts at most: a replica that lost its primary before that may lack writes.
    window_seconds: float = 0

    def node(self, member: str) -> Node | None:
        """Return what one node said."""
        return next((n for n in self.nodes if n.member == member), None)


def _ask_node(node: NodeConnection, reader: Reader) -> Node:
    """Ask a node who it is. Errors: ReadError, but for one that says that nobody answered."""
    try:
        said = reader.redis(node.connection, "INFO replication").fields or {}
    except ReadError as error:
        if error.reason not in _SILENT:
            raise
        return Node(member=node.member, silent=True)
    if said.get("role") not in ("master", "slave"):
        raise ReadError("MalformedAnswer", f"{node.member} does not say which role it has")
    try:
        return Node(
            member=node.member,
            role=said["role"],
            link=said.get("master_link_status"),
            down_seconds=said.get("master_link_down_since_seconds"),
            syncing=bool(said.get("master_sync_in_progress")),
            offset=said.get("slave_repl_offset"),
        )
    except ValueError:
        raise ReadError("MalformedAnswer", f"{node.member} describes its replication in an unexpected way") from None


def _ask_endpoint(connection: str, reader: Reader) -> str | None:
    """Return the role of the node that applications reach. Errors: ReadError, but for one of silence."""
    try:
        return (reader.redis(connection, "ROLE").fields or {}).get("role")
    except ReadError as error:
        if error.reason not in _SILENT:
            raise
        return None


@register
class FailOver(FixAction[FailoverInputs, FailoverFacts]):
    """Make a replica the primary: once, where the primary is gone, no failover was made, and nothing is missing."""

    name = "elasticache.failover"
    title = "Fail over to a replica"
    inputs_model = FailoverInputs
    facts_model = FailoverFacts
    reads = ("elasticache:DescribeReplicationGroups", "elasticache:DescribeEvents")
    risk = "Disruptive: writes that no replica has are lost, and the database bears the load of a cold cache."
    undo = "None: failing back is another failover."
    waits = Waits(wait=timedelta(minutes=1), every=timedelta(seconds=20), deadline=timedelta(minutes=10))
    writes = ("elasticache:TestFailover", "elasticache:ModifyReplicationGroup")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ReplicationGroupMissing": ReasonInfo(doc="There is no such replication group."),
        "NodeGroupUnknown": ReasonInfo(doc="The group has several node groups, and the run names none."),
        "RolesUnknown": ReasonInfo(doc="AWS does not say which node is the primary."),
        "FailoverAlreadyDone": ReasonInfo(doc="A failover was made in this incident: a second one only costs."),
        "FailoverInProgress": ReasonInfo(doc="A failover was asked for, and its end is not reported."),
        "ReplicationGroupNotAvailable": ReasonInfo(doc="The group is being changed: no failover can be asked for."),
        "NodeNotConnected": ReasonInfo(doc="The run gives no connection to a node that decides."),
        "PrimaryAnswers": ReasonInfo(doc="The primary answers and takes writes: a failover cures nothing."),
        "RolesDisagree": ReasonInfo(doc="A node and AWS do not agree on its role: a person must look."),
        "PrimaryOnlySilentToUs": ReasonInfo(doc="A replica still has its primary: the way from here is broken."),
        "NoReplicaInSync": ReasonInfo(doc="No replica is known to have what the primary had."),
    }

    def observe(self, inputs: FailoverInputs, reader: Reader) -> FailoverFacts:
        """Read the group and its failovers of this incident, and ask every node."""
        try:
            group = read_group(inputs, reader, reader.since)
        except NotFound as error:
            return FailoverFacts(missing=error.message)
        return FailoverFacts(
            group=group,
            nodes=tuple(_ask_node(node, reader) for node in inputs.nodes),
            endpoint_role=_ask_endpoint(inputs.endpoint, reader),
            window_seconds=(reader.now - reader.since).total_seconds(),
        )

    def plan(self, inputs: FailoverInputs, facts: FailoverFacts) -> PlanDraft | NotApplicable:
        """Plan the one call, unless anything speaks against it."""
        group, name = facts.group, inputs.replication_group
        if group is None:
            return NotApplicable(reason="ReplicationGroupMissing", message=facts.missing)
        why = _why_not(name, group, facts)
        if why is not None:
            return why
        replica = _in_sync(group, facts)
        if replica is None:
            message = f"no replica of {name} is known to have all that {group.primary} had: data would be lost"
            return NotApplicable(reason="NoReplicaInSync", message=message)
        zone = next((m.zone for m in group.members if m.id == replica), None)
        return PlanDraft(
            title=f"fail {name} over from {group.primary} to a replica",
            calls=(self._call(inputs, group, replica),),
            touches=(group.arn,),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.LOSES_DATA,),
            region=inputs.region,
            verify=self.waits.verify(f"the failover of {name} is reported complete, and applications reach a primary"),
            diff=(
                DiffLine(
                    what=f"primary of {name}",
                    before=group.primary,
                    after=f"{replica} ({zone or 'zone unknown'}), which lost its primary in this incident",
                ),
            ),
            irreversible="failing back is another failover; writes that the replica lacks are lost",
        )

    @staticmethod
    def _call(inputs: FailoverInputs, group: ReplicationGroup, replica: str) -> Call:
        """Return the failover that AWS takes: where its automatic failover is off, the replica is named."""
        name = inputs.replication_group
        if group.automatic_failover == "enabled":
            operation, permission = "test_failover", "elasticache:TestFailover"
            arguments: dict[str, Any] = {"ReplicationGroupId": name, "NodeGroupId": group.node_group}
            summary = f"fail node group {group.node_group} of {name} over"
        else:
            operation, permission = "modify_replication_group", "elasticache:ModifyReplicationGroup"
            arguments = {"ReplicationGroupId": name, "PrimaryClusterId": replica, "ApplyImmediately": True}
            summary = f"make {replica} the primary of {name}"
        return Call(
            service="elasticache",
            operation=operation,
            arguments=arguments,
            permissions=(permission,),
            resources=(group.arn,),
            repeat=Repeat.ONCE,
            timeout=_CALL_TIMEOUT,
            summary=summary,
        )

    def applied(self, call: Call, inputs: FailoverInputs, facts: FailoverFacts) -> bool | None:
        """Tell by a failover in this incident, or by the primary; silence tells nothing."""
        group = facts.group
        if group is None:
            return None
        if group.failover is not None or group.under_way:
            return True
        wanted = call.arguments.get("PrimaryClusterId")
        return True if wanted is not None and group.primary == wanted else None

    def judge(self, inputs: FailoverInputs, before: FailoverFacts, after: FailoverFacts) -> Judgement:
        """Reported complete, another primary, and a primary behind the endpoint."""
        group = after.group
        former = before.group.primary if before.group else None
        if group is None or former is None:
            return Judgement(outcome=None, measured=False, message=f"{inputs.replication_group} can't be described")
        swapped = group.primary is not None and group.primary != former
        if group.failover is not None and swapped and after.endpoint_role == "master":
            message = f"{group.primary} is the primary, and applications reach it"
            return Judgement(outcome="Helped", measured=True, message=message)
        missing = (
            f"the end of the failover of {inputs.replication_group}"
            if group.failover is None or not swapped
            else "a primary behind the endpoint"
        )
        return Judgement(outcome=None, measured=True, message=f"not yet: {missing}", waiting_for=missing)


def _why_not(name: str, group: ReplicationGroup, facts: FailoverFacts) -> NotApplicable | None:
    """Return what speaks against any failover; None where the primary is gone."""
    if group.failover is not None:
        done = group.failover
        message = f"{name} failed over from {done.former} to {done.new} at {done.at:%H:%M:%S}Z already"
        return NotApplicable(reason="FailoverAlreadyDone", message=message)
    if group.under_way:
        return NotApplicable(reason="FailoverInProgress", message=f"a failover of {name} is under way", for_now=True)
    if group.status != "available":
        message, passing = f"{name} is {group.status}", group.status in _PASSING
        return NotApplicable(reason="ReplicationGroupNotAvailable", message=message, for_now=passing)
    if group.node_group is None:
        message = f"{name} has {group.node_groups} node groups: set nodeGroup"
        return NotApplicable(reason="NodeGroupUnknown", message=message)
    if group.primary is None:
        message = f"AWS does not say which node of {name} is the primary"
        return NotApplicable(reason="RolesUnknown", message=message)
    unknown = next((m.id for m in group.members if facts.node(m.id) is None), None)
    if unknown is not None:
        return NotApplicable(reason="NodeNotConnected", message=f"the run gives no connection to {unknown}")
    primary = facts.node(group.primary)
    if facts.endpoint_role == "master" or (primary is not None and primary.role == "master"):
        message = f"the primary of {name} answers and takes writes"
        return NotApplicable(reason="PrimaryAnswers", message=message)
    others = [n for n in facts.nodes if n.member != group.primary and not n.silent]
    if (primary is not None and not primary.silent) or any(n.role != "slave" for n in others):
        message = f"what the nodes of {name} say of their roles is not what AWS says"
        return NotApplicable(reason="RolesDisagree", message=message)
    reached = next((n.member for n in others if n.link == "up"), None)
    if reached is not None:
        message = f"{group.primary} gives us no answer, but {reached} has it: the way from here is broken"
        return NotApplicable(reason="PrimaryOnlySilentToUs", message=message)
    return None


def _in_sync(group: ReplicationGroup, facts: FailoverFacts) -> str | None:
    """Return the replica that is furthest: of those that had their primary until this incident, and a whole copy."""
    fit = [
        node
        for node in facts.nodes
        if node.member != group.primary
        and node.role == "slave"
        and node.link == "down"
        and not node.syncing
        and node.offset
        and node.down_seconds is not None
        and 0 <= node.down_seconds <= facts.window_seconds
    ]
    return max(fit, key=lambda n: (n.offset or 0, n.member)).member if fit else None
