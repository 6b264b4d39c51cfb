"""Servers that go away, observing only, and names that nobody wrote the code for."""

from collections.abc import Callable
from typing import Any

import pytest

from dev.faultproxy import Side
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS

from .world import TIME_SCALE, World, outcome, story

NAME = "inc-2023-1247"
FAULT = FAULTS[NAME]


def _broken(world: World) -> None:
    FAULT.break_(world.shop)
    assert wait_until_felt(world.shop, time_scale=TIME_SCALE)


@pytest.mark.parametrize("sides", [(Side.API,), (Side.AWS,), (Side.API, Side.AWS)], ids=lambda s: "-".join(s))
def test_work_goes_on_after_an_outage(make_world: Callable[..., World], sides: tuple[Side, ...]) -> None:
    """Gone while it diagnoses, for longer than the Lease lasts: the process may end, the work does not."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    operator = world.operator()
    with world.customers():
        _broken(world)
        operator.start().wait_leading()
        world.apply(world.manifest(FAULT.example))
        world.wait_for(NAME, lambda s: bool(s.get("startedAt")))
        with world.proxy.outage(*sides):
            # As long as it takes: the Lease is lost, or reads have failed for good.
            wait_until(lambda: operator.starts > 1, seconds=6)
        status = world.finished(NAME)
    expected = {"Resolved/Runbook"} | ({"Unresolved/DiagnosisIncomplete"} if sides == (Side.AWS,) else set())
    assert outcome(status) in expected, story(status)


@pytest.mark.parametrize("spec", [{"automation": {"askUpTo": "None"}}, {"drill": True}], ids=["observe-only", "drill"])
def test_observing_changes_nothing(make_world: Callable[..., World], spec: dict[str, Any]) -> None:
    """Not one changing call in the journal, nothing changed in the account; the plan is shown all the same."""
    world = make_world()
    with world.customers(), world.operator():
        _broken(world)
        before = world.dump()
        world.apply(world.manifest(FAULT.example, **spec))
        status = world.finished(NAME)
    assert outcome(status) == "Unresolved/ObserveOnly", story(status)
    assert world.changes_by_operator() == []
    assert world.dump() == before
    (plan,) = world.plans()
    assert plan["status"]["state"] == "Expired"
    assert plan["spec"]["calls"]


@pytest.mark.parametrize(
    ("shop", "parameters"),
    [
        ({"function": "Greeter", "role": "greeter", "role_path": "/service-role/"}, {"functionName": "Greeter"}),
        ({"region": "eu-west-1"}, {"region": "eu-west-1"}),
    ],
    ids=["another-function-and-a-role-with-a-path", "another-region"],
)
def test_nothing_is_special_about_names(
    make_world: Callable[..., World], shop: dict[str, Any], parameters: dict[str, Any]
) -> None:
    """The same cure under other names."""
    world = make_world(**shop)
    manifest = world.manifest(FAULT.example)
    given = {**manifest["spec"]["parameters"], **parameters}
    manifest["spec"]["parameters"] = {k: v for k, v in given.items() if v is not None}
    with world.customers() as customers, world.operator():
        _broken(world)
        world.apply(manifest)
        status = world.finished(NAME)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert customers.wait_for(lambda answer: answer.ok, seconds=10), customers.told()


def test_a_function_without_an_alias(make_world: Callable[..., World]) -> None:
    """`$LATEST` is what serves: its metrics have no alias in them."""
    world = make_world()
    world.shop.alias = "$LATEST"
    manifest = world.manifest(FAULT.example)
    del manifest["spec"]["parameters"]["alias"]
    with world.customers() as customers, world.operator():
        _broken(world)
        world.apply(manifest)
        status = world.finished(NAME)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert customers.wait_for(lambda answer: answer.ok, seconds=10), customers.told()
