"""`kubectl incident plan`: read a run's plans and show them as pages, or as JSON and YAML."""

import json
from typing import Any

import click
import yaml
from rich.console import Console
from rich.text import Text

from ..adapters.clock import Clock
from ..api.intervention import Intervention
from ..api.plan import RemediationPlan
from ..api.run import IncidentRun
from ..api.runbook import ClusterRunbook, Runbook, RunbookSpec
from ..core.redact import redact_json
from .cluster import Cluster, ClusterError, Forbidden, Missing, Raw
from .follow import parsed, run_label, scene_of
from .look import Look
from .people_view import record, word_of
from .plan_view import People, chosen, plan_page
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
    console = Console(highlight=False)
    for number, plan in enumerate(plans):
        if number:
            _print(console, [Text()])
        show_page(cluster, scene.run, plan, console=console)
    hidden = len(scene.plans) - len(plans)
    if hidden and name_of_plan is None:
        click.echo(f"\n{hidden} older plan{'' if hidden == 1 else 's'} not shown: --all")


def show_page(
    cluster: Cluster, run: IncidentRun | None, plan: RemediationPlan, *, console: Console | None = None
) -> None:
    """Print one plan's page: the plan, its track record, and what people said about it. Errors: ClusterError."""
    console = console or Console(highlight=False)
    look = Look(ascii_only="utf" not in console.encoding.lower())
    runbook = _runbook(cluster, run)
    fix = next((f for f in runbook.fixes if f.name == plan.spec.fix), None) if runbook else None
    listing = cluster.list("RemediationPlan", cluster.namespace, labelSelector=f"ops.shopsmart.com/fix={plan.spec.fix}")
    before = [parsed(RemediationPlan, item) for item in listing.items]
    people = People(
        record=tuple(record(plan, before, runbook.knowledge if runbook else None)), words=_words(cluster, plan)
    )
    _print(console, plan_page(plan, run, fix, Clock().now(), look=look, people=people))


def _words(cluster: Cluster, plan: RemediationPlan) -> tuple[str, ...]:
    """Return what people said about a plan, oldest first."""
    try:
        selector = f"spec.target.name={plan.metadata.name}"
        listing = cluster.list("Intervention", cluster.namespace, fieldSelector=selector)
    except Forbidden:
        return ("you may not list interventions: ask for the ClusterRole incident-responder",)
    words = [parsed(Intervention, item) for item in listing.items]
    about = [w for w in words if w.spec.target.uid == plan.metadata.uid]
    return tuple(word_of(w) for w in sorted(about, key=_said_at))


def _said_at(word: Intervention) -> tuple[str, str]:
    created = word.metadata.creation_timestamp
    return created.isoformat() if created else "", word.metadata.name


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


def _runbook(cluster: Cluster, run: IncidentRun | None) -> RunbookSpec | None:
    """Return the run's runbook; None where it can't be read: the page says less then."""
    if run is None:
        return None
    ref = run.spec.runbook_ref
    try:
        raw = cluster.get(ref.kind, cluster.namespace, ref.name)
        runbook: Runbook | ClusterRunbook = parsed(Runbook if ref.kind == "Runbook" else ClusterRunbook, raw)
    except ClusterError:
        return None
    return runbook.spec
