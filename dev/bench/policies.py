"""What many policies cost while all is well, and how soon one that is not is noticed."""

import asyncio
import os
import time
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from dev.bench.runs import AT_ONCE, RUNBOOK
from dev.controlplane.kubectl import Kubectl
from dev.operators import resources
from dev.processes import StartError, wait_until
from dev.stack import Stack
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.api.meta import API_VERSION, format_duration, parse_instant

from .engine import a_web_server, install
from .figures import Figure
from .place import Operator, Place

INTERVAL = timedelta(seconds=30)
THRESHOLD = 2
#: Policies that are going to be ill, and look at a page of their own.
ILL = 20
#: Beyond the intervals that a threshold takes: the check itself, and a machine that has other things to do.
SLACK = timedelta(seconds=5)


def measure(place: Place, count: int, *, seconds: float = 60.0) -> list[Figure]:
    """Return cost and memory of `count` healthy policies in so many seconds, then the delay of breaches."""
    stack = place.stack(shop=False)
    with a_web_server(stack) as url:
        namespace = install(stack, url)
        place.say(f"policies: creating {count}")
        asyncio.run(_create(stack, namespace, url, count))
        # Real time: their interval is what is measured.
        with Operator(stack, namespace, "--time-scale", "1") as operator:
            operator.leading()
            _, before = operator.usage
            place.say(f"policies: waiting until {count} are healthy")
            _await_health(stack, namespace, count)
            operator.until(_is_quiet(operator), "all policies rest", seconds=120, every=5)
            place.say(f"policies: {seconds:.0f} s of health")
            healthy = _while_healthy(place, operator, count, seconds)
            place.say(f"policies: {ILL} fall ill")
            delays = _fallen_ill(stack, namespace, url)
    worst = (INTERVAL * THRESHOLD + SLACK).total_seconds()
    every = format_duration(INTERVAL)
    return [
        Figure(name=f"policies, {count} every {every}: CPU of the operator", unit="% of one", samples=[healthy["cpu"]]),
        Figure(name="policies: CPU of the API server", unit="% of one", samples=[healthy["server"]]),
        Figure(name="policies: checks", unit="1/s", samples=[count / INTERVAL.total_seconds()]),
        Figure(name="policies: memory before", unit="MiB", samples=[before]),
        Figure(name="policies: memory", unit="MiB", samples=[healthy["memory"]]),
        Figure(name="policies: writes while all are healthy", unit="1/min", samples=[healthy["writes"]], limit=0),
        Figure(name=f"policies: delay of {ILL} breaches, two failures each", unit="s", samples=delays, limit=worst),
        Figure(name="policies: the longest of these", unit="s", samples=[max(delays)], limit=worst),
    ]


def _policy(namespace: str, name: str, url: str) -> dict[str, Any]:
    check = {"name": "page", "action": "http.get", "inputs": {"url": url}}
    return {
        "apiVersion": API_VERSION,
        "kind": "RemediationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "health": {
                "checks": [check],
                "interval": format_duration(INTERVAL),
                "failureThreshold": THRESHOLD,
                "successThreshold": 1,
            },
            "remediation": {
                "runbookRef": {"kind": "ClusterRunbook", "name": RUNBOOK},
                "automation": {"applyUpTo": "None", "askUpTo": "None"},
            },
        },
    }


async def _create(stack: Stack, namespace: str, url: str, count: int) -> None:
    os.environ["KUBECONFIG"] = str(stack.kubeconfig())
    kube, free = await Kube.connect(Clock()), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        ill = number < ILL
        async with free:
            await kube.create(
                _policy(namespace, f"{'ill' if ill else 'well'}-{number:05d}", f"{url}ill" if ill else url)
            )

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number))
    finally:
        await kube.close()


def _stored(stack: Stack, namespace: str) -> list[dict[str, Any]]:
    return list(Kubectl(stack.kubeconfig()).json("get", "remediationpolicies", "-n", namespace)["items"])


def _await_health(stack: Stack, namespace: str, count: int) -> None:
    def healthy() -> bool:
        conditions = [(raw.get("status") or {}).get("conditions", ()) for raw in _stored(stack, namespace)]
        return sum(any((c["type"], c["status"]) == ("Healthy", "True") for c in one) for one in conditions) == count

    if not wait_until(healthy, seconds=300, every=5):
        raise StartError(f"not all {count} policies are healthy after 300 s")


def _is_quiet(operator: Operator) -> Any:
    """Return a condition that is met once nothing was written since it was last asked."""
    written = [-1.0]

    def quiet(metrics: dict[str, float]) -> bool:
        before, written[0] = written[0], metrics["api_writes"]
        return before == written[0]

    return quiet


def _while_healthy(place: Place, operator: Operator, count: int, seconds: float) -> dict[str, float]:
    server, began = place.pid("kube-apiserver"), time.monotonic()
    (cpu, _), (server_cpu, _) = operator.usage, resources(server)
    writes = operator.metric("api_writes")
    time.sleep(seconds)  # what is measured is a time
    (cpu_after, memory), (server_after, _) = operator.usage, resources(server)
    passed = time.monotonic() - began
    return {
        "cpu": 100 * (cpu_after - cpu) / passed,
        "server": 100 * (server_after - server_cpu) / passed,
        "memory": memory,
        "writes": 60 * (operator.metric("api_writes") - writes) / passed,
    }


def _fallen_ill(stack: Stack, namespace: str, url: str) -> list[float]:
    """Let the page of some answer 503; return after how many seconds each began its episode."""
    began = Clock().now()
    with urllib.request.urlopen(urllib.request.Request(f"{url}break", method="POST")) as answer:  # noqa: S310
        answer.read()
    episodes: dict[str, datetime] = {}

    def all_noticed() -> bool:
        for raw in _stored(stack, namespace):
            episode = (raw.get("status") or {}).get("episode")
            if episode is not None:
                episodes[raw["metadata"]["name"]] = parse_instant(episode["startedAt"])
        return len(episodes) >= ILL

    limit = (INTERVAL * (THRESHOLD + 2)).total_seconds()
    if not wait_until(all_noticed, seconds=limit, every=5):
        raise StartError(f"only {len(episodes)} of {ILL} breaches were noticed in {limit:.0f} s")
    return [(at - began).total_seconds() for at in episodes.values()]
