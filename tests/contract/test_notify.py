"""Each channel against a receiver that speaks its provider's protocol, in good order and in every kind of trouble.

Receivers and messenger are real; nothing leaves this machine.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dev.controlplane.certificates import write_certificates
from dev.loopback import address, free_ports
from dev.receivers import HttpReceiver, Mood, Receiver, Receivers
from incident_operator.adapters import kube
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import SECRET_TYPE
from incident_operator.adapters.notify import Delivery, Messenger, Reason, State, credential_of
from incident_operator.adapters.notify.http import retry_after
from incident_operator.api.escalation import Channel, ChannelType
from incident_operator.core.notice import Notice, Occasion
from tests.builders import NOW
from tests.contract.conftest import CANARY
from tests.core.test_notice import a_notice

#: Of who is to be answered, on a busy machine too; and of who is to see that there is no answer.
_PATIENCE, _IMPATIENCE = timedelta(seconds=10), timedelta(seconds=1)


@dataclass(frozen=True)
class Kind:
    """A type of channel, its receiver, and the keys of its credential that are secret."""

    type: ChannelType
    receiver: str
    secret: str

    @property
    def channel(self) -> Channel:
        """A channel of the type."""
        return Channel(name=f"the {self.type}", type=self.type, address="#incident-response")


KINDS = (
    Kind(ChannelType.SLACK, "slack", "token"),
    Kind(ChannelType.PAGER_DUTY, "pagerduty", "routing-key"),
    Kind(ChannelType.EMAIL, "mail", "password"),
    Kind(ChannelType.WEBHOOK, "webhook", "signing-key"),
    Kind(ChannelType.STATUS_PAGE, "statuspage", "token"),
)
SLACK, PAGERDUTY, EMAIL, WEBHOOK, STATUSPAGE = (kind.channel for kind in KINDS)
each = pytest.mark.parametrize("kind", KINDS, ids=[str(kind.type) for kind in KINDS])


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    """Receivers of one test."""
    with Receivers() as running:
        yield running


@pytest.fixture
async def messenger() -> AsyncIterator[Messenger]:
    """A messenger that may send to this machine, and waits for an answer."""
    messenger = Messenger(Clock(), loopback=True, timeout=_PATIENCE)
    yield messenger
    await messenger.close()


@pytest.fixture
async def impatient() -> AsyncIterator[Messenger]:
    """A messenger that may send to this machine, and waits a second."""
    messenger = Messenger(Clock(), loopback=True, timeout=_IMPATIENCE)
    yield messenger
    await messenger.close()


@dataclass(frozen=True)
class Line:
    """A messenger, and one channel with its receiver."""

    messenger: Messenger
    kind: Kind
    receiver: Any

    async def send(self, notice: Notice | None = None, **credential: str) -> Delivery:
        """Send a notice, as a person's Publish where the channel takes nothing else."""
        public = self.kind.type == ChannelType.STATUS_PAGE
        send = self.messenger.publish if public else self.messenger.deliver
        return await send(notice or a_notice(), self.kind.channel, {**self.receiver.credential(), **credential})

    def keys(self) -> list[str]:
        """Return the dedup key of each message that was taken."""
        got = self.receiver.received
        if self.kind.type == ChannelType.EMAIL:
            return [str(one.mail["Message-ID"]) for one in got]
        if self.kind.type == ChannelType.WEBHOOK:
            return [one.headers["Idempotency-Key"] for one in got]
        if self.kind.type == ChannelType.SLACK:
            return [one.json["metadata"]["event_payload"]["key"] for one in got]
        if self.kind.type == ChannelType.PAGER_DUTY:
            return [one.json["dedup_key"] for one in got]
        return [str(one.json["incident"]["metadata"]) for one in got if one.body]


@pytest.fixture
def line(kind: Kind, messenger: Messenger, receivers: Receivers) -> Line:
    """The line of a kind."""
    return Line(messenger, kind, getattr(receivers, kind.receiver))


