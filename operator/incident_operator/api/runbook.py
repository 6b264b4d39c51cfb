"""`Runbook` and `ClusterRunbook`: a procedure of checks and fixes, as its owners write it in Git."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    AnyJson,
    Column,
    Conditions,
    Connection,
    Duration,
    Expression,
    Identifier,
    Instant,
    JsonObject,
    KubernetesObject,
    Model,
    ObjectName,
    Reason,
    Resource,
    Text,
    rules,
)
from .plan import TemporaryFix


def listed_by(*keys: str) -> dict[str, object]:
    """Return the schema extension that makes a list a map of these keys (merge and duplicates by key)."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class ParameterType(StrEnum):
    """The type of a parameter's value."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"


class Parameter(Model):
    """An input of the runbook, typed and bounded; a run that misses or breaks one is refused with the reason."""

    model_config = rules(
        ("!has(self.pattern) || self.type == 'string'", "pattern is for type string"),
        (
            "!(has(self.minimum) || has(self.maximum)) || self.type in ['integer', 'number']",
            "minimum and maximum are for type integer or number",
        ),
        ("!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum", "minimum is above maximum"),
    )

    name: Identifier
    type: ParameterType
    description: Text | None = None
    required: bool = False
    default: AnyJson = None
    pattern: Annotated[str, Field(max_length=512)] | None = None
    enum: Annotated[tuple[str, ...], Field(max_length=64)] | None = None
    minimum: float | None = None
    maximum: float | None = None


class FindingKind(StrEnum):
    """Whether a finding makes its check Failed. Source: decision 8."""

    PROBLEM = "Problem"
    INFO = "Info"


class FindingRule(Model):
    """A finding the runbook adds to what the action finds by itself."""

    when: Expression
    reason: Reason
    kind: FindingKind = FindingKind.PROBLEM
    root_cause: bool = False
    message: Text


class Check(Model):
    """One read-only question, answered by an action of the catalogue."""

    name: Identifier
    title: Text | None = None
    action: Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9-]+$", max_length=64)]
    inputs: JsonObject = Field(default_factory=dict)
    findings: Annotated[tuple[FindingRule, ...], Field(max_length=16)] = ()


class IfNoHelp(StrEnum):
    """What follows a fix that had no effect."""

    NEXT = "Next"
    ASK = "Ask"
    STOP = "Stop"


class FollowUp(Model):
    """The permanent work a fix calls for."""

    text: Text
    priority: Literal["High", "Medium", "Low"] = "Medium"
    due_in: Duration | None = None
    owner: Annotated[str, Field(max_length=128)] | None = None


class Fix(Model):
    """One change, planned by an action of the catalogue when its findings are there."""

    model_config = rules(
        (
            "has(self.onFindings) && size(self.onFindings) > 0 || has(self.when)",
            "say when this fix applies: onFindings: [Reason] or when: <CEL>",
        ),
    )

    name: Identifier
    title: Text | None = None
    action: Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9-]+$", max_length=64)]
    on_findings: Annotated[tuple[Reason, ...], Field(max_length=16)] = ()
    when: Expression | None = None
    inputs: JsonObject = Field(default_factory=dict)
    temporary: TemporaryFix | None = Field(None, description="The fix does not stay for good; it outlives its run.")
    follow_up: FollowUp | None = None
    if_no_help: IfNoHelp = IfNoHelp.NEXT


class Step(Model):
    """A step of the document: order, title and minutes, for people; checks do not wait for steps."""

    name: Identifier
    title: Text
    expected_by: Duration = Field(description="Minutes from the start; later sets BehindSchedule and kills nothing.")
    checks: Annotated[tuple[Check, ...], Field(max_length=24, json_schema_extra=listed_by("name"))] = ()
    fixes: Annotated[tuple[Fix, ...], Field(max_length=16, json_schema_extra=listed_by("name"))] = ()


class Recovery(Model):
    """What proves that users are well again: at least one signal they would feel."""

    checks: Annotated[
        tuple[Identifier, ...], Field(min_length=1, max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ]
    stable_for: Duration | None = None
    within: Duration | None = None


class CloseOutChecks(Model):
    """What the operator asks itself an hour after the incident's end, before it asks people.

    Shape: `alarms` and `watchAlso` name checks of `checks` or of the steps. Source: the document's post-incident
    procedures, "verify that all alarms work" and "check for secondary impacts".
    """

    model_config = rules(
        (
            "has(self.alarms) && size(self.alarms) > 0 || has(self.watchAlso) && size(self.watchAlso) > 0",
            "say which checks prove a duty: alarms: [check] or watchAlso: [check]",
        ),
    )

    checks: Annotated[tuple[Check, ...], Field(max_length=8, json_schema_extra=listed_by("name"))] = Field(
        (), description="Asked at the close-out alone: no diagnosis waits for them, and no fix follows from them."
    )
    alarms: Annotated[
        tuple[Identifier, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field((), description="Checks that prove that the alarms work (cloudwatch.alarm): the duty alertsWorking.")
    watch_also: Annotated[
        tuple[Identifier, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field((), description="Checks of what else could have been hit: the duty secondaryImpacts.")


class ImpactEstimate(Model):
    """What stands for users' requests where those are not measured: of how many attempts how many failed.

    Shape: `by` says whose or which, for people: "about 100% of requests failed, estimated by <by> (3 of 3)".
    """

    by: Annotated[str, Field(min_length=1, max_length=40)]
    failed: Expression
    total: Expression


class ImpactExpressions(Model):
    """How many requests failed, of how many: measured by the checks, not guessed.

    Without an answer, or with a total of nothing, the impact is unknown; or that of `estimate`, which says so.
    """

    failed: Expression
    total: Expression
    estimate: ImpactEstimate | None = None


#: How a contact is called, as in the contacts of an EscalationPolicy.
ContactName = Annotated[str, Field(min_length=1, max_length=64)]


class Review(Model):
    """One contact's word that they have read the runbook and still stand behind it: a row of the maintenance record."""

    by: ContactName = Field(description="Who reviewed it: one on-call contact.")
    at: Instant = Field(description="When; one that is still ahead does not count.")
    revision: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="What was reviewed: status.revision as it was then, or a commit."
    )


