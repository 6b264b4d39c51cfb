"""`Incident`: the people's side of an outage. Severity and clocks, who was told and who answered, impact, close-out.

The operator opens one for a run that names none, and many runs can join it. `spec` is what was known at the beginning
and never changes; everything that follows is said with Interventions and stands in `status`. Source: design §2
Incident, decision 27.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    Column,
    Conditions,
    Duration,
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
from .run import RunPhase, TimelineEntry

Name = Annotated[str, Field(max_length=256)]
Key = Annotated[str, Field(min_length=1, max_length=320)]


class IncidentSpec(Model):
    """What was known when the incident was opened."""

    model_config = rules(
        ("self == oldSelf", "an incident's spec never changes: say what is new with an Intervention (kubectl incident)")
    )

    title: Annotated[str, Field(min_length=1, max_length=256)]
    ticket: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]*-[0-9A-Z-]+$", max_length=64)] | None = None
    severity: Severity = Severity.P2
    detected_at: Instant | None = Field(
        None, description="When it was noticed: every clock counts from here; the object's creation if left out."
    )
    drill: bool = Field(False, description="Nobody is paged or told.")
    confidential: bool = Field(False, description="Only the contacts of spec.audience are told, and no channel is.")
    audience: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=8)] = Field(
        (), description="For a confidential incident: names of the EscalationPolicy's contacts."
    )
    reopen_within: Duration | None = Field(
        None, description="How long after its resolution a run that joins opens it again. Default 24h."
    )


class IncidentPhase(StrEnum):
    """Where an incident is. The last three are ends."""

    OPEN = "Open"
    ACKNOWLEDGED = "Acknowledged"
    MITIGATED = "Mitigated"
    RESOLVED = "Resolved"
    CLOSED = "Closed"
    DUPLICATE = "Duplicate"
    FALSE_POSITIVE = "FalsePositive"


class SeverityEntry(Model):
    """A severity the incident was given."""

    severity: Severity
    at: Instant
    by: Name | None = None
    reason: Text = ""


class IncidentTimes(Model):
    """When each turn first came; absent where it has not come."""

    started: Instant | None = Field(None, description="Detection.")
    alerted: Instant | None = Field(None, description="The incident was opened.")
    paged: Instant | None = Field(None, description="The first page was handed to a provider.")
    acknowledged: Instant | None = None
    diagnosis_started: Instant | None = None
    cause_found: Instant | None = None
    mitigated: Instant | None = None
    restored: Instant | None = Field(None, description="Since when users are well again, by the run that ended last.")
    resolved: Instant | None = None


class IncidentImpact(Model):
    """How many requests failed, and who says so."""

    percent: float | None = None
    peak: float | None = None
    method: Literal["Measured", "Estimated", "Person"] = "Measured"
    summary: Annotated[str, Field(max_length=256)] = ""
    by: Name | None = None


class IncidentCause(Model):
    """What broke it; probable until a person says so."""

    summary: Text
    probable: bool = True
    by: Name | None = None


class IncidentRunEntry(Model):
    """A run at work on the incident."""

    name: ObjectName
    uid: Annotated[str, Field(max_length=64)]
    runbook: ObjectName
    joined_at: Instant
    phase: RunPhase = RunPhase.PENDING
    finished_at: Instant | None = None
    outcome: Reason | None = None


class EngagementState(StrEnum):
    """How far a message is."""

    DUE = "Due"
    #: Handed over; whether it arrived can't be known (e-mail).
    SENT = "Sent"
    #: The receiver's service confirmed it.
    DELIVERED = "Delivered"
    FAILED = "Failed"
    #: Overtaken: somebody acknowledged, or the incident is over.
    DROPPED = "Dropped"


class Occasion(StrEnum):
    """Why somebody is told."""

    #: Somebody has to respond now.
    PAGE = "Page"
    #: A plan waits for people.
    APPROVAL = "Approval"
    #: A role is told, as the matrix says.
    ENGAGED = "Engaged"
    #: How it goes.
    UPDATE = "Update"
    ACKNOWLEDGED = "Acknowledged"
    RESOLVED = "Resolved"
    #: What was not told at its time, in one message.
    DIGEST = "Digest"
    #: A person's words to customers, on the status page.
    PUBLISH = "Publish"


class Engagement(Model):
    """One message to one contact or to the stakeholders, by one channel: at least once."""

    key: Key
    occasion: Occasion
    #: A contact, a role's contact, or Stakeholders.
    whom: Annotated[str, Field(max_length=64)]
    role: Annotated[str, Field(max_length=64)] | None = None
    channel: Annotated[str, Field(max_length=64)] | None = None
    state: EngagementState = EngagementState.DUE
    reason: Reason | None = None
    due_at: Instant
    #: When it was handed over last.
    at: Instant | None = None
    #: How often it was handed over, or tried, for `due_at`.
    tries: int = 0
    #: How often somebody was told by it in all: a page is repeated.
    times: int = 0
    next_at: Instant | None = None
    #: What the provider answered, by which the message is changed in place.
    reference: Annotated[str, Field(max_length=256)] | None = None
    #: What the last message said, in short: another is due when this changes.
    about: Annotated[str, Field(max_length=256)] = ""


class Duty(Model):
    """One of the document's five duties within an hour of the resolution."""

    name: Literal["ticketUpdated", "stakeholdersTold", "metricsNormal", "alertsWorking", "secondaryImpacts"]
    state: Literal["Open", "Done"] = "Open"
    by: Name | None = None
    at: Instant | None = None
    message: Text = Field("", description="How it was done; while it is open, what the operator saw of it.")


