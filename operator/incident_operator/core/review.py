"""Reviews: what a run that has ended says of its incident. A draft for people, made once, and the facts it rests on.

Nothing here is a guess but the cause, which says so: every line rests on an instant, a plan or a check of the run.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from ..api.meta import Severity, format_instant
from ..api.plan import PlanState, RemediationPlan
from ..api.review import (
    ActionItem,
    HandledRun,
    MeasuredTimes,
    PostIncidentReviewSpec,
    PostIncidentReviewStatus,
    PrimaryCause,
    ReviewedPlan,
    ReviewFact,
    ReviewLine,
    ReviewResolution,
)
from ..api.run import CheckState, Finding, IncidentRun, Resolution, RootCause, RunPhase, TimelineEntry
from ..api.runbook import FindingKind, Fix, RunbookSpec
from .conditions import with_condition
from .impact import impact_in_words, worse
from .redact import redact
from .run import detected_at, is_observe_only
from .schedule import earliest

#: Source: the document, "Post-Incident Review (Within 48 hours)".
DUE_AFTER = timedelta(hours=48)
#: How soon somebody must be at work. Source: the document's severity table.
RESPOND_WITHIN = {
    Severity.P0: timedelta(minutes=15),
    Severity.P1: timedelta(hours=1),
    Severity.P2: timedelta(hours=4),
    Severity.P3: timedelta(hours=24),
}
#: Where a runbook says no date. Source: the action items of the document's template.
_DUE_IN = {"High": timedelta(days=7), "Medium": timedelta(days=14), "Low": timedelta(days=21)}
_FAILED = {
    PlanState.NO_EFFECT: "had no effect",
    PlanState.WORSE: "made it worse",
    PlanState.REVERTED: "was put back",
    PlanState.INCONCLUSIVE: "was applied, and whether it helped could not be told",
    PlanState.UNKNOWN: "may or may not have been applied",
    PlanState.UNDO_BLOCKED: "could not be put back",
}
#: What is left in place without anybody knowing whether it helps.
_TO_LOOK_AT = frozenset({PlanState.WORSE, PlanState.INCONCLUSIVE, PlanState.UNKNOWN, PlanState.UNDO_BLOCKED})
_LEADS = {"Applying": "Mitigation begun", "Applied": "Mitigation applied"}
#: Ends of runs that had something to do.
_FOUND_SOMETHING = frozenset({RunPhase.RESOLVED, RunPhase.UNRESOLVED})
_MAX_LINES, _MAX_TIMELINE, _MAX_FACTS, _MAX_PLANS, _MAX_RUNS = 32, 64, 192, 64, 64


def named_by_incident(run: IncidentRun) -> bool:
    """Tell whether the manifest itself says which incident it is about: ticket and `detectedAt`. Source: decision 3."""
    return run.spec.incident.ticket is not None and run.spec.incident.detected_at is not None


def review_name(run: IncidentRun) -> str:
    """Return the name of the review of a run's incident; of the run alone, where it does not name the incident."""
    incident, namespace = run.spec.incident, run.metadata.namespace or ""
    if incident.name is not None:
        return incident.name
    if incident.ticket is not None and incident.detected_at is not None:
        of, head = f"{namespace}/{incident.ticket}/{format_instant(incident.detected_at)}", incident.ticket
    else:
        of, head = f"{namespace}/{run.metadata.uid}", incident.ticket or run.metadata.name[:200]
    return f"{head.lower().strip('-.')}-{hashlib.sha256(of.encode()).hexdigest()[:8]}"


def is_reviewed(run: IncidentRun) -> bool:
    """Tell whether the end of a run is worth a review: it began, and could have changed something."""
    return run.status.started_at is not None and run.status.settled and not is_observe_only(run)


