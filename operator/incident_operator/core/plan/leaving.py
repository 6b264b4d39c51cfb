"""What a leader that is told to end still does for a plan: it stores what came of its calls, and begins nothing.

The successor goes on from a journal without a call in doubt, and need not wait until one can be judged.
"""

from ...api.plan import CallState, RemediationPlanStatus
from .view import Look, PlanDecision


def last_words(before: RemediationPlanStatus, decision: PlanDecision) -> PlanDecision:
    """Return of a decision only what ends something: no new intent, and no effect but to look for a lost answer."""
    looks = tuple(effect for effect in decision.effects if isinstance(effect, Look))
    kept = tuple(c for c in decision.status.calls if c.state != CallState.INTENDED or c in before.calls)
    if kept == decision.status.calls:
        return PlanDecision(status=decision.status, effects=looks, wake_at=decision.wake_at)
    return PlanDecision(status=before.model_copy(update={"calls": kept}))
