"""`RemediationPolicy`: what must stay healthy, what to start when it does not, and what keeps that in bounds."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .meta import (
    Automation,
    Column,
    Conditions,
    Duration,
    Identifier,
    Instant,
    JsonObject,
    KubernetesObject,
    Model,
    ObjectName,
    Resource,
    Severity,
    TimeOfDay,
    Weekday,
    rules,
)
from .run import RunbookReference, RunPhase
from .runbook import FindingRule, listed_by


class HealthCheck(Model):
    """One question that health rests on: a check of the runbook, by its name, or one of the policy's own."""

    model_config = rules(
        (
            "has(self.action) || !(has(self.inputs) || has(self.findings))",
            "a check without an action is the runbook's of that name: write its action, or drop inputs and findings",
        ),
    )

    name: Identifier
    action: Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9-]+$", max_length=64)] | None = Field(
        None, description="Left out, it is the runbook's check of this name."
    )
    inputs: JsonObject = Field(default_factory=dict)
    findings: Annotated[tuple[FindingRule, ...], Field(max_length=16)] = ()


class Health(Model):
    """What healthy means. A check that gives no answer counts as neither healthy nor unhealthy."""

    model_config = rules(
        (
            "!has(self.interval) || (self.interval >= duration('5s') && self.interval <= duration('24h'))",
            "interval is from 5s to 24h",
        ),
    )

    checks: Annotated[tuple[HealthCheck, ...], Field(min_length=1, max_length=8, json_schema_extra=listed_by("name"))]
    interval: Annotated[
        Duration, Field(json_schema_extra={"default": "1m"}, description="How often the checks are asked.")
    ] = timedelta(minutes=1)
    look_back: Annotated[
        Duration, Field(json_schema_extra={"default": "5m"}, description="How far back the checks look.")
    ] = timedelta(minutes=5)
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="So many times in a row some check must fail until a run is started."
    )
    success_threshold: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="So many times in a row every check must pass until it is healthy."
    )


class Remediation(Model):
    """The run to start: as an IncidentRun says it."""

    model_config = rules(
        (
            "!has(self.automation) || self.automation.askUpTo != 'None' || self.automation.applyUpTo == 'None'",
            "askUpTo: None is observe only: applyUpTo must be None too",
        ),
    )

    runbook_ref: RunbookReference
    parameters: JsonObject = Field(default_factory=dict)
    severity: Severity = Severity.P2
    title: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    automation: Automation = Automation()


class WindowKind(StrEnum):
    """What a window says of the time in it."""

    #: No run is started in it.
    FREEZE = "Freeze"
    #: Runs are started in it only, or in another one of this kind.
    ALLOW = "Allow"


class Window(Model):
    """A time that comes again, by the wall clock of a zone; a freeze wins over what is allowed."""

    model_config = rules(
        (
            "has(self.cron) == has(self.duration)",
            "cron says when a window begins, duration how long it lasts: give both",
        ),
        ("has(self.from) == has(self.to)", "from and to are times of day: give both"),
        ("has(self.cron) != has(self.from)", "write either cron and duration, or from and to"),
        ("!has(self.days) || has(self.from)", "days go with from and to; cron has a field for them"),
        (
            "!has(self.duration) || (self.duration >= duration('1m') && self.duration <= duration('168h'))",
            "duration is from 1m to 7d",
        ),
    )

    kind: WindowKind
    cron: Annotated[str, Field(pattern=r"^\S+( +\S+){4}$", max_length=128)] | None = Field(
        None, description="Minute, hour, day of month, month, day of week: when it begins."
    )
    duration: Duration | None = None
    days: Annotated[tuple[Weekday, ...], Field(max_length=7)] = Field((), description="Left out, every day.")
    begins: TimeOfDay | None = Field(None, alias="from", description="The first minute of it.")
    ends: TimeOfDay | None = Field(None, alias="to", description="The first minute after it; not later is next day.")
    time_zone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+/-]+$", max_length=64)] = Field(
        "UTC", description="An IANA name, as Europe/Berlin."
    )