def draft(
    run: IncidentRun, plans: Sequence[RemediationPlan], runbook: RunbookSpec | None, now: datetime
) -> PostIncidentReviewSpec:
    """Return the draft of a review, in the document's template. Shape: `run` has ended; `plans` are all of its own."""
    incident, status = run.spec.incident, run.status
    cause = status.root_cause
    end = _finished(run)
    return PostIncidentReviewSpec(
        ticket=incident.ticket,
        detected_at=detected_at(run, now),
        drafted_at=now,
        title=_line(incident.title) if incident.title else None,
        severity=status.severity or incident.severity,
        customer_impact=_line(impact_in_words(status.impact)) if status.impact else None,
        resolution=_line(end) if end else None,
        timeline=_told(run, now),
        primary_cause=PrimaryCause(text=_line(cause.summary), probable=cause.probable) if cause else None,
        contributing_factors=_lines(_factors(run, plans, now)),
        went_well=_lines(_went_well(run, plans, now)),
        could_be_improved=_lines(_improvements(run, plans, now)),
        action_items=tuple(_action_items(run, plans, runbook, now))[:_MAX_LINES],
        knowledge_base=_lines(_knowledge(run, plans, runbook)),
    )


def undrafted(stored: dict[str, object], drafted: PostIncidentReviewSpec) -> dict[str, object]:
    """Return the fields that a draft adds to a stored spec: those that nobody has written before it (I9)."""
    return {key: value for key, value in drafted.wire().items() if value not in ([], False) and not stored.get(key)}


def begun(
    before: PostIncidentReviewStatus, run: IncidentRun, incident_type: str, now: datetime
) -> PostIncidentReviewStatus:
    """Return what is known of the incident with the beginning of one more run."""
    entry = HandledRun(name=run.metadata.name, uid=run.metadata.uid, started_at=now)
    return before.model_copy(
        update={
            "runs": (*before.runs, entry)[-_MAX_RUNS:],
            "incident_type": incident_type,
            "severity": run.status.severity or run.spec.incident.severity,
        }
    )


def facts(
    before: PostIncidentReviewStatus,
    run: IncidentRun,
    plans: Sequence[RemediationPlan],
    now: datetime,
    *,
    incident_type: str | None = None,
) -> PostIncidentReviewStatus:
    """Return what is known of the incident with the end of one more run. Facts of its other runs stay.

    Shape: `incident_type` is that of the run's runbook; None where it is not known (any more).
    """
    status, name = run.status, run.metadata.name
    ended_at = status.finished_at or now
    restored = _restored(run)
    handled = HandledRun(
        name=name,
        uid=run.metadata.uid,
        started_at=next((r.started_at for r in before.runs if r.name == name), status.started_at or now),
        finished_at=ended_at,
        phase=status.phase,
        outcome=status.outcome,
        runbook=run.spec.runbook_ref.name,
        restored_at=restored,
        resolution=status.resolution if restored else None,
        automatic=_is_automatic(run, plans) if restored else None,
        runbook_kind=run.spec.runbook_ref.kind,
    )
    runs = (*(r for r in before.runs if r.name != name), handled)[-_MAX_RUNS:]
    restoration = _restoration(before, runs, status.phase)
    story = [
        ReviewFact(run=name, at=entry.at, reason=entry.reason, text=_line(entry.message), source=entry.source)
        for entry in status.timeline
    ]
    detected = detected_at(run, now)
    resolution = None
    if status.outcome is not None:
        resolution = ReviewResolution(
            phase=status.phase,
            outcome=status.outcome,
            summary=_line(_finished(run)),
            by=status.resolution,
            at=ended_at,
            restored_at=restored,
        )
    timeline = sorted([*(f for f in before.timeline if f.run != name), *story], key=lambda fact: fact.at)
    return before.model_copy(
        update={
            "runs": runs,
            "resolution": resolution,
            "duration": max((restoration["restored_at"] or ended_at) - detected, timedelta()),
            "times": _times(run, plans, now),
            "impact": worse(before.impact, status.impact),
            "incident_type": incident_type or before.incident_type,
            "severity": status.severity or run.spec.incident.severity,
            "reopened": max(before.reopened, times_reopened(runs)),
            **restoration,
            "drill": run.spec.drill and (before.drill or not before.runs),
            "timeline": tuple(timeline)[-_MAX_FACTS:],
            "plans": (*(p for p in before.plans if p.run != name), *map(_reviewed, _applied(plans)))[-_MAX_PLANS:],
            "due_at": ended_at + DUE_AFTER,
            "conditions": with_condition(
                before.conditions, "Drafted", True, "Drafted", "the spec is people's: nothing writes it again", ended_at
            ),
        }
    )


