"""Where the bench runs: its own stack in `.dev/bench`, a namespace, and an operator of its own."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from dev.controlplane.kubectl import Kubectl
from dev.loopback import ROOT, free_ports
from dev.operators import OperatorProcess
from dev.stack import OPERATOR_NAMESPACE, Stack

STATE = ROOT / ".dev/bench"
TIME_SCALE = 20.0


def the_stack(*, shop: bool, latency: str = "0ms") -> Stack:
    """Return the bench's stack, up, without an operator."""
    return Stack(STATE, operator=False, shop=shop, time_scale=TIME_SCALE, latency=latency, cluster="own").up()


@contextlib.contextmanager
def a_namespace(stack: Stack, labels: dict[str, str] | None = None) -> Iterator[str]:
    """Make a namespace; it is deleted in the background afterwards."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    admin = Kubectl(stack.kubeconfig())
    admin.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}])
    try:
        yield name
    finally:
        admin.run("delete", "namespace", name, "--wait=false")


def an_operator(stack: Stack, namespace: str) -> OperatorProcess:
    """Return an operator for one namespace, not started."""
    (port,) = free_ports(stack.address, 1)
    arguments = ["--namespaces", namespace, "--operator-namespace", OPERATOR_NAMESPACE]
    arguments += ["--time-scale", f"{TIME_SCALE:g}"]
    log: Path = STATE / "logs" / "operator.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return OperatorProcess(arguments, stack.operator_env(), log, f"{stack.address}:{port}")
