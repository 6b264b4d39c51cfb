"""RDS: promoting a read replica, the last resort where the primary is lost.

A promoted replica is a second primary: writes that the old one still takes are lost, and applications go on talking to
it. So nothing is planned unless the old primary is shown to take no writes (the *fence*), the application's endpoint is
one that can be led elsewhere (the *switch*), and what the replica lacks is known and within the bound. Source: the RDS
API reference, PromoteReadReplica and DB instance status; CloudWatch metrics of RDS.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from ..api.meta import Risk, parse_instant
from ..api.plan import Call, DiffLine, Hazard, Precondition, Read, Repeat
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import ActionModel, Facts, FixAction, ReasonInfo, register
from .metric_data import metric_data, metric_period, metric_query
from .ports import NotFound, Reader, ReadError
from .rds import InstanceInputs

_TIMEOUT = timedelta(seconds=10)
#: RDS itself says of these that the server does not run, and it does not come back without a person.
_DOWN = frozenset({"failed", "stopped", "inaccessible-encryption-credentials"})
#: People may think for hours after the primary's last sign of life.
_LOOK_BACK = timedelta(hours=6)
#: How old the newest sample may be that says that nobody is connected: RDS measures each minute, and tells it later.
_FRESH = timedelta(minutes=5)
_PERIOD = timedelta(minutes=1)
_DEFAULT_BACKUP_DAYS = 7
_MOST_GROUPS = 8
#: Through the application's endpoint. Shape: one row.
_STANDBY = "SELECT pg_is_in_recovery() AS standby"

Samples = list[tuple[datetime, float]]


class PromoteInputs(InstanceInputs):
    """The replica (`instance`), the primary it follows, and the connection that leads where the application goes.

    Units: seconds of writes that may be lost at most.
    """

    primary: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]
    connection: Annotated[
        str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", max_length=63, json_schema_extra={"literal": True})
    ]
    max_lag_seconds: Annotated[int, Field(ge=0, le=3600)] = 60


class Primary(ActionModel):
    """The old primary, and what shows that it takes no writes.

    Shape: `arn` None: there is no such instance. `letting_in` are its security groups that let somebody in; None where
    that is not known. `connections` is the newest sample of who is connected, None without a fresh one; `seen_at` the
    instant of the newest sample of all.
    """

    arn: str | None = None
    status: str = ""
    place: str | None = None
    multi_az: bool = False
    backup_days: int = 0
    groups: tuple[str, ...] = ()
    letting_in: tuple[str, ...] | None = None
    connections: float | None = None
    seen_at: datetime | None = None

    @property
    def fence(self) -> str | None:
        """Why it takes no writes, in words; None where nothing shows it."""
        if self.arn is None:
            return "it does not exist any more"
        if self.status in _DOWN:
            return f"RDS says that it is {self.status}"
        if self.groups and self.letting_in == () and self.connections == 0:
            return "no security group of it lets anybody in, and nobody is connected"
        return None

    @property
    def is_open(self) -> bool:
        """Tell whether it surely can be written to: more than that nothing shows the contrary."""
        return self.status == "available" and bool(self.letting_in or self.connections)


class PromoteFacts(Facts):
    """The replica, its primary, and what the replica lacks.

    Shape: `arn` None: there is no such instance; `follows` None: it is no replica. Units: `lag_seconds` as RDS measured
    it last, at `lag_at`; None without a sample. `endpoint` is where the application's connection leads, None without
    one; `standby` is what the server behind it says, once that is asked, and `silent` why it said nothing.
    """

    arn: str | None = None
    status: str = ""
    engine: str = ""
    place: str | None = None
    pending: tuple[str, ...] = ()
    follows: str | None = None
    primary: Primary
    lag_seconds: float | None = None
    lag_at: datetime | None = None
    endpoint: str | None = None
    standby: bool | None = None
    silent: str | None = None

    @property
    def behind_seconds(self) -> float | None:
        """How many seconds of writes the replica lacks at most; None where that is not known.

        What the primary still did after the lag was last measured counts as well.
        """
        if self.lag_seconds is None or self.lag_at is None or self.primary.seen_at is None:
            return None
        return self.lag_seconds + max(0.0, (self.primary.seen_at - self.lag_at).total_seconds())


def _samples(metric: str, instance: str, inputs: PromoteInputs, reader: Reader) -> Samples:
    """Read the maxima of an instance's metric, oldest first. Errors: ReadError."""
    dimensions = [{"Name": "DBInstanceIdentifier", "Value": instance}]
    period = metric_period(reader.scaled(_PERIOD))
    query = metric_query("metric", "AWS/RDS", metric, dimensions, period=period, statistic="Maximum")
    start = (reader.now - reader.scaled(_LOOK_BACK)).replace(microsecond=0)
    arguments = metric_data([query], start, reader.now)
    series = reader.aws("cloudwatch", "get_metric_data", arguments, region=inputs.region)
    return sorted((parse_instant(str(t)), float(v)) for s in series for t, v in zip(s["at"], s["values"], strict=True))