def last_restored(runs: Iterable[HandledRun]) -> HandledRun | None:
    """Return the run after which users have been well until now; None while they are not, as far as is known.

    Only a run that ended Unresolved takes a restoration back: one that found nothing, or could not look, says nothing
    against it. Shape: any order.
    """
    last = None
    for run in sorted(runs, key=lambda run: (run.finished_at or run.started_at, run.name)):
        if run.restored_at is not None:
            last = run
        elif run.phase == RunPhase.UNRESOLVED:
            last = None
    return last


def _restoration(before: PostIncidentReviewStatus, runs: Sequence[HandledRun], phase: RunPhase) -> dict[str, Any]:
    """Return since when users are well, and by whom. What others wrote stays, unless a run has learnt otherwise."""
    last = last_restored(runs)
    stood = before.restored_at if phase != RunPhase.UNRESOLVED else None
    if stood is not None and (last is None or last.restored_at is None or last.restored_at < stood):
        return {"restored_at": stood, "resolved_by": before.resolved_by, "automatic": before.automatic}
    return {
        "restored_at": last.restored_at if last else None,
        "resolved_by": last.resolution if last else None,
        "automatic": last.automatic if last else None,
    }


def times_reopened(runs: Iterable[HandledRun]) -> int:
    """Return how often a run had something to do again that began after an earlier one had ended Resolved."""
    count, well_since = 0, None
    for run in sorted(runs, key=lambda run: (run.started_at, run.name)):
        if well_since is not None and run.started_at >= well_since and run.phase in _FOUND_SOMETHING:
            count, well_since = count + 1, None
        if run.phase == RunPhase.RESOLVED:
            well_since = run.finished_at
    return count


def is_overdue(due_at: datetime | None, complete: bool, now: datetime) -> bool:
    """Tell whether people are late with a review."""
    return due_at is not None and not complete and now > due_at


def in_words(value: timedelta) -> str:
    """Return a length of time as the document writes it.

    >>> in_words(timedelta(minutes=23)), in_words(timedelta(hours=1, minutes=1)), in_words(timedelta(seconds=8))
    ('23 minutes', '1 hour 1 minute', '8 seconds')
    """
    seconds = int(value.total_seconds())
    if seconds < 60:
        return _count(seconds, "second")
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = ((days, "day"), (hours, "hour"), (minutes, "minute"))
    return " ".join([_count(n, unit) for n, unit in parts if n][:2])


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


# --- what happened when -----------------------------------------------------------------------------------------------


def _applied(plans: Sequence[RemediationPlan]) -> list[RemediationPlan]:
    """Return the plans of which a call was made, in the order in which they began."""
    began = [(plan.status.started_at, plan) for plan in plans if plan.status.started_at and plan.status.calls]
    return [plan for _, plan in sorted(began, key=lambda pair: (pair[0], pair[1].metadata.name))]


def _reviewed(plan: RemediationPlan) -> ReviewedPlan:
    status = plan.status
    return ReviewedPlan(
        name=plan.metadata.name,
        run=plan.spec.run_ref.name,
        fix=plan.spec.fix,
        title=_line(plan.spec.title),
        state=status.state,
        message=_line(status.message),
        started_at=status.started_at or status.calls[0].intent_at,
        finished_at=status.finished_at,
        temporary_until=status.temporary.until if status.temporary else None,
        revert_of=plan.spec.revert_of,
    )


def _restored(run: IncidentRun) -> datetime | None:
    """Return since when users have been well; None where the run did not end so."""
    recovery = run.status.recovery
    return recovery.passing_since if recovery and run.status.phase == RunPhase.RESOLVED else None


def _is_automatic(run: IncidentRun, plans: Sequence[RemediationPlan]) -> bool:
    """Tell whether the runbook brought the service back without anybody's agreement to what helped."""
    helped = [plan for plan in plans if plan.status.state == PlanState.HELPED]
    return run.status.resolution == Resolution.RUNBOOK and not any(plan.status.approvals for plan in helped)


def _finished(run: IncidentRun) -> str:
    """Return how the run ended, in the words of its condition Finished."""
    return next((c.message for c in run.status.conditions if c.type == "Finished"), "")


