"""Decide for a plan: from Proposed to its outcome, one journaled call at a time.

A plan is executed only while its run names it in `activePlan`; what puts a settled plan back (`revertOf`) and the end
of a temporary fix need no run. Every call is written as an intent by compare-and-swap before it is made; what happens
to an interrupted one is a property of the call (`Repeat`). Vocabulary: an *orphan* is an intent whose outcome nobody
in this process knows; it is judged at its deadline plus the lease. A plan is *held* while no call may be made
(paused, suspended), and *stopped* by people: then the call under way ends and no other begins. Source: design §1
ideas 3 and 4, decisions 5, 11, 15, 16.
"""

from datetime import datetime

from ...api.plan import PlanState
from ..approval import OPEN_STATES
from .calling import decide_calling
from .ending import decide_ended, decide_verifying
from .opening import decide_open
from .people import too_late
from .turn import Turn
from .view import TERMINAL, PlanDecision, PlanView


def decide_plan(view: PlanView, now: datetime) -> PlanDecision:
    """Return the next status, effects and wake-up of a plan. Total and deterministic.

    Units: `now` is aware UTC. Shape: with nothing to do, the stored status comes back as it is.
    """
    turn = Turn(view, now)
    status = view.plan.status
    if status.settled:
        return turn.stay()
    if status.state in OPEN_STATES:
        return decide_open(turn)
    if (status.epoch or 0) > view.epoch:
        return turn.stay()  # a newer leader is at work: whoever still runs here may change nothing
    if status.epoch != view.epoch and status.state not in TERMINAL:
        return turn.write(epoch=view.epoch, wake_at=now)
    late = too_late(turn)
    if late:
        return turn.stay(*late, wake_at=now)
    if status.state in TERMINAL:
        return decide_ended(turn)
    if status.state == PlanState.APPLYING:
        return decide_calling(turn, "Apply")
    if status.state == PlanState.VERIFYING:
        return decide_verifying(turn)
    return decide_calling(turn, "Undo")