@each
async def test_a_message_arrives(line: Line) -> None:
    """Once, and the answer is what a later message can refer to."""
    delivery = await line.send()
    assert (delivery.state, delivery.reason, delivery.refused) == (State.DELIVERED, Reason.SENT, ())
    assert len(line.keys()) == 1
    assert (delivery.reference is None) == (line.kind.type == ChannelType.WEBHOOK)


@each
@pytest.mark.parametrize(
    ("mood", "reason", "taken"),
    [
        (Mood.THROTTLED, Reason.RATE_LIMITED, 1),
        (Mood.FAILED, Reason.SERVER_ERROR, 1),
        (Mood.DOWN, Reason.REFUSED, 1),
        (Mood.SLOW, Reason.TIMEOUT, 2),
        (Mood.LOST, Reason.ANSWER_LOST, 2),
    ],
)
async def test_trouble_is_told_and_mended_by_a_retry(
    line: Line, impatient: Messenger, mood: Mood, reason: Reason, taken: int
) -> None:
    """Never raised; and what arrives twice arrives under one key, so that nobody acts on it twice."""
    line.receiver.be(mood, retry_after="7")
    first = await (replace(line, messenger=impatient) if mood == Mood.SLOW else line).send()
    if line.kind.type == ChannelType.EMAIL and mood == Mood.THROTTLED:
        reason = Reason.SERVER_ERROR  # SMTP has no word of its own for it
    assert (first.state, first.reason) == (State.RETRY, reason)
    paused = mood == Mood.THROTTLED and isinstance(line.receiver, HttpReceiver)
    assert first.retry_after == (timedelta(seconds=7) if paused else None)
    line.receiver.be(Mood.UP)
    second = await line.send()
    assert second.state == State.DELIVERED
    if line.kind.type == ChannelType.STATUS_PAGE and mood in (Mood.SLOW, Mood.LOST):
        taken = 1  # what was slow or lost was the look for an open incident; none was created yet
    keys = line.keys()
    assert len(keys) == taken
    assert len(set(keys)) == 1


@each
async def test_a_wrong_credential_is_not_tried_again(line: Line) -> None:
    """No retry mends it: the next contact is told."""
    delivery = await line.send(**{line.kind.secret: "wrong"})
    assert (delivery.state, delivery.reason) == (State.FAILED, Reason.UNAUTHORIZED)


@each
async def test_no_credential_is_in_what_is_told_or_logged(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """In any state, at the finest level; also where the credential itself is what is wrong."""
    caplog.set_level(logging.DEBUG)
    told = list[Delivery]()
    secret = line.kind.secret
    for mood in (Mood.UP, Mood.THROTTLED, Mood.FAILED, Mood.LOST, Mood.DOWN):
        line.receiver.be(mood)
        told.append(await line.send(**{secret: CANARY}))
    told.append(await line.send(**{secret: f"{CANARY}\r\nX-Other: 1"}))
    told.append(await line.send(**{"ca.crt": CANARY}))
    told.append(await line.send(a_notice(title=f"password={CANARY}", lines=(f"token: {CANARY}",))))
    assert all(CANARY not in repr(delivery) for delivery in told)
    ours = [record for record in caplog.records if not record.name.startswith("mail.log")]
    assert any(record.name.startswith("incident_operator") for record in ours)
    assert all(CANARY not in f"{record.getMessage()} {record.exc_info}" for record in ours)
    assert {delivery.reason for delivery in told[5:6]} == {Reason.CREDENTIAL_INVALID}


@each
async def test_a_credential_with_a_hole_is_named_by_its_key(line: Line) -> None:
    """Missing, empty, unknown, or no Secret at all."""
    send = line.messenger.publish if line.kind.type == ChannelType.STATUS_PAGE else line.messenger.deliver
    none = await send(a_notice(), line.kind.channel, None)
    assert (none.state, none.reason) == (State.FAILED, Reason.CREDENTIAL_MISSING)
    if line.kind.type != ChannelType.EMAIL:
        empty = await line.send(**{line.kind.secret: ""})
        assert (empty.state, empty.reason) == (State.FAILED, Reason.CREDENTIAL_INVALID)
        assert line.kind.secret in empty.message
    unknown = await line.send(webhook="x")
    assert (unknown.state, unknown.reason) == (State.FAILED, Reason.CREDENTIAL_INVALID)
    assert "'webhook'" in unknown.message
    assert line.receiver.received == []


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "0.0.0.1", "[::]", "[fe80::1]"),
        *("0xa9fea9fe", "0xa9.254.169.254"),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
