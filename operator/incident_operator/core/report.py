"""The document's four monthly metrics, folded from reviews: MTTR, MTBF, runbook effectiveness, false-positive rate.

A review counts in the month of its detection. Drills and duplicates count nowhere but where it is said how many there
were. What is not known is counted as not known, and is part of no mean. Source: the document, "Metrics Tracking";
docs/metrics.md has the definitions in words.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ..api.meta import Duration, Instant, Model, Severity
from ..api.review import Classification, PostIncidentReview
from ..api.run import Resolution, RunPhase

#: Source: the document, "MTTR (Mean Time To Resolution): Target < 30 minutes for P1 incidents".
P1_TARGET = timedelta(minutes=30)
_MAX_OPEN = 50
_MONTH = re.compile(r"^([0-9]{4})-(0[1-9]|1[0-2])$")
_QUARTER = re.compile(r"^([0-9]{4})-?[Qq]([1-4])$")


@dataclass(frozen=True)
class Period:
    """Whole months that follow each other, as `2026-11`, and what they are called together."""

    name: str
    months: tuple[str, ...]


def parse_month(text: str) -> Period:
    """Read `2026-11`. Errors: ValueError that shows a valid one."""
    if not _MONTH.match(text):
        raise ValueError(f"{text!r} is no month; write it as 2026-11")
    return Period(name=text, months=(text,))


def parse_quarter(text: str) -> Period:
    """Read `2026Q4`. Errors: ValueError that shows a valid one.

    >>> parse_quarter("2026Q4").months
    ('2026-10', '2026-11', '2026-12')
    """
    found = _QUARTER.match(text)
    if not found:
        raise ValueError(f"{text!r} is no quarter; write it as 2026Q4")
    year, number = found[1], int(found[2])
    return Period(
        name=f"{year}Q{number}", months=tuple(f"{year}-{m:02}" for m in range(3 * number - 2, 3 * number + 1))
    )


def month_of(at: datetime, zone: tzinfo = UTC) -> str:
    """Return the month of an instant where the zone's clocks are."""
    return f"{at.astimezone(zone):%Y-%m}"


def is_over(period: Period, now: datetime, zone: tzinfo = UTC) -> bool:
    """Tell whether nothing more can be detected in a period."""
    return month_of(now, zone) > period.months[-1]


# --- what a review says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fact:
    """All that the metrics know of one review.

    Shape: `review` is its namespace and name. `restored_after` is counted from detection; None while the incident is
    open, and where it is `resolved` but nobody knows since when. `by` says who brought the service back the last time.
    `ran` is true once a run has ended.
    """

    review: str
    detected_at: datetime
    severity: Severity | None
    incident_type: str | None
    classification: Classification
    drill: bool
    resolved: bool
    restored_after: timedelta | None
    by: Resolution | None
    automatic: bool | None
    ran: bool
    reopened: bool


def fact_of(review: PostIncidentReview) -> Fact:
    """Return what one review says. What people wrote (severity, duration) wins over what was measured."""
    spec, status = review.spec, review.status
    restored_at, by = _restored(review)
    after = spec.duration
    if after is None and restored_at is not None:
        after = max(restored_at - spec.detected_at, timedelta())
    # Known to be over, if not since when: by whoever says who brought it back, or by the end of the newest run.
    told = by is not None or (status.resolution is not None and status.resolution.phase == RunPhase.RESOLVED)
    if by is None and spec.duration is not None and not told:
        by = Resolution.MANUAL  # no run brought it back, and people say that it is over
    well_since = restored_at or (status.resolution.at if status.resolution else None)
    again = spec.duration is None and _is_under_way(review, well_since)
    resolved = (after is not None or told) and not again
    return Fact(
        review=f"{review.metadata.namespace}/{review.metadata.name}",
        detected_at=spec.detected_at,
        severity=spec.severity or status.severity,
        incident_type=status.incident_type,
        classification=status.classification,
        drill=status.drill,
        resolved=resolved,
        restored_after=after if resolved else None,
        by=by if resolved else None,
        automatic=status.automatic if resolved else None,
        ran=any(run.finished_at is not None for run in status.runs),
        reopened=status.reopened > 0,
    )


