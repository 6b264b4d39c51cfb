"""What the runs of an incident say of it: their phases, its instants, impact, probable cause, and its resolution."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ...api.incident import (
    IncidentCause,
    IncidentImpact,
    IncidentPhase,
    IncidentResolution,
    IncidentRunEntry,
    IncidentStatus,
)
from ...api.run import Impact, IncidentRun, RunPhase
from ..conditions import is_true
from ..redact import redact
from ..schedule import earliest, latest
from ..story import told
from .view import DISMISSED, LIVE, MACHINE, REOPEN_WITHIN, IncidentView

#: Beginnings of the keys of messages that are told anew when an incident is opened again.
_OF_ONE_OPENING = frozenset({"page", "approval", "acknowledged", "answered", "resolved"})


def fold_runs(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with what its runs have come to; opened again by a run that joins after the end."""
    for run in sorted(view.runs, key=lambda r: r.metadata.name):
        status = _joined(view, status, run, now)
        status = _with_run(status, run, now)
    status = _without(view, status, now)
    if status.phase in LIVE:
        status = _mitigated(view, status, now)
        status = _resolved(view, status, now)
    return status


def _joined(view: IncidentView, status: IncidentStatus, run: IncidentRun, now: datetime) -> IncidentStatus:
    known = next((entry for entry in status.runs if entry.name == run.metadata.name), None)
    if known is not None and known.uid == run.metadata.uid:
        return status
    entry = IncidentRunEntry(
        name=run.metadata.name, uid=run.metadata.uid, runbook=run.spec.runbook_ref.name, joined_at=now
    )
    runs = (*(old for old in status.runs if old.name != entry.name), entry)[-64:]
    text = f"run {entry.name} is at work on it, by runbook {entry.runbook}"
    timeline = told(status.timeline, now, "RunJoined", text, f"run {entry.name}")
    status = status.model_copy(update={"runs": runs, "timeline": timeline})
    within = view.timing.scaled(view.incident.spec.reopen_within or REOPEN_WITHIN)
    ended = status.times.resolved
    if status.phase in LIVE or ended is None or now > ended + within:
        return status
    return _reopened(status, f"run {entry.name} joined after the end", now)


def _reopened(status: IncidentStatus, why: str, now: datetime) -> IncidentStatus:
    """Return the status of an incident that goes on: people are paged anew, and told of its end anew."""
    kept = tuple(e for e in status.engagements if e.key.split("/")[0] not in _OF_ONE_OPENING)
    return status.model_copy(
        update={
            "phase": IncidentPhase.OPEN,
            "times": status.times.model_copy(update={"resolved": None, "restored": None}),
            "resolution": None,
            "closeout": None,
            "acknowledged_by": None,
            "acknowledged_at": None,
            "reopened": status.reopened + 1,
            "reopened_at": now,
            "engagements": kept,
            "timeline": told(status.timeline, now, "Reopened", f"opened again: {why}"),
        }
    )


def _with_run(status: IncidentStatus, run: IncidentRun, now: datetime) -> IncidentStatus:
    """Return the status with the newest of one run."""
    ran, times = run.status, status.times
    changes: dict[str, Any] = {}
    if ran.settled and not any(e.name == run.metadata.name and e.finished_at for e in status.runs):
        text = f"run {run.metadata.name} ended: {ran.phase}/{ran.outcome}"
        changes["timeline"] = told(status.timeline, now, "RunEnded", text, f"run {run.metadata.name}")
    changes["runs"] = tuple(
        entry.model_copy(
            update={"phase": ran.phase, "finished_at": ran.finished_at if ran.settled else None, "outcome": ran.outcome}
        )
        if entry.name == run.metadata.name
        else entry
        for entry in status.runs
    )
    cause = ran.root_cause
    changes["times"] = times.model_copy(
        update={
            "diagnosis_started": earliest(times.diagnosis_started, ran.started_at),
            "cause_found": times.cause_found or ((ran.diagnosed_at or now) if cause is not None else None),
        }
    )
    if cause is not None and (status.cause is None or status.cause.probable):
        changes["cause"] = IncidentCause(summary=redact(cause.summary), probable=True)
    if ran.impact is not None and ran.impact.percent is not None:
        changes["impact"] = _impact(status.impact, ran.impact, ran.impact.percent)
    return status.model_copy(update=changes)


