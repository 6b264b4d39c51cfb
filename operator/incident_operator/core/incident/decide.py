"""One decision about an incident: what is stored of it now, and what follows."""

from datetime import datetime, timedelta

from ...api.incident import EngagementState, IncidentPhase, IncidentStatus, SeverityEntry
from ...api.meta import Severity
from ..conditions import is_true, with_condition
from ..escalation import respond_by
from ..schedule import earliest
from ..story import Tell, bounded_timeline, told
from .closing import is_last_look, looked, next_look, open_duties, opened, proven
from .engaging import engage, is_quiet, next_turn, take_note, to_send, upcoming
from .folding import fold_runs
from .view import (
    ASKING,
    CLOSE_OUT_WITHIN,
    DISMISSED,
    LIVE,
    REOPEN_WITHIN,
    AskRecovery,
    IncidentDecision,
    IncidentEffect,
    IncidentView,
    Send,
    detected_at,
)
from .words import hear


def decide_incident(view: IncidentView, now: datetime) -> IncidentDecision:
    """Return what to store of an incident now, and what follows. Total and deterministic. Errors: UnknownTimeZone."""
    old = view.incident.status
    if old.settled or view.incident.metadata.deletion_timestamp is not None:
        return IncidentDecision(status=old)
    status = _begun(view, old, now)
    status, undelivered = take_note(status, view.handed)
    status, answers = hear(view, status, now)
    status = fold_runs(view, status, now)
    status = _with_clock(view, status, now)
    status = looked(view, opened(status), now)
    status = engage(view, status, now)
    status = proven(view, status, now)
    status = _closed(view, status, now)
    status = _told(view, _with_conditions(view, status, now), now)
    effects: list[IncidentEffect] = [*undelivered, *_tells(old, status), *answers]
    effects += [Send(key=key) for key in to_send(view, status, now)]
    look = next_look(view, status)
    if look is not None and look <= now and view.can_look and view.look is None:
        began = status.reopened_at or detected_at(view.incident, now)
        effects.append(AskRecovery(_last_run(status), is_last_look(status), began))
    status = status.model_copy(update={"timeline": bounded_timeline(status.timeline)})
    return IncidentDecision(status=status, effects=tuple(effects), wake_at=_wake_at(view, status, look, now))


