"""One decision under way: the view, the instant, and shorthand for what is stored and what is written."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...api.intervention import Intervention
from ...api.plan import Call, CallState, GateVerdict, JournalEntry, PlanState, RemediationPlanStatus
from .view import BLOCKED_EVERY, FINALIZER, SLOW, Phase, PlanDecision, PlanEffect, PlanView


@dataclass(frozen=True)
class Turn:
    """One decision under way: the view, the instant, and shorthand for the stored status."""

    view: PlanView
    now: datetime
    status: RemediationPlanStatus = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", self.view.plan.status)

    def stay(self, *effects: PlanEffect, wake_at: datetime | None = None) -> PlanDecision:
        """Write nothing. While a slow effect is under way, no other begins."""
        now = tuple(e for e in effects if not (self.view.busy and isinstance(e, SLOW)))
        return PlanDecision(status=self.status, effects=now, wake_at=wake_at)

    def having(self, **changes: Any) -> "Turn":
        """Return the turn with these changes already decided."""
        turn = Turn(self.view, self.now)
        object.__setattr__(turn, "status", self.status.model_copy(update=changes))
        return turn

    def write(self, *effects: PlanEffect, wake_at: datetime | None = None, **changes: Any) -> PlanDecision:
        """Store these changes, then perform the effects."""
        return PlanDecision(status=self.status.model_copy(update=changes), effects=effects, wake_at=wake_at)

    def end(self, state: PlanState, reason: str, message: str, *effects: PlanEffect, **changes: Any) -> PlanDecision:
        """Store the end of the plan. `settled` takes it out of every watch with the same write.

        A plan that holds a finalizer settles after the finalizer is gone: nobody would remove it later (decision 16).
        """
        changes.setdefault("settled", not self.is_protected)
        changes.setdefault("gates", ())
        return self.write(
            *effects,
            state=state,
            reason=reason,
            message=message[:1024],
            finished_at=self.now,
            wake_at=None if changes["settled"] else self.now,
            **changes,
        )

    @property
    def is_protected(self) -> bool:
        """Whether our finalizer is on the plan."""
        return FINALIZER in self.view.plan.metadata.finalizers

    def calls(self, phase: Phase) -> tuple[Call, ...]:
        """Return the calls of a phase, as planned."""
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


def is_about(turn: Turn, word: Intervention) -> bool:
    """Tell whether a word is about this very plan, not a former one of its name."""
    return word.spec.target.uid == turn.view.plan.metadata.uid


def is_stale(turn: Turn, at: datetime) -> bool:
    """Tell whether what was seen then is too old for a gate that opens by itself."""
    return turn.now >= at + BLOCKED_EVERY


def blocked(turn: Turn, gates: tuple[GateVerdict, ...]) -> PlanDecision:
    """Say what blocks, and look again soon."""
    again = turn.now + BLOCKED_EVERY
    if turn.status.gates == gates:
        return turn.stay(wake_at=again)
    return turn.write(gates=gates, message=gates[0].message, wake_at=again)


def journal_with(turn: Turn, entry: JournalEntry) -> tuple[JournalEntry, ...]:
    """Return the journal with its newest entry replaced by this one."""
    return (*turn.status.calls[:-1], entry)
