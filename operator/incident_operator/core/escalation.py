"""Whom an EscalationPolicy wants told of an incident, and when. Nothing is sent here. Source: decision 27."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.escalation import Clock, EscalationPolicySpec, Paging, Role
from ..api.meta import Severity, parse_duration
from .calendar import calendar_of


@dataclass(frozen=True, kw_only=True)
class SeverityChange:
    """The severity an incident was given, and when."""

    severity: Severity
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Engagement:
    """A role that is to be told: from when on, and by which cell of which severity's column."""

    role: Role
    at: datetime
    cell: str
    severity: Severity


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The engagements as they stand at an instant."""

    engaged: tuple[Engagement, ...]
    upcoming: tuple[Engagement, ...]

    @property
    def next(self) -> Engagement | None:
        """Return who is told next, None where everybody is."""
        return self.upcoming[0] if self.upcoming else None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the ladder that is due, for as long as nobody has acknowledged."""

    contact: str
    at: datetime


def respond_by(severity: Severity, detected_at: datetime, policy: EscalationPolicySpec) -> datetime:
    """Return until when somebody has to have responded. Errors: UnknownTimeZone."""
    return _later(policy, severity, detected_at, policy.severities.rule(severity).respond_within)


def due_at(cell: str, detected_at: datetime, severity: Severity, policy: EscalationPolicySpec) -> datetime:
    """Return when a cell of the matrix is due; never before detection. Errors: UnknownTimeZone."""
    calendar = calendar_of(policy)
    wall = policy.severities.rule(severity).clock == Clock.WALL_CLOCK
    named: Mapping[str, Callable[[datetime], datetime]] = {
        "Immediate": lambda at: at,
        "BusinessHours": calendar.opening,
        "NextDay": calendar.next_day if wall else calendar.next_business_day,
        "NextBusinessDay": calendar.next_business_day,
        "WeeklyReview": calendar.weekly_review,
        "MonthlyReview": calendar.monthly_review,
    }
    if cell in named:
        return named[cell](detected_at)
    return _later(policy, severity, detected_at, parse_duration(cell))


def engagements(
    policy: EscalationPolicySpec,
    severity: Severity,
    detected_at: datetime,
    changes: Sequence[SeverityChange] = (),
) -> tuple[Engagement, ...]:
    """Return every role's engagement, in order of time, then of the policy.

    Shape: `severity` is that of the detection, `changes` are in order. A change counts the clocks anew from detection;
    whoever is engaged by then stays so, and nobody is engaged in the past. Errors: UnknownTimeZone.
    """
    history = (SeverityChange(severity=severity, at=detected_at), *changes)
    found = [_engagement(policy, role, detected_at, history) for role in policy.roles]
    return tuple(sorted(found, key=lambda engagement: engagement.at))


def _engagement(
    policy: EscalationPolicySpec, role: Role, detected_at: datetime, history: Sequence[SeverityChange]
) -> Engagement:
    """Return when a role is engaged: by the first severity whose time for it came before the next change."""
    ends = [change.at for change in history[1:]]
    for change, end in zip(history, [*ends, None], strict=True):
        cell = role.engage.cell(change.severity)
        at = max(due_at(cell, detected_at, change.severity, policy), change.at)
        if end is None or at <= end:
            return Engagement(role=role, at=at, cell=cell, severity=change.severity)
    raise AssertionError("the last change has no end")


def standing(found: Sequence[Engagement], now: datetime) -> Standing:
    """Return who is engaged at an instant, and who is still to be."""
    return Standing(
        engaged=tuple(e for e in found if e.at <= now),
        upcoming=tuple(e for e in found if e.at > now),
    )


def rung_starts(policy: EscalationPolicySpec, severity: Severity, started_at: datetime) -> tuple[Page, ...]:
    """Return the first page of each rung, if nobody acknowledges before; none without a ladder."""
    if policy.paging is None:
        return ()
    return tuple(
        Page(contact=rung.contact, at=_later(policy, severity, started_at, offset))
        for rung, offset in zip(policy.paging.rungs, _offsets(policy.paging), strict=True)
    )


def next_page(
    policy: EscalationPolicySpec,
    severity: Severity,
    started_at: datetime,
    now: datetime,
    acknowledged_at: datetime | None = None,
    unreachable: frozenset[str] = frozenset(),
) -> Page | None:
    """Return the first page after an instant; None once somebody has acknowledged, or without a ladder.

    Shape: `started_at` is when the ladder's role was engaged, the instant of the first page; `unreachable` as of
    `pages_until`. Errors: UnknownTimeZone.
    """
    acknowledged = acknowledged_at is not None and acknowledged_at <= now
    if policy.paging is None or acknowledged:
        return None
    if now < started_at:
        return rung_starts(policy, severity, started_at)[0]
    elapsed = _elapsed(policy, severity, started_at, now)
    contact, offset = _first_after(policy.paging, elapsed, unreachable)
    return Page(contact=contact, at=_later(policy, severity, started_at, offset))


def pages_until(
    policy: EscalationPolicySpec,
    severity: Severity,
    started_at: datetime,
    now: datetime,
    unreachable: frozenset[str] = frozenset(),
) -> tuple[Page, ...]:
    """Return the newest page of each rung that has begun by now, in order of the ladder; none without one.

    Shape: a contact in `unreachable` holds up nobody: the next rung begins with theirs. Errors: UnknownTimeZone.
    """
    if policy.paging is None or now < started_at:
        return ()
    elapsed, found = _elapsed(policy, severity, started_at, now), list[Page]()
    starts = _offsets(policy.paging, unreachable)
    for rung, start, end in zip(policy.paging.rungs, starts, [*starts[1:], None], strict=True):
        if start > elapsed:
            break
        # A rung ends just before the next one begins; one that ends at once is paged once all the same.
        last = elapsed if end is None else max(start, min(elapsed, end - timedelta.resolution))
        offset = start + rung.repeat_every * ((last - start) // rung.repeat_every)
        found.append(Page(contact=rung.contact, at=_later(policy, severity, started_at, offset)))
    return tuple(found)


def _first_after(paging: Paging, elapsed: timedelta, unreachable: frozenset[str]) -> tuple[str, timedelta]:
    """Return the first page after so much of the ladder: its contact, and its time since the first."""
    starts = _offsets(paging, unreachable)
    for rung, start, end in zip(paging.rungs, starts, [*starts[1:], None], strict=True):
        if elapsed < start:
            return rung.contact, start
        offset = start + rung.repeat_every * ((elapsed - start) // rung.repeat_every + 1)
        if end is None or offset < end:
            return rung.contact, offset
    raise AssertionError("the last rung has no end")


def _offsets(paging: Paging, unreachable: frozenset[str] = frozenset()) -> list[timedelta]:
    """Return when each rung begins, since the first page; nobody waits for a contact that can't be reached."""
    offsets = [timedelta()]
    for rung in paging.rungs[:-1]:
        lasts = timedelta() if rung.contact in unreachable else rung.next_after or timedelta()
        offsets.append(offsets[-1] + lasts)
    return offsets


def _later(policy: EscalationPolicySpec, severity: Severity, at: datetime, length: timedelta) -> datetime:
    if policy.severities.rule(severity).clock == Clock.WALL_CLOCK:
        return at + length
    return calendar_of(policy).later(at, length)


def _elapsed(policy: EscalationPolicySpec, severity: Severity, start: datetime, end: datetime) -> timedelta:
    if policy.severities.rule(severity).clock == Clock.WALL_CLOCK:
        return end - start
    return calendar_of(policy).between(start, end)
