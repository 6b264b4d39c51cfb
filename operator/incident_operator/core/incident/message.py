"""What a message says: enough to act on at 3 a.m., and the document's own form for the end."""

from datetime import UTC, datetime, timedelta

from ...api.escalation import EscalationPolicySpec
from ...api.incident import Engagement, Incident, IncidentPhase, IncidentStatus, Occasion
from ...api.review import PostIncidentReview
from ..notice import Notice
from ..review import in_words
from .engaging import gist
from .ways import Ways

#: From when on a message says that it is late.
_LATE = timedelta(minutes=2)


def notice_of(
    incident: Incident,
    engagement: Engagement,
    policy: EscalationPolicySpec,
    now: datetime,
    review: PostIncidentReview | None = None,
) -> Notice:
    """Return the message of an engagement. Shape: `key` is the same whenever the same message is handed over again.

    With the incident's review the message about its end lists what was done, what is temporary, and what comes next.
    """
    namespace, name = incident.metadata.namespace or "", incident.metadata.name
    contact = Ways(policy).contact(engagement.whom)
    return Notice(
        key=f"{incident.metadata.uid}/{engagement.key}/{engagement.due_at.timestamp():.0f}",
        incident=f"{namespace}/{name}",
        occasion=engagement.occasion,
        severity=incident.status.severity or incident.spec.severity,
        title=_subject(incident, engagement),
        lines=tuple(_lines(incident, engagement, now, review)),
        recipients=(contact.email,) if contact is not None and contact.email is not None else (),
        question=engagement.occasion == Occasion.APPROVAL or engagement.key.startswith("answered/"),
        reference=engagement.reference or _earlier(incident, engagement),
    )


def _earlier(incident: Incident, engagement: Engagement) -> str | None:
    """Return what an earlier message to the same people in the same channel was answered with."""
    same = [e for e in incident.status.engagements if (e.channel, e.whom) == (engagement.channel, engagement.whom)]
    known = [e for e in same if e.reference is not None]
    return max(known, key=lambda e: e.due_at).reference if known else None


def about_of(incident: Incident, engagement: Engagement) -> str:
    """Return in short what a message says now, so that it is known when there is more to say."""
    return gist(incident.status) if engagement.occasion == Occasion.UPDATE else engagement.about


def _subject(incident: Incident, engagement: Engagement) -> str:
    status, severity = incident.status, incident.status.severity
    heads = {
        Occasion.PAGE: f"[{severity}] Respond",
        Occasion.APPROVAL: f"[{severity}] A fix waits for approval",
        Occasion.ENGAGED: f"[{severity}] {engagement.role or engagement.whom} engaged",
        Occasion.UPDATE: f"[{severity}] {_state(status)}",
        Occasion.ACKNOWLEDGED: f"[{severity}] Acknowledged",
        Occasion.RESOLVED: f"[{_ended(status)}] {severity} Incident",
        Occasion.DIGEST: f"[{severity}] Digest",
        Occasion.PUBLISH: "",
    }
    head = heads[engagement.occasion]
    return f"{head} - {incident.spec.title}" if head else incident.spec.title


def _state(status: IncidentStatus) -> str:
    return f"{status.phase}" + (f", commander {status.commander}" if status.commander else ", nobody has acknowledged")


def _ended(status: IncidentStatus) -> str:
    return {IncidentPhase.DUPLICATE: "DUPLICATE", IncidentPhase.FALSE_POSITIVE: "FALSE ALARM"}.get(
        status.phase, "RESOLVED"
    )


