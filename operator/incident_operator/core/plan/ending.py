"""After the calls: what verification shows, what people stop, the undo, and the life of a temporary fix."""

from typing import Any

from ...api.intervention import Intervention, Verb
from ...api.plan import CallState, JournalEntry, PlanState, TemporaryStatus
from ..approval import agreed, refused
from ..redact import redact
from ..schedule import earliest
from ..story import Tell
from .people import Stop, held_by, said, stop_of
from .turn import Turn, blocked, is_stale, journal_with
from .view import DONE, CheckUndo, Execute, Judge, PlanDecision, Unprotect


def stopped(turn: Turn, stop: Stop, entry: JournalEntry | None = None) -> PlanDecision:
    """End a plan that people stopped: put back what was done if they said so, else say exactly what stays.

    `entry` is the newest call's outcome, where it is not stored yet.
    """
    journal = turn.status.calls if entry is None else journal_with(turn, entry)
    made = [e for e in journal if e.phase == "Apply" and e.state in DONE]
    unsure = [e for e in journal if e.phase == "Apply" and e.state == CallState.UNKNOWN]
    changes: dict[str, Any] = {"calls": journal}
    if stop.revert and (made or unsure) and turn.view.plan.spec.undo is not None:
        if entry is not None:
            return turn.write(**changes, wake_at=turn.now)
        return put_back(turn, stop.reason, stop.message, stop.word)
    answers = (
        ()
        if stop.word is None
        else (refused(stop.word, "NothingToRevert", turn.view.plan.spec.irreversible or "no call took effect"),)
    )
    if not made and not unsure:
        return turn.end(PlanState.EXPIRED, stop.reason, f"{stop.message}: nothing was changed", *answers, **changes)
    calls = turn.view.plan.spec.calls
    reached = {e.index for e in made} | {e.index for e in unsure}
    rest = [c.summary or f"{c.service}:{c.operation}" for i, c in enumerate(calls) if i not in reached]
    message = f"{stop.message}; {len(made)} of {len(calls)} calls were made and stay in place: "
    message += ", ".join(e.summary for e in made) or "none for sure"
    if unsure:
        message += f"; not known of: {', '.join(e.summary for e in unsure)}"
    if rest:
        message += f"; not made: {', '.join(rest)}"
    left = Tell(stop.reason, message, warning=True)
    return turn.end(PlanState.INCONCLUSIVE, stop.reason, message, left, *answers, **changes)


def decide_verifying(turn: Turn) -> PlanDecision:
    """Look for the signal until it is seen, harm is seen, or its time is over."""
    view, now, status = turn.view, turn.now, turn.status
    stop = stop_of(turn)
    if stop is not None:
        return stopped(turn, stop)
    verify, timing = view.plan.spec.verify, view.timing
    applied_at, deadline = status.applied_at, status.verify_deadline
    if applied_at is None or deadline is None:
        return turn.end(PlanState.UNKNOWN, "JournalIncomplete", "the plan's status lacks appliedAt")
    due = applied_at + timing.scaled(verify.wait)
    if now < due:
        return turn.stay(wake_at=due)
    judged = view.judged
    if judged is None or judged.at < due:
        return turn.stay(Judge())
    # Redacted here, not only when written: what is told must equal what is stored, or it is told for ever.
    outcome, message = judged.judgement.outcome, redact(judged.judgement.message)[:1024]
    if outcome == "Helped":
        return _helped(turn, message, judged.evidence)
    if outcome == "Worse":
        undo = view.plan.spec.undo
        if undo is not None and view.plan.spec.revert_if_worse:
            return put_back(turn.having(evidence=judged.evidence), "Worse", message)
        return turn.end(PlanState.WORSE, "Worse", message, evidence=judged.evidence)
    if judged.at >= deadline:
        if judged.judgement.measured:
            return turn.end(PlanState.NO_EFFECT, "NoEffect", message, evidence=judged.evidence)
        return turn.end(PlanState.INCONCLUSIVE, "NotMeasured", message, evidence=judged.evidence)
    again = earliest(judged.at + timing.scaled(verify.every), deadline)
    if again is not None and now >= again:
        return turn.stay(Judge())
    waiting = judged.judgement.waiting_for
    if waiting and status.message != message:
        return turn.write(reason="AwaitingSignal", message=message, wake_at=again)
    return turn.stay(wake_at=again)


