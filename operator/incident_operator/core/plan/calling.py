"""The calls: each written down before it is made, each judged by what it is when its outcome is not known."""

from typing import Any

from ...api.plan import CallState, GateVerdict, JournalEntry, PlanState, Repeat
from .ending import stopped
from .people import held_by, stop_of
from .turn import Turn, journal_with
from .view import (
    BLOCKED_EVERY,
    DONE,
    MAX_ATTEMPTS,
    NOT_SENT,
    RETRY_AFTER,
    RETRYABLE,
    Await,
    Execute,
    Look,
    Observed,
    Phase,
    PlanDecision,
)

#: Of a call that was interrupted, and was found not to have taken effect.
NO_EFFECT_OBSERVED = "NoEffectObserved"


def decide_calling(turn: Turn, phase: Phase) -> PlanDecision:
    """Go on with the calls of this phase, from whatever the journal says of the newest one."""
    view, now = turn.view, turn.now
    entry = turn.status.calls[-1]
    answered, observed = view.answered, view.observed
    key = (entry.phase, entry.index, entry.attempt)
    if entry.state != CallState.INTENDED:
        return _after(turn, entry)
    if answered is not None and (answered.phase, answered.index, answered.attempt) == key and answered.definite:
        done = entry.model_copy(
            update={
                "state": CallState.SUCCEEDED if answered.ok else CallState.FAILED,
                "finished_at": now,
                "request_id": answered.request_id,
                "error": answered.code,
                "result": answered.result,
            }
        )
        return _after(_with_image(turn, answered.ok, phase, answered.post_image), done)
    if view.busy:
        return turn.stay()
    if observed is not None and (observed.phase, observed.index, observed.attempt) == key:
        return _orphan_seen(turn, entry, observed)
    # Nobody here knows: wait until whoever sent it can't be at work any more, then look.
    judged_at = entry.deadline + view.timing.lease_duration
    if answered is not None and (answered.phase, answered.index, answered.attempt) == key:
        judged_at = entry.deadline
    if now < judged_at:
        return turn.stay(wake_at=judged_at)
    call = turn.calls(phase)[entry.index]
    if call.repeat == Repeat.ONCE:
        return _after(turn, entry.model_copy(update={"state": CallState.UNKNOWN, "finished_at": now}))
    return turn.stay(Look(entry.phase, entry.index, entry.attempt))


def _with_image(turn: Turn, took_effect: bool, phase: Phase, image: Any) -> Turn:
    """Return the turn with what the undo's guards read after this call: the newest one counts."""
    return turn.having(post_image=image) if took_effect and phase == "Apply" else turn


def _orphan_seen(turn: Turn, entry: JournalEntry, observed: Observed) -> PlanDecision:
    if observed.applied:
        seen = _with_image(turn, True, observed.phase, observed.post_image)
        return _after(seen, entry.model_copy(update={"state": CallState.OBSERVED, "finished_at": turn.now}))
    lost = entry.model_copy(
        update={"state": CallState.FAILED, "finished_at": turn.now, "error": NO_EFFECT_OBSERVED}
        if observed.applied is False
        else {"state": CallState.UNKNOWN, "finished_at": turn.now}
    )
    if observed.world_changed and entry.phase == "Apply" and entry.index == 0:
        return turn.end(PlanState.SUPERSEDED, "WorldChanged", observed.world_changed, calls=journal_with(turn, lost))
    if entry.attempt >= MAX_ATTEMPTS:
        return _gave_up(turn, lost)
    if _waits(turn, entry.phase, entry.index):
        return _after(turn, lost)  # never again without the look that it waits for
    return _repeat(turn, lost)


def _after(turn: Turn, entry: JournalEntry) -> PlanDecision:
    """Store the newest entry's outcome together with the next intent, or with the end of the phase."""
    phase: Phase = entry.phase
    last = entry.index + 1 == len(turn.calls(phase))
    again = entry.state == CallState.FAILED and _may_repeat(turn, entry)
    if (entry.state == CallState.FAILED and not again) or (entry.state == CallState.UNKNOWN and not last):
        return _gave_up(turn, entry)
    if last and not again:
        return _all_made(turn, entry)
    stop = stop_of(turn) if phase == "Apply" else None
    if stop is not None:
        return stopped(turn, stop, entry if entry != turn.status.calls[-1] else None)
    held = held_by(turn)
    if held:
        return _hold(turn, entry, held)
    if again:
        return _again(turn, entry)
    waits = _awaiting(turn, entry, entry.index + 1) if phase == "Apply" else None
    if waits is not None:
        return waits
    intent = turn.intend(phase, entry.index + 1, 1)
    return turn.write(
        Execute(phase, intent.index, 1), calls=(*journal_with(turn, entry), intent), message=intent.summary, gates=()
    )


def _waits(turn: Turn, phase: Phase, index: int) -> bool:
    """Tell whether the call of this index is made only once what it needs was seen."""
    return phase == "Apply" and turn.calls(phase)[index].ready_within is not None


