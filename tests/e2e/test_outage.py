"""The operator is away for two hours in the middle of a P0: what people get when it is back, on a real API server.

The clock is the test's. The ladder pages Primary at once, Secondary after 10 minutes, Escalation after 20 and every 5
from then on; a lead is told after 30 minutes, a manager after 60, a VP after 120; rooms hear every 15 minutes.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from dev.receivers import Receivers
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.store import Key
from incident_operator.api.incident import Incident
from incident_operator.api.meta import Severity
from incident_operator.controllers.incident import KIND
from tests.core.policies import FILE

from .desk import Desk, StandingClock, acknowledge, opened
from .incidents import an_escalation_policy, condition_of
from .world import World

OPENED = datetime(2027, 2, 2, 10, 0, tzinfo=UTC)
BACK = OPENED + timedelta(hours=2, minutes=3)
LADDER = {
    "platform-oncall@company.com": "Primary",
    "backend-oncall@company.com": "Secondary",
    "engineering-leads@company.com": "Escalation",
}
#: The shipped policy has no addresses of these three.
ROLES = {"lead@shop.example": "Team Lead", "manager@shop.example": "Manager", "vp@shop.example": "VP"}
EVERYBODY = {name: 1 for name in (*LADDER.values(), *ROLES.values())}


def policy(world: World, receivers: Receivers) -> None:
    """Apply the shipped policy with addresses for every role, every channel, and an update each quarter of an hour."""
    shipped = yaml.safe_load(FILE.read_text())["spec"]
    named = {"Team Lead": "Team Lead", "Engineering Manager": "Manager", "VP Engineering": "VP"}
    contacts = [{"name": name, "kind": "Role", "email": address} for address, name in ROLES.items()]
    an_escalation_policy(
        world,
        receivers,
        contacts=[*shipped["contacts"], *contacts],
        roles=[
            {**role, "contacts": [named[role["name"]]]} if role["name"] in named else role for role in shipped["roles"]
        ],
        severities={**shipped["severities"], "P0": {**shipped["severities"]["P0"], "updateEvery": "15m"}},
    )


class Heard:
    """What the receivers got since it was last asked."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self._mails, self._pages, self._posts, self._hooks = 0, 0, 0, 0
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        r = self._receivers
        self._mails, self._pages = len(r.mail.received), len(r.pagerduty.received)
        self._posts, self._hooks = len(r.slack.received), len(r.webhook.received)

    @property
    def mails(self) -> list[tuple[str, Any]]:
        """Who got which mail."""
        names = {**LADDER, **ROLES}
        return [
            (names[got.what.removeprefix("mail to ")], got.mail) for got in self._receivers.mail.received[self._mails :]
        ]

    @property
    def mailed(self) -> dict[str, int]:
        """How many mails each contact got."""
        return dict(Counter(who for who, _ in self.mails))

    @property
    def pages(self) -> list[dict[str, Any]]:
        """PagerDuty's events."""
        return [got.json for got in self._receivers.pagerduty.received[self._pages :]]

    @property
    def posts(self) -> list[dict[str, Any]]:
        """What the room in Slack got: posted, or changed."""
        return [got.json for got in self._receivers.slack.received[self._posts :]]

    @property
    def hooks(self) -> list[str]:
        """The idempotency keys of what the webhook got."""
        return [got.headers["Idempotency-Key"] for got in self._receivers.webhook.received[self._hooks :]]


async def status_of(kube: Kube, key: Key) -> Any:
    """Return the stored status."""
    return (await kube.get(KIND, *key))["status"]


