"""Figures: named samples with a unit, shown as a table and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure. Shape: `samples` has one value a round; `met` is None where there is no target."""

    name: str
    unit: str
    samples: Sequence[float]
    target: str = ""
    met: bool | None = None

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    def json(self) -> dict[str, Any]:
        """Return the figure as JSON."""
        shown = {"name": self.name, "unit": self.unit, "median": round(self.median, 4)}
        spread = {"min": round(min(self.samples), 4), "max": round(max(self.samples), 4), "rounds": len(self.samples)}
        return {**shown, **spread, **({"target": self.target, "met": self.met} if self.target else {})}


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], *, at_most: float | None = None) -> Figure:
    """Return ours/theirs round by round, so that a slow moment of the machine counts on both sides."""
    samples = [a / b for a, b in zip(ours, theirs, strict=True)]
    if at_most is None:
        return Figure(name=name, unit="×", samples=samples)
    met = statistics.median(samples) <= at_most
    return Figure(name=name, unit="×", samples=samples, target=f"≤ {at_most:g}", met=met)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, one a line."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':{width}}  {'median':>10}  {'min':>10}  {'max':>10}"]
    for figure in figures:
        verdict = "" if figure.met is None else f"  target {figure.target}: {'met' if figure.met else 'MISSED'}"
        values = "  ".join(f"{value:10.4g}" for value in (figure.median, min(figure.samples), max(figure.samples)))
        lines.append(f"{figure.name:{width}}  {values}  {figure.unit}{verdict}")
    return "\n".join(lines)
