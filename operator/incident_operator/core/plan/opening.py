"""Before the first call: hear people, say what blocks, look again, begin."""

from collections.abc import Sequence
from datetime import datetime

from ...api.intervention import Verb
from ...api.meta import Automation
from ...api.plan import Approval, PlanState
from ..approval import Answer, agreed, decide_approval, refused
from ..gates import PASSING, GateFacts, closed
from ..redact import redact
from ..schedule import earliest
from ..story import Tell
from .people import held_by, is_cancelled
from .turn import Turn, blocked, is_about, is_stale
from .view import APPROVAL_TIMEOUT, BLOCKED_EVERY, Execute, PlanDecision, PlanView, Replan


def decide_open(turn: Turn) -> PlanDecision:
    """Hear what people say, say what blocks, and begin when the run hands over and nothing does."""
    view = turn.view
    rejected = next((w for w in view.words if w.spec.verb == Verb.REJECT and is_about(turn, w)), None)
    if view.run_state == "Over" and not view.is_on_its_own:
        outcome = view.run.status.outcome if view.run is not None else None
        ended = f" {view.run.status.phase}/{outcome}" if view.run is not None and outcome else ""
        message = f"the run ended{ended} without this plan; nothing was changed"
        return turn.end(PlanState.EXPIRED, "RunFinished", message)
    if view.plan.metadata.deletion_timestamp is not None or is_cancelled(view):
        return turn.end(
            PlanState.EXPIRED, "Cancelled", "its run was cancelled, or the plan deleted: nothing was changed"
        )
    if rejected is not None:
        why = f": {rejected.spec.reason}" if rejected.spec.reason else ""
        message = redact(f"{rejected.spec.responder} said no{why}")
        return turn.end(PlanState.REJECTED, "Rejected", message, Tell("Rejected", message), agreed(rejected))
    given_up_at = _given_up_at(view)
    if given_up_at is not None and turn.now >= given_up_at:
        return turn.end(PlanState.EXPIRED, "ApprovalTimeout", "nobody agreed in time; nothing was changed")
    approvals, answers = _hear(turn)
    if len(approvals) > len(turn.status.approvals):
        message = _last_word(approvals)
        return turn.write(Tell("Approval", message), *answers, approvals=approvals, message=message, wake_at=turn.now)
    if answers:
        return turn.stay(*answers, wake_at=turn.now)
    if view.run_state == "Active":
        return _begin(turn)
    return _waiting(turn)


def _given_up_at(view: PlanView) -> datetime | None:
    """Return when a plan without a run stops waiting for people; None where its run decides that."""
    created = view.plan.metadata.creation_timestamp
    waits_alone = view.plan.spec.revert_of is not None and view.run_state == "Over"
    return created + APPROVAL_TIMEOUT if waits_alone and created is not None else None


def _hear(turn: Turn) -> tuple[tuple[Approval, ...], list[Answer]]:
    """Return the approvals with the new ones, and an answer to every word but Reject."""
    view = turn.view
    approvals, answers = list(turn.status.approvals), list[Answer]()
    for word in view.words:
        if not is_about(turn, word):
            message = f"{view.plan.metadata.name} is another object of that name now"
            answers.append(refused(word, "WrongUID", message))
        elif word.spec.verb == Verb.APPROVE:
            if view.admission is not None:
                continue  # it counts once it is proven that its author was checked
            approval, answer = decide_approval(word, view.plan, approvals, view.asked, turn.now)
            answers.append(answer)
            if approval is not None:
                approvals.append(approval)
        elif word.spec.verb in (Verb.REVERT, Verb.KEEP):
            answers.append(refused(word, "NothingToRevert", "the plan has not been applied"))
    return tuple(approvals), answers


def _last_word(approvals: Sequence[Approval]) -> str:
    last = approvals[-1]
    glass = ", breaking the glass" if last.break_glass else ""
    override = f", overriding {', '.join(last.override)}" if last.override else ""
    return redact(f"{last.responder} agrees{glass}{override}" + (f": {last.reason}" if last.reason else ""))[:1024]


def gate_facts(view: PlanView, now: datetime) -> GateFacts:
    """Return what the gates of a plan may know of a view."""
    run = view.run
    return GateFacts(
        plan=view.plan.spec,
        run_automation=run.spec.automation if run is not None else Automation(),
        grant=view.grant,
        baseline=run.status.baseline if run is not None else None,
        now=now,
        approvals=view.plan.status.approvals,
        drill=run.spec.drill if run is not None else False,
        runbook_stale=view.runbook_stale,
        leading=view.leading,
        admission=view.admission,
        cooldown_until=view.cooldown_until,
        circuit_open=view.circuit_open,
        fixes=run.status.fixes if run is not None else (),
        skipped=run.status.skipped if run is not None else (),
    )


def _waiting(turn: Turn) -> PlanDecision:
    """Keep in status what blocks from the first diagnosis on, and say Approved when nothing does any more.

    Before that it is not known how users are, on which one of the gates rests.
    """
    view, status, now = turn.view, turn.status, turn.now
    gates = closed(gate_facts(view, now))
    again = earliest(_given_up_at(view), *(a.expires_at for a in status.approvals if a.expires_at > now))
    if gates:
        if any(gate.name in PASSING for gate in gates):
            again = earliest(again, now + BLOCKED_EVERY)
        diagnosed = view.run is not None and view.run.status.diagnosed_at is not None
        if status.state == PlanState.APPROVED:
            return turn.write(state=PlanState.PROPOSED, approved_at=None, gates=gates, wake_at=again)
        if gates != status.gates and (diagnosed or status.gates or view.is_on_its_own):
            return turn.write(gates=gates, wake_at=again)
        return turn.stay(wake_at=again)
    if status.state == PlanState.PROPOSED and (status.gates or status.approvals):
        return turn.write(state=PlanState.APPROVED, reason="Approved", approved_at=now, gates=(), wake_at=now)
    if status.state == PlanState.APPROVED and view.run_state == "Over":
        return _begin(turn)
    return turn.stay(wake_at=again)


def _begin(turn: Turn) -> PlanDecision:
    """Look again; make the first call if nothing changed and nothing blocks."""
    view = turn.view
    held = held_by(turn)
    if held:
        return blocked(turn, held)
    if view.replanned is None or (view.replanned.gates and is_stale(turn, view.replanned.at)):
        return turn.stay(Replan())
    if not view.replanned.same:
        return turn.end(PlanState.SUPERSEDED, view.replanned.reason, _void(turn, view.replanned.message))
    gates = view.replanned.gates
    lasting = [gate for gate in gates if gate.name not in PASSING]
    if lasting:
        return turn.end(PlanState.SUPERSEDED, lasting[0].name, _void(turn, lasting[0].message), gates=gates)
    if gates:
        return blocked(turn, gates)
    return turn.write(
        Execute("Apply", 0, 1),
        state=PlanState.APPLYING,
        reason="Applying",
        message=turn.intend("Apply", 0, 1).summary,
        epoch=view.epoch,
        started_at=turn.now,
        pre_image=view.replanned.pre_image,
        targets=view.replanned.targets,
        gates=(),
        calls=(turn.intend("Apply", 0, 1),),
    )


def _void(turn: Turn, message: str) -> str:
    who = sorted({a.responder for a in turn.status.approvals})
    return message + (f"; the approval of {', '.join(who)} is void" if who else "")
