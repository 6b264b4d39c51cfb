"""EC2 networks: is there a way between two tiers by the rules, and give back the one rule that a change took away.

A tier is a security group by its name in a VPC; where it stands is where its network interfaces are. What the rules
say is not whether somebody listens: that is for what users feel. Source: facts on AWS (section 4, row 19), on
verification (ec2.restore-security-group-rule); decision 24.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..api.meta import Risk, parse_instant
from ..api.plan import Call, DiffLine, Guard, Hazard, Read, Repeat, Undo
from ..core.draft import GrantedPath, Judgement, NotApplicable, PlanDraft, Removal, Waits
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import ConnectFrom, Reader, ReadError
from .tcp import judged
from .vantage import READS as READS_FROM_INSTANCES
from .vantage import Heard, Vantage, as_heard, running, unanswered

#: Where a network interface answers from: both must come back through a network ACL. Source: Linux's default range.
_EPHEMERAL = (32768, 60999)
#: How far back a removal is looked for.
_LOOK_BACK = timedelta(hours=24)
_CALL_TIMEOUT = timedelta(seconds=10)
#: Of each way: so many instances connect, to so many addresses of the other tier.
_SOURCES, _TARGETS = 2, 2
_CONNECT_TIMEOUT = timedelta(seconds=5)
_TCP, _ALL = frozenset({"tcp", "6", "-1"}), frozenset({"-1"})

Kind = Literal["SecurityGroupIngress", "SecurityGroupEgress", "NetworkAcl", "Route"]
_REASONS: Mapping[Kind, str] = {
    "SecurityGroupIngress": "SecurityGroupRuleMissing",
    "SecurityGroupEgress": "SecurityGroupEgressMissing",
    "NetworkAcl": "NetworkAclDenies",
    "Route": "RouteMissing",
}


class TierPath(ActionModel):
    """A way that there must be: from a tier to a TCP port of another, each a security group's name."""

    source: Annotated[str, Field(alias="from", min_length=1, max_length=255)]
    target: Annotated[str, Field(alias="to", min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]

    @property
    def label(self) -> str:
        """How people say it."""
        return f"{self.source} to {self.target}:{self.port}"


class PathInputs(Inputs):
    """The declared ways in one VPC."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]{8,17}$")]
    paths: Annotated[tuple[TierPath, ...], Field(min_length=1, max_length=12)]
    region: str | None = None


class FromPathInputs(PathInputs):
    """The ways, and whether instances of the tiers are asked to connect: by `operator` only the rules are looked at."""

    vantage: Vantage = "operator"


class Blocker(ActionModel):
    """What stands in a way: of which kind, and the id of the group, ACL or subnet."""

    kind: Kind
    where: str


class PathVerdict(ActionModel):
    """What the rules say of one way. Shape: `unknown` says what could not be told; empty where all could."""

    path: TierPath
    source_id: str | None = None
    target_id: str | None = None
    blockers: tuple[Blocker, ...] = ()
    unknown: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The tiers that have no security group."""
        found = ((self.path.source, self.source_id), (self.path.target, self.target_id))
        return tuple(name for name, group in found if group is None)


# --- what the rules say -----------------------------------------------------------------------------------------------


class _Network:
    """One VPC as described. All of it is a function of what was read."""

    def __init__(self, groups: Any, acls: Any, tables: Any, interfaces: Any) -> None:
        self._groups, self._acls, self._tables, self._interfaces = groups, acls, tables, interfaces
        self._by_name = {group["name"]: identity for identity, group in groups.items()}

    def verdict(self, path: TierPath) -> PathVerdict:
        """Return what the rules say of a way."""
        source, target = self._by_name.get(path.source), self._by_name.get(path.target)
        known = PathVerdict(path=path, source_id=source, target_id=target)
        if source is None or target is None:
            return known
        blockers: list[Blocker] = []
        unknown = ""
        starts, ends = self._places(source), self._places(target)
        sides: tuple[tuple[Kind, str, str, str, Any], ...] = (
            ("SecurityGroupIngress", target, "ingress", source, starts),
            ("SecurityGroupEgress", source, "egress", target, ends),
        )
        for kind, group, direction, peer, places in sides:
            allowed = _group_allows(self._groups[group][direction], path.port, peer, [a for _, a in places])
            if allowed is None:
                unknown = f"a rule of {group} names a prefix list, which is not followed"
            elif not allowed:
                blockers.append(Blocker(kind=kind, where=group))
        if not starts or not ends:
            unknown = unknown or f"{path.source if not starts else path.target} has no network interface"
        for start in starts:
            for end in ends:
                blockers += self._between(start, end, path.port)
        unique = tuple(dict.fromkeys((b.kind, b.where) for b in blockers))
        found = tuple(Blocker(kind=kind, where=where) for kind, where in unique)
        return known.model_copy(update={"blockers": found[:8], "unknown": unknown})

    def _places(self, group: str) -> list[tuple[str, str]]:
        """Return subnet and address of each interface of a tier, at most twelve."""
        found = [(i["subnet"], i["address"]) for i in self._interfaces if group in i["groups"]]
        return sorted((s, a) for s, a in found if s and a)[:12]

    def addresses(self, group: str | None) -> tuple[str, ...]:
        """Return the addresses of a tier; none where it has no group."""
        return tuple(sorted({address for _, address in self._places(group)})) if group is not None else ()

    def _between(self, start: tuple[str, str], end: tuple[str, str], port: int) -> Iterable[Blocker]:
        """Yield what stands between two places: there and back."""
        if start[0] == end[0]:
            return
        ways = (
            (start, end[1], True, (port,)),
            (end, start[1], False, (port,)),
            (end, start[1], True, _EPHEMERAL),
            (start, end[1], False, _EPHEMERAL),
        )
        for (subnet, _), peer, egress, ports in ways:
            acl = next((a for a in self._acls if subnet in a["subnets"]), None)
            if acl is None or not all(_acl_allows(acl["entries"], egress, peer, p) for p in ports):
                yield Blocker(kind="NetworkAcl", where=acl["id"] if acl else subnet)
        for (subnet, _), (_, peer) in ((start, end), (end, start)):
            if not self._is_routed(subnet, peer):
                yield Blocker(kind="Route", where=subnet)

    def _is_routed(self, subnet: str, peer: str) -> bool:
        """Tell whether the most special route to an address leads somewhere."""
        own = [t for t in self._tables if subnet in t["subnets"]] or [t for t in self._tables if t["main"]]
        found = [
            (ip_network(route["cidr"]).prefixlen, route["state"] == "active")
            for table in own[:1]
            for route in table["routes"]
            if ip_address(peer) in ip_network(route["cidr"])
        ]
        return bool(found) and max(found)[1]


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    if rule["protocol"] not in _TCP:
        return False
    return rule["protocol"] in _ALL or (rule["from"] is not None and rule["from"] <= port <= rule["to"])


def _group_allows(rules: Sequence[Any], port: int, peer: str, addresses: Sequence[str]) -> bool | None:
    """Tell whether a group's rules let a peer in, or out to it; None where that hangs on a prefix list."""
    fit = [rule for rule in rules if _covers(rule, port)]
    if any(peer in rule["groups"] for rule in fit):
        return True
    networks = [ip_network(cidr) for rule in fit for cidr in rule["cidrs"]]
    if any(network.prefixlen == 0 and network.version == 4 for network in networks):
        return True
    if addresses and all(any(ip_address(a) in network for network in networks) for a in addresses):
        return True
    return None if any(rule["prefixLists"] for rule in fit) else False


def _acl_allows(entries: Sequence[Any], egress: bool, peer: str, port: int) -> bool:
    """Return what the first entry that fits says: a network ACL ends with a denial of everything."""
    for entry in sorted(entries, key=lambda e: e["number"]):
        if entry["egress"] != egress or entry["cidr"] is None or entry["protocol"] not in _TCP:
            continue
        within = entry["from"] is None or entry["protocol"] in _ALL or entry["from"] <= port <= entry["to"]
        if within and ip_address(peer) in ip_network(entry["cidr"]):
            return bool(entry["allow"])
    return False


def read_paths(inputs: PathInputs, reader: Reader) -> tuple[PathVerdict, ...]:
    """Return what the rules say of each way, in the order declared. Errors: ReadError."""
    return tuple(verdict for verdict, _ in _ways(inputs, reader))


def _ways(inputs: PathInputs, reader: Reader) -> tuple[tuple[PathVerdict, tuple[str, ...]], ...]:
    """Return what the rules say of each way, and the addresses where it ends. Errors: ReadError."""
    vpc, region = {"Name": "vpc-id", "Values": [inputs.vpc_id]}, inputs.region
    within = {"Filters": [vpc]}
    reader.prefetch("ec2", "describe_network_acls", within, region=region)
    reader.prefetch("ec2", "describe_route_tables", within, region=region)
    # By name within the VPC: a name given as an id would fail the whole call.
    names = sorted({name for path in inputs.paths for name in (path.source, path.target)})
    named = {"Filters": [vpc, {"Name": "group-name", "Values": names}]}
    groups = reader.aws("ec2", "describe_security_groups", named, region=region)
    members = {"Filters": [vpc, {"Name": "group-id", "Values": sorted(groups)}]}
    interfaces = reader.aws("ec2", "describe_network_interfaces", members, region=region) if groups else []
    acls = reader.aws("ec2", "describe_network_acls", within, region=region)
    tables = reader.aws("ec2", "describe_route_tables", within, region=region)
    try:
        network = _Network(groups, acls, tables, interfaces)
        verdicts = [network.verdict(path) for path in inputs.paths]
        return tuple((verdict, network.addresses(verdict.target_id)) for verdict in verdicts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the network of {inputs.vpc_id} is described in an unexpected way ({type(error).__name__})"
        raise ReadError("MalformedAnswer", message) from None


# --- ec2.path ---------------------------------------------------------------------------------------------------------


class PathFacts(Facts):
    """One verdict for each declared way."""

    verdicts: tuple[PathVerdict, ...]


class PathOutput(Output):
    """How many ways there are, and those that something stands in, by name."""

    paths: int
    blocked: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@register
class PathByRules(CheckAction[PathInputs, PathFacts]):
    """Do security groups, network ACLs and routes let each tier reach the next, there and back?"""

    name = "ec2.path"
    title = "The ways between tiers, by the rules"
    inputs_model = PathInputs
    facts_model = PathFacts
    reads = (
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeNetworkAcls",
        "ec2:DescribeRouteTables",
        "ec2:DescribeNetworkInterfaces",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "SecurityGroupMissing": ReasonInfo(doc="A tier has no security group of its name in the VPC.", root_cause=True),
        "SecurityGroupRuleMissing": ReasonInfo(doc="No rule of the tier lets the other one in.", root_cause=True),
        "SecurityGroupEgressMissing": ReasonInfo(doc="No rule of the tier lets it out to the other.", root_cause=True),
        "NetworkAclDenies": ReasonInfo(doc="A network ACL denies the way there or back.", root_cause=True),
        "RouteMissing": ReasonInfo(doc="A subnet has no route to the other, or a dead one.", root_cause=True),
    }

    def observe(self, inputs: PathInputs, reader: Reader) -> PathFacts:
        """Read the network, and judge each way."""
        return PathFacts(verdicts=read_paths(inputs, reader))

    def output(self, facts: PathFacts) -> PathOutput:
        """Return which ways are blocked."""
        return PathOutput(
            paths=len(facts.verdicts),
            blocked=tuple(v.path.label[:120] for v in facts.verdicts if v.blockers or v.missing),
            unknown=tuple(v.path.label[:120] for v in facts.verdicts if v.unknown),
        )

    def findings(self, inputs: PathInputs, facts: PathFacts) -> Sequence[Found] | Unclear:
        """Name what stands in the way; a way that can't be told is no open one."""
        found = []
        for verdict in facts.verdicts:
            label = verdict.path.label
            for name in verdict.missing:
                message = f"{label}: there is no security group {name} in {inputs.vpc_id}"
                found.append(Found(reason="SecurityGroupMissing", message=message, subject=name))
            for blocker in verdict.blockers:
                message = f"{label}: {_told(blocker)}"
                found.append(Found(reason=_REASONS[blocker.kind], message=message, subject=blocker.where))
        unknown = next((v for v in facts.verdicts if v.unknown), None)
        if unknown is not None:
            message = f"{unknown.path.label}: {unknown.unknown}"
            return Unclear(reason="PathUnknown", message=message, found=tuple(found[:12]))
        return found[:12]


def _told(blocker: Blocker) -> str:
    return {
        "SecurityGroupIngress": f"no rule of {blocker.where} lets it in",
        "SecurityGroupEgress": f"no rule of {blocker.where} lets it out",
        "NetworkAcl": f"network ACL {blocker.where} denies it, there or back",
        "Route": f"subnet {blocker.where} has no live route to it",
    }[blocker.kind]


# --- ec2.connect ------------------------------------------------------------------------------------------------------


class PathConnections(ActionModel):
    """What instances of a way's first tier met at its end. Shape: `nobody` says why none was asked; else empty."""

    path: TierPath
    heard: tuple[Heard, ...] = ()
    nobody: str = ""


class ConnectionsFacts(Facts):
    """What was met on each declared way; nothing where instances are not to be asked."""

    ways: tuple[PathConnections, ...]


class ConnectionsOutput(Output):
    """How many ways were tried, those that somebody does not get through, and those that can't be told, by name."""

    paths: int
    blocked: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@register
class ConnectAlongPaths(CheckAction[FromPathInputs, ConnectionsFacts]):
    """Do instances of each tier reach the next one? They connect, and send nothing.

    So it is asked only with `vantage: instances`, of instances that the grant's probes list.
    """

    name = "ec2.connect"
    title = "Connections between tiers, from where they begin"
    inputs_model = FromPathInputs
    facts_model = ConnectionsFacts
    reads = PathByRules.reads
    reads_from_instances = READS_FROM_INSTANCES
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ConnectionRefused": ReasonInfo(doc="The other tier answers, and nothing listens on the port."),
        "ConnectionBlocked": ReasonInfo(doc="From an instance of the tier no way leads to the other."),
    }

    def observe(self, inputs: FromPathInputs, reader: Reader) -> ConnectionsFacts:
        """Let instances connect along each way. Errors: ReadError."""
        if inputs.vantage == "operator":
            return ConnectionsFacts(ways=())
        return ConnectionsFacts(ways=_connections(_ways(inputs, reader), inputs.region, reader))

    def output(self, facts: ConnectionsFacts) -> ConnectionsOutput:
        """Return which ways are not passed."""
        reached = {"Connected", None}
        return ConnectionsOutput(
            paths=len(facts.ways),
            blocked=tuple(w.path.label[:120] for w in facts.ways if {h.outcome for h in w.heard} - reached)[:7],
            unknown=tuple(w.path.label[:120] for w in facts.ways if w.nobody or unanswered(w.heard))[:7],
        )

    def findings(self, inputs: FromPathInputs, facts: ConnectionsFacts) -> Sequence[Found] | Unclear:
        """Name who does not get through; a way that nobody could be asked for is no open one."""
        nobody = next((f"{w.path.label}: {w.nobody}" for w in facts.ways if w.nobody), "")
        if not facts.ways:
            nobody = "vantage is operator, and the operator stands in no tier"
        answer = judged([heard for way in facts.ways for heard in way.heard], nobody)
        if nobody and not isinstance(answer, Unclear):
            return Unclear(reason="NoInstance", message=nobody, found=tuple(answer))
        return answer


def _connections(
    ways: Sequence[tuple[PathVerdict, tuple[str, ...]]], region: str | None, reader: Reader
) -> tuple[PathConnections, ...]:
    """Return what instances met on each of these ways, all tried at once. Errors: ReadError."""
    whom: list[tuple[tuple[str, ...], str]] = []
    for verdict, ends in ways:
        sources: tuple[str, ...] = ()
        nobody = ""
        if verdict.missing:
            nobody = f"there is no security group {verdict.missing[0]}"
        elif not ends:
            nobody = f"{verdict.path.target} has no network interface"
        else:
            sources = running(reader, [("instance.group-id", str(verdict.source_id))], _SOURCES, region)
            nobody = "" if sources else f"no instance of {verdict.path.source} runs"
        whom.append((sources, nobody))
    asked = [
        ConnectFrom(instances=sources, host=address, port=verdict.path.port)
        for (verdict, ends), (sources, _) in zip(ways, whom, strict=True)
        if sources
        for address in ends[:_TARGETS]
    ]
    met = iter(as_heard(reader.tcp_from(asked, timeout=_CONNECT_TIMEOUT, region=region)) if asked else ())
    return tuple(
        PathConnections(
            path=verdict.path,
            heard=tuple(next(met) for _ in range(len(sources) * len(ends[:_TARGETS]))),
            nobody=nobody,
        )
        for (verdict, ends), (sources, nobody) in zip(ways, whom, strict=True)
    )


def _judged_by_connecting(path: TierPath, connected: Sequence[PathConnections]) -> Judgement:
    """Return whether all instances that were asked got along a way, and all of them said so."""
    way = next((w for w in connected if w.path == path), None)
    silent = "it was not tried"
    if way is not None:
        silent = unanswered(way.heard) if way.heard else way.nobody
    if way is None or silent:
        message = f"whether instances of {path.source} connect can't be told: {silent}"
        return Judgement(outcome=None, measured=False, message=message)
    failed = next((h for h in way.heard if h.outcome != "Connected"), None)
    if failed is not None:
        return Judgement(outcome=None, measured=True, message=f"{failed.label}: no connection ({failed.outcome})")
    return Judgement(outcome="Helped", measured=True, message=f"instances of {path.source} connect: {path.label}")


# --- ec2.restore-security-group-rule ----------------------------------------------------------------------------------


class RemovedRule(ActionModel):
    """Who took rules from a group, newest. Shape: `actor` as CloudTrail names them."""

    actor: str
    at: str


class RestoreFacts(Facts):
    """The ways, and who closed the one that would be opened again; `arn` is of the group that lost its rule.

    After the fix, where instances are asked: `connected` is what they met, by way.
    """

    verdicts: tuple[PathVerdict, ...]
    connected: tuple[PathConnections, ...] = ()
    arn: str = ""
    removed: RemovedRule | None = None

    @property
    def closed(self) -> PathVerdict | None:
        """The first way that nothing but a missing rule of its end stands in."""
        return next((v for v in self.verdicts if _only_a_rule(v)), None)


def _only_a_rule(verdict: PathVerdict) -> bool:
    kinds = {blocker.kind for blocker in verdict.blockers}
    return kinds == {"SecurityGroupIngress"} and not verdict.unknown and not verdict.missing


@register
class RestoreRule(FixAction[FromPathInputs, RestoreFacts]):
    """Give a security group back the one rule that lets a declared tier in.

    Whether it helped is judged by connections of that tier's instances (`vantage: instances`), else by the rules.
    """

    name = "ec2.restore-security-group-rule"
    title = "Give back a security group's rule"
    inputs_model = FromPathInputs
    facts_model = RestoreFacts
    reads = (*PathByRules.reads, "cloudtrail:LookupEvents")
    reads_from_instances = READS_FROM_INSTANCES
    risk = "Disruptive: it opens a way. It asks beyond what the grant calls restorable, and for an unknown actor."
    undo = "The rule is taken away again."
    waits = Waits(wait=timedelta(seconds=10), every=timedelta(seconds=10), deadline=timedelta(minutes=2))
    writes = ("ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "PathOpen": ReasonInfo(doc="The rules let every declared way through: what is closed is elsewhere."),
        "PathUnknown": ReasonInfo(doc="What the rules say of the closed way can't be told."),
        "SecurityGroupMissing": ReasonInfo(doc="A tier has no security group of its name in the VPC."),
        "SecurityGroupEgressMissing": ReasonInfo(doc="What is missing is a rule that lets the tier out."),
        "NetworkAclDenies": ReasonInfo(doc="A network ACL denies the way: no rule of a group opens it."),
        "RouteMissing": ReasonInfo(doc="There is no route: no rule of a group opens the way."),
    }

    def observe(self, inputs: FromPathInputs, reader: Reader) -> RestoreFacts:
        """Read the network, and who took rules from the group that lacks one."""
        facts = RestoreFacts(verdicts=read_paths(inputs, reader))
        closed = facts.closed
        if closed is None or closed.target_id is None:
            return facts
        where = inputs.region or reader.region
        arn = f"arn:aws:ec2:{where}:{reader.account}:security-group/{closed.target_id}"
        return facts.model_copy(update={"arn": arn, "removed": _removed(closed, inputs, reader)})

    def plan(self, inputs: FromPathInputs, facts: RestoreFacts) -> PlanDraft | NotApplicable:
        """Plan the one rule, for the first way that lacks nothing else."""
        closed = facts.closed
        if closed is None or closed.source_id is None or closed.target_id is None:
            return _not_applicable(facts)
        path, source, target = closed.path, closed.source_id, closed.target_id
        rule = {
            "IpProtocol": "tcp",
            "FromPort": path.port,
            "ToPort": path.port,
            "UserIdGroupPairs": [{"GroupId": source}],
        }

        def call(verb: str, summary: str) -> Call:
            return Call(
                service="ec2",
                operation=f"{verb.lower()}_security_group_ingress",
                arguments={"GroupId": target, "IpPermissions": [rule]},
                permissions=(f"ec2:{verb}SecurityGroupIngress",),
                resources=(facts.arn,),
                repeat=Repeat.GUARDED,
                timeout=_CALL_TIMEOUT,
                summary=summary,
            )

        signal = f"security groups, network ACLs and routes let {path.label} through"
        if inputs.vantage == "instances":
            signal = f"instances of {path.source} connect to {path.target}:{path.port}"
        removed = facts.removed
        removal = Removal(actor=None)
        if removed is not None:
            at = parse_instant(removed.at)
            removal = Removal(actor=removed.actor, at=at, event="RevokeSecurityGroupIngress")
        read = Read(service="ec2", operation="describe_security_groups", arguments={"GroupIds": [target]})
        return PlanDraft(
            title=f"let {path.label} through again",
            calls=(call("Authorize", f"let {source} in to TCP {path.port} of {target}"),),
            touches=(facts.arn,),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.GRANTS_ACCESS,),
            region=inputs.region,
            verify=self.waits.verify(signal),
            diff=(DiffLine(what=f"rules of {target}", after=f"TCP {path.port} from {source}"),),
            undo=Undo(
                calls=(call("Revoke", f"take the rule for TCP {path.port} from {source} away from {target}"),),
                safe_when=f"the rules of {target} are those that the fix left",
                guards=(Guard(read=read, path=f"{target}.ingress"),),
            ),
            grants=(GrantedPath(source=source, target=target, port=path.port),),
            removals=(removal,),
        )

    def applied(self, call: Call, inputs: FromPathInputs, facts: RestoreFacts) -> bool | None:
        """Tell by whether the rules let the way in."""
        target, (rule,) = call.arguments["GroupId"], call.arguments["IpPermissions"]
        (peer,) = rule["UserIdGroupPairs"]
        wanted = (peer["GroupId"], target, rule["FromPort"])
        meant = [v for v in facts.verdicts if (v.source_id, v.target_id, v.path.port) == wanted]
        if not meant:
            return None
        lets_in = all(blocker.kind != "SecurityGroupIngress" for blocker in meant[0].blockers)
        return lets_in if call.operation.startswith("authorize") else not lets_in

    def measure(self, inputs: FromPathInputs, reader: Reader) -> RestoreFacts:
        """Read the network, and let instances connect along every way that the rules let through."""
        if inputs.vantage == "operator":
            return RestoreFacts(verdicts=read_paths(inputs, reader))
        ways = _ways(inputs, reader)
        is_open = [(verdict, ends) for verdict, ends in ways if not (verdict.blockers or verdict.missing)]
        return RestoreFacts(
            verdicts=tuple(verdict for verdict, _ in ways), connected=_connections(is_open, inputs.region, reader)
        )

    def judge(self, inputs: FromPathInputs, before: RestoreFacts, after: RestoreFacts) -> Judgement:
        """The way that was closed is open by every rule; where instances are asked, all of them connect."""
        closed = before.closed
        if closed is None:
            return Judgement(outcome=None, measured=False, message="which way was closed is not recorded")
        now = next((v for v in after.verdicts if v.path == closed.path), None)
        label = closed.path.label
        if now is None or now.unknown:
            return Judgement(outcome=None, measured=False, message=f"whether {label} is open can't be told")
        if now.blockers or now.missing:
            return Judgement(outcome=None, measured=True, message=f"something stands in {label} still")
        if inputs.vantage == "instances":
            return _judged_by_connecting(closed.path, after.connected)
        return Judgement(outcome="Helped", measured=True, message=f"the rules let {label} through")


