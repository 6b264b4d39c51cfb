"""`kubectl incident timeline`: one story of an incident, from itself and from the runs at work on it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from ..api.incident import Incident
from ..api.meta import format_instant
from ..api.run import IncidentRun, TimelineEntry
from ..core.redact import redact_json
from .cluster import Cluster, Missing
from .follow import parsed
from .incidents import find_incident
from .text import clean

#: What an incident repeats of its runs in fewer words.
_REPEATED = frozenset({"RunEnded"})


def show_timeline(cluster: Cluster, name: str, *, output: str) -> None:
    """Print the story in order. Errors: Missing where there is no such incident, ClusterError."""
    incident = find_incident(cluster, name)
    runs, gone = _runs(cluster, incident)
    told = list(merged(incident, runs))
    if output == "json":
        wire = [{**entry.wire(), "of": of} for of, entry in told]
        click.echo(json.dumps(redact_json(wire), indent=2))
        return
    day = None
    for of, entry in told:
        if entry.at.astimezone(UTC).date() != day:
            day = entry.at.astimezone(UTC).date()
            click.echo(f"{day:%a %Y-%m-%d} UTC")
        click.echo(f"  {_time(entry.at)}  {of:<10} {entry.reason:<18} {clean(entry.message)}".rstrip())
    for run in gone:
        click.echo(f"run {run} is gone: what it told is in the review", err=True)


def _runs(cluster: Cluster, incident: Incident) -> tuple[list[IncidentRun], list[str]]:
    """Return the incident's runs as stored, and the names of those that were deleted."""
    found, gone = list[IncidentRun](), list[str]()
    for entry in incident.status.runs:
        try:
            run: IncidentRun = parsed(IncidentRun, cluster.get("IncidentRun", cluster.namespace, entry.name))
        except Missing:
            gone.append(entry.name)
            continue
        if run.metadata.uid == entry.uid:
            found.append(run)
        else:
            gone.append(entry.name)
    return found, gone


def merged(incident: Incident, runs: list[IncidentRun]) -> Iterator[tuple[str, TimelineEntry]]:
    """Yield each turn with what it is of: the incident, or a run (numbered, where there are several)."""
    known = {f"run {run.metadata.name}" for run in runs}
    told = [
        ("incident", entry)
        for entry in incident.status.timeline
        if entry.reason not in _REPEATED or entry.source not in known
    ]
    for number, run in enumerate(runs, start=1):
        of = "run" if len(runs) == 1 else f"run {number}"
        told += [(of, entry) for entry in run.status.timeline]
    # At the same instant the run comes first: the incident tells what it heard of it.
    yield from sorted(told, key=lambda turn: (format_instant(turn[1].at), turn[0] == "incident"))


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}"
