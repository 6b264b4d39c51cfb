"""One diagnosis: which checks to ask next, what they found, what users feel, and whether they did before us."""

from datetime import datetime, timedelta

from ...api.run import Baseline, CheckState, Finding, IncidentRunStatus, RootCause
from ...api.runbook import FindingKind
from ..runbook import needed_by
from ..story import told
from .view import Recovery, Round, RoundKind, RunView


def ready_checks(view: RunView, round_: Round) -> tuple[str, ...]:
    """Return the checks whose inputs are known and that nobody asked yet, in the document's order."""
    wanted = _wanted(view, round_.kind)
    return tuple(
        name
        for name in wanted
        if name not in round_.checks
        and name not in round_.running
        and all(dep in round_.checks for dep in view.dependencies.get(name, frozenset()))
    )


def _wanted(view: RunView, kind: RoundKind) -> tuple[str, ...]:
    runbook = view.runbook
    assert runbook is not None  # noqa: S101  (callers have it)
    if kind == "Full":
        return tuple(c.name for c in runbook.checks)
    needed = needed_by(runbook.recovery.checks, view.dependencies)
    return tuple(c.name for c in runbook.checks if c.name in needed)


def with_partial_findings(view: RunView, round_: Round, now: datetime) -> IncidentRunStatus:
    """Return the status with what is found so far, at most once a second; unchanged in between."""
    status = view.run.status
    last = status.timeline[-1].at if status.timeline else None
    found = findings_of(view, round_)
    known = {(f.reason, f.subject) for f in status.findings}
    news = [f for f in found if f.kind == FindingKind.PROBLEM and (f.reason, f.subject) not in known]
    if not news or (last is not None and now - last < timedelta(seconds=1)):
        return status
    timeline = status.timeline
    for finding in news:
        timeline = told(timeline, now, finding.reason, finding.message, f"check {finding.check}")
    return status.model_copy(update={"findings": found, "timeline": timeline})


def findings_of(view: RunView, round_: Round) -> tuple[Finding, ...]:
    """Return what was found so far, in the document's order, at most 48."""
    names = [c.name for c in view.runbook.checks] if view.runbook else []
    found = [f for name in names if name in round_.checks for f in round_.checks[name].findings]
    return tuple(found[:48])


def recovery_of(view: RunView, round_: Round) -> Recovery:
    """Return what users feel now: Failing beats Unknown beats Passing."""
    assert view.runbook is not None  # noqa: S101  (callers have it)
    states = [round_.checks[name].status.state for name in view.runbook.recovery.checks if name in round_.checks]
    if CheckState.FAILED in states:
        return "Failing"
    if not states or any(s != CheckState.PASSED for s in states):
        return "Unknown"
    return "Passing"


def baseline_of(view: RunView, recovery: Recovery, now: datetime) -> Baseline:
    """Return how users were before anything was touched: the latest answer until the first call, frozen from then."""
    known = view.run.status.baseline
    touched = any(p.status.started_at is not None for p in view.plans)
    if known is None or (known.state != recovery != "Unknown" and not touched):
        return Baseline(state=recovery, at=now)
    return known


def root_cause_of(findings: tuple[Finding, ...]) -> RootCause | None:
    """Return what broke it, by the findings that may be the cause; None where none is."""
    causes = [f for f in findings if f.root_cause and f.kind == FindingKind.PROBLEM]
    if not causes:
        return None
    first = causes[0]
    who = f" (by {first.actor})" if first.actor and first.actor not in first.message else ""
    more = f" (+{len(causes) - 1} more)" if len(causes) > 1 else ""
    return RootCause(
        summary=f"{first.message}{who}{more}"[:1024], reasons=tuple(dict.fromkeys(f.reason for f in causes))[:16]
    )
