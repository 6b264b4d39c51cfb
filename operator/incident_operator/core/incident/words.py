"""People's words on an incident: who took it, how bad it is, what broke it, what was done by hand, how it ended."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ...api.escalation import ChannelType
from ...api.incident import (
    Engagement,
    Incident,
    IncidentCause,
    IncidentImpact,
    IncidentPhase,
    IncidentStatus,
    Occasion,
    SeverityEntry,
)
from ...api.intervention import Intervention, Verb
from ..approval import Answer, agreed, refused, said_at
from ..redact import redact
from ..story import told
from .closing import completed
from .folding import resolved
from .view import DISMISSED, LIVE, IncidentView

#: What can still be said once an incident is over, until it is settled.
_AFTERWARDS = frozenset(
    {
        Verb.NOTE,
        Verb.SET_IMPACT,
        Verb.SET_ROOT_CAUSE,
        Verb.RECORD_ACTION,
        Verb.DUPLICATE,
        Verb.FALSE_POSITIVE,
        Verb.PUBLISH,
    }
)
#: What heeding a forged word would do no harm to: nothing is silenced by it.
_SAFE = frozenset({Verb.NOTE})


def hear(view: IncidentView, status: IncidentStatus, now: datetime) -> tuple[IncidentStatus, tuple[Answer, ...]]:
    """Take in what people said, oldest first.

    What is said is stored before it is answered: said again after a crash, it is found in the timeline.
    """
    answers = list[Answer]()
    for word in view.words:
        if view.admission is not None and word.spec.verb not in _SAFE:
            continue  # it counts once it is proven that its author was checked
        if any(entry.source == source_of(word) for entry in status.timeline):
            answers.append(agreed(word))
            continue
        void = _void(view, status, word)
        if void is not None:
            answers.append(void)
            continue
        status = _heard(view, status, word, now)
        answers.append(agreed(word))
    return status, tuple(answers)


def source_of(word: Intervention) -> str:
    """Return how the timeline names a word."""
    return f"intervention {word.metadata.name}"[:256]


def done_by_hand(incident: Incident, since: datetime) -> str | None:
    """Return what a person last recorded to have done, from an instant on; None where nobody did anything."""
    recorded = [e for e in incident.status.timeline if e.reason == "ActionRecorded" and e.at >= since]
    return recorded[-1].message if recorded else None


def _void(view: IncidentView, status: IncidentStatus, word: Intervention) -> Answer | None:
    """Return why a word does not count; None where it does."""
    spec, incident = word.spec, view.incident
    if spec.target.uid != incident.metadata.uid:
        return refused(word, "WrongUID", f"{incident.metadata.name} is another incident of that name now")
    if status.phase in DISMISSED and spec.verb != Verb.NOTE:
        return refused(word, "TooLate", f"the incident is {status.phase}")
    if status.phase not in LIVE and spec.verb not in _AFTERWARDS:
        return refused(word, "TooLate", f"the incident is {status.phase}")
    if spec.verb == Verb.DUPLICATE and spec.duplicate_of in view.missing:
        return refused(word, "NoSuchIncident", f"there is no incident {spec.duplicate_of} in this namespace")
    if spec.verb == Verb.RECORD_ACTION and spec.duty is not None and status.closeout is None:
        return refused(word, "NotYet", "the close-out begins when the incident is resolved")
    if spec.verb == Verb.PUBLISH and not _status_pages(view):
        why = "the EscalationPolicy has no channel of type StatusPage with a Secret"
        return refused(word, "NoStatusPage", why)
    return None


def _status_pages(view: IncidentView) -> list[str]:
    channels = view.policy.channels if view.policy is not None else ()
    return [c.name for c in channels if c.type == ChannelType.STATUS_PAGE and c.secret_ref is not None]


def _heard(view: IncidentView, status: IncidentStatus, word: Intervention, now: datetime) -> IncidentStatus:
    spec = word.spec
    why = redact(spec.reason or "")
    changes, text = _HEARD[spec.verb](view, status, word, why)
    if why and why not in text:
        text += f": {why}"
    timeline = told(status.timeline, now, agreed(word).reason, text, source_of(word))
    status = status.model_copy(update={**changes, "timeline": timeline})
    if spec.verb == Verb.RESOLVE:
        return resolved(status, spec.responder, said_at(word), why, now)
    return status


_Change = tuple[Mapping[str, Any], str]


def _acknowledge(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    who, said = word.spec.responder, said_at(word)
    changes: dict[str, Any] = {
        "acknowledged_by": who,
        "acknowledged_at": said,
        "commander": status.commander or who,
        "times": status.times.model_copy(update={"acknowledged": status.times.acknowledged or said}),
    }
    if status.phase == IncidentPhase.OPEN:
        changes["phase"] = IncidentPhase.ACKNOWLEDGED
    return changes, f"{who} acknowledged it"


def _take(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    changes, _ = _acknowledge(view, status, word, why)
    who, before = word.spec.responder, status.commander
    instead = f", instead of {before}" if before is not None and before != who else ""
    return {**changes, "commander": who}, f"{who} takes command{instead}"


def _severity(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    severity, who = word.spec.severity, word.spec.responder
    if severity is None or severity == status.severity:
        return {}, f"{who} says it is {severity}, as it was"
    entry = SeverityEntry(severity=severity, at=said_at(word), by=who, reason=why)
    changes = {"severity": severity, "severities": (*status.severities, entry)[-32:]}
    return changes, f"{who} changes its severity from {status.severity} to {severity}"


def _impact(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    who, percent = word.spec.responder, float(word.spec.percent or 0)
    peak = max(percent, (status.impact.peak or 0.0) if status.impact is not None else 0.0)
    told_as = f"{percent:.0f}% of requests, by {who}"
    impact = IncidentImpact(percent=percent, peak=peak, method="Person", summary=told_as[:256], by=who)
    return {"impact": impact}, f"{who} says that {percent:.0f}% of requests fail"


def _cause(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    times = status.times.model_copy(update={"cause_found": status.times.cause_found or said_at(word)})
    cause = IncidentCause(summary=why, probable=False, by=word.spec.responder)
    return {"cause": cause, "times": times}, f"{word.spec.responder} names the cause: {why}"


def _action(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    who, duty = word.spec.responder, word.spec.duty
    if duty is None or status.closeout is None:
        return {}, f"{who} did by hand: {why}"
    closeout = completed(status.closeout, duty, who, said_at(word), why)
    return {"closeout": closeout}, f"{who} closes out {duty}: {why}"


def _duplicate(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    other = word.spec.duplicate_of
    changes = {"phase": IncidentPhase.DUPLICATE, "duplicate_of": other}
    return changes, f"{word.spec.responder} says it is the same as {other}, which goes on"


def _false_positive(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    return {"phase": IncidentPhase.FALSE_POSITIVE}, f"{word.spec.responder} says it was a false alarm: {why}"


def _resolve(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    return {}, f"{word.spec.responder} says that it is over"


def _note(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    return {}, f"{word.spec.responder}: {why}"


def _publish(view: IncidentView, status: IncidentStatus, word: Intervention, why: str) -> _Change:
    due = tuple(
        Engagement(
            key=f"publish/{channel}/{word.metadata.name}"[:320],
            occasion=Occasion.PUBLISH,
            whom="Customers",
            channel=channel,
            due_at=said_at(word),
            about=why[:256],
        )
        for channel in _status_pages(view)
    )
    return {"engagements": (*status.engagements, *due)}, f"{word.spec.responder} publishes: {why}"


_HEARD: Mapping[Verb, Callable[[IncidentView, IncidentStatus, Intervention, str], _Change]] = {
    Verb.ACKNOWLEDGE: _acknowledge,
    Verb.TAKE_COMMAND: _take,
    Verb.SET_SEVERITY: _severity,
    Verb.SET_IMPACT: _impact,
    Verb.SET_ROOT_CAUSE: _cause,
    Verb.RECORD_ACTION: _action,
    Verb.DUPLICATE: _duplicate,
    Verb.FALSE_POSITIVE: _false_positive,
    Verb.RESOLVE: _resolve,
    Verb.NOTE: _note,
    Verb.PUBLISH: _publish,
}
