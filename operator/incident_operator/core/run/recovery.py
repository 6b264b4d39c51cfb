"""What users feel after a change or while people are asked: sampled until it is stable, lost, or takes too long."""

from datetime import datetime, timedelta

from ...api.meta import Severity
from ...api.run import IncidentRunStatus, Now, RecoveryStatus, RunPhase
from ..story import told, within_bounds
from .ending import end, resolved
from .rounds import ready_checks, recovery_of
from .steps import at_step, with_checks
from .view import STOPPED, EndRound, Recovery, RunChecks, RunDecision, RunView, StartRound, command

STABLE_FOR = timedelta(minutes=5)
STABLE_FOR_SEVERE = timedelta(minutes=10)
RECOVERY_WITHIN = timedelta(minutes=15)
RECOVERY_EVERY = timedelta(seconds=30)
MIN_SAMPLES = 5
#: How often everything is looked at again while people are asked, or users stay unwell. Source: decision 12.
DIAGNOSE_EVERY = timedelta(minutes=5)


def stable_for(view: RunView) -> timedelta:
    """Return how long recovery must hold: the runbook's, at least 10 m on P0 and P1. Source: decision 10."""
    wanted = (view.runbook.recovery.stable_for if view.runbook else None) or STABLE_FOR
    severe = view.run.spec.incident.severity in (Severity.P0, Severity.P1)
    return view.timing.scaled(max(wanted, STABLE_FOR_SEVERE) if severe else wanted)


def _within(view: RunView) -> timedelta:
    return view.timing.scaled((view.runbook.recovery.within if view.runbook else None) or RECOVERY_WITHIN)


def next_sample(view: RunView, now: datetime) -> datetime:
    """Return when to sample recovery next."""
    return now + min(view.timing.scaled(RECOVERY_EVERY), stable_for(view) / MIN_SAMPLES)


def with_sample(view: RunView, recovery: RecoveryStatus | None, state: Recovery, now: datetime) -> RecoveryStatus:
    """Return the stability clock after one sample: Failed resets it, Unknown neither counts nor resets."""
    recovery = recovery or RecoveryStatus()
    if state == "Failing":
        return recovery.model_copy(update={"state": state, "last_checked_at": now, "passing_since": None, "samples": 0})
    if state == "Unknown":
        return recovery.model_copy(update={"state": state, "last_checked_at": now})
    return recovery.model_copy(
        update={
            "state": state,
            "last_checked_at": now,
            "passing_since": recovery.passing_since or now,
            "samples": recovery.samples + 1,
        }
    )


def waiting_stable(view: RunView, status: IncidentRunStatus, now: datetime) -> IncidentRunStatus:
    """Return the status of a run that waits for recovery, or watches that it stays."""
    recovery = status.recovery or RecoveryStatus()
    since = recovery.passing_since
    until = since + stable_for(view) if since else (recovery.helped_at or now) + _within(view)
    return within_bounds(
        at_step(
            status.model_copy(
                update={
                    "phase": RunPhase.VERIFYING,
                    "now": Now(
                        doing="users are well again: watching that it stays so" if since else "waiting for recovery",
                        waiting_for="stability" if since else "recovery",
                        until=until,
                        next=(command(view.run, "watch"),),
                    ),
                }
            ),
        )
    )


def is_stable(view: RunView, now: datetime) -> bool:
    """Tell whether recovery has held long enough, by enough samples."""
    recovery = view.run.status.recovery or RecoveryStatus()
    since = recovery.passing_since
    return since is not None and recovery.samples >= MIN_SAMPLES and now - since >= stable_for(view)


def sample(view: RunView, every: timedelta, now: datetime) -> RunDecision | tuple[Recovery, IncidentRunStatus]:
    """Ask the recovery checks when they are due; returns what users feel and the status with it once they answered.

    Units: `every` is as this deployment waits, already scaled.
    """
    status, round_ = view.run.status, view.round
    recovery = status.recovery or RecoveryStatus()
    due = recovery.last_checked_at + every if recovery.last_checked_at else now
    if round_ is None or round_.kind != "Recovery":
        if now < due:
            return RunDecision(status=status, wake_at=due)
        return RunDecision(status=status, effects=(StartRound("Recovery"),))
    ready = ready_checks(view, round_)
    if ready or round_.running:
        return RunDecision(status=status, effects=(RunChecks(ready),) if ready else ())
    state = recovery_of(view, round_)
    sampled = status.model_copy(
        update={
            "recovery": with_sample(view, recovery, state, now),
            "steps": with_checks(status.steps, round_),
        }
    )
    return state, sampled


def wait_for_recovery(view: RunView, now: datetime) -> RunDecision:
    """Sample recovery until it is stable, breaks again, or takes too long."""
    status = view.run.status
    recovery = status.recovery or RecoveryStatus()
    since = recovery.passing_since
    if is_stable(view, now):
        return resolved(view, now)
    answer = sample(view, next_sample(view, now) - now, now)
    if isinstance(answer, RunDecision):
        return answer
    state, sampled = answer
    if state == "Failing" and since is not None:
        again = sampled.model_copy(
            update={
                "phase": RunPhase.DIAGNOSING,
                "timeline": told(status.timeline, now, "RecoveryLost", "users are failing again: diagnosing anew"),
                "now": Now(doing="diagnosing again: recovery did not last", next=(command(view.run, "watch"),)),
            }
        )
        return RunDecision(status=again, effects=(EndRound(),), wake_at=now)
    gave_up_at = (recovery.helped_at or status.diagnosed_at or now) + _within(view)
    if state != "Passing" and recovery.passing_since is None and now >= gave_up_at:
        stopped = next((p for p in view.plans if p.status.state in STOPPED), None)
        if stopped is not None:
            message = f"{stopped.spec.title}: {stopped.status.message}"
            return end(view, sampled, RunPhase.UNRESOLVED, "FixInconclusive", message, now)
        message = "users are not well again in time: look at the recovery checks"
        return end(view, sampled, RunPhase.UNRESOLVED, "RecoveryNotReached", message, now)
    if (
        state == "Failing"
        and recovery.helped_at
        and now >= (status.diagnosed_at or now) + view.timing.scaled(DIAGNOSE_EVERY)
    ):
        # The look after the fix may have met a passing state, such as instances that are just being replaced.
        again = sampled.model_copy(
            update={
                "phase": RunPhase.DIAGNOSING,
                "timeline": told(status.timeline, now, "LookingAgain", "users are not well yet: diagnosing again"),
                "now": Now(doing="diagnosing again: users are not well yet", next=(command(view.run, "watch"),)),
            }
        )
        return RunDecision(status=again, effects=(EndRound(),), wake_at=now)
    waiting = waiting_stable(view, sampled, now)
    return RunDecision(status=waiting, effects=(EndRound(),), wake_at=next_sample(view, now))
