"""docs/metrics.md as a table, and what /metrics serves, to be compared."""

import re
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.repo.files import ROOT

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One documented metric."""

    type: str
    labels: tuple[str, ...]


def documented() -> dict[str, Row]:
    """Return the page's metrics by name."""
    rows = _ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    found = {
        name: Row(type=type_, labels=() if labels == "–" else tuple(labels.split(", ")))
        for name, type_, labels, _, _ in rows
    }
    assert len(found) == len(rows), "a metric is documented twice"
    return found


def served(text: str) -> dict[str, str]:
    """Return name and type of each metric in Prometheus' text format."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def labels(text: str) -> dict[str, set[str]]:
    """Return the labels of each metric that has a series, by its name."""
    types = served(text)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if sample.name in types else family.name
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    return found


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every series' value, by name and sorted labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
