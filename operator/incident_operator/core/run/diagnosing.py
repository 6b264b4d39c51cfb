"""Diagnose: drive a full round to its end, store it, choose what follows."""

from datetime import datetime

from ...api.run import RunPhase
from ...api.runbook import FindingKind
from ..conditions import with_condition
from ..impact import at_worst
from ..story import told, told_anew
from .choosing import choose
from .recovery import with_sample
from .rounds import (
    baseline_of,
    findings_of,
    ready_checks,
    recovery_of,
    root_cause_of,
    with_partial_findings,
)
from .steps import with_checks, with_fixes
from .view import PlanFixes, Round, RunChecks, RunDecision, RunView, StartRound, StorePlans


def diagnose(view: RunView, now: datetime) -> RunDecision:
    """Drive a full round to its end, then store it and choose what follows."""
    status, round_ = view.run.status, view.round
    if round_ is None or round_.kind != "Full":
        return RunDecision(status=status, effects=(StartRound("Full"),))
    ready = ready_checks(view, round_)
    if ready:
        return RunDecision(status=with_partial_findings(view, round_, now), effects=(RunChecks(ready),))
    if round_.running:
        return RunDecision(status=with_partial_findings(view, round_, now))
    if round_.fixes is None:
        return RunDecision(status=status, effects=() if round_.planning else (PlanFixes(),))
    if any(fix.plan is not None for fix in round_.fixes.values()) and not round_.stored:
        return RunDecision(status=status, effects=(StorePlans(),))
    return _diagnosed(view, round_, now)


def _diagnosed(view: RunView, round_: Round, now: datetime) -> RunDecision:
    """Store the round (R2) and choose what follows in the next decision."""
    run, status = view.run, view.run.status
    fixes = round_.fixes or {}
    findings = findings_of(view, round_)
    recovery = recovery_of(view, round_)
    baseline = baseline_of(view, recovery, now)
    cause = root_cause_of(findings) or status.root_cause
    timeline = status.timeline
    known = {(f.reason, f.subject) for f in status.findings}
    for finding in findings:
        if finding.kind == FindingKind.PROBLEM and (finding.reason, finding.subject) not in known:
            timeline = told(timeline, now, finding.reason, finding.message, f"check {finding.check}")
    problems = sum(f.kind == FindingKind.PROBLEM for f in findings)
    summary = f"{problems} problem{'s' if problems != 1 else ''} found by {len(round_.checks)} checks"
    blamed = f"; probable cause: {cause.summary}" if cause and problems else ""
    timeline = told_anew(timeline, now, "Diagnosed", summary + blamed)
    applied = any(plan.status.applied_at is not None for plan in view.plans)
    plans = [f for f in fixes.values() if f.plan is not None]
    for fix in plans:
        assert fix.plan is not None  # noqa: S101  (filtered above)
        gate = f" (not by itself: {fix.gates[0].message})" if fix.gates else ""
        timeline = told_anew(timeline, now, "Planned", fix.plan.spec.title + gate, f"plan {fix.plan.metadata.name}")
    diagnosed = status.model_copy(
        update={
            "diagnosis": status.diagnosis + 1,
            "diagnosed_at": now,
            "phase": RunPhase.VERIFYING,
            "steps": with_fixes(with_checks(status.steps, round_), fixes),
            "findings": findings,
            "root_cause": cause,
            "impact": at_worst(status.impact, round_.impact, now, after_fix=applied),
            "baseline": baseline,
            "recovery": with_sample(view, status.recovery, recovery, now),
            "timeline": timeline,
            "conditions": with_condition(
                status.conditions, "Diagnosed", True, "Diagnosed", summary, now, run.metadata.generation
            ),
        }
    )
    return choose(view, diagnosed, fixes, round_, recovery, now)
