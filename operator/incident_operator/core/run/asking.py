"""While people are asked: users are watched, everything is looked at again, and the wait has an end."""

from datetime import datetime, timedelta

from ...api.run import Now, RunPhase
from ..plan import APPROVAL_TIMEOUT
from ..schedule import earliest
from ..story import told
from .choosing import is_anything_open
from .diagnosing import diagnose
from .ending import end, resolved
from .recovery import DIAGNOSE_EVERY, is_stable, sample
from .view import EndRound, RunDecision, RunView, StartRound, command

#: How often recovery is sampled meanwhile. Source: decision 12.
SAMPLE_EVERY = timedelta(seconds=60)


def ask_on(view: RunView, now: datetime) -> RunDecision:
    """Wait for people: sample recovery, diagnose anew, give up when their time is over."""
    run, status = view.run, view.run.status
    if view.round is not None and view.round.kind == "Full":
        return diagnose(view, now)
    if is_stable(view, now):
        return resolved(view, now)
    until = (status.awaiting_since or now) + (run.spec.approval_timeout or APPROVAL_TIMEOUT)
    if now >= until:
        because = f": {status.now.because}" if status.now is not None and status.now.because else ""
        return end(view, status, RunPhase.UNRESOLVED, "ApprovalTimeout", f"nobody agreed in time{because}", now)
    if status.paused is None and not is_anything_open(view):
        again = status.model_copy(
            update={
                "phase": RunPhase.DIAGNOSING,
                "timeline": told(status.timeline, now, "LookingAgain", "no plan is open any more: diagnosing again"),
                "now": Now(doing="diagnosing again: no plan is open any more", next=(command(run, "watch"),)),
            }
        )
        return RunDecision(status=again, effects=(EndRound(),), wake_at=now)
    diagnose_at = (status.diagnosed_at or now) + view.timing.scaled(DIAGNOSE_EVERY)
    if view.round is None and now >= diagnose_at:
        return RunDecision(status=status, effects=(StartRound("Full"),))
    answer = sample(view, view.timing.scaled(SAMPLE_EVERY), now)
    if isinstance(answer, RunDecision):
        wake_at = earliest(answer.wake_at, diagnose_at, until) if answer.wake_at is not None else None
        return RunDecision(status=answer.status, effects=answer.effects, wake_at=wake_at)
    _, sampled = answer
    return RunDecision(status=sampled, effects=(EndRound(),), wake_at=now)