def _first(run: IncidentRun, *reasons: str) -> datetime | None:
    return next((entry.at for entry in run.status.timeline if entry.reason in reasons), None)


def _first_finding(run: IncidentRun) -> TimelineEntry | None:
    return next((entry for entry in run.status.timeline if entry.source.startswith("check ")), None)


def _times(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime) -> MeasuredTimes:
    start = detected_at(run, now)
    finding = _first_finding(run)
    helped = [p.status.applied_at or p.status.finished_at for p in plans if p.status.state == PlanState.HELPED]

    def after(at: datetime | None) -> timedelta | None:
        return None if at is None else max(at - start, timedelta())

    return MeasuredTimes(
        started=after(run.status.started_at),
        first_finding=after(finding.at if finding else None),
        diagnosed=after(_first(run, "Diagnosed")),
        mitigated=after(earliest(*helped) if any(helped) else None),
        restored=after(_restored(run)),
    )


def _told(run: IncidentRun, now: datetime) -> tuple[ReviewLine, ...]:
    """Return the story as people would tell it: what was found, done and said, and when users were well again."""
    title, cause = run.spec.incident.title, run.status.root_cause
    blamed = set(cause.reasons) if cause else set()
    lines = [ReviewLine(at=detected_at(run, now), text=_line(f"Incident detected: {title}" if title else "Detected"))]
    for entry in run.status.timeline:
        if entry.reason == "Planned":
            continue
        if entry.source.startswith("intervention "):
            text = entry.message
        elif entry.source.startswith("check ") and cause and entry.reason in blamed:
            text = f"{'Probable root' if cause.probable else 'Root'} cause identified ({entry.message})"
        elif entry.source.startswith("check "):
            text = f"Found: {entry.message}"
        elif entry.reason == "Started":
            text = "Initial investigation started"
        elif entry.reason in _LEADS:
            text = f"{_LEADS[entry.reason]} ({entry.message})"
        else:
            text = f"{_spaced(entry.reason)}: {entry.message}"
        lines.append(ReviewLine(at=entry.at, text=_line(text)))
    restored = _restored(run)
    if restored is not None:
        lines.append(ReviewLine(at=restored, text="Service fully restored"))
    ordered = sorted(lines, key=lambda line: line.at)
    # Where there is too much of it, how it began and how it ended say most.
    half = _MAX_TIMELINE // 2
    return tuple(ordered if len(ordered) <= _MAX_TIMELINE else [*ordered[:half], *ordered[-half:]])


