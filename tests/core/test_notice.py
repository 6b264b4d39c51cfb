"""What each provider is sent: bounded, redacted, and with nothing in it that could be read as more than text."""

import hashlib
import hmac
import json
from datetime import UTC, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from aiosmtplib.email import parse_address
from hypothesis import given
from hypothesis import strategies as st

from incident_operator.api.meta import Severity
from incident_operator.core import notice as render
from incident_operator.core.notice import Notice, Occasion
from incident_operator.core.redact import MARK
from tests.builders import NOW

CANARY = "x7Kp2mQv9LsT4hRw8ZcN3bYd"
SENDER = "incidents@shopsmart.com"
#: Any text that may reach a title or a line, also what no encoding has.
TEXTS = st.text(st.characters(codec=None, categories=None), max_size=400) | st.sampled_from(
    ["<!here>", "@channel", "a\r\nBcc: eve@example.com", "\ud800", "&" * 4000, "<" * 9000, "\u202egpj.exe"]
)


def a_notice(**fields: Any) -> Notice:
    """Return a page about `shop/inc-1`."""
    values: dict[str, Any] = {
        "key": "shop/inc-1/page/1",
        "incident": "shop/inc-1",
        "occasion": Occasion.PAGE,
        "severity": Severity.P1,
        "title": "P1: birthday mails fail",
        "lines": ("All sends fail since 14:30.", "Next: kubectl incident watch inc-1"),
        "recipients": ("platform-oncall@company.com",),
    }
    return Notice(**{**values, **fields})


def everything(notice: Notice) -> str:
    """Return all that any provider is sent of a notice, as text."""
    sent = [
        json.dumps(render.slack(notice), ensure_ascii=False),
        json.dumps(render.pagerduty(notice, "routing"), ensure_ascii=False),
        json.dumps(render.statuspage(notice), ensure_ascii=False),
        render.webhook(notice, "key", NOW).body.decode(),
    ]
    mail = render.email(notice, sender=SENDER, at=NOW)
    return "\n".join([*sent, str(mail["Subject"]), str(mail.get_content())])


def mentions(block: Any) -> list[str]:
    """Return every text of a Slack message, wherever it stands."""
    if isinstance(block, dict):
        return [text for key, value in block.items() if key not in ("metadata", "value") for text in mentions(value)]
    if isinstance(block, list):
        return [text for value in block for text in mentions(value)]
    return [block] if isinstance(block, str) else []


@pytest.mark.parametrize("occasion", Occasion)
def test_a_retry_says_the_same_under_the_same_key(occasion: Occasion) -> None:
    """At another instant only the date and the signature's time are others."""
    notice, later = a_notice(occasion=occasion), NOW + timedelta(minutes=7)
    first, second = (render.webhook(notice, "key", at) for at in (NOW, later))
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == notice.key
    mails = [render.email(notice, sender=SENDER, at=at) for at in (NOW, later)]
    assert len({mail["Message-ID"] for mail in mails}) == 1
    assert render.slack(notice)["metadata"]["event_payload"]["key"] == notice.key


def test_another_message_has_another_key_everywhere() -> None:
    """Or a provider would drop it as one that it has had."""
    one, other = a_notice(), a_notice(key="shop/inc-1/page/2")
    assert render.message_id(one, SENDER) != render.message_id(other, SENDER)
    assert render.webhook(one, "key", NOW).headers != render.webhook(other, "key", NOW).headers


def test_a_page_in_slack_has_a_button_that_names_the_incident() -> None:
    """And no other message has one: it would be pressed for the wrong reason."""
    found = {
        occasion: [e for b in render.slack(a_notice(occasion=occasion))["blocks"] for e in b.get("elements", ())]
        for occasion in Occasion
    }
    buttons = {occasion: [e for e in elements if e["type"] == "button"] for occasion, elements in found.items()}
    assert [(b["action_id"], b["value"]) for b in buttons[Occasion.PAGE]] == [("acknowledge", "shop/inc-1")]
    assert [occasion for occasion, there in buttons.items() if there] == [Occasion.PAGE]


