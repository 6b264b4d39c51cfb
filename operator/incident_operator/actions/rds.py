"""RDS: fixes of a DB instance that are an outage, and so are refused whenever they would do more than they say."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Hazard, Precondition, Read, Repeat
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import Facts, FixAction, Inputs, ReasonInfo, register
from .ports import NotFound, Reader

_TIMEOUT = timedelta(seconds=10)
#: States of an instance that end by themselves. Source: Amazon RDS User Guide, Viewing Amazon RDS DB instance status.
_PASSING = frozenset({"backing-up", "creating", "maintenance", "modifying", "rebooting", "starting", "upgrading"})

_REASONS: Mapping[str, ReasonInfo] = {
    "InstanceMissing": ReasonInfo(doc="There is no such DB instance in the grant's account and region."),
    "InstanceNotAvailable": ReasonInfo(doc="The DB instance is being changed, restarted or repaired."),
    "ChangesPending": ReasonInfo(
        doc="Changes of the instance wait for its maintenance window: ApplyImmediately, or a restart, would make them "
        "all at once."
    ),
}


class InstanceInputs(Inputs):
    """A DB instance by its identifier."""

    instance: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")] | None = None


class InstanceFacts(Facts):
    """The instance, in short. Shape: `arn` None: there is none; `pending` are names of settings."""

    arn: str | None = None
    status: str = ""
    instance_class: str = ""
    pending: tuple[str, ...] = ()
    multi_az: bool = False
    zone: str | None = None
    #: What this engine can be, where the fix asks for it.
    orderable: bool | None = None


def _read(inputs: InstanceInputs, reader: Reader) -> InstanceFacts:
    arguments = {"DBInstanceIdentifier": inputs.instance}
    try:
        found = reader.aws("rds", "describe_db_instances", arguments, region=inputs.region)
    except NotFound:
        return InstanceFacts()
    return InstanceFacts(
        arn=found["arn"],
        status=found["status"],
        instance_class=found["class"],
        pending=tuple(found["pending"]),
        multi_az=found["multiAz"],
        zone=found["zone"],
    )


I = TypeVar("I", bound=InstanceInputs)  # noqa: E741


class _InstanceFix(FixAction[I, InstanceFacts]):
    """What both share: the refusals, and what must still be so at the call."""

    facts_model = InstanceFacts

    def _refused(self, inputs: I, facts: InstanceFacts) -> NotApplicable | None:
        if facts.arn is None:
            return NotApplicable(reason="InstanceMissing", message=f"there is no DB instance {inputs.instance}")
        if facts.status != "available":
            message = f"{inputs.instance} is {facts.status}: wait until it is available"
            return NotApplicable(reason="InstanceNotAvailable", message=message, for_now=facts.status in _PASSING)
        if facts.pending:
            message = f"{', '.join(facts.pending)} of {inputs.instance} would be changed as well: decide on that first"
            return NotApplicable(reason="ChangesPending", message=message)
        return None

    def _preconditions(self, inputs: I) -> tuple[Precondition, ...]:
        read = Read(
            service="rds", operation="describe_db_instances", arguments={"DBInstanceIdentifier": inputs.instance}
        )
        return (
            Precondition(read=read, path="status", equals="available"),
            Precondition(read=read, path="pending", equals=[]),
        )

    def _call(self, inputs: I, facts: InstanceFacts, operation: str, permission: str, **arguments: Any) -> Call:
        return Call(
            service="rds",
            operation=operation,
            arguments={"DBInstanceIdentifier": inputs.instance, **arguments},
            permissions=(permission,),
            resources=(facts.arn or "",),
            # Each is an outage: one that may have been made is never made again.
            repeat=Repeat.ONCE,
            timeout=_TIMEOUT,
            summary=f"{operation.replace('_', ' ')} {inputs.instance}",
        )


class ResizeInputs(InstanceInputs):
    """What the instance is to be."""

    instance_class: Annotated[str, Field(pattern=r"^db\.[a-z0-9]+\.[a-z0-9]+$", max_length=32)] | None = None


@register
class ResizeInstance(_InstanceFix[ResizeInputs]):
    """Give the instance another class, at once."""

    name = "rds.resize-instance"
    title = "Resize the DB instance"
    inputs_model = ResizeInputs
    reads = ("rds:DescribeDBInstances", "rds:DescribeOrderableDBInstanceOptions")
    writes = ("rds:ModifyDBInstance",)
    risk = "Disruptive: an outage of minutes, and it costs more. It frees no connection that is leaked."
    undo = "None by a machine: going back is a second outage, for a time that people choose."
    waits = Waits(wait=timedelta(minutes=2), every=timedelta(seconds=30), deadline=timedelta(minutes=45))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **_REASONS,
        "NoClassGiven": ReasonInfo(doc="The run gives no class to resize to."),
        "ClassAlready": ReasonInfo(doc="The instance is of this class already."),
        "ClassUnknown": ReasonInfo(doc="RDS offers no such class for the instance's engine there."),
    }

    def observe(self, inputs: ResizeInputs, reader: Reader) -> InstanceFacts:
        """Read the instance, and whether the class can be had. Errors: ReadError."""
        facts = _read(inputs, reader)
        if facts.arn is None or inputs.instance_class is None:
            return facts
        engine = reader.aws(
            "rds", "describe_db_instances", {"DBInstanceIdentifier": inputs.instance}, region=inputs.region
        )["engine"]
        arguments = {"Engine": engine, "DBInstanceClass": inputs.instance_class}
        offered = reader.aws("rds", "describe_orderable_db_instance_options", arguments, region=inputs.region)
        return facts.model_copy(update={"orderable": inputs.instance_class in offered})

    def plan(self, inputs: ResizeInputs, facts: InstanceFacts) -> PlanDraft | NotApplicable:
        """Plan one call, unless it would change anything besides the class."""
        refusal, wanted = self._refused(inputs, facts), inputs.instance_class
        if wanted is None:
            return NotApplicable(reason="NoClassGiven", message="the run gives no class to resize to")
        if refusal is not None:
            return refusal
        if wanted == facts.instance_class:
            return NotApplicable(reason="ClassAlready", message=f"{inputs.instance} is {wanted} already")
        if not facts.orderable:
            return NotApplicable(reason="ClassUnknown", message=f"RDS offers no {wanted} for {inputs.instance}")
        call = self._call(
            inputs,
            facts,
            "modify_db_instance",
            "rds:ModifyDBInstance",
            DBInstanceClass=wanted,
            ApplyImmediately=True,
        )
        return PlanDraft(
            title=f"resize {inputs.instance} from {facts.instance_class} to {wanted}, at once",
            calls=(call,),
            touches=(facts.arn or "",),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.OUTAGE, Hazard.COST),
            preconditions=self._preconditions(inputs),
            region=inputs.region,
            verify=self.waits.verify(f"{inputs.instance} is available as {wanted}, with nothing pending"),
            diff=(DiffLine(what=f"class of {inputs.instance}", before=facts.instance_class, after=wanted),),
            irreversible=f"going back to {facts.instance_class} is a second outage: at a time that people choose",
        )

    def applied(self, call: Call, inputs: ResizeInputs, facts: InstanceFacts) -> bool | None:
        """Tell by the class, or by the change that waits or is under way."""
        wanted = call.arguments["DBInstanceClass"]
        return facts.instance_class == wanted or facts.status == "modifying" or "DBInstanceClass" in facts.pending

    def judge(self, inputs: ResizeInputs, before: InstanceFacts, after: InstanceFacts) -> Judgement:
        """Helped: available, of the new class, nothing pending."""
        if after.arn is None:
            return Judgement(outcome=None, measured=False, message=f"{inputs.instance} is not there")
        message = f"{inputs.instance} is {after.status}, {after.instance_class}"
        well = after.status == "available" and after.instance_class == inputs.instance_class and not after.pending
        return Judgement(
            outcome="Helped" if well else None,
            measured=True,
            message=message,
            waiting_for=None if well else "the end of the change",
        )


@register
class RebootWithFailover(_InstanceFix[InstanceInputs]):
    """Let the standby of a Multi-AZ instance take over."""

    name = "rds.reboot-with-failover"
    title = "Fail over to the standby"
    inputs_model = InstanceInputs
    reads = ("rds:DescribeDBInstances",)
    writes = ("rds:RebootDBInstance",)
    risk = "Disruptive: an outage of one or two minutes; every connection is lost and opened anew."
    undo = "None: a second failover is a second outage."
    waits = Waits(wait=timedelta(minutes=1), every=timedelta(seconds=20), deadline=timedelta(minutes=10))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **_REASONS,
        "NotMultiAz": ReasonInfo(doc="The instance has no standby: a restart would only be an outage."),
    }

    def observe(self, inputs: InstanceInputs, reader: Reader) -> InstanceFacts:
        """Read the instance. Errors: ReadError."""
        return _read(inputs, reader)

    def plan(self, inputs: InstanceInputs, facts: InstanceFacts) -> PlanDraft | NotApplicable:
        """Plan one call, never repeated."""
        refusal = self._refused(inputs, facts)
        if refusal is not None:
            return refusal
        if not facts.multi_az:
            message = f"{inputs.instance} has no standby in another zone"
            return NotApplicable(reason="NotMultiAz", message=message)
        call = self._call(inputs, facts, "reboot_db_instance", "rds:RebootDBInstance", ForceFailover=True)
        return PlanDraft(
            title=f"fail {inputs.instance} over to its standby",
            calls=(call,),
            touches=(facts.arn or "",),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.OUTAGE,),
            preconditions=self._preconditions(inputs),
            region=inputs.region,
            verify=self.waits.verify(f"{inputs.instance} is available in another zone"),
            diff=(DiffLine(what=f"zone of {inputs.instance}", before=facts.zone, after="its standby's"),),
            irreversible="a second failover is a second outage",
        )

    def applied(self, call: Call, inputs: InstanceInputs, facts: InstanceFacts) -> bool | None:
        """Tell that it is under way; once it is over the facts alone don't say."""
        return True if facts.status == "rebooting" else None

    def judge(self, inputs: InstanceInputs, before: InstanceFacts, after: InstanceFacts) -> Judgement:
        """Helped: available, in another zone than before."""
        if after.arn is None:
            return Judgement(outcome=None, measured=False, message=f"{inputs.instance} is not there")
        well = after.status == "available" and after.zone is not None and after.zone != before.zone
        return Judgement(
            outcome="Helped" if well else None,
            measured=True,
            message=f"{inputs.instance} is {after.status} in {after.zone}",
            waiting_for=None if well else "the end of the failover",
        )