class Trial(Model):
    """What the checks are asked about, and the fixes planned for, when the runbook is validated: nothing is changed."""

    namespace: ObjectName | None = Field(
        None, description="Whose grants and Secrets it is tried with. Only for a ClusterRunbook: a Runbook has its own."
    )
    parameters: JsonObject = Field(default_factory=dict, description="As a run gives them.")
    connections: Annotated[dict[str, Connection], Field(json_schema_extra={"maxProperties": 8})] = Field(
        default_factory=dict, description="As a run gives them."
    )


class Archive(Model):
    """Why a runbook is kept, but starts nothing any more."""

    reason: Annotated[Text, Field(min_length=1)] = Field(description="Shown to everybody whose run it refuses.")
    replaced_by: ObjectName | None = Field(None, description="The runbook to use instead.")


class Maintenance(Model):
    """Who keeps the runbook true, and how often."""

    owner: Annotated[str, Field(max_length=128)]
    review_every: Duration | None = Field(
        None, description="How long a review holds, and the first one may take. Later the fixes ask (RunbookStale)."
    )
    reviewers: Annotated[
        tuple[ContactName, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(
        (),
        description="Each of them reviews it, every time. Where it names none, each on-call contact of the "
        "EscalationPolicy does; where that has none either, anybody's review is enough.",
    )
    reviews: Annotated[tuple[Review, ...], Field(max_length=64, json_schema_extra=listed_by("by", "at"))] = Field(
        (), description="The record: entries are added, and taken out only when a newer one of the same contact is in."
    )
    reviewed_at: Instant | None = Field(
        None, description="When its owner last confirmed it, as one more review by them; reviews says who and what."
    )
    validate_every: Duration | None = Field(None, description="How old a validation may become. Default 30d.")
    trial: Trial | None = Field(
        None, description="Without it only schema, expressions and references are validated, and Validated is Unknown."
    )
    archived: Archive | None = Field(None, description="No run of it is started any more.")


class Knowledge(Model):
    """The track record of the procedure."""

    incidents: Annotated[int, Field(ge=0)] | None = None
    success_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    mean_resolution: Duration | None = None
    notes: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    source: Text | None = None


class HistoricalIncident(Model):
    """A ticket this runbook comes from."""

    ticket: Annotated[str, Field(max_length=64)]
    title: Text | None = None
    root_cause: Text | None = None
    resolution: Text | None = None
    prevention: Text | None = None
    impact: Text | None = None
    resolution_time: Duration | None = None


class RunbookSpec(Model):
    """The procedure."""

    model_config = rules(
        (
            "self.steps.map(s, has(s.checks) ? s.checks.size() : 0).sum() <= 24",
            "a runbook has at most 24 checks: split it",
        ),
        (
            "!has(oldSelf.maintenance) || !has(oldSelf.maintenance.reviews) || (has(self.maintenance)"
            " && has(self.maintenance.reviews) && oldSelf.maintenance.reviews.all(old,"
            " self.maintenance.reviews.exists(new,"
            " new.by == old.by && (new.at == old.at && new.revision == old.revision || new.at > old.at))))",
            "the record of reviews is only added to: an entry goes when a newer one of the same contact is in",
        ),
    )

    title: Text
    incident_type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    description: Text | None = None
    pattern: Text | None = Field(None, description="What its incidents have in common, in a line.")
    symptoms: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    parameters: Annotated[tuple[Parameter, ...], Field(max_length=48, json_schema_extra=listed_by("name"))] = ()
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=12, json_schema_extra=listed_by("name"))]
    recovery: Recovery
    impact: ImpactExpressions | None = None
    closeout: CloseOutChecks | None = None
    maintenance: Maintenance | None = None
    knowledge: Knowledge | None = None
    history: Annotated[tuple[HistoricalIncident, ...], Field(max_length=32, json_schema_extra=listed_by("ticket"))] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check of every step, in the document's order."""
        return tuple(check for step in self.steps for check in step.checks)

    @property
    def every_check(self) -> tuple[Check, ...]:
        """The checks of the steps, then those of the close-out."""
        return (*self.checks, *(self.closeout.checks if self.closeout is not None else ()))

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """Every fix of every step, in the document's order."""
        return tuple(fix for step in self.steps for fix in step.fixes)


