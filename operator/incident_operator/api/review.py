"""`PostIncidentReview`: what people say of an incident, drafted once for them, and the facts it rests on.

Its name is made of the incident (namespace, ticket, the written `detectedAt`), it has no owner, and it outlives the
runs it names: begun before a run acts, it is also the tombstone that keeps a replayed manifest from acting twice.
`spec` is the document's template: drafted at the end of the incident's first run, people's from then on. `status` is
what the operator measured, and what it has reminded people of. Source: design §2 PostIncidentReview, decision 3.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    Column,
    Conditions,
    Duration,
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
from .plan import PlanState
from .run import Impact, Resolution, RunPhase

#: A calendar day, as the document writes it.
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", max_length=10)]
Lines = Annotated[tuple[Text, ...], Field(max_length=32)]
#: As a runbook's `spec.incidentType`.
IncidentType = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]


class ReviewLine(Model):
    """A line of the timeline, as people tell it."""

    at: Instant
    text: Text


class PrimaryCause(Model):
    """What broke it."""

    text: Text
    probable: bool = Field(False, description="The operator's guess; false once a person has said it.")


class ActionItem(Model):
    """Work that keeps it from happening again."""

    text: Text
    priority: Literal["High", "Medium", "Low"] = "Medium"
    owner: Annotated[str, Field(max_length=128)] | None = None
    due_date: Day | None = None
    done: bool = False


class PostIncidentReviewSpec(Model):
    """The review, as people write it; drafted once by the operator."""

    model_config = rules(
        (
            "(!has(oldSelf.ticket) || has(self.ticket) && self.ticket == oldSelf.ticket)"
            " && self.detectedAt == oldSelf.detectedAt",
            "ticket and detectedAt name the incident: they never change",
        ),
        (
            "!has(oldSelf.draftedAt) || has(self.draftedAt) && self.draftedAt == oldSelf.draftedAt",
            "draftedAt says that the draft was made: without it, it would be made again over what you write",
        ),
    )

    ticket: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="The incident's, as its runs wrote it."
    )
    detected_at: Instant = Field(description="When it was detected, as its runs wrote it.")
    drafted_at: Instant | None = Field(
        None, description="When the operator made the draft; from then on it writes nothing here any more."
    )
    title: Text | None = None
    duration: Duration | None = Field(
        None, description="How long users were affected; the measured one where left out."
    )
    severity: Severity | None = None
    services_affected: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=16)] = ()
    customer_impact: Text | None = None
    resolution: Text | None = None
    timeline: Annotated[tuple[ReviewLine, ...], Field(max_length=64)] = ()
    primary_cause: PrimaryCause | None = None
    contributing_factors: Lines = ()
    went_well: Lines = ()
    could_be_improved: Lines = ()
    action_items: Annotated[tuple[ActionItem, ...], Field(max_length=32)] = ()
    knowledge_base: Lines = Field((), description="What to change in the runbook.")
    complete: bool = Field(False, description="People have finished the review.")


class Classification(StrEnum):
    """What an alert turned out to be. That nothing was found makes no false positive: a person or the alert does."""

    INCIDENT = "Incident"
    FALSE_POSITIVE = "FalsePositive"
    DUPLICATE = "Duplicate"


class HandledRun(Model):
    """A run that acted on the incident: the same name with another uid is a replay."""

    name: ObjectName
    uid: Annotated[str, Field(max_length=64)]
    started_at: Instant
    finished_at: Instant | None = None
    phase: RunPhase | None = None
    outcome: Reason | None = None
    runbook: ObjectName | None = None
    #: Of a run that ended Resolved: since when users were well, by whom, and whether no person had to agree.
    restored_at: Instant | None = None
    resolution: Resolution | None = None
    automatic: bool | None = None
    runbook_kind: Literal["Runbook", "ClusterRunbook"] | None = None


class ReviewFact(Model):
    """A turn of a run's story, or of the incident's, with the check, plan or person's word behind it."""

    run: ObjectName | None = Field(None, description="Absent where it is the incident's own.")
    at: Instant
    reason: Reason
    text: Text
    source: Annotated[str, Field(max_length=256)] = ""


class ReviewedPlan(Model):
    """A plan that changed something, and what came of it."""

    name: ObjectName
    run: ObjectName
    fix: Identifier
    title: Text
    state: PlanState
    message: Text = ""
    started_at: Instant
    finished_at: Instant | None = None
    #: When a temporary fix must be looked at.
    temporary_until: Instant | None = None
    #: The plan that this one put back.
    revert_of: ObjectName | None = None


class ReviewResolution(Model):
    """How the newest run ended."""

    phase: RunPhase
    outcome: Reason
    summary: Text
    by: Resolution | None = None
    at: Instant
    #: When users were well, and stayed so.
    restored_at: Instant | None = None


class MeasuredTimes(Model):
    """How long after detection each turn came; absent where it never came."""

    started: Duration | None = None
    first_finding: Duration | None = None
    diagnosed: Duration | None = None
    mitigated: Duration | None = None
    restored: Duration | None = None