def _restored(review: PostIncidentReview) -> tuple[datetime | None, Resolution | None]:
    """Return since when users are well, and who saw to it."""
    status, end = review.status, review.status.resolution
    if status.restored_at is not None or status.resolved_by is not None:
        return status.restored_at, status.resolved_by
    return (end.restored_at, end.by) if end is not None and end.phase == RunPhase.RESOLVED else (None, None)


def _is_under_way(review: PostIncidentReview, well_since: datetime | None) -> bool:
    """Tell whether a run is at work that began after users were well: the incident has come back, or may have."""
    return well_since is not None and any(
        run.finished_at is None and run.started_at > well_since for run in review.status.runs
    )


# --- the figures ----------------------------------------------------------------------------------------------------


class Repair(Model):
    """Mean time to resolution: from detection until users were well for good, of the incidents where that is known."""

    incidents: int = 0
    total: Duration = timedelta()
    mean: Duration | None = None


class Target(Model):
    """The document's target for P1: each incident that is known to be restored in less than 30 minutes meets it."""

    limit: Duration = P1_TARGET
    repair: Repair = Repair()
    within: int = 0
    share: float | None = None
    #: P1 incidents that are still open, or of which nobody knows when users were well: in no share.
    open: int = 0
    unknown: int = 0
    #: Whether the mean meets the target; None without a mean.
    met: bool | None = None


class Failures(Model):
    """Mean time between failures: from one detection to the next, of all incidents of the group in the period."""

    incidents: int = 0
    mean: Duration | None = None


class Effectiveness(Model):
    """Of the incidents on which a run has ended: how many the runbook brought back, and without anybody's agreement."""

    ran: int = 0
    by_runbook: int = 0
    automatic: int = 0
    share: float | None = None


class Unknown(Model):
    """How many incidents lack what a figure needs."""

    severity: int = 0
    incident_type: int = 0
    #: Resolved, but nobody knows since when.
    restoration: int = 0
    #: Resolved after a run, but nobody knows by whom.
    resolved_by: int = 0


class Figures(Model):
    """The figures of one group of reviews. Counts of parts add up; means and shares do not."""

    incidents: int = 0
    resolved: int = 0
    open: int = 0
    reopened: int = 0
    repair: Repair = Repair()
    p1: Target = Target()
    failures: Failures = Failures()
    runbook: Effectiveness = Effectiveness()
    false_positives: int = 0
    false_positive_rate: float | None = None
    unknown: Unknown = Unknown()


class Group(Model):
    """Figures of one severity, one incident type, or both; the one that is None in a group of both is not known."""

    severity: Severity | None = None
    incident_type: str | None = None
    figures: Figures


class OpenIncident(Model):
    """An incident that nobody is known to have resolved. Shape: `review` is namespace/name."""

    review: str
    detected_at: Instant
    severity: Severity | None = None
    incident_type: str | None = None


class Month(Model):
    """One month: by severity and incident type, and together."""

    month: str
    figures: Figures
    groups: tuple[Group, ...] = ()


class Report(Model):
    """The metrics of a period."""

    period: str
    time_zone: str
    read_at: Instant
    #: Nothing more can be detected in it.
    over: bool
    #: Reviews in the period, and those of them that no figure counts.
    reviews: int = 0
    drills: int = 0
    duplicates: int = 0
    figures: Figures
    by_severity: tuple[Group, ...] = ()
    by_incident_type: tuple[Group, ...] = ()
    months: tuple[Month, ...] = ()
    #: The oldest of those that are open, at most 50.
    open_incidents: tuple[OpenIncident, ...] = ()


def fold(facts: Iterable[Fact], period: Period, *, now: datetime, zone: tzinfo = UTC) -> Report:
    """Return the metrics of a period. Shape: `facts` in any order, of any time; those outside of the period count not.

    Shape: groups by severity, then incident type; what is not known comes last.
    """
    found = sorted(
        (f for f in facts if month_of(f.detected_at, zone) in period.months),
        key=lambda fact: (fact.detected_at, fact.review),
    )
    drills = [f for f in found if f.drill]
    duplicates = [f for f in found if not f.drill and f.classification == Classification.DUPLICATE]
    counted = [f for f in found if not f.drill and f.classification != Classification.DUPLICATE]
    return Report(
        period=period.name,
        time_zone=str(zone),
        read_at=now,
        over=is_over(period, now, zone),
        reviews=len(found),
        drills=len(drills),
        duplicates=len(duplicates),
        figures=figures(counted),
        open_incidents=tuple(_open(f) for f in counted if _is_open(f))[:_MAX_OPEN],
        by_severity=_groups(counted, lambda fact: (fact.severity, None)),
        by_incident_type=_groups(counted, lambda fact: (None, fact.incident_type)),
        months=tuple(
            _month(name, [f for f in counted if month_of(f.detected_at, zone) == name]) for name in period.months
        ),
    )


