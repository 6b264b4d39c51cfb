"""Decide for a run: `decide_run` in `decide`, what it knows and asks for in `view`, one file for each of its turns."""

from ..story import Tell
from .again import plan_attempt, replaced, spent, to_replace
from .decide import decide_run
from .recovery import MIN_SAMPLES, stable_for
from .steps import not_called_for
from .view import (
    ENDS,
    FINALIZER,
    PASSING_ERRORS,
    CheckResult,
    EndRound,
    FixResult,
    PlanFixes,
    Protect,
    Refusal,
    Round,
    RunChecks,
    RunDecision,
    RunEffect,
    RunView,
    StartRound,
    StorePlans,
    Unprotect,
    detected_at,
    is_observe_only,
    outputs,
)

__all__ = [
    "ENDS",
    "FINALIZER",
    "MIN_SAMPLES",
    "PASSING_ERRORS",
    "CheckResult",
    "EndRound",
    "FixResult",
    "PlanFixes",
    "Protect",
    "Refusal",
    "Round",
    "RunChecks",
    "RunDecision",
    "RunEffect",
    "RunView",
    "StartRound",
    "StorePlans",
    "Tell",
    "Unprotect",
    "decide_run",
    "detected_at",
    "is_observe_only",
    "not_called_for",
    "outputs",
    "plan_attempt",
    "replaced",
    "spent",
    "stable_for",
    "to_replace",
]
