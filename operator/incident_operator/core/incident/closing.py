"""The document's five duties within an hour of the resolution: done by the operator where it can prove it.

The ticket is updated and stakeholders are told by the [RESOLVED] messages, where their receivers confirmed them;
metrics are normal where the runbook's own recovery checks pass at +15, +30 and +60 minutes. Whether alarms work and
what else was hit is asked of the checks that the runbook names for it, at the last of these looks; where it names none,
or one does not pass, of people. Source: the document's post-incident procedures.
"""

from datetime import datetime, timedelta

from ...api.escalation import ChannelType
from ...api.incident import CloseOut, Duty, Engagement, IncidentPhase, IncidentStatus
from ..redact import redact
from ..story import told
from .view import CLOSE_OUT_WITHIN, HANDED, LOOKS_AFTER, MACHINE, PROVEN_BY, IncidentView, Proof

#: What the looks after the end can prove.
_LOOKED_FOR = frozenset({"metricsNormal", *PROVEN_BY})
DUTIES = ("ticketUpdated", "stakeholdersTold", "metricsNormal", "alertsWorking", "secondaryImpacts")


def opened(status: IncidentStatus) -> IncidentStatus:
    """Return the status with its close-out begun, where the incident is resolved."""
    at = status.times.resolved
    if status.phase != IncidentPhase.RESOLVED or status.closeout is not None or at is None:
        return status
    duties = tuple(Duty(name=name) for name in DUTIES)
    return status.model_copy(update={"closeout": CloseOut(due_at=at + CLOSE_OUT_WITHIN, duties=duties)})


def completed(closeout: CloseOut, name: str, by: str, at: datetime, message: str) -> CloseOut:
    """Return the close-out with a duty done; one that is done stays as it is."""
    duties = tuple(
        duty.model_copy(update={"state": "Done", "by": by, "at": at, "message": message[:1024]})
        if duty.name == name and duty.state == "Open"
        else duty
        for duty in closeout.duties
    )
    return closeout.model_copy(update={"duties": duties})


def open_duties(status: IncidentStatus) -> tuple[str, ...]:
    """Return the duties that nobody has done yet."""
    return tuple(d.name for d in status.closeout.duties if d.state == "Open") if status.closeout is not None else ()


def proven(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with the duties done that what is stored proves."""
    closeout = status.closeout
    if closeout is None:
        return status
    last = [e for e in status.engagements if e.key.startswith("resolved/")]
    webhooks = {c.name for c in view.policy.channels if c.type == ChannelType.WEBHOOK} if view.policy else set()
    tickets = [e for e in last if e.channel in webhooks]
    if last and all(e.state in HANDED for e in last):
        closeout = completed(closeout, "stakeholdersTold", MACHINE, now, _told_by(last))
    if tickets and all(e.state in HANDED for e in tickets):
        closeout = completed(closeout, "ticketUpdated", MACHINE, now, _told_by(tickets))
    if closeout == status.closeout:
        return status
    return status.model_copy(update={"closeout": closeout})


def _told_by(messages: list[Engagement]) -> str:
    return "the [RESOLVED] message went out by " + ", ".join(sorted({e.channel or "" for e in messages}))


def next_look(view: IncidentView, status: IncidentStatus) -> datetime | None:
    """Return when the recovery checks are to be asked next; None where that is over, or can't be."""
    resolved = status.times.resolved
    if status.closeout is None or resolved is None or not _LOOKED_FOR & set(open_duties(status)):
        return None
    done = status.closeout.looks
    waits = [view.timing.scaled(wait) for wait in LOOKS_AFTER]
    return resolved + waits[len(done)] if len(done) < len(waits) else None


def is_last_look(status: IncidentStatus) -> bool:
    """Tell whether the next look is the last one."""
    return status.closeout is not None and len(status.closeout.looks) == len(LOOKS_AFTER) - 1


def looked(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with one more look at the recovery checks after the end; three that pass prove the duty.

    The last look proves the duties of the runbook's close-out, too; what proves nothing is told, for a person to judge.
    """
    look, closeout = view.look, status.closeout
    due = next_look(view, status)
    if look is None or closeout is None or due is None or look.at < due:
        return status
    number = len(closeout.looks) + 1
    after = LOOKS_AFTER[number - 1] // timedelta(minutes=1)
    closeout = closeout.model_copy(update={"looks": (*closeout.looks, look.state)})
    text = f"metrics at +{after} m: {look.state}" + (f", {look.message}" if look.message else "")
    if closeout.looks == ("Passing",) * len(LOOKS_AFTER):
        closeout = completed(
            closeout, "metricsNormal", MACHINE, now, "recovery checks pass at +15, +30 and +60 minutes"
        )
    timeline = told(status.timeline, now, "MetricsLookedAt", text, "close-out")
    status = status.model_copy(update={"closeout": closeout, "timeline": timeline})
    for duty in PROVEN_BY:
        if number == len(LOOKS_AFTER) and duty in look.duties and duty in open_duties(status):
            status = _with_proof(status, duty, look.duties[duty], now)
    return status


def _with_proof(status: IncidentStatus, duty: str, proof: Proof, now: datetime) -> IncidentStatus:
    """Return the status with an open duty done where its checks pass, else with what they saw written beside it."""
    closeout = status.closeout
    assert closeout is not None  # noqa: S101  (its duty is open)
    if proof.state == "Passing":
        closeout = completed(closeout, duty, MACHINE, now, redact(proof.message))
    else:
        seen = redact(f"{proof.state}, a person has to look: {proof.message}")[:1024]
        duties = tuple(d.model_copy(update={"message": seen}) if d.name == duty else d for d in closeout.duties)
        closeout = closeout.model_copy(update={"duties": duties})
    timeline = told(status.timeline, now, "DutyLookedAt", f"{duty}: {proof.state}, {proof.message}", "close-out")
    return status.model_copy(update={"closeout": closeout, "timeline": timeline})
