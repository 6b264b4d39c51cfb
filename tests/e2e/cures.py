"""One playbook cured in a world of its own, with faults on the way, and what must be the same as without them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from dev.faultproxy import Fault, Seen
from dev.operators import OperatorProcess
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS

from .world import TIME_SCALE, World, outcome, story

#: A world mostly waits, for telemetry and for stability: so many keep two cores busy.
AT_ONCE = 3
#: So busy that a shorter Lease would be lost again and again by itself. Seconds.
LEASE_SECONDS = 5
#: Harm.LATE of a call is later than this. Seconds.
CALL_SECONDS = 2
#: Customers a second: each of theirs is a process's start where the function times out.
CUSTOMERS = 3
#: Until a run has ended, with whatever was done to its operator, on a machine with other things to do.
RUN_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A fault of the shop whose cure meets faults of the network and of the machine."""

    fault: str
    ends: str
    #: Whether it asks, and bob agrees to whatever plan is open.
    asks: bool = False


@dataclass(frozen=True, kw_only=True)
class Cure:
    """What came of one world. Shape: `calls` are those that AWS says succeeded; `once` those never to be repeated."""

    seen: list[Seen]
    ends: str
    calls: Counter[str]
    once: frozenset[str]
    missed: list[str]
    healed: bool
    told: str


def cure(world: World, playbook: Playbook, faults: Callable[[OperatorProcess], Iterable[Fault]] | None = None) -> Cure:
    """Break, apply, meet the faults, and wait for the end; an operator that ends is started anew."""
    proxy = world.proxy
    assert proxy is not None
    operator = world.operator(**{"lease-duration": f"{LEASE_SECONDS}s", "call-timeout": f"{CALL_SECONDS}s"})
    armed = list(faults(operator)) if faults else []
    proxy.arm(*armed)
    with world.customers(CUSTOMERS) as customers:
        name = break_and_apply(world, playbook)
        operator.start()
        if playbook.asks:
            agree_to_all(world, name)
        status = world.finished(name, RUN_SECONDS)
        healed = customers.wait_for(lambda answer: answer.ok, seconds=30)
    operator.stop()
    return replace(
        judged(world, status, healed=healed),
        seen=list(proxy.changes),
        missed=[f"{fault.harm} {fault.what} ({fault.nth})" for fault in armed if not fault.struck.is_set()],
    )


def break_and_apply(world: World, playbook: Playbook) -> str:
    """Break the shop, wait until its customers fail, and apply the run; return its name."""
    fault = FAULTS[playbook.fault]
    fault.break_(world.shop)
    assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
    manifest = world.manifest(fault.example)
    manifest["spec"]["incident"]["severity"] = "P2"  # P0 and P1 watch recovery for longer: nothing else differs
    if playbook.asks:
        manifest["spec"]["automation"] = {"applyUpTo": "None"}
    world.apply(manifest)
    return str(manifest["metadata"]["name"])


def agree_to_all(world: World, name: str) -> None:
    """Let bob agree to each plan that is open, until the run has ended: one made anew needs another word."""
    agreed = set[str]()

    def ended() -> bool:
        open_ = [p for p in world.plans() if (p.get("status") or {}).get("state", "Proposed") == "Proposed"]
        for plan in open_:
            if plan["metadata"]["uid"] not in agreed and world.status(name).get("phase") == "AwaitingApproval":
                world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
                agreed.add(plan["metadata"]["uid"])
        return bool(world.status(name).get("settled"))

    wait_until(ended, seconds=RUN_SECONDS, every=1)


def judged(world: World, status: dict[str, Any], *, healed: bool) -> Cure:
    """Look at a world whose run has ended."""
    made = world.changes_by_operator()
    planned = [call for plan in world.plans() for call in plan["spec"]["calls"]]
    once = {_journaled(call["operation"]) for call in planned if call["repeat"] == "Once"}
    return Cure(
        seen=[],
        ends=outcome(status),
        calls=Counter(call["operation"] for call in made if call["outcome"] == "OK"),
        once=frozenset(once),
        missed=[],
        healed=healed,
        told=f"{story(status)}\n{world.log()}",
    )


def _journaled(operation: str) -> str:
    return "".join(part.capitalize() for part in operation.split("_"))


#: How problems begin that the pace of the machine can bring about.
_BY_PACE = ("it ended ", "it did not happen: ")


def problems(whole: Cure, met: Cure) -> list[str]:
    """Return what is not as it was without a fault; how often a call was made may differ, but for those made once."""
    found = [f"it did not happen: {missed}; the story took another way" for missed in met.missed if is_certain(missed)]
    if met.ends != whole.ends:
        found.append(f"it ended {met.ends}, not {whole.ends}")
    if not met.healed:
        found.append("customers still fail")
    if set(met.calls) != set(whole.calls):
        found.append(f"it made {dict(met.calls)}, not {dict(whole.calls)}")
    found += [
        f"{name} was made {met.calls[name]} times, and may be made once" for name in met.once if met.calls[name] > 1
    ]
    return [f"{problem}\n{met.told}" for problem in found]


#: What not every world comes to: progress, a second request of its kind, the end of a plan that was not needed.
_CHANCE = re.compile(r"/status ([a-z]|Expired|Superseded)|\(2\)$")


def is_certain(what: str) -> bool:
    """Tell whether a request comes in every world."""
    return _CHANCE.search(what) is None


def turns(seen: list[Seen]) -> list[tuple[str, int]]:
    """Return every changing request by name and number; of samples that are all alike, the first two."""
    counts = Counter[str]()
    found = []
    for request in seen:
        counts[request.what] += 1
        if counts[request.what] <= 2:
            found.append((request.what, counts[request.what]))
    return found


def cure_all(
    make_world: Callable[..., World],
    playbook: Playbook,
    whole: Cure,
    cases: list[Callable[[OperatorProcess], Iterable[Fault]]],
) -> list[list[str]]:
    """Return for each case, in a world of its own, what is not as it was without a fault.

    A function that a starved machine lets time out once more changes how a run ends, though nothing wrong was done:
    such a case gets a second world, which has the machine to itself. What must never happen gets none.
    """

    def met(faults: Callable[[OperatorProcess], Iterable[Fault]]) -> list[str]:
        return problems(whole, cure(make_world(through_proxy=True), playbook, faults))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(met, cases))
    for number, case in enumerate(cases):
        if found[number] and all(problem.startswith(_BY_PACE) for problem in found[number]):
            again = met(case)
            found[number] = [*found[number], *again] if again else []
    return found
