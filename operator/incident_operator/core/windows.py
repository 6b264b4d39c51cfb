"""Windows of a policy: whether a run may be started at an instant, by the wall clocks of their zones.

Where a clock is set, the doubt is for the freeze: an hour that comes twice is frozen both times and allowed only where
both readings agree; a time that is skipped counts as the same instant by the offset before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..api.policy import Window, WindowKind

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_CRON_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAY = timedelta(days=1)


class WindowInvalid(ValueError):
    """A window that can't be read; the message says what to write."""


@dataclass(frozen=True, kw_only=True)
class Cron:
    """The five fields, each as the values it admits."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    #: As cron has it: where both day fields are restricted, either is enough.
    either_day: bool

    def on(self, day: date) -> bool:
        """Tell whether it falls on a day. Units: weekdays count from Sunday, 0."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either_day else of_month and of_week)


def parse_cron(text: str) -> Cron:
    """Read minute, hour, day of month, month and day of week. Errors: WindowInvalid."""
    fields = text.split()
    if len(fields) != 5:
        raise WindowInvalid(f"cron {text!r} has {len(fields)} fields; write five, as 0 22 * * FRI")
    minutes, hours, days, months, weekdays = fields
    return Cron(
        minutes=_field(text, minutes, 0, 59),
        hours=_field(text, hours, 0, 23),
        days=_field(text, days, 1, 31),
        months=_field(text, months, 1, 12, _MONTHS),
        weekdays=frozenset(day % 7 for day in _field(text, weekdays, 0, 7, _CRON_DAYS)),
        either_day=not (days.startswith("*") or weekdays.startswith("*")),
    )


def _field(cron: str, text: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        try:
            begin = lowest if first == "*" else _number(first, lowest, names)
            end = highest if first == "*" or (step and not last) else _number(last or first, lowest, names)
            every = int(step or 1)
        except ValueError:
            raise WindowInvalid(f"cron {cron!r}: {part!r} is neither *, a number, a range nor a step") from None
        if not (lowest <= begin <= end <= highest and every >= 1):
            raise WindowInvalid(f"cron {cron!r}: {part!r} is not within {lowest} to {highest}")
        found.update(range(begin, end + 1, every))
    return frozenset(found)


def _number(text: str, lowest: int, names: tuple[str, ...]) -> int:
    return names.index(text.upper()) + lowest if text.upper() in names else int(text)


def problem(windows: Iterable[Window]) -> str | None:
    """Return why the first window that can't be read can't be; None where all can."""
    for number, window in enumerate(windows):
        try:
            _zone(window.time_zone)
            if window.cron is not None:
                parse_cron(window.cron)
        except WindowInvalid as error:
            return f"spec.guardrails.windows[{number}]: {error}"
    return None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WindowInvalid(f"there is no time zone {name!r}; write an IANA name, as Europe/Berlin") from None


def closed_until(windows: Iterable[Window], now: datetime) -> tuple[bool, datetime | None]:
    """Tell whether windows keep a run from being started now, and until when where that is soon.

    Errors: WindowInvalid, for what `problem` names.
    """
    freezes = [end for window in windows if window.kind == WindowKind.FREEZE for end in _ends(window, now)]
    if freezes:
        return True, max(freezes)
    allowing = [window for window in windows if window.kind == WindowKind.ALLOW]
    if not allowing or any(True for window in allowing for _ in _ends(window, now)):
        return False, None
    coming = [begin for window in allowing for begin, _ in _spans(window, now) if begin > now]
    return True, min(coming, default=None)


def _ends(window: Window, now: datetime) -> Iterator[datetime]:
    """Yield the ends of the window's spans that an instant is in."""
    return (end for begin, end in _spans(window, now) if begin <= now < end)


def _spans(window: Window, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the window's spans that begin from as long ago as it lasts to a day and more ahead. Shape: in UTC."""
    zone = _zone(window.time_zone)
    freezes = window.kind == WindowKind.FREEZE
    today, lasts = now.astimezone(zone).date(), window.duration or _DAY
    first = today - lasts - 2 * _DAY
    cron = parse_cron(window.cron) if window.cron is not None else None
    for number in range((today - first).days + 3):
        day = first + number * _DAY
        if cron is not None:
            if cron.on(day):
                for hour in sorted(cron.hours):
                    for minute in sorted(cron.minutes):
                        at = time(hour, minute)
                        begin = _instant(day, at, zone, later=not freezes)
                        yield begin, _instant(day, at, zone, later=freezes) + lasts
        elif window.begins is None or window.ends is None:
            continue
        elif not window.days or _DAYS[day.weekday()] in window.days:
            begins, ends = time.fromisoformat(window.begins), time.fromisoformat(window.ends)
            until = day if ends > begins else day + _DAY
            yield _instant(day, begins, zone, later=not freezes), _instant(until, ends, zone, later=freezes)


def _instant(day: date, at: time, zone: ZoneInfo, *, later: bool) -> datetime:
    """Return the instant of a wall-clock time; of two, the later or the earlier one."""
    wall = datetime.combine(day, at, tzinfo=zone)
    first, second = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if second < first:  # skipped when the clock is set forward: by the offset before
        return first
    return second if later else first