def _letting_in(groups: tuple[str, ...], inputs: PromoteInputs, reader: Reader) -> tuple[str, ...] | None:
    """Return which of these security groups let somebody in; None where one of them is not there to be read."""
    try:
        found = reader.aws("ec2", "describe_security_groups", {"GroupIds": sorted(groups)}, region=inputs.region)
    except NotFound:
        return None
    return None if set(groups) - set(found) else tuple(name for name in groups if found[name]["ingress"])


def _read_primary(inputs: PromoteInputs, reader: Reader) -> Primary:
    """Read the primary and what fences it. Errors: ReadError."""
    seen = _samples("DatabaseConnections", inputs.primary, inputs, reader)
    fresh = bool(seen) and reader.now - seen[-1][0] <= reader.scaled(_FRESH)
    measured = {"seen_at": seen[-1][0] if seen else None, "connections": seen[-1][1] if fresh else None}
    try:
        found = reader.aws(
            "rds", "describe_db_instances", {"DBInstanceIdentifier": inputs.primary}, region=inputs.region
        )
    except NotFound:
        return Primary(**measured)
    groups = tuple(found["securityGroups"])
    # While a change of the groups is under way, nobody knows which of them holds; more than RDS takes are not read.
    known = 0 < len(groups) <= _MOST_GROUPS and found["securityGroupsActive"]
    return Primary(
        arn=found["arn"],
        status=found["status"],
        place=found["place"],
        multi_az=found["multiAz"],
        backup_days=found["backupDays"],
        groups=groups,
        letting_in=_letting_in(groups, inputs, reader) if known else None,
        **measured,
    )


def _refused(inputs: PromoteInputs, facts: PromoteFacts) -> NotApplicable | None:
    """Return the first reason why nothing is promoted; None where nothing speaks against it."""
    name, old, primary, behind = inputs.instance, inputs.primary, facts.primary, facts.behind_seconds
    ends = {place for place in (primary.place, facts.place) if place is not None}
    bound = inputs.max_lag_seconds
    for reason, holds, message in (
        ("ReplicaMissing", facts.arn is None, f"there is no DB instance {name}"),
        ("NotAReplica", facts.follows is None, f"{name} follows nobody"),
        ("ReplicaOfAnother", facts.follows != old, f"{name} follows {facts.follows}, and not {old}"),
        ("EngineUnsupported", facts.engine != "postgres", f"{name} is {facts.engine}"),
        ("ReplicaNotAvailable", facts.status != "available", f"{name} is {facts.status}: wait until it is available"),
        ("ChangesPending", bool(facts.pending), f"{', '.join(facts.pending)} of {name} would be changed as well"),
        ("StandbyThere", primary.multi_az and primary.status == "available", f"{old} has a standby: fail over to it"),
        ("PrimaryNotFenced", primary.fence is None, _unfenced(old, primary)),
        ("EndpointSwitchMissing", facts.endpoint is None, f"the run gives no connection {inputs.connection}"),
        ("EndpointFixed", facts.endpoint in ends, f"{inputs.connection} leads to {facts.endpoint}, an instance's own"),
        ("ReplicaLagUnknown", behind is None, f"how far {name} was behind when {old} was last seen is not measured"),
        (
            "ReplicaLagTooHigh",
            behind is not None and behind > bound,
            f"{name} lacks writes of up to {behind or 0:.0f} s, and {bound} s may be lost",
        ),
    ):
        if holds:
            return NotApplicable(reason=reason, message=message)
    return None


def _unfenced(name: str, primary: Primary) -> str:
    if primary.letting_in:
        why = f"{', '.join(primary.letting_in)} lets clients in"
    elif primary.connections:
        why = f"{primary.connections:.0f} clients are connected"
    else:
        why = "who can reach it, or is connected to it, is not known"
    return f"{name} is {primary.status}, and {why}: stop it from taking writes first"