class CloseOut(Model):
    """What the document wants done within an hour of the resolution."""

    due_at: Instant
    #: What the recovery checks answered at +15, +30 and +60 minutes.
    looks: Annotated[tuple[Literal["Passing", "Failing", "Unknown"], ...], Field(max_length=3)] = ()
    duties: Annotated[
        tuple[Duty, ...],
        Field(
            max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()


class IncidentResolution(Model):
    """Who ended it, and how."""

    by: Name
    at: Instant
    summary: Text


class IncidentStatus(Model):
    """The incident so far."""

    phase: IncidentPhase = IncidentPhase.OPEN
    severity: Severity | None = None
    severities: Annotated[tuple[SeverityEntry, ...], Field(max_length=32)] = ()
    observed_generation: int | None = None
    respond_by: Instant | None = Field(None, description="Until when somebody has to have acknowledged.")
    times: IncidentTimes = IncidentTimes()
    commander: Name | None = None
    acknowledged_by: Name | None = None
    #: When somebody last said that they are on it: a question asked later is paged anew.
    acknowledged_at: Instant | None = None
    impact: IncidentImpact | None = None
    cause: IncidentCause | None = None
    resolution: IncidentResolution | None = None
    duplicate_of: ObjectName | None = None
    reopened: int = 0
    reopened_at: Instant | None = None
    runs: Annotated[
        tuple[IncidentRunEntry, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    engagements: Annotated[
        tuple[Engagement, ...],
        Field(
            max_length=96,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]},
        ),
    ] = ()
    closeout: CloseOut | None = None
    #: Who is told next, and when, in words.
    next: Annotated[str, Field(max_length=256)] | None = None
    timeline: Annotated[tuple[TimelineEntry, ...], Field(max_length=128)] = ()
    conditions: Conditions = ()
    settled: bool = False


class Incident(KubernetesObject):
    """The people's side of an outage."""

    resource: ClassVar[Resource] = Resource(
        kind="Incident",
        plural="incidents",
        short_names=("inc",),
        columns=(
            Column(name="Severity", json_path=".status.severity"),
            Column(name="Phase", json_path=".status.phase"),
            Column(name="Title", json_path=".spec.title"),
            Column(name="Commander", json_path=".status.commander"),
            # Not of type date: kubectl shows those as an age, and this one may be ahead.
            Column(name="Respond-By", json_path=".status.respondBy"),
            Column(name="Impact", json_path=".status.impact.summary"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Ticket", json_path=".spec.ticket", priority=1),
            Column(name="Cause", json_path=".status.cause.summary", priority=1),
            Column(name="Next", json_path=".status.next", priority=1),
        ),
        selectable=(".status.phase", ".status.settled", ".status.severity"),
    )

    kind: Literal["Incident"] = "Incident"
    spec: IncidentSpec
    status: IncidentStatus = IncidentStatus()