def _is_open(fact: Fact) -> bool:
    """Tell whether it is an incident that is not resolved, as far as is known."""
    return fact.classification == Classification.INCIDENT and not fact.resolved


def _open(fact: Fact) -> OpenIncident:
    return OpenIncident(
        review=fact.review, detected_at=fact.detected_at, severity=fact.severity, incident_type=fact.incident_type
    )


def _month(name: str, facts: Sequence[Fact]) -> Month:
    groups = _groups(facts, lambda fact: (fact.severity, fact.incident_type))
    return Month(month=name, figures=figures(facts), groups=groups)


def _groups(facts: Sequence[Fact], key: Callable[[Fact], tuple[Severity | None, str | None]]) -> tuple[Group, ...]:
    keys = sorted({key(fact) for fact in facts}, key=lambda k: (k[0] is None, k[0] or "", k[1] is None, k[1] or ""))
    return tuple(
        Group(severity=severity, incident_type=kind, figures=figures([f for f in facts if key(f) == (severity, kind)]))
        for severity, kind in keys
    )


def figures(facts: Sequence[Fact]) -> Figures:
    """Return the figures of a group. Shape: neither drills nor duplicates."""
    incidents = [f for f in facts if f.classification == Classification.INCIDENT]
    false = len(facts) - len(incidents)
    open_ = [f for f in incidents if not f.resolved]
    return Figures(
        incidents=len(incidents),
        resolved=len(incidents) - len(open_),
        open=len(open_),
        reopened=sum(f.reopened for f in incidents),
        repair=_repair(incidents),
        p1=_target([f for f in incidents if f.severity == Severity.P1]),
        failures=_failures(incidents),
        runbook=_effectiveness(incidents),
        false_positives=false,
        false_positive_rate=_share(false, len(facts)),
        unknown=Unknown(
            severity=sum(f.severity is None for f in incidents),
            incident_type=sum(f.incident_type is None for f in incidents),
            restoration=sum(f.resolved and f.restored_after is None for f in incidents),
            resolved_by=sum(f.resolved and f.ran and f.by is None for f in incidents),
        ),
    )


def _repair(incidents: Sequence[Fact]) -> Repair:
    known = [f.restored_after for f in incidents if f.restored_after is not None]
    total = sum(known, timedelta())
    return Repair(incidents=len(known), total=total, mean=total / len(known) if known else None)


def _target(incidents: Sequence[Fact]) -> Target:
    repair = _repair(incidents)
    within = sum(f.restored_after is not None and f.restored_after < P1_TARGET for f in incidents)
    return Target(
        repair=repair,
        within=within,
        share=_share(within, repair.incidents),
        open=sum(not f.resolved for f in incidents),
        unknown=sum(f.resolved and f.restored_after is None for f in incidents),
        met=None if repair.mean is None else repair.mean < P1_TARGET,
    )


def _failures(incidents: Sequence[Fact]) -> Failures:
    """One failure, or none, has no time between: no mean. All times between, added, are from the first to the last."""
    at = [f.detected_at for f in incidents]
    mean = (max(at) - min(at)) / (len(at) - 1) if len(at) > 1 else None
    return Failures(incidents=len(at), mean=mean)


def _effectiveness(incidents: Sequence[Fact]) -> Effectiveness:
    ran = [f for f in incidents if f.ran and (f.by is not None or not f.resolved)]
    helped = [f for f in ran if f.by == Resolution.RUNBOOK]
    return Effectiveness(
        ran=len(ran),
        by_runbook=len(helped),
        automatic=sum(bool(f.automatic) for f in helped),
        share=_share(len(helped), len(ran)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
