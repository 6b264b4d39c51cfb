"""What people and admins say of a plan under way: held, stopped, or too late.

A plan is *held* while no call may be made (paused, suspended) and goes on afterwards; it is *stopped* for good.
"""

from dataclasses import dataclass

from ...api.intervention import Intervention, Verb
from ...api.plan import GateVerdict, PlanState
from ..approval import Answer, agreed, refused
from .turn import Turn, is_about
from .view import PlanView


def held_by(turn: Turn) -> tuple[GateVerdict, ...]:
    """Return why no call may be made now, though the plan goes on later."""
    run, grant = turn.view.run, turn.view.grant
    gates = []
    if run is not None and run.status.paused is not None and turn.view.run_state == "Active":
        paused = run.status.paused
        why = f": {paused.reason}" if paused.reason else ""
        gates.append(GateVerdict(name="Paused", message=f"{paused.by} paused the run{why}; Resume lets it go on"))
    if grant is not None and grant.spec.suspended is not None:
        message = f"ActionGrant {grant.metadata.name} is suspended: {grant.spec.suspended.reason}"
        gates.append(GateVerdict(name="GrantSuspended", message=message))
    return tuple(gates)


def said(turn: Turn, verb: Verb) -> Intervention | None:
    """Return the first word of this verb about this plan that counts: it must be proven who said it."""
    if turn.view.admission is not None:
        return None
    return next((w for w in turn.view.words if w.spec.verb == verb and is_about(turn, w)), None)


def is_cancelled(view: PlanView) -> bool:
    """Tell whether the plan's run was cancelled or deleted."""
    run = view.run
    return run is not None and (run.status.cancelling is not None or run.metadata.deletion_timestamp is not None)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """People's word that the plan go no further."""

    reason: str
    revert: bool
    message: str
    word: Intervention | None = None


def stop_of(turn: Turn) -> Stop | None:
    """Return the strongest word that stops a plan under way; None while it may go on."""
    view, plan = turn.view, turn.view.plan
    reverts = plan.spec.deletion_policy == "Revert"
    if plan.metadata.deletion_timestamp is not None:
        return Stop(reason="Deleted", revert=reverts, message="the plan was deleted")
    word = said(turn, Verb.REVERT)
    if word is not None:
        return Stop(reason="Reverting", revert=True, message=f"{word.spec.responder} asked to put it back", word=word)
    run = view.run
    if view.run_state == "Over":
        if view.is_on_its_own:
            return None
        return Stop(reason="Cancelled", revert=False, message="the run is gone")
    if run is not None and run.status.cancelling is not None:
        cancelling = run.status.cancelling
        message = f"{cancelling.by} cancelled the run"
        return Stop(reason="Cancelled", revert=cancelling.then == "Revert", message=message)
    if run is not None and run.metadata.deletion_timestamp is not None:
        return Stop(reason="Cancelled", revert=reverts, message="the run was deleted")
    return None


def too_late(turn: Turn) -> tuple[Answer, ...]:
    """Return answers to words that can't count any more: what is under way is neither approved nor rejected."""
    state = turn.status.state
    answers = []
    for word in turn.view.words:
        if not is_about(turn, word):
            answers.append(refused(word, "WrongUID", "the plan is another object of that name now"))
        elif word.spec.verb == Verb.APPROVE:
            known = next((a for a in turn.status.approvals if a.intervention == word.metadata.name), None)
            if known is not None:
                answers.append(agreed(word))
                continue
            reason = "PlanChanged" if state == PlanState.SUPERSEDED else "TooLate"
            answers.append(refused(word, reason, f"the plan is {state} already"))
        elif word.spec.verb == Verb.REJECT:
            done = state == PlanState.REJECTED
            message = f"the plan is {state} already: pause or cancel the run, or revert the plan"
            answers.append(agreed(word) if done else refused(word, "TooLate", message))
        elif word.spec.verb == Verb.KEEP and not (state == PlanState.HELPED and turn.status.temporary is not None):
            answers.append(refused(word, "NothingToKeep", f"the plan is {state}: there is nothing to decide on yet"))
        elif word.spec.verb == Verb.REVERT and state == PlanState.REVERTING:
            answers.append(agreed(word))
    return tuple(answers)
