"""Create runs, as another process than the operator: `python -m dev.bench.runs NAMESPACE COUNT`.

They are new, or have the status they would have: `--as started` that of a run just accepted, by the operator's own
decision; `--as settled` that of a run that ended (`--like`). Statuses are written as the operator, since nobody else
may (`--operator-kubeconfig`). Prints the seconds from the first creation to the end.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.api.meta import API_VERSION
from incident_operator.api.run import IncidentRun
from incident_operator.api.runbook import RunbookSpec
from incident_operator.core.run import RunView, decide_run
from incident_operator.core.runbook import dependencies

AT_ONCE = 16
RUNBOOK = "bench-web"

#: Makes the status of a stored run; None leaves it new.
StatusOf = Callable[[dict[str, Any]], dict[str, Any] | None]


def manifest(namespace: str, name: str) -> dict[str, Any]:
    """Return an observe-only run."""
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "incident": {"title": "Load"},
            "runbookRef": {"kind": "ClusterRunbook", "name": RUNBOOK},
            "automation": {"applyUpTo": "None", "askUpTo": "None"},
        },
    }


def accepted(stored: dict[str, Any], runbook: RunbookSpec, revision: str, now: datetime) -> dict[str, Any]:
    """Return the status a run has from its first write on."""
    run = IncidentRun.model_validate(stored)
    view = RunView(run=run, runbook=runbook, revision=revision, dependencies=dependencies(runbook), observe_only=True)
    return decide_run(view, now).status.wire()


async def create(kube: Kube, operator: Kube, namespace: str, prefix: str, count: int, status_of: StatusOf) -> None:
    """Create runs, so many at once; their statuses are the operator's to write."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with free:
            stored = await kube.create(manifest(namespace, f"{prefix}-{number:05d}"))
            if (status := status_of(stored)) is not None:
                await operator.write_status(stored, status)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def unsettled(kube: Kube, namespace: str) -> bool:
    """Tell whether any run has not ended."""
    query = {"fieldSelector": "status.settled!=true", "limit": 1}
    page = await kube.request("GET", kube.path("IncidentRun", namespace), query=query)
    return bool(page["items"])


async def _status_of(kube: Kube, namespace: str, as_: str, like: str) -> StatusOf:
    if as_ == "new":
        return lambda _: None
    template = (await kube.get("IncidentRun", namespace, like))["status"]
    if as_ == "settled":
        return lambda _: template
    runbook = RunbookSpec.model_validate((await kube.get("ClusterRunbook", "", RUNBOOK))["spec"])
    clock, revision = Clock(), template["runbook"]["revision"]
    return lambda stored: accepted(stored, runbook, revision, clock.now().astimezone(UTC))


@asynccontextmanager
async def _connected(kubeconfig: str) -> AsyncIterator[Kube]:
    os.environ["KUBECONFIG"] = kubeconfig
    kube = await Kube.connect(Clock())
    try:
        yield kube
    finally:
        await kube.close()


async def _main(
    namespace: str, count: int, prefix: str, as_: str, like: str, wait: bool, operator_kubeconfig: Path
) -> float:
    async with _connected(os.environ["KUBECONFIG"]) as kube, _connected(str(operator_kubeconfig)) as operator:
        status_of = await _status_of(kube, namespace, as_, like)
        began = time.monotonic()
        await create(kube, operator, namespace, prefix, count, status_of)
        while wait and await unsettled(kube, namespace):
            await asyncio.sleep(0.1)
        return time.monotonic() - began


@click.command()
@click.argument("namespace")
@click.argument("count", type=int)
@click.option("--prefix", default="run", help="Of their names.")
@click.option("--as", "as_", type=click.Choice(("new", "started", "settled")), default="new")
@click.option("--like", default="", help="A settled run: whose status, or whose revision, they get.")
@click.option("--wait", is_flag=True, help="Until all have ended.")
@click.option("--operator-kubeconfig", type=click.Path(exists=True, path_type=Path), required=True)
def main(namespace: str, count: int, prefix: str, as_: str, like: str, wait: bool, operator_kubeconfig: Path) -> None:
    """Create runs."""
    click.echo(f"{asyncio.run(_main(namespace, count, prefix, as_, like, wait, operator_kubeconfig)):.3f}")


if __name__ == "__main__":
    main()