def _not_applicable(facts: RestoreFacts) -> NotApplicable:
    """Return why no rule of a group opens a way."""
    verdict = next((v for v in facts.verdicts if v.missing or v.blockers), None)
    if verdict is None:
        unknown = next((v for v in facts.verdicts if v.unknown), None)
        if unknown is not None:
            return NotApplicable(reason="PathUnknown", message=f"{unknown.path.label}: {unknown.unknown}")
        return NotApplicable(reason="PathOpen", message="the rules let every declared way through")
    label = verdict.path.label
    if verdict.missing:
        message = f"{label}: there is no security group {verdict.missing[0]}"
        return NotApplicable(reason="SecurityGroupMissing", message=message)
    other = next((b for b in verdict.blockers if b.kind != "SecurityGroupIngress"), None)
    if other is None:
        return NotApplicable(reason="PathUnknown", message=f"{label}: {verdict.unknown}")
    return NotApplicable(reason=_REASONS[other.kind], message=f"{label}: {_told(other)}")


def _removed(closed: PathVerdict, inputs: PathInputs, reader: Reader) -> RemovedRule | None:
    """Return who took the rule away, newest first; None where CloudTrail does not show it (yet).

    A removal by a rule's id does not say which rule it was: it counts, since its actor may have meant this one.
    """
    arguments = {
        "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": closed.target_id}],
        "StartTime": (reader.now - reader.scaled(_LOOK_BACK)).replace(microsecond=0).isoformat(),
    }
    events = reader.aws("cloudtrail", "lookup_events", arguments, region=inputs.region)
    for event in sorted(events, key=lambda e: str(e["at"]), reverse=True):
        if event["name"] != "RevokeSecurityGroupIngress" or event["error"]:
            continue
        rules = ((event["parameters"].get("ipPermissions") or {}).get("items")) or []
        if not rules or any(_is_of(rule, closed) for rule in rules):
            return RemovedRule(actor=event["actor"] or "unknown", at=str(event["at"])) if event["actor"] else None
    return None


def _is_of(rule: Mapping[str, Any], closed: PathVerdict) -> bool:
    """Tell whether a rule, as CloudTrail writes it, let the way in."""
    groups = {group.get("groupId") for group in (rule.get("groups") or {}).get("items", ())}
    first, last = rule.get("fromPort"), rule.get("toPort")
    within = first is None or last is None or first <= closed.path.port <= last
    return within and (closed.source_id in groups or not groups)