class RunbookProblem(Model):
    """One reason why a runbook can't be used, at its place."""

    field: Annotated[str, Field(max_length=256)]
    line: int | None = None
    column: int | None = None
    message: Text


class ValidationPart(StrEnum):
    """What a validation looks at, in this order."""

    SCHEMA = "Schema"
    EXPRESSIONS = "Expressions"
    REFERENCES = "References"
    PERMISSIONS = "Permissions"
    CHECKS = "Checks"
    FIXES = "Fixes"


class ValidationResult(StrEnum):
    """What came of one part; Unknown is not healthy."""

    PASSED = "Passed"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class PartReport(Model):
    """What came of one part."""

    part: ValidationPart
    result: ValidationResult
    #: How many of them were looked at: expressions, references, permissions, checks or fixes.
    count: int = 0
    message: Text = ""


class ValidationFinding(Model):
    """One thing that is wrong, or could not be told."""

    part: ValidationPart
    result: ValidationResult
    #: The check, fix, permission or field.
    name: Annotated[str, Field(max_length=256)]
    reason: Reason
    message: Text = ""


class Validation(Model):
    """The newest validation's report."""

    at: Instant
    generation: int
    namespace: ObjectName | None = Field(None, description="Whose grants it was tried with.")
    parts: Annotated[tuple[PartReport, ...], Field(max_length=6, json_schema_extra=listed_by("part"))] = ()
    findings: Annotated[tuple[ValidationFinding, ...], Field(max_length=32)] = ()


class UpdateReason(StrEnum):
    """Why a runbook is to be looked at by its owner."""

    INCIDENT_ENDED = "IncidentEnded"
    #: People finished a review that says what a runbook should learn.
    SUGGESTION_ACCEPTED = "SuggestionAccepted"


class UpdateDue(Model):
    """One thing that the runbook should learn from; gone with the next change of its spec, a review among them."""

    reason: UpdateReason
    since: Instant
    #: The run, or the review: `namespace/name`.
    about: Annotated[str, Field(max_length=512)]
    #: Of the runbook, then.
    generation: int


class RunbookStatus(Model):
    """Whether the runbook can be used, where it is wrong, and whether it is kept true."""

    observed_generation: int | None = None
    revision: Annotated[str, Field(max_length=253)] | None = None
    problems: Annotated[tuple[RunbookProblem, ...], Field(max_length=32)] = ()
    validation: Validation | None = None
    reviewed_at: Instant | None = Field(
        None, description="The oldest of its reviewers' newest reviews; none while one of them has never reviewed it."
    )
    update_due: Annotated[tuple[UpdateDue, ...], Field(max_length=16)] = ()
    conditions: Conditions = ()


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_COLUMNS = (
    Column(name="Title", json_path=".spec.title"),
    Column(name="Ready", json_path=_condition("Ready", "status")),
    Column(name="Reason", json_path=_condition("Ready", "reason")),
    Column(name="Validated", json_path=_condition("Validated", "status")),
    Column(name="Fresh", json_path=_condition("Fresh", "status")),
    Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
    Column(name="Message", json_path=_condition("Ready", "message"), priority=1),
    Column(name="Validated-Ago", json_path=".status.validation.at", type="date", priority=1),
    Column(name="Reviewed-Ago", json_path=".status.reviewedAt", type="date", priority=1),
    Column(name="Update-Due", json_path=".status.updateDue[0].reason", priority=1),
    Column(name="Owner", json_path=".spec.maintenance.owner", priority=1),
)


_TRIAL = "has(self.spec.maintenance) && has(self.spec.maintenance.trial)"


class Runbook(KubernetesObject):
    """A procedure for the runs of one namespace."""

    model_config = rules(
        (
            f"!({_TRIAL}) || !has(self.spec.maintenance.trial.namespace)",
            "a Runbook is tried in its own namespace: drop maintenance.trial.namespace",
        ),
    )

    resource: ClassVar[Resource] = Resource(kind="Runbook", plural="runbooks", short_names=("rbk",), columns=_COLUMNS)

    kind: Literal["Runbook"] = "Runbook"
    spec: RunbookSpec
    status: RunbookStatus = RunbookStatus()


class ClusterRunbook(KubernetesObject):
    """A procedure for the runs of every namespace."""

    model_config = rules(
        (
            f"!({_TRIAL}) || has(self.spec.maintenance.trial.namespace)",
            "a ClusterRunbook says where it is tried: write maintenance.trial.namespace",
        ),
    )

    resource: ClassVar[Resource] = Resource(
        kind="ClusterRunbook", plural="clusterrunbooks", short_names=("crbk",), scope="Cluster", columns=_COLUMNS
    )

    kind: Literal["ClusterRunbook"] = "ClusterRunbook"
    spec: RunbookSpec
    status: RunbookStatus = RunbookStatus()
