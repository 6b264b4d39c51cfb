"""Whatever is cut off, lost, late, repeated or taken over: the invariants hold, and every run comes to an end.

A history is at most thirty steps of two bytes: what happens, and how much of it. After them nothing goes wrong any
more, and the world must come to rest by itself.
"""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from incident_operator.api.intervention import PLAN_VERBS, Verb
from incident_operator.api.meta import Severity
from incident_operator.api.plan import Repeat
from incident_operator.core.invariants import Violation, check_end, check_history
from tests.builders import a_word
from tests.properties.conftest import PROFILE
from tests.properties.shop import GRANT, HALTED, NARROW, Setting
from tests.properties.world import STRANGER, TIMING, Died, Operator, World, unsettled

MAX_STEPS = 30
#: Shares of one profile's histories, so that two workers can check them side by side.
SHARDS = 4
_JUMPS = (timedelta(seconds=1), timedelta(seconds=12), timedelta(seconds=70), timedelta(minutes=20))
_FATES = ("answer-lost", "call-lost", "late", "ThrottlingException", "AccessDenied", "PreconditionFailedException")
#: What people say, the more telling more often.
_VERBS = (*Verb, Verb.APPROVE, Verb.APPROVE, Verb.APPROVE, Verb.REVERT, Verb.CANCEL, Verb.RESUME)
_LONG = 24
#: Three bytes of setting, one of length, then the steps. Always all of them: left alone, short ones would be drawn.
_BYTES = 4 + 2 * MAX_STEPS


def the_setting(bits: bytes) -> Setting:
    """Return the setting that three bytes stand for."""
    a, b, c = bits
    repeats = tuple(list(Repeat)[(a >> shift) % 3] for shift in (0, 2, 4))[: 1 + b % 3]
    return Setting(
        repeats=repeats,
        undo=bool(b & 4),
        helps=("Helped", "Helped", "NoEffect", "Worse", "NotMeasured")[(b >> 3) % 5],
        causes=frozenset(
            reason
            for i, reason in enumerate(("RoleLacks", "CodeFails"))
            if c >> i & 1 or (c & 3 == 0 and c & 128 and i == 0)
        ),
        observe_only=c >> 2 & 7 == 1,
        asks=c >> 2 & 7 in (2, 3, 4),
        temporary=(None, None, "Flag", "UndoIfSafe")[a >> 6],
        severity=Severity.P2 if c & 32 else Severity.P3,
        if_no_help="Next" if c & 64 else "Stop",
        wire=bool(c >> 5 == 5),
    )


