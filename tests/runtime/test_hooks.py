"""Hooks over HTTP: who is heard, and what everybody else is answered."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
import pytest

from dev.loopback import address, free_ports
from dev.receivers import Hook, Receivers
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Unreachable
from incident_operator.adapters.notify import Messenger
from incident_operator.api.escalation import Channel
from incident_operator.core.heard import Heard, Said
from incident_operator.core.notice import dedup_key, slack
from incident_operator.runtime import hooks
from incident_operator.runtime.hooks import BODY_LIMIT, PAGERDUTY_SECRET, SLACK_SECRET, Hooks
from incident_operator.runtime.metrics import Metrics
from incident_operator.runtime.server import Server
from tests.builders import NOW
from tests.core.test_notice import a_notice

SLACK, PAGERDUTY = "slack-development-signing", "pagerduty-development-signing"
Post = Callable[[str, "Hook | Slow"], "aiohttp.client._RequestContextManager"]


@dataclass(frozen=True)
class Slow:
    """A hook whose body comes in pieces."""

    body: AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


class Ear:
    """Keeps what was heard, or says why it can't be taken."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.why_not: str | Exception | None = None

    async def hear(self, heard: Heard) -> str | None:
        """Take it, or do not."""
        if isinstance(self.why_not, Exception):
            raise self.why_not
        if self.why_not is None:
            self.heard.append(heard)
        return self.why_not


@asynccontextmanager
async def serving(ear: Ear, *, slack: str = SLACK, pagerduty: str = PAGERDUTY) -> AsyncIterator[Post]:
    """Serve hooks; yield how to post one."""
    (port,) = free_ports(address(), 1)
    environ = {SLACK_SECRET: slack, PAGERDUTY_SECRET: pagerduty}
    served = Hooks.from_environment(environ, ear.hear, lambda: NOW)
    server = Server(Metrics(), lambda: None, address(), port, served)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield lambda path, hook: session.post(
                f"http://{address()}:{port}{path}", data=hook.body, headers=hook.headers
            )
    finally:
        await server.stop()


@pytest.fixture
def ear() -> Ear:
    """An ear that hears."""
    return Ear()


async def test_a_press_in_slack_is_heard(ear: Ear) -> None:
    """The button of a page, signed as Slack signs it."""
    with Receivers() as receivers:
        hook = receivers.slack.pressed(slack(a_notice()), by="jane", at=NOW)
    async with serving(ear) as post, post("/hooks/slack", hook) as answer:
        assert (answer.status, await answer.text()) == (200, "Acknowledge of shop/inc-1: taken\n")
    assert [(heard.incident, heard.verb, heard.who) for heard in ear.heard] == [
        ("shop/inc-1", Said.ACKNOWLEDGE, "slack:jane")
    ]


async def test_what_is_done_in_pagerduty_is_heard(ear: Ear) -> None:
    """After a page that was really sent: an acknowledgement by its key, a note by its title."""
    key = dedup_key("shop/inc-1")
    with Receivers() as receivers:
        messenger = Messenger(Clock(), loopback=True)
        channel = Channel.model_validate({"name": "Pager", "type": "PagerDuty"})
        await messenger.deliver(a_notice(), channel, receivers.pagerduty.credential())
        await messenger.close()
        said = [
            receivers.pagerduty.acknowledged(key, by="Jane Doe", at=NOW),
            receivers.pagerduty.annotated(key, "rolled back", by="Jane Doe", at=NOW),
            receivers.pagerduty.acknowledged(key, by=None, at=NOW),
        ]
    async with serving(ear) as post:
        answers = list[tuple[int, str]]()
        for hook in said:
            async with post("/hooks/pagerduty", hook) as answer:
                answers.append((answer.status, (await answer.text()).strip()))
    assert answers[2] == (200, "NotAPerson")
    assert [(heard.incident, heard.verb, heard.who, heard.text) for heard in ear.heard] == [
        ("shop/inc-1", Said.ACKNOWLEDGE, "pagerduty:Jane Doe", None),
        ("shop/inc-1", Said.NOTE, "pagerduty:Jane Doe", "rolled back"),
    ]


async def test_who_is_not_believed_is_refused(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """Unsigned, signed for another body, replayed: 401. Unreadable: 400. Of no concern: 200, and nothing is done."""
    caplog.set_level(logging.DEBUG)
    with Receivers() as receivers:
        good = receivers.slack.commanded("ack shop/inc-1", by="jane", at=NOW)
        cases = [
            (Hook(headers={}, body=good.body), 401),
            (Hook(headers=good.headers, body=good.body + b"x"), 401),
            (receivers.slack.commanded("ack shop/inc-1", by="jane", at=NOW - timedelta(hours=1)), 401),
            (receivers.slack.signed(b"\xff", NOW), 400),
            (receivers.slack.commanded("approve shop/inc-1", by="jane", at=NOW), 200),
        ]
    async with serving(ear) as post:
        for hook, status in cases:
            async with post("/hooks/slack", hook) as answer:
                assert answer.status == status
        async with post("/hooks/pagerduty", good) as answer:
            assert answer.status == 401
    assert ear.heard == []
    assert SLACK not in caplog.text


async def test_a_body_is_read_to_a_bound(ear: Ear) -> None:
    """Whoever sends it: it is not yet known who that is."""
    async with serving(ear) as post:
        async with post("/hooks/slack", Hook(headers={}, body=b"x" * (BODY_LIMIT + 1))) as answer:
            assert answer.status == 413
        async with post("/hooks/slack", Hook(headers={}, body=b"x" * BODY_LIMIT)) as answer:
            assert answer.status == 401


@pytest.mark.parametrize(("slack", "pagerduty", "there"), [("", PAGERDUTY, "pagerduty"), (SLACK, " ", "slack")])
async def test_a_hook_without_a_signing_secret_is_none(ear: Ear, slack: str, pagerduty: str, there: str) -> None:
    """Not there, rather than open."""
    empty = Hook(headers={}, body=b"{}")
    async with serving(ear, slack=slack, pagerduty=pagerduty) as post:
        statuses = dict[str, int]()
        for provider in ("slack", "pagerduty"):
            async with post(f"/hooks/{provider}", empty) as answer:
                statuses[provider] = answer.status
    assert statuses == {"slack": 404, "pagerduty": 404, there: 401}


@pytest.mark.parametrize("why_not", ["NotLeading", Unreachable("the API server does not answer")])
async def test_what_can_not_be_taken_now_is_asked_for_again(ear: Ear, why_not: str | Exception) -> None:
    """The sender comes back; what was said is not lost."""
    ear.why_not = why_not
    with Receivers() as receivers:
        hook = receivers.slack.commanded("note shop/inc-1 we see it", by="jane", at=NOW)
    async with serving(ear) as post:
        async with post("/hooks/slack", hook) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        ear.why_not = None
        async with post("/hooks/slack", hook) as answer:
            assert answer.status == 200
    assert [heard.text for heard in ear.heard] == ["we see it"]


async def test_a_body_that_never_comes_is_not_waited_for(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can open connections."""
    monkeypatch.setattr(hooks, "_READ_SECONDS", 0.1)

    async def never() -> AsyncIterator[bytes]:
        yield b"payload="
        await asyncio.Event().wait()

    async with serving(ear) as post, post("/hooks/slack", Slow(never())) as answer:
        assert answer.status == 408
