"""A pure world in which the decisions run: an API server, a Lease, operators that crash, calls that land late.

The operators here carry decisions out as the controllers do (read, decide, compare-and-swap, perform), one micro-step
at a time, so that a history can be cut anywhere. Nothing waits and nothing is random: a history is its bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from incident_operator.api.intervention import Intervention, Verb
from incident_operator.api.plan import GateVerdict, PlanState, RemediationPlan, RemediationPlanStatus
from incident_operator.api.run import FixState, IncidentRun, IncidentRunStatus
from incident_operator.core.approval import OPEN_STATES, Answer, refused
from incident_operator.core.conditions import with_condition
from incident_operator.core.draft import Judgement
from incident_operator.core.gates import closed
from incident_operator.core.invariants import Moment, Sent
from incident_operator.core.plan import FINALIZER as UNDO_FINALIZER
from incident_operator.core.plan import (
    TERMINAL,
    Answered,
    CheckUndo,
    Execute,
    Guarded,
    Judge,
    Judged,
    Look,
    Observed,
    PlanEffect,
    PlanView,
    Replan,
    Replanned,
    Unprotect,
    decide_plan,
    gate_facts,
)
from incident_operator.core.planning import moved_guard, revert_of
from incident_operator.core.redact import redact, redact_json
from incident_operator.core.run import FINALIZER as RUN_FINALIZER
from incident_operator.core.run import (
    EndRound,
    FixResult,
    PlanFixes,
    Protect,
    Refusal,
    Round,
    RunChecks,
    RunEffect,
    RunView,
    StartRound,
    StorePlans,
    Tell,
    decide_run,
    plan_attempt,
)
from incident_operator.core.run import Unprotect as UnprotectRun
from incident_operator.core.schedule import Timing
from tests.properties.shop import DEPENDENCIES, FIXES, HALTED, START, Setting, Shop, the_plan, the_run, the_runbook

RUN = "run"
#: Somebody else's plan, on the same resources.
STRANGER = "uid-of-another-plan"
TIMEOUT = timedelta(seconds=10)
TIMING = Timing()
RETRY_READ = timedelta(seconds=3)
BACK_OFF = timedelta(seconds=1)
#: No lawful history writes so often without time passing.
RESTLESS = 60
S = TypeVar("S", IncidentRunStatus, RemediationPlanStatus)


class Died(Exception):
    """The operator's process was killed here."""


class NoAnswer(Exception):
    """The API server took the write, and the connection broke."""


@dataclass
class Faults:
    """What goes wrong next. Counts are of writes and calls still to come; None: never."""

    kill_at_write: int | None = None
    kill_at_call: int | None = None
    before: bool = True
    #: What becomes of the next call: see `World.send`.
    call: str = "ok"
    lose_write: bool = False


