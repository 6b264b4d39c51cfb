"""Figures: named samples with a unit, shown as a table and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Shape: `samples` has one value a round, in order; `limit` is the most its median should be; `notes` are what it
    counts, by name.
    """

    name: str
    unit: str
    samples: Sequence[float]
    limit: float | None = None
    notes: Sequence[str] = ()

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.limit is None else self.median <= self.limit

    def json(self) -> dict[str, Any]:
        """Return the figure as JSON."""
        rounded = [round(value, 4) for value in self.samples]
        shown = {"name": self.name, "unit": self.unit, "samples": rounded}
        spread = {"min": min(rounded), "median": round(self.median, 4), "max": max(rounded)}
        target = {} if self.limit is None else {"atMost": self.limit, "met": self.met}
        return {**shown, **spread, **target, **({"notes": list(self.notes)} if self.notes else {})}


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], *, limit: float | None = None) -> Figure:
    """Return ours/theirs round by round, so that a slow moment of the machine counts on both sides."""
    return Figure(name=name, unit="×", samples=[a / b for a, b in zip(ours, theirs, strict=True)], limit=limit)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, one a line, each note on a line below its figure's."""
    width = max((len(figure.name) for figure in figures), default=0)
    lines = [f"{'':{width}}  {'min':>9}  {'median':>9}  {'max':>9}"]
    for figure in figures:
        values = (min(figure.samples), figure.median, max(figure.samples))
        shown = "  ".join(f"{_short(value):>9}" for value in values)
        verdict = "" if figure.limit is None else f"   target ≤ {figure.limit:g}: {'met' if figure.met else 'MISSED'}"
        lines.append(f"{figure.name:{width}}  {shown}  {figure.unit}{verdict}")
        lines += [f"    {note}" for note in figure.notes]
    return "\n".join(lines)


def _short(value: float) -> str:
    """Return three figures or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
