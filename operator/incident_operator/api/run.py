"""`IncidentRun`: one runbook at work on one incident. Its status is the story, for people and for decisions."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    AnyJson,
    Automation,
    Column,
    Conditions,
    Connection,
    Duration,
    Identifier,
    Instant,
    JsonObject,
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
from .runbook import FindingKind


class IncidentDetails(Model):
    """This incident, described; or an existing one, joined by name."""

    model_config = rules(
        ("has(self.name) || has(self.title)", "describe the incident (title, severity) or join one that exists (name)"),
        (
            "!has(self.name) || !(has(self.ticket) || has(self.title) || has(self.detectedAt))",
            "name joins an incident that exists: drop ticket, title and detectedAt",
        ),
    )

    name: ObjectName | None = None
    ticket: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]*-[0-9A-Z-]+$", max_length=64)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    severity: Severity = Severity.P2
    detected_at: Instant | None = Field(
        None,
        description="When it was noticed; the object's creation where it is left out. With a ticket it names the "
        "incident: the same manifest applied again is then refused.",
    )


class RunbookReference(Model):
    """The runbook to run."""

    kind: Literal["Runbook", "ClusterRunbook"] = "ClusterRunbook"
    name: ObjectName


class IncidentRunSpec(Model):
    """What to run, on what, how far by itself."""

    model_config = rules(
        (
            "!has(self.automation) || self.automation.askUpTo != 'None' || self.automation.applyUpTo == 'None'",
            "askUpTo: None is observe only: applyUpTo must be None too",
        ),
    )

    incident: IncidentDetails
    runbook_ref: RunbookReference
    parameters: JsonObject = Field(default_factory=dict)
    connections: Annotated[dict[str, Connection], Field(json_schema_extra={"maxProperties": 16})] = Field(
        default_factory=dict
    )
    automation: Automation = Automation()
    requested_by: Annotated[str, Field(max_length=256)] | None = Field(
        None,
        description="Who asks for the run: the authenticated user, proven by admission. Who may agree depends on it.",
    )
    start_deadline: Duration | None = Field(None, description="From detection; later the run is Expired. Default 1h.")
    approval_timeout: Duration | None = Field(None, description="How long to wait for people. Default 4h.")
    deletion_policy: Literal["Orphan", "Revert"] = Field(
        "Orphan", description="What becomes of a plan under way when the run is deleted: left in place, or put back."
    )
    drill: bool = Field(False, description="Diagnose and plan, change nothing.")


class RunPhase(StrEnum):
    """Where a run is. The last six are ends."""

    PENDING = "Pending"
    DIAGNOSING = "Diagnosing"
    AWAITING_APPROVAL = "AwaitingApproval"
    REMEDIATING = "Remediating"
    VERIFYING = "Verifying"
    RESOLVED = "Resolved"
    NOTHING_FOUND = "NothingFound"
    UNRESOLVED = "Unresolved"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    FAILED = "Failed"


class CheckState(StrEnum):
    """What came of a check. Failed ≠ Error ≠ Inconclusive, and neither of the last two is ever healthy."""

    PENDING = "Pending"
    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"
    INCONCLUSIVE = "Inconclusive"


class CheckStatus(Model):
    """A check's answer in the newest diagnosis. `output` is ≤ 2 KiB and is what expressions see."""

    name: Identifier
    action: Annotated[str, Field(max_length=64)]
    state: CheckState = CheckState.PENDING
    reason: Reason | None = None
    message: Text = ""
    started_at: Instant | None = None
    finished_at: Instant | None = None
    output: AnyJson = None


class FixState(StrEnum):
    """A fix of the runbook as seen by the run; from Proposed on a copy of its plan's state."""

    PENDING = "Pending"
    NOT_NEEDED = "NotNeeded"
    NOT_APPLICABLE = "NotApplicable"
    BLOCKED = "Blocked"
    ERROR = "Error"