@dataclass
class World:
    """What is true: the stored objects, the Lease, the clock, and the shop."""

    setting: Setting
    shop: Shop = field(init=False)
    now: datetime = START
    run: IncidentRun = field(init=False)
    run_gone: bool = False
    words: dict[str, Intervention] = field(default_factory=dict)
    #: Who holds the lock of an ARN.
    locks: dict[str, str] = field(default_factory=dict)
    admission: str | None = None
    run_version: int = 1
    plans: dict[str, tuple[RemediationPlan, int]] = field(default_factory=dict)
    epoch: int = 0
    revision_lost: bool = False
    faults: Faults = field(default_factory=Faults)
    history: list[Moment] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    leader: "Operator" = field(init=False)
    zombie: "Operator | None" = None

    def __post_init__(self) -> None:
        self.shop = Shop(self.setting)
        self.run = the_run(self.setting.observe_only, self.setting.severity)
        self.record()
        self.elect()

    def record(self, *sent: Sent) -> None:
        """Append what is stored now to the history."""
        self.history.append(
            Moment(
                at=self.now,
                runs={} if self.run_gone else {RUN: self.run},
                words=dict(self.words),
                locks=dict(self.locks),
                plans={name: plan for name, (plan, _) in self.plans.items()},
                grants=(self.shop.grant,),
                sent=sent,
                told=tuple(self.told),
            )
        )
        self.told.clear()
        if len(self.history) > RESTLESS and self.history[-RESTLESS].at == self.now:
            raise AssertionError(f"I10: {RESTLESS} writes and calls at one instant: the story never comes to rest")

    def elect(self) -> None:
        """Start a process that acquires the Lease: every acquisition is a new epoch."""
        self.epoch += 1
        self.sweep()
        self.leader = Operator(self, self.epoch)

    def sweep(self) -> None:
        """Free the locks of plans that are gone or settled."""
        live = {plan.metadata.uid for plan, _ in self.plans.values() if plan.status.state not in TERMINAL}
        self.locks = {arn: uid for arn, uid in self.locks.items() if uid in live or uid == STRANGER}

    def lock(self, plan: RemediationPlan) -> tuple[GateVerdict, ...]:
        """Lock all that a plan touches, or nothing and say so."""
        for arn in plan.spec.touches:
            if self.locks.get(arn, plan.metadata.uid) != plan.metadata.uid:
                return (GateVerdict(name="ResourceLocked", message=f"{arn} is being changed by {self.locks[arn]}"),)
        self.locks.update(dict.fromkeys(plan.spec.touches, plan.metadata.uid))
        return ()

    def unlock(self, plan: RemediationPlan) -> None:
        """Free what a plan holds."""
        self.locks = {arn: uid for arn, uid in self.locks.items() if uid != plan.metadata.uid}

    def say(self, word: Intervention) -> None:
        """Let a person say something; the leader's watch shows it some time later."""
        self.words[word.metadata.name] = word
        self.record()
        self.leader.tasks.append(lambda: self.leader.hear(word))

    def answer(self, answer: Answer) -> None:
        """Store an answer, once."""
        word = self.words[answer.word]
        if word.status.settled:
            return
        self._maybe_die("write", before=True)
        status = word.status.model_copy(
            update={
                "conditions": with_condition((), "Effective", answer.effective, answer.reason, "", self.now),
                "settled": True,
            }
        )
        self.words[answer.word] = word.model_copy(update={"status": status})
        self.record()
        self._maybe_die("write", before=False)

    def set_finalizer(self, writer: "Operator", key: str, finalizer: str, wanted: bool) -> bool:
        """Put a finalizer on an object or take it off, by compare-and-swap; False is a conflict."""
        stored = (self.run, self.run_version) if key == RUN else self.plans[key]
        known = writer.run_version if key == RUN else writer.plans[key][1]
        if known != stored[1]:
            return False
        self._maybe_die("write", before=True)
        thing = stored[0]
        metadata = thing.metadata.model_copy(update={"finalizers": (finalizer,) if wanted else ()})
        if key == RUN:
            self.run, self.run_version = self.run.model_copy(update={"metadata": metadata}), self.run_version + 1
            self.run_gone = metadata.deletion_timestamp is not None and not wanted
        else:
            self.plans[key] = self.plans[key][0].model_copy(update={"metadata": metadata}), self.plans[key][1] + 1
        self.record()
        self.publish(key, writer)
        self._maybe_die("write", before=False)
        return True

    def publish(self, key: str, writer: "Operator | None") -> None:
        """Let the leader's watch show what another one wrote, some time later."""
        leader = self.leader
        if writer is not leader:
            leader.tasks.append(lambda: leader.see(key))

    def pass_time(self, wait: timedelta) -> None:
        """Let time pass; calls under way take effect on the way."""
        self.now += wait
        self.shop.arrive(self.now)

    def stored(self, status: S) -> S:
        """Return a status as the API server would give it back: through JSON and redaction, if so set."""
        if not self.setting.wire:
            return status
        return type(status).model_validate(redact_json(status.wire()))

    def write_run(self, writer: "Operator", status: IncidentRunStatus) -> bool:
        """Write the run's status by compare-and-swap; False is a conflict."""
        if writer.run_version != self.run_version:
            return False
        self._maybe_die("write", before=True)
        self.run = self.run.model_copy(update={"status": self.stored(status)})
        self.run_version += 1
        self.record()
        self._answer_write(RUN, writer)
        return True

    def write_plan(self, writer: "Operator", name: str, status: RemediationPlanStatus) -> bool:
        """Write a plan's status by compare-and-swap; False is a conflict."""
        plan, version = self.plans[name]
        if writer.plans[name][1] != version:
            return False
        self._maybe_die("write", before=True)
        self.plans[name] = plan.model_copy(update={"status": self.stored(status)}), version + 1
        self.record()
        self._answer_write(name, writer)
        return True

    def _answer_write(self, key: str, writer: "Operator") -> None:
        lost, self.faults.lose_write = self.faults.lose_write, False
        self.publish(key, None if lost else writer)
        self._maybe_die("write", before=False)
        if lost:
            raise NoAnswer

    def _maybe_die(self, what: str, *, before: bool) -> None:
        count = self.faults.kill_at_write if what == "write" else self.faults.kill_at_call
        if count is None or before != self.faults.before:
            return
        left = count - 1 if count else None
        if what == "write":
            self.faults.kill_at_write = left
        else:
            self.faults.kill_at_call = left
        if count == 0:
            raise Died

    def send(self, sender: "Operator", plan: RemediationPlan, effect: Execute) -> Answered:
        """Make a call, with whatever the faults do to it and its answer."""
        key: dict[str, Any] = {"phase": effect.phase, "index": effect.index, "attempt": effect.attempt}
        calls = plan.spec.calls if effect.phase == "Apply" else plan.spec.undo.calls if plan.spec.undo else ()
        entry = plan.status.calls[-1]
        if not self.shop.is_granted(plan):
            return Answered(ok=False, code="GrantMissing", **key)
        if self.shop.grant is HALTED:
            return Answered(ok=False, code="GrantSuspended", **key)
        if sender is not self.leader:
            return Answered(ok=False, code="NotLeader", **key)
        if self.now >= entry.deadline:
            return Answered(ok=False, code="NotSentInTime", **key)
        self._maybe_die("call", before=True)
        self.record(
            Sent(
                at=self.now,
                plan=plan.metadata.name,
                epoch=sender.epoch,
                holder=sender.holder,
                call=calls[effect.index],
                **key,
            )
        )
        fate, self.faults.call = self.faults.call, "ok"
        if fate in ("ok", "answer-lost"):
            self.shop.land(plan, effect.phase, effect.index)
        elif fate == "late":
            self.shop.in_flight.append((entry.deadline, plan, effect.phase, effect.index))
        self._maybe_die("call", before=False)
        if fate == "ok":
            image = self.shop.image if effect.phase == "Apply" else None
            return Answered(ok=True, request_id="r", post_image=image, **key)
        if fate in ("answer-lost", "call-lost", "late"):
            return Answered(ok=False, definite=False, code="Timeout", **key)
        return Answered(ok=False, code=fate, **key)


