"""What must hold whatever happens: crashes, replays, takeovers, lost answers. Source: design §4, I1 to I11.

Pure predicates over a *history*: what was stored, as the API server had it, and which calls left the operator in
between, as the target saw them. Property tests check histories of a simulated world; the kill tests check those of a
real API server and the simulator's journal. A broken invariant says which one, why it exists and what broke it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from ..api.grant import ActionGrant
from ..api.intervention import Intervention
from ..api.plan import Call, CallState, JournalEntry, PlanState, RemediationPlan, Repeat
from ..api.run import IncidentRun
from .approval import in_force, is_enough
from .filling import MARKERS
from .plan import TERMINAL
from .redact import is_clean
from .risk import at_most, matches
from .run import is_observe_only


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A call that left the operator.

    Shape: `plan` is the plan's name, None for a call through the observing port. `epoch` and `holder` are the
    sender's; None where the observer can't tell. `call` is what was sent, None where only its place is known.
    """

    at: datetime
    plan: str | None
    phase: Literal["Apply", "Undo"] = "Apply"
    index: int = 0
    attempt: int | None = None
    epoch: int | None = None
    holder: str | None = None
    mutating: bool = True
    call: Call | None = None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What was stored at an instant.

    Shape: `sent` left after the moment before and before this one was stored. `runs` and `plans` are by name, of one
    namespace; a deleted one is missing. `told` is text that left for people or logs since the moment before.
    """

    at: datetime
    runs: Mapping[str, IncidentRun] = field(default_factory=dict)
    plans: Mapping[str, RemediationPlan] = field(default_factory=dict)
    grants: tuple[ActionGrant, ...] = ()
    sent: tuple[Sent, ...] = ()
    told: tuple[str, ...] = ()
    words: Mapping[str, Intervention] = field(default_factory=dict)
    #: Who holds the lock of an ARN, by the plan's uid; None where the observer can't tell.
    locks: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Violation:
    """An invariant that does not hold: at which step of the history, and by what."""

    invariant: str
    why: str
    step: int
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} broken at step {self.step}: {self.what}\n  why it must hold: {self.why}"


Check = Callable[[Moment, Moment], Iterable[str]]


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One invariant: its number and name, why it exists, and what breaks it between two moments."""

    name: str
    why: str
    check: Check


def check_history(history: Sequence[Moment], *, without: frozenset[str] = frozenset()) -> list[Violation]:
    """Return every violation in a history, in order; empty means that all invariants hold.

    Shape: `without` are numbers ("I6") of invariants that can't break in this history, left out to save time.
    """
    chosen = [i for i in INVARIANTS if i.name.split()[0] not in without]
    found = [
        Violation(invariant=invariant.name, why=invariant.why, step=step, what=what)
        for step, (before, after) in enumerate(pairwise(history), start=1)
        for invariant in chosen
        for what in invariant.check(before, after)
    ]
    found += [
        Violation(invariant=_ONCE.name, why=_ONCE.why, step=step, what=what) for step, what in _sent_twice(history)
    ]
    return sorted(found, key=lambda v: v.step)


def check_end(moment: Moment) -> list[Violation]:
    """Return what is wrong with a history that has come to rest: every run must have ended, nothing may hang."""
    found = [
        f"run {name} is still {run.status.phase}" for name, run in moment.runs.items() if not run.status.settled
    ] + [f"plan {name} is still {plan.status.state}" for name, plan in moment.plans.items() if not plan.status.settled]
    return [Violation(invariant=_FLAGGED.name, why=_FLAGGED.why, step=-1, what=what) for what in found]


# --- I1, I3, I4: calls and their plan ---------------------------------------------------------------------------------


def _journaled(before: Moment, sent: Sent) -> JournalEntry | None:
    """Return the stored intent a call rests on."""
    plan = before.plans.get(sent.plan or "")
    for entry in reversed(plan.status.calls if plan else ()):
        if (entry.phase, entry.index) == (sent.phase, sent.index) and sent.attempt in (None, entry.attempt):
            return entry
    return None


