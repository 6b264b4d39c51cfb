"""`RemediationPlan`: one fix, exactly. Its spec is what is approved and executed; its status is the journal."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    AnyJson,
    Column,
    Conditions,
    Duration,
    Identifier,
    Instant,
    JsonObject,
    KubernetesObject,
    Model,
    ObjectName,
    Reason,
    Resource,
    Risk,
    Text,
    rules,
)

ArnText = Annotated[str, Field(max_length=1024)]


class Repeat(StrEnum):
    """What may happen to a call whose outcome is unknown. Source: design §1, idea 3."""

    ABSOLUTE = "Absolute"
    GUARDED = "Guarded"
    ONCE = "Once"


class Hazard(StrEnum):
    """What a change may do besides its risk."""

    GRANTS_ACCESS = "GrantsAccess"
    EXPOSES_DATA = "ExposesData"
    LOSES_DATA = "LosesData"
    OUTAGE = "Outage"
    COST = "Cost"


class Tier(StrEnum):
    """Who must agree. Source: decision 14."""

    LOW = "Low"
    DISRUPTIVE = "Disruptive"
    DESTRUCTIVE = "Destructive"
    SECURITY = "Security"


class Volatile(Model):
    """An argument that is read anew just before the call (a guard such as RevisionId); not part of the hash."""

    argument: Annotated[str, Field(max_length=64)]
    read: "Read"
    path: Annotated[str, Field(max_length=128)]


class Read(Model):
    """One listed read operation of the catalogue."""

    service: Annotated[str, Field(max_length=32)]
    operation: Annotated[str, Field(max_length=64)]
    arguments: JsonObject = Field(default_factory=dict)


class Call(Model):
    """One call that changes the world.

    Shape: `arguments` as boto3 takes them (JSON); a value may be `{fromResult: {call: <index>, path: <dotted>}}`,
    taken from an earlier call's recorded result; `{fromPlan: {prefix}}` is a name of this plan's alone, `{fromNow:
    {wait}}` the instant so long after the call is sent. `permissions` are the IAM actions the session policy allows,
    on `resources` alone.
    """

    service: Annotated[str, Field(max_length=32)]
    operation: Annotated[str, Field(max_length=64)]
    arguments: JsonObject = Field(default_factory=dict)
    permissions: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=16)] = ()
    resources: Annotated[tuple[ArnText, ...], Field(max_length=32)] = ()
    repeat: Repeat
    timeout: Duration
    volatile: Annotated[tuple[Volatile, ...], Field(max_length=4)] = ()
    #: Dotted paths of the answer that are recorded, for later calls and for undo.
    keep: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=8)] = ()
    #: The calls before it must have brought about what the action waits for (`FixAction.lacks`) before this one is
    #: made, at the latest so long after the one before. None: it is made at once. Real; divided by the time scale.
    ready_within: Duration | None = None
    summary: Text = ""


class Precondition(Model):
    """A fact the plan rests on, to be found equal just before the first call."""

    read: Read
    path: Annotated[str, Field(max_length=128)]
    equals: AnyJson = None


class DiffLine(Model):
    """One line of what changes, for people."""

    what: Text
    before: Annotated[str, Field(max_length=2048)] | None = None
    after: Annotated[str, Field(max_length=2048)] | None = None


class Permission(Model):
    """What the grant's role may do of this plan, by simulation."""

    allowed: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=64)] = ()
    denied: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=64)] = ()
    unknown: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=64)] = ()


class Verify(Model):
    """What proves that the fix worked, for how long to wait before looking, and when to stop looking.

    Units: real durations; the operator divides them by its time scale.
    """

    signal: Text
    wait: Duration
    every: Duration
    deadline: Duration


class Guard(Model):
    """A fact that an undo rests on: read right after the last call (postImage) and again before the undo."""

    read: Read
    path: Annotated[str, Field(max_length=128)]


class Undo(Model):
    """How to put back what was there. It is made only while every guard reads as it did right after the fix."""

    calls: Annotated[tuple[Call, ...], Field(max_length=8)]
    safe_when: Text = ""
    guards: Annotated[tuple[Guard, ...], Field(max_length=8)] = ()