def _begun(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status of an incident that is at work: with its first severity and instants."""
    if status.severities:
        return status
    spec, at = view.incident.spec, detected_at(view.incident, now)
    times = status.times.model_copy(update={"started": at, "alerted": view.incident.metadata.creation_timestamp or now})
    text = f"{spec.severity} {spec.title}" + (": a drill, nobody is told" if spec.drill else "")
    return status.model_copy(
        update={
            "severity": spec.severity,
            "severities": (SeverityEntry(severity=spec.severity, at=at),),
            "times": times,
            "timeline": told(status.timeline, now, "Opened", text),
        }
    )


def _with_clock(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with the response clock of its severity: met, missed, or running."""
    if view.policy is None or status.phase in DISMISSED:
        return status
    at = detected_at(view.incident, now)
    until = respond_by(_severity(status), at, view.policy)
    answered = status.times.acknowledged
    generation = view.incident.metadata.generation
    if answered is None and status.times.resolved is not None:
        answered = status.times.resolved  # nobody said a word, and it is over: so long it took
    met: bool | None
    if answered is not None:
        met = answered <= until
        reason, message = ("InTime", "") if met else ("ClockMissed", _late(answered - until))
    else:
        met = None if now < until else False
        reason, message = ("Running", "") if met is None else ("ClockMissed", "nobody has acknowledged in time")
    before = next((c.reason for c in status.conditions if c.type == "RespondedInTime"), "")
    timeline = status.timeline
    if reason == "ClockMissed" and before != "ClockMissed":
        timeline = told(
            timeline, now, "ClockMissed", f"{status.severity} wants a response by {_clock(until)}: {message}"
        )
    conditions = with_condition(status.conditions, "RespondedInTime", met, reason, message, now, generation)
    return status.model_copy(update={"respond_by": until, "conditions": conditions, "timeline": timeline})


def _late(by: timedelta) -> str:
    return f"{by // timedelta(minutes=1)} minutes late"


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z"


def _severity(status: IncidentStatus) -> Severity:
    return status.severities[-1].severity


def _closed(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status closed once every duty is done, and settled once nothing can come of it any more."""
    if status.phase in DISMISSED:
        live = any(entry.finished_at is None for entry in status.runs)
        return status.model_copy(update={"settled": is_quiet(status) and not live})
    at = status.times.resolved
    if status.phase in LIVE or at is None or status.closeout is None:
        return status
    generation = view.incident.metadata.generation
    left, due = open_duties(status), status.closeout.due_at
    done: bool | None
    if not left:
        done, reason, message = True, "DutiesDone", "every duty of the close-out is done"
        if status.phase == IncidentPhase.RESOLVED:
            timeline = told(status.timeline, now, "Closed", message)
            status = status.model_copy(update={"phase": IncidentPhase.CLOSED, "timeline": timeline})
    else:
        # The last look is due when the duties are: what it proves is not late.
        asking = next_look(view, status) is not None
        late = now >= (due + ASKING if asking else due)
        done, reason = (False, "Overdue") if late else (None, "DutiesOpen")
        message = f"by {_clock(due)}: {', '.join(left)}"
        if late and not any(c.type == "ClosedOut" and c.reason == "Overdue" for c in status.conditions):
            timeline = told(status.timeline, now, "CloseOutOverdue", f"not done within the hour: {', '.join(left)}")
            status = status.model_copy(update={"timeline": timeline})
    conditions = with_condition(status.conditions, "ClosedOut", done, reason, message, now, generation)
    settled = now >= _settles_at(view, at) and is_quiet(status)
    return status.model_copy(update={"conditions": conditions, "settled": settled})


def _settles_at(view: IncidentView, resolved_at: datetime) -> datetime:
    within = view.timing.scaled(view.incident.spec.reopen_within or REOPEN_WITHIN)
    return resolved_at + max(within, CLOSE_OUT_WITHIN)


def _with_conditions(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    generation, conditions = view.incident.metadata.generation, status.conditions

    def say(type_: str, value: bool | None, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = with_condition(conditions, type_, value, reason, message, now, generation)

    by = status.acknowledged_by
    say("Acknowledged", by is not None, "Acknowledged" if by else "Waiting", f"by {by}" if by else "")
    over = status.phase not in LIVE
    say("Resolved", over, str(status.phase), status.resolution.summary if status.resolution else "")
    lost = sorted({e.whom for e in status.engagements if e.state == EngagementState.FAILED})
    if view.incident.spec.drill:
        say("Escalating", False, "Drill", "nobody is told of a drill")
    elif view.policy is None:
        say("Escalating", False, "NoPolicy", view.no_policy or "there is no EscalationPolicy")
    elif lost:
        say("Escalating", False, "NotTold", f"these could not be told: {', '.join(lost)}")
    else:
        say("Escalating", True, "PolicyInForce", "")
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _told(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with who is told next."""
    later = upcoming(view, status, now)
    text = f"{later[0].whom} at {_clock(later[0].at)}" if later else None
    return status.model_copy(update={"next": text})


def _tells(old: IncidentStatus, new: IncidentStatus) -> list[Tell]:
    """Return an Event for each turn of the story that this decision adds."""
    known = {(entry.at, entry.reason, entry.message) for entry in old.timeline}
    warned = {"ClockMissed", "CloseOutOverdue", "Reopened", "NotMitigated", "Opened"}
    return [
        Tell(entry.reason, entry.message, warning=entry.reason in warned)
        for entry in new.timeline
        if (entry.at, entry.reason, entry.message) not in known and entry.reason != "NotTold"
    ]


def _last_run(status: IncidentStatus) -> str | None:
    ended = [entry for entry in status.runs if entry.finished_at is not None]
    return max(ended, key=lambda entry: (entry.finished_at, entry.name)).name if ended else None


def _wake_at(view: IncidentView, status: IncidentStatus, look: datetime | None, now: datetime) -> datetime | None:
    if status.settled:
        return None
    waits = [next_turn(view, status, now)]
    if status.respond_by is not None and status.phase in LIVE and status.acknowledged_at is None:
        waits.append(status.respond_by)
    if status.closeout is not None and status.times.resolved is not None:
        waits += [_settles_at(view, status.times.resolved), look]
        if not is_true(status.conditions, "ClosedOut"):
            waits += [status.closeout.due_at, status.closeout.due_at + ASKING]
    return earliest(*(at for at in waits if at is not None and at > now))
