"""Who is told when: the document's matrix on Fridays, Sundays, holidays and where the clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident_operator.api.escalation import CELLS
from incident_operator.api.meta import Severity
from incident_operator.core.calendar import UnknownTimeZone, calendar_of
from incident_operator.core.escalation import (
    SeverityChange,
    due_at,
    engagements,
    next_page,
    respond_by,
    rung_starts,
    standing,
)
from tests.core.policies import a_policy

P0, P1, P2, P3 = Severity
LEAD, MANAGER, VP = "Team Lead", "Engineering Manager", "VP Engineering"


def utc(text: str) -> datetime:
    """Return an instant written as `2026-01-16 22:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def minutes(count: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=count)


def told(detected: str, severity: Severity, zone: str = "UTC", **calendar: object) -> list[str]:
    """Return the four roles' instants, in the policy's order, after the instant to respond by."""
    policy = a_policy(zone, **calendar)
    found = {e.role.name: e.at for e in engagements(policy, severity, utc(detected))}
    instants = [respond_by(severity, utc(detected), policy), *(found[role.name] for role in policy.roles)]
    return [f"{instant:%m-%d %H:%M}" for instant in instants]


@pytest.mark.parametrize(
    ("detected", "severity", "expected"),
    # Respond by, On-call Engineer, Team Lead, Engineering Manager, VP Engineering; 2026-01-16 is a Friday.
    [
        ("2026-01-16 22:00", P0, ["01-16 22:15", "01-16 22:00", "01-16 22:30", "01-16 23:00", "01-17 00:00"]),
        ("2026-01-16 22:00", P1, ["01-16 23:00", "01-16 22:00", "01-17 00:00", "01-17 02:00", "01-17 09:00"]),
        ("2026-01-16 22:00", P2, ["01-19 13:00", "01-19 09:00", "01-19 09:00", "01-19 09:00", "01-19 10:00"]),
        ("2026-01-16 22:00", P3, ["01-21 16:00", "01-19 09:00", "01-19 10:00", "01-19 10:00", "02-02 10:00"]),
        # A Sunday.
        ("2026-01-18 10:00", P0, ["01-18 10:15", "01-18 10:00", "01-18 10:30", "01-18 11:00", "01-18 12:00"]),
        ("2026-01-18 10:00", P1, ["01-18 11:00", "01-18 10:00", "01-18 12:00", "01-18 14:00", "01-19 09:00"]),
        ("2026-01-18 10:00", P2, ["01-19 13:00", "01-19 09:00", "01-19 09:00", "01-19 09:00", "01-19 10:00"]),
        ("2026-01-18 10:00", P3, ["01-21 16:00", "01-19 09:00", "01-19 10:00", "01-19 10:00", "02-02 10:00"]),
        # A Tuesday in working hours: at once; the next day is Wednesday; the weekly review was yesterday.
        ("2026-01-20 16:00", P1, ["01-20 17:00", "01-20 16:00", "01-20 18:00", "01-20 20:00", "01-21 09:00"]),
        ("2026-01-20 16:00", P2, ["01-21 11:30", "01-20 16:00", "01-21 09:00", "01-21 09:00", "01-26 10:00"]),
        ("2026-01-20 16:00", P3, ["01-23 14:30", "01-20 16:00", "01-26 10:00", "01-26 10:00", "02-02 10:00"]),
        # Before opening, and the very instants of opening and closing.
        ("2026-01-20 03:00", P2, ["01-20 13:00", "01-20 09:00", "01-21 09:00", "01-21 09:00", "01-26 10:00"]),
        ("2026-01-20 09:00", P2, ["01-20 13:00", "01-20 09:00", "01-21 09:00", "01-21 09:00", "01-26 10:00"]),
        ("2026-01-20 17:30", P2, ["01-21 13:00", "01-21 09:00", "01-21 09:00", "01-21 09:00", "01-26 10:00"]),
        # The last night of a month, and of a year.
        ("2026-01-31 23:59", P1, ["02-01 00:59", "01-31 23:59", "02-01 01:59", "02-01 03:59", "02-01 09:00"]),
        ("2026-12-31 23:59", P0, ["01-01 00:14", "12-31 23:59", "01-01 00:29", "01-01 00:59", "01-01 01:59"]),
        ("2026-12-31 17:00", P2, ["01-01 12:30", "12-31 17:00", "01-01 09:00", "01-01 09:00", "01-04 10:00"]),
        ("2028-02-28 17:00", P2, ["02-29 12:30", "02-28 17:00", "02-29 09:00", "02-29 09:00", "03-06 10:00"]),
    ],
)
def test_every_role_at_its_hour(detected: str, severity: Severity, expected: list[str]) -> None:
    """The matrix, by hand."""
    assert told(detected, severity) == expected


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (P0, ["12-25 11:15", "12-25 11:00", "12-25 11:30", "12-25 12:00", "12-25 13:00"]),
        # The next calendar day is a Saturday.
        (P1, ["12-25 12:00", "12-25 11:00", "12-25 13:00", "12-25 15:00", "12-26 09:00"]),
        # Monday the 28th is off, too: the weekly review is on Tuesday.
        (P2, ["12-29 13:00", "12-29 09:00", "12-29 09:00", "12-29 09:00", "12-29 10:00"]),
        # 1 January is off, a Friday: the monthly review is on Monday the 4th, as is the weekly one.
        (P3, ["01-04 09:00", "12-29 09:00", "12-29 10:00", "12-29 10:00", "01-04 10:00"]),
    ],
)
def test_on_a_holiday(severity: Severity, expected: list[str]) -> None:
    """Days off are no business days; the wall clock does not care."""
    holidays = ["2026-12-25", "2026-12-28", "2027-01-01"]
    found = told("2026-12-25 11:00", severity, holidays=holidays)
    if severity == P3:
        # 24 h: 8.5 h on the 29th and the 30th, 7 h on the 31st.
        expected = ["12-31 16:00", *expected[1:]]
    assert found == expected


def test_a_review_that_a_holiday_put_off_is_still_ahead() -> None:
    """Detected on the holiday after the review's hour: it is the next day, not the next week."""
    policy = a_policy(holidays=["2026-01-19"])
    assert due_at("WeeklyReview", utc("2026-01-19 12:00"), P2, policy) == utc("2026-01-20 10:00")
    assert due_at("WeeklyReview", utc("2026-01-20 10:00"), P2, policy) == utc("2026-01-20 10:00")
    assert due_at("WeeklyReview", utc("2026-01-20 10:01"), P2, policy) == utc("2026-01-26 10:00")


def test_a_monthly_review_on_the_last_day_is_in_every_month() -> None:
    """The 31st is the 28th of February, a Saturday: Monday. The same instant still counts."""
    policy = a_policy(monthlyReview={"dayOfMonth": 31, "at": "10:00"})
    assert due_at("MonthlyReview", utc("2026-02-10 00:00"), P3, policy) == utc("2026-03-02 10:00")
    assert due_at("MonthlyReview", utc("2026-03-02 10:00"), P3, policy) == utc("2026-03-02 10:00")
    assert due_at("MonthlyReview", utc("2026-03-02 10:01"), P3, policy) == utc("2026-03-31 10:00")


@pytest.mark.parametrize(
    ("detected", "severity", "expected"),
    [
        # Berlin, clocks forward on Sunday 2026-03-29 at 01:00 UTC: 09:00 is 08:00 UTC before, 07:00 UTC after.
        ("2026-03-27 21:00", P1, ["03-27 22:00", "03-27 21:00", "03-27 23:00", "03-28 01:00", "03-28 08:00"]),
        ("2026-03-28 22:30", P1, ["03-28 23:30", "03-28 22:30", "03-29 00:30", "03-29 02:30", "03-29 07:00"]),
        ("2026-03-27 21:00", P2, ["03-30 11:00", "03-30 07:00", "03-30 07:00", "03-30 07:00", "03-30 08:00"]),
        # An hour of working time before, three after: 16:30 until 17:30 in Berlin is 15:30 until 16:30 UTC.
        ("2026-03-27 15:30", P2, ["03-30 10:00", "03-27 15:30", "03-30 07:00", "03-30 07:00", "03-30 08:00"]),
        # Clocks back on Sunday 2026-10-25 at 01:00 UTC.
        ("2026-10-24 22:30", P1, ["10-24 23:30", "10-24 22:30", "10-25 00:30", "10-25 02:30", "10-26 08:00"]),
        ("2026-10-24 20:00", P1, ["10-24 21:00", "10-24 20:00", "10-24 22:00", "10-25 00:00", "10-25 08:00"]),
        ("2026-10-23 14:30", P2, ["10-26 11:00", "10-23 14:30", "10-26 08:00", "10-26 08:00", "10-26 09:00"]),
    ],
)
def test_where_the_clocks_change(detected: str, severity: Severity, expected: list[str]) -> None:
    """Openings follow the wall, lengths follow the sun; the local day counts."""
    assert told(detected, severity, "Europe/Berlin") == expected


ALL_WEEK = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


@pytest.mark.parametrize(
    ("day", "opens", "closes", "hours"),
    [
        (date(2026, 3, 29), "00:00", "24:00", 23),
        (date(2026, 10, 25), "00:00", "24:00", 25),
        (date(2026, 3, 28), "00:00", "24:00", 24),
        # Within the hour that is left out, and the hour that comes twice.
        (date(2026, 3, 29), "02:15", "02:45", 0.5),
        (date(2026, 3, 29), "01:00", "04:00", 2),
        (date(2026, 10, 25), "01:00", "02:30", 2.5),
    ],
)
def test_a_nights_shift_is_as_long_as_it_was(day: date, opens: str, closes: str, hours: float) -> None:
    """Berlin, open around the change: 23 hours, or 25."""
    policy = a_policy("Europe/Berlin", workingHours=[{"days": ALL_WEEK, "from": opens, "to": closes}])
    calendar = calendar_of(policy)
    start = datetime(day.year, day.month, day.day, tzinfo=calendar.zone).astimezone(UTC)
    end = datetime(day.year, day.month, day.day + 1, tzinfo=calendar.zone).astimezone(UTC)
    assert calendar.between(start, end) == timedelta(hours=hours)


def test_overlapping_hours_count_once() -> None:
    """Two teams' hours on one day are one opening."""
    hours = [{"days": ["Tue"], "from": "12:00", "to": "18:00"}, {"days": ["Tue"], "from": "09:00", "to": "13:00"}]
    calendar = calendar_of(a_policy(workingHours=hours))
    assert calendar.between(utc("2026-01-19 00:00"), utc("2026-01-26 00:00")) == timedelta(hours=9)
    assert calendar.later(utc("2026-01-19 00:00"), timedelta(hours=9)) == utc("2026-01-20 18:00")


def test_a_zone_that_does_not_exist_says_what_to_write() -> None:
    """Its form is right, so the API server took it."""
    with pytest.raises(UnknownTimeZone, match=r"no time zone 'Europe/Berlln'; write an IANA name as Europe/Berlin"):
        calendar_of(a_policy("Europe/Berlln"))


def test_standing_tells_engaged_next_and_upcoming() -> None:
    """In order of time; the very instant counts as engaged."""
    found = engagements(a_policy(), P0, utc("2026-01-16 22:00"))
    now = standing(found, utc("2026-01-16 22:30"))
    assert [e.role.name for e in now.engaged] == ["On-call Engineer", LEAD]
    assert now.next is not None
    assert (now.next.role.name, [e.role.name for e in now.upcoming]) == (MANAGER, [MANAGER, VP])
    assert standing(found, utc("2026-01-17 00:00")).next is None


def test_a_raised_severity_counts_from_detection() -> None:
    """P2 on Friday night, P0 three hours later: everybody is overdue, and engaged then, not in the past."""
    raised = (SeverityChange(severity=P0, at=utc("2026-01-17 01:00")),)
    found = engagements(a_policy(), P2, utc("2026-01-16 22:00"), raised)
    assert {(e.at, e.severity) for e in found} == {(utc("2026-01-17 01:00"), P0)}
    assert len(found) == 4


def test_raised_early_the_clocks_are_those_from_the_start() -> None:
    """Raised after twenty minutes: the lead's thirty minutes are ten more."""
    raised = (SeverityChange(severity=P0, at=utc("2026-01-16 22:20")),)
    found = {e.role.name: e.at for e in engagements(a_policy(), P1, utc("2026-01-16 22:00"), raised)}
    assert [found[name] for name in (LEAD, MANAGER, VP)] == [
        utc("2026-01-16 22:30"),
        utc("2026-01-16 23:00"),
        utc("2026-01-17 00:00"),
    ]


def test_nobody_is_unengaged_by_a_lower_severity() -> None:
    """Who was engaged stays so since then; the others' time is the new one."""
    lowered = (SeverityChange(severity=P3, at=utc("2026-01-16 22:45")),)
    found = {e.role.name: (e.at, e.severity) for e in engagements(a_policy(), P0, utc("2026-01-16 22:00"), lowered)}
    assert found == {
        "On-call Engineer": (utc("2026-01-16 22:00"), P0),
        LEAD: (utc("2026-01-16 22:30"), P0),
        MANAGER: (utc("2026-01-19 10:00"), P3),
        VP: (utc("2026-02-02 10:00"), P3),
    }


START = utc("2026-01-16 22:00")


@pytest.mark.parametrize(
    ("after", "contact", "at"),
    [
        (-1, "Primary", 0),
        (0, "Primary", 5),
        (5, "Secondary", 10),
        (9.9, "Secondary", 10),
        (10, "Secondary", 15),
        (15, "Escalation", 20),
        (20, "Escalation", 25),
        (1000, "Escalation", 1005),
    ],
)
def test_the_ladder_climbs_until_somebody_acknowledges(after: float, contact: str, at: float) -> None:
    """Every five minutes, ten on each rung, the last for ever; with an acknowledgement no more."""
    now = START + minutes(after)
    page = next_page(a_policy(), P1, START, now)
    assert page is not None
    assert (page.contact, page.at) == (contact, START + minutes(at))
    assert next_page(a_policy(), P1, START, now, acknowledged_at=now) is None


def test_the_ladder_of_business_hours_sleeps_at_night() -> None:
    """Five minutes before closing: one page, and the next rung in the morning."""
    start = utc("2026-01-16 17:24")
    assert [f"{page.at:%d %H:%M}" for page in rung_starts(a_policy(), P3, start)] == [
        "16 17:24",
        "19 09:04",
        "19 09:14",
    ]
    page = next_page(a_policy(), P3, start, utc("2026-01-17 03:00"))
    assert page is not None
    assert (page.contact, page.at) == ("Secondary", utc("2026-01-19 09:04"))


#: The same everywhere; without a deadline, for zones are read from files at first.
EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=200)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
DAYS = st.lists(st.dates(date(2024, 1, 1), date(2031, 12, 31)).map(date.isoformat), max_size=20, unique=True)


@EXAMPLES
@given(
    zone=ZONES,
    detected=INSTANTS,
    severity=st.sampled_from(list(Severity)),
    holidays=DAYS,
    cell=st.sampled_from([*CELLS, "30m", "2h", "1d", "90d"]),
)
def test_nothing_is_due_before_detection(
    zone: str, detected: datetime, severity: Severity, holidays: list[str], cell: str
) -> None:
    """And what counts on business hours is due within them, its length of working time later."""
    policy = a_policy(zone, holidays=holidays)
    calendar = calendar_of(policy)
    due = due_at(cell, detected, severity, policy)
    assert due >= detected
    limit = respond_by(severity, detected, policy)
    within = policy.severities.rule(severity).respond_within
    if severity in (P0, P1):
        assert limit == detected + within
    else:
        assert calendar.is_open(limit) or calendar.is_open(limit - timedelta(microseconds=1))
        assert calendar.between(detected, limit) == within
    if cell == "BusinessHours" or (cell == "NextDay" and severity in (P2, P3)) or cell.endswith("Review"):
        assert calendar.is_open(due)
        local = due.astimezone(calendar.zone)
        assert local.date().isoformat() not in holidays
        assert local.weekday() < 5


@EXAMPLES
@given(
    zone=ZONES,
    started=INSTANTS,
    severity=st.sampled_from(list(Severity)),
    wait=st.timedeltas(timedelta(), minutes(9000)),
)
def test_pages_follow_each_other_and_none_is_skipped(
    zone: str, started: datetime, severity: Severity, wait: timedelta
) -> None:
    """The next page is after now, and the one asked for just before it is the same."""
    policy = a_policy(zone)
    start = due_at("BusinessHours", started, P3, policy)
    now = start + wait
    page = next_page(policy, severity, start, now)
    assert page is not None
    assert page.at > now
    assert next_page(policy, severity, start, page.at - timedelta(microseconds=1)) == page
