"""A policy at work: a real breach starts one run, which cures it, whatever happens to the operator in between."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import KubectlError
from dev.faultproxy import Fault, Harm
from dev.processes import wait_until
from dev.shop.alarm import wait_until_well
from dev.shop.examples import POLICY
from dev.shop.faults import FAULTS
from dev.shop.shop import DEFAULT_ACCOUNT
from incident_operator.core.policy import CLOSE_CIRCUIT

from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
NAME = "birthday-lambda"


def a_policy(world: World, **guardrails: Any) -> dict[str, Any]:
    """Return the example as this world's, at any time of the week, with guardrails replaced."""
    found = json.loads(json.dumps(yaml.safe_load(POLICY.read_text())).replace(DEFAULT_ACCOUNT, world.shop.account))
    found["metadata"]["namespace"] = world.name
    found["spec"]["remediation"]["severity"] = "P2"  # P0 and P1 watch recovery for longer: nothing else differs
    found["spec"]["guardrails"] = {**found["spec"]["guardrails"], "windows": [], **guardrails}
    return dict(found)


def stored(world: World) -> dict[str, Any]:
    """Return the policy as it is."""
    return dict(world.admin.json("get", "remediationpolicy", "-n", world.name, NAME))


def wait_for_condition(world: World, type_: str, status: str, reason: str = "", seconds: float = 60) -> dict[str, Any]:
    """Wait until the policy's condition is so; return the policy."""
    found: dict[str, Any] = {}

    def met() -> bool:
        found.update(stored(world))
        conditions = (found.get("status") or {}).get("conditions", ())
        return any((c["type"], c["status"]) == (type_, status) and reason in ("", c["reason"]) for c in conditions)

    assert wait_until(met, seconds=seconds, every=0.25), f"{json.dumps(found.get('status'), indent=1)}\n{world.log()}"
    return found


def runs(world: World) -> list[dict[str, Any]]:
    """Return every run of the namespace."""
    return list(world.admin.json("get", "incidentruns", "-n", world.name)["items"])


def reads(world: World) -> int:
    """Return how often the account was read."""
    return len([call for call in world.journal() if not call["mutating"]])


def cured(world: World) -> dict[str, Any]:
    """Wait until a run of the policy cured the breach and the policy saw it; return the run."""
    assert wait_until(lambda: bool(runs(world)), seconds=60, every=0.25), f"{stored(world)}\n{world.log()}"
    name = runs(world)[0]["metadata"]["name"]
    status = world.finished(name)
    assert outcome(status) == "Resolved/Runbook", story(status)

    def closed() -> bool:
        status = stored(world)["status"]
        return "episode" not in status and "runs" not in {k for k, v in status.items() if v}

    assert wait_until(closed, seconds=60, every=0.25), f"{stored(world)['status']}\n{world.log()}"
    wait_for_condition(world, "Healthy", "True")
    (run,) = runs(world)
    return run


def test_a_breach_is_cured_and_the_episode_closed(world: World) -> None:
    """Healthy and silent before it; one run, asked for by who wrote the policy; healthy again after it."""
    with world.customers(), world.operator():
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        world.admin.apply([a_policy(world)])
        before = wait_for_condition(world, "Healthy", "True")["metadata"]["resourceVersion"]
        seen = reads(world)
        assert wait_until(lambda: reads(world) > seen + 10, seconds=30, every=0.25), world.log()
        assert stored(world)["metadata"]["resourceVersion"] == before, "written while it stayed healthy"
        FAULT.break_(world.shop)
        run = cured(world)
    assert run["spec"]["requestedBy"] == world.admin.json("auth", "whoami")["status"]["userInfo"]["username"]
    assert run["metadata"]["ownerReferences"][0]["uid"] == stored(world)["metadata"]["uid"]
    assert [call["operation"] for call in world.changes_by_operator()] == ["SetDefaultPolicyVersion"]