def _lines(incident: Incident, engagement: Engagement, now: datetime, review: PostIncidentReview | None) -> list[str]:
    if engagement.occasion == Occasion.PUBLISH:
        return [engagement.about]
    if engagement.occasion == Occasion.RESOLVED:
        return _over(incident, review)
    status, at = incident.status, f"-n {incident.metadata.namespace} {incident.metadata.name}"
    lines = []
    if now - engagement.due_at > _LATE:
        lines.append(
            f"This message is late: it was due at {_at(engagement.due_at)}. Earlier ones may have been missed."
        )
    lines += [f"Incident: {_name(incident)}", f"Status: {_state(status)}"]
    if status.times.started is not None:
        lines.append(f"Detected: {_at(status.times.started)}")
    if status.respond_by is not None and status.acknowledged_by is None:
        lines.append(f"Respond by: {_at(status.respond_by)}")
    lines.append(f"Impact: {status.impact.summary if status.impact is not None else 'not known yet'}")
    lines.append(f"Root Cause: {_cause(status)}")
    lines += [f"Run {run.name}: {run.phase}" for run in status.runs[-4:]]
    waiting = [run.name for run in status.runs if run.phase == "AwaitingApproval"]
    if engagement.occasion == Occasion.APPROVAL or waiting:
        lines += [f"Look and agree: kubectl incident approve -n {incident.metadata.namespace} {n}" for n in waiting]
    if status.acknowledged_by is None:
        lines.append(f"Acknowledge: kubectl incident ack {at}")
    lines.append(f"Watch: kubectl get incident {at} -o wide")
    return lines


def _over(incident: Incident, review: PostIncidentReview | None) -> list[str]:
    """Return the document's message to stakeholders, with what a ticket needs. Source: "Post-Incident Procedures"."""
    status = incident.status
    started, ended = status.times.started, status.times.restored or status.times.resolved
    lasted = in_words(ended - started) if started is not None and ended is not None else "not measured"
    impact = status.impact.summary if status.impact is not None else "not measured"
    lines = [f"Incident: {_name(incident)}", f"Status: {_ended(status)}"]
    if status.phase == IncidentPhase.DUPLICATE:
        return [*lines, f"It is the same as {status.duplicate_of}, which goes on."]
    if status.phase == IncidentPhase.FALSE_POSITIVE:
        return lines
    resolution = status.resolution.summary if status.resolution is not None else ""
    return [
        *lines,
        f"Duration: {lasted}",
        f"Impact: {impact}",
        f"Root Cause: {_cause(status)}",
        f"Resolution: {resolution or 'not said'}",
        *([f"Resolved at: {_at(status.times.resolved)}"] if status.times.resolved is not None else []),
        *_listed("Actions Taken", _actions(incident, review)),
        *_listed("Temporary Fixes", _temporary(review)),
        *_listed("Next Steps", _next_steps(review)),
    ]


def _listed(heading: str, items: list[str]) -> list[str]:
    return ["", f"{heading}:", *(f"- {item}" for item in items)] if items else []


def _actions(incident: Incident, review: PostIncidentReview | None) -> list[str]:
    """Return what was done, by plans and by hand, in order."""
    done = [(e.at, e.message) for e in incident.status.timeline if e.reason == "ActionRecorded"]
    if review is not None:
        done += [(plan.started_at, f"{plan.title}: {plan.state}") for plan in review.status.plans]
    return [f"{_at(at)} - {text}" for at, text in sorted(done)]


def _temporary(review: PostIncidentReview | None) -> list[str]:
    plans = review.status.plans if review is not None else ()
    return [f"{plan.title}, until {_at(plan.temporary_until)}" for plan in plans if plan.temporary_until is not None]


def _next_steps(review: PostIncidentReview | None) -> list[str]:
    items = review.spec.action_items if review is not None else ()
    return [
        item.text + (f" ({item.owner or 'nobody yet'}, by {item.due_date})" if item.due_date else "")
        for item in items
        if not item.done
    ]


def _cause(status: IncidentStatus) -> str:
    if status.cause is None:
        return "not known"
    return ("Probably: " if status.cause.probable else "") + status.cause.summary


def _name(incident: Incident) -> str:
    return incident.spec.ticket or incident.metadata.name


def _at(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