def _helped(turn: Turn, message: str, evidence: Any) -> PlanDecision:
    """End well; a temporary fix stays in sight until its time is over."""
    temporary = turn.view.plan.spec.temporary
    if temporary is None:
        return turn.end(PlanState.HELPED, "Verified", message, evidence=evidence)
    until = turn.now + temporary.review_after
    message = f"{message}; temporary until {until:%Y-%m-%d %H:%M}Z"
    in_force = TemporaryStatus(until=until)
    return turn.end(PlanState.HELPED, "Verified", message, evidence=evidence, temporary=in_force, settled=False)


def put_back(turn: Turn, reason: str, message: str, word: Intervention | None = None) -> PlanDecision:
    """Put back what was there, if it is still as the fix left it: nobody's later change is overwritten."""
    view = turn.view
    answers = (agreed(word),) if word is not None else ()
    held = held_by(turn)
    if held:
        return blocked(turn, held)
    if view.guarded is None or (view.guarded.gates and is_stale(turn, view.guarded.at)):
        return Turn(view, turn.now).stay(CheckUndo())
    if view.guarded.changed:
        message = f"{message}, but {view.guarded.changed}: nothing was put back"
        told = Tell("UndoBlocked", message, warning=True)
        return turn.end(PlanState.UNDO_BLOCKED, "ChangedSince", message, told, *answers)
    if view.guarded.gates:
        return blocked(turn, view.guarded.gates)
    return turn.write(
        Execute("Undo", 0, 1),
        *answers,
        state=PlanState.REVERTING,
        reason=reason,
        message=message[:1024],
        epoch=view.epoch,
        gates=(),
        calls=(*turn.status.calls, turn.intend("Undo", 0, 1)),
    )


def decide_ended(turn: Turn) -> PlanDecision:
    """Settle a plan that has ended; a temporary fix that helped first lives its time."""
    temporary = turn.status.temporary
    if turn.status.state == PlanState.HELPED and temporary is not None and temporary.flagged is None:
        return _in_force(turn, temporary)
    if turn.is_protected:
        return turn.stay(Unprotect())
    return turn.write(settled=True)


def _in_force(turn: Turn, temporary: TemporaryStatus) -> PlanDecision:
    """Wait for the end of a temporary fix, or for people's word on it."""
    view, spec = turn.view, turn.view.plan.spec
    revert, keep = said(turn, Verb.REVERT), said(turn, Verb.KEEP)
    if revert is not None and spec.undo is not None:
        return put_back(turn, "Reverting", f"{revert.spec.responder} asked to put it back", revert)
    if revert is not None:
        answer = refused(revert, "NothingToRevert", spec.irreversible or "the plan has no undo")
        return turn.stay(answer, wake_at=turn.now)
    if keep is not None:
        message = f"{keep.spec.responder} keeps it; {turn.status.message}"[:1024]
        return turn.write(agreed(keep), temporary=None, reason="Kept", message=message, wake_at=turn.now)
    if view.plan.metadata.deletion_timestamp is not None:
        if spec.deletion_policy == "Revert" and spec.undo is not None:
            return put_back(turn, "Deleted", "the plan was deleted")
        return _flag(turn, temporary, f"the plan was deleted, and its temporary fix stays behind: {spec.title}")
    if turn.now < temporary.until:
        return turn.stay(wake_at=temporary.until)
    wanted = spec.temporary is not None and spec.temporary.on_expiry == "UndoIfSafe" and spec.undo is not None
    if not wanted:
        return _flag(turn, temporary, f"the time of this temporary fix is over: {spec.title}: keep it or put it back")
    if view.guarded is not None and view.guarded.changed:
        return _flag(turn, temporary, f"the time of this temporary fix is over, but {view.guarded.changed}: look at it")
    return put_back(turn, "TemporaryExpired", "the time of this temporary fix is over")


def _flag(turn: Turn, temporary: TemporaryStatus, message: str) -> PlanDecision:
    flagged = temporary.model_copy(update={"flagged": message[:1024]})
    return turn.write(Tell("TemporaryFix", message, warning=True), temporary=flagged, wake_at=turn.now)