@pytest.mark.parametrize("harm", [Harm.UNSENT, Harm.LOST])
def test_killed_between_episode_and_run_it_makes_one_run(make_world: Callable[..., World], harm: Harm) -> None:
    """Before the API server has seen the run, and before the operator has seen the answer."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    operator = world.operator()
    with world.customers(), operator:
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        killed = Fault(what="POST incidentruns", harm=harm, act=operator.kill)
        world.proxy.arm(killed)
        world.admin.apply([a_policy(world)])
        wait_for_condition(world, "Healthy", "True")
        FAULT.break_(world.shop)
        cured(world)
    assert killed.struck.is_set()
    assert stored(world)["status"]["episodes"] == 1


def test_a_suspended_policy_watches_and_starts_nothing(world: World) -> None:
    """Until it is let go on; then the next answer starts the run."""
    with world.customers(), world.operator():
        FAULT.break_(world.shop)
        world.admin.apply([a_policy(world, suspend=True)])
        wait_for_condition(world, "Remediating", "False", "Suspended")
        wait_for_condition(world, "Healthy", "False", "Failing")
        assert runs(world) == []
        patch = json.dumps({"spec": {"guardrails": {"suspend": False}}})
        world.admin.run("patch", "rpol", NAME, "-n", world.name, "--type=merge", "-p", patch)
        cured(world)


def test_runs_that_do_not_cure_open_the_circuit_until_a_person_closes_it(world: World) -> None:
    """Observing only, no run can cure: after the second the policy stops, and goes on after a word."""
    policy = a_policy(world, stopAfterFailures=2, cooldown="1s")
    policy["spec"]["remediation"]["automation"] = {"applyUpTo": "None", "askUpTo": "None"}
    with world.customers(), world.operator():
        FAULT.break_(world.shop)
        world.admin.apply([policy])
        wait_for_condition(world, "CircuitOpen", "True", seconds=90)
        wait_for_condition(world, "Remediating", "False", "CircuitOpen")
        assert [run["status"]["phase"] for run in runs(world)] == ["Unresolved"] * 2
        word = f"{CLOSE_CIRCUIT}=seen by alice"
        world.admin.run("annotate", "rpol", "-n", world.name, NAME, word, "--overwrite")
        wait_for_condition(world, "CircuitOpen", "False")
        assert wait_until(lambda: len(runs(world)) == 3, seconds=60, every=0.25), stored(world)


def test_without_a_grant_nothing_is_read(world: World) -> None:
    """It says so, and goes on once there is one."""
    grant = world.admin.json("get", "actiongrant", world.name)
    world.admin.run("delete", "actiongrant", world.name)
    with world.customers(), world.operator():
        world.admin.apply([a_policy(world)])
        wait_for_condition(world, "Ready", "False", "GrantMissing")
        assert [c for c in world.journal() if "IncidentOperator" in c["principal"]] == []
        kept = {"apiVersion": grant["apiVersion"], "kind": grant["kind"], "spec": grant["spec"]}
        world.admin.apply([{**kept, "metadata": {"name": world.name}}])
        wait_for_condition(world, "Ready", "True")
        wait_for_condition(world, "Healthy", "True")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"health": {"checks": [{"name": "users", "inputs": {"a": 1}}]}}, "write its action"),
        ({"health": {"checks": [{"name": "users"}], "interval": "1s"}}, "interval is from 5s to 24h"),
        ({"guardrails": {"cooldown": "8d"}}, "cooldown is at most 7d"),
        ({"guardrails": {"windows": [{"kind": "Freeze", "cron": "0 1 * * *"}]}}, "give both"),
        ({"guardrails": {"windows": [{"kind": "Freeze", "days": ["Mon"]}]}}, "write either cron and duration"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_to_write(world: World, change: dict[str, Any], told: str) -> None:
    """By the API server, before anything happens."""
    policy = a_policy(world)
    policy["spec"].update(change)
    with pytest.raises(KubectlError, match=told):
        world.admin.apply([policy])
