"""What the engine does and costs: many observe-only runs with four probes each, and a start with many stored runs."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from dev.controlplane.kubectl import Kubectl
from dev.loopback import free_ports
from dev.operators import resources
from dev.processes import Daemon, run_to_end
from dev.stack import SOURCES, Stack
from incident_operator.api.meta import API_VERSION

from .figures import Figure, ratio
from .place import Operator, Place, a_namespace
from .runs import RUNBOOK

_LABEL = "shopsmart.com/bench"
#: Runs before the clock starts: what is loaded and opened once is not counted as a cost of each.
WARM_UP = 20
#: What is left in memory may be so much more than before the load.
RSS_LIMIT = 1.1
#: Loads that the last operator gets, one after another: what each adds is a leak, what only the first adds is not.
BURSTS = 3
#: What is left after the last of them may be so much more than after the first.
GROWTH_LIMIT = 1.05
CREATE_SECONDS = 900.0


@contextlib.contextmanager
def a_web_server(stack: Stack) -> Iterator[str]:
    """Serve one page from a process of its own; yields its URL."""
    (port,) = free_ports(stack.address, 1)
    command = (sys.executable, "-m", "dev.bench.web", stack.address, str(port))
    server = Daemon(name="web", command=command, state_dir=stack.state_dir, env=SOURCES)
    server.start()
    try:
        url = f"http://{stack.address}:{port}/"
        server.wait_ready(lambda: _answers(stack.address, port), seconds=20)
        yield url
    finally:
        server.stop()


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def install(stack: Stack, url: str) -> str:
    """Apply the runbook, a grant for the page, and a namespace; return the namespace."""
    address, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    checks = [{"name": f"page{n}", "action": "http.get", "inputs": {"url": url}} for n in "ABCD"]
    runbook = {
        "title": "Web",
        "incidentType": "Web",
        "steps": [{"name": "look", "title": "Look", "expectedBy": "5m", "checks": checks}],
        "recovery": {"checks": ["pageA"]},
    }
    namespace = a_namespace(stack, {_LABEL: "yes"})
    grant = {
        "namespaceSelector": {"matchLabels": {_LABEL: "yes"}},
        "actions": ["http.*"],
        "probes": {"cidrs": [f"{address}/32"], "ports": [int(port)]},
    }
    Kubectl(stack.kubeconfig()).apply(
        [
            {"apiVersion": API_VERSION, "kind": "ClusterRunbook", "metadata": {"name": RUNBOOK}, "spec": runbook},
            {"apiVersion": API_VERSION, "kind": "ActionGrant", "metadata": {"name": "bench"}, "spec": grant},
        ]
    )
    return namespace


def create_runs(stack: Stack, namespace: str, count: int, *options: str) -> float:
    """Create runs in another process; return the seconds it took. Errors: StartError."""
    by = ("--operator-kubeconfig", str(stack.operator_kubeconfig))
    command = [sys.executable, "-m", "dev.bench.runs", namespace, str(count), *by, *options]
    env = {**SOURCES, "KUBECONFIG": str(stack.kubeconfig())}
    return float(run_to_end(command, env=env, timeout=CREATE_SECONDS))


# --- throughput -------------------------------------------------------------------------------------------------------


def throughput(place: Place, rounds: int, count: int) -> list[Figure]:
    """Return rate, cost and what is left of `count` runs."""
    stack = place.stack(shop=False)
    samples: dict[str, list[float]] = {}
    after: list[float] = []
    with a_web_server(stack) as url:
        for number in range(rounds):
            place.say(f"engine: {count} runs, round {number + 1} of {rounds}")
            namespace = install(stack, url)
            with Operator(stack, namespace) as operator:
                operator.leading()
                create_runs(stack, namespace, WARM_UP, "--prefix", "warm", "--wait")
                operator.idle()
                for name, value in _one_round(place, stack, namespace, operator, count).items():
                    samples.setdefault(name, []).append(value)
                if number == rounds - 1:
                    after = [samples["after"][-1], *_more(place, stack, namespace, operator, count)]
    bursts = [
        Figure(name=f"engine: memory after burst {number}", unit="MiB", samples=[memory])
        for number, memory in enumerate(after, 1)
    ]
    return [
        Figure(name="engine: runs", unit="runs/s", samples=samples["rate"]),
        Figure(name="engine: CPU of the operator", unit="ms/run", samples=samples["cpu"]),
        Figure(name="engine: CPU of the API server", unit="ms/run", samples=samples["server"]),
        Figure(name="engine: writes of objects", unit="writes/run", samples=samples["writes"]),
        Figure(name="engine: Events that found no room", unit="events", samples=samples["dropped"]),
        Figure(name=f"engine: memory before, {WARM_UP} runs warm", unit="MiB", samples=samples["before"]),
        Figure(name="engine: memory at its peak", unit="MiB", samples=samples["peak"]),
        Figure(name="engine: objects left in memory", unit="objects", samples=samples["left"], limit=0),
        ratio("engine: memory after / before", samples["after"], samples["before"], limit=RSS_LIMIT),
        *bursts,
        ratio("engine: memory after last burst / first", after[-1:], after[:1], limit=GROWTH_LIMIT),
    ]


def _more(place: Place, stack: Stack, namespace: str, operator: Operator, count: int) -> Iterator[float]:
    """Yield the memory after each further burst of one operator."""
    for number in range(2, BURSTS + 1):
        place.say(f"engine: {count} runs, burst {number} of {BURSTS} of one operator")
        create_runs(stack, namespace, count, "--prefix", f"burst{number}", "--wait")
        yield operator.idle().usage[1]


def _one_round(place: Place, stack: Stack, namespace: str, operator: Operator, count: int) -> dict[str, float]:
    server = place.pid("kube-apiserver")
    cpu, before = operator.usage
    server_cpu, _ = resources(server)
    writes = operator.metric("api_writes")
    seconds = create_runs(stack, namespace, count, "--wait")
    # Its Events come after the statuses: their cost counts too.
    cpu_after, after = operator.idle().usage
    return {
        "rate": count / seconds,
        "cpu": 1000 * (cpu_after - cpu) / count,
        "server": 1000 * (resources(server)[0] - server_cpu) / count,
        "writes": (operator.metric("api_writes") - writes) / count,
        "dropped": operator.metric("events_dropped"),
        "before": before,
        "peak": operator.peak,
        "left": operator.metric("objects_held"),
        "after": after,
    }


# --- start ------------------------------------------------------------------------------------------------------------


def start(place: Place, rounds: int, settled: int, live: int) -> list[Figure]:
    """Return how long an operator takes to its first decision with so many runs stored, and its memory then."""
    stack = place.stack(shop=False)
    samples: dict[str, list[float]] = {}
    with a_web_server(stack) as url:
        namespace = install(stack, url)
        with Operator(stack, namespace) as operator:
            operator.leading()
            create_runs(stack, namespace, 1, "--prefix", "first", "--wait")
        place.say(f"start: storing {settled} settled runs")
        _store_settled(stack, namespace, settled)
        for number in range(rounds):
            place.say(f"start: {live} live runs, round {number + 1} of {rounds}")
            create_runs(stack, namespace, live, "--prefix", f"live{number}", "--as", "started", "--like", _FIRST)
            for name, value in _one_start(stack, namespace, live).items():
                samples.setdefault(name, []).append(value)
    stored = f"{settled} settled and {live} live runs stored"
    return [
        Figure(name=f"start, {stored}: first decision", unit="s", samples=samples["decision"]),
        Figure(name="start: live runs ended", unit="s", samples=samples["ended"]),
        Figure(name="start: memory at the first decision", unit="MiB", samples=samples["memory"]),
        Figure(name="start: memory at its peak", unit="MiB", samples=samples["peak"]),
    ]


_FIRST = "first-00000"


def _store_settled(stack: Stack, namespace: str, count: int) -> None:
    """Store ended runs, from as many processes as there are processors."""
    processes = os.cpu_count() or 1
    shares = [count // processes + (index < count % processes) for index in range(processes)]
    with ThreadPoolExecutor(processes) as beside:
        options = ("--as", "settled", "--like", _FIRST)
        for done in [
            beside.submit(create_runs, stack, namespace, share, "--prefix", f"settled{index}", *options)
            for index, share in enumerate(shares)
        ]:
            done.result()


def _one_start(stack: Stack, namespace: str, live: int) -> dict[str, float]:
    began = time.monotonic()
    with Operator(stack, namespace) as operator:
        # Its first write is the first answer that anybody sees; a run's reconcile that writes nothing decides too.
        operator.until(
            lambda m: m.get("api_writes", 0) > 0 or m.get('reconcile_total{kind="IncidentRun",result="ok"}', 0) > 0,
            "the first decision",
            seconds=120,
            every=0.01,
        )
        decision, (_, memory) = time.monotonic() - began, operator.usage
        operator.until(lambda m: m["api_writes"] >= live and m["objects_held"] == 0, "live runs end", seconds=120)
        return {
            "decision": decision,
            "ended": time.monotonic() - began,
            "memory": memory,
            "peak": operator.peak,
        }
