"""Working time and reviews of a policy's calendar: wall time in its zone, instants in UTC.

A wall time that a change of the clocks leaves out is as much later as was left out; of one that comes twice hours open
at the first and close at the second. All arithmetic is on instants, so an hour is an hour across such a change.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..api.escalation import Calendar, EscalationPolicySpec

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = timedelta(days=1)


class UnknownTimeZone(ValueError):
    """The policy's zone is none that this machine knows; the message says what to write."""


@dataclass(frozen=True)
class BusinessCalendar:
    """A policy's calendar in its zone."""

    zone: ZoneInfo
    calendar: Calendar

    def is_business_day(self, day: date) -> bool:
        """Tell whether somebody works on a day."""
        return day not in self.calendar.holidays and any(True for _ in self._hours(day))

    def is_open(self, at: datetime) -> bool:
        """Tell whether an instant is in working hours."""
        return any(opens <= at for opens, _ in self._openings(at))

    def opening(self, at: datetime) -> datetime:
        """Return an instant in working hours, else the next opening."""
        return next(max(opens, at) for opens, _ in self._open_from(at))

    def later(self, at: datetime, working: timedelta) -> datetime:
        """Return the instant when so much working time has passed; that of no time is in working hours."""
        for opens, closes in self._open_from(at):
            begin = max(opens, at)
            if working <= closes - begin:
                return begin + working
            working -= closes - begin
        raise AssertionError("there is always another day")

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return how much working time lies between two instants; none where the second is earlier."""
        total = timedelta()
        for opens, closes in self._open_from(start):
            if opens >= end:
                break
            total += min(closes, end) - max(opens, start)
        return total

    def next_day(self, at: datetime) -> datetime:
        """Return when the next calendar day opens; a day off at the earliest opening of the week."""
        day = self._local_day(at) + _DAY
        own = [opens for opens, _ in self._hours(day)] or [h.opens for h in self.calendar.working_hours]
        return self._instant(day, min(own))

    def next_business_day(self, at: datetime) -> datetime:
        """Return when the next day on which somebody works opens, never the same day."""
        day = self._business_day(self._local_day(at) + _DAY)
        return self._instant(day, min(opens for opens, _ in self._hours(day)))

    def weekly_review(self, at: datetime) -> datetime:
        """Return the first weekly review from an instant on."""
        review = self.calendar.weekly_review
        today = self._local_day(at)
        # From the last nominal day on: a review put off because of holidays may still be ahead.
        first = today - _DAY * ((today.weekday() - _DAYS.index(review.day)) % 7)
        held = (self._instant(self._business_day(first + 7 * _DAY * week), review.at) for week in count())
        return next(instant for instant in held if instant >= at)

    def monthly_review(self, at: datetime) -> datetime:
        """Return the first monthly review from an instant on."""
        review = self.calendar.monthly_review
        held = (self._instant(self._business_day(day), review.at) for day in self._review_days(at))
        return next(instant for instant in held if instant >= at)

    def _review_days(self, at: datetime) -> Iterator[date]:
        """Yield the monthly review's nominal days, from the month before an instant on."""
        today = self._local_day(at)
        for month in count(today.year * 12 + today.month - 2):
            year, number = month // 12, month % 12 + 1
            yield date(year, number, min(self.calendar.monthly_review.day_of_month, monthrange(year, number)[1]))

    def _open_from(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the working hours that end after an instant, in order, as instants."""
        day = self._local_day(at)
        while True:
            yield from ((opens, closes) for opens, closes in self._day(day) if closes > at)
            day += _DAY

    def _openings(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        return ((opens, closes) for opens, closes in self._day(self._local_day(at)) if closes > at)

    def _day(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """Yield a day's working hours as instants: in order, overlapping ones as one."""
        if day in self.calendar.holidays:
            return
        found: list[tuple[datetime, datetime]] = []
        for opens, closes in sorted(self._hours(day)):
            begin, end = self._instant(day, opens), self._instant(day, closes, last=True)
            if found and begin <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            elif begin < end:
                found.append((begin, end))
        yield from found

    def _hours(self, day: date) -> Iterator[tuple[str, str]]:
        name = _DAYS[day.weekday()]
        return ((hours.opens, hours.closes) for hours in self.calendar.working_hours if name in hours.days)

    def _business_day(self, day: date) -> date:
        """Return a day, or the next one on which somebody works: holidays are bounded, so there is one."""
        while not self.is_business_day(day):
            day += _DAY
        return day

    def _local_day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def _instant(self, day: date, clock: str, *, last: bool = False) -> datetime:
        """Return the instant of a wall time: the first of two, or the last."""
        if clock == "24:00":
            day, clock = day + _DAY, "00:00"
        wall = datetime.combine(day, time.fromisoformat(clock), self.zone)
        first = wall.astimezone(UTC)
        return max(first, wall.replace(fold=1).astimezone(UTC)) if last else first


def calendar_of(policy: EscalationPolicySpec) -> BusinessCalendar:
    """Return a policy's calendar. Errors: UnknownTimeZone."""
    return BusinessCalendar(zone_named(policy.time_zone), policy.calendar)


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone. Errors: UnknownTimeZone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"there is no time zone {name!r}; write an IANA name as Europe/Berlin, or install tzdata"
        raise UnknownTimeZone(message) from error
