"""Decide for a run: accept, diagnose, choose the next fix, wait for recovery, end.

The run is the story; the plan is the only truth about execution (decision 4).
"""

from dataclasses import replace
from datetime import datetime

from ...api.run import RunPhase
from .accepting import accept
from .asking import ask_on
from .baton import with_baton
from .choosing import approved_plan, hand_over
from .diagnosing import diagnose
from .ending import cancelled, end
from .pace import paced
from .people import hear
from .recovery import wait_for_recovery
from .view import ACTING, EndRound, Refusal, RunDecision, RunView

#: Phases in which an approved plan goes first.
_WAITING = frozenset({RunPhase.AWAITING_APPROVAL, RunPhase.VERIFYING})


def decide_run(view: RunView, now: datetime) -> RunDecision:
    """Return the next status, effects and wake-up of a run. Total and deterministic; `now` is aware UTC."""
    decision = _decide(view, now)
    if decision.status == view.run.status:
        return decision
    # Only with what is written anyway: being late is worth no write of its own.
    return replace(decision, status=paced(decision.status, now, view.run.metadata.generation))


def _decide(view: RunView, now: datetime) -> RunDecision:
    status = view.run.status
    if status.settled:
        return RunDecision(status=status)
    heard = hear(view, now)
    if heard is not None:
        return heard
    # A plan under way comes first: a run that ended without it would leave it to act for a settled run (I7, I8).
    if status.active_plan is not None:
        return with_baton(view, now)
    # So does one that people put back without the baton: one thing at a time, and the story ends after it.
    if any(plan.status.state in ACTING for plan in view.plans):
        return RunDecision(status=status)
    deleted = view.run.metadata.deletion_timestamp is not None
    if status.cancelling is not None or (deleted and status.started_at is not None):
        return cancelled(view, now)
    if status.started_at is None:
        return RunDecision(status=status) if deleted else accept(view, now)
    if view.runbook is None:
        refusal = view.refusal or Refusal(reason="RevisionLost", message="the pinned revision of the runbook is gone")
        return end(view, status, RunPhase.FAILED, refusal.reason, refusal.message, now)
    approved = approved_plan(view)
    if approved is not None and status.paused is None and status.phase in _WAITING:
        return hand_over(view, status, approved, now, (EndRound(),))
    if status.phase == RunPhase.DIAGNOSING or status.diagnosed_at is None:
        return diagnose(view, now)
    if status.phase == RunPhase.AWAITING_APPROVAL:
        return ask_on(view, now)
    return wait_for_recovery(view, now)