class History:
    """A world under way."""

    def __init__(self, setting: Setting) -> None:
        self.world = World(setting)

    def step(self, what: int, how: int) -> None:
        """Let one thing happen."""
        world, faults = self.world, self.world.faults
        match what % 20:
            case 0 | 1 | 2 | 3:
                self.work(1 + how % _LONG, how >> 3)
            case 4 | 5:
                faults.kill_at_write, faults.before = how >> 1 & 3, bool(how & 1)
                self.work(_LONG, how >> 3)
            case 6:
                faults.kill_at_call, faults.before = how >> 1 & 1, bool(how & 1)
                self.work(_LONG, how >> 3)
            case 7:
                faults.call = _FATES[how % len(_FATES)]
                self.work(_LONG, how >> 3)
            case 8:
                self.take_over(slow=bool(how & 1))
            case 9:
                self.as_zombie(1 + how % 6, how >> 3)
            case 10:
                world.pass_time(_JUMPS[how % len(_JUMPS)])
            case 11:
                self.replay(how)
            case 12:
                self.outside(how % 6)
            case 13:
                self.touch(bool(how & 1))
            case 14:
                self.lose_a_write(how)
            case 15 | 16 | 17 | 18:
                self.people(how)
            case 19:
                self.admins(how % 8)

    def work(self, steps: int, choice: int) -> None:
        """Let the leader do this many micro-steps; when there is nothing to do, time passes."""
        for _ in range(steps):
            try:
                busy = self.world.leader.step(choice)
            except Died:
                self.restart()
                return
            if not busy:
                self.wait()

    def wait(self) -> None:
        """Let time pass until the leader wants to look again, or a call lands."""
        world = self.world
        ahead = [at for at in world.leader.wakes.values() if at > world.now]
        until = min([*ahead, *(at for at, *_ in world.shop.in_flight)], default=world.now + timedelta(seconds=30))
        world.pass_time(max(until - world.now, timedelta(milliseconds=1)))

    def restart(self) -> None:
        """The process is gone with all it knew; its supervisor starts another one a second later."""
        self.world.pass_time(timedelta(seconds=1))
        self.world.elect()

    def take_over(self, *, slow: bool) -> None:
        """Another replica acquires the Lease once it has lapsed; the former one may not have noticed yet."""
        former = self.world.leader
        self.world.pass_time(TIMING.lease_duration * (4 if slow else 1))
        self.world.elect()
        self.world.zombie = former

    def as_zombie(self, steps: int, choice: int) -> None:
        """Let the former leader go on: it holds no Lease any more, but may still write what it decides."""
        zombie: Operator | None = self.world.zombie
        for _ in range(steps if zombie else 0):
            try:
                if zombie is None or not zombie.step(choice):
                    return
            except Died:
                self.world.zombie = None
                return

    def replay(self, how: int) -> None:
        """The watch repeats everything, in another order."""
        leader = self.world.leader
        for key in sorted(["run", *leader.plans], reverse=bool(how & 1)):
            leader.enqueue(key)
        self.work(4, how >> 1)

    def outside(self, how: int) -> None:
        """The world changes by other hands."""
        world, shop = self.world, self.world.shop
        match how:
            case 0:
                shop.broken.clear()
            case 1:
                shop.broken.add("CodeFails")
            case 2:
                shop.grant = NARROW if shop.grant is GRANT else GRANT
                world.record()
            case 3:
                shop.answers = not shop.answers
            case 4:
                world.revision_lost = True
            case 5:
                world.revision_lost = False

    def people(self, how: int) -> None:
        """A person says something of the run or of one of its plans, deletes the run, or lends a hand."""
        world, verb, who = self.world, _VERBS[how % len(_VERBS)], ("alice", "bob", "carol")[how // len(_VERBS) % 3]
        spec: dict[str, Any] = {"verb": verb}
        if verb in PLAN_VERBS:
            if not world.plans:
                return
            plan = world.plans[sorted(world.plans)[how % len(world.plans)]][0]
            spec["target"] = {"name": plan.metadata.name, "uid": plan.metadata.uid}
            spec |= {"tier": str(plan.spec.tier)} if verb == Verb.APPROVE else {}
        elif world.run_gone:
            return
        spec |= {"fix": ("restoreAccess", "rollback")[how & 1]} if verb in (Verb.RETRY, Verb.SKIP) else {}
        spec |= {"then": ("Leave", "Revert")[how >> 5 & 1]} if verb == Verb.CANCEL else {}
        spec |= {"reason": "so"} if verb == Verb.NOTE else {}
        world.say(a_word(f"word-{len(world.words)}", by=who, at=world.now, **spec))
        self.work(_LONG, how)

    def admins(self, how: int) -> None:
        """What admins and other operators do."""
        world, shop = self.world, self.world.shop
        match how:
            case 0:
                shop.grant = HALTED
                world.record()
            case 1:
                shop.grant = GRANT
                world.record()
            case 2:
                world.admission = "the policies are not there"
            case 3:
                world.admission = None
            case 4 | 5:
                free = [arn for plan, _ in world.plans.values() for arn in plan.spec.touches if arn not in world.locks]
                world.locks.update(dict.fromkeys(free, STRANGER))
            case 6:
                shop.version += 1
            case 7 if not world.run_gone and world.run.metadata.finalizers:
                gone = world.run.metadata.model_copy(update={"deletion_timestamp": world.now})
                world.run = world.run.model_copy(update={"metadata": gone})
                world.run_version += 1
                world.publish("run", None)

    def lose_a_write(self, choice: int) -> None:
        """The next write is stored, but its answer is lost."""
        self.world.faults.lose_write = True
        self.work(_LONG, choice)

    def touch(self, run: bool) -> None:
        """Somebody annotates an object: what the leader holds is old now."""
        world = self.world
        if run:
            world.run_version += 1
            world.publish("run", None)
        for name, (plan, version) in world.plans.items() if not run else ():
            world.plans[name] = plan, version + 1
            world.publish(name, None)

    def calm_down(self) -> None:
        """Nothing goes wrong any more; go on until there is nothing left to do."""
        world = self.world
        world.zombie, world.shop.answers, world.shop.grant, world.admission = None, True, GRANT, None
        world.faults = type(world.faults)()
        world.locks = {arn: uid for arn, uid in world.locks.items() if uid != STRANGER}
        world.record()
        for word in world.words.values():  # the watch lists what was not answered
            world.leader.tasks.append(lambda word=word: world.leader.hear(word))  # type: ignore[misc]
        for _ in range(3000):
            if not unsettled(world) and not world.leader.queue and not world.leader.tasks:
                return
            self.let_go_on()
            self.work(1, 0)

    def let_go_on(self) -> None:
        """Nobody leaves a run paused for ever."""
        world = self.world
        run, said = world.run.status, f"go-on-{world.run_version}"
        if run.paused is not None and not run.settled and not world.run_gone and said not in world.words:
            world.say(a_word(said, verb="Resume", at=world.now))

    def violations(self) -> list[Violation]:
        """Return every invariant that was broken on the way or at the end."""
        # Without a credential anywhere, the costly search for one can't find any.
        without = frozenset[str]() if self.world.setting.wire else frozenset({"I6"})
        return [*check_history(self.world.history, without=without), *check_end(self.world.history[-1])]


def holds(bits: bytes, steps: bytes) -> None:
    """Fail with each broken invariant, its reason and how it came about."""
    history = History(the_setting(bits))
    for what, how in zip(steps[::2], steps[1::2], strict=False):
        history.step(what, how)
    history.calm_down()
    broken = history.violations()
    if broken:
        raise AssertionError("\n".join(str(v) for v in broken[:3]) + f"\n  in {history.world.setting}")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_invariants_hold_in_every_history(shard: int) -> None:
    """Crashes, lost and late answers, conflicts, takeovers, replays, jumps of time, changes by others."""
    wanted, reached = settings.get_profile(PROFILE).max_examples // SHARDS, 0

    @settings(settings.get_profile(PROFILE), max_examples=wanted)
    @given(st.binary(min_size=_BYTES, max_size=_BYTES))
    def check(drawn: bytes) -> None:
        nonlocal reached
        reached += 1
        holds(drawn[:3], drawn[4:][: 2 * (drawn[3] % (MAX_STEPS + 1))])

    seed(shard)(check)()
    assert reached >= wanted