def _without(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with the end of runs that were deleted before they ended."""
    ended = {"phase": RunPhase.CANCELLED, "outcome": "Deleted", "finished_at": now}
    lost = [e.name for e in status.runs if e.name in view.gone and e.finished_at is None]
    timeline = status.timeline
    for name in lost:
        timeline = told(timeline, now, "RunEnded", f"run {name} was deleted", f"run {name}")
    runs = tuple(entry.model_copy(update=ended) if entry.name in lost else entry for entry in status.runs)
    return status.model_copy(update={"runs": runs, "timeline": timeline})


def _impact(known: IncidentImpact | None, ran: Impact, percent: float) -> IncidentImpact:
    """Return the impact with one more measure: what a person said stays, the peak only rises.

    What was measured goes before what was estimated, in the peak as well.
    """
    if known is not None and ran.method == "Estimated" and (known.method == "Person" or _is_measured(known)):
        return known
    estimate = known is not None and known.method == "Estimated" and ran.method == "Measured"
    peak = max(percent, known.peak or 0.0) if known is not None and not estimate else percent
    if known is not None and known.method == "Person":
        return known.model_copy(update={"peak": max(peak, known.percent or 0.0)})
    return IncidentImpact(percent=percent, peak=peak, method=ran.method, summary=ran.summary[:256])


def _is_measured(known: IncidentImpact) -> bool:
    """Tell whether failures were measured: that none failed in some minutes refutes no estimate."""
    return known.method == "Measured" and bool(known.percent)


def _mitigated(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status as mitigated while a run says so that has not ended."""
    if status.phase == IncidentPhase.MITIGATED:
        return status
    if not any(is_true(run.status.conditions, "Mitigated") and not run.status.settled for run in view.runs):
        return status
    times = status.times.model_copy(update={"mitigated": status.times.mitigated or now})
    timeline = told(status.timeline, now, "Mitigated", "a fix helped: it is watched whether that holds")
    return status.model_copy(update={"phase": IncidentPhase.MITIGATED, "times": times, "timeline": timeline})


def _resolved(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status as resolved where no run is at work any more, and the last one brought users back."""
    since = status.reopened_at
    ended = [e for e in status.runs if e.finished_at is not None and (since is None or e.finished_at >= since)]
    if not ended or any(entry.finished_at is None for entry in status.runs):
        return status
    newest = max(ended, key=lambda entry: entry.finished_at or now)
    if newest.phase != RunPhase.RESOLVED:
        return _unmitigated(status, newest, now)
    run = next((r for r in view.runs if r.metadata.name == newest.name), None)
    summary = _ending(run) if run is not None else f"run {newest.name} ended Resolved/{newest.outcome}"
    recovery = run.status.recovery if run is not None else None
    if recovery is not None:
        times = status.times.model_copy(update={"restored": recovery.passing_since})
        status = status.model_copy(update={"times": times})
    return resolved(status, MACHINE, newest.finished_at or now, summary, now)


def _unmitigated(status: IncidentStatus, newest: IncidentRunEntry, now: datetime) -> IncidentStatus:
    if status.phase != IncidentPhase.MITIGATED:
        return status
    phase = IncidentPhase.ACKNOWLEDGED if status.acknowledged_by else IncidentPhase.OPEN
    text = f"run {newest.name} ended {newest.phase}/{newest.outcome}: people have to go on"
    return status.model_copy(
        update={"phase": phase, "timeline": told(status.timeline, now, "NotMitigated", text, f"run {newest.name}")}
    )


def _ending(run: IncidentRun) -> str:
    finished = next((c.message for c in run.status.conditions if c.type == "Finished"), "")
    return redact(finished or f"run {run.metadata.name} ended {run.status.phase}/{run.status.outcome}")


def resolved(status: IncidentStatus, by: str, at: datetime, summary: str, now: datetime) -> IncidentStatus:
    """Return the status of an incident that is over."""
    text = f"resolved by {by}" + (f": {summary}" if summary else "")
    return status.model_copy(
        update={
            "phase": IncidentPhase.RESOLVED,
            "resolution": IncidentResolution(by=by, at=at, summary=redact(summary)[:1024]),
            "times": status.times.model_copy(update={"resolved": at}),
            "timeline": told(status.timeline, now, "Resolved", text),
        }
    )


def ended_by_person(status: IncidentStatus) -> bool:
    """Tell whether a person's word ended it: its runs could not know."""
    return status.phase in DISMISSED or (status.resolution is not None and status.resolution.by != MACHINE)


def waiting_since(runs: Iterable[IncidentRun]) -> datetime | None:
    """Return since when people are asked about a plan; the newest question counts. None where nobody is asked."""
    return latest(r.status.awaiting_since for r in runs if r.status.phase == RunPhase.AWAITING_APPROVAL)