@pytest.mark.parametrize("gone", ["told", "unnoted", "unsent"])
async def test_after_two_hours_everybody_hears_once(world: World, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """However it went away: after it had told, before it noted that, or before it told anybody at all."""
    monkeypatch.setenv("KUBECONFIG", str(world.stack.operator_kubeconfig))
    clock, key = StandingClock(OPENED), (world.name, "site-down")
    with Receivers() as receivers:
        policy(world, receivers)
        kube = await Kube.connect(clock)
        try:
            heard = Heard(receivers)
            await opened(kube, key, Severity.P0, OPENED)
            before = await a_desk(world, kube, clock, receivers)
            match gone:
                case "told":
                    await before.look(key)
                case "unnoted":
                    await before.look_once(key)
                case _:
                    await before.begin_only(key)
            await before.close()
            assert heard.mailed == ({} if gone == "unsent" else {"Primary": 1})
            first, said = heard.hooks, heard.posts
            assert len(first) == len(said) == (0 if gone == "unsent" else 1)
            heard.forget()

            clock.at = BACK
            desk = await a_desk(world, kube, clock, receivers)
            wake_at = await desk.look(key)
            # Eight updates, 24 pages and three roles came due: one message to each contact, one to each room.
            assert heard.mailed == EVERYBODY
            assert len(heard.posts) == len(heard.hooks) == 1
            late = "This message is late: it was due at 2027-02-02"
            told = {who: mail.get_content() for who, mail in heard.mails}
            assert all(late in text for who, text in told.items()), told
            assert "due at 2027-02-02 10:05 UTC" in told["Primary"]
            assert "due at 2027-02-02 12:00 UTC" in told["VP"]
            # PagerDuty joins what has one key to one incident, whoever is paged and however often.
            assert Counter(event["event_action"] for event in heard.pages) == {"trigger": 3}
            assert len({event["dedup_key"] for event in heard.pages}) == len(receivers.pagerduty.incidents) == 1
            if gone == "unnoted":  # the room gets it a second time, and can tell that by its key
                assert heard.hooks == first
                assert len(receivers.webhook.taken) == 1
                assert heard.posts[0]["metadata"] == said[0]["metadata"]
            status = await status_of(kube, key)
            assert condition_of(status, "RespondedInTime") == ("False", "ClockMissed")
            assert [e["reason"] for e in status["timeline"]].count("ClockMissed") == 1
            assert all(e["state"] in ("Sent", "Delivered") for e in status["engagements"])

            # The ladder's last rung goes on; whoever was before it is paged no more.
            heard.forget()
            rung = OPENED + timedelta(hours=2, minutes=5)
            # An update for the rooms may be due before: these count from when the API server stored the incident.
            assert wake_at is not None
            assert clock.at < wake_at <= rung
            clock.at = rung
            await desk.look(key)
            assert heard.mailed == {"Escalation": 1}
            assert len(heard.pages) == 1
            await acknowledge(kube, desk, key)
            heard.forget()
            clock.at += timedelta(minutes=10)
            await desk.look(key)
            assert heard.mailed == {}
            assert [event["event_action"] for event in heard.pages] == ["acknowledge"]
            status = await status_of(kube, key)
            assert condition_of(status, "RespondedInTime") == ("False", "ClockMissed")
            await desk.close()
        finally:
            await kube.close()


async def test_what_is_told_twice_has_the_same_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back after two hours it dies once more, having told everybody and noted nothing: the next one repeats it all."""
    monkeypatch.setenv("KUBECONFIG", str(world.stack.operator_kubeconfig))
    clock, key = StandingClock(OPENED), (world.name, "site-down")
    with Receivers() as receivers:
        policy(world, receivers)
        kube = await Kube.connect(clock)
        try:
            await opened(kube, key, Severity.P0, OPENED)
            clock.at = BACK
            heard = Heard(receivers)
            before = await a_desk(world, kube, clock, receivers)
            await before.look_once(key)
            await before.close()
            assert heard.mailed == EVERYBODY
            clock.at += timedelta(seconds=30)
            desk = await a_desk(world, kube, clock, receivers)
            await desk.look(key)
            await desk.close()
            assert heard.mailed == {who: 2 for who in EVERYBODY}
            ids = {(who, mail["Message-ID"]) for who, mail in heard.mails}
            assert len(ids) == len(EVERYBODY)
            assert len(heard.hooks) == 2
            assert len(receivers.webhook.taken) == 1
            assert len({post["metadata"]["event_payload"]["key"] for post in heard.posts}) == 1
            assert len({event["dedup_key"] for event in heard.pages}) == 1
            by_contact = Counter(event["payload"]["custom_details"]["key"] for event in heard.pages)
            assert sorted(by_contact.values()) == [2, 2, 2]
            incident = Incident.model_validate(await kube.get(KIND, *key))
            assert all(e.times == 1 for e in incident.status.engagements)
        finally:
            await kube.close()


async def a_desk(world: World, kube: Kube, clock: StandingClock, receivers: Receivers) -> Desk:
    """Return an operator that has just started, and knows what is stored."""
    desk = Desk(world, kube, clock, receivers, LADDER | ROLES)
    await desk.list_all()
    return desk