def _spaced(reason: str) -> str:
    """Return a reason as words: `RecoveryLost` → `Recovery lost`."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in reason).strip()
    return words[:1].upper() + words[1:]


# --- what it means ----------------------------------------------------------------------------------------------------


def _factors(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime) -> Iterator[str]:
    """Yield what may have contributed: other causes, else the problems found, and changes that go with them.

    A problem that is no cause is what the cause did. A change is named only if it came before the incident and, where
    a cause is known, touched what the cause is about, or what had to be changed to help; and never as more than what
    happened shortly before.
    """
    cause, detected = run.status.root_cause, detected_at(run, now)
    problems = [f for f in run.status.findings if f.kind == FindingKind.PROBLEM]
    for finding in problems if cause is None else [f for f in problems if f.root_cause][1:]:
        yield f"{finding.message}{_by(finding)}"
    broken = _broken(run, plans)
    for change in run.status.findings:
        if change.kind != FindingKind.INFO or change.actor is None or (change.at is not None and change.at > detected):
            continue
        if cause is None or (_named(change.subject or "") in broken and not _tells_of(cause, change)):
            yield f"Changed shortly before, and not known to have contributed: {change.message}{_by(change)}"


def _broken(run: IncidentRun, plans: Sequence[RemediationPlan]) -> frozenset[str]:
    """Return the names of what broke: those in the cause, which outlives its finding, and what helped to touch."""
    cause = run.status.root_cause
    texts = [cause.summary] if cause else []
    texts += [f"{f.message} {f.subject or ''}" for f in run.status.findings if f.root_cause]
    helped = (plan for plan in plans if plan.status.state == PlanState.HELPED)
    touched = (_named(resource) for plan in helped for resource in plan.spec.touches)
    return frozenset(touched).union(*(_words(text) for text in texts))


def _by(finding: Finding) -> str:
    return f" (by {finding.actor})" if finding.actor and finding.actor not in finding.message else ""


def _tells_of(cause: RootCause, change: Finding) -> bool:
    """Tell whether a cause names this very change: by the same person, at the same instant."""
    at = f"{change.at:%Y-%m-%d %H:%M:%S}Z" if change.at else None
    return at is not None and at in cause.summary and change.actor is not None and change.actor in cause.summary


def _named(subject: str) -> str:
    """Return what an ARN calls its resource; another subject as it is."""
    return re.split(r"[:/]", subject)[-1] if subject.startswith("arn:") else subject


def _words(text: str) -> frozenset[str]:
    """Return the names that a text has, ARNs also by the name of their resource."""
    return frozenset(word for part in text.split() for word in re.split(r"[^\w.@+=-]+", part.rstrip(".,;")) if word)


def _went_well(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime) -> Iterator[str]:
    times, status = _times(run, plans, now), run.status
    limit = RESPOND_WITHIN[status.severity or run.spec.incident.severity]
    if times.started is not None and times.started <= limit:
        yield f"Investigation started {in_words(times.started)} after detection"
    finding = _first_finding(run)
    if finding is not None and status.started_at is not None:
        yield f"First finding {in_words(finding.at - status.started_at)} after the start: {finding.message}"
    for plan in _applied(plans):
        if plan.status.state == PlanState.HELPED and plan.status.started_at is not None:
            after = in_words(max(plan.status.started_at - detected_at(run, now), timedelta()))
            yield f"{plan.spec.title}: applied {after} after detection, and it helped ({plan.status.message})"
    for plan, waited in _agreed(run, plans):
        if waited <= limit:
            yield f"{_people(plan)} agreed within {in_words(waited)}: {plan.spec.title}"
    if status.resolution == Resolution.RUNBOOK:
        yield f"The standard runbook {run.spec.runbook_ref.name} resolved it"


def _improvements(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime) -> Iterator[str]:
    times, status = _times(run, plans, now), run.status
    severity = status.severity or run.spec.incident.severity
    limit = RESPOND_WITHIN[severity]
    if times.started is not None and times.started > limit:
        yield f"Investigation started {in_words(times.started)} after detection; {severity} allows {in_words(limit)}"
    yield from _late_steps(run, plans)
    for plan in _applied(plans):
        if plan.status.state in _FAILED:
            yield f"{plan.spec.title} {_FAILED[plan.status.state]}" + (
                f": {plan.status.message}" if plan.status.message else ""
            )
    for plan, waited in _agreed(run, plans):
        if waited > limit:
            yield f"People took {in_words(waited)} to agree: {plan.spec.title}"
    for step in status.steps:
        for check in step.checks:
            if check.state in (CheckState.ERROR, CheckState.INCONCLUSIVE):
                yield f"Check {check.name} gave no answer ({check.reason or check.state}): {check.message}"
    if status.phase != RunPhase.RESOLVED:
        yield f"The runbook {run.spec.runbook_ref.name} did not resolve it ({status.outcome}): {_finished(run)}"


def _late_steps(run: IncidentRun, plans: Sequence[RemediationPlan]) -> Iterator[str]:
    """Yield the steps that came later than the document wants: first diagnosis, first change."""
    diagnosed = _first(run, "Diagnosed")
    for step in run.status.steps:
        fixes = {fix.name for fix in step.fixes}
        began = [p.status.started_at for p in _applied(plans) if p.spec.fix in fixes]
        came = earliest(*began) if began else (diagnosed if step.checks else None)
        if step.expected_by is not None and came is not None and came > step.expected_by:
            late = in_words(came - step.expected_by)
            yield f"Step {step.title} came at {came:%H:%M}, {late} later than its {step.expected_by:%H:%M}"


def _agreed(run: IncidentRun, plans: Sequence[RemediationPlan]) -> Iterator[tuple[RemediationPlan, timedelta]]:
    """Yield the plans that people agreed to, and how long after being asked."""
    asked = [entry.at for entry in run.status.timeline if entry.reason == "AwaitingApproval"]
    for plan in plans:
        at = plan.status.approved_at
        before = [one for one in asked if at is not None and one <= at]
        if at is not None and plan.status.approvals and before:
            yield plan, at - before[-1]


def _people(plan: RemediationPlan) -> str:
    return " and ".join(dict.fromkeys(approval.responder for approval in plan.status.approvals))


def _action_items(
    run: IncidentRun, plans: Sequence[RemediationPlan], runbook: RunbookSpec | None, now: datetime
) -> Iterator[ActionItem]:
    """Yield what remains to be done: the runbook's permanent work, temporary fixes, and what nobody understands."""
    by_name = {fix.name: fix for fix in runbook.fixes} if runbook else {}
    owner = runbook.maintenance.owner if runbook and runbook.maintenance else None
    ended_at = run.status.finished_at or now
    followed: set[str] = set()
    for plan in _applied(plans):
        fix, state, title = by_name.get(plan.spec.fix), plan.status.state, plan.spec.title
        if state in _TO_LOOK_AT:
            yield _item(f"Look at what is left in place: {title} {_FAILED[state]}", "High", owner, ended_at)
        if state != PlanState.HELPED or plan.spec.revert_of is not None:
            continue
        if fix is not None and fix.follow_up is not None and fix.name not in followed:
            followed.add(fix.name)
            yield _follow_up(fix, owner, ended_at)
        until = plan.status.temporary.until if plan.status.temporary else None
        if until is not None:
            text = (
                f"Replace the temporary fix by a permanent one: {title} (to be looked at by {until:%Y-%m-%d %H:%M} UTC)"
            )
            yield _item(text, "High", owner, ended_at, until)
    if run.status.phase not in (RunPhase.RESOLVED, RunPhase.NOTHING_FOUND):
        yield _item(f"Make sure that users are well: the run ended {run.status.phase}", "High", owner, ended_at)


