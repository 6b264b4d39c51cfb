"""The review of an incident that no run can write: drafted from the incident alone, when a person ends it.

What people said and when is all there is: nothing is measured, so nothing is said to be. Source: the document,
"Post-Incident Review (Within 48 hours)".
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ..api.incident import EngagementState, Incident, IncidentPhase
from ..api.meta import Severity
from ..api.review import (
    Classification,
    MeasuredTimes,
    PostIncidentReviewSpec,
    PostIncidentReviewStatus,
    PrimaryCause,
    ReviewFact,
    ReviewLine,
)
from ..api.run import Resolution
from .conditions import with_condition
from .incident import detected_at, ended_by_person
from .redact import redact
from .review import DUE_AFTER, in_words

#: Turns that the draft has in other words, or that only the facts have: each message that went out.
_UNTOLD = frozenset({"Opened", "Resolved", "Told"})
_MAX_LINES, _MAX_TIMELINE, _MAX_FACTS = 32, 64, 192


def is_drafted_by_hand(incident: Incident) -> bool:
    """Tell whether a person's end of an incident is worth a review that no run of it is going to write.

    A duplicate is reviewed with the incident that it is one of, a drill was practised, and what is confidential stays
    with its audience: a review's clock tells roles and rooms.
    """
    spec, status = incident.spec, incident.status
    live = any(entry.finished_at is None for entry in status.runs)
    hidden = spec.drill or spec.confidential
    return ended_by_person(status) and status.phase != IncidentPhase.DUPLICATE and not live and not hidden


def draft_by_hand(incident: Incident, now: datetime) -> PostIncidentReviewSpec:
    """Return the draft of the review. Shape: the incident has ended by a person's word."""
    spec, status = incident.spec, incident.status
    cause, impact, end = status.cause, status.impact, status.resolution
    false = status.phase == IncidentPhase.FALSE_POSITIVE
    return PostIncidentReviewSpec(
        ticket=spec.ticket,
        detected_at=detected_at(incident, now),
        drafted_at=now,
        title=_line(spec.title),
        severity=_severity(incident),
        customer_impact=_line(impact.summary) if impact is not None and impact.summary else None,
        resolution=_line(end.summary) if end is not None and end.summary else None,
        timeline=_told(incident, now),
        primary_cause=PrimaryCause(text=_line(cause.summary), probable=cause.probable) if cause is not None else None,
        went_well=tuple(_went_well(incident, now)),
        could_be_improved=tuple(_improvements(incident))[:_MAX_LINES],
        knowledge_base=() if false else ("Nobody let a runbook work on it: write one, or say in one when it fits",),
    )


def facts_by_hand(before: PostIncidentReviewStatus, incident: Incident, now: datetime) -> PostIncidentReviewStatus:
    """Return what is known of the incident with its end. Shape: no run has written anything into `before`."""
    status, detected = incident.status, detected_at(incident, now)
    end, times = status.resolution, status.times
    false = status.phase == IncidentPhase.FALSE_POSITIVE
    restored = end.at if end is not None and not false else None

    def after(at: datetime | None) -> timedelta | None:
        return None if at is None else max(at - detected, timedelta())

    story = tuple(
        ReviewFact(at=entry.at, reason=entry.reason, text=_line(entry.message), source=entry.source)
        for entry in status.timeline
    )
    ended_at = restored or now
    return before.model_copy(
        update={
            "severity": _severity(incident),
            "classification": Classification.FALSE_POSITIVE if false else Classification.INCIDENT,
            "restored_at": restored,
            "resolved_by": Resolution.MANUAL if restored is not None else None,
            "duration": after(restored),
            "times": MeasuredTimes(
                started=after(times.acknowledged),
                diagnosed=after(times.cause_found),
                mitigated=after(times.mitigated),
                restored=after(restored),
            ),
            "reopened": status.reopened,
            "timeline": story[-_MAX_FACTS:],
            "due_at": ended_at + DUE_AFTER,
            "conditions": with_condition(
                before.conditions, "Drafted", True, "Drafted", "the spec is people's: nothing writes it again", ended_at
            ),
        }
    )


def _severity(incident: Incident) -> Severity:
    return incident.status.severity or incident.spec.severity


def _told(incident: Incident, now: datetime) -> tuple[ReviewLine, ...]:
    """Return the story in order; where there is too much of it, how it began and how it ended say most."""
    lines = [ReviewLine(at=detected_at(incident, now), text=_line(f"Incident detected: {incident.spec.title}"))]
    for entry in incident.status.timeline:
        if entry.reason not in _UNTOLD:
            said = entry.source.startswith("intervention ")
            text = entry.message if said else f"{_spaced(entry.reason)}: {entry.message}"
            lines.append(ReviewLine(at=entry.at, text=_line(text)))
    if incident.status.resolution is not None:
        lines.append(ReviewLine(at=incident.status.resolution.at, text="Service fully restored"))
    ordered, half = sorted(lines, key=lambda line: line.at), _MAX_TIMELINE // 2
    return tuple(ordered if len(ordered) <= _MAX_TIMELINE else [*ordered[:half], *ordered[-half:]])


def _went_well(incident: Incident, now: datetime) -> Iterator[str]:
    status, at = incident.status, incident.status.times.acknowledged
    in_time = any(c.type == "RespondedInTime" and c.status == "True" for c in status.conditions)
    if at is not None and in_time:
        waited = in_words(max(at - detected_at(incident, now), timedelta()))
        yield _line(f"{status.acknowledged_by or 'Somebody'} responded {waited} after detection")


def _improvements(incident: Incident) -> Iterator[str]:
    status = incident.status
    missed = [entry.message for entry in status.timeline if entry.reason == "ClockMissed"]
    yield from dict.fromkeys(_line(f"The response clock was missed: {text}") for text in missed)
    lost = [e for e in status.engagements if e.state == EngagementState.FAILED]
    yield from dict.fromkeys(_line(f"{e.whom} could not be told by {e.channel or 'any way'}: {e.reason}") for e in lost)
    if status.phase == IncidentPhase.FALSE_POSITIVE:
        yield "It was a false alarm: see what raised it, and whether it can be kept from raising it again"


def _spaced(reason: str) -> str:
    """Return a reason as words: `ActionRecorded` → `Action recorded`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in reason).strip().capitalize()


def _line(text: str) -> str:
    """Return a text as one redacted line of at most what the contract allows."""
    return redact(" ".join(text.split()))[:1024]
