"""What happened so far, counted where it happens; `runtime.metrics` serves it."""

import threading
from collections import Counter


class Tally:
    """Counts by labels. For many threads.

    Shape: a label's values are of a small set that the code knows: never a name, an ARN or somebody's text.
    """

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()

    def count(self, *values: str) -> None:
        """Count one more of these values, in the order of the labels."""
        with self._lock:
            self._counts[values] += 1

    def items(self) -> list[tuple[tuple[str, ...], int]]:
        """Return the counts so far, by values."""
        with self._lock:
            return sorted(self._counts.items())