class FixStatus(Model):
    """What became of a fix."""

    name: Identifier
    action: Annotated[str, Field(max_length=64)]
    #: A `FixState`, or the plan's `PlanState` once there is a plan.
    state: FixState | PlanState = FixState.PENDING
    reason: Reason | None = None
    message: Text = ""
    plan_ref: ObjectName | None = None
    attempts: int = 0


class StepStatus(Model):
    """A step of the document."""

    name: Identifier
    title: Text
    expected_by: Instant | None = None
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=24)] = ()
    fixes: Annotated[tuple[FixStatus, ...], Field(max_length=16)] = ()


class Finding(Model):
    """A fact that a check established. `message` is built from known tokens, never from free text (decision 19)."""

    reason: Reason
    check: Identifier
    kind: FindingKind = FindingKind.PROBLEM
    root_cause: bool = False
    message: Text
    #: What it is about: an ARN, a function's name.
    subject: Annotated[str, Field(max_length=512)] | None = None
    #: Who did it, where CloudTrail names them.
    actor: Annotated[str, Field(max_length=512)] | None = None
    at: Instant | None = None


class TimelineEntry(Model):
    """One turn of the story, with the step, check, plan or call behind it."""

    at: Instant
    reason: Reason
    message: Text
    source: Annotated[str, Field(max_length=256)] = ""


class Now(Model):
    """What the run is doing, what it waits for, and what a person can type."""

    doing: Text
    waiting_for: Annotated[str, Field(max_length=256)] | None = None
    because: Text | None = None
    until: Instant | None = None
    next: Annotated[tuple[Text, ...], Field(max_length=8)] = ()


class RunbookPin(Model):
    """The revision of the runbook this run follows, kept as a ControllerRevision."""

    kind: Literal["Runbook", "ClusterRunbook"]
    name: ObjectName
    revision: Annotated[str, Field(max_length=253)]


class RootCause(Model):
    """What broke it; probable until a person says so."""

    summary: Text
    reasons: Annotated[tuple[Reason, ...], Field(max_length=16)] = ()
    probable: bool = True


class ImpactMeasure(Model):
    """One measurement of the impact: how many requests failed, of how many, in the time that its check looked at."""

    failed: float
    total: float
    percent: float
    at: Instant


class Impact(Model):
    """How many requests failed, of how many: the worst that any diagnosis measured, else what it estimated."""

    summary: Annotated[str, Field(max_length=128)]
    method: Literal["Measured", "Estimated"] = "Measured"
    failed: float | None = None
    total: float | None = None
    percent: float | None = None
    measured_at: Instant | None = None
    #: What the first diagnosis measured, where a later one measured worse.
    first: ImpactMeasure | None = None


class Baseline(Model):
    """Were users well before anything was touched? Source: decision 9."""

    state: Literal["Passing", "Failing", "Unknown"]
    at: Instant


class RecoveryStatus(Model):
    """The stability clock of the recovery checks. Source: decision 10."""

    state: Literal["Passing", "Failing", "Unknown"] = "Unknown"
    last_checked_at: Instant | None = None
    passing_since: Instant | None = None
    #: Samples that passed since `passing_since`.
    samples: int = 0
    #: When a fix last helped: `within` counts from here.
    helped_at: Instant | None = None


class Resolution(StrEnum):
    """Who brought the service back."""

    RUNBOOK = "Runbook"
    SELF_RECOVERED = "SelfRecovered"
    MANUAL = "Manual"


class Paused(Model):
    """A person's word that nothing be changed until somebody says Resume."""

    by: Annotated[str, Field(max_length=256)]
    at: Instant
    reason: Text = ""


class Cancelling(Model):
    """A person's word that the run end; it ends once the plan under way has."""

    by: Annotated[str, Field(max_length=256)]
    at: Instant
    then: Literal["Leave", "Revert"]
    reason: Text = ""


