"""What users felt: the worst that was measured, and at which instant. Percentages of different instants are told apart.

A measurement counts the requests in the time that its check looked at. The first diagnosis of an outage still sees
requests from before it, a later one may see none of those: 24 % and 100 % are then both true, each of its own time.
"""

from datetime import UTC, datetime

from ..api.run import Impact, ImpactMeasure


def impact_of(failed: float | None, total: float | None, *, estimated_by: str = "") -> Impact | None:
    """Return what so many failures of so many come to; None where either is not known, or there were none to fail."""
    if failed is None or total is None or total <= 0:
        return None
    # Two metrics are read one after the other, and samples come in between: who failed did ask, whatever was counted.
    total = max(total, failed)
    percent = round(100 * failed / total, 1)
    counts = f"({failed:g} of {total:g})"
    if estimated_by:
        summary, method = f"about {percent:g}% of requests failed, estimated by {estimated_by} {counts}", "Estimated"
    else:
        summary, method = f"{percent:g}% of requests failed {counts}", "Measured"
    return Impact(summary=summary, method=method, failed=float(failed), total=float(total), percent=percent)


def at_worst(before: Impact | None, measured: Impact | None, at: datetime, *, after_fix: bool = False) -> Impact | None:
    """Return the worst so far, with one more measurement. What was seen at first stays where it was less.

    After a fix was applied, an estimate from before stands: what is measured then is not of the outage at its worst.
    """
    if measured is None:
        return before
    measured = measured.model_copy(update={"measured_at": at})
    if before is None:
        return measured
    if worse(before, measured) is before or (after_fix and before.method != measured.method):
        return before
    first = before.first or _measure(before)
    if first is None or before.method != measured.method:
        return measured
    summary = f"{measured.summary} at worst; {first.percent:g}% at the first diagnosis"
    return measured.model_copy(update={"first": first, "summary": summary[:128]})


def worse(one: Impact | None, other: Impact | None) -> Impact | None:
    """Return the worse of two, the first of equals: looking again after a fix does not make it less.

    What was measured goes before what was estimated; but that none failed in some minutes refutes no estimate.
    """
    if one is None or other is None:
        return one or other
    return max(one, other, key=_weight)


def _weight(impact: Impact) -> tuple[bool, float]:
    percent = impact.percent or 0
    return impact.method == "Measured" and percent > 0, percent


def impact_in_words(impact: Impact) -> str:
    """Return it as the document writes it; where it rose, with what was measured when. Counts stand in the facts.

    >>> impact_in_words(Impact(summary="15% failed", failed=36, total=240, percent=15))
    '15% of requests failed'
    """
    if impact.percent is None or impact.failed is None or impact.total is None:
        return impact.summary
    first, about = impact.first, "about " if impact.method == "Estimated" else ""
    if first is None:
        return f"{about}{impact.percent:.0f}% of requests failed{' (estimated)' if about else ''}"
    when = f", measured at {_clock(impact.measured_at)}" if impact.measured_at is not None else ""
    return (
        f"{about}{impact.percent:.0f}% of requests failed at worst ({impact.failed:.0f} of {impact.total:.0f}{when}); "
        f"{first.percent:.0f}% at the first diagnosis ({first.failed:.0f} of {first.total:.0f}, at {_clock(first.at)})"
    )


def _measure(impact: Impact) -> ImpactMeasure | None:
    """Return a stored worst as the measurement that it was; None where its instant is not known."""
    failed, total, percent, at = impact.failed, impact.total, impact.percent, impact.measured_at
    if failed is None or total is None or percent is None or at is None:
        return None
    return ImpactMeasure(failed=failed, total=total, percent=percent, at=at)


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"