class Guardrails(Model):
    """What keeps a policy from doing harm by acting too often, at a bad time, or in vain."""

    model_config = rules(
        ("!has(self.cooldown) || self.cooldown <= duration('168h')", "cooldown is at most 7d"),
    )

    cooldown: Annotated[
        Duration, Field(json_schema_extra={"default": "10m"}, description="The rest after a run, before the next one.")
    ] = timedelta(minutes=10)
    max_runs_per_day: Annotated[int, Field(ge=1, le=100)] = Field(6, description="Of a day in UTC.")
    max_concurrent_runs: Annotated[int, Field(ge=1, le=10)] = 1
    stop_after_failures: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="So many runs in a row that ended Unresolved or Failed open the circuit: a person closes it."
    )
    windows: Annotated[tuple[Window, ...], Field(max_length=16)] = ()
    suspend: bool = Field(False, description="Health is watched on, and no run is started.")


class RemediationPolicySpec(Model):
    """Desired health, and what to do when it is lost."""

    health: Health
    remediation: Remediation
    guardrails: Guardrails = Guardrails()
    requested_by: Annotated[str, Field(max_length=256)] | None = Field(
        None,
        description="Who wrote this spec last: the authenticated user, proven by admission. Its runs are asked for by "
        "them, and who may agree depends on it.",
    )


class Episode(Model):
    """A loss of health: from the breach to the recovery, with the one run that it started."""

    id: int
    started_at: Instant
    run: ObjectName
    #: How its run ended; it is still open when users are not well.
    outcome: RunPhase | Literal["Deleted"] | None = None


class StartedRun(Model):
    """A run of the policy that has not ended, as far as is known."""

    name: ObjectName
    episode: int
    started_at: Instant
    #: Empty until it is known to have been created.
    uid: Annotated[str, Field(max_length=64)] = ""


class Consecutive(Model):
    """Answers in a row, counted up to their threshold: what stays as it is, is not written again."""

    failures: int = 0
    successes: int = 0
    #: Rounds in which no check failed, and some gave no answer.
    unknown: int = 0
    #: When what changed these numbers last was asked.
    at: Instant | None = None


class RunsToday(Model):
    """How many runs were started on a day of UTC."""

    date: Annotated[str, Field(max_length=10)]
    count: int


class Circuit(Model):
    """Why nothing is started any more, and which word of a person it was opened after."""

    opened_at: Instant
    #: The annotation's value at that time: another one closes the circuit.
    closed_before: Annotated[str, Field(max_length=256)] = ""


class RemediationPolicyStatus(Model):
    """What is remembered; nothing of it changes while a healthy policy stays healthy."""

    observed_generation: int | None = None
    conditions: Conditions = ()
    episode: Episode | None = None
    #: The number of the newest episode.
    episodes: int = 0
    consecutive: Consecutive = Consecutive()
    runs: Annotated[tuple[StartedRun, ...], Field(max_length=10)] = ()
    last_run_at: Instant | None = None
    last_run_ended_at: Instant | None = None
    runs_today: RunsToday | None = None
    #: Runs in a row that ended Unresolved or Failed.
    failed_runs: int = 0
    circuit: Circuit | None = None


class RemediationPolicy(KubernetesObject):
    """What must stay healthy, and the run that a breach starts."""

    resource: ClassVar[Resource] = Resource(
        kind="RemediationPolicy",
        plural="remediationpolicies",
        short_names=("rpol",),
        columns=(
            Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
            Column(name="Healthy", json_path='.status.conditions[?(@.type=="Healthy")].status'),
            Column(name="Remediating", json_path='.status.conditions[?(@.type=="Remediating")].reason'),
            Column(name="Run", json_path=".status.episode.run"),
            Column(name="Suspended", json_path=".spec.guardrails.suspend", type="boolean"),
            Column(name="Circuit-Open", json_path='.status.conditions[?(@.type=="CircuitOpen")].status'),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
            Column(name="Runbook", json_path=".spec.remediation.runbookRef.name", priority=1),
            Column(name="Last-Run", json_path=".status.lastRunAt", type="date", priority=1),
            Column(name="Message", json_path='.status.conditions[?(@.type=="Healthy")].message', priority=1),
        ),
        selectable=(".spec.remediation.runbookRef.name",),
    )

    kind: Literal["RemediationPolicy"] = "RemediationPolicy"
    spec: RemediationPolicySpec
    status: RemediationPolicyStatus = RemediationPolicyStatus()
