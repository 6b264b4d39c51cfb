"""What is known of an incident besides the policy: who took it, who was told, what is left to do. Pure."""

from collections.abc import Iterator

from ..api.incident import Engagement, Incident
from .text import clean, clock


def facts(incident: Incident) -> Iterator[str]:
    """Yield phase, commander, impact, cause and runs, as far as they are known."""
    status = incident.status
    who = f"commander {clean(status.commander)}" if status.commander else "nobody has acknowledged"
    yield f"phase     {status.phase}, {who}"
    if status.impact is not None:
        peak = f", peak {status.impact.peak:.0f}%" if status.impact.peak is not None else ""
        yield f"impact    {clean(status.impact.summary)} ({status.impact.method}{peak})"
    if status.cause is not None:
        yield f"cause     {'probably: ' if status.cause.probable else ''}{clean(status.cause.summary)}"
    for run in status.runs:
        yield f"run       {run.name}: {run.phase}" + (f"/{run.outcome}" if run.outcome else "")


def messages(incident: Incident) -> Iterator[str]:
    """Yield who was told, by what, and whether it arrived."""
    rows = [_row(engagement) for engagement in incident.status.engagements]
    if not rows:
        return
    yield ""
    table = [("TOLD", "WHY", "BY", "STATE", "AT", "TIMES"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(6)]
    for row in table:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(engagement: Engagement) -> tuple[str, str, str, str, str, str]:
    state = f"{engagement.state}" + (f": {engagement.reason}" if engagement.reason else "")
    at = clock(engagement.at or engagement.due_at)
    why = clean(engagement.role or "") or str(engagement.occasion)
    return clean(engagement.whom), why, clean(engagement.channel or "-"), state, at, str(engagement.times)


def closing(incident: Incident) -> Iterator[str]:
    """Yield what is left to do after the end, with the command that says that it was done."""
    closeout = incident.status.closeout
    if closeout is None:
        return
    yield ""
    yield f"Close-out, by {clock(closeout.due_at)}:"
    for duty in closeout.duties:
        said = f": {clean(duty.message)}" if duty.message else ""
        done = f"done by {clean(duty.by or '')}{said}" if duty.state == "Done" else f"open{said}"
        yield f"  {duty.name:<17} {done}"
    left = next((duty.name for duty in closeout.duties if duty.state == "Open"), None)
    if left is not None:
        where = f"-n {incident.metadata.namespace} {incident.metadata.name}"
        yield f"  type: kubectl incident did {where} '...' --duty {left}"
