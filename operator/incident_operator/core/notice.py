"""What people are told, and how each channel's provider wants it: pure, so that a retry says the same.

Every text passes one door here: control characters out, credentials out (invariant I6), then a bound. What a provider
would read as markup or as a mention of everybody is escaped where that provider's request is made. Sources: Slack's
formatting reference and Block Kit limits, PagerDuty's Events API v2, Statuspage's API v1, RFC 5322.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any
from urllib.parse import quote

from ..api.incident import Occasion
from ..api.meta import Severity
from .redact import redact

#: What a button or a command of a message is called that says somebody has taken an incident on.
ACKNOWLEDGE = "acknowledge"
DEDUP_PREFIX, QUESTION_SUFFIX = "incident-operator/", ":approval"

_TITLE, _BODY = 250, 8000
_SLACK_HEADER, _SLACK_SECTION = 150, 3000
_PAGERDUTY_SUMMARY, _PAGERDUTY_DEDUP = 1024, 255
#: Controls but newline and tab, line separators that are none of ours, and what turns the direction of writing.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SLACK_MENTION = re.compile(r"@(?=(?:here|channel|everyone|group)\b)", re.IGNORECASE)
#: One address as RFC 5321 has it without quotes: nothing that a header or an SMTP command could end at.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.-]{1,128}@[A-Za-z0-9.-]{1,190}>")


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One message.

    Shape: `key` is this one message's, the same at every retry; `incident` is "namespace/name"; `lines` are plain text;
    `recipients` are e-mail addresses, for Email; `reference` is what an earlier message of this incident in this
    channel was answered with: Slack updates that one in place, e-mail answers it.
    """

    key: str
    incident: str
    occasion: Occasion
    severity: Severity
    title: str
    lines: tuple[str, ...]
    recipients: tuple[str, ...] = ()
    reference: str | None = None
    #: About a plan that waits: an incident of its own in PagerDuty, where one that is acknowledged rings no more.
    question: bool = False


@dataclass(frozen=True, kw_only=True)
class SignedRequest:
    """A webhook's request: exactly these bytes are signed."""

    body: bytes
    headers: Mapping[str, str]


def dedup_key(incident: str, *, question: bool = False) -> str:
    """Return the key that all PagerDuty events of one incident carry; those about plans that wait, another one.

    Shape: at most 255 characters; of a name too long for that the end is a digest, and such a key names no incident.

    >>> dedup_key("shop/inc-2024-0001")
    'incident-operator/shop/inc-2024-0001'
    """
    key = f"{DEDUP_PREFIX}{incident}{QUESTION_SUFFIX if question else ''}"
    if len(key) <= _PAGERDUTY_DEDUP:
        return key
    digest = hashlib.sha256(incident.encode()).hexdigest()[:32]
    return f"{key[: _PAGERDUTY_DEDUP - len(digest) - 1]}~{digest}"


def title_of(notice: Notice, limit: int = _TITLE) -> str:
    """Return the title on one line, redacted and bounded."""
    return _cut(" ".join(_cleaned(notice.title).split()), limit)


