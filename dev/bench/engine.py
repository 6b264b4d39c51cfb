"""What the engine does and costs: many observe-only runs with four probes each, and a start with many stored runs."""

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dev.controlplane.kubectl import Kubectl
from dev.loopback import free_ports
from dev.operators import OperatorProcess, resources
from dev.processes import wait_until
from dev.stack import SOURCES, Stack
from incident_operator.api.meta import API_VERSION

from .figures import Figure
from .place import a_namespace, an_operator, the_stack
from .runs import RUNBOOK

#: A Go controller of the same shape on two cores beside its API server.
GO_RATE, GO_CPU_MS = 137.0, 3.8
_LABEL = "shopsmart.com/bench"
_WEB = """
import sys
from aiohttp import web
async def well(_): return web.Response(text="well")
application = web.Application(); application.router.add_get("/", well)
web.run_app(application, host=sys.argv[1], port=int(sys.argv[2]), access_log=None, print=None)
"""


@contextlib.contextmanager
def a_web_server(address: str) -> Iterator[str]:
    """Serve one page; yields its URL."""
    (port,) = free_ports(address, 1)
    url = f"http://{address}:{port}/"
    with subprocess.Popen([sys.executable, "-c", _WEB, address, str(port)]) as server:
        try:
            yield url
        finally:
            server.terminate()


def _install(stack: Stack, namespace: str, address: str, url: str) -> None:
    port = int(url.rstrip("/").rsplit(":", 1)[1])
    checks = [{"name": f"page{n}", "action": "http.get", "inputs": {"url": url}} for n in "abcd"]
    runbook = {
        "title": "Web",
        "incidentType": "Web",
        "steps": [{"name": "look", "title": "Look", "expectedBy": "5m", "checks": checks}],
        "recovery": {"checks": ["pagea"]},
    }
    grant = {
        "namespaceSelector": {"matchLabels": {_LABEL: namespace}},
        "actions": ["http.*"],
        "probes": {"hosts": [address], "cidrs": [f"{address}/32"], "ports": [port]},
    }
    Kubectl(stack.kubeconfig()).apply(
        [
            {"apiVersion": API_VERSION, "kind": "ClusterRunbook", "metadata": {"name": RUNBOOK}, "spec": runbook},
            {"apiVersion": API_VERSION, "kind": "ActionGrant", "metadata": {"name": "bench"}, "spec": grant},
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": namespace, "labels": {_LABEL: namespace}},
            },
        ]
    )


def _runs(stack: Stack, namespace: str, count: int, *options: str) -> float:
    """Create runs in another process; return the seconds it took."""
    command = [sys.executable, "-m", "dev.bench.runs", namespace, str(count), *options]
    env = {**os.environ, **SOURCES, "KUBECONFIG": str(stack.kubeconfig())}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return float(done.stdout)


def throughput(rounds: int, count: int, say: Callable[[str], None]) -> list[Figure]:
    """Return rate, cost and what is left of `count` runs."""
    stack = the_stack(shop=False)
    samples: dict[str, list[float]] = {}
    for number in range(rounds):
        say(f"engine: {count} runs, round {number + 1} of {rounds}")
        with a_namespace(stack) as namespace, a_web_server(stack.address) as url:
            _install(stack, namespace, stack.address, url)
            with an_operator(stack, namespace) as operator:
                operator.wait_leading()
                _runs(stack, namespace, 20, "--prefix", "warm", "--wait")
                for name, value in _one_round(stack, namespace, operator, count).items():
                    samples.setdefault(name, []).append(value)
    met = max(samples["left"]) == 0 and sorted(samples["rss"])[len(samples["rss"]) // 2] <= 1.1
    return [
        Figure(name="engine, runs", unit=f"runs/s (Go: {GO_RATE:g})", samples=samples["rate"]),
        Figure(name="engine, CPU of the operator", unit=f"ms/run (Go: {GO_CPU_MS:g})", samples=samples["cpu"]),
        Figure(name="engine, writes", unit="writes/run", samples=samples["writes"]),
        Figure(name="engine, peak memory", unit="MiB", samples=samples["peak"]),
        Figure(name="engine, objects left in memory", unit="objects", samples=samples["left"]),
        Figure(
            name="engine, memory after / before", unit="×", samples=samples["rss"], target="≤ 1.1, none left", met=met
        ),
    ]


def _one_round(stack: Stack, namespace: str, operator: OperatorProcess, count: int) -> dict[str, float]:
    cpu, rss = resources(operator.pid)
    writes = operator.metric("incident_operator_api_writes") or 0
    seconds = _runs(stack, namespace, count, "--wait")
    wait_until(lambda: operator.metric("incident_operator_objects_held") == 0, seconds=10, every=0.1)
    cpu_after, rss_after = resources(operator.pid)
    return {
        "rate": count / seconds,
        "cpu": 1000 * (cpu_after - cpu) / count,
        "writes": ((operator.metric("incident_operator_api_writes") or 0) - writes) / count,
        "peak": _peak(operator.pid) / 2**20,
        "left": operator.metric("incident_operator_objects_held") or 0,
        "rss": rss_after / rss,
    }


def _peak(pid: int) -> int:
    """Return the largest resident memory so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak memory")


def _has_written(operator: OperatorProcess) -> bool:
    return bool(operator.metric("incident_operator_api_writes"))


def start(rounds: int, settled: int, live: int, say: Callable[[str], None]) -> list[Figure]:
    """Return how long an operator takes to its first decision with so many runs stored, and its memory then."""
    stack = the_stack(shop=False)
    seconds: list[float] = []
    memory: list[float] = []
    with a_namespace(stack) as namespace, a_web_server(stack.address) as url:
        _install(stack, namespace, stack.address, url)
        say(f"start: storing {settled} settled runs")
        _runs(stack, namespace, settled, "--prefix", "settled", "--settled")
        for number in range(rounds):
            say(f"start: round {number + 1} of {rounds}, {live} live runs")
            Kubectl(stack.kubeconfig()).run(
                "delete", "incidentrun", "-n", namespace, "--field-selector", "status.settled!=true"
            )
            _runs(stack, namespace, live, "--prefix", f"live{number}")
            operator = an_operator(stack, namespace)
            began = time.monotonic()
            with operator:
                wait_until(functools.partial(_has_written, operator), seconds=60)
                seconds.append(time.monotonic() - began)
                memory.append(resources(operator.pid)[1] / 2**20)
    return [
        Figure(name=f"start to first decision, {settled} settled + {live} live", unit="s", samples=seconds),
        Figure(name="  memory then", unit="MiB", samples=memory),
    ]
