"""A year of incidents on a real API server: every cell of the matrix, told by a real mail server, against the document.

The clock is the test's: it goes from one wake-up to the next. The table was written by hand, from the runbook's matrix
and the policy's calendar: Berlin, Monday to Friday from 9:00 to 17:30, Easter Monday off.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from dev.receivers import Receivers
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.store import Key
from incident_operator.api.meta import Severity
from incident_operator.controllers.incident import KIND

from .desk import Desk, StandingClock, acknowledge, opened
from .incidents import an_escalation_policy
from .world import World

BERLIN = ZoneInfo("Europe/Berlin")
HOLIDAYS = ["2027-03-29"]
#: Whom the shipped policy calls so; addresses of the last three are the test's, for the document has none.
ADDRESSES = {
    "platform-oncall@company.com": "On-call",
    "lead@shop.example": "Lead",
    "manager@shop.example": "Manager",
    "vp@shop.example": "VP",
}
ROLES = ("On-call", "Lead", "Manager", "VP")
P0, P1, P2, P3 = Severity
#: Opening (local) → by severity, when each role is told (local): on-call engineer, lead, manager, VP.
TABLE: Mapping[str, Mapping[Severity, tuple[str, str, str, str]]] = {
    # A Friday night.
    "2027-01-15 22:00": {
        P0: ("01-15 22:00", "01-15 22:30", "01-15 23:00", "01-16 00:00"),
        P1: ("01-15 22:00", "01-16 00:00", "01-16 02:00", "01-16 09:00"),
        P2: ("01-18 09:00", "01-18 09:00", "01-18 09:00", "01-18 10:00"),
        P3: ("01-18 09:00", "01-18 10:00", "01-18 10:00", "02-01 10:00"),
    },
    # A Tuesday in working hours; the weekly review was yesterday.
    "2027-02-02 10:00": {
        P0: ("02-02 10:00", "02-02 10:30", "02-02 11:00", "02-02 12:00"),
        P1: ("02-02 10:00", "02-02 12:00", "02-02 14:00", "02-03 09:00"),
        P2: ("02-02 10:00", "02-03 09:00", "02-03 09:00", "02-08 10:00"),
        P3: ("02-02 10:00", "02-08 10:00", "02-08 10:00", "03-01 10:00"),
    },
    # Easter Sunday: half an hour later the clocks go from 2 to 3; Monday is off, and its review is on Tuesday.
    "2027-03-28 01:30": {
        P0: ("03-28 01:30", "03-28 03:00", "03-28 03:30", "03-28 04:30"),
        P1: ("03-28 01:30", "03-28 04:30", "03-28 06:30", "03-29 09:00"),
        P2: ("03-30 09:00", "03-30 09:00", "03-30 09:00", "03-30 10:00"),
        P3: ("03-30 09:00", "03-30 10:00", "03-30 10:00", "04-01 10:00"),
    },
    # The last afternoon of a month and of a half-year.
    "2027-06-30 17:00": {
        P0: ("06-30 17:00", "06-30 17:30", "06-30 18:00", "06-30 19:00"),
        P1: ("06-30 17:00", "06-30 19:00", "06-30 21:00", "07-01 09:00"),
        P2: ("06-30 17:00", "07-01 09:00", "07-01 09:00", "07-05 10:00"),
        P3: ("06-30 17:00", "07-05 10:00", "07-05 10:00", "07-01 10:00"),
    },
    # A Sunday on which 2 to 3 comes twice: half past two is told twice, once by summer time.
    "2027-10-31 01:30": {
        P0: ("10-31 01:30", "10-31 02:00", "10-31 02:30", "10-31 02:30"),
        P1: ("10-31 01:30", "10-31 02:30", "10-31 04:30", "11-01 09:00"),
        P2: ("11-01 09:00", "11-01 09:00", "11-01 09:00", "11-01 10:00"),
        P3: ("11-01 09:00", "11-01 10:00", "11-01 10:00", "11-01 10:00"),
    },
    # The last afternoon of a year, a Friday.
    "2027-12-31 16:00": {
        P0: ("12-31 16:00", "12-31 16:30", "12-31 17:00", "12-31 18:00"),
        P1: ("12-31 16:00", "12-31 18:00", "12-31 20:00", "01-01 09:00"),
        P2: ("12-31 16:00", "01-03 09:00", "01-03 09:00", "01-03 10:00"),
        P3: ("12-31 16:00", "01-03 10:00", "01-03 10:00", "01-03 10:00"),
    },
}


def local(text: str) -> datetime:
    """Return the instant of a wall time in Berlin: the first of two."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


