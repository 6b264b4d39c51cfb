"""The Lease on a real API server: an epoch that nothing stored is ahead of."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest

from dev.controlplane.kubectl import Kubectl
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.runtime.leader import Leader
from incident_operator.settings import Settings


@pytest.fixture
async def kube(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    """Return a connection as the operator's account."""
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    made = await Kube.connect(Clock())
    yield made
    await made.close()


async def test_a_lease_younger_than_the_plans_is_raised_above_them(kube: Kube, stack: Stack) -> None:
    """As after a restore of the objects without the Lease: else every plan under way would wait for ever."""
    namespaces = (uuid.uuid4().hex,)
    leader = Leader(kube, Clock(), Settings(identity="restored", namespaces=namespaces))
    assert await leader.acquire() == 1
    keeping = asyncio.create_task(leader.keep())
    async with asyncio.timeout(20):
        await leader.at_least(7)
    assert (leader.epoch, leader.held()) == (7, True)
    admin = Kubectl(stack.kubeconfig())
    assert admin.json("get", "lease", leader.name, "-n", OPERATOR_NAMESPACE)["spec"]["leaseTransitions"] == 7
    await leader.at_least(3)
    assert leader.epoch == 7, "it never goes back"
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    await leader.release()
    assert await Leader(kube, Clock(), Settings(identity="next", namespaces=namespaces)).acquire() == 8
