"""Waits: which are scaled, and the instants they lead to. Source: decision 1."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

#: No scaled wait is shorter: below it, polling would be all the operator does.
FLOOR = timedelta(milliseconds=200)


@dataclass(frozen=True)
class Timing:
    """The one factor that divides waits: production 1, demo 20, tests 60."""

    scale: float = 1.0
    #: Real: how long a lease lasts, and so how long an interrupted holder may still be at work.
    lease_duration: timedelta = timedelta(seconds=15)

    def scaled(self, wait: timedelta) -> timedelta:
        """Return the wait as this deployment makes it; never below the floor unless it was."""
        if self.scale == 1:
            return wait
        return max(wait / self.scale, min(wait, FLOOR))


def earliest(*instants: datetime | None) -> datetime | None:
    """Return the first of these instants, None where there is none."""
    known = [instant for instant in instants if instant is not None]
    return min(known) if known else None


def latest(instants: Iterable[datetime | None]) -> datetime | None:
    """Return the last of these instants, None where there is none."""
    known = [instant for instant in instants if instant is not None]
    return max(known) if known else None
