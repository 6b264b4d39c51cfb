"""Decide for a plan: from Proposed to its outcome, one journaled call at a time.

A plan is executed only while its run names it in `activePlan`. Every call is written as an intent by
compare-and-swap before it is made; what happens to an interrupted one is a property of the call (`Repeat`).
Vocabulary: an *orphan* is an intent whose outcome nobody in this process knows; it is judged at its deadline plus
the lease. Source: design §1 idea 3, decisions 5, 11, 15.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ..api.plan import (
    Call,
    CallState,
    GateVerdict,
    JournalEntry,
    PlanState,
    RemediationPlan,
    RemediationPlanStatus,
    Repeat,
)
from .draft import Judgement
from .redact import redact
from .schedule import Timing, earliest

Phase = Literal["Apply", "Undo"]

#: Ends: nothing is called after them (invariant I3).
TERMINAL = frozenset(
    {
        PlanState.HELPED,
        PlanState.NO_EFFECT,
        PlanState.WORSE,
        PlanState.INCONCLUSIVE,
        PlanState.REVERTED,
        PlanState.UNDO_BLOCKED,
        PlanState.REJECTED,
        PlanState.SUPERSEDED,
        PlanState.EXPIRED,
        PlanState.UNKNOWN,
    }
)
#: Error codes after which a call that may be repeated is worth repeating with a fresh guard.
RETRYABLE = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ResourceConflictException",
        "ConcurrentModification",
        "ConcurrentModificationException",
        "PreconditionFailedException",
        "PreconditionFailed",
        # Ours: surely not sent.
        "NotLeader",
        "NotSentInTime",
    }
)
MAX_ATTEMPTS = 4
RETRY_AFTER = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class Replanned:
    """What looking again just before the first call showed."""

    same: bool
    reason: str = ""
    message: str = ""
    pre_image: Any = None
    gates: tuple[GateVerdict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came of a call made by this process. `definite` False: it may or may not have taken effect."""

    phase: Phase
    index: int
    attempt: int
    ok: bool
    definite: bool = True
    code: str | None = None
    request_id: str | None = None
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What looking for an orphan's effect showed; None: the facts can't tell.

    `world_changed`: the call had no effect, and the plan would not be the same today.
    """

    phase: Phase
    index: int
    attempt: int
    applied: bool | None
    world_changed: str = ""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What verification showed at an instant."""

    at: datetime
    judgement: Judgement
    evidence: Any = None


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """All that the decision may know.

    Shape: `run_state` tells whether the run holds the baton for this plan (Active), waits (Idle), or has ended or is
    gone (Over). The optional observations were made by this process since the stored status was read; `busy` says
    that an effect of this process for this plan is under way.
    """

    plan: RemediationPlan
    run_state: Literal["Active", "Idle", "Over"]
    run_outcome: str = ""
    epoch: int
    holder: str
    call_timeout: timedelta
    timing: Timing
    busy: bool = False
    replanned: Replanned | None = None
    answered: Answered | None = None
    observed: Observed | None = None
    judged: Judged | None = None


@dataclass(frozen=True)
class Replan:
    """Observe again and compare with the plan (WorldChanged)."""


@dataclass(frozen=True)
class Execute:
    """Make the call that the stored journal names as intended."""

    phase: Phase
    index: int
    attempt: int


@dataclass(frozen=True)
class Look:
    """Look whether an orphaned call took effect."""

    phase: Phase
    index: int
    attempt: int


@dataclass(frozen=True)
class Judge:
    """Observe since the last call, and judge."""


PlanEffect = Replan | Execute | Look | Judge


@dataclass(frozen=True, kw_only=True)
class PlanDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: RemediationPlanStatus
    effects: tuple[PlanEffect, ...] = ()
    wake_at: datetime | None = None


