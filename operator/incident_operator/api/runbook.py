"""`Runbook` and `ClusterRunbook`: a procedure of checks and fixes, as its owners write it in Git."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    AnyJson,
    Column,
    Conditions,
    Duration,
    Expression,
    Identifier,
    Instant,
    JsonObject,
    KubernetesObject,
    Model,
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


class ImpactExpressions(Model):
    """How many requests failed, of how many: measured by the checks, not guessed."""

    failed: Expression
    total: Expression


class Maintenance(Model):
    """Who keeps the runbook true, and how often."""

    owner: Annotated[str, Field(max_length=128)]
    review_every: Duration | None = None
    reviewed_at: Instant | None = Field(
        None, description="When its owner last confirmed it; older than reviewEvery, its fixes ask (gate RunbookStale)."
    )
    validate_every: Duration | None = None


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
    impact: Text | None = None
    resolution_time: Duration | None = None


class RunbookSpec(Model):
    """The procedure."""

    model_config = rules(
        (
            "self.steps.map(s, has(s.checks) ? s.checks.size() : 0).sum() <= 24",
            "a runbook has at most 24 checks: split it",
        ),
    )

    title: Text
    incident_type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    description: Text | None = None
    symptoms: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    parameters: Annotated[tuple[Parameter, ...], Field(max_length=48, json_schema_extra=listed_by("name"))] = ()
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=12, json_schema_extra=listed_by("name"))]
    recovery: Recovery
    impact: ImpactExpressions | None = None
    maintenance: Maintenance | None = None
    knowledge: Knowledge | None = None
    history: Annotated[tuple[HistoricalIncident, ...], Field(max_length=32, json_schema_extra=listed_by("ticket"))] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check of every step, in the document's order."""
        return tuple(check for step in self.steps for check in step.checks)

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


class RunbookStatus(Model):
    """Whether the runbook can be used, and if not, where it is wrong."""

    observed_generation: int | None = None
    revision: Annotated[str, Field(max_length=253)] | None = None
    problems: Annotated[tuple[RunbookProblem, ...], Field(max_length=32)] = ()
    conditions: Conditions = ()


_COLUMNS = (
    Column(name="Title", json_path=".spec.title"),
    Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
    Column(name="Reason", json_path='.status.conditions[?(@.type=="Ready")].reason'),
    Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
    Column(name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1),
)


class Runbook(KubernetesObject):
    """A procedure for the runs of one namespace."""

    resource: ClassVar[Resource] = Resource(kind="Runbook", plural="runbooks", short_names=("rbk",), columns=_COLUMNS)

    kind: Literal["Runbook"] = "Runbook"
    spec: RunbookSpec
    status: RunbookStatus = RunbookStatus()


class ClusterRunbook(KubernetesObject):
    """A procedure for the runs of every namespace."""

    resource: ClassVar[Resource] = Resource(
        kind="ClusterRunbook", plural="clusterrunbooks", short_names=("crbk",), scope="Cluster", columns=_COLUMNS
    )

    kind: Literal["ClusterRunbook"] = "ClusterRunbook"
    spec: RunbookSpec
    status: RunbookStatus = RunbookStatus()
