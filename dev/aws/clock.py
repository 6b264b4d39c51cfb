"""The one clock of the simulator, and how long its own delays take. Instants are real, only delays are scaled."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_FLOOR = timedelta(milliseconds=200)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Shape: `scale` as the operator's `--time-scale`: delays are divided by it, but not below 200 ms."""

    scale: float = 1.0

    def now(self) -> datetime:
        """Return the instant, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 the simulator is the outside world of the operator

    def scaled(self, delay: timedelta) -> timedelta:
        """Return how long a delay takes here."""
        return delay if self.scale == 1 else max(delay / self.scale, _FLOOR)
