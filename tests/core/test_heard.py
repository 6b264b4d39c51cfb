"""Signed hooks: who is believed, and that nothing but an acknowledgement or a note ever comes of one."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_operator.core.heard import TOLERANCE, Heard, NotHeard, Said, from_pagerduty, from_slack
from incident_operator.core.notice import Occasion, dedup_key, pagerduty, slack
from tests.builders import NOW
from tests.core.test_notice import CANARY, a_notice

SIGNED_WITH = "hook-signing"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["acknowledge", "shop/inc-1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "actions", "action_id", "value", "user", "id", "event", "data", "agent"]), inner
        )
    ),
    max_leaves=12,
)


def from_slack_now(body: bytes, *, at: datetime = NOW, key: str = SIGNED_WITH) -> Heard | NotHeard:
    """Read a body that Slack signed at an instant, now."""
    stamp = str(int(at.timestamp()))
    code = hmac.new(key.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return from_slack({"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={code}"}, body, SIGNED_WITH, NOW)


def a_press(**action: Any) -> bytes:
    """Return what Slack posts when the button is pressed, but for what is given."""
    block = slack(a_notice())["blocks"][-1]["elements"][0]
    payload = {
        "type": "block_actions",
        "user": {"id": "U1", "username": "jane"},
        "actions": [{**block, "action_ts": "1700000000.1", **action}],
    }
    return urlencode({"payload": json.dumps(payload)}).encode()


def a_command(text: str, **fields: str) -> bytes:
    """Return what Slack posts for `/incident TEXT`."""
    sent = {"command": "/incident", "text": text, "user_id": "U1", "user_name": "jane", "trigger_id": "1", **fields}
    return urlencode(sent).encode()


def an_event(kind: str, data: Mapping[str, Any], agent: Mapping[str, Any] | None = None, id_: str = "01EVENT") -> bytes:
    """Return a v3 webhook of PagerDuty."""
    jane = {"id": "PJANE", "type": "user_reference", "summary": "Jane Doe"}
    event = {"id": id_, "event_type": kind, "resource_type": "incident", "agent": agent or jane, "data": data}
    return json.dumps({"event": event}).encode()


def from_pagerduty_signed(body: bytes, *, key: str = SIGNED_WITH, before: str = "") -> Heard | NotHeard:
    """Read a body that PagerDuty signed."""
    code = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return from_pagerduty({"x-pagerduty-signature": f"{before}v1={code}"}, body, SIGNED_WITH)


def test_slacks_own_example_is_signed() -> None:
    """The one of its documentation: verified, and then of no concern."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    at = datetime.fromtimestamp(1531420618, UTC)
    assert from_slack(headers, body, "8f742231b10e8888abcd99yyyzzz85a5", at) == NotHeard.NOTHING_FOR_US


def test_the_button_of_a_page_acknowledges_its_incident() -> None:
    """With the name that Slack shows, and the account that it can't be taken for another by."""
    assert from_slack_now(a_press()) == Heard(
        incident="shop/inc-1",
        verb=Said.ACKNOWLEDGE,
        who="slack:jane",
        account="U1",
        text=None,
        id="slack:U1:1700000000.1",
    )


