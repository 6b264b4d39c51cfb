"""The clock: the only place that reads it. Decisions get `now`."""

import time
from datetime import UTC, datetime


class Clock:
    """Wall clock for instants people read, monotonic clock for leases and timeouts."""

    def now(self) -> datetime:
        """Return the instant, aware UTC, in whole milliseconds: what is stored is what was decided on."""
        now = datetime.now(UTC)  # noqa: TID251  (this is the clock)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