def _follow_up(fix: Fix, owner: str | None, ended_at: datetime) -> ActionItem:
    assert fix.follow_up is not None  # noqa: S101  (its caller has looked)
    work = fix.follow_up
    due = ended_at + work.due_in if work.due_in is not None else None
    return _item(work.text, work.priority, work.owner or owner, ended_at, due)


def _item(text: str, priority: str, owner: str | None, ended_at: datetime, due: datetime | None = None) -> ActionItem:
    day = due or ended_at + _DUE_IN[priority]
    return ActionItem.model_validate(
        {"text": _line(text), "priority": priority, "owner": owner, "dueDate": f"{day:%Y-%m-%d}"}
    )


def _knowledge(run: IncidentRun, plans: Sequence[RemediationPlan], runbook: RunbookSpec | None) -> Iterator[str]:
    """Yield what the runbook could learn, where there is a fact for it."""
    status, name, ticket = run.status, run.spec.runbook_ref.name, run.spec.incident.ticket
    cause = status.root_cause
    known = {entry.ticket for entry in runbook.history} if runbook else set()
    if ticket is not None and ticket not in known and cause is not None and status.phase == RunPhase.RESOLVED:
        yield f"Add {ticket} to the history of {name}: {cause.summary}; resolved by: {_finished(run)}"
    if status.outcome == "NoFixApplies":
        reasons = dict.fromkeys(f.reason for f in status.findings if f.kind == FindingKind.PROBLEM)
        yield f"Add a fix to {name} for {', '.join(reasons)}"
    for plan in _applied(plans):
        if plan.status.state in (PlanState.NO_EFFECT, PlanState.WORSE):
            yield f"Say in {name} when {plan.spec.fix} does not help: it {_FAILED[plan.status.state]} here"
    for step in status.steps:
        for check in step.checks:
            if check.state == CheckState.ERROR:
                yield f"Correct check {check.name} of {name}, or its grant: it ended {check.reason or check.state}"


def _lines(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts as lines, each once."""
    return tuple(dict.fromkeys(_line(text) for text in texts))[:_MAX_LINES]


def _line(text: str) -> str:
    """Return a text as one redacted line of at most what the contract allows."""
    return redact(" ".join(text.split()))[:1024]
