"""`kubectl incident report`: the four monthly metrics, from the reviews of every namespace that may be read."""

import json
from collections.abc import Iterator, Sequence
from datetime import tzinfo

import click

from ..adapters.clock import Clock
from ..api.review import PostIncidentReview
from ..core.calendar import UnknownTimeZone, zone_named
from ..core.report import Fact, Period, Report, fact_of, fold, month_of, parse_month, parse_quarter
from ..core.report_text import report_markdown
from .cluster import Cluster, ClusterError, Forbidden, Gone, Raw
from .follow import parsed
from .review_command import as_page
from .text import clean, clean_lines, some

KIND = "PostIncidentReview"
#: How often reading begins anew where the list became too old on the way.
_TRIES = 3


def show_report(
    cluster: Cluster,
    namespace: str | None,
    *,
    month: str | None,
    quarter: str | None,
    time_zone: str,
    output: str,
    clock: Clock | None = None,
) -> None:
    """Print the report of a period. Shape: `namespace` None reads all that may be read.

    Errors: click.UsageError for a period or zone that is none, ClusterError where nothing may be read.
    """
    now = (clock or Clock()).now()
    zone = _zone(time_zone)
    period = _period(month, quarter, month_of(now, zone))
    facts, place = read(cluster, namespace)
    report = fold(facts, period, now=now, zone=zone)
    for line in elsewhere(report, facts, place, zone):
        click.echo(line, err=True)
    if output == "json":
        click.echo(json.dumps(document(report, place), indent=2))
        return
    text = "\n".join(clean_lines(report_markdown(report, place=place)))
    click.echo(as_page(text, f"Incident metrics: {report.period}", tables=True) if output == "html" else text)


def elsewhere(report: Report, facts: Sequence[Fact], place: str, zone: tzinfo) -> Iterator[str]:
    """Yield where to look instead, if the period has nothing."""
    if report.reviews:
        return
    months = sorted({month_of(fact.detected_at, zone) for fact in facts})
    if months:
        yield f"there are reviews of {months[0]} to {months[-1]}: kubectl incident report --month {months[-1]}"
    else:
        yield f"{place}: no review at all; -n names another namespace, and kubectl get pir -A lists them"


def document(report: Report, place: str) -> dict[str, object]:
    """Return a report as JSON: what is not known, or can't be said, is null."""
    return {"read": place, **report.model_dump(mode="json", by_alias=True)}


def _zone(name: str) -> tzinfo:
    try:
        return zone_named(name)
    except UnknownTimeZone as error:
        raise click.UsageError(f"--time-zone: {error}") from error


def _period(month: str | None, quarter: str | None, current: str) -> Period:
    try:
        return parse_quarter(quarter) if quarter else parse_month(month or current)
    except ValueError as error:
        raise click.UsageError(f"--{'quarter' if quarter else 'month'}: {error}") from error


def read(cluster: Cluster, namespace: str | None) -> tuple[list[Fact], str]:
    """Return what every review says, and whose they are in words. What can't be read is told on stderr.

    Errors: ClusterError where no review may be read at all.
    """
    if namespace is not None:
        return _told(_read(cluster, namespace)), f"Namespace {namespace}"
    try:
        return _told(_read(cluster, None)), "All namespaces"
    except Forbidden:
        return _read_each(cluster)


def _read_each(cluster: Cluster) -> tuple[list[Fact], str]:
    """Read the namespaces one by one: those that may be read, by who may not read all."""
    try:
        names: Sequence[str] = cluster.namespaces()
    except Forbidden:
        # Who may not even see which there are has at least the namespace of the kubeconfig.
        names = (cluster.namespace,)
    found: dict[str, dict[str, Fact | None]] = {}
    refused: list[Forbidden] = []
    for name in names:
        try:
            found[name] = _read(cluster, name)
        except Forbidden as error:
            refused.append(error)
    if not found:
        hint = "ask for the ClusterRole incident-viewer in a namespace, and name it with -n"
        raise ClusterError(str(refused[0]) if refused else "there is no namespace", hint)
    if refused or len(names) == 1:
        left = f"{some(len(refused), 'namespace')} left out" if refused else "other namespaces are left out"
        click.echo(f"{left}: you may not list reviews in all of the cluster; -n reads one namespace", err=True)
    merged = {f"{name}/{key}": fact for name, facts in found.items() for key, fact in facts.items()}
    return _told(merged), f"{'Namespace' if len(found) == 1 else 'Namespaces'} {', '.join(found)}"


def _read(cluster: Cluster, namespace: str | None) -> dict[str, Fact | None]:
    """Return what the reviews say, by namespace and name; None of one that can't be read. Errors: ClusterError."""
    for _ in range(_TRIES):
        found: dict[str, Fact | None] = {}
        try:
            for raw in _raw(cluster, namespace):
                metadata = raw["metadata"]
                found[f"{metadata.get('namespace')}/{metadata['name']}"] = _fact(raw)
        except Gone:
            continue
        return found
    raise ClusterError("the reviews change faster than they can be read", "try again in a while, or with -n")


def _raw(cluster: Cluster, namespace: str | None) -> Iterator[Raw]:
    for page in cluster.pages(KIND, namespace):
        yield from page


def _fact(raw: Raw) -> Fact | None:
    try:
        review: PostIncidentReview = parsed(PostIncidentReview, raw)
    except ClusterError as error:
        click.echo(f"left out: {clean(error)}", err=True)
        return None
    return fact_of(review)


def _told(found: dict[str, Fact | None]) -> list[Fact]:
    """Return the facts; how many reviews are missing among them is told."""
    facts = [fact for fact in found.values() if fact is not None]
    missing = len(found) - len(facts)
    if missing:
        click.echo(f"no figure counts {some(missing, 'review')} of another version: update kubectl-incident", err=True)
    return facts
