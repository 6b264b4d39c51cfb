"""A report as Markdown that also reads well on a terminal: tables with straight columns, and what is not known."""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta

from .report import Figures, Group, Report

NONE = "-"
NOT_ENOUGH = "not enough incidents"
NOT_KNOWN = "not known"
_GROUP_HEAD = (
    "Incidents",
    "Resolved",
    "Open",
    "MTTR",
    "MTBF",
    "Runbook effectiveness",
    "False positives",
)


def report_markdown(report: Report, *, place: str) -> str:
    """Return a report as a page. Shape: `place` names the namespaces that were read."""
    return "\n".join(_page(report, place)) + "\n"


def _page(report: Report, place: str) -> Iterator[str]:
    yield f"# Incident metrics: {report.period}"
    yield ""
    over = "" if report.over else f"; {report.period} is not over yet"
    yield (
        f"{place}; months in {report.time_zone}; read {report.read_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC{over}. "
        f"{_some(report.reviews, 'review')} in the period; not counted: {_some(report.drills, 'drill')}, "
        f"{_some(report.duplicates, 'duplicate')}."
    )
    counted = report.figures.incidents + report.figures.false_positives
    if counted == 0:
        yield ""
        yield f"No incidents in {report.period}."
        return
    yield ""
    yield from _summary(report)
    for title, name, groups in (
        ("By severity", "Severity", report.by_severity),
        ("By incident type", "Incident type", report.by_incident_type),
    ):
        yield ""
        yield f"## {title}"
        yield ""
        yield from _table((name, *_GROUP_HEAD), [(_name(g, name), *_cells(g.figures)) for g in groups])
    for month in report.months:
        yield ""
        yield f"## {month.month}"
        yield ""
        if not month.groups:
            yield f"No incidents in {month.month}."
            continue
        rows = [(_name(g, "Severity"), _name(g, "Incident type"), *_cells(g.figures)) for g in month.groups]
        yield from _table(("Severity", "Incident type", *_GROUP_HEAD), rows)
    yield from _open(report)
    yield from _not_known(report.figures)


def _summary(report: Report) -> Iterator[str]:
    columns = [(m.month, m.figures) for m in report.months]
    if len(columns) > 1:
        columns.append((report.period, report.figures))
    all_ = [figures for _, figures in columns]
    rows = [
        ("Incidents", *(_incidents(f) for f in all_)),
        ("MTTR", *(_mttr(f) for f in all_)),
        ("MTTR of P1, target < 30 minutes", *(_target(f) for f in all_)),
        ("P1 in less than 30 minutes", *(_within(f) for f in all_)),
        ("MTBF", *(_mtbf(f) for f in all_)),
        ("Runbook effectiveness", *(_effectiveness(f) for f in all_)),
        ("Without anybody's agreement", *(_automatic(f) for f in all_)),
        ("False-positive rate", *(_false(f) for f in all_)),
    ]
    yield from _table(("Metric", *(name for name, _ in columns)), rows)


def _incidents(figures: Figures) -> str:
    parts = [f"{figures.incidents}: {figures.resolved} resolved"]
    if figures.reopened:
        parts.append(f"{figures.reopened} had come back")
    if figures.open:
        parts.append(f"{figures.open} open")
    return ", ".join(parts) if figures.incidents else "0"


def _mttr(figures: Figures) -> str:
    repair = figures.repair
    if repair.mean is None:
        return _without(figures)
    return f"{_length(repair.mean)} (of {repair.incidents})"


def _without(figures: Figures) -> str:
    """Return why there is no mean time: nothing to repair, nothing repaired yet, or nobody knows since when."""
    if not figures.incidents:
        return NONE
    return NOT_KNOWN if figures.resolved else "none is resolved"


def _target(figures: Figures) -> str:
    p1 = figures.p1
    if p1.repair.mean is None:
        return "none is resolved" if p1.open else NOT_KNOWN if p1.unknown else NONE
    return f"{_length(p1.repair.mean)}: {'met' if p1.met else 'missed'}"


def _within(figures: Figures) -> str:
    p1 = figures.p1
    if p1.share is None and not p1.open and not p1.unknown:
        return NONE
    parts = [_of(p1.share, p1.within, p1.repair.incidents)] if p1.share is not None else []
    parts += [f"{p1.open} open"] if p1.open else []
    parts += [f"{p1.unknown} {NOT_KNOWN}"] if p1.unknown else []
    return ", ".join(parts)


def _mtbf(figures: Figures) -> str:
    return NOT_ENOUGH if figures.failures.mean is None else _length(figures.failures.mean)


def _effectiveness(figures: Figures) -> str:
    runbook = figures.runbook
    return NONE if runbook.share is None else _of(runbook.share, runbook.by_runbook, runbook.ran)


def _automatic(figures: Figures) -> str:
    return f"{figures.runbook.automatic} of {figures.runbook.ran}" if figures.runbook.ran else NONE


def _false(figures: Figures) -> str:
    total = figures.incidents + figures.false_positives
    return (
        NONE
        if figures.false_positive_rate is None
        else _of(figures.false_positive_rate, figures.false_positives, total)
    )


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        str(figures.incidents),
        str(figures.resolved),
        str(figures.open),
        _mttr(figures),
        _mtbf(figures),
        _effectiveness(figures),
        _false(figures),
    )


def _open(report: Report) -> Iterator[str]:
    """Yield the incidents that are in no MTTR yet, and what takes them out of here."""
    if not report.figures.open:
        return
    yield ""
    yield "## Open"
    yield ""
    yield "In no MTTR. Once users are well, and no run has seen it: write spec.duration of the review."
    yield ""
    rows = [
        (
            i.review,
            f"{i.detected_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            _or_not_known(i.severity),
            _or_not_known(i.incident_type),
        )
        for i in report.open_incidents
    ]
    yield from _table(("Review", "Detected", "Severity", "Incident type"), rows)
    hidden = report.figures.open - len(rows)
    if hidden:
        yield ""
        yield f"And {_some(hidden, 'later one')}."


def _not_known(figures: Figures) -> Iterator[str]:
    unknown = figures.unknown
    told = (
        (unknown.severity, "no severity", "spec.severity"),
        (unknown.incident_type, "no incident type: their runs have not ended, or their runbook is gone", ""),
        (unknown.restoration, "resolved, and nobody knows since when: in no MTTR", "spec.duration"),
        (unknown.resolved_by, "resolved, and nobody knows by whom: in no runbook effectiveness", ""),
    )
    lines = [
        f"- {_some(count, 'incident')}: {text}" + (f"; write {field} of the review" if field else "")
        for count, text, field in told
        if count
    ]
    if lines:
        yield ""
        yield "## Not known"
        yield ""
        yield from lines


def _name(group: Group, column: str) -> str:
    value = group.severity if column == "Severity" else group.incident_type
    return _or_not_known(value)


def _or_not_known(value: str | None) -> str:
    return NOT_KNOWN if value is None else str(value)


def _of(share: float, part: int, whole: int) -> str:
    return f"{100 * share:.0f}% ({part} of {whole})"


def _length(value: timedelta) -> str:
    """Return a length of time in its two largest units, not rounded: 29 min 59 s is less than 30 minutes."""
    rest = int(value.total_seconds())
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table with straight columns. Shape: no cell has a bar."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, tuple("-" * width for width in widths), *rows):
        yield "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