async def test_no_secret_leads_to_a_metadata_address(host: str, loopback: bool) -> None:
    """In no notation: a Secret of a team must not make the operator fetch the node's credentials."""
    messenger = Messenger(Clock(), loopback=loopback, timeout=_PATIENCE)
    web_delivery = await messenger.deliver(a_notice(), WEBHOOK, {"url": f"http://{host}/x", "signing-key": "k"})
    mail = {"host": host.strip("[]"), "from": "a@shopsmart.com", "tls": "none"}
    mail_delivery = await messenger.deliver(a_notice(), EMAIL, mail)
    await messenger.close()
    for delivery in (web_delivery, mail_delivery):
        assert (delivery.state, delivery.reason) == (State.FAILED, Reason.ADDRESS_FORBIDDEN)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h/x", "h:8080", "http://", "http://user:pw@h/x", "http://h:port/", "http://h:99999/", "http://[::1/"),
        *("http://2852039166/", "http://127.1/", "http://1.2.3.4.5/"),
    ],
)
async def test_a_url_that_is_none_is_not_guessed_at(messenger: Messenger, url: str) -> None:
    """Numbers that only some readers take for an address neither."""
    delivery = await messenger.deliver(a_notice(), WEBHOOK, {"url": url, "signing-key": "k"})
    assert (delivery.state, delivery.reason) == (State.FAILED, Reason.ADDRESS_INVALID)


@each
async def test_the_pod_itself_is_no_channel(kind: Kind, receivers: Receivers) -> None:
    """What listens on its loopback trusts whoever asks; development allows it."""
    messenger = Messenger(Clock(), timeout=_PATIENCE)
    line = Line(messenger, kind, getattr(receivers, kind.receiver))
    delivery = await line.send()
    await messenger.close()
    assert (delivery.state, delivery.reason) == (State.FAILED, Reason.ADDRESS_FORBIDDEN)
    assert line.receiver.received == []


async def test_a_name_is_judged_by_its_addresses(receivers: Receivers) -> None:
    """Of a name all of them are, and what is connected to is what was judged."""
    url = f"http://localhost:{receivers.webhook.port}/"
    mail = {"host": "localhost", "from": "a@shopsmart.com"}
    messenger = Messenger(Clock(), timeout=_PATIENCE)
    deliveries = [
        await messenger.deliver(a_notice(), WEBHOOK, {"url": url, "signing-key": "k"}),
        await messenger.deliver(a_notice(), EMAIL, mail),
    ]
    await messenger.close()
    assert {(d.state, d.reason) for d in deliveries} == {(State.FAILED, Reason.ADDRESS_FORBIDDEN)}


async def test_the_api_server_is_no_channel(receivers: Receivers) -> None:
    """By its name or its address."""
    messenger = Messenger(Clock(), (address(), receivers.webhook.port), loopback=True, timeout=_PATIENCE)
    delivery = await messenger.deliver(a_notice(), WEBHOOK, receivers.webhook.credential())
    await messenger.close()
    assert (delivery.state, delivery.reason) == (State.FAILED, Reason.ADDRESS_FORBIDDEN)
    assert receivers.webhook.received == []


async def test_a_name_that_nobody_knows_may_be_known_later(messenger: Messenger) -> None:
    """A resolver that is down is no reason to give up."""
    delivery = await messenger.deliver(a_notice(), WEBHOOK, {"url": "http://nowhere.invalid/", "signing-key": "k"})
    assert (delivery.state, delivery.reason) == (State.RETRY, Reason.UNREACHABLE)


