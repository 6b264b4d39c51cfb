"""`kubectl incident runbooks`: which can be used, when they were tried and reviewed last, and what their owners owe."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from ..adapters.clock import Clock
from ..api.meta import Condition
from ..api.runbook import ClusterRunbook, Runbook, UpdateDue
from .cluster import Cluster, Forbidden, Missing
from .errors import CommandError
from .follow import parsed
from .text import clean, length, some

_MODELS: dict[str, type[Runbook] | type[ClusterRunbook]] = {"ClusterRunbook": ClusterRunbook, "Runbook": Runbook}
_HEADER = ("RUNBOOK", "READY", "VALIDATED", "FRESH", "UPDATE-DUE", "OWNER")
AnyRunbook = Runbook | ClusterRunbook
#: Fields of the status that programs are given.
_SHOWN = frozenset({"conditions", "validation", "reviewedAt", "updateDue"})


def show_runbooks(cluster: Cluster, name: str | None, *, output: str, clock: Clock | None = None) -> None:
    """Print all runbooks as a table, or one with its report. Errors: Missing, ClusterError, CommandError for none."""
    found = sorted(_stored(cluster), key=lambda one: (one.kind, one.metadata.name))
    if name is not None:
        found = [one for one in found if one.metadata.name == name]
        if not found:
            raise Missing(
                f"there is no ClusterRunbook {name!r}, and no Runbook of that name in namespace {cluster.namespace}",
                "see them all: kubectl incident runbooks",
            )
    if not found:
        raise CommandError(
            f"there is no runbook in the cluster and namespace {cluster.namespace}",
            "kubectl apply --server-side -k manifests/runbooks",
        )
    now = (clock or Clock()).now()
    if output == "json":
        click.echo(json.dumps([document(one) for one in found], indent=2))
        return
    for text in table(found, now) if name is None else (line for one in found for line in page(one, now)):
        click.echo(text)


def _stored(cluster: Cluster) -> Iterator[AnyRunbook]:
    """Yield what may be read; of what may not be, tell. Errors: Forbidden where nothing may be."""
    refused: list[Forbidden] = []
    for kind, model in _MODELS.items():
        try:
            listing = cluster.list(kind, cluster.namespace)
        except Forbidden as error:
            refused.append(error)
            continue
        yield from (parsed(model, item) for item in listing.items)
    if len(refused) == len(_MODELS):
        raise refused[0]
    for refusal in refused:
        click.echo(f"left out: {clean(refusal)}", err=True)


def table(runbooks: Sequence[AnyRunbook], now: datetime) -> Iterator[str]:
    """Yield one line for each runbook; ages are of the newest validation and of the review that counts."""
    rows = [_HEADER, *(_row(one, now) for one in runbooks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(runbook: AnyRunbook, now: datetime) -> tuple[str, ...]:
    status, maintenance = runbook.status, runbook.spec.maintenance
    validated_at = status.validation.at if status.validation is not None else None
    return (
        _named(runbook),
        _told(_condition(runbook, "Ready"), None, now),
        _told(_condition(runbook, "Validated"), validated_at, now),
        _told(_condition(runbook, "Fresh"), status.reviewed_at, now),
        _due(runbook.status.update_due, now),
        clean(maintenance.owner) if maintenance is not None else "-",
    )


def _due(due: Sequence[UpdateDue], now: datetime) -> str:
    if not due:
        return "-"
    more = f" (+{len(due) - 1})" if due[1:] else ""
    return f"{due[0].reason} {length(now - due[0].since)} ago{more}"


def _named(runbook: AnyRunbook) -> str:
    namespace = runbook.metadata.namespace
    return clean(f"{namespace}/{runbook.metadata.name}" if namespace else runbook.metadata.name)


def _condition(runbook: AnyRunbook, type_: str) -> Condition | None:
    return next((c for c in runbook.status.conditions if c.type == type_), None)


def _told(condition: Condition | None, at: datetime | None, now: datetime) -> str:
    """Return a condition in a cell: its reason where it is not plainly True, and how long ago it was looked at."""
    if condition is None:
        return "-"
    plain = condition.status == "True" and (at is not None or condition.type == "Ready")
    said = condition.status if plain else f"{condition.status} {condition.reason}"
    return clean(said if at is None else f"{said} {length(now - at)} ago")


def page(runbook: AnyRunbook, now: datetime) -> Iterator[str]:
    """Yield one runbook with its conditions, its report and its record of reviews."""
    yield f"{runbook.kind} {_named(runbook)}: {clean(runbook.spec.title)}"
    for type_ in ("Ready", "Validated", "Fresh"):
        condition = _condition(runbook, type_)
        if condition is not None:
            yield f"{type_:<10} {condition.status} {condition.reason}: {clean(condition.message)}"
    validation = runbook.status.validation
    if validation is not None:
        stale = "" if validation.generation == runbook.metadata.generation else ", of an older spec"
        yield f"report of {length(now - validation.at)} ago{stale}:"
        for part in validation.parts:
            yield f"  {part.part:<12} {part.result:<8} {part.count:>3}  {clean(part.message)}".rstrip()
        for one in validation.findings:
            yield f"  {one.result} {clean(one.name)}: {one.reason} {clean(one.message)}".rstrip()
    for due in runbook.status.update_due:
        yield f"update due since {length(now - due.since)} ago: {due.reason} {clean(due.about)}"
    reviews = runbook.spec.maintenance.reviews if runbook.spec.maintenance is not None else ()
    if reviews:
        yield f"{some(len(reviews), 'review')} on the record:"
    for review in sorted(reviews, key=lambda one: one.at, reverse=True):
        yield f"  {review.at:%Y-%m-%d} {clean(review.by)}: {clean(review.revision)}"


def document(runbook: AnyRunbook) -> dict[str, Any]:
    """Return what programs read of a runbook."""
    wire, maintenance = runbook.status.wire(), runbook.spec.maintenance
    kept = {key: value for key, value in wire.items() if key in _SHOWN}
    place = {"namespace": runbook.metadata.namespace} if runbook.metadata.namespace else {}
    owner = {"owner": maintenance.owner} if maintenance is not None else {}
    return {"kind": runbook.kind, "name": runbook.metadata.name, **place, **owner, **kept}