class TemporaryFix(Model):
    """How long the fix may stay, and what happens then."""

    review_after: Duration = Field(description="From when it has helped.")
    on_expiry: Literal["Flag", "UndoIfSafe"] = Field(
        "Flag", description="Tell people, or put back what was there if nobody changed it since."
    )


class Capacity(Model):
    """What a plan does to the healthy part of a service; judged by the gate HealthBudget."""

    healthy_before: Annotated[int, Field(ge=0)]
    healthy_after: Annotated[int, Field(ge=0)] = Field(description="At the worst moment of the plan.")
    minimum: Annotated[int, Field(ge=0)] = 0


class Downstream(Model):
    """What a plan adds to what a database bears; judged by the gate DownstreamBudget."""

    used: Annotated[int, Field(ge=0)]
    added: Annotated[int, Field(ge=0)]
    maximum: Annotated[int, Field(ge=1)]


class RunReference(Model):
    """The run a plan belongs to."""

    name: ObjectName
    uid: Annotated[str, Field(max_length=64)]


class RemediationPlanSpec(Model):
    """The fix, exactly. Immutable; the object's name ends in its hash (decision 13)."""

    model_config = rules(
        ("self == oldSelf", "a plan is immutable: what was approved is what is executed; a new plan supersedes it"),
        ("has(self.undo) != has(self.irreversible)", "a plan says how it is undone, or why it can't be"),
    )

    run_ref: RunReference
    fix: Identifier
    action: Annotated[str, Field(max_length=64)]
    attempt: Annotated[int, Field(ge=1)]
    title: Text
    #: The action's inputs as evaluated: what re-observes and judges.
    inputs: JsonObject = Field(default_factory=dict)
    calls: Annotated[tuple[Call, ...], Field(min_length=1, max_length=16)]
    preconditions: Annotated[tuple[Precondition, ...], Field(max_length=16)] = ()
    touches: Annotated[tuple[ArnText, ...], Field(min_length=1, max_length=64)]
    risk: Risk
    tier: Tier
    hazards: Annotated[
        tuple[Hazard, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    #: Why a machine must not apply this by itself, besides its risk (`AccessRemovedOnPurpose`, `ActorUnknown`…).
    ask_because: Annotated[tuple[Reason, ...], Field(max_length=8)] = ()
    diff: Annotated[tuple[DiffLine, ...], Field(max_length=32)] = ()
    permission: Permission = Permission()
    verify: Verify
    undo: Undo | None = None
    irreversible: Text | None = None
    #: What the calls may act on: of these, those that still match when the plan is applied, at most `maxTargets`.
    candidates: Annotated[tuple[ArnText, ...], Field(max_length=64)] = ()
    max_targets: Annotated[int, Field(ge=1)] | None = None
    capacity: Capacity | None = None
    downstream: Downstream | None = None
    #: Every target fails alike: replacing some is no cure; judged by the gate CommonCause.
    common_cause: bool = False
    #: It warns whoever it shuts out: the run's evidence is written before; judged by the gate EvidenceMissing.
    evidence_first: bool = False
    #: Never by a machine, and however many agree, one of them breaks the glass; judged by the gate ApprovalMissing.
    needs_break_glass: bool = False
    temporary: TemporaryFix | None = None
    #: Of a confidential incident: the Security tier agrees, whatever the risk.
    confidential: bool = False
    #: The plan that this one puts back, on a person's word.
    revert_of: ObjectName | None = None
    #: What happens on deletion once a call was made. Source: the run's.
    deletion_policy: Literal["Orphan", "Revert"] = "Orphan"
    #: Whether a Worse outcome puts the former state back without asking.
    revert_if_worse: bool = False
    account: Annotated[str, Field(max_length=32)]
    region: Annotated[str, Field(max_length=32)]
    role: Annotated[str, Field(max_length=512)]
    hash: Annotated[str, Field(max_length=64)]
    hash_version: int = 1


class PlanState(StrEnum):
    """Where a plan is. Source: design §2."""

    PROPOSED = "Proposed"
    APPROVED = "Approved"
    APPLYING = "Applying"
    VERIFYING = "Verifying"
    HELPED = "Helped"
    NO_EFFECT = "NoEffect"
    WORSE = "Worse"
    INCONCLUSIVE = "Inconclusive"
    REVERTING = "Reverting"
    REVERTED = "Reverted"
    UNDO_BLOCKED = "UndoBlocked"
    REJECTED = "Rejected"
    SUPERSEDED = "Superseded"
    EXPIRED = "Expired"
    UNKNOWN = "Unknown"


class CallState(StrEnum):
    """What is known of a call. Intended: named in the journal, maybe sent. Unknown: sent perhaps, never again."""

    INTENDED = "Intended"
    SUCCEEDED = "Succeeded"
    #: Found done by looking, after an interruption.
    OBSERVED = "Observed"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class JournalEntry(Model):
    """One call of the plan, or of its undo, as executed."""

    phase: Literal["Apply", "Undo"] = "Apply"
    index: Annotated[int, Field(ge=0)]
    summary: Text = ""
    state: CallState
    #: Times this call was intended; > 1 only for Absolute and Guarded calls.
    attempt: Annotated[int, Field(ge=1)] = 1
    intent_at: Instant
    deadline: Instant
    epoch: int
    holder: Annotated[str, Field(max_length=128)] = ""
    finished_at: Instant | None = None
    request_id: Annotated[str, Field(max_length=128)] | None = None
    error: Annotated[str, Field(max_length=128)] | None = None
    result: AnyJson = None


class GateVerdict(Model):
    """A gate that blocks: named by the fact."""

    name: Reason
    hard: bool = True
    message: Text = ""


class Approval(Model):
    """One person's agreement to this very plan."""

    responder: Annotated[str, Field(max_length=256)]
    intervention: ObjectName
    at: Instant
    expires_at: Instant
    tier: Tier
    override: Annotated[tuple[Reason, ...], Field(max_length=8)] = ()
    break_glass: bool = False
    reason: Text | None = None


class TemporaryStatus(Model):
    """A temporary fix in force, and when it must be looked at."""

    until: Instant
    #: Why it was flagged to people instead of undone.
    flagged: Text | None = None


class RemediationPlanStatus(Model):
    """The journal, and what came of it."""

    state: PlanState = PlanState.PROPOSED
    reason: Reason | None = None
    message: Text = ""
    gates: Annotated[tuple[GateVerdict, ...], Field(max_length=24)] = ()
    approvals: Annotated[tuple[Approval, ...], Field(max_length=8)] = ()
    approved_at: Instant | None = None
    #: What the calls act on: the approved candidates that still matched at the first call.
    targets: Annotated[tuple[ArnText, ...], Field(max_length=64)] = ()
    epoch: int | None = None
    calls: Annotated[tuple[JournalEntry, ...], Field(max_length=48)] = ()
    started_at: Instant | None = None
    applied_at: Instant | None = None
    verify_deadline: Instant | None = None
    finished_at: Instant | None = None
    #: The facts found just before the first call.
    pre_image: AnyJson = None
    #: What the undo's guards read right after the last call, in their order.
    post_image: AnyJson = None
    #: The facts that decided the outcome.
    evidence: AnyJson = None
    temporary: TemporaryStatus | None = None
    settled: bool = False
    observed_generation: int | None = None
    conditions: Conditions = ()


class RemediationPlan(KubernetesObject):
    """One fix, exactly; written by the operator only."""

    resource: ClassVar[Resource] = Resource(
        kind="RemediationPlan",
        plural="remediationplans",
        short_names=("rplan",),
        columns=(
            Column(name="Run", json_path=".spec.runRef.name"),
            Column(name="Fix", json_path=".spec.fix"),
            Column(name="Risk", json_path=".spec.risk"),
            Column(name="State", json_path=".status.state"),
            Column(name="Title", json_path=".spec.title"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Tier", json_path=".spec.tier", priority=1),
            Column(name="Reason", json_path=".status.reason", priority=1),
            Column(name="Message", json_path=".status.message", priority=1),
        ),
        selectable=(".status.state", ".status.settled", ".spec.fix"),
    )

    kind: Literal["RemediationPlan"] = "RemediationPlan"
    spec: RemediationPlanSpec
    status: RemediationPlanStatus = RemediationPlanStatus()


Volatile.model_rebuild()