def test_a_command_acknowledges_or_notes() -> None:
    """`/incident ack` and `/incident note`."""
    acknowledged, noted = (
        from_slack_now(a_command(text)) for text in ("ack shop/inc-1", "note shop/inc-1  rolled back\nby hand ")
    )
    assert isinstance(acknowledged, Heard)
    assert isinstance(noted, Heard)
    assert (acknowledged.incident, acknowledged.verb, acknowledged.text) == ("shop/inc-1", Said.ACKNOWLEDGE, None)
    assert (noted.incident, noted.verb, noted.text) == ("shop/inc-1", Said.NOTE, "rolled back by hand")
    assert acknowledged.id != noted.id


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (a_press(action_id="approve"), NotHeard.NOTHING_FOR_US),
        (a_press(value="../../etc"), NotHeard.INCIDENT_UNKNOWN),
        (a_press(value="shop/inc-1/status"), NotHeard.INCIDENT_UNKNOWN),
        (a_press(value=["shop/inc-1"]), NotHeard.INCIDENT_UNKNOWN),
        (a_press(action_ts=7), NotHeard.MALFORMED),
        (a_command("approve shop/inc-1"), NotHeard.NOTHING_FOR_US),
        (a_command("resolve shop/inc-1"), NotHeard.NOTHING_FOR_US),
        (a_command("ack"), NotHeard.NOTHING_FOR_US),
        (a_command("note shop/inc-1"), NotHeard.MALFORMED),
        (a_command("ack shop/inc-1", user_id=""), NotHeard.MALFORMED),
        (a_command("ack shop/inc-1", command="/other"), NotHeard.NOTHING_FOR_US),
        (b"payload=%7B", NotHeard.NOTHING_FOR_US),
        (b"payload=" + b"%5B" * 20_000, NotHeard.NOTHING_FOR_US),
        (b"\xff\xfe", NotHeard.MALFORMED),
        (b"a=1&" * 100, NotHeard.MALFORMED),
        (b"", NotHeard.NOTHING_FOR_US),
    ],
)
def test_what_else_slack_signs_is_nothing(body: bytes, why: NotHeard) -> None:
    """An approval neither; what can't be read says so and raises nothing."""
    assert from_slack_now(body) == why


def test_slacks_signature_is_over_time_and_body() -> None:
    """Another secret, another body, another time, none at all: not believed."""
    body = a_press()
    stamp = str(int(NOW.timestamp()))
    code = "v0=" + hmac.new(SIGNED_WITH.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    good = {"x-slack-request-timestamp": stamp, "x-slack-signature": code}
    assert isinstance(from_slack(good, body, SIGNED_WITH, NOW), Heard)
    assert from_slack_now(body, key="another") == NotHeard.NOT_SIGNED
    assert from_slack(good, body + b"&x=1", SIGNED_WITH, NOW) == NotHeard.NOT_SIGNED
    moved = {**good, "x-slack-request-timestamp": str(int(stamp) + 1)}
    assert from_slack(moved, body, SIGNED_WITH, NOW) == NotHeard.NOT_SIGNED
    for broken in ({}, {**good, "x-slack-signature": "\udcff"}, {**good, "x-slack-request-timestamp": "-1"}):
        assert from_slack(broken, body, SIGNED_WITH, NOW) == NotHeard.NOT_SIGNED


@pytest.mark.parametrize("empty", [b"", a_press()])
def test_an_empty_secret_believes_nobody(empty: bytes) -> None:
    """A setting that was forgotten must not be one that anybody can compute with."""
    stamp = str(int(NOW.timestamp()))
    code = "v0=" + hmac.new(b"", f"v0:{stamp}:".encode() + empty, hashlib.sha256).hexdigest()
    headers = {"x-slack-request-timestamp": stamp, "x-slack-signature": code}
    assert from_slack(headers, empty, "", NOW) == NotHeard.NOT_SIGNED


@pytest.mark.parametrize(
    ("age", "heard"),
    [
        (TOLERANCE, True),
        (-TOLERANCE, True),
        (TOLERANCE + timedelta(seconds=1), False),
        (-TOLERANCE - timedelta(seconds=1), False),
    ],
)
def test_an_old_hook_of_slack_is_a_replay(age: timedelta, heard: bool) -> None:
    """Five minutes, either way."""
    answer = from_slack_now(a_press(), at=NOW - age)
    assert isinstance(answer, Heard) if heard else answer == NotHeard.TOO_OLD


def test_the_same_hook_again_has_the_same_id() -> None:
    """Its sender repeats it; two presses are two."""
    ids = [getattr(from_slack_now(a_press(action_ts=ts)), "id", None) for ts in ("1.1", "1.1", "1.2")]
    assert ids[0] == ids[1] != ids[2]


def test_an_acknowledgement_in_pagerduty_is_heard() -> None:
    """By the dedup key that the incident was triggered under."""
    body = an_event("incident.acknowledged", {"type": "incident", "incident_key": dedup_key("shop/inc-1")})
    assert from_pagerduty_signed(body) == Heard(
        incident="shop/inc-1",
        verb=Said.ACKNOWLEDGE,
        who="pagerduty:Jane Doe",
        account="PJANE",
        text=None,
        id="pagerduty:01EVENT",
    )


def test_a_note_in_pagerduty_is_heard_by_its_incidents_title() -> None:
    """A note's webhook has no key: the summary that we gave the incident ends in its name."""
    event = pagerduty(a_notice(occasion=Occasion.PAGE, title="mails (all) fail"), "routing")
    assert event is not None
    reference = {"type": "incident_reference", "summary": event["payload"]["summary"]}
    body = an_event("incident.annotated", {"content": "rolled back", "incident": reference})
    answer = from_pagerduty_signed(body)
    assert isinstance(answer, Heard)
    assert (answer.incident, answer.verb, answer.text) == ("shop/inc-1", Said.NOTE, "rolled back")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (an_event("incident.resolved", {"incident_key": dedup_key("shop/inc-1")}), NotHeard.NOTHING_FOR_US),
        (an_event("incident.acknowledged", {"incident_key": "another-tool/7"}), NotHeard.INCIDENT_UNKNOWN),
        (an_event("incident.acknowledged", {"incident_key": "incident-operator/../x"}), NotHeard.INCIDENT_UNKNOWN),
        (
            an_event("incident.acknowledged", {"incident_key": dedup_key(f"shop/{'i' * 300}")}),
            NotHeard.INCIDENT_UNKNOWN,
        ),
        (an_event("incident.acknowledged", {}), NotHeard.INCIDENT_UNKNOWN),
        (
            an_event("incident.acknowledged", {"incident_key": dedup_key("a/b")}, {"type": "service_reference"}),
            NotHeard.NOT_A_PERSON,
        ),
        (an_event("incident.annotated", {"incident_key": dedup_key("a/b"), "content": " "}), NotHeard.MALFORMED),
        (an_event("incident.acknowledged", {"incident_key": dedup_key("a/b")}, id_=""), NotHeard.MALFORMED),
        (b"{}", NotHeard.MALFORMED),
        (b"[" * 60_000, NotHeard.MALFORMED),
        (b"\xff", NotHeard.MALFORMED),
    ],
)
def test_what_else_pagerduty_signs_is_nothing(body: bytes, why: NotHeard) -> None:
    """Our own acknowledgement comes back as its integration's: it is no person's word."""
    assert from_pagerduty_signed(body) == why