class IncidentRunStatus(Model):
    """The story so far."""

    phase: RunPhase = RunPhase.PENDING
    severity: Severity | None = None
    step: Annotated[str, Field(max_length=128)] | None = None
    now: Now | None = None
    runbook: RunbookPin | None = None
    observed_generation: int | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    #: Number of the newest diagnosis, from 1.
    diagnosis: int = 0
    diagnosed_at: Instant | None = None
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=12)] = ()
    findings: Annotated[tuple[Finding, ...], Field(max_length=48)] = ()
    root_cause: RootCause | None = None
    impact: Impact | None = None
    baseline: Baseline | None = None
    recovery: RecoveryStatus | None = None
    active_plan: ObjectName | None = None
    #: Since when people have been asked.
    awaiting_since: Instant | None = None
    paused: Paused | None = None
    cancelling: Cancelling | None = None
    #: Fixes that a person said to leave out.
    skipped: Annotated[tuple[Identifier, ...], Field(max_length=64)] = ()
    #: Plans whose outcome stops nothing any more: a person said Keep, Retry or Skip.
    waived: Annotated[tuple[ObjectName, ...], Field(max_length=64)] = ()
    resolution: Resolution | None = None
    outcome: Reason | None = None
    timeline: Annotated[tuple[TimelineEntry, ...], Field(max_length=96)] = ()
    conditions: Conditions = ()
    settled: bool = False
    truncated: Annotated[tuple[Text, ...], Field(max_length=16)] = ()

    @property
    def fixes(self) -> tuple[FixStatus, ...]:
        """What became of every fix of every step, in the document's order."""
        return tuple(fix for step in self.steps for fix in step.fixes)


def _lowered(field: str) -> str:
    """Return the CEL rule that a risk did not rise; spelled out, for the API server bounds a rule's cost."""
    old, new = f"oldSelf.{field}", f"self.{field}"
    return f"({new} == {old} || {old} == 'Destructive' || {new} == 'None' || {old} == 'Disruptive' && {new} == 'Low')"


class IncidentRun(KubernetesObject):
    """One runbook at work on one incident."""

    model_config = rules(
        (
            "!has(oldSelf.status) || !has(oldSelf.status.startedAt) || "
            "(self.spec.incident == oldSelf.spec.incident && self.spec.runbookRef == oldSelf.spec.runbookRef"
            " && has(self.spec.parameters) == has(oldSelf.spec.parameters)"
            " && (!has(self.spec.parameters) || self.spec.parameters == oldSelf.spec.parameters)"
            " && has(self.spec.drill) == has(oldSelf.spec.drill)"
            " && (!has(self.spec.drill) || self.spec.drill == oldSelf.spec.drill))",
            "this run has started: only spec.automation may still change, downwards; create a new IncidentRun",
        ),
        (
            "!has(oldSelf.status) || !has(oldSelf.status.startedAt) || !has(oldSelf.spec.automation) || "
            "(has(self.spec.automation) && "
            + " && ".join(_lowered(f"spec.automation.{field}") for field in ("applyUpTo", "askUpTo"))
            + ")",
            "this run has started: automation may only be lowered, never raised",
        ),
    )

    resource: ClassVar[Resource] = Resource(
        kind="IncidentRun",
        plural="incidentruns",
        short_names=("irun",),
        columns=(
            Column(name="Severity", json_path=".status.severity"),
            Column(name="Runbook", json_path=".spec.runbookRef.name"),
            Column(name="Phase", json_path=".status.phase"),
            Column(name="Step", json_path=".status.step"),
            Column(name="Waiting-On", json_path=".status.now.waitingFor"),
            Column(name="Cause", json_path=".status.rootCause.summary"),
            Column(name="Impact", json_path=".status.impact.summary"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Ticket", json_path=".spec.incident.ticket", priority=1),
            Column(name="Outcome", json_path=".status.outcome", priority=1),
            Column(name="Message", json_path=".status.now.doing", priority=1),
        ),
        selectable=(".status.phase", ".status.settled", ".spec.incident.severity", ".spec.runbookRef.name"),
    )

    kind: Literal["IncidentRun"] = "IncidentRun"
    spec: IncidentRunSpec
    status: IncidentRunStatus = IncidentRunStatus()