@register
class PromoteReadReplica(FixAction[PromoteInputs, PromoteFacts]):
    """Make a primary of a read replica, once, where the old primary is shown to take no writes any more."""

    name = "rds.promote-read-replica"
    title = "Promote a read replica"
    inputs_model = PromoteInputs
    facts_model = PromoteFacts
    reads = ("rds:DescribeDBInstances", "cloudwatch:GetMetricData", "ec2:DescribeSecurityGroups")
    writes = ("rds:PromoteReadReplica",)
    risk = "Destructive: writes that the replica lacks are lost, and the old primary never comes back as one."
    undo = "None: a promoted replica follows nobody again."
    waits = Waits(wait=timedelta(minutes=1), every=timedelta(seconds=30), deadline=timedelta(minutes=30))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ReplicaMissing": ReasonInfo(doc="There is no such DB instance in the grant's account and region."),
        "NotAReplica": ReasonInfo(doc="The instance follows no other: there is nothing to promote."),
        "ReplicaOfAnother": ReasonInfo(doc="The instance follows another primary than the one that is lost."),
        "EngineUnsupported": ReasonInfo(
            doc="Only replicas of PostgreSQL are promoted: those of Aurora are failed over by their cluster."
        ),
        "ReplicaNotAvailable": ReasonInfo(doc="The replica is being changed, backed up or repaired."),
        "ChangesPending": ReasonInfo(
            doc="Changes of the replica wait for its maintenance window: the restart at the promotion makes them all."
        ),
        "StandbyThere": ReasonInfo(
            doc="The primary is available and has a standby in another zone, which loses nothing: fail over to it."
        ),
        "PrimaryNotFenced": ReasonInfo(
            doc="Nothing shows that the old primary takes no writes: RDS does not say that it is down, and it is not "
            "cut off by its security groups with nobody connected. Of two primaries, one loses its writes."
        ),
        "EndpointSwitchMissing": ReasonInfo(
            doc="The run gives no connection through the application's endpoint: nobody could tell whether it follows."
        ),
        "EndpointFixed": ReasonInfo(
            doc="The application's connection is an RDS endpoint, which leads to one instance for ever: give the name, "
            "proxy or pooler that can be led to the promoted one."
        ),
        "ReplicaLagUnknown": ReasonInfo(
            doc="How far the replica was behind when the primary last gave a sign of life is not measured."
        ),
        "ReplicaLagTooHigh": ReasonInfo(doc="The replica lacks more of the latest writes than may be lost."),
    }

    def observe(self, inputs: PromoteInputs, reader: Reader) -> PromoteFacts:
        """Read the replica, its primary and the fence, and how far it was behind. Errors: ReadError."""
        try:
            endpoint: str | None = reader.postgres_place(inputs.connection)
        except ReadError as error:
            if error.reason != "ConnectionMissing":
                raise
            endpoint = None
        primary = _read_primary(inputs, reader)
        # A negative lag says that the replica follows nobody, not how far it is behind.
        lags = [s for s in _samples("ReplicaLag", inputs.instance, inputs, reader) if s[1] >= 0]
        measured = {"lag_at": lags[-1][0], "lag_seconds": lags[-1][1]} if lags else {}
        facts = PromoteFacts(endpoint=endpoint, primary=primary).model_copy(update=measured)
        try:
            found = reader.aws(
                "rds", "describe_db_instances", {"DBInstanceIdentifier": inputs.instance}, region=inputs.region
            )
        except NotFound:
            return facts
        return facts.model_copy(
            update={
                "arn": found["arn"],
                "status": found["status"],
                "engine": found["engine"],
                "place": found["place"],
                "pending": tuple(found["pending"]),
                "follows": found["replicaOf"],
            }
        )

    def plan(self, inputs: PromoteInputs, facts: PromoteFacts) -> PlanDraft | NotApplicable:
        """Plan one call, never repeated, whose fence is looked at again just before it."""
        refusal = _refused(inputs, facts)
        if refusal is not None:
            return refusal
        primary, arn = facts.primary, facts.arn or ""
        call = Call(
            service="rds",
            operation="promote_read_replica",
            arguments={
                "DBInstanceIdentifier": inputs.instance,
                # Else a replica, which is not backed up, is a primary without backups.
                "BackupRetentionPeriod": primary.backup_days or _DEFAULT_BACKUP_DAYS,
            },
            permissions=("rds:PromoteReadReplica",),
            resources=(arn,),
            repeat=Repeat.ONCE,
            timeout=_TIMEOUT,
            summary=f"promote {inputs.instance}",
        )
        return PlanDraft(
            title=f"promote {inputs.instance} in place of {inputs.primary}",
            calls=(call,),
            # Nobody is to change the old primary meanwhile.
            touches=(arn, *((primary.arn,) if primary.arn is not None else ())),
            risk=Risk.DESTRUCTIVE,
            hazards=(Hazard.LOSES_DATA, Hazard.OUTAGE),
            preconditions=_preconditions(inputs, primary),
            region=inputs.region,
            verify=self.waits.verify(
                f"{inputs.instance} is available and follows nobody, the application's endpoint leads to a "
                f"server that takes writes, and {inputs.primary} takes none",
            ),
            diff=(
                DiffLine(what=f"who {inputs.instance} follows", before=inputs.primary, after="nobody"),
                DiffLine(what="writes that are lost", after=f"those of {facts.behind_seconds or 0:.0f} s at most"),
                DiffLine(what=f"why {inputs.primary} takes no writes", before=primary.fence),
                DiffLine(what="the application's endpoint", before=facts.endpoint, after="led there by a person"),
            ),
            irreversible="a promoted replica follows nobody again; the old primary is made anew as its replica",
        )

    def applied(self, call: Call, inputs: PromoteInputs, facts: PromoteFacts) -> bool | None:
        """Tell by whom the instance follows, or by the change that is under way."""
        return None if facts.arn is None else facts.follows is None or facts.status == "modifying"

    def measure(self, inputs: PromoteInputs, reader: Reader) -> PromoteFacts:
        """Read the same, and ask the server behind the application's endpoint."""
        facts = self.observe(inputs, reader)
        try:
            (row,) = reader.postgres(inputs.connection, _STANDBY).rows
        except ReadError as error:
            return facts.model_copy(update={"silent": error.reason})
        return facts.model_copy(update={"standby": bool(row["standby"])})

    def judge(self, inputs: PromoteInputs, before: PromoteFacts, after: PromoteFacts) -> Judgement:
        """Helped: promoted, alone, and reached by the application. What users feel, recovery tells."""
        name, old = inputs.instance, inputs.primary
        if after.primary.is_open:
            return Judgement(outcome="Worse", measured=True, message=f"{old} takes writes again beside {name}")
        if after.arn is None:
            return Judgement(outcome=None, measured=False, message=f"{name} is not there")
        if after.follows is not None or after.status != "available":
            message = f"{name} is {after.status}" + (f", and follows {after.follows}" if after.follows else "")
            return Judgement(outcome=None, measured=True, message=message, waiting_for="the end of the promotion")
        if after.primary.fence is None:
            message = f"{name} is promoted, and whether {old} takes writes is not known"
            return Judgement(outcome=None, measured=False, message=message)
        if after.standby is not False:
            said = "leads to a standby" if after.standby else f"gives no answer: {after.silent}"
            return Judgement(
                outcome=None,
                measured=True,
                message=f"{name} is promoted, and the application's endpoint {said}",
                waiting_for=f"the application's endpoint, which a person leads to {after.place}",
            )
        message = f"{name} is promoted, and the application's endpoint leads to a server that takes writes"
        return Judgement(outcome="Helped", measured=True, message=message)


def _preconditions(inputs: PromoteInputs, primary: Primary) -> tuple[Precondition, ...]:
    """Return what must still be so at the call: the replica as it was, and the fence."""

    def of(instance: str, path: str, equals: str | list[str] | None) -> Precondition:
        read = Read(service="rds", operation="describe_db_instances", arguments={"DBInstanceIdentifier": instance})
        return Precondition(read=read, path=path, equals=equals)

    replica = inputs.instance
    held = [
        of(replica, "status", "available"),
        of(replica, "pending", []),
        of(replica, "replicaOf", inputs.primary),
    ]
    if primary.arn is not None:
        held.append(of(inputs.primary, "status", primary.status))
        if primary.status not in _DOWN:
            held.append(of(inputs.primary, "securityGroups", list(primary.groups)))
            for group in primary.groups:
                groups = Read(
                    service="ec2", operation="describe_security_groups", arguments={"GroupIds": sorted(primary.groups)}
                )
                held.append(Precondition(read=groups, path=f"{group}.ingress", equals=[]))
    return tuple(held)