@contextlib.asynccontextmanager
async def answering(answer: Callable[[], web.StreamResponse]) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve one answer; yield the URL, and the paths that were asked for."""
    asked = list[str]()

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return answer()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    (port,) = free_ports(address(), 1)
    await web.TCPSite(runner, address(), port).start()
    try:
        yield f"http://{address()}:{port}", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (204, State.DELIVERED, Reason.SENT),
        (302, State.FAILED, Reason.REDIRECTED),
        (400, State.FAILED, Reason.REJECTED),
        (403, State.FAILED, Reason.UNAUTHORIZED),
        (404, State.FAILED, Reason.NOT_FOUND),
        (408, State.RETRY, Reason.TIMEOUT),
        (410, State.FAILED, Reason.NOT_FOUND),
        (413, State.FAILED, Reason.REJECTED),
        (503, State.RETRY, Reason.SERVER_ERROR),
    ],
)
async def test_what_a_status_means(messenger: Messenger, status: int, state: State, reason: Reason) -> None:
    """A redirect is followed nowhere; a body is told to nobody."""
    headers = {"Location": "/elsewhere"}
    async with answering(lambda: web.Response(status=status, headers=headers, text=CANARY)) as (url, asked):
        delivery = await messenger.deliver(a_notice(), WEBHOOK, {"url": url, "signing-key": "k"})
        assert (delivery.state, delivery.reason) == (state, reason)
        assert CANARY not in repr(delivery)
        assert asked == ["/"]


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", timedelta(seconds=7)),
        ("86400", timedelta(minutes=5)),
        ("9" * 400, timedelta(minutes=5)),
        ("Thu, 15 Jan 2026 14:30:20 GMT", timedelta(seconds=20)),
        ("Thu, 15 Jan 2026 14:00:00 GMT", timedelta()),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("", None),
    ],
)
def test_patience_is_asked_for_in_seconds_or_by_a_date(value: str, pause: timedelta | None) -> None:
    """And is at most five minutes: nobody silences a page."""
    assert retry_after(value, NOW) == pause


@pytest.mark.parametrize("body", ["", "null", "[]", "{", '{"ok": 1}', "[" * 60_000, "x" * 200_000])
async def test_what_answers_in_a_providers_place_is_no_success(messenger: Messenger, body: str) -> None:
    """A proxy's page is 200, too: the provider's own word is what counts."""
    async with answering(lambda: web.Response(text=body)) as (url, _):
        deliveries = [
            await messenger.deliver(a_notice(), SLACK, {"token": "t", "url": url}),
            await messenger.deliver(a_notice(), PAGERDUTY, {"routing-key": "k", "url": url}),
            await messenger.publish(a_notice(), STATUSPAGE, {"token": "t", "page": "p", "url": url}),
            await messenger.publish(a_notice(reference="i0"), STATUSPAGE, {"token": "t", "page": "p", "url": url}),
        ]
    assert {(delivery.state, delivery.reason) for delivery in deliveries} == {(State.RETRY, Reason.SERVER_ERROR)}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        ("invalid_auth", State.FAILED, Reason.UNAUTHORIZED),
        ("not_in_channel", State.FAILED, Reason.UNAUTHORIZED),
        ("channel_not_found", State.FAILED, Reason.NOT_FOUND),
        ("ratelimited", State.RETRY, Reason.RATE_LIMITED),
        ("internal_error", State.RETRY, Reason.SERVER_ERROR),
        ("something_new", State.FAILED, Reason.REJECTED),
    ],
)
async def test_what_slack_means(messenger: Messenger, error: str, state: State, reason: Reason) -> None:
    """It says so in the body, under 200; words of it that are not known are not repeated."""
    async with answering(lambda: web.json_response({"ok": False, "error": error})) as (url, _):
        delivery = await messenger.deliver(a_notice(), SLACK, {"token": "t", "url": url})
    assert (delivery.state, delivery.reason) == (state, reason)
    assert "something_new" not in repr(delivery)


async def test_slack_updates_in_place_and_posts_anew_where_it_can_not(
    messenger: Messenger, receivers: Receivers
) -> None:
    """One message an incident; one that was deleted must not keep its news from anybody."""
    credential = receivers.slack.credential()
    first = await messenger.deliver(a_notice(), SLACK, credential)
    update = a_notice(key="2", occasion=Occasion.ACKNOWLEDGED, title="Alice has it", reference=first.reference)
    second = await messenger.deliver(update, SLACK, credential)
    assert (second.reason, second.reference) == (Reason.UPDATED, first.reference)
    ((_, shown),) = receivers.slack.messages.items()
    assert shown["text"] == "Alice has it"
    assert not any(block["type"] == "actions" for block in shown["blocks"])
    receivers.slack.messages.clear()
    third = await messenger.deliver(update, SLACK, credential)
    assert third.reason == Reason.SENT
    assert len(receivers.slack.messages) == 1


async def test_slack_posts_where_the_secret_or_the_channel_says(messenger: Messenger, receivers: Receivers) -> None:
    """The Secret's channel first; none at all is told."""
    credential = receivers.slack.credential()
    await messenger.deliver(a_notice(), SLACK, credential)
    await messenger.deliver(a_notice(), SLACK, {**credential, "channel": "C024BE91L"})
    assert [one.json["channel"] for one in receivers.slack.received] == ["#incident-response", "C024BE91L"]
    nowhere = await messenger.deliver(a_notice(), SLACK.model_copy(update={"address": None}), credential)
    assert (nowhere.state, nowhere.reason) == (State.FAILED, Reason.ADDRESS_INVALID)


