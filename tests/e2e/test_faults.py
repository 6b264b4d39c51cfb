"""Each fault of the shop, from `kubectl apply` to its end: what is right for it, and what must be left alone.

The world is looked at from outside: customers, the simulator's journal and its dump, never the run's own words.
"""

from collections.abc import Callable
from typing import Any

import pytest

from dev.shop.alarm import wait_until_felt, wait_until_well
from dev.shop.examples import examples
from dev.shop.faults import FAULTS, Fault

from .comparing import only_touched
from .people import people_do
from .world import TIME_SCALE, World, impact, outcome, story

#: What each fault's run ends as, what it names as a reason, and the changing calls it makes: those and no others.
EXPECTED: dict[str, tuple[str, set[str], list[str]]] = {
    "inc-2023-1247": ("Resolved/Runbook", {"AccessDenied", "RoleLacksPermission"}, ["SetDefaultPolicyVersion"]),
    "inc-2023-0892": ("Resolved/Runbook", {"AccessDenied"}, ["PutRolePolicy"]),
    "lambda-explicit-deny": ("Unresolved/NoFixApplies", {"AccessDenied"}, []),
    # What a protected actor took away: asked of people, who say no.
    "inc-2023-1456": ("Unresolved/NotPermitted", {"AccessDenied", "AccessRemovedOnPurpose"}, []),
    "lambda-timeout": (
        "Resolved/Runbook",
        {"FunctionTimeouts"},
        ["UpdateFunctionConfiguration", "PublishVersion", "UpdateAlias"],
    ),
    "lambda-bad-deploy": ("Resolved/Runbook", {"FunctionErrors"}, ["UpdateAlias"]),
    "lambda-throttled": ("Resolved/Runbook", {"Throttled"}, ["PutFunctionConcurrency"]),
    "two-causes": (
        "Resolved/Runbook",
        {"AccessDenied", "RoleLacksPermission"},
        ["SetDefaultPolicyVersion", "PutRolePolicy"],
    ),
    "lambda-healthy": ("NothingFound/NothingFound", set(), []),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_fault_ends_as_it_should(fault: Fault, make_world: Callable[..., World]) -> None:
    """Break it as its actor would, wait until customers fail, apply the example, and look at the world."""
    world = make_world()
    ends, reasons, calls = EXPECTED[fault.name]
    with world.customers() as customers, world.operator():
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        fault.break_(world.shop)
        if fault.name != "lambda-healthy":
            assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        before = world.dump()
        manifest = world.manifest(fault.example)
        world.apply(manifest)
        people_do(world, examples()[fault.example])
        status = world.finished(manifest["metadata"]["name"])
        assert outcome(status) == ends == _example_says(fault), story(status)
        if ends.startswith("Resolved"):
            assert customers.wait_for(lambda answer: answer.ok, seconds=10), customers.told()
            assert impact(status)[0] > 0
    problems = {f["reason"] for f in status["findings"] if f["kind"] == "Problem"} | _told(status)
    assert reasons <= problems, story(status)
    made = world.changes_by_operator()
    assert [call["operation"] for call in made] == calls, story(status)
    assert all(call["outcome"] == "OK" for call in made)
    assert bool(only_touched(world, before)) == bool(calls)
    _nothing_outside_the_plans(world, made)


def _example_says(fault: Fault) -> str:
    found = examples()[fault.example]
    return f"{found.phase}/{found.outcome}"


def _told(status: dict[str, Any]) -> set[str]:
    return {entry["reason"] for entry in status["timeline"]}


def _nothing_outside_the_plans(world: World, made: list[dict[str, Any]]) -> None:
    """Executed calls are calls of plans that were applied, and each was named in a journal (I1, I4)."""
    applied = [plan for plan in world.plans() if (plan.get("status") or {}).get("startedAt")]
    journaled = sum(len(plan["status"]["calls"]) for plan in applied)
    assert journaled == len(made)
    assert all(plan["status"]["settled"] for plan in world.plans())
