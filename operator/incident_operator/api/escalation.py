"""`EscalationPolicy`: who is told of an incident, when, on which clock; the document's tables as a manifest."""

from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from .meta import (
    DURATION_PATTERN,
    Column,
    Conditions,
    Duration,
    KubernetesObject,
    Model,
    Resource,
    SecretReference,
    Severity,
    Text,
    TimeOfDay,
    Weekday,
    parse_duration,
    rules,
)
from .runbook import listed_by

CELLS = ("Immediate", "BusinessHours", "NextDay", "NextBusinessDay", "WeeklyReview", "MonthlyReview")
#: What people read in tables: the document's own words, also as references within the policy.
Title = Annotated[str, Field(min_length=1, max_length=64)]
#: When a role is engaged: one of CELLS, or a duration that counts on the severity's clock.
Cell = Annotated[
    str, Field(pattern=rf"^({'|'.join(CELLS)}|{DURATION_PATTERN.removeprefix('^').removesuffix('$')})$", max_length=32)
]
#: A time of day; 24:00 is the end of a day.
EndOfHours = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", max_length=5)]
Date = Annotated[
    date,
    BeforeValidator(lambda v: date.fromisoformat(v) if isinstance(v, str) else v),
    PlainSerializer(lambda v: v.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "format": "date"}),
]


def _interval(value: object) -> object:
    if not isinstance(value, str):
        return value
    length = parse_duration(value)
    if length < timedelta(minutes=1):
        raise ValueError(f"{value!r} is too short to page anybody by; write for example 5m")
    return length


#: How often, or how long, somebody is paged: at least a minute, which the pattern asks for, too.
Interval = Annotated[
    Duration,
    BeforeValidator(_interval),
    WithJsonSchema(
        {
            "type": "string",
            "format": "duration",
            "pattern": r"^[1-9][0-9]*[mhd]([0-9]+(ms|s|m|h|d))*$",
            "maxLength": 32,
        }
    ),
]


class WorkingHours(Model):
    """Hours in which people work, on some days of the week."""

    model_config = rules(("self.from < self.to", "working hours end after they begin, on the same day"))

    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)]
    opens: TimeOfDay = Field(alias="from", description="The first minute of them, as 09:00.")
    closes: EndOfHours = Field(alias="to", description="The first minute after them, as 17:30; 24:00 ends a day.")


class WeeklyReview(Model):
    """When the weekly review is; on the next business day where its day is none."""

    day: Weekday
    at: TimeOfDay


class MonthlyReview(Model):
    """When the monthly review is; on the next business day where its day is none."""

    day_of_month: Annotated[int, Field(ge=1, le=31)] = Field(
        1, description="In a shorter month its last day. 1, the default, is the first business day."
    )
    at: TimeOfDay


class Calendar(Model):
    """When people work, and when they look back."""

    working_hours: Annotated[tuple[WorkingHours, ...], Field(min_length=1, max_length=14)]
    holidays: Annotated[tuple[Date, ...], Field(max_length=366)] = Field(
        (), description="Days without working hours, as 2026-12-25."
    )
    weekly_review: WeeklyReview
    monthly_review: MonthlyReview


class Clock(StrEnum):
    """Which time counts."""

    WALL_CLOCK = "WallClock"
    #: Only working time counts.
    BUSINESS_HOURS = "BusinessHours"


class SeverityRule(Model):
    """One row of the severity table."""

    title: Title
    description: Text
    examples: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    respond_within: Duration = Field(description="From detection, on this severity's clock.")
    clock: Clock
    update_every: Duration | None = Field(None, description="How often stakeholders hear of an open incident.")


class Severities(Model):
    """The severity table: each one has its row."""

    p0: SeverityRule = Field(alias="P0")
    p1: SeverityRule = Field(alias="P1")
    p2: SeverityRule = Field(alias="P2")
    p3: SeverityRule = Field(alias="P3")

    def rule(self, severity: Severity) -> SeverityRule:
        """Return the row of a severity."""
        rule: SeverityRule = getattr(self, severity.lower())
        return rule


class Engage(Model):
    """One row of the escalation matrix: when a role is engaged, by severity."""

    p0: Cell = Field(alias="P0")
    p1: Cell = Field(alias="P1")
    p2: Cell = Field(alias="P2")
    p3: Cell = Field(alias="P3")

    def cell(self, severity: Severity) -> str:
        """Return when the role is engaged at a severity."""
        cell: str = getattr(self, severity.lower())
        return cell


class Role(Model):
    """Who is engaged when."""

    name: Title
    contacts: Annotated[tuple[Title, ...], Field(max_length=8)] = Field(
        (), description="Names of spec.contacts: how this role is reached."
    )
    engage: Engage = Field(
        description="Immediate, a duration, BusinessHours (at once in working hours, else at the next opening), "
        "NextDay (on the wall clock the next calendar day, else the next business day, at opening), NextBusinessDay, "
        "WeeklyReview or MonthlyReview."
    )