class ReminderReason(StrEnum):
    """What people are reminded of."""

    REVIEW_DUE_SOON = "ReviewDueSoon"
    REVIEW_OVERDUE = "ReviewOverdue"
    ACTION_ITEM_OVERDUE = "ActionItemOverdue"


class Reminder(Model):
    """One thing to remind people of: written down before it is said, so that it is said at least once."""

    key: Annotated[str, Field(max_length=32)] = Field(
        description="What it is about: a mark of the review's clock, or an action item as it is written."
    )
    reason: ReminderReason
    #: The review's due date, or the first instant after the action item's.
    due_at: Instant
    told_at: Instant | None = Field(None, description="When people were told; absent until then.")


class OverdueItem(Model):
    """An action item whose day has passed."""

    text: Text
    owner: Annotated[str, Field(max_length=128)]
    due_date: Day


class PostIncidentReviewStatus(Model):
    """What the operator knows of the incident, and of what people are late with."""

    runs: Annotated[
        tuple[HandledRun, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    resolution: ReviewResolution | None = None
    duration: Duration | None = Field(
        None, description="From detection until users were well, else until the run's end."
    )
    times: MeasuredTimes | None = None
    impact: Impact | None = None
    timeline: Annotated[tuple[ReviewFact, ...], Field(max_length=192)] = ()
    plans: Annotated[tuple[ReviewedPlan, ...], Field(max_length=64)] = ()
    due_at: Instant | None = Field(
        None, description="48 hours after the end of the newest run; without one, of the incident."
    )
    incident_type: IncidentType | None = Field(
        None, description="What metrics group by: incidentType of the newest run's runbook."
    )
    severity: Severity | None = Field(
        None, description="As the newest run knows it; spec.severity wins where it is written."
    )
    classification: Classification = Classification.INCIDENT
    duplicate_of: ObjectName | None = Field(None, description="The incident that it is a duplicate of.")
    reopened: Annotated[int, Field(ge=0)] = Field(0, description="How often it came back after users had been well.")
    restored_at: Instant | None = Field(
        None, description="Since when users are well again, the last time; absent while the incident is open."
    )
    resolved_by: Resolution | None = Field(None, description="Who brought the service back, the last time.")
    automatic: bool | None = Field(None, description="A runbook brought it back, and no person had to agree.")
    drill: bool = Field(False, description="Practised, not suffered: no metric counts it.")
    open_items: Annotated[int, Field(ge=0)] | None = Field(None, description="Action items that are not done.")
    overdue_items: Annotated[tuple[OverdueItem, ...], Field(max_length=32)] = Field(
        (), description="Those of them that have an owner and a day that has passed."
    )
    overdue_count: Annotated[int, Field(ge=0)] | None = Field(None, description="How many those are.")
    reminders: Annotated[
        tuple[Reminder, ...],
        Field(
            max_length=40,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]},
        ),
    ] = ()
    lessons_noted_at: Instant | None = Field(
        None, description="When its runbooks were noted to be due for what spec.knowledgeBase says, once complete."
    )
    settled: bool = Field(False, description="Complete, and nothing is left to do: the operator does not watch it.")
    conditions: Conditions = ()


class PostIncidentReview(KubernetesObject):
    """The review of one incident."""

    model_config = rules(
        (
            "!has(oldSelf.status) || !has(oldSelf.status.settled) || !oldSelf.status.settled || !self.spec.complete"
            " || !has(self.spec.actionItems) || self.spec.actionItems.all(item, item.done)",
            "this review is complete and nobody watches its dates any more: "
            "write complete: false together with an action item that is not done",
        ),
    )

    resource: ClassVar[Resource] = Resource(
        kind="PostIncidentReview",
        plural="postincidentreviews",
        short_names=("pir",),
        columns=(
            Column(name="Ticket", json_path=".spec.ticket"),
            Column(name="Severity", json_path=".spec.severity"),
            Column(name="Title", json_path=".spec.title"),
            Column(name="Duration", json_path=".status.duration"),
            # Not of type date: kubectl shows those as an age, and this one is ahead.
            Column(name="Due", json_path=".status.dueAt"),
            Column(name="Overdue", json_path='.status.conditions[?(@.type=="Overdue")].status'),
            Column(name="Open-Items", json_path=".status.openItems", type="integer"),
            Column(name="Overdue-Items", json_path=".status.overdueCount", type="integer"),
            Column(name="Complete", json_path=".spec.complete", type="boolean"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Drafted", json_path='.status.conditions[?(@.type=="Drafted")].status', priority=1),
            Column(name="Detected", json_path=".spec.detectedAt", type="date", priority=1),
            Column(name="Outcome", json_path=".status.resolution.outcome", priority=1),
            Column(name="Type", json_path=".status.incidentType", priority=1),
        ),
        selectable=(".spec.complete", ".status.settled"),
    )

    kind: Literal["PostIncidentReview"] = "PostIncidentReview"
    spec: PostIncidentReviewSpec
    status: PostIncidentReviewStatus = PostIncidentReviewStatus()
