"""What happened between two looks at a run and its plans, one line per change: pure.

This is what `watch` prints where nobody looks at a terminal: logs, CI, pipes. Lines have no control characters and
do not depend on a width. Vocabulary: a *scene* is the run and its plans at one instant.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ..api.plan import CallState, JournalEntry, RemediationPlan
from ..api.run import CheckState, CheckStatus, FixStatus, IncidentRun, IncidentRunStatus, Now
from ..api.runbook import FindingKind
from .people_view import agreement, blockers
from .text import clean, clock, some, until

_LABEL = 20


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The run (None while it does not exist) and its plans, oldest first."""

    run: IncidentRun | None = None
    plans: tuple[RemediationPlan, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line: when, what kind of change, what."""

    at: datetime
    label: str
    text: str

    def line(self) -> str:
        """Return the line as it is printed."""
        return f"{clock(self.at)}  {self.label:<{_LABEL}} {self.text}"


def age(plan: RemediationPlan) -> tuple[str, int, str]:
    """Return what plans are sorted by: oldest first."""
    created = plan.metadata.creation_timestamp
    return created.isoformat() if created else "", plan.spec.attempt, plan.metadata.name


def changes(before: Scene, after: Scene, now: datetime) -> list[Change]:
    """Return what is new, in the order in which it happened.

    Shape: from an empty scene, everything so far. Instants are the objects' own where they have them, else `now`.
    """
    if after.run is None:
        return []
    old = before.run.status if before.run is not None else IncidentRunStatus()
    found = [] if before.run is not None else [_opening(after.run, now)]
    found += _story(old, after.run.status)
    found += _checks(old, after.run.status, now)
    found += _asides(old, after.run.status, now)
    found += _fixes(old, after.run.status, now)
    found += _held(old, after.run.status, now)
    known = {p.metadata.name: p for p in before.plans}
    for plan in after.plans:
        found += _plan(known.get(plan.metadata.name), plan, now)
    found.sort(key=lambda change: change.at)
    return [*found, *_recovery(old, after.run.status), *_now(old, after.run.status, now)]


def _opening(run: IncidentRun, now: datetime) -> Change:
    incident = run.spec.incident
    what = " ".join(clean(part) for part in (incident.ticket, incident.severity, incident.title) if part)
    return Change(
        at=run.metadata.creation_timestamp or now,
        label="IncidentRun",
        text=f"{run.metadata.namespace}/{run.metadata.name}: {what}; runbook {clean(run.spec.runbook_ref.name)}",
    )


def _story(old: IncidentRunStatus, new: IncidentRunStatus) -> Iterator[Change]:
    told = set(old.timeline)
    for entry in new.timeline:
        if entry not in told:
            source = f" [{clean(entry.source)}]" if entry.source else ""
            yield Change(at=entry.at, label=clean(entry.reason), text=clean(entry.message) + source)


def _checks(old: IncidentRunStatus, new: IncidentRunStatus, now: datetime) -> Iterator[Change]:
    known = {check.name: _answer(check) for step in old.steps for check in step.checks}
    for step in new.steps:
        for check in step.checks:
            if known.get(check.name) == _answer(check) or check.state in (CheckState.PENDING, CheckState.RUNNING):
                continue
            # The timeline tells what a Failed check found; nothing else tells why one gave no answer.
            parts = (check.reason, check.message if check.state != CheckState.FAILED else None)
            detail = ": ".join(clean(part) for part in parts if part)
            yield Change(
                at=check.finished_at or now,
                label="check",
                text=f"{check.name} {check.state}" + (f": {detail}" if detail else ""),
            )


def _answer(check: CheckStatus) -> tuple[str, str | None]:
    """What makes an answer another one: a message differs by its figures at every look."""
    return check.state, check.reason


def _asides(old: IncidentRunStatus, new: IncidentRunStatus, now: datetime) -> Iterator[Change]:
    """Findings that are no problem: the timeline tells the others."""
    known = {(f.reason, f.message) for f in old.findings}
    for finding in new.findings:
        if finding.kind == FindingKind.INFO and (finding.reason, finding.message) not in known:
            text = f"{clean(finding.reason)}: {clean(finding.message)} [check {finding.check}]"
            yield Change(at=new.diagnosed_at or now, label="info", text=text)


def _fixes(old: IncidentRunStatus, new: IncidentRunStatus, now: datetime) -> Iterator[Change]:
    """Why fixes are not planned, or planned and not applied; from there on their plans tell."""
    known = {fix.name: (fix.state, fix.message) for step in old.steps for fix in step.fixes}
    for step in new.steps:
        for fix in step.fixes:
            if fix.state in ("NotApplicable", "Blocked", "Error") and known.get(fix.name) != (fix.state, fix.message):
                yield Change(at=new.diagnosed_at or now, label="fix", text=_fix(fix))


def _fix(fix: FixStatus) -> str:
    detail = ": ".join(clean(part) for part in (fix.reason, fix.message) if part)
    return f"{fix.name} {fix.state}" + (f": {detail}" if detail else "")


def _held(old: IncidentRunStatus, new: IncidentRunStatus, now: datetime) -> Iterator[Change]:
    """A person pauses the run, lets it go on, or ends it."""
    for label, before, after in (("paused", old.paused, new.paused), ("cancelling", old.cancelling, new.cancelling)):
        if after is not None and after != before:
            why = f": {clean(after.reason)}" if after.reason else ""
            yield Change(at=after.at, label=label, text=f"by {clean(after.by)}{why}")
    if old.paused is not None and new.paused is None:
        yield Change(at=now, label="resumed", text="changes may be made again")


def _plan(old: RemediationPlan | None, new: RemediationPlan, now: datetime) -> Iterator[Change]:
    name, spec, status = new.metadata.name, new.spec, new.status
    if old is None:
        text = f"{name}: {clean(spec.title)}; risk {spec.risk}; {some(len(spec.calls), 'call')}"
        yield Change(at=new.metadata.creation_timestamp or now, label="plan", text=text)
    told = {(e.phase, e.index, e.attempt, e.state) for e in old.status.calls} if old is not None else set()
    for entry in status.calls:
        if (entry.phase, entry.index, entry.attempt, entry.state) not in told:
            yield _call(new, entry)
    agreed = {a.intervention for a in old.status.approvals} if old is not None else set()
    for approval in status.approvals:
        if approval.intervention not in agreed:
            yield Change(at=approval.at, label="agreed", text=f"{name}: {agreement(approval)}")
    blocked = set(blockers(old)) if old is not None else set()
    for label, text in blockers(new) if not status.settled else ():
        if (label, text) not in blocked:
            yield Change(at=now, label=label, text=clean(text) if label == "type" else f"{name}: {clean(text)}")
    before = old.status.state if old is not None else None
    if status.state != before and not (before is None and status.state == "Proposed"):
        reason = status.reason if status.reason != status.state else None
        detail = ": ".join(clean(part) for part in (reason, status.message) if part)
        at = status.finished_at or status.applied_at or status.started_at or now
        yield Change(at=at, label="plan", text=f"{name} {status.state}" + (f": {detail}" if detail else ""))


def _call(plan: RemediationPlan, entry: JournalEntry) -> Change:
    calls = plan.spec.calls if entry.phase == "Apply" else (plan.spec.undo.calls if plan.spec.undo else ())
    again = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
    error = f": {clean(entry.error)}" if entry.error else ""
    request = f" (request {clean(entry.request_id)})" if entry.request_id else ""
    at = entry.intent_at if entry.state == CallState.INTENDED else entry.finished_at or entry.intent_at
    text = f"{entry.index + 1}/{len(calls)} {clean(entry.summary)}: {entry.state}{again}{error}{request}"
    return Change(at=at, label="call" if entry.phase == "Apply" else "undo", text=text)


def _recovery(old: IncidentRunStatus, new: IncidentRunStatus) -> Iterator[Change]:
    """The stability clock: when it turns, starts or is set back; not every sample."""
    recovery, before = new.recovery, old.recovery
    if recovery is None or recovery.last_checked_at is None:
        return
    if before is not None and (before.state, before.passing_since) == (recovery.state, recovery.passing_since):
        return
    since = f" since {clock(recovery.passing_since)}" if recovery.passing_since else ""
    yield Change(at=recovery.last_checked_at, label="recovery", text=f"{recovery.state}{since}")


def _now(old: IncidentRunStatus, new: IncidentRunStatus, now: datetime) -> Iterator[Change]:
    """What it does now and what to type; the end speaks for itself."""
    before, after = old.now, new.now
    if after is None or new.finished_at is not None or (before is not None and _doing(before) == _doing(after)):
        return
    yield Change(at=now, label="now", text="; ".join(sentences(after, now)))
    for command in after.next:
        if not is_watch(command) and (before is None or command not in before.next):
            yield Change(at=now, label="type", text=clean(command))


def is_watch(command: str) -> bool:
    """Tell whether a command is the one its reader is running."""
    return command.startswith("kubectl incident watch ")


def _doing(now: Now) -> tuple[str | None, ...]:
    return now.doing, now.waiting_for, now.because


def sentences(doing: Now, now: datetime) -> Iterable[str]:
    """Return what the run does, waits for, until when and why, as clauses."""
    yield clean(doing.doing)
    if doing.waiting_for and not clean(doing.doing).endswith(f"waiting for {clean(doing.waiting_for)}"):
        yield f"waiting for {clean(doing.waiting_for)}"
    if doing.until:
        yield f"until {until(doing.until, now)}"
    if doing.because:
        yield f"because {clean(doing.because)}"