@dataclass
class PlanSession:
    """What a process did and saw for a plan since it last wrote."""

    busy: bool = False
    replanned: Replanned | None = None
    answered: Answered | None = None
    observed: Observed | None = None
    judged: Judged | None = None
    guarded: Guarded | None = None
    retry_at: datetime | None = None


class Operator:
    """One process: caches, sessions, effects under way. Dies with all of it."""

    def __init__(self, world: World, epoch: int) -> None:
        self.world, self.epoch, self.holder = world, epoch, f"replica-{epoch}"
        self.run, self.run_version = world.run, world.run_version
        self.plans = dict(world.plans)
        self.round: Round | None = None
        self.sessions: dict[str, PlanSession] = {}
        self.tasks: list[Callable[[], None]] = []
        self.wakes: dict[str, datetime] = {}
        #: Keys to look at; the run's and the plans' names. A watch may repeat them at any time.
        self.queue: list[str] = [RUN, *self.plans]

    def enqueue(self, key: str) -> None:
        """Ask for a look, once."""
        if key not in self.queue:
            self.queue.append(key)

    def see(self, key: str) -> None:
        """Take an object from the watch."""
        if key == RUN:
            self.run, self.run_version = self.world.run, self.world.run_version
            for name in self.plans if self.world.run_gone else ():
                self.enqueue(name)
        else:
            self.plans[key] = self.world.plans[key]
            self.enqueue(RUN)
        self.enqueue(key)

    def hear(self, word: Intervention) -> None:
        """Take an intervention from the watch, as its controller does: hand it on, or answer it here."""
        world, name = self.world, word.spec.target.name
        if world.words[word.metadata.name].status.settled:
            return
        if word.spec.target.kind == "IncidentRun":
            if world.run_gone or world.run.status.settled:
                world.answer(refused(word, "TooLate", "the run has ended"))
            self.enqueue(RUN)
            return
        plan = world.plans[name][0]
        if not plan.status.settled:
            self.enqueue(name)
        elif word.spec.verb == Verb.KEEP and not world.run_gone and not world.run.status.settled:
            self.enqueue(RUN)
        elif word.spec.verb == Verb.REVERT and plan.status.started_at is not None and world.admission is None:
            self._make_revert(word, plan)
        elif word.spec.verb != Verb.REVERT or plan.status.started_at is None:
            world.answer(refused(word, "TooLate", "the plan has ended"))

    def _make_revert(self, word: Intervention, plan: RemediationPlan) -> None:
        """Create the plan that puts a settled one back, once."""
        world = self.world
        mine = [p for p, _ in world.plans.values() if p.spec.revert_of == plan.metadata.name]
        if all(p.status.state in TERMINAL for p in mine):
            fresh = revert_of(plan, 1 + max(p.spec.attempt for p, _ in world.plans.values()))
            if fresh is None:
                world.answer(refused(word, "NothingToRevert", "there is no way back"))
                return
            uid = f"uid-{fresh.metadata.name}"
            created = fresh.metadata.model_copy(update={"uid": uid, "creation_timestamp": world.now})
            self._create(fresh.model_copy(update={"metadata": created}))
        world.answer(Answer(word=word.metadata.name, effective=True, reason="Reverting", message=""))

    def _words_on(self, kind: str, name: str) -> tuple[Intervention, ...]:
        found = [w for w in self.world.words.values() if (w.spec.target.kind, w.spec.target.name) == (kind, name)]
        return tuple(w for w in found if not w.status.settled)

    def step(self, choice: int) -> bool:
        """Do one of the things that can be done now; False when there is none before time passes."""
        due = [key for key, at in self.wakes.items() if at <= self.world.now]
        for key in due:
            del self.wakes[key]
            self.enqueue(key)
        options = len(self.queue) + len(self.tasks)
        if not options:
            return False
        choice %= options
        if choice < len(self.queue):
            key = self.queue.pop(choice)
            try:
                wake = self._reconcile_run() if key == RUN else self._reconcile_plan(key)
            except NoAnswer:
                wake = self.world.now + BACK_OFF
            if wake is not None:
                self.wakes[key] = wake
        else:
            self.tasks.pop(choice - len(self.queue))()
        return True

    # --- the run ---

    def _reconcile_run(self) -> datetime | None:
        world, setting = self.world, self.world.setting
        for _ in range(20):
            if world.run_gone:
                for name in self.plans:
                    self.enqueue(name)
                return None
            if self.run.status.active_plan and self.run.status.active_plan not in self.plans:
                self.plans.update(world.plans)
            lost = world.revision_lost and self.run.status.started_at is not None
            view = RunView(
                run=self.run,
                runbook=None if lost else the_runbook(setting.if_no_help),
                revision=None if lost else "rev",
                refusal=Refusal(reason="RevisionLost", message=f"gone: {world.shop.secret}") if lost else None,
                dependencies=DEPENDENCIES,
                plans=tuple(plan for plan, _ in self.plans.values()),
                round=self.round,
                words=self._words_on_run(),
                admission=world.admission,
                timing=TIMING,
                observe_only=setting.observe_only,
            )
            decision = decide_run(view, world.now)
            before = self.run.status
            changed = decision.status != before
            if changed:
                if not world.write_run(self, decision.status):
                    self.run, self.run_version = world.run, world.run_version
                    self.enqueue(RUN)
                    return None
                self.run, self.run_version = world.run, world.run_version
            if decision.status.active_plan:
                self.enqueue(decision.status.active_plan)
            if decision.status.settled:
                for name in self.plans:
                    self.enqueue(name)
            again = [self._perform(effect) for effect in decision.effects]
            if None in again:
                self.run, self.run_version = world.run, world.run_version
                self.enqueue(RUN)
                return None
            if decision.status.settled:
                self.round = None
                self._answer_without(self._words_on("IncidentRun", RUN))
                return None
            if not any(again) and not (changed and decision.wake_at is not None and decision.wake_at <= world.now):
                return decision.wake_at
        raise AssertionError("I10: the run is decided again and again at one instant, and never comes to rest")

    def _words_on_run(self) -> tuple[Intervention, ...]:
        words = self._words_on("IncidentRun", RUN)
        for name, (plan, _) in self.plans.items():
            if plan.status.settled:
                words += tuple(w for w in self._words_on("RemediationPlan", name) if w.spec.verb == Verb.KEEP)
        return words

    def _answer_without(self, words: tuple[Intervention, ...]) -> None:
        """Answer what was said of what can't hear it any more."""
        for word in words:
            self.tasks.append(lambda word=word: self.hear(word))  # type: ignore[misc]

    def _perform(self, effect: RunEffect) -> bool | None:
        """Perform an effect; True when there is something to decide at once, None where the world has moved on."""
        match effect:
            case Tell(reason, message):
                self.world.told.append(redact(f"{reason}: {message}"))
            case Answer():
                self.world.answer(effect)
                return True
            case Protect() | UnprotectRun():
                if not self.world.set_finalizer(self, RUN, RUN_FINALIZER, isinstance(effect, Protect)):
                    return None
                self.run, self.run_version = self.world.run, self.world.run_version
                return None if self.world.run_gone else True
            case StartRound(kind):
                self.round = Round(kind=kind, started_at=self.world.now)
                return True
            case RunChecks(names) if self.round is not None:
                self.round = replace(self.round, running=self.round.running | set(names))
                for name in names:
                    self._start_check(self.round.started_at, name)
            case PlanFixes() if self.round is not None:
                self.round = replace(self.round, planning=True)
                self._start_planning(self.round.started_at)
            case StorePlans() if self.round is not None:
                self._store_plans(self.round)
                self.round = replace(self.round, stored=True)
                return True
            case EndRound():
                self.round = None
        return False

    def _start_check(self, started_at: datetime, name: str) -> None:
        def finish() -> None:
            self.enqueue(RUN)
            if self.round is not None and self.round.started_at == started_at:
                result = self.world.shop.ask(name)
                self.round = replace(
                    self.round, checks={**self.round.checks, name: result}, running=self.round.running - {name}
                )

        self.tasks.append(finish)

    def _start_planning(self, started_at: datetime) -> None:
        def finish() -> None:
            self.enqueue(RUN)
            if self.round is not None and self.round.started_at == started_at:
                fixes = {name: self._propose(self.round, name) for name in FIXES}
                self.round = replace(self.round, fixes=fixes, planning=False)

        self.tasks.append(finish)

    def _propose(self, round_: Round, fix: str) -> FixResult:
        setting = self.world.setting
        if FIXES[fix] not in {f.reason for r in round_.checks.values() for f in r.findings}:
            return FixResult(name=fix, state=FixState.NOT_NEEDED)
        known = tuple(plan for plan, _ in self.plans.values())
        first = the_plan(fix, 1, setting.repeats, setting.undo, setting.asks, setting.temporary)
        attempt = plan_attempt(known, fix, first.spec.hash)
        plan = the_plan(fix, attempt, setting.repeats, setting.undo, setting.asks, setting.temporary)
        refused_before = [
            p for p, _ in self.plans.values() if p.status.state == PlanState.REJECTED and p.spec.fix == fix
        ]
        if any(p.metadata.name not in self.run.status.waived for p in refused_before):
            return FixResult(name=fix, state=FixState.NOT_APPLICABLE, reason="Rejected")
        stored = self.plans.get(plan.metadata.name)
        view = self._plan_view(stored[0] if stored else plan, PlanSession())
        return FixResult(name=fix, plan=plan, gates=closed(gate_facts(view, self.world.now)))

    def _store_plans(self, round_: Round) -> None:
        for result in (round_.fixes or {}).values():
            if result.plan is None:
                continue
            self._create(result.plan)

    def _create(self, plan: RemediationPlan) -> None:
        name = plan.metadata.name
        if name not in self.world.plans:
            self.world.plans[name] = plan, 1
            self.world.record()
            self.world.publish(name, self)
        self.plans.setdefault(name, self.world.plans[name])
        self.enqueue(name)

    # --- plans ---

    def _reconcile_plan(self, name: str) -> datetime | None:
        world = self.world
        if name not in self.plans:
            return None
        session = self.sessions.setdefault(name, PlanSession())
        for _ in range(20):
            plan, _ = self.plans[name]
            decision = decide_plan(self._plan_view(plan, session), world.now)
            written = decision.status != plan.status
            if written:
                if not world.write_plan(self, name, decision.status):
                    self.plans[name] = world.plans[name]
                    self.enqueue(name)
                    return None
                self.plans[name] = world.plans[name]
                session.replanned = session.observed = session.guarded = None
                if decision.status.state != plan.status.state:
                    session.judged = None
                if not session.busy:
                    session.answered = None
                self.enqueue(RUN)
            again = False
            for effect in decision.effects:
                match effect:
                    case Answer():
                        world.answer(effect)
                        again = True
                    case Tell(reason, message):
                        world.told.append(redact(f"{reason}: {message}"))
                    case Unprotect():
                        again = world.set_finalizer(self, name, UNDO_FINALIZER, False)
                        self.plans[name] = world.plans[name]
                    case _ if session.retry_at is not None and world.now < session.retry_at and not written:
                        return session.retry_at
                    case _:
                        self._start(name, session, effect)
            if written and decision.status.state in TERMINAL:
                world.unlock(plan)
            if decision.status.settled:
                self._answer_without(self._words_on("RemediationPlan", name))
                return None
            if again:
                continue
            if not (written and decision.wake_at is not None and decision.wake_at <= world.now):
                return decision.wake_at
        raise AssertionError(f"I10: plan {name} is decided again and again at one instant, and never comes to rest")

    def _plan_view(self, plan: RemediationPlan, session: PlanSession) -> PlanView:
        world = self.world
        return PlanView(
            plan=plan,
            run=None if world.run_gone else self.run,
            grant=world.shop.grant,
            words=self._words_on("RemediationPlan", plan.metadata.name),
            admission=world.admission,
            epoch=self.epoch,
            holder=self.holder,
            call_timeout=TIMEOUT,
            timing=TIMING,
            busy=session.busy,
            replanned=session.replanned,
            answered=session.answered,
            observed=session.observed,
            judged=session.judged,
            guarded=session.guarded,
        )

    def _start(self, name: str, session: PlanSession, effect: PlanEffect) -> None:
        plan, _ = self.plans[name]
        session.busy, session.retry_at = True, None

        def finish() -> None:
            session.busy = False
            self.enqueue(name)
            self._finish(plan, session, effect)

        self.tasks.append(finish)

    def _finish(self, plan: RemediationPlan, session: PlanSession, effect: PlanEffect) -> None:
        world, shop = self.world, self.world.shop
        if not isinstance(effect, Execute) and not shop.answers:
            session.retry_at = world.now + RETRY_READ
            if isinstance(effect, Judge):
                session.judged = Judged(
                    at=world.now, judgement=Judgement(outcome=None, measured=False, message=shop.secret)
                )
            return
        there = FIXES[plan.spec.fix] in shop.broken
        match effect:
            case Replan():
                session.replanned = self._replanned(plan, there)
            case CheckUndo() if plan.spec.undo is not None:
                changed = moved_guard(plan.spec.undo.guards, plan.status.post_image, shop.image)
                session.guarded = (
                    Guarded(at=world.now, changed=changed) if changed else Guarded(at=world.now, gates=world.lock(plan))
                )
            case Execute():
                session.answered = world.send(self, plan, effect)
            case Look(phase, index, attempt):
                applied = shop.landed[plan.metadata.name, phase, index] > 0
                changed = "" if applied or there else "the fix is not needed any more"
                image = shop.image if applied and phase == "Apply" else None
                session.observed = Observed(
                    phase=phase,
                    index=index,
                    attempt=attempt,
                    applied=applied,
                    world_changed=changed,
                    post_image=image,
                )
            case Judge():
                session.judged = Judged(at=world.now, judgement=self._judgement(there))

    def _replanned(self, plan: RemediationPlan, there: bool) -> Replanned | None:
        """Look again, ask the gates with what is known now, take the locks, put the finalizer on."""
        world, name = self.world, plan.metadata.name
        if plan.spec.revert_of is not None:
            if [fact.equals for fact in plan.spec.preconditions] != world.shop.image:
                return Replanned(at=world.now, same=False, reason="WorldChanged", message="somebody changed it since")
        elif not there:
            return Replanned(at=world.now, same=False, reason="WorldChanged", message="the fix is not needed any more")
        gates = closed(gate_facts(self._plan_view(plan, PlanSession()), world.now)) or world.lock(plan)
        if not gates and UNDO_FINALIZER not in plan.metadata.finalizers:
            if not world.set_finalizer(self, name, UNDO_FINALIZER, True):
                return None
            self.plans[name] = world.plans[name]
        return Replanned(at=world.now, same=True, gates=gates)

    def _judgement(self, there: bool) -> Judgement:
        helps = self.world.setting.helps
        if not there:
            return Judgement(outcome="Helped", measured=True, message="no denials")
        if helps == "Worse" and self.world.shop.harmed:
            return Judgement(outcome="Worse", measured=True, message="more denials than before")
        measured = helps != "NotMeasured"
        return Judgement(
            outcome=None, measured=measured, message=f"traffic: {self.world.shop.secret}", waiting_for="traffic"
        )


def unsettled(world: World) -> bool:
    """Tell whether anything is still to be ended, or answered."""
    if not (world.run_gone or world.run.status.settled):
        return True
    plans = [plan for plan, _ in world.plans.values() if not plan.status.settled]
    acting = any(plan.status.state not in OPEN_STATES or plan.spec.revert_of is not None for plan in plans)
    return acting or any(not word.status.settled for word in world.words.values())
