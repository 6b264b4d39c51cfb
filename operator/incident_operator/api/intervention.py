"""`Intervention`: one person's word about a plan, a run or an incident. Small, immutable, its author is proven.

People append, they do not edit: GitOps owns every spec, and the audit trail is the objects. What an intervention came
to is its condition Effective. Source: design §1 idea 4, §2 Intervention.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    Column,
    Conditions,
    Identifier,
    Instant,
    KubernetesObject,
    Model,
    ObjectName,
    Reason,
    Resource,
    Severity,
    Text,
    rules,
)
from .plan import Tier


class Verb(StrEnum):
    """What is said. The first four are about a plan, the next six about a run, the others about an incident."""

    APPROVE = "Approve"
    REJECT = "Reject"
    REVERT = "Revert"
    KEEP = "Keep"
    PAUSE = "Pause"
    RESUME = "Resume"
    RETRY = "Retry"
    SKIP = "Skip"
    CANCEL = "Cancel"
    #: Of a run or an incident.
    NOTE = "Note"
    ACKNOWLEDGE = "Acknowledge"
    TAKE_COMMAND = "TakeCommand"
    SET_SEVERITY = "SetSeverity"
    SET_IMPACT = "SetImpact"
    SET_ROOT_CAUSE = "SetRootCause"
    RECORD_ACTION = "RecordAction"
    DUPLICATE = "Duplicate"
    FALSE_POSITIVE = "FalsePositive"
    RESOLVE = "Resolve"
    PUBLISH = "Publish"


PLAN_VERBS = (Verb.APPROVE, Verb.REJECT, Verb.REVERT, Verb.KEEP)
RUN_VERBS = (Verb.PAUSE, Verb.RESUME, Verb.RETRY, Verb.SKIP, Verb.CANCEL, Verb.NOTE)
INCIDENT_VERBS = (
    Verb.ACKNOWLEDGE,
    Verb.TAKE_COMMAND,
    Verb.SET_SEVERITY,
    Verb.SET_IMPACT,
    Verb.SET_ROOT_CAUSE,
    Verb.NOTE,
    Verb.RECORD_ACTION,
    Verb.DUPLICATE,
    Verb.FALSE_POSITIVE,
    Verb.RESOLVE,
    Verb.PUBLISH,
)
#: What is nothing without its text.
TOLD_VERBS = (Verb.NOTE, Verb.SET_ROOT_CAUSE, Verb.RECORD_ACTION, Verb.FALSE_POSITIVE, Verb.PUBLISH)


class Target(Model):
    """The object an intervention is about: this very one, by its uid."""

    kind: Literal["RemediationPlan", "IncidentRun", "Incident"]
    name: ObjectName
    uid: Annotated[str, Field(min_length=1, max_length=64)]


class Then(StrEnum):
    """What becomes of a plan under way when its run is cancelled."""

    LEAVE = "Leave"
    REVERT = "Revert"


def _listed(verbs: tuple[Verb, ...]) -> str:
    return "[" + ", ".join(f"'{verb}'" for verb in verbs) + "]"


class InterventionSpec(Model):
    """Who says what about which object, and why."""

    model_config = rules(
        ("self == oldSelf", "an intervention is immutable: say something else with a new one"),
        (
            f"self.verb in (self.target.kind == 'RemediationPlan' ? {_listed(PLAN_VERBS)}"
            f" : self.target.kind == 'IncidentRun' ? {_listed(RUN_VERBS)} : {_listed(INCIDENT_VERBS)})",
            "Approve, Reject, Revert and Keep are about a RemediationPlan; Pause, Resume, Retry, Skip, Cancel and Note "
            "about an IncidentRun; Acknowledge, TakeCommand, SetSeverity, SetImpact, SetRootCause, Note, RecordAction, "
            "Duplicate, FalsePositive, Resolve and Publish about an Incident",
        ),
        (
            "has(self.tier) == (self.verb == 'Approve')",
            "an Approve names the plan's spec.tier in tier, and nothing else does: so that nobody approves more than "
            "they read",
        ),
        (
            "self.verb == 'Approve' || !(has(self.override) && size(self.override) > 0"
            " || has(self.breakGlass) && self.breakGlass)",
            "override and breakGlass go with Approve",
        ),
        (
            "!(has(self.override) && size(self.override) > 0 || has(self.breakGlass) && self.breakGlass)"
            " || has(self.reason)",
            "override and breakGlass need a reason: it is what the review will quote",
        ),
        ("has(self.then) == (self.verb == 'Cancel')", "a Cancel says then: Leave or then: Revert, nothing else does"),
        (
            "has(self.fix) == (self.verb in ['Retry', 'Skip'])",
            "Retry and Skip name the fix, as the runbook calls it; nothing else does",
        ),
        (
            f"!(self.verb in {_listed(TOLD_VERBS)}) || has(self.reason)",
            "a Note, SetRootCause, RecordAction, FalsePositive or Publish is its reason: write it there",
        ),
        (
            "has(self.severity) == (self.verb == 'SetSeverity')",
            "a SetSeverity names the severity: P0, P1, P2 or P3; nothing else does",
        ),
        (
            "has(self.percent) == (self.verb == 'SetImpact')",
            "a SetImpact says percent: of a hundred requests, how many fail; nothing else does",
        ),
        (
            "has(self.duplicateOf) == (self.verb == 'Duplicate') "
            "&& (!has(self.duplicateOf) || self.duplicateOf != self.target.name)",
            "a Duplicate names the other incident in duplicateOf; nothing else does",
        ),
        ("!has(self.duty) || self.verb == 'RecordAction'", "only a RecordAction completes a duty of the close-out"),
    )

    target: Target = Field(description="This very object, by kind, name and uid.")
    verb: Verb = Field(
        description="Approve, Reject, Revert, Keep a plan; Pause, Resume, Retry, Skip, Cancel, Note a run; "
        "Acknowledge, TakeCommand, SetSeverity, SetImpact, SetRootCause, Note, RecordAction, Duplicate, FalsePositive, "
        "Resolve, Publish an incident."
    )
    responder: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Who says it: the authenticated user, proven by admission; stamped where it is left out."
    )
    reason: Annotated[Text, Field(min_length=1)] | None = Field(
        None, description="Why; the timeline quotes it. A Note is nothing else; override and breakGlass need it."
    )
    tier: Tier | None = Field(None, description="For Approve: the plan's spec.tier, as it was read.")
    override: Annotated[
        tuple[Reason, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field((), description="For Approve: soft gates that shall not block this plan.")
    break_glass: bool = Field(
        False, description="For Approve: act alone where two people are asked for; needs the verb break-glass."
    )
    then: Then | None = Field(None, description="For Cancel: what becomes of a plan under way.")
    fix: Identifier | None = Field(None, description="For Retry and Skip: the fix, as the runbook calls it.")
    severity: Severity | None = Field(None, description="For SetSeverity.")
    percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="For SetImpact: of a hundred requests of users, how many fail."
    )
    duplicate_of: ObjectName | None = Field(None, description="For Duplicate: the incident that goes on.")
    duty: Literal["ticketUpdated", "stakeholdersTold", "metricsNormal", "alertsWorking", "secondaryImpacts"] | None = (
        Field(None, description="For RecordAction: the duty of the close-out that it completes.")
    )


class InterventionStatus(Model):
    """What became of it."""

    #: The only condition is Effective: True, or False with the reason why it does not count.
    conditions: Conditions = ()
    answered_at: Instant | None = None
    #: Answered for good: nothing more can come of it.
    settled: bool = False


class Intervention(KubernetesObject):
    """One person's word about one plan, run or incident."""

    resource: ClassVar[Resource] = Resource(
        kind="Intervention",
        plural="interventions",
        short_names=("intv",),
        columns=(
            Column(name="Verb", json_path=".spec.verb"),
            Column(name="Target", json_path=".spec.target.name"),
            Column(name="Responder", json_path=".spec.responder"),
            Column(name="Effective", json_path='.status.conditions[?(@.type=="Effective")].status'),
            Column(name="Answer", json_path='.status.conditions[?(@.type=="Effective")].reason'),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Tier", json_path=".spec.tier", priority=1),
            Column(name="Reason", json_path=".spec.reason", priority=1),
            Column(name="Message", json_path='.status.conditions[?(@.type=="Effective")].message', priority=1),
        ),
        selectable=(".status.settled", ".spec.verb", ".spec.target.name"),
    )

    kind: Literal["Intervention"] = "Intervention"
    spec: InterventionSpec
    status: InterventionStatus = InterventionStatus()