async def test_pagerduty_keeps_one_incident_through_its_life(messenger: Messenger, receivers: Receivers) -> None:
    """Triggered, triggered again, acknowledged, resolved: one dedup key."""
    for number, occasion in enumerate((Occasion.PAGE, Occasion.PAGE, Occasion.ACKNOWLEDGED, Occasion.RESOLVED)):
        notice = a_notice(key=str(number), occasion=occasion)
        delivery = await messenger.deliver(notice, PAGERDUTY, receivers.pagerduty.credential())
        assert delivery.reason == Reason.SENT
    assert {key: (one["state"], one["events"]) for key, one in receivers.pagerduty.incidents.items()} == {
        "incident-operator/shop/inc-1": ("resolved", 4)
    }


@pytest.mark.parametrize("occasion", [Occasion.UPDATE, Occasion.ENGAGED, Occasion.DIGEST])
async def test_what_is_not_pagerdutys_is_not_sent_there(
    messenger: Messenger, receivers: Receivers, occasion: Occasion
) -> None:
    """Without a request."""
    delivery = await messenger.deliver(a_notice(occasion=occasion), PAGERDUTY, receivers.pagerduty.credential())
    assert (delivery.state, delivery.reason) == (State.DELIVERED, Reason.NOT_FOR_THIS_CHANNEL)
    assert receivers.pagerduty.received == []


@pytest.mark.parametrize("occasion", Occasion)
async def test_nothing_is_published_but_by_publish(
    messenger: Messenger, receivers: Receivers, occasion: Occasion
) -> None:
    """Whatever happens, a status page is a person's to write on; and Publish writes nowhere else."""
    delivery = await messenger.deliver(a_notice(occasion=occasion), STATUSPAGE, receivers.statuspage.credential())
    assert (delivery.state, delivery.reason) == (State.DELIVERED, Reason.NOT_FOR_THIS_CHANNEL)
    elsewhere = await messenger.publish(a_notice(occasion=occasion), SLACK, receivers.slack.credential())
    assert elsewhere.reason == Reason.NOT_FOR_THIS_CHANNEL
    assert receivers.statuspage.received == receivers.slack.received == []


async def test_a_lost_answer_makes_no_second_public_incident(messenger: Messenger, receivers: Receivers) -> None:
    """The one that was created is found again, and then updated and resolved."""
    page, credential = receivers.statuspage, receivers.statuspage.credential()
    page.be(Mood.LOST, method="POST", times=1)
    lost = await messenger.publish(a_notice(), STATUSPAGE, credential)
    again = await messenger.publish(a_notice(), STATUSPAGE, credential)
    assert (lost.reason, again.reason) == (Reason.ANSWER_LOST, Reason.UPDATED)
    resolved = a_notice(occasion=Occasion.RESOLVED, reference=again.reference)
    assert (await messenger.publish(resolved, STATUSPAGE, credential)).reason == Reason.UPDATED
    ((_, public),) = page.incidents.items()
    assert public["status"] == "resolved"
    gone = await messenger.publish(a_notice(reference="i9"), STATUSPAGE, credential)
    assert (gone.state, gone.reason) == (State.FAILED, Reason.NOT_FOUND)