@dataclass(frozen=True)
class _Turn:
    """One decision under way: the view, the instant, and shorthand for the stored status."""

    view: PlanView
    now: datetime
    status: RemediationPlanStatus = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", self.view.plan.status)

    def stay(self, *effects: PlanEffect, wake_at: datetime | None = None) -> PlanDecision:
        """Write nothing."""
        return PlanDecision(status=self.status, effects=() if self.view.busy else effects, wake_at=wake_at)

    def write(self, *effects: PlanEffect, wake_at: datetime | None = None, **changes: Any) -> PlanDecision:
        """Store these changes, then perform the effects."""
        return PlanDecision(status=self.status.model_copy(update=changes), effects=effects, wake_at=wake_at)

    def end(self, state: PlanState, reason: str, message: str, **changes: Any) -> PlanDecision:
        """Store the end of the plan. `settled` takes it out of every watch with the same write."""
        return self.write(
            state=state, reason=reason, message=message[:1024], finished_at=self.now, settled=True, **changes
        )

    def calls(self, phase: Phase) -> tuple[Call, ...]:
        spec = self.view.plan.spec
        return spec.calls if phase == "Apply" else (spec.undo.calls if spec.undo else ())

    def intend(self, phase: Phase, index: int, attempt: int) -> JournalEntry:
        """Return the journal's intent of a call: of this holder, in this epoch (invariant I1)."""
        call = self.calls(phase)[index]
        return JournalEntry(
            phase=phase,
            index=index,
            summary=call.summary or f"{call.service}:{call.operation}",
            state=CallState.INTENDED,
            attempt=attempt,
            intent_at=self.now,
            deadline=self.now + min(call.timeout, self.view.call_timeout),
            epoch=self.view.epoch,
            holder=self.view.holder,
        )


def decide_plan(view: PlanView, now: datetime) -> PlanDecision:
    """Return the next status, effects and wake-up of a plan. Total and deterministic.

    Units: `now` is aware UTC. Shape: with nothing to do, the stored status comes back as it is.
    """
    turn = _Turn(view, now)
    state = view.plan.status.state
    if view.plan.status.settled:
        return turn.stay()
    if state in TERMINAL:
        return turn.write(settled=True)
    if state in (PlanState.PROPOSED, PlanState.APPROVED):
        return _proposed(turn)
    if (view.plan.status.epoch or 0) > view.epoch:
        return turn.stay()  # a newer leader is at work: whoever still runs here may change nothing
    if view.plan.status.epoch != view.epoch:
        return turn.write(epoch=view.epoch, wake_at=now)
    if state == PlanState.APPLYING:
        return _calling(turn, "Apply")
    if state == PlanState.VERIFYING:
        return _verifying(turn)
    return _calling(turn, "Undo")


def _proposed(turn: _Turn) -> PlanDecision:
    view = turn.view
    if view.run_state == "Over":
        return turn.end(
            PlanState.EXPIRED,
            "RunFinished",
            f"the run ended{' ' + view.run_outcome if view.run_outcome else ''} without this plan; nothing was changed",
        )
    if view.run_state == "Idle":
        return turn.stay()
    if view.replanned is None:
        return turn.stay(Replan())
    if not view.replanned.same:
        return turn.end(PlanState.SUPERSEDED, view.replanned.reason, view.replanned.message)
    if view.replanned.gates:
        first = view.replanned.gates[0]
        return turn.end(PlanState.SUPERSEDED, first.name, first.message, gates=view.replanned.gates)
    return turn.write(
        Execute("Apply", 0, 1),
        state=PlanState.APPLYING,
        reason="Applying",
        message=turn.intend("Apply", 0, 1).summary,
        epoch=view.epoch,
        started_at=turn.now,
        pre_image=view.replanned.pre_image,
        gates=(),
        calls=(turn.intend("Apply", 0, 1),),
    )


def _calling(turn: _Turn, phase: Phase) -> PlanDecision:
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
        return _after(turn, done)
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


