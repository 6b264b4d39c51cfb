"""A pure world in which the decisions run: an API server, a Lease, operators that crash, calls that land late.

The operators here carry decisions out as the controllers do (read, decide, compare-and-swap, perform), one micro-step
at a time, so that a history can be cut anywhere. Nothing waits and nothing is random: a history is its bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from incident_operator.api.plan import GateVerdict, PlanState, RemediationPlan, RemediationPlanStatus
from incident_operator.api.run import FixState, IncidentRun, IncidentRunStatus
from incident_operator.core.draft import Judgement
from incident_operator.core.invariants import Moment, Sent
from incident_operator.core.plan import (
    Answered,
    Execute,
    Judge,
    Judged,
    Look,
    Observed,
    PlanEffect,
    PlanView,
    Replan,
    Replanned,
    decide_plan,
)
from incident_operator.core.redact import redact, redact_json
from incident_operator.core.run import (
    EndRound,
    FixResult,
    PlanFixes,
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
from incident_operator.core.schedule import Timing
from tests.properties.shop import DEPENDENCIES, FIXES, START, Setting, Shop, the_plan, the_run, the_runbook

RUN = "run"
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
                runs={RUN: self.run},
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
        self.leader = Operator(self, self.epoch)

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
            return Answered(ok=True, request_id="r", **key)
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
        else:
            self.plans[key] = self.world.plans[key]
            self.enqueue(RUN)
        self.enqueue(key)

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
            if decision.status.settled:
                self.round = None
                return None
            if not any(again) and not (changed and decision.wake_at is not None and decision.wake_at <= world.now):
                return decision.wake_at
        raise AssertionError("I10: the run is decided again and again at one instant, and never comes to rest")

    def _perform(self, effect: RunEffect) -> bool:
        match effect:
            case Tell(reason, message):
                self.world.told.append(redact(f"{reason}: {message}"))
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
        attempt = plan_attempt(tuple(plan for plan, _ in self.plans.values()), fix)
        plan = the_plan(fix, attempt, setting.repeats, setting.undo)
        gate = GateVerdict(name="ApprovalMissing", message="a person must agree")
        return FixResult(name=fix, plan=plan, gates=(gate,) if setting.blocked else ())

    def _store_plans(self, round_: Round) -> None:
        for result in (round_.fixes or {}).values():
            if result.plan is None:
                continue
            name = result.plan.metadata.name
            if name not in self.world.plans:
                self.world.plans[name] = result.plan, 1
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
            over = self.run.status.settled
            view = PlanView(
                plan=plan,
                run_state="Over" if over else "Active" if self.run.status.active_plan == name else "Idle",
                epoch=self.epoch,
                holder=self.holder,
                call_timeout=TIMEOUT,
                timing=TIMING,
                busy=session.busy,
                replanned=session.replanned,
                answered=session.answered,
                observed=session.observed,
                judged=session.judged,
            )
            decision = decide_plan(view, world.now)
            written = decision.status != plan.status
            if written:
                if not world.write_plan(self, name, decision.status):
                    self.plans[name] = world.plans[name]
                    self.enqueue(name)
                    return None
                self.plans[name] = world.plans[name]
                session.replanned = session.observed = None
                if decision.status.state != plan.status.state:
                    session.judged = None
                if not session.busy:
                    session.answered = None
                self.enqueue(RUN)
            for effect in decision.effects:
                if session.retry_at is not None and world.now < session.retry_at and not written:
                    return session.retry_at
                self._start(name, session, effect)
            if decision.status.settled:
                return None
            if not (written and decision.wake_at is not None and decision.wake_at <= world.now):
                return decision.wake_at
        raise AssertionError(f"I10: plan {name} is decided again and again at one instant, and never comes to rest")

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
                gone = Replanned(same=False, reason="WorldChanged", message="the fix is not needed any more")
                gates = () if shop.is_granted(plan) else (GateVerdict(name="GrantMissing", message="narrowed"),)
                session.replanned = Replanned(same=True, gates=gates) if there else gone
            case Execute():
                session.answered = world.send(self, plan, effect)
            case Look(phase, index, attempt):
                applied = shop.landed[plan.metadata.name, phase, index] > 0
                changed = "" if applied or there else "the fix is not needed any more"
                session.observed = Observed(
                    phase=phase, index=index, attempt=attempt, applied=applied, world_changed=changed
                )
            case Judge():
                session.judged = Judged(at=world.now, judgement=self._judgement(there))

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
    """Tell whether anything is still to be ended."""
    return not world.run.status.settled or any(
        not plan.status.settled and plan.status.state != PlanState.PROPOSED for plan, _ in world.plans.values()
    )
