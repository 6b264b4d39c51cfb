"""`PostIncidentReview`: until reviews are drafted, the tombstone that keeps a replayed manifest from acting twice.

Its name is made of the incident (namespace, ticket, the written `detectedAt`), it has no owner, and it outlives the
runs it names. Source: design §2 PostIncidentReview, decision 3.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import Column, Conditions, Instant, KubernetesObject, Model, ObjectName, Resource, Text, rules


class PostIncidentReviewSpec(Model):
    """The incident that is reviewed."""

    model_config = rules(
        (
            "self.ticket == oldSelf.ticket && self.detectedAt == oldSelf.detectedAt",
            "ticket and detectedAt name the incident: they never change",
        ),
    )

    ticket: Annotated[str, Field(max_length=64)] = Field(description="The incident's, as its runs wrote it.")
    detected_at: Instant = Field(description="When it was detected, as its runs wrote it.")
    title: Text | None = None


class HandledRun(Model):
    """A run that acted on the incident: the same name with another uid is a replay."""

    name: ObjectName
    uid: Annotated[str, Field(max_length=64)]
    started_at: Instant


class PostIncidentReviewStatus(Model):
    """What the operator knows of the incident."""

    runs: Annotated[
        tuple[HandledRun, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    conditions: Conditions = ()


class PostIncidentReview(KubernetesObject):
    """The review of one incident."""

    resource: ClassVar[Resource] = Resource(
        kind="PostIncidentReview",
        plural="postincidentreviews",
        short_names=("pir",),
        columns=(
            Column(name="Ticket", json_path=".spec.ticket"),
            Column(name="Detected", json_path=".spec.detectedAt", type="date"),
            Column(name="Title", json_path=".spec.title"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        ),
    )

    kind: Literal["PostIncidentReview"] = "PostIncidentReview"
    spec: PostIncidentReviewSpec
    status: PostIncidentReviewStatus = PostIncidentReviewStatus()
