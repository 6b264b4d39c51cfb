"""Create runs and wait for them, as another process than the operator: `python -m dev.bench.runs NAMESPACE COUNT`.

With `--settled` they are stored as runs that ended long ago. Prints the seconds from the first creation to the end.
"""

import asyncio
import time
from typing import Any

import click

from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.api.meta import API_VERSION, format_instant

AT_ONCE = 16
RUNBOOK = "bench-web"


def manifest(namespace: str, name: str) -> dict[str, Any]:
    """Return an observe-only run."""
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "incident": {"title": "Load"},
            "runbookRef": {"kind": "ClusterRunbook", "name": RUNBOOK},
            "automation": {"askUpTo": "None"},
        },
    }


async def create(kube: Kube, namespace: str, prefix: str, count: int, *, settled: bool) -> None:
    """Create runs, so many at once; settled ones get the status of their end."""
    free, clock = asyncio.Semaphore(AT_ONCE), Clock()

    async def one(number: int) -> None:
        async with free:
            stored = await kube.create(manifest(namespace, f"{prefix}-{number:05d}"))
            if settled:
                now = format_instant(clock.now())
                ended = {"phase": "NothingFound", "settled": True, "startedAt": now, "finishedAt": now}
                await kube.write_status(stored, ended)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def unsettled(kube: Kube, namespace: str) -> int:
    """Return how many runs have not ended."""
    path = f"{kube.path('IncidentRun', namespace)}"
    page = await kube.request("GET", path, query={"fieldSelector": "status.settled!=true", "limit": 1})
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)


async def _main(namespace: str, count: int, prefix: str, settled: bool, wait: bool) -> None:
    kube = await Kube.connect(Clock())
    try:
        began = time.monotonic()
        await create(kube, namespace, prefix, count, settled=settled)
        while wait and await unsettled(kube, namespace):
            await asyncio.sleep(0.1)
        click.echo(f"{time.monotonic() - began:.3f}")
    finally:
        await kube.close()


@click.command()
@click.argument("namespace")
@click.argument("count", type=int)
@click.option("--prefix", default="run", help="Of their names.")
@click.option("--settled", is_flag=True)
@click.option("--wait", is_flag=True, help="Until all have ended.")
def main(namespace: str, count: int, prefix: str, settled: bool, wait: bool) -> None:
    """Create runs."""
    asyncio.run(_main(namespace, count, prefix, settled, wait))


if __name__ == "__main__":
    main()
