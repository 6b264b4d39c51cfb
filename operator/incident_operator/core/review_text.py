"""A review as text: the document's Markdown, and the message that tells stakeholders how an incident ended.

Source: the document, "Post-Incident Procedures". What nobody has written yet is said to be missing, never invented.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ..api.review import ActionItem, Classification, PostIncidentReview, ReviewedPlan
from ..api.run import RunPhase
from .impact import impact_in_words
from .redact import redact
from .review import in_words

MISSING = "(to be completed)"
#: What would be markup at the start of a line, or within it. An underscore within a word is none.
_MARKUP = re.compile(r"^[#>+~-]|[\\`*\[\]<]|(?<!\w)_|_(?!\w)")


def markdown(review: PostIncidentReview, *, with_facts: bool = False) -> str:
    """Return the review in the document's template; with the facts behind it, as a last section."""
    parts = [*_document(review)]
    if with_facts:
        parts += ["", *_facts(review)]
    return "\n".join(parts) + "\n"


def message(review: PostIncidentReview) -> str:
    """Return the document's message to stakeholders. Shape: subject, facts, next steps."""
    spec, resolution = review.spec, review.status.resolution
    status = "RESOLVED" if resolution is None else _spaced(resolution.phase)
    if review.status.classification == Classification.FALSE_POSITIVE:
        status = "FALSE ALARM"
    cause = spec.primary_cause
    probable = "Probably: " if cause and cause.probable else ""
    lines = [
        " ".join(
            ("Subject:", f"[{status}]", *([spec.severity] if spec.severity else []), f"Incident - {_said(spec.title)}")
        ),
        "",
        f"Incident: {_name(review)}",
        f"Status: {status}",
        f"Duration: {_duration(review)}",
        f"Impact: {_said(spec.customer_impact)}",
        f"Root Cause: {probable}{_said(cause.text if cause else None)}",
        f"Resolution: {_said(spec.resolution or (resolution.summary if resolution else None))}",
    ]
    open_ = [item.text for item in spec.action_items if not item.done]
    if open_:
        lines += ["", "Next Steps:", *(f"- {_plain(text)}" for text in open_)]
    return "\n".join(lines) + "\n"


def _document(review: PostIncidentReview) -> Iterator[str]:
    spec = review.spec
    severity = str(spec.severity) if spec.severity else MISSING
    yield f"# Post-Incident Review: {_escaped(_name(review))}"
    yield ""
    yield "## Incident Summary"
    yield f"- **Date/Time**: {spec.detected_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield f"- **Duration**: {_duration(review)}"
    yield f"- **Severity**: {severity}"
    yield f"- **Services Affected**: {_escaped(', '.join(spec.services_affected)) or MISSING}"
    yield f"- **Customer Impact**: {_escaped(spec.customer_impact or '') or MISSING}"
    yield ""
    yield "## Timeline"
    for line in sorted(spec.timeline, key=lambda line: line.at):
        yield f"- {_time(line.at, spec.detected_at)} - {_escaped(line.text)}"
    yield ""
    yield "## Root Cause Analysis"
    cause = spec.primary_cause
    probable = " (probable: nobody has confirmed it yet)" if cause and cause.probable else ""
    yield f"**Primary Cause**: {_escaped(cause.text) if cause else MISSING}{probable}"
    yield "**Contributing Factors**:"
    yield from _bullets(spec.contributing_factors)
    yield ""
    yield "## What Went Well"
    yield from _bullets(spec.went_well)
    yield ""
    yield "## What Could Be Improved"
    yield from _bullets(spec.could_be_improved)
    yield ""
    yield "## Action Items"
    if not spec.action_items:
        yield MISSING
    for number, item in enumerate(spec.action_items, start=1):
        yield f"{number}. {_action(item)}"
    if spec.knowledge_base:
        yield ""
        yield "## Knowledge Base Updates"
        yield from _bullets(spec.knowledge_base)


def _facts(review: PostIncidentReview) -> Iterator[str]:
    status = review.status
    yield "## Facts"
    if status.resolution is not None:
        end = status.resolution
        yield f"- **Outcome**: {end.phase} ({end.outcome}), {end.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if status.impact is not None:
        yield f"- **{status.impact.method} Impact**: {_escaped(impact_in_words(status.impact))}"
    for label, value in status.times or ():
        if isinstance(value, timedelta):
            yield f"- **Detection to {label.replace('_', ' ')}**: {in_words(value)}"
    for plan in status.plans:
        yield f"- **Plan**: {_plan(plan)}"
    for fact in status.timeline:
        source = f" ({_escaped(', '.join(part for part in (fact.run or 'incident', fact.source) if part))})"
        yield f"- {fact.at.astimezone(UTC):%H:%M:%S} - {fact.reason}: {_escaped(fact.text)}{source}"


def _plan(plan: ReviewedPlan) -> str:
    parts = [f"{_escaped(plan.title)}: {plan.state}"]
    if plan.message:
        parts.append(_escaped(plan.message))
    if plan.revert_of:
        parts.append(f"puts {_escaped(plan.revert_of)} back")
    if plan.temporary_until:
        parts.append(f"temporary, until {plan.temporary_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    return f"{', '.join(parts)} ({_escaped(plan.name)})"


def _bullets(texts: tuple[str, ...]) -> Iterator[str]:
    yield from (f"- {_escaped(text)}" for text in texts)
    if not texts:
        yield MISSING


def _action(item: ActionItem) -> str:
    owner, due = _escaped(item.owner or "nobody yet"), item.due_date or "no date yet"
    done = " - done" if item.done else ""
    return f"**[{item.priority.upper()}]** {_escaped(item.text)} (Owner: {owner}, Due: {due}){done}"


def _name(review: PostIncidentReview) -> str:
    return _plain(review.spec.ticket or review.metadata.name)


def _duration(review: PostIncidentReview) -> str:
    spec, status = review.spec, review.status
    value = spec.duration if spec.duration is not None else status.duration
    if value is None:
        return MISSING
    ended = status.resolution is None or status.resolution.phase in (RunPhase.RESOLVED, RunPhase.NOTHING_FOUND)
    return in_words(value) + ("" if ended or spec.duration is not None else " (until the run ended, not resolved)")


def _time(at: datetime, detected_at: datetime) -> str:
    """Return a time of day; with its date where that is not the day of the incident."""
    same = at.astimezone(UTC).date() == detected_at.astimezone(UTC).date()
    return f"{at.astimezone(UTC):%H:%M}" if same else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _spaced(phase: RunPhase) -> str:
    return "".join(f" {c}" if c.isupper() else c for c in phase).strip().upper()


def _said(text: str | None) -> str:
    return _plain(text) if text else MISSING


def _plain(text: str) -> str:
    """Return one redacted line."""
    return redact(" ".join(text.split()))


def _escaped(text: str) -> str:
    r"""Return one redacted line in which nothing is Markdown or HTML: it is shown as it was written.

    >>> print(_escaped("**bold** [INC](http://a) <b> idle_in_transaction"))
    \*\*bold\*\* \[INC\](http://a) \<b> idle_in_transaction
    """
    return _MARKUP.sub(r"\\\g<0>", _plain(text))
