"""`kubectl incident review` and `message`: find the review of a run, and show it as the document writes it."""

import json
from html import escape

import click

from ..adapters.clock import Clock
from ..api.review import PostIncidentReview
from ..api.run import IncidentRun
from ..core.redact import redact_json
from ..core.review import is_overdue, is_reviewed, review_name
from ..core.review_clock import day_after
from ..core.review_text import markdown, message
from .cluster import Cluster, Missing, Raw
from .follow import parsed
from .text import clean, clean_lines

KIND = "PostIncidentReview"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>
table {{ border-collapse: collapse }}
th, td {{ border: 1px solid; padding: 0.2em 0.6em; text-align: left }}
</style>
</head>
<body>
{body}</body>
</html>"""


def show_review(cluster: Cluster, name: str, *, output: str, with_facts: bool) -> None:
    """Print the review of a run, or of this name, as Markdown, HTML or JSON. Errors: Missing, ClusterError."""
    raw, review = find_review(cluster, name)
    if output == "json":
        metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
        click.echo(json.dumps(redact_json({**raw, "metadata": metadata}), indent=2))
    else:
        text = "\n".join(clean_lines(markdown(review, with_facts=with_facts)))
        click.echo(as_page(text, review.spec.ticket or review.metadata.name) if output == "html" else text)
    for line in late(review):
        click.echo(line, err=True)


def show_message(cluster: Cluster, name: str) -> None:
    """Print the message to stakeholders about a run that has ended. Errors: Missing, ClusterError."""
    _, review = find_review(cluster, name)
    click.echo("\n".join(clean_lines(message(review))))


def as_page(text: str, title: str, *, tables: bool = False) -> str:
    """Return Markdown as an HTML page. HTML within it, and links that are programs, are shown as text."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False})
    body = (renderer.enable("table") if tables else renderer).render(text)
    return _PAGE.format(title=escape(clean(title)), body=body)


def late(review: PostIncidentReview) -> list[str]:
    """Return what people are late with: the review itself, and action items with a date that has passed."""
    now, spec = Clock().now(), review.spec
    lines = []
    if is_overdue(review.status.due_at, spec.complete, now):
        name = f"-n {review.metadata.namespace} {review.metadata.name}"
        lines = [
            f"overdue: the review was due {review.status.due_at:%Y-%m-%d %H:%M} UTC; when it is finished:",
            f'  kubectl patch pir {name} --type=merge -p \'{{"spec":{{"complete":true}}}}\'',
        ]
    for item in spec.action_items:
        at = day_after(item.due_date) if item.due_date and not item.done else None
        if at is not None and now > at:
            owner = clean(item.owner) if item.owner else "nobody"
            lines.append(f"overdue: action item of {item.due_date}, owned by {owner}: {clean(item.text)}")
    return lines


def find_review(cluster: Cluster, name: str) -> tuple[Raw, PostIncidentReview]:
    """Return the review of this name, or that of the run of this name or of this ticket, as stored and as read.

    Errors: Missing, which says why there is none; ClusterError.
    """
    namespace = cluster.namespace
    try:
        raw = cluster.get(KIND, namespace, name)
    except Missing:
        raw = _of_run(cluster, name)
    review: PostIncidentReview = parsed(PostIncidentReview, raw)
    if review.spec.drafted_at is None:
        hint = "it is drafted when the incident's run ends: kubectl incident watch RUN"
        raise Missing(f"the review {review.metadata.name} has no draft yet", hint)
    return raw, review


def _of_run(cluster: Cluster, name: str) -> Raw:
    """Return the review of a run, also of one that is deleted by now, or the newest of a ticket. Errors: Missing."""
    namespace = cluster.namespace
    try:
        run: IncidentRun = parsed(IncidentRun, cluster.get("IncidentRun", namespace, name))
    except Missing:
        reviews = sorted(
            cluster.list(KIND, namespace).items, key=lambda item: item["metadata"].get("creationTimestamp", "")
        )
        for item in reversed(reviews):
            if name in [handled.get("name") for handled in (item.get("status") or {}).get("runs", ())]:
                return item
        for item in reversed(reviews):
            if name.casefold() == item["spec"].get("ticket", "").casefold():
                return item
        raise cluster.missing("IncidentRun", namespace, name) from None
    try:
        return cluster.get(KIND, namespace, review_name(run))
    except Missing:
        if not run.status.settled:
            why, hint = "has not ended", f"follow it: kubectl incident watch -n {namespace} {name}"
        elif not is_reviewed(run):
            why, hint = "changed nothing and could not have: it has no review", "observe-only runs and drills have none"
        else:
            why, hint = "has no review", f"kubectl describe irun -n {namespace} {name} says whether it was drafted"
        raise Missing(f"run {name} {why}", hint) from None
