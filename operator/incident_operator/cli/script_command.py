"""`kubectl incident script`: find the plan, in the cluster or in a file, and print it as shell lines."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from ..api.plan import PlanState, RemediationPlan
from .changes import age
from .cluster import Cluster, Missing
from .errors import CommandError
from .follow import parsed, run_label
from .people_view import typed
from .script import script
from .text import clean

#: What nobody would do by hand any more.
_OVER = {PlanState.SUPERSEDED, PlanState.EXPIRED, PlanState.REJECTED}


def print_script(
    cluster: Cluster | None, run: str | None, *, filename: str | None, fix: str | None, undo: bool
) -> None:
    """Print a plan of a run, or of a file, as shell lines. Errors: CommandError."""
    if cluster is not None and run is not None:
        items: Sequence[Any] = cluster.list("RemediationPlan", cluster.namespace, labelSelector=run_label(run)).items
        plans = [p for p in (parsed(RemediationPlan, item) for item in items) if p.spec.run_ref.name == run]
        if not plans:
            # Not there, or there without a plan: the errors differ.
            try:
                cluster.get("IncidentRun", cluster.namespace, run)
            except Missing:
                raise cluster.missing("IncidentRun", cluster.namespace, run) from None
            raise Missing(f"run {run} has no plan", "read why: kubectl incident plan " + run)
    else:
        plans = read_plans(filename or "-")
    click.echo(script(_chosen(plans, fix), undo=undo), nl=False)


def read_plans(filename: str) -> list[RemediationPlan]:
    """Return the plans of a YAML or JSON file, of a List too. Errors: CommandError."""
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text()
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{filename} can't be read: {' '.join(str(error).split())}") from error
    objects = [item for d in documents for item in (d.get("items") or [] if d.get("kind") == "List" else [d])]
    plans = [parsed(RemediationPlan, item) for item in objects if item.get("kind") == "RemediationPlan"]
    if not plans:
        raise CommandError(f"{filename} has no RemediationPlan", "save one: kubectl incident plan RUN FIX -o yaml")
    return plans


def _chosen(plans: Sequence[RemediationPlan], fix: str | None) -> RemediationPlan:
    """Return the newest plan of the fix, or the only one there is. Errors: CommandError."""
    ordered = sorted(plans, key=age)
    if fix is not None:
        named = [p for p in ordered if p.metadata.name == fix] or [p for p in ordered if p.spec.fix == fix]
        if not named:
            known = ", ".join(dict.fromkeys(p.spec.fix for p in ordered))
            raise Missing(f"there is no plan or fix {fix!r}", f"there are: {known}")
        return named[-1]
    live = [p for p in ordered if p.status.state not in _OVER] or ordered
    newest = {plan.spec.fix: plan for plan in live}
    if len(newest) > 1:
        lines = [
            f"{typed('script', p).rsplit(' ', 1)[0]} --fix {p.spec.fix}    # {clean(p.spec.title)}"
            for p in newest.values()
        ]
        raise CommandError(f"there are plans of {len(newest)} fixes: say which", "\n".join(lines))
    return live[-1]