def _write_ahead(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        if not sent.mutating:
            continue
        entry, what = _journaled(before, sent), _name(sent)
        if entry is None:
            yield f"{what} was sent without a stored intent"
        elif entry.state != CallState.INTENDED:
            yield f"{what} was sent when the journal already said {entry.state}"
        elif sent.epoch not in (None, entry.epoch) or sent.holder not in (None, entry.holder):
            yield (
                f"{what} was sent by {sent.holder} in epoch {sent.epoch}; the intent is of {entry.holder} in epoch "
                f"{entry.epoch}"
            )
        elif sent.at > entry.deadline:
            yield f"{what} was sent at {sent.at:%H:%M:%S.%f}, after its deadline {entry.deadline:%H:%M:%S.%f}"
    for name, plan in after.plans.items():
        old = before.plans.get(name)
        if old is None or old is plan:
            continue
        for was, now in zip(old.status.calls, plan.status.calls, strict=False):
            guessed = now.state in (CallState.OBSERVED, CallState.UNKNOWN) or now.error == "NoEffectObserved"
            if was.state == CallState.INTENDED and guessed and after.at < was.deadline:
                yield f"call {now.phase} {now.index} of plan {name} was judged {now.state} while it may be under way"


def _ended(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        plan = before.plans.get(sent.plan or "")
        if sent.mutating and plan is not None and plan.status.state in TERMINAL:
            yield f"{_name(sent)} was sent after the plan ended {plan.status.state}"


def _sent_twice(history: Sequence[Moment]) -> Iterable[tuple[int, str]]:
    seen: Counter[tuple[str, str, int]] = Counter()
    for step, (before, after) in enumerate(pairwise(history), start=1):
        for sent in after.sent:
            plan = before.plans.get(sent.plan or "")
            if plan is None or not sent.mutating:
                continue
            call = _planned(plan, sent)
            if call is not None and call.repeat == Repeat.ONCE:
                seen[plan.metadata.name, sent.phase, sent.index] += 1
                if seen[plan.metadata.name, sent.phase, sent.index] > 1:
                    yield step, f"{_name(sent)} is a Once call and was sent again"


def _planned(plan: RemediationPlan, sent: Sent) -> Call | None:
    undo = plan.spec.undo.calls if plan.spec.undo else ()
    calls = plan.spec.calls if sent.phase == "Apply" else undo
    return calls[sent.index] if sent.index < len(calls) else None


def _within_plan(before: Moment, after: Moment) -> Iterable[str]:
    yield from _agreed(before, after)
    for name, new in after.plans.items():
        old = before.plans.get(name)
        if old is not None and old.spec is not new.spec and old.spec != new.spec:
            yield f"the spec of plan {name} was changed"
    for sent in after.sent:
        plan = before.plans.get(sent.plan or "")
        if plan is None or not sent.mutating:
            continue
        planned = _planned(plan, sent)
        if planned is None:
            yield f"{_name(sent)} is not in the plan"
        elif sent.call is not None and not _is(sent.call, planned):
            yield f"{_name(sent)} was sent as {sent.call.service}:{sent.call.operation} with other arguments"


def _is_marker(value: Any) -> bool:
    """Tell whether something else stands there when the call is sent."""
    return isinstance(value, Mapping) and any(set(value) == {name} for name in ("fromResult", *MARKERS))


def _is(sent: Call, planned: Call) -> bool:
    """Tell whether a call is the planned one, besides what is filled in at the last moment."""
    free = {v.argument for v in planned.volatile}
    free |= {
        k for k, v in planned.arguments.items() if _is_marker(v) or (isinstance(v, list) and any(map(_is_marker, v)))
    }
    fixed = {k: v for k, v in planned.arguments.items() if k not in free}
    return (sent.service, sent.operation) == (planned.service, planned.operation) and fixed == {
        k: v for k, v in sent.arguments.items() if k not in free
    }


# --- I2, I7, I11: what may act at all ---------------------------------------------------------------------------------


def _read_only(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        if sent.mutating and sent.plan is None:
            yield "a mutating call left through the observing port"
        run = _run_of(before, sent)
        if sent.mutating and run is not None and is_observe_only(run):
            yield f"{_name(sent)} was sent for {run.metadata.name}, which observes only"


def _settled(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        run = _run_of(before, sent)
        if _acts_alone(before.plans.get(sent.plan or "")):
            continue
        if sent.mutating and sent.plan is not None and (run is None or run.status.settled):
            yield f"{_name(sent)} was sent for a run that is {'gone' if run is None else 'settled'}"
    for name, old in before.runs.items():
        new = after.runs.get(name)
        if new is not None and new is not old and old.status.settled and new.status != old.status:
            yield f"run {name} was settled as {old.status.phase} and changed to {new.status.phase}"
    for name, was in before.plans.items():
        now = after.plans.get(name)
        if now is not None and now is not was and was.status.settled and now.status != was.status:
            yield f"plan {name} was settled as {was.status.state} and changed to {now.status.state}"


def _acts_alone(plan: RemediationPlan | None) -> bool:
    """Tell whether a plan may act after its run: the end of a temporary fix, or a settled plan put back by people."""
    return plan is not None and (plan.spec.revert_of is not None or plan.status.temporary is not None)


def _run_of(moment: Moment, sent: Sent) -> IncidentRun | None:
    plan = moment.plans.get(sent.plan or "")
    run = moment.runs.get(plan.spec.run_ref.name) if plan else None
    return run if run is not None and plan is not None and run.metadata.uid == plan.spec.run_ref.uid else None


def _granted(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        plan = before.plans.get(sent.plan or "")
        if sent.mutating and plan is not None and not any(_covers(g, plan) for g in before.grants):
            yield f"{_name(sent)} touches {', '.join(plan.spec.touches)} without a grant that lists it"
        elif sent.mutating and plan is not None and all(g.spec.suspended for g in before.grants):
            yield f"{_name(sent)} was sent although every grant is suspended"


def _locked(before: Moment, after: Moment) -> Iterable[str]:
    for sent in after.sent:
        plan = before.plans.get(sent.plan or "")
        if not sent.mutating or plan is None or before.locks is None:
            continue
        for arn in plan.spec.touches:
            holder = before.locks.get(arn)
            if holder != plan.metadata.uid:
                yield f"{_name(sent)} was sent while the lock of {arn} is held by {holder or 'nobody'}"


def _agreed(before: Moment, after: Moment) -> Iterable[str]:
    """The first call of a plan that must ask rests on enough approvals of this very plan."""
    for sent in after.sent:
        plan = before.plans.get(sent.plan or "")
        if not sent.mutating or plan is None or (sent.phase, sent.index, sent.attempt) != ("Apply", 0, 1):
            continue
        run, grant = before.runs.get(plan.spec.run_ref.name), next((g for g in before.grants if _covers(g, plan)), None)
        if run is None or grant is None or not _must_ask(plan, run, grant):
            continue
        started = plan.status.started_at or before.at
        approvals = in_force(plan.status.approvals, started)
        if plan.spec.needs_break_glass and not any(a.break_glass for a in approvals):
            yield f"{_name(sent)} was sent, and nobody broke the glass"
        elif not is_enough(approvals, grant.spec.approvals.rule(plan.spec.tier)):
            agreed = len(plan.status.approvals)
            yield f"{_name(sent)} was sent, and only {agreed} people agreed to a {plan.spec.tier} plan"


def _must_ask(plan: RemediationPlan, run: IncidentRun, grant: ActionGrant) -> bool:
    if plan.spec.needs_break_glass:
        return True
    ceilings = (run.spec.automation.apply_up_to, grant.spec.automation.apply_up_to)
    above = any(not at_most(plan.spec.risk, ceiling) for ceiling in ceilings)
    return above or bool(plan.spec.ask_because) or plan.spec.revert_of is not None


def _kept(before: Moment, after: Moment) -> Iterable[str]:
    """What people said stays as they said it, and what it came to stays answered."""
    for name, was in before.words.items():
        now = after.words.get(name)
        if now is None:
            yield f"intervention {name} is gone"
        elif now.spec != was.spec:
            yield f"intervention {name} was rewritten"
        elif was.status.settled and now.status != was.status:
            yield f"intervention {name} was answered, and answered otherwise later"
    for name, old in before.runs.items():
        new = after.runs.get(name)
        if new is not None and new is not old and new.spec != old.spec:
            yield f"the spec of run {name} was written by the operator"
    for name, plan in before.plans.items():
        later = after.plans.get(name)
        if later is not None and later.status.approvals[: len(plan.status.approvals)] != plan.status.approvals:
            yield f"an approval of plan {name} was lost or rewritten"


def _covers(grant: ActionGrant, plan: RemediationPlan) -> bool:
    aws, spec = grant.spec.aws, plan.spec
    return (
        aws is not None
        and aws.account == spec.account
        and aws.role_arn == spec.role
        and spec.region in aws.regions
        and matches(spec.action, grant.spec.actions)
        and all(matches(arn, aws.resources) for arn in spec.touches)
    )


# --- I6, I8, I10: what is stored --------------------------------------------------------------------------------------


def _no_secret(before: Moment, after: Moment) -> Iterable[str]:
    for kind, olds, news in (("run", before.runs, after.runs), ("plan", before.plans, after.plans)):
        for name, new in news.items():
            if olds.get(name) is not new and not is_clean(new.status.wire()):
                yield f"the status of {kind} {name} holds a credential"
    if not is_clean(list(after.told)):
        yield "a message for people or logs holds a credential"


#: Ends that no person need look at.
_WELL = frozenset({PlanState.HELPED, PlanState.REVERTED})


def _flagged(before: Moment, after: Moment) -> Iterable[str]:
    for name, run in after.runs.items():
        old = before.runs.get(name)
        if not run.status.settled or (old is not None and old.status.settled):
            continue
        said = {entry.source for entry in run.status.timeline}
        for plan in after.plans.values():
            if plan.spec.run_ref.uid != run.metadata.uid or not plan.status.calls:
                continue
            if plan.status.state not in TERMINAL:
                yield f"run {name} ended while its plan {plan.metadata.name} is {plan.status.state}"
            elif plan.status.state not in _WELL and f"plan {plan.metadata.name}" not in said:
                yield f"plan {plan.metadata.name} ended {plan.status.state}, and the run's story does not say so"


_NEXT_STATES: Mapping[PlanState, frozenset[PlanState]] = {
    PlanState.PROPOSED: frozenset(PlanState) - {PlanState.PROPOSED},
    # An approval may run out before it is used.
    PlanState.APPROVED: frozenset(PlanState) - {PlanState.APPROVED},
    PlanState.APPLYING: frozenset({PlanState.VERIFYING, PlanState.REVERTING}) | TERMINAL,
    PlanState.VERIFYING: frozenset({PlanState.REVERTING}) | TERMINAL,
    # The end of a temporary fix.
    PlanState.HELPED: frozenset({PlanState.REVERTING, PlanState.UNDO_BLOCKED}),
    PlanState.REVERTING: frozenset({PlanState.REVERTED, PlanState.UNDO_BLOCKED, PlanState.UNKNOWN}),
}


def _forward(before: Moment, after: Moment) -> Iterable[str]:
    """Journals only grow, states only go forward, numbers only rise: what is replayed finds itself done."""
    for name, old in before.plans.items():
        new = after.plans.get(name)
        if new is None or new is old:
            continue
        was, now = old.status, new.status
        if now.state != was.state and now.state not in _NEXT_STATES.get(was.state, frozenset()):
            yield f"plan {name} went from {was.state} to {now.state}"
        if (now.epoch or 0) < (was.epoch or 0):
            yield f"plan {name} went back from epoch {was.epoch} to {now.epoch}"
        yield from (f"plan {name}: {what}" for what in _journal_broken(was.calls, now.calls))
    for name, run in before.runs.items():
        later = after.runs.get(name)
        if later is None or later is run:
            continue
        if later.status.diagnosis < run.status.diagnosis:
            yield f"run {name} went back from diagnosis {run.status.diagnosis} to {later.status.diagnosis}"
        if run.status.started_at is not None and later.status.started_at != run.status.started_at:
            yield f"run {name} started twice"
        touched = any(p.status.calls and p.spec.run_ref.uid == run.metadata.uid for p in before.plans.values())
        if touched and later.status.baseline != run.status.baseline:
            yield f"the baseline of run {name} was measured again after the first call"


def _journal_broken(was: Sequence[JournalEntry], now: Sequence[JournalEntry]) -> Iterable[str]:
    if len(now) < len(was):
        yield "the journal lost an entry"
    for i, (old, new) in enumerate(zip(was, now, strict=False)):
        if (old.phase, old.index, old.attempt, old.intent_at) != (new.phase, new.index, new.attempt, new.intent_at):
            yield f"entry {i} of the journal became another"
        elif old.state != CallState.INTENDED and old != new:
            yield f"entry {i} of the journal was {old.state} and changed to {new.state}"
    keys = [(e.phase, e.index, e.attempt) for e in now]
    if len(set(keys)) != len(keys):
        yield "one attempt at a call was intended twice"
    if sum(e.state == CallState.INTENDED for e in now) > 1:
        yield "two calls are under way at once"


def _name(sent: Sent) -> str:
    attempt = f", attempt {sent.attempt}" if sent.attempt is not None else ""
    return f"call {sent.phase} {sent.index}{attempt} of plan {sent.plan}"


_ONCE = Invariant(
    name="I3 no Once call twice, no call after its plan ended",
    why="what can't be repeated safely (an invocation, a failover) would hurt users a second time, and what is judged "
    "must not move any more",
    check=_ended,
)
_FLAGGED = Invariant(
    name="I8 every applied plan ends Helped, Reverted or flagged to a person",
    why="a change that nobody judged, undid or was told of stays in production unseen",
    check=_flagged,
)

INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        name="I1 no call without a stored intent of this holder and epoch",
        why="after a crash the journal is all that tells which calls may have been made, and by whom",
        check=_write_ahead,
    ),
    Invariant(
        name="I2 nothing mutating through the observing port or in observe-only",
        why="diagnosis is free and waits for nobody because it can't change anything",
        check=_read_only,
    ),
    _ONCE,
    Invariant(
        name="I4 executed calls are those of the approved plan",
        why="what a person approves is exactly what is executed",
        check=_within_plan,
    ),
    Invariant(
        name="I5 one holder per resource",
        why="two plans that change one thing at once undo, or hide, each other's effect",
        check=_locked,
    ),
    Invariant(
        name="I6 no secret in status, events or logs",
        why="these are read by many more people, and kept far longer, than the secret's own store",
        check=_no_secret,
    ),
    Invariant(
        name="I7 nothing acts for a settled run, and nothing settled changes",
        why="settled objects leave every watch: whoever acted for one would act unseen, on yesterday's diagnosis",
        check=_settled,
    ),
    _FLAGGED,
    Invariant(
        name="I9 what a person wrote is never overwritten",
        why="the objects are the audit trail: who said what, and when, must be readable afterwards",
        check=_kept,
    ),
    Invariant(
        name="I10 replaying any event changes nothing",
        why="watches repeat, reorder and come late; a story that can go backwards is no truth to decide on",
        check=_forward,
    ),
    Invariant(
        name="I11 no plan outside its grant",
        why="a grant is the platform admins' word on what a namespace may touch, and it holds when the call is made",
        check=_granted,
    ),
)