def test_pagerdutys_signature_is_over_the_body() -> None:
    """While a secret is being replaced it signs with both; one of them is enough."""
    body = an_event("incident.acknowledged", {"incident_key": dedup_key("shop/inc-1")})
    assert isinstance(from_pagerduty_signed(body, before=f"v1={'0' * 64},"), Heard)
    assert from_pagerduty_signed(body, key="another") == NotHeard.NOT_SIGNED
    for headers in ({}, {"x-pagerduty-signature": ""}, {"x-pagerduty-signature": "v1=,v1=\udcff"}):
        assert from_pagerduty(headers, body, SIGNED_WITH) == NotHeard.NOT_SIGNED


def test_a_note_is_one_line_and_has_no_credential() -> None:
    """People paste."""
    answer = from_slack_now(a_command(f"note shop/inc-1 try\npassword={CANARY} \u202e then {'x' * 5000}"))
    assert isinstance(answer, Heard)
    assert answer.text is not None
    assert CANARY not in answer.text
    assert "\n" not in answer.text
    assert "\u202e" not in answer.text
    assert len(answer.text) <= 1000


@given(value=JSON)
def test_no_payload_raises_or_says_a_third_thing(value: Any) -> None:
    """Whatever is signed."""
    answers = (
        from_slack_now(urlencode({"payload": json.dumps(value)}).encode()),
        from_pagerduty_signed(json.dumps(value).encode()),
    )
    for answer in answers:
        assert isinstance(answer, NotHeard) or answer.verb in (Said.ACKNOWLEDGE, Said.NOTE)