async def test_another_incidents_page_is_left_alone(messenger: Messenger, receivers: Receivers) -> None:
    """Only ours, by the name in its metadata, is found again."""
    for incident in ("shop/inc-1", "shop/inc-2", "shop/inc-1"):
        await messenger.publish(a_notice(incident=incident), STATUSPAGE, receivers.statuspage.credential())
    assert len(receivers.statuspage.incidents) == 2


async def test_ours_is_found_among_many(messenger: Messenger, receivers: Receivers) -> None:
    """A page with a long list of open incidents, ours last."""
    others = {f"x{n}": {"id": f"x{n}", "status": "investigating", "body": "x" * 2000} for n in range(100)}
    receivers.statuspage.incidents.update(others)
    first = await messenger.publish(a_notice(), STATUSPAGE, receivers.statuspage.credential())
    again = await messenger.publish(a_notice(), STATUSPAGE, receivers.statuspage.credential())
    assert (first.reason, again.reason) == (Reason.SENT, Reason.UPDATED)
    assert len(receivers.statuspage.incidents) == len(others) + 1


async def test_each_recipient_is_answered_for(messenger: Messenger, receivers: Receivers) -> None:
    """Those who are refused for good are told, as is an address that is none; the others have the mail."""
    receivers.mail.refuses = {"gone@company.com": 550}
    notice = a_notice(recipients=("here@company.com", "gone@company.com", "no address"))
    delivery = await messenger.deliver(notice, EMAIL, receivers.mail.credential())
    assert (delivery.state, delivery.reason) == (State.DELIVERED, Reason.SOME_RECIPIENTS_REFUSED)
    assert delivery.refused == ("gone@company.com", "no address")
    assert [one.what for one in receivers.mail.received] == ["mail to here@company.com"]


async def test_a_recipient_that_is_put_off_is_tried_again_alone(messenger: Messenger, receivers: Receivers) -> None:
    """Greylisting is not a refusal; who has the mail is not sent it again."""
    receivers.mail.refuses = {"later@company.com": 451, "gone@company.com": 550}
    notice = a_notice(recipients=("here@company.com", "gone@company.com", "later@company.com"))
    delivery = await messenger.deliver(notice, EMAIL, receivers.mail.credential())
    assert (delivery.state, delivery.reason) == (State.RETRY, Reason.RECIPIENTS_DEFERRED)
    assert delivery.refused == ("later@company.com", "gone@company.com")
    del receivers.mail.refuses["later@company.com"]
    again = await messenger.deliver(replace(notice, recipients=delivery.refused), EMAIL, receivers.mail.credential())
    assert (again.reason, again.refused) == (Reason.SOME_RECIPIENTS_REFUSED, ("gone@company.com",))
    assert [one.what for one in receivers.mail.received] == ["mail to here@company.com", "mail to later@company.com"]
    assert len({one.mail["Message-ID"] for one in receivers.mail.received}) == 1


