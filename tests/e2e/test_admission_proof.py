"""The operator's proof that admission is on, against the real API server and with its own account."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dev.admission import missing, policies
from dev.controlplane.kubectl import Kubectl
from dev.loopback import ROOT
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.admission import AdmissionProof
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube

from .world import TIME_SCALE, World, outcome, story

BINDING = "validatingadmissionpolicybinding/incident-interventions"


@pytest.fixture
def stack(lone_stack: Stack) -> Stack:
    """Return a stack of its own: what is done here concerns the whole cluster."""
    return lone_stack


class AheadClock(Clock):
    """The real clock, and what a test adds to it."""

    ahead = timedelta()

    def now(self) -> datetime:
        """Return the instant."""
        return super().now() + self.ahead

    def monotonic(self) -> float:
        """Return seconds."""
        return super().monotonic() + self.ahead.total_seconds()


@pytest.fixture
def clock() -> AheadClock:
    """Return the clock."""
    return AheadClock()


@pytest.fixture
async def proof(stack: Stack, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AdmissionProof]:
    """Return a proof that is made with the operator's account."""
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    kube = await Kube.connect(clock)
    yield AdmissionProof(kube, clock, OPERATOR_NAMESPACE)
    await kube.close()


async def until(proof: AdmissionProof, *, proven: bool) -> str | None:
    """Prove until the answer is of this kind, and return it: a policy comes and goes within seconds."""
    async with asyncio.timeout(20):
        while ((why := await proof.prove()) is None) is not proven:
            await asyncio.sleep(0.1)
    return why


def installed(stack: Stack) -> str:
    """Run what the message and the documents say to type; return what it prints."""
    env = {
        **os.environ,
        "KUBECONFIG": str(stack.kubeconfig()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = "kubectl apply -k manifests/admission && kubectl apply -k manifests/admission/stamping"
    return subprocess.run(
        ["bash", "-ec", command], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout


async def test_the_proof_follows_what_is_in_force(proof: AdmissionProof, stack: Stack, clock: AheadClock) -> None:
    """On; the binding deleted: off, and why; installed again as the message says: on."""
    assert not proof.proven
    assert await proof.in_force() is None
    assert proof.proven
    other = AdmissionProof(proof._kube, clock, OPERATOR_NAMESPACE)
    Kubectl(stack.kubeconfig()).run("delete", BINDING)
    try:
        why = await until(other, proven=False)
        assert why is not None
        assert "takes an intervention under a borrowed name" in why
        assert "incident-interventions or its binding is not in force" in why
        assert not other.proven
        # A minute's proof is good enough, but not for a word that is younger.
        assert await proof.in_force() is None
        assert await proof.in_force(clock.now() - timedelta(minutes=5)) is None
        assert await proof.in_force(clock.now()) == why
        assert not proof.proven
        # And a proof that failed is made again at once.
        assert await proof.in_force() == why
    finally:
        said = installed(stack)
    assert f"{BINDING.replace('/', '.admissionregistration.k8s.io/')} created" in said
    assert await until(proof, proven=True) is None
    assert proof.proven


async def test_a_proof_is_good_for_a_minute(proof: AdmissionProof, stack: Stack, clock: AheadClock) -> None:
    """Within it the API server is not asked; after it, it is."""
    namespace = proof._namespace
    assert await proof.prove() is None
    # A namespace that is not there would tell at once that it was asked.
    proof._namespace = "no-such-namespace"
    clock.ahead = timedelta(seconds=59)
    assert await proof.in_force() is None
    clock.ahead = timedelta(seconds=61)
    why = await proof.in_force()
    assert why is not None
    assert "namespace no-such-namespace are not there" in why
    proof._namespace = namespace
    assert await proof.in_force() is None


async def test_a_missing_right_proves_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """RBAC refuses as well; that is no proof, and the message says what to grant."""
    monkeypatch.setenv("KUBECONFIG", str(stack.kubeconfig("mallory")))
    kube = await Kube.connect(Clock())
    try:
        why = await AdmissionProof(kube, Clock(), OPERATOR_NAMESPACE).prove()
    finally:
        await kube.close()
    assert why is not None
    assert "grant its account create on interventions.ops.shopsmart.com in namespace incident-system" in why


def test_the_stack_says_what_is_missing_and_puts_it_back(stack: Stack) -> None:
    """`up` waits for each policy by trying it, and names the one that does not answer."""
    admin = Kubectl(stack.kubeconfig())
    installed = policies(admin)
    assert missing(admin, installed, OPERATOR_NAMESPACE) == []
    admin.run("delete", "validatingadmissionpolicybinding/incident-operator-records")
    admin.run("delete", "mutatingadmissionpolicybinding/incident-interventions")
    told: list[str] = []

    def both() -> bool:
        told[:] = missing(admin, installed, OPERATOR_NAMESPACE)
        return len(told) == 2

    assert wait_until(both, seconds=20), told
    assert told[0] == "incident-operator-records does not refuse what it is for: is its binding there?"
    assert told[1].startswith("MutatingAdmissionPolicy incident-interventions fills nothing in")
    stack.up()
    assert missing(admin, installed, OPERATOR_NAMESPACE) == []


async def test_it_goes_on_proving(proof: AdmissionProof) -> None:
    """At once, then every minute, until cancelled."""
    keeping = asyncio.create_task(proof.keep_proving())
    async with asyncio.timeout(10):
        while not proof.proven:
            await asyncio.sleep(0.02)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


def test_nothing_is_applied_while_anybody_could_speak_for_others(
    stack: Stack, make_world: Callable[..., World]
) -> None:
    """Even what needs nobody's word waits, says why, and goes on when the policies are back."""
    world, fault = make_world(), FAULTS["inc-2023-1247"]
    world.admin.run("delete", BINDING)
    try:
        known = policies(world.admin)
        assert wait_until(lambda: bool(missing(world.admin, known, OPERATOR_NAMESPACE)), seconds=20)
        with world.customers(), world.operator():
            fault.break_(world.shop)
            assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
            manifest = world.manifest(fault.example)
            name = manifest["metadata"]["name"]
            world.apply(manifest)
            waiting = world.wait_for(name, lambda s: (s.get("now") or {}).get("waitingFor") == "AdmissionUnproven")
            assert "kubectl apply -k manifests/admission" in waiting["now"]["because"]
            assert world.changes_by_operator() == []
            installed(stack)
            status = world.finished(name)
    finally:
        installed(stack)
    assert outcome(status) == "Resolved/Runbook", story(status)
