"""kill -9 at every write and at every changing call, before and after: the run ends as it would have.

A first run without a fault names the requests that matter; then each of them, at both moments, gets a world of its
own, an operator that is killed there by the proxy, and a second operator that must bring the run to the same end: no
call twice that may be made once, nothing in the world that the first run did not do. Source: decision 31.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from dev.faultproxy import Moment, Seen, Side
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS

from .world import TIME_SCALE, World, outcome, story

#: A world mostly waits, for telemetry and for stability: so many keep two cores busy.
AT_ONCE = 5


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A fault whose cure is killed everywhere."""

    fault: str
    ends: str


PLAYBOOKS = (
    Playbook(fault="inc-2023-1247", ends="Resolved/Runbook"),
    Playbook(fault="lambda-timeout", ends="Resolved/Runbook"),
)


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda p: p.fault)
def test_killed_anywhere_it_ends_the_same(playbook: Playbook, make_world: Callable[..., World]) -> None:
    """Every changing request of the playbook, before and after."""
    whole = _cure(make_world(through_proxy=True), playbook)
    assert whole.ends == playbook.ends, whole.told
    points = [Point(what=what, nth=nth, moment=moment) for what, nth in _turns(whole.seen) for moment in Moment]
    assert {seen.side for seen in whole.seen} == set(Side)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        cures = list(pool.map(lambda point: _cure(make_world(through_proxy=True), playbook, point), points))
    wrong = [
        f"killed {point.moment} {point.what} ({point.nth}): {problem}"
        for point, cure in zip(points, cures, strict=True)
        for problem in _problems(whole, cure)
    ]
    assert not wrong, "\n".join(wrong)


def _turns(seen: list[Seen]) -> list[tuple[str, int]]:
    """Return every changing request by name and number; of samples that are all alike, the first two."""
    counts = Counter[str]()
    turns = []
    for request in seen:
        counts[request.what] += 1
        if counts[request.what] <= 2:
            turns.append((request.what, counts[request.what]))
    return turns


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where the operator is killed."""

    what: str
    nth: int
    moment: Moment


@dataclass(frozen=True, kw_only=True)
class Cure:
    """What came of one world."""

    seen: list[Seen]
    ends: str
    calls: Counter[str]
    killed: bool
    healed: bool
    told: str


def _cure(world: World, playbook: Playbook, point: Point | None = None) -> Cure:
    """Break, apply, be killed where it is said, be started anew, and wait for the end."""
    fault = FAULTS[playbook.fault]
    assert world.proxy is not None
    operator = world.operator()
    strike = world.proxy.strike(point.what, point.nth, point.moment, operator.kill) if point else None
    with world.customers() as customers:
        fault.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = world.manifest(fault.example)
        manifest["spec"]["incident"]["severity"] = "P2"  # P0 and P1 watch recovery for longer: nothing else differs
        world.apply(manifest)
        operator.start()
        status = world.finished(manifest["metadata"]["name"], 120)
        healed = customers.wait_for(lambda answer: answer.ok, seconds=15)
    operator.stop()
    made = world.changes_by_operator()
    return Cure(
        seen=list(world.proxy.changes),
        ends=outcome(status),
        calls=Counter(call["operation"] for call in made if call["outcome"] == "OK"),
        killed=strike is not None and strike.struck.is_set(),
        healed=healed,
        told=story(status),
    )


def _problems(whole: Cure, cure: Cure) -> list[str]:
    problems = []
    if not cure.killed:
        problems.append("the operator was not killed: the story took another way")
    if cure.ends != whole.ends:
        problems.append(f"it ended {cure.ends}, not {whole.ends}\n{cure.told}")
    if not cure.healed:
        problems.append(f"customers still fail\n{cure.told}")
    if set(cure.calls) != set(whole.calls):
        problems.append(f"it made {dict(cure.calls)}, not {dict(whole.calls)}\n{cure.told}")
    return problems