def body_of(notice: Notice, limit: int = _BODY, escape: Callable[[str], str] = str) -> str:
    """Return the body, redacted and bounded; lines left out are counted.

    Shape: `escape` is applied to each line, and the bound is that of the escaped text. A line is cut at a sixth of it:
    escaped, that is still within the bound.
    """
    lines = _cleaned("\n".join(notice.lines)).split("\n")
    kept, size, reserve = list[str](), 0, len("… 1000000 more lines")
    for index, line in enumerate(lines):
        shown = escape(_cut(line, limit // 6))
        if size + len(shown) + 1 > limit - reserve:
            return "\n".join([*kept, f"… {len(lines) - index} more lines"])
        kept.append(shown)
        size += len(shown) + 1
    return "\n".join(kept)


def slack(notice: Notice) -> dict[str, Any]:
    """Return the arguments of chat.postMessage or chat.update, but for the channel and `ts`.

    Shape: a Page has a button whose action_id is `acknowledge` and whose value is the incident. Nothing is parsed for
    mentions: `verbatim` and `parse: none` say so, and what could be one is broken up.
    """
    title, place = title_of(notice), _for_slack(_cleaned(notice.incident))
    header = {"type": "plain_text", "text": _fitted(title, _SLACK_HEADER, _for_slack), "emoji": False}
    blocks: list[dict[str, Any]] = [{"type": "header", "text": header}]
    body = body_of(notice, _SLACK_SECTION, _for_slack)
    if body.strip():
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": body, "verbatim": True}})
    context = {"type": "plain_text", "text": f"{notice.severity} · {place}", "emoji": False}
    blocks.append({"type": "context", "elements": [context]})
    if notice.occasion == Occasion.PAGE:
        button = {
            "type": "button",
            "action_id": ACKNOWLEDGE,
            "text": {"type": "plain_text", "text": "Acknowledge", "emoji": False},
            "style": "primary",
            "value": notice.incident,
        }
        blocks.append({"type": "actions", "elements": [button]})
    return {
        "text": _for_slack(title),
        "blocks": blocks,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {
            "event_type": "incident_notice",
            "event_payload": {"key": notice.key, "incident": notice.incident},
        },
    }


_PAGERDUTY_ACTIONS: Mapping[Occasion, str] = {
    Occasion.PAGE: "trigger",
    Occasion.APPROVAL: "trigger",
    Occasion.ACKNOWLEDGED: "acknowledge",
    Occasion.RESOLVED: "resolve",
}
_PAGERDUTY_SEVERITIES: Mapping[Severity, str] = {
    Severity.P0: "critical",
    Severity.P1: "error",
    Severity.P2: "warning",
    Severity.P3: "info",
}


def pagerduty(notice: Notice, routing_key: str) -> dict[str, Any] | None:
    """Return the event of the Events API v2; None for an occasion that is none of PagerDuty's.

    Shape: the summary ends in the incident in brackets, by which a note's webhook can be told which one it is about.
    """
    action = _PAGERDUTY_ACTIONS.get(notice.occasion)
    if action is None:
        return None
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(notice.incident, question=notice.question),
    }
    if action != "trigger":
        return event
    place = f" ({notice.incident})"
    return {
        **event,
        "client": "Incident Operator",
        "payload": {
            "summary": title_of(notice, _PAGERDUTY_SUMMARY - len(place)) + place,
            "source": notice.incident.partition("/")[0],
            "severity": _PAGERDUTY_SEVERITIES[notice.severity],
            "custom_details": {
                "details": body_of(notice),
                "incident": notice.incident,
                "severity": str(notice.severity),
                "key": notice.key,
            },
        },
    }


def is_address(text: str) -> bool:
    """Tell whether a text is one e-mail address that can be written into a header and an SMTP command as it is."""
    found = _ADDRESS.fullmatch(text) if len(text) <= 254 else None
    return found is not None and len(found["local"]) <= 64


def message_id(notice: Notice, sender: str) -> str:
    """Return the Message-ID: the same at every retry, so that mail systems know a message they have had."""
    digest = hashlib.sha256(notice.key.encode()).hexdigest()[:32]
    return f"<{digest}@{sender.rpartition('@')[2]}>"


def email(notice: Notice, *, sender: str, at: datetime) -> EmailMessage:
    """Return the message to the notice's recipients, all of them valid addresses. Errors: ValueError where one is not.

    Shape: no header can be added by a text: titles are one line, addresses are checked.
    """
    if not all(is_address(address) for address in (sender, *notice.recipients)):
        raise ValueError("an address is none")
    message = EmailMessage(policy=SMTP)
    message["Subject"] = title_of(notice)
    message["From"] = Address("Incident Operator", addr_spec=sender)
    message["To"] = tuple(Address(addr_spec=address) for address in notice.recipients)
    message["Date"] = at
    message["Message-ID"] = message_id(notice, sender)
    if notice.reference is not None and _MESSAGE_ID.fullmatch(notice.reference):
        message["In-Reply-To"] = notice.reference
        message["References"] = notice.reference
    if notice.occasion in (Occasion.PAGE, Occasion.APPROVAL):
        message["Importance"] = "high"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Incident"] = quote(notice.incident)
    message.set_content(
        f"{body_of(notice)}\n\n{notice.severity} · {_cleaned(notice.incident)}\n", cte="quoted-printable"
    )
    return message


def webhook(notice: Notice, signing_key: str, at: datetime) -> SignedRequest:
    """Return the request: JSON, and a signature over `<unix seconds>.<body>` by which its receiver knows us.

    Units: `t` in whole seconds. Shape: `Idempotency-Key` is the notice's key, percent-encoded where a header needs it.
    """
    content = {
        "key": notice.key,
        "incident": notice.incident,
        "occasion": str(notice.occasion),
        "severity": str(notice.severity),
        "title": title_of(notice),
        "text": body_of(notice),
    }
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    seconds = int(at.timestamp())
    return SignedRequest(
        body=body,
        headers={
            "Content-Type": "application/json",
            "Idempotency-Key": quote(notice.key, safe="/:@+~=,;")[:255],
            "X-Incident-Signature": f"t={seconds},v1={signature(signing_key, seconds, body)}",
        },
    )


def signature(signing_key: str, seconds: int, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of a webhook's request."""
    return hmac.new(signing_key.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()


def statuspage(notice: Notice) -> dict[str, Any]:
    """Return the body of Statuspage's POST and PATCH of an incident.

    Shape: resolved where the notice says so, else investigating; an update leaves the status as people set it there.
    """
    incident: dict[str, Any] = {
        "name": title_of(notice),
        "body": body_of(notice),
        "deliver_notifications": True,
        "metadata": {"incident_operator": {"incident": notice.incident}},
    }
    if notice.occasion == Occasion.RESOLVED:
        incident["status"] = "resolved"
    elif notice.reference is None:
        incident["status"] = "investigating"
    return {"incident": incident}


def _cleaned(text: str) -> str:
    """Return a text as it may leave: encodable, without controls, redacted. Controls go first: they split tokens."""
    seen = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return redact(seen.encode(errors="replace").decode())


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _fitted(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """Return as much of a text as is within the limit when it is escaped."""
    length = limit
    while len(escape(_cut(text, length))) > limit:
        length -= 1
    return escape(_cut(text, length))


def _for_slack(text: str) -> str:
    """Return a text that Slack shows as it is: its three control characters escaped, mentions of all broken up."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SLACK_MENTION.sub("@\u2060", escaped)