@pytest.mark.parametrize(
    ("recipients", "reason"),
    [
        (("gone@company.com",), Reason.RECIPIENTS_REFUSED),
        ((), Reason.ADDRESS_INVALID),
        (("a@b.c\r\nRCPT TO:<eve@example.com>",), Reason.ADDRESS_INVALID),
    ],
)
async def test_a_mail_to_nobody_is_no_delivery(
    messenger: Messenger, receivers: Receivers, recipients: tuple[str, ...], reason: Reason
) -> None:
    """The next contact is told."""
    receivers.mail.refuses = {"gone@company.com": 550}
    delivery = await messenger.deliver(a_notice(recipients=recipients), EMAIL, receivers.mail.credential())
    assert (delivery.state, delivery.reason) == (State.FAILED, reason)
    assert delivery.refused == recipients
    assert receivers.mail.received == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tls": "maybe"}, Reason.CREDENTIAL_INVALID),
        ({"port": "99999"}, Reason.CREDENTIAL_INVALID),
        ({"port": "smtp"}, Reason.CREDENTIAL_INVALID),
        ({"from": "Eve <eve@example.com>"}, Reason.ADDRESS_INVALID),
        ({"tls": "starttls"}, Reason.TLS_FAILED),
    ],
)
async def test_a_wrong_mail_secret(
    messenger: Messenger, receivers: Receivers, change: Mapping[str, str], reason: Reason
) -> None:
    """A server that does not offer TLS gets neither the password nor the mail."""
    delivery = await messenger.deliver(a_notice(), EMAIL, {**receivers.mail.credential(), **change})
    assert (delivery.state, delivery.reason) == (State.FAILED, reason)
    assert receivers.mail.received == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for this machine's address."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder, address(), dt.datetime.now(dt.UTC))  # noqa: TID251  (certificates are of now)
    return folder


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_mail_over_tls_needs_a_server_that_proves_itself(
    messenger: Messenger, receivers: Receivers, certificates: Path, mode: str
) -> None:
    """By the Secret's authorities, where it has any; in either way of beginning."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    receivers.mail.be(Mood.DOWN)
    if mode == "tls":
        receivers.mail.tls = served
    else:
        receivers.mail.starttls = served
    receivers.mail.be(Mood.UP)
    credential = {**receivers.mail.credential(), "tls": mode}
    unproven = await messenger.deliver(a_notice(), EMAIL, credential)
    assert (unproven.state, unproven.reason) == (State.FAILED, Reason.TLS_FAILED)
    assert receivers.mail.received == []
    authorities = (certificates / "ca.crt").read_text()
    proven = await messenger.deliver(a_notice(), EMAIL, {**credential, "ca.crt": authorities})
    assert proven.reason == Reason.SENT


async def test_https_needs_a_server_that_proves_itself(messenger: Messenger, certificates: Path) -> None:
    """By the Secret's authorities, where it has any; and one that speaks no TLS is no server."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    app = web.Application()

    async def take(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    secure, plain = free_ports(address(), 2)
    await web.TCPSite(runner, address(), secure, ssl_context=served).start()
    await web.TCPSite(runner, address(), plain).start()
    ca = {"ca.crt": (certificates / "ca.crt").read_text(), "signing-key": "k"}
    try:
        deliveries = [
            await messenger.deliver(a_notice(), WEBHOOK, credential)
            for credential in (
                {"url": f"https://{address()}:{secure}/", **ca},
                {"url": f"https://{address()}:{secure}/", "signing-key": "k"},
                {"url": f"https://{address()}:{plain}/", **ca},
            )
        ]
    finally:
        await runner.cleanup()
    assert [delivery.reason for delivery in deliveries] == [Reason.SENT, Reason.TLS_FAILED, Reason.TLS_FAILED]


@contextlib.asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[int]:
    """Serve a port that says just this to whoever connects, and hangs up when it is spoken to; yield it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(talk, address(), 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


_GARBAGE = (
    b"",
    b"\xff\xfe\x00",
    b"\r\n\r\n",
    b"HTTP/1.1 999999999999 x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    b"220 hello\r\n250 x\r\n999 what\r\n",
    b"220-never ends",
    b"220 hello\r\n" + b"y" * 100_000 + b"\r\n",
    b"hello\r\n",
    b"554 go away\r\n",
)


@pytest.mark.parametrize("words", _GARBAGE, ids=range(len(_GARBAGE)))
async def test_nonsense_raises_nothing(impatient: Messenger, words: bytes) -> None:
    """Whatever answers, the caller hears of a delivery that was none."""
    async with saying(words) as port:
        url = f"http://{address()}:{port}"
        mail = {"host": address(), "port": str(port), "from": "a@shopsmart.com", "tls": "none"}
        deliveries = [
            await impatient.deliver(a_notice(), SLACK, {"token": "t", "url": url}),
            await impatient.deliver(a_notice(), PAGERDUTY, {"routing-key": "k", "url": url + "/"}),
            await impatient.publish(a_notice(), STATUSPAGE, {"token": "t", "page": "p", "url": url}),
            await impatient.deliver(a_notice(), EMAIL, mail),
            await impatient.deliver(a_notice(), EMAIL, {**mail, "tls": "tls"}),
        ]
    assert State.DELIVERED not in {delivery.state for delivery in deliveries}


def secret_of(answer: Any, name: str = "slack-bot") -> Any:
    """Return an API server's client whose one request is answered so: an object, or an error to raise."""

    class Answers:
        async def request(self, method: str, path: str) -> Any:
            assert (method, path) == ("GET", f"/api/v1/namespaces/shop/secrets/{name}")
            if isinstance(answer, Exception):
                raise answer
            return answer

    return Answers()


def a_secret(**data: str) -> dict[str, Any]:
    """Return a connection's Secret as the API server does."""
    return {"type": SECRET_TYPE, "data": {key: base64.b64encode(v.encode()).decode() for key, v in data.items()}}


NAMED = Channel.model_validate({"name": "Slack", "type": "Slack", "secretRef": {"name": "slack-bot"}})


async def test_a_channels_secret_is_read_when_it_is_needed() -> None:
    """Decoded, without the line break that editors add."""
    assert await credential_of(secret_of(a_secret(token="t\n", url="http://x")), "shop", NAMED) == {  # noqa: S106
        "token": "t",
        "url": "http://x",
    }


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (kube.NotFound(CANARY, 404), State.FAILED, Reason.CREDENTIAL_MISSING),
        (kube.Forbidden(CANARY, 403), State.FAILED, Reason.ACCESS_DENIED),
        (kube.Unreachable(CANARY, 503), State.RETRY, Reason.UNREACHABLE),
        ({**a_secret(token=CANARY), "type": "Opaque"}, State.FAILED, Reason.CREDENTIAL_INVALID),
        ({"type": SECRET_TYPE, "data": {"token": "/w=="}}, State.FAILED, Reason.CREDENTIAL_INVALID),
    ],
)
async def test_a_secret_that_can_not_be_used_says_why(answer: Any, state: State, reason: Reason) -> None:
    """By its name, never by what is in it; only Secrets of our type are opened."""
    delivery = await credential_of(secret_of(answer), "shop", NAMED)
    assert isinstance(delivery, Delivery)
    assert (delivery.state, delivery.reason) == (state, reason)
    assert "slack-bot" in delivery.message
    assert CANARY not in repr(delivery)