def _orphan_seen(turn: _Turn, entry: JournalEntry, observed: Observed) -> PlanDecision:
    if observed.applied:
        return _after(turn, entry.model_copy(update={"state": CallState.OBSERVED, "finished_at": turn.now}))
    lost = entry.model_copy(
        update={"state": CallState.FAILED, "finished_at": turn.now, "error": "NoEffectObserved"}
        if observed.applied is False
        else {"state": CallState.UNKNOWN, "finished_at": turn.now}
    )
    if observed.world_changed and entry.phase == "Apply" and entry.index == 0:
        return turn.end(PlanState.SUPERSEDED, "WorldChanged", observed.world_changed, calls=_journal(turn, lost))
    if entry.attempt >= MAX_ATTEMPTS:
        return _gave_up(turn, lost)
    return _repeat(turn, lost)


def _after(turn: _Turn, entry: JournalEntry) -> PlanDecision:
    """Store the newest entry's outcome together with the next intent, or with the end of the phase."""
    view, now = turn.view, turn.now
    phase: Phase = entry.phase
    call = turn.calls(phase)[entry.index]
    if entry.state == CallState.FAILED:
        retryable = entry.error in RETRYABLE and call.repeat != Repeat.ONCE and entry.attempt < MAX_ATTEMPTS
        if retryable:
            pause = RETRY_AFTER * entry.attempt
            if turn.status.calls[-1].state == CallState.INTENDED:
                return turn.write(calls=_journal(turn, entry), wake_at=now + pause)
            if entry.finished_at is not None and now < entry.finished_at + pause:
                return turn.stay(wake_at=entry.finished_at + pause)
            return _repeat(turn, entry)
        return _gave_up(turn, entry)
    last = entry.index + 1 == len(turn.calls(phase))
    if entry.state == CallState.UNKNOWN and not last:
        return _gave_up(turn, entry)
    if not last:
        intent = turn.intend(phase, entry.index + 1, 1)
        return turn.write(
            Execute(phase, intent.index, 1), calls=(*_journal(turn, entry), intent), message=intent.summary
        )
    if phase == "Undo":
        return turn.end(PlanState.REVERTED, "Reverted", "what was changed is put back", calls=_journal(turn, entry))
    verify = view.plan.spec.verify
    return turn.write(
        state=PlanState.VERIFYING,
        reason="Verifying",
        message=verify.signal,
        applied_at=now,
        verify_deadline=now + view.timing.scaled(verify.deadline),
        calls=_journal(turn, entry),
        wake_at=now + view.timing.scaled(verify.wait),
    )


def _journal(turn: _Turn, entry: JournalEntry) -> tuple[JournalEntry, ...]:
    """Return the journal with its newest entry replaced by this one."""
    return (*turn.status.calls[:-1], entry)


def _repeat(turn: _Turn, entry: JournalEntry) -> PlanDecision:
    intent = turn.intend(entry.phase, entry.index, entry.attempt + 1)
    return turn.write(Execute(entry.phase, entry.index, intent.attempt), calls=(*_journal(turn, entry), intent))


def _gave_up(turn: _Turn, entry: JournalEntry) -> PlanDecision:
    """End a phase whose call failed for good, or can't be told."""
    journal = _journal(turn, entry)
    code = entry.error or "unknown outcome"
    if entry.phase == "Undo":
        return turn.end(PlanState.UNDO_BLOCKED, "UndoFailed", f"undo stopped at {entry.summary}: {code}", calls=journal)
    applied = [e for e in journal if e.phase == "Apply" and e.state in (CallState.SUCCEEDED, CallState.OBSERVED)]
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


def _verifying(turn: _Turn) -> PlanDecision:
    view, now, status = turn.view, turn.now, turn.status
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
        return turn.end(PlanState.HELPED, "Verified", message, evidence=judged.evidence)
    if outcome == "Worse":
        undo = view.plan.spec.undo
        if undo is not None and view.plan.spec.revert_if_worse:
            intent = turn.intend("Undo", 0, 1)
            return turn.write(
                Execute("Undo", 0, 1),
                state=PlanState.REVERTING,
                reason="Worse",
                message=message,
                evidence=judged.evidence,
                calls=(*status.calls, intent),
            )
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