@pytest.mark.parametrize(
    "text", ["<!here>", "<!channel|now>", "<@U123>", "<https://evil.example|a link>", "@here", "@Channel", "@everyone"]
)
def test_nobody_can_shout_through_a_message(text: str) -> None:
    """What Slack would read as a mention or a link is text, in titles and in lines."""
    sent = render.slack(a_notice(title=text, lines=(text,)))
    assert (sent["parse"], sent["link_names"]) == ("none", False)
    shown = mentions(sent)
    assert not any("<" in part or ">" in part for part in shown)
    assert not any(shout in part.lower() for part in shown for shout in ("@here", "@channel", "@everyone"))
    assert all(block["text"]["verbatim"] for block in sent["blocks"] if block["type"] == "section")


def test_slack_shows_what_was_written() -> None:
    """Escaped once."""
    sent = render.slack(a_notice(lines=("5 < 6 & 7 > 6",)))
    assert sent["blocks"][1]["text"]["text"] == "5 &lt; 6 &amp; 7 &gt; 6"


@given(title=TEXTS, lines=st.lists(TEXTS, max_size=40))
def test_every_text_fits_and_can_be_sent(title: str, lines: list[str]) -> None:
    """The providers' bounds, in their own units; a message that is refused tells nobody."""
    notice = a_notice(title=title, lines=tuple(lines))
    sent = render.slack(notice)
    json.dumps(sent, ensure_ascii=False).encode()
    assert 0 <= len(sent["blocks"][0]["text"]["text"]) <= 150
    assert all(len(b["text"]["text"]) <= 3000 for b in sent["blocks"] if b["type"] == "section")
    event = render.pagerduty(notice, "routing")
    assert event is not None
    assert len(event["payload"]["summary"]) <= 1024
    assert event["payload"]["summary"].endswith(" (shop/inc-1)")
    assert len(render.body_of(notice)) <= 8000
    assert len(render.webhook(notice, "key", NOW).body) < 64 * 1024
    mail = render.email(notice, sender=SENDER, at=NOW).as_bytes()
    read = message_from_bytes(mail, _class=EmailMessage, policy=SMTP)
    assert {key.lower() for key in read} == {
        *("subject", "from", "to", "date", "message-id", "importance", "auto-submitted", "x-incident"),
        *("content-type", "content-transfer-encoding", "mime-version"),
    }
    assert read["To"] == "platform-oncall@company.com"


def test_what_does_not_fit_is_counted() -> None:
    """Whoever reads knows that there is more."""
    body = render.body_of(a_notice(lines=tuple(f"line {n} {'x' * 90}" for n in range(500))))
    last = body.splitlines()[-1]
    assert last == f"… {500 - len(body.splitlines()) + 1} more lines"


@pytest.mark.parametrize(
    "text",
    [
        f"password={CANARY}",
        f"postgres://shop:{CANARY}@db/orders",
        f"Authorization: Bearer {CANARY}",
        f"pass\x00word={CANARY}",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    ],
)
def test_no_credential_leaves_by_any_channel(text: str) -> None:
    """Also one that is spread over lines, or hidden from the pattern by what is not seen."""
    shown = everything(a_notice(title=text, lines=("before", *text.split("\n"))))
    assert CANARY not in shown
    assert MARK in shown


@pytest.mark.parametrize(
    ("occasion", "action"),
    [
        (Occasion.PAGE, "trigger"),
        (Occasion.APPROVAL, "trigger"),
        (Occasion.ACKNOWLEDGED, "acknowledge"),
        (Occasion.RESOLVED, "resolve"),
        (Occasion.UPDATE, None),
        (Occasion.ENGAGED, None),
        (Occasion.DIGEST, None),
    ],
)
def test_pagerduty_gets_what_is_its_own(occasion: Occasion, action: str | None) -> None:
    """All of one incident under one key."""
    event = render.pagerduty(a_notice(occasion=occasion), "routing")
    assert (event and (event["event_action"], event["dedup_key"])) == (
        (action, "incident-operator/shop/inc-1") if action else None
    )


