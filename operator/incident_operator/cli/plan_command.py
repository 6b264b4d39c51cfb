"""`kubectl incident plan`: read a run's plans and show them as pages, or as JSON and YAML."""

import json
from typing import Any

import click
import yaml
from rich.console import Console
from rich.text import Text

from ..adapters.clock import Clock
from ..api.run import IncidentRun
from ..api.runbook import ClusterRunbook, Fix, Runbook
from ..core.redact import redact_json
from .cluster import Cluster, ClusterError, Missing, Raw
from .follow import parsed, run_label, scene_of
from .plan_view import chosen, plan_page
from .render import Look
from .text import clean


def show_plans(cluster: Cluster, name: str, *, name_of_plan: str | None, every: bool, output: str) -> None:
    """Print the plans of a run. Errors: Missing where there is no such run or plan, ClusterError."""
    try:
        raw_run = cluster.get("IncidentRun", cluster.namespace, name)
    except Missing:
        raise cluster.missing("IncidentRun", cluster.namespace, name) from None
    listing = cluster.list("RemediationPlan", cluster.namespace, labelSelector=run_label(name))
    scene = scene_of((raw_run,), listing.items)
    plans = chosen(scene.plans, name=name_of_plan, every=every)
    if name_of_plan is not None and not plans:
        known = ", ".join(p.metadata.name for p in scene.plans) or "the run has none"
        raise Missing(f"run {name} has no plan or fix {name_of_plan!r}", f"there are: {known}")
    if output != "text":
        stored = {item["metadata"]["name"]: item for item in listing.items}
        _dump([stored[p.metadata.name] for p in plans], single=name_of_plan is not None, output=output)
        return
    if not plans:
        click.echo(nothing_planned(scene.run))
        return
    fixes = _fixes(cluster, scene.run)
    console = Console(highlight=False)
    look = Look(ascii_only="utf" not in console.encoding.lower())
    now = Clock().now()
    for number, plan in enumerate(plans):
        page = plan_page(plan, scene.run, fixes.get(plan.spec.fix), now, look=look)
        _print(console, [*([Text()] if number else []), *page])
    hidden = len(scene.plans) - len(plans)
    if hidden and name_of_plan is None:
        click.echo(f"\n{hidden} older plan{'' if hidden == 1 else 's'} not shown: --all")


def nothing_planned(run: IncidentRun | None) -> str:
    """Return why a run has no plan, as far as its status tells."""
    if run is None or run.status.diagnosed_at is None:
        return "No plan yet: the run is still being diagnosed."
    lines = ["No plan: no fix of the runbook applies to what was found."]
    for fix in (f for step in run.status.steps for f in step.fixes):
        detail = ": ".join(clean(part) for part in (fix.reason, fix.message) if part)
        lines.append(f"  {fix.name} {fix.state}" + (f": {detail}" if detail else ""))
    return "\n".join(lines)


def _print(console: Console, page: list[Text]) -> None:
    """Print a page: coloured and wrapped on a terminal, whole lines elsewhere."""
    for text in page:
        if console.is_terminal:
            console.print(text)
        else:
            click.echo(text.plain)


def _dump(objects: list[Raw], *, single: bool, output: str) -> None:
    shown = redact_json([_without_bookkeeping(item) for item in objects])
    document: Any = shown[0] if single and len(shown) == 1 else {"apiVersion": "v1", "kind": "List", "items": shown}
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(yaml.safe_dump(document, sort_keys=False).rstrip())


def _without_bookkeeping(item: Raw) -> Raw:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def _fixes(cluster: Cluster, run: IncidentRun | None) -> dict[str, Fix]:
    """Return the runbook's fixes by name; none where the runbook can't be read: the page says less then."""
    if run is None:
        return {}
    ref = run.spec.runbook_ref
    try:
        raw = cluster.get(ref.kind, cluster.namespace, ref.name)
        runbook = parsed(Runbook if ref.kind == "Runbook" else ClusterRunbook, raw)
    except ClusterError:
        return {}
    return {fix.name: fix for fix in runbook.spec.fixes}