class Rung(Model):
    """One contact of the ladder."""

    contact: Title = Field(description="A name of spec.contacts.")
    repeat_every: Interval = Field(description="How often it is paged, until somebody acknowledges.")
    next_after: Interval | None = Field(
        None, description="How long it is paged before the next rung is; the last rung has none."
    )


class Paging(Model):
    """Whose pages follow which ladder; times count on the severity's clock."""

    model_config = rules(
        (
            "!has(self.rungs[size(self.rungs) - 1].nextAfter)"
            " && size(self.rungs.filter(r, has(r.nextAfter))) == size(self.rungs) - 1",
            "every rung but the last says when the next begins (nextAfter); the last is repeated until acknowledged",
        ),
    )

    role: Title = Field(description="A name of spec.roles: the ladder begins when this role is engaged.")
    rungs: Annotated[tuple[Rung, ...], Field(min_length=1, max_length=8)]


class ContactKind(StrEnum):
    """What a contact is."""

    ON_CALL = "OnCall"
    ROLE = "Role"
    VENDOR = "Vendor"
    CUSTOMER_SUPPORT = "CustomerSupport"


class Contact(Model):
    """Somebody who can be reached."""

    model_config = rules(
        (
            "has(self.email) || has(self.phone) || has(self.url) || has(self.how)",
            "say how this contact is reached: email, phone, url or how",
        ),
    )

    name: Title
    kind: ContactKind
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)] | None = None
    phone: Annotated[str, Field(pattern=r"^\+?[0-9 ()./-]+$", max_length=32)] | None = None
    url: Annotated[str, Field(pattern=r"^https://\S+$", max_length=512)] | None = None
    how: Text | None = Field(None, description="In words, where no address says it.")


class ChannelType(StrEnum):
    """What carries messages."""

    SLACK = "Slack"
    PAGER_DUTY = "PagerDuty"
    EMAIL = "Email"
    STATUS_PAGE = "StatusPage"
    WEBHOOK = "Webhook"


class Channel(Model):
    """Where messages go."""

    name: Title
    type: ChannelType
    address: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="A channel, host or address that people know; credentials are in the Secret."
    )
    secret_ref: SecretReference | None = Field(
        None, description="A Secret of this namespace, of type ops.shopsmart.com/connection."
    )


class EscalationPolicySpec(Model):
    """Who is told when, and how they are reached."""

    model_config = rules(
        (
            "self.roles.all(r, !has(r.contacts)"
            " || r.contacts.all(c, has(self.contacts) && self.contacts.exists(k, k.name == c)))",
            "a role names a contact that is not in spec.contacts",
        ),
        (
            "!has(self.paging)"
            " || self.paging.rungs.all(r, has(self.contacts) && self.contacts.exists(k, k.name == r.contact))",
            "spec.paging names a contact that is not in spec.contacts",
        ),
        (
            "!has(self.paging) || self.roles.exists(r, r.name == self.paging.role)",
            "spec.paging.role is not in spec.roles",
        ),
    )

    time_zone: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", max_length=64)] = Field(
        description="The IANA name of the calendar's zone, as Europe/Berlin."
    )
    calendar: Calendar
    severities: Severities
    roles: Annotated[tuple[Role, ...], Field(min_length=1, max_length=16, json_schema_extra=listed_by("name"))]
    paging: Paging | None = None
    contacts: Annotated[tuple[Contact, ...], Field(max_length=64, json_schema_extra=listed_by("name"))] = ()
    channels: Annotated[tuple[Channel, ...], Field(max_length=16, json_schema_extra=listed_by("name"))] = ()


class EscalationPolicyStatus(Model):
    """Whether the policy can be used."""

    observed_generation: int | None = None
    conditions: Conditions = ()


class EscalationPolicy(KubernetesObject):
    """Who is told of an incident, and when."""

    resource: ClassVar[Resource] = Resource(
        kind="EscalationPolicy",
        plural="escalationpolicies",
        short_names=("escpol",),
        columns=(
            Column(name="Time-Zone", json_path=".spec.timeZone"),
            Column(name="P0", json_path=".spec.severities.P0.respondWithin"),
            Column(name="P1", json_path=".spec.severities.P1.respondWithin"),
            Column(name="P2", json_path=".spec.severities.P2.respondWithin"),
            Column(name="P3", json_path=".spec.severities.P3.respondWithin"),
            Column(name="First-Paged", json_path=".spec.paging.rungs[0].contact"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        ),
    )

    kind: Literal["EscalationPolicy"] = "EscalationPolicy"
    spec: EscalationPolicySpec
    status: EscalationPolicyStatus = EscalationPolicyStatus()
