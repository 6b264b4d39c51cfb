"""Lock Leases on a real API server: all of a plan's resources or none, whose they are, and what is left over."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dev.controlplane.kubectl import Kubectl
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.locks import Locks, lock_name
from incident_operator.api.plan import RemediationPlan
from tests.builders import a_plan


@pytest.fixture
async def kube(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    """Return a connection as the operator's account."""
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    made = await Kube.connect(Clock())
    yield made
    await made.close()


@pytest.fixture
def locks(kube: Kube) -> Locks:
    """Return the locks of the operator's namespace."""
    return Locks(kube, Clock(), OPERATOR_NAMESPACE)


@pytest.fixture
def namespace(stack: Stack) -> str:
    """Return a namespace of the test's own."""
    name = f"locks-{uuid.uuid4().hex[:8]}"
    Kubectl(stack.kubeconfig()).run("create", "namespace", name)
    return name


def arn(namespace: str, name: str) -> str:
    """Return a resource that no other test touches."""
    return f"arn:aws:iam::123456789012:role/{namespace}/{name}"


async def stored(kube: Kube, namespace: str, name: str, *touches: str) -> RemediationPlan:
    """Create a plan that touches these."""
    wire = a_plan(touches=touches).wire()
    wire.pop("status")
    wire["metadata"] = {"name": name, "namespace": namespace}
    return RemediationPlan.model_validate(await kube.create(wire))


def held(stack: Stack, *arns: str) -> list[str]:
    """Return who holds each, empty for nobody."""
    admin = Kubectl(stack.kubeconfig())
    found = admin.json("get", "leases", "-n", OPERATOR_NAMESPACE, "-l", "ops.shopsmart.com/lock=true")["items"]
    holders = {lease["metadata"]["name"]: lease["spec"]["holderIdentity"] for lease in found}
    return [holders.get(lock_name("123456789012", one), "") for one in arns]


async def test_all_or_none_and_the_holder_is_named(kube: Kube, locks: Locks, stack: Stack, namespace: str) -> None:
    """The second plan gets nothing while the first holds one of the two, and everything afterwards."""
    one, two = arn(namespace, "one"), arn(namespace, "two")
    first = await stored(kube, namespace, "first", two)
    second = await stored(kube, namespace, "second", one, two)
    assert await locks.acquire(first) is None
    blocked = await locks.acquire(second)
    assert blocked is not None
    assert (blocked.name, blocked.hard) == ("ResourceLocked", True)
    assert blocked.message == f"{two} is being changed by plan {namespace}/first"
    assert held(stack, one, two) == ["", first.metadata.uid]
    await locks.release(second)
    assert held(stack, two) == [first.metadata.uid], "nobody frees what is another's"
    await locks.release(first)
    assert await locks.acquire(second) is None
    assert held(stack, one, two) == [second.metadata.uid] * 2


async def test_taking_it_again_is_taking_it_once(kube: Kube, locks: Locks, stack: Stack, namespace: str) -> None:
    """A process that died after it took the lock goes on with it."""
    plan = await stored(kube, namespace, "plan", arn(namespace, "role"))
    assert await locks.acquire(plan) is None
    assert await Locks(kube, Clock(), OPERATOR_NAMESPACE).acquire(plan) is None
    assert held(stack, *plan.spec.touches) == [plan.metadata.uid]


@pytest.mark.parametrize("status", [None, {"state": "Applying"}, {"state": "NoEffect", "settled": True}])
async def test_only_what_is_left_over_is_swept(
    kube: Kube, locks: Locks, stack: Stack, namespace: str, status: dict[str, Any] | None
) -> None:
    """Of a plan that has ended, or is gone; one under way keeps its lock however long it takes."""
    plan = await stored(kube, namespace, "plan", arn(namespace, "role"))
    assert await locks.acquire(plan) is None
    raw = await kube.get("RemediationPlan", namespace, "plan")
    if status is None:
        Kubectl(stack.kubeconfig()).run("delete", "remediationplan", "-n", namespace, "plan")
    else:
        await kube.write_status({**raw, "kind": "RemediationPlan"}, status)
    await locks.sweep()
    live = status is not None and status["state"] == "Applying"
    assert held(stack, *plan.spec.touches) == [plan.metadata.uid if live else ""]


def test_a_lock_is_of_the_resource_whatever_region_the_plan_is_for() -> None:
    """IAM's resources are one for all regions; others carry their region themselves."""
    role = "arn:aws:iam::123456789012:role/x"
    assert lock_name("123456789012", role) == lock_name("123456789012", role)
    queues = [f"arn:aws:sqs:{region}:123456789012:q" for region in ("us-east-1", "eu-west-1")]
    assert len({lock_name("123456789012", one) for one in (role, *queues)}) == 3