async def test_a_year_of_incidents_is_told_as_the_document_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 incidents, four severities at six openings: each role's first mail, against the table."""
    monkeypatch.setenv("KUBECONFIG", str(world.stack.operator_kubeconfig))
    clock = StandingClock(local("2027-01-01 00:00"))
    with Receivers() as receivers:
        policy(world, receivers)
        kube = await Kube.connect(clock)
        desk = Desk(world, kube, clock, receivers, ADDRESSES)
        try:
            await lived_through(world, kube, desk)
        finally:
            await desk.close()
            await kube.close()
    found = {
        opening: {
            severity: tuple(shown(desk.told.get((name_of(opening, severity), role))) for role in ROLES)
            for severity in Severity
        }
        for opening in TABLE
    }
    assert found == {opening: dict(rows) for opening, rows in TABLE.items()}


def policy(world: World, receivers: Receivers) -> None:
    """Apply the shipped policy in Berlin, with addresses for every role, told by mail alone."""
    an_escalation_policy(world, receivers)
    stored = world.admin.json("get", "escalationpolicy", "default", "-n", world.name)["spec"]
    contacts = [
        {"name": role, "kind": "Role", "email": address} for address, role in ADDRESSES.items() if role != "On-call"
    ]
    named = {"Team Lead": "Lead", "Engineering Manager": "Manager", "VP Engineering": "VP"}
    an_escalation_policy(
        world,
        receivers,
        timeZone="Europe/Berlin",
        calendar={**stored["calendar"], "holidays": HOLIDAYS},
        contacts=[*stored["contacts"], *contacts],
        roles=[
            {**role, "contacts": [named[role["name"]]]} if role["name"] in named else role for role in stored["roles"]
        ],
        channels=[channel for channel in receivers.channels() if channel["type"] == "Email"],
    )


async def lived_through(world: World, kube: Kube, desk: Desk) -> None:
    """Open each incident at its hour, let it be acknowledged once it is paged, and go on until nobody is to be told."""
    waiting: dict[Key, datetime] = {}
    openings = sorted(((local(opening), opening) for opening in TABLE), key=lambda pair: pair[0])
    while openings or waiting:
        if openings and (not waiting or openings[0][0] <= min(waiting.values())):
            at, opening = openings.pop(0)
            desk.clock.at = at
            for severity in Severity:
                key = (world.name, name_of(opening, severity))
                await opened(kube, key, severity, at)
                waiting[key] = at
            await desk.list_all()
            continue
        key = min(waiting, key=lambda key: (waiting[key], key))
        desk.clock.at = max(desk.clock.at, waiting.pop(key))
        wake_at = await desk.look(key)
        if (key[1], "On-call") in desk.told and not acknowledged(desk, key):
            await acknowledge(kube, desk, key)
            wake_at = await desk.look(key)
        if wake_at is not None and any((key[1], role) not in desk.told for role in ROLES):
            waiting[key] = wake_at


def acknowledged(desk: Desk, key: Key) -> bool:
    """Tell whether somebody took an incident."""
    raw = desk.store.get(KIND, key)
    return raw is not None and "acknowledgedBy" in (raw.get("status") or {})


def name_of(opening: str, severity: Severity) -> str:
    """Return an incident's name: `2027-01-15-p0`."""
    return f"{opening[:10]}-{severity.lower()}"


def shown(at: datetime | None) -> str:
    """Return an instant as the table has it."""
    return "never" if at is None else f"{at.astimezone(BERLIN):%m-%d %H:%M}"
