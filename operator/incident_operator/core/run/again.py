"""A fix that is planned anew while its run goes on: the same plan, one in its place, or none any more."""

from collections.abc import Sequence
from datetime import datetime

from ...api.plan import PlanState, RemediationPlan, RemediationPlanStatus
from ...api.run import IncidentRunStatus
from ..approval import OPEN_STATES
from ..plan import TERMINAL
from .view import HARMED

#: Why a plan is Superseded that another one of its fix took the place of, before anybody began it.
REPLACED = "Replaced"
_ONCE = frozenset({PlanState.HELPED, PlanState.REJECTED, *HARMED})


def plan_attempt(plans: Sequence[RemediationPlan], fix: str, hash_: str, candidates: Sequence[str] = ()) -> int:
    """Return the number of the next attempt at a fix, or that of its unsettled plan. Source: decision 13.

    Shape: `hash_` and `candidates` are those of the plan to be. Where a plan of that number and hash is over, or waits
    and means none of these candidates any more, it is not that one again: its name is taken, so the next number is due.
    """
    mine = [p for p in plans if p.spec.fix == fix and p.spec.revert_of is None]
    latest = max((p.spec.attempt for p in mine), default=0)
    open_ = [p.spec.attempt for p in mine if not p.status.settled]
    if not open_:
        return latest + 1
    attempt = max(open_)
    same = next((p for p in mine if (p.spec.attempt, p.spec.hash) == (attempt, hash_)), None)
    return latest + 1 if same is not None and (same.status.settled or _means_others(same, candidates)) else attempt


def _means_others(plan: RemediationPlan, candidates: Sequence[str]) -> bool:
    """Tell whether a plan that waits could act on nothing of what is planned now."""
    waits = plan.status.state in OPEN_STATES and bool(plan.spec.candidates) and bool(candidates)
    return waits and not set(plan.spec.candidates) & set(candidates)


def to_replace(plans: Sequence[RemediationPlan], fresh: RemediationPlan) -> tuple[RemediationPlan, ...]:
    """Return the plans whose place a fresh one takes: open ones of its fix that are another plan."""
    return tuple(
        old
        for old in plans
        if old.spec.fix == fresh.spec.fix
        and old.metadata.name != fresh.metadata.name
        and not old.status.settled
        and old.status.state in OPEN_STATES
        and old.spec.revert_of is None
    )


def replaced(old: RemediationPlan, by: RemediationPlan, now: datetime) -> RemediationPlanStatus:
    """Return the end of a plan whose place another one takes. It names that one: people read and approve it instead."""
    who = sorted({a.responder for a in old.status.approvals})
    void = f"; the approval of {', '.join(who)} is void" if who else ""
    return old.status.model_copy(
        update={
            "state": PlanState.SUPERSEDED,
            "reason": REPLACED,
            "message": f"{by.metadata.name} takes its place: a newer diagnosis plans this fix otherwise{void}"[:1024],
            "gates": (),
            "finished_at": now,
            "settled": True,
        }
    )


def spent(plan: RemediationPlan, plans: Sequence[RemediationPlan], status: IncidentRunStatus) -> tuple[str, str] | None:
    """Return why a plan is not worth storing: reason and message; None where it is.

    What helped may be needed again for a cause that shows only now, but never the same change twice; nor one that was
    refused or did harm. A fix without effect is not tried again (decision 11). A person's Retry lets each be anew.
    """
    mine = [
        p
        for p in plans
        if p.spec.fix == plan.spec.fix
        and p.metadata.name not in status.waived
        and (p.status.settled or p.status.state in TERMINAL)
    ]
    same = next((p for p in mine if p.spec.hash == plan.spec.hash and p.status.state in _ONCE), None)
    if same is not None and same.status.state == PlanState.REJECTED:
        return "Rejected", f"this very plan was refused: {same.status.message}"
    if same is not None:
        return "TriedAlready", f"this very plan was applied before: {same.status.state}: {same.status.message}"
    idle = next((p for p in mine if p.status.state == PlanState.NO_EFFECT), None)
    return None if idle is None else ("TriedAlready", f"this fix had no effect: {idle.status.message}")