def _awaiting(turn: Turn, entry: JournalEntry, index: int) -> PlanDecision | None:
    """Wait until the calls so far have brought about what the one of this index needs; None: it may be made now.

    A look that was made after the deadline decides: a plan that was held that long is not ended unseen. A call that is
    made again is looked at again: what was ready for it before it failed may not be any more.
    """
    view, now = turn.view, turn.now
    following = turn.calls("Apply")[index]
    if following.ready_within is None:
        return None
    seen = view.awaited if view.awaited is not None and view.awaited.index == index else None
    if seen is not None and not seen.missing and now < seen.at + BLOCKED_EVERY:
        return None
    if view.busy:
        return turn.stay()
    until = (entry.finished_at or now) + view.timing.scaled(following.ready_within)
    journal = journal_with(turn, entry)
    if seen is not None and seen.missing and seen.at >= until:
        made = sum(e.phase == "Apply" and e.state in DONE for e in journal)
        message = f"{made} of {len(turn.calls('Apply'))} calls are made and stay in place; then {seen.missing}"
        return turn.end(PlanState.INCONCLUSIVE, "NotReadyInTime", message, calls=journal)
    again = now if seen is None else seen.at + view.timing.scaled(view.plan.spec.verify.every)
    effects = (Await(index),) if now >= again or not (seen and seen.missing) else ()
    message = f"next: {following.summary}" + (f"; {seen.missing}" if seen is not None and seen.missing else "")
    if (journal, message) == (turn.status.calls, turn.status.message):
        return turn.stay(*effects, wake_at=again if not effects else None)
    return turn.write(*effects, calls=journal, message=message, gates=(), wake_at=again if not effects else None)


def _may_repeat(turn: Turn, entry: JournalEntry) -> bool:
    """Tell whether a call that failed is worth making again: it was surely not sent, or may be repeated."""
    call = turn.calls(entry.phase)[entry.index]
    unseen = entry.error in RETRYABLE or entry.error == NO_EFFECT_OBSERVED
    safe = entry.error in NOT_SENT or (unseen and call.repeat != Repeat.ONCE)
    return safe and entry.attempt < MAX_ATTEMPTS


def _again(turn: Turn, entry: JournalEntry) -> PlanDecision:
    """Repeat a failed call, a little later each time."""
    now, pause = turn.now, RETRY_AFTER * entry.attempt
    if turn.status.calls[-1].state == CallState.INTENDED:
        return turn.write(calls=journal_with(turn, entry), wake_at=now + pause)
    if entry.finished_at is not None and now < entry.finished_at + pause:
        return turn.stay(wake_at=entry.finished_at + pause)
    waits = _awaiting(turn, entry, entry.index) if entry.phase == "Apply" else None
    return waits if waits is not None else _repeat(turn, entry)


def _hold(turn: Turn, entry: JournalEntry, held: tuple[GateVerdict, ...]) -> PlanDecision:
    """Make no further call for now, and say what was made and what comes next."""
    calls, journal, again = turn.calls(entry.phase), journal_with(turn, entry), turn.now + BLOCKED_EVERY
    made = sum(e.phase == entry.phase and e.state in DONE for e in journal)
    following = calls[entry.index if entry.state == CallState.FAILED else entry.index + 1]
    message = f"{made} of {len(calls)} calls are made; next: {following.summary}; {held[0].message}"
    if (journal, held, message) == (turn.status.calls, turn.status.gates, turn.status.message):
        return turn.stay(wake_at=again)
    return turn.write(calls=journal, gates=held, message=message, wake_at=again)


def _all_made(turn: Turn, entry: JournalEntry) -> PlanDecision:
    """End the phase: what was put back is over, what was applied is verified."""
    view, now, journal = turn.view, turn.now, journal_with(turn, entry)
    if entry.phase == "Undo":
        return turn.end(PlanState.REVERTED, "Reverted", "what was changed is put back", calls=journal)
    if view.plan.spec.revert_of is not None:
        message = f"what {view.plan.spec.revert_of} changed is put back"
        return turn.end(PlanState.REVERTED, "Reverted", message, calls=journal)
    verify = view.plan.spec.verify
    return turn.write(
        state=PlanState.VERIFYING,
        reason="Verifying",
        message=verify.signal,
        applied_at=now,
        verify_deadline=now + view.timing.scaled(verify.deadline),
        calls=journal,
        gates=(),
        wake_at=now + view.timing.scaled(verify.wait),
    )


def _repeat(turn: Turn, entry: JournalEntry) -> PlanDecision:
    intent = turn.intend(entry.phase, entry.index, entry.attempt + 1)
    effect = Execute(entry.phase, entry.index, intent.attempt)
    return turn.write(effect, calls=(*journal_with(turn, entry), intent), gates=())


def _gave_up(turn: Turn, entry: JournalEntry) -> PlanDecision:
    """End a phase whose call failed for good, or can't be told."""
    journal = journal_with(turn, entry)
    code = entry.error or "unknown outcome"
    if entry.phase == "Undo":
        return turn.end(PlanState.UNDO_BLOCKED, "UndoFailed", f"undo stopped at {entry.summary}: {code}", calls=journal)
    applied = [e for e in journal if e.phase == "Apply" and e.state in DONE]
    if entry.state == CallState.UNKNOWN:
        return turn.end(
            PlanState.UNKNOWN, "CallUnknown", f"whether {entry.summary} took effect can't be told", calls=journal
        )
    if applied:
        return turn.end(
            PlanState.INCONCLUSIVE,
            "PartlyApplied",
            f"{entry.summary} failed ({code}) after {len(applied)} calls that stay in place",
            calls=journal,
        )
    return turn.end(PlanState.NO_EFFECT, "CallFailed", f"{entry.summary} failed: {code}", calls=journal)
