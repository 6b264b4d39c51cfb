"""What a runbook learns of an incident: additions to its track record, its history and its symptoms.

Only what the review says is added, and only once: a ticket that the history has is an incident that was counted.
Source: the document, "Knowledge Base Updates".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..api.meta import format_duration
from ..api.review import PostIncidentReview, ReviewResolution
from ..api.run import Resolution, RunPhase
from ..api.runbook import RunbookSpec
from .redact import redact

#: Longer than this the contract lets no list be. Source: `api.runbook`.
MAX_HISTORY = MAX_SYMPTOMS = 32
_COUNTED = frozenset({RunPhase.RESOLVED, RunPhase.UNRESOLVED})
_SINCE = re.compile(r"(?:; )?reviews up to \S+$")


@dataclass(frozen=True, kw_only=True)
class Append:
    """One more entry of a list of the runbook's spec."""

    field: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class SetFigure:
    """A new value of a field of `spec.knowledge`."""

    field: str
    value: Any


Addition = Append | SetFigure


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What to change in the spec, in the order of its fields, and what is left out and why."""

    ticket: str
    additions: tuple[Addition, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """There is nothing to add; `why` is one line."""

    why: str


def learn(review: PostIncidentReview, runbook: RunbookSpec) -> Lesson | Nothing:
    """Return what a runbook learns of a review. Shape: as far as people have written it; the rest is measured."""
    ticket, end = review.spec.ticket, review.status.resolution
    if ticket is None:
        return Nothing(why="the review has no ticket, and a runbook's history is one of tickets")
    if end is None or end.phase not in _COUNTED:
        ended = "has not ended" if end is None else f"ended {end.phase}"
        return Nothing(why=f"the run of {ticket} {ended}: it is no incident that the runbook could learn from")
    if ticket in {entry.ticket for entry in runbook.history}:
        return Nothing(why=f"{ticket} is in the runbook's history already: nothing is added twice")
    if len(runbook.history) >= MAX_HISTORY:
        return Nothing(why=f"the runbook's history is full ({MAX_HISTORY} tickets): archive the oldest first")
    remarks: list[str] = []
    if not review.spec.complete:
        remarks.append("the review is not complete: what people change in it later is not in here")
    symptoms = tuple(_symptom(review, runbook, remarks))
    figures = tuple(_figures(review, end, runbook, ticket, remarks))
    history = Append(field="history", value=_entry(review, end, ticket))
    return Lesson(ticket=ticket, additions=(*symptoms, *figures, history), remarks=tuple(remarks))


def learned(spec: Mapping[str, Any], lesson: Lesson) -> dict[str, Any]:
    """Return a runbook's spec, as it is written, with what it learned."""
    after = dict(spec)
    for addition in lesson.additions:
        match addition:
            case Append(field=field, value=value):
                after[field] = [*(after.get(field) or ()), value]
            case SetFigure(field=field, value=value):
                after["knowledge"] = {**(after.get("knowledge") or {}), field: value}
    return after


def json_patch(spec: Mapping[str, Any], generation: int, lesson: Lesson) -> list[dict[str, Any]]:
    """Return the RFC 6902 patch of a stored runbook: it applies to this generation of it, so never twice."""
    patch: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/generation", "value": generation}]
    for addition in lesson.additions:
        match addition:
            case Append(field=field, value=value):
                known = field in spec
                path = f"/spec/{field}/-" if known else f"/spec/{field}"
                patch.append({"op": "add", "path": path, "value": value if known else [value]})
            case SetFigure(field=field, value=value):
                patch.append({"op": "add", "path": f"/spec/knowledge/{field}", "value": value})
    return patch


def _entry(review: PostIncidentReview, end: ReviewResolution, ticket: str) -> dict[str, Any]:
    """Return the incident as the history lists it; a cause without a person's word is probable there, too."""
    spec, status = review.spec, review.status
    cause = spec.primary_cause
    duration = spec.duration if spec.duration is not None else status.duration
    said = {
        "ticket": ticket,
        "title": spec.title,
        "rootCause": f"{'Probably: ' if cause.probable else ''}{cause.text}" if cause else None,
        "resolution": spec.resolution or end.summary,
        "impact": spec.customer_impact or (status.impact.summary if status.impact else None),
    }
    entry = {name: _line(text) for name, text in said.items() if text}
    if duration is not None and end.phase == RunPhase.RESOLVED:
        entry["resolutionTime"] = _rounded(duration)
    return entry


def _symptom(review: PostIncidentReview, runbook: RunbookSpec, remarks: list[str]) -> Iterator[Append]:
    """Yield what people saw, as they called it, where the runbook would not be found by it yet."""
    title = _line(review.spec.title or "")
    known = {text.casefold() for text in (*runbook.symptoms, runbook.title)}
    if not title or title.casefold() in known:
        return
    if len(runbook.symptoms) >= MAX_SYMPTOMS:
        remarks.append(f"the symptom {title!r} is left out: the runbook has {MAX_SYMPTOMS} already")
        return
    yield Append(field="symptoms", value=title)


def _figures(
    review: PostIncidentReview, end: ReviewResolution, runbook: RunbookSpec, ticket: str, remarks: list[str]
) -> Iterator[SetFigure]:
    """Yield the track record with one more incident: means over all of them. Where there is none, none is begun."""
    known = runbook.knowledge
    if known is None or known.incidents is None:
        remarks.append("the figures are left out: the runbook says of no number of incidents (knowledge.incidents)")
        return
    count, helped = known.incidents, end.by == Resolution.RUNBOOK
    yield SetFigure(field="incidents", value=count + 1)
    if known.success_rate is not None:
        yield SetFigure(field="successRate", value=round((known.success_rate * count + helped) / (count + 1), 4))
    duration = review.spec.duration if review.spec.duration is not None else review.status.duration
    if known.mean_resolution is not None and duration is not None and end.phase == RunPhase.RESOLVED:
        mean = (known.mean_resolution * count + duration) / (count + 1)
        yield SetFigure(field="meanResolution", value=_rounded(mean))
    # Which reviews the figures have by now, besides what they came from.
    source = "; ".join(part for part in (_SINCE.sub("", known.source or ""), f"reviews up to {ticket}") if part)
    if len(source) <= 1024:
        yield SetFigure(field="source", value=source)


def _rounded(value: timedelta) -> str:
    return format_duration(timedelta(seconds=round(value.total_seconds())))


def _line(text: str) -> str:
    return redact(" ".join(text.split()))[:1024]
