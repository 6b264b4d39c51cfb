"""SIGTERM, as a rollout sends it: what is in flight is brought to its end before the Lease is let go."""

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from dev.controlplane.kubectl import Kubectl
from dev.faultproxy import Side
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.runtime.leader import Leader
from incident_operator.settings import Settings

from .world import TIME_SCALE, World, outcome, story

CALL = "SetDefaultPolicyVersion"
#: How slow both servers are from the first intent on. Seconds.
SLOW = 0.8


def test_a_call_in_flight_is_journaled_before_the_lease_is_released(make_world: Callable[..., World]) -> None:
    """Told to stop while AWS is answering, it stores what came of the call; the next one goes on from there."""
    world, fault = make_world(through_proxy=True), FAULTS["inc-2023-1247"]
    proxy = world.proxy
    assert proxy is not None
    # Servers that are slow for a while must cost neither the Lease nor the call.
    operator = world.operator(**{"lease-duration": "15s", "call-timeout": "10s"})
    with world.customers():
        fault.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = world.manifest(fault.example)
        manifest["spec"]["incident"]["severity"] = "P2"  # P0 and P1 watch recovery for longer: nothing else differs
        world.apply(manifest)
        operator.start()

        def seen(side: Side, what: str) -> bool:
            return any((s.side, s.what) == (side, what) for s in proxy.changes)

        assert wait_until(lambda: seen(Side.API, "remediationplans/status Applying"), seconds=60), world.log()
        proxy.slow(SLOW)
        assert wait_until(lambda: seen(Side.AWS, CALL), seconds=30), world.log()
        assert [call["operation"] for call in world.changes_by_operator()] == [], "AWS has not seen it yet"
        operator.stop(seconds=60)
        proxy.slow(0)
        (plan,) = [plan for plan in world.plans() if (plan.get("status") or {}).get("startedAt")]
        (entry,) = plan["status"]["calls"]
        assert (entry["state"], plan["status"]["state"]) == ("Succeeded", "Verifying"), world.log()
        name = Settings(identity="any", namespaces=(world.name,)).lease_name
        lease = world.admin.json("get", "lease", name, "-n", OPERATOR_NAMESPACE)
        assert not lease["spec"].get("holderIdentity")
        world.operator().start()
        status = world.finished(manifest["metadata"]["name"])
    assert outcome(status) == "Resolved/Runbook", story(status)
    assert [call["operation"] for call in world.changes_by_operator()] == [CALL]


@pytest.fixture
async def leader(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    """Return one side of a Lease of its own, held."""
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    kube = await Kube.connect(Clock())
    try:
        made = Leader(kube, Clock(), Settings(identity="first", namespaces=(uuid.uuid4().hex,)))
        await made.acquire()
        yield made
    finally:
        await kube.close()


def lease_of(leader: Leader) -> tuple[str, str, str]:
    """Return what names its Lease to kubectl."""
    return f"lease/{leader.name}", "-n", OPERATOR_NAMESPACE


async def test_a_renewal_that_was_cut_off_does_not_keep_the_lease(stack: Stack, leader: Leader) -> None:
    """The Lease is newer than what this process knows, and still its own: it is let go all the same."""
    admin = Kubectl(stack.kubeconfig())
    admin.run("annotate", *lease_of(leader), "touched=yes")
    await leader.release()
    assert not admin.json("get", *lease_of(leader))["spec"].get("holderIdentity")


async def test_the_lease_of_another_is_not_released(stack: Stack, leader: Leader) -> None:
    """Whoever took it meanwhile keeps it."""
    admin = Kubectl(stack.kubeconfig())
    admin.run("patch", *lease_of(leader), "--type=merge", "-p", '{"spec": {"holderIdentity": "second"}}')
    await leader.release()
    assert admin.json("get", *lease_of(leader))["spec"]["holderIdentity"] == "second"
