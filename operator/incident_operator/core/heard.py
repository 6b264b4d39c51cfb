"""What people say in Slack and PagerDuty: signed hooks, verified, then read. Pure.

Only two things can ever come of a hook: somebody has taken an incident on, or somebody notes something. Whoever can
sign could say any name, so a hook is never an approval. Sources: Slack's "Verifying requests", PagerDuty's "Verifying
signatures" and its v3 webhook payloads.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from .notice import ACKNOWLEDGE, DEDUP_PREFIX, QUESTION_SUFFIX
from .redact import redact

#: Slack's own bound: older than that is a replay.
TOLERANCE = timedelta(minutes=5)
_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_OBJECT = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_INCIDENT = re.compile(rf"{_NAME}/{_OBJECT}")
_IN_SUMMARY = re.compile(rf"\(({_NAME}/{_OBJECT})\)$")
_COMMAND = re.compile(rf"(?P<verb>ack|note)\s+(?P<incident>{_NAME}/{_OBJECT})(?:\s+(?P<text>\S.*))?", re.DOTALL)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_TEXT, _WHO, _ID = 1000, 64, 128


class Said(StrEnum):
    """What can come of a hook; there is no third."""

    ACKNOWLEDGE = "Acknowledge"
    NOTE = "Note"


class NotHeard(StrEnum):
    """Why nothing comes of a hook."""

    #: No signature, or not one of ours.
    NOT_SIGNED = "NotSigned"
    #: Signed too long ago, or in the future.
    TOO_OLD = "TooOld"
    #: It can't be read.
    MALFORMED = "Malformed"
    #: It is about something else: another event, button or command.
    NOTHING_FOR_US = "NothingForUs"
    #: It names no incident of ours.
    INCIDENT_UNKNOWN = "IncidentUnknown"
    #: No person did it: an integration's event that comes back, ours too.
    NOT_A_PERSON = "NotAPerson"


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a person said.

    Shape: `incident` is "namespace/name"; `who` is the provider and the name it shows, `account` its own id of them,
    which nobody can choose; `text` is a note's, redacted, at most 1,000 characters; `id` is the same at every delivery
    of this hook.
    """

    incident: str
    verb: Said
    who: str
    account: str
    text: str | None
    id: str


def from_slack(headers: Mapping[str, str], body: bytes, secret: str, now: datetime) -> Heard | NotHeard:
    """Read a pressed button or `/incident ack NAMESPACE/NAME`, `/incident note NAMESPACE/NAME TEXT`.

    Shape: `headers` by names in small letters.
    """
    stamp, given = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        return NotHeard.NOT_SIGNED
    if not _signed(given, "v0", secret, f"v0:{stamp}:".encode() + body):
        return NotHeard.NOT_SIGNED
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        return NotHeard.TOO_OLD
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=64))
    except ValueError:
        return NotHeard.MALFORMED
    if "payload" in fields:
        return _pressed(fields["payload"])
    if fields.get("command") == "/incident":
        return _commanded(fields, hashlib.sha256(body).hexdigest()[:32])
    return NotHeard.NOTHING_FOR_US


def from_pagerduty(headers: Mapping[str, str], body: bytes, secret: str) -> Heard | NotHeard:
    """Read a v3 webhook of an acknowledgement or a note. Shape: `headers` by names in small letters.

    A note's incident is a reference without its key: its title ends in the incident's name, as we gave it.
    """
    given = headers.get("x-pagerduty-signature", "")
    # One signature for each secret, while one is being replaced.
    if not any(_signed(one.strip(), "v1", secret, body) for one in given.split(",")[:8]):
        return NotHeard.NOT_SIGNED
    event = _within(_json(body), "event")
    kind, data, id_ = event.get("event_type"), _within(event, "data"), _text(event.get("id"), _ID)
    if not event or not isinstance(kind, str) or not id_:
        return NotHeard.MALFORMED
    if kind not in ("incident.acknowledged", "incident.annotated"):
        return NotHeard.NOTHING_FOR_US
    agent = _within(event, "agent")
    if agent.get("type") not in ("user_reference", "user"):
        return NotHeard.NOT_A_PERSON
    incident = _of_pagerduty(data)
    if incident is None:
        return NotHeard.INCIDENT_UNKNOWN
    note = kind == "incident.annotated"
    text = _text(data.get("content"), _TEXT) if note else None
    if note and not text:
        return NotHeard.MALFORMED
    return Heard(
        incident=incident,
        verb=Said.NOTE if note else Said.ACKNOWLEDGE,
        who=f"pagerduty:{_text(agent.get('summary'), _WHO) or 'unknown'}",
        account=_text(agent.get("id"), _WHO),
        text=text,
        id=f"pagerduty:{id_}",
    )


def _pressed(payload: str) -> Heard | NotHeard:
    said = _json(payload.encode(errors="replace"))
    actions = said.get("actions")
    if said.get("type") != "block_actions" or not isinstance(actions, list) or not actions:
        return NotHeard.NOTHING_FOR_US
    action = actions[0] if isinstance(actions[0], dict) else {}
    if action.get("action_id") != ACKNOWLEDGE:
        return NotHeard.NOTHING_FOR_US
    user = _within(said, "user")
    account, at = _text(user.get("id"), _WHO), _text(action.get("action_ts"), _ID)
    if not account or not at:
        return NotHeard.MALFORMED
    incident = action.get("value")
    if not isinstance(incident, str) or not _INCIDENT.fullmatch(incident):
        return NotHeard.INCIDENT_UNKNOWN
    return Heard(
        incident=incident,
        verb=Said.ACKNOWLEDGE,
        who=f"slack:{_text(user.get('username') or user.get('name'), _WHO) or account}",
        account=account,
        text=None,
        id=f"slack:{account}:{at}",
    )


def _commanded(fields: Mapping[str, str], digest: str) -> Heard | NotHeard:
    """Read a slash command. Shape: its trigger tells two alike apart; the digest stands for all of it."""
    found = _COMMAND.fullmatch(fields.get("text", "").strip())
    if found is None:
        return NotHeard.NOTHING_FOR_US
    account = _text(fields.get("user_id"), _WHO)
    text = _text(found["text"], _TEXT) or None
    note = found["verb"] == "note"
    if not account or (note and text is None):
        return NotHeard.MALFORMED
    return Heard(
        incident=found["incident"],
        verb=Said.NOTE if note else Said.ACKNOWLEDGE,
        who=f"slack:{_text(fields.get('user_name'), _WHO) or account}",
        account=account,
        text=text,
        id=f"slack:{digest}",
    )


def _of_pagerduty(data: Mapping[str, Any]) -> str | None:
    for holder in (data, _within(data, "incident")):
        key = holder.get("incident_key")
        if isinstance(key, str) and key.startswith(DEDUP_PREFIX):
            incident = key.removeprefix(DEDUP_PREFIX).removesuffix(QUESTION_SUFFIX)
            return incident if _INCIDENT.fullmatch(incident) else None
    summary = _within(data, "incident").get("summary")
    found = _IN_SUMMARY.search(summary) if isinstance(summary, str) else None
    return found[1] if found else None


def _signed(given: str, version: str, secret: str, content: bytes) -> bool:
    """Compare in constant time. An empty secret signs nothing."""
    wanted = f"{version}={hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}"
    return bool(secret) and hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _within(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _text(value: object, limit: int) -> str:
    """Return a text on one line, encodable, redacted and bounded; empty for anything else."""
    if not isinstance(value, str):
        return ""
    line = " ".join(_UNSEEN.sub(" ", value.encode(errors="replace").decode()).split())
    return redact(line)[:limit]