def test_the_dedup_key_of_the_longest_name_fits_and_is_its_own() -> None:
    """PagerDuty takes 255 characters; two names that only differ after that are two incidents."""
    one, other = (f"{'n' * 63}/{'i' * 250}{end}" for end in "ab")
    assert len(render.dedup_key(one)) == 255
    assert render.dedup_key(one) != render.dedup_key(other)


@pytest.mark.parametrize(
    "text",
    [
        *("a@b.c\r\nBcc: eve@example.com", "a@b.c, eve@example.com", "Eve <eve@example.com>", "a@b..c", "@b.c", "a@"),
        *(
            "a.@b.c",
            ".a@b.c",
            "a@-b.c",
            "a@b.c.",
            f"{'a' * 65}@b.c",
            f"a@{'b.' * 130}c",
            "a b@c.d",
            "a@b.c>",
            "ä@b.c",
            "a@bücher.example",
            "",
            "a@b.c\n",
        ),
    ],
)
def test_what_is_no_single_address_is_not_written_to(text: str) -> None:
    """A header or a command could end there and go on as another."""
    assert not render.is_address(text)
    with pytest.raises(ValueError, match="an address is none"):
        render.email(a_notice(recipients=(text,)), sender=SENDER, at=NOW)


@given(st.from_regex(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,60}", fullmatch=True))
def test_what_is_an_address_can_be_written_to(text: str) -> None:
    """Whatever is let through is one to the mail library, too, and the same one."""
    if render.is_address(text):
        read = message_from_bytes(
            render.email(a_notice(recipients=(text,)), sender=text, at=NOW).as_bytes(), _class=EmailMessage, policy=SMTP
        )
        assert [address.addr_spec for address in (*read["To"].addresses, *read["From"].addresses)] == [text, text]
        assert parse_address(text) == text


def test_a_later_mail_answers_the_first() -> None:
    """So that mail programs show one thread; a reference that is none is no header."""
    first = render.message_id(a_notice(), SENDER)
    later = a_notice(key="later", occasion=Occasion.RESOLVED, reference=first)
    mail = render.email(later, sender=SENDER, at=NOW)
    assert (mail["In-Reply-To"], mail["References"]) == (first, first)
    assert "Importance" not in mail
    strange = render.email(a_notice(reference=f"{first}\r\nBcc: eve@example.com"), sender=SENDER, at=NOW)
    assert "In-Reply-To" not in strange


def test_a_webhook_is_signed_over_its_time_and_its_bytes() -> None:
    """As its receiver computes it."""
    request = render.webhook(a_notice(), "secret-key", NOW)
    seconds = int(NOW.astimezone(UTC).timestamp())
    wanted = hmac.new(b"secret-key", str(seconds).encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Incident-Signature"] == f"t={seconds},v1={wanted}"
    assert json.loads(request.body) == {
        "key": "shop/inc-1/page/1",
        "incident": "shop/inc-1",
        "occasion": "Page",
        "severity": "P1",
        "title": "P1: birthday mails fail",
        "text": "All sends fail since 14:30.\nNext: kubectl incident watch inc-1",
    }


@given(TEXTS)
def test_a_key_is_always_a_header(key: str) -> None:
    """Whatever it is made of."""
    header = render.webhook(a_notice(key=key.encode(errors="replace").decode()), "k", NOW).headers["Idempotency-Key"]
    assert header.isascii()
    assert header.isprintable()


def test_an_update_leaves_the_status_that_people_set_on_the_page() -> None:
    """It starts as investigating and ends as resolved; what is between is theirs."""
    statuses = [
        render.statuspage(a_notice(occasion=occasion, reference=reference))["incident"].get("status")
        for occasion, reference in ((Occasion.UPDATE, None), (Occasion.UPDATE, "i0"), (Occasion.RESOLVED, "i0"))
    ]
    assert statuses == ["investigating", None, "resolved"]