async def test_a_channel_without_a_secret_says_so() -> None:
    """As the shipped policy's, until somebody adds one."""
    delivery = await credential_of(secret_of({}), "shop", SLACK)
    assert isinstance(delivery, Delivery)
    assert (delivery.state, delivery.reason) == (State.FAILED, Reason.CREDENTIAL_MISSING)


async def test_a_policy_of_receivers_is_one_that_works(messenger: Messenger, receivers: Receivers) -> None:
    """Their channels and Secrets fit together; what became of each message is counted by what is known of it."""
    secrets = {secret["metadata"]["name"]: secret for secret in receivers.secrets("shop")}
    for raw in receivers.channels():
        channel = Channel.model_validate(raw)
        credential = await credential_of(
            secret_of(a_secret(**secrets[raw["secretRef"]["name"]]["stringData"]), raw["secretRef"]["name"]),
            "shop",
            channel,
        )
        assert not isinstance(credential, Delivery)
        await messenger.deliver(a_notice(), channel, credential)
        await messenger.publish(a_notice(), channel, credential)
    assert messenger.deliveries.items() == [((str(type_), "Delivered", "Sent"), 1) for type_ in sorted(ChannelType)]


def test_a_receiver_that_was_down_comes_back_where_it_was(receivers: Receivers) -> None:
    """Or nothing would find it again."""
    ports: Callable[[], list[int]] = lambda: [receiver.port for receiver in receivers.all]  # noqa: E731
    before = ports()
    receiver: Receiver
    for receiver in receivers.all:
        receiver.be(Mood.DOWN)
        receiver.be(Mood.UP)
    assert ports() == before
