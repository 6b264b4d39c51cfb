"""The status page, by Atlassian Statuspage's API v1. What is public is published by a person, never by a clock.

A second public incident would be worse than a late one: before one is created, the open ones are looked through for
ours, so that a lost answer does not make two.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ...api.escalation import Channel
from ...core import notice as render
from ...core.notice import Notice
from .delivery import Delivery, Reason, Undeliverable, delivered, retry
from .http import Answer, accepted
from .sending import Sending

REQUIRED = frozenset({"token", "page"})
OPTIONAL = frozenset({"url", "ca.crt"})
_URL = "https://api.statuspage.io/v1"
_NOT_STATUSPAGE = retry(Reason.SERVER_ERROR, "what answers is not Statuspage's API")
_ID = re.compile(r"[A-Za-z0-9]{1,64}")


async def publish(notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending) -> Delivery:
    """Create the public incident, or update it. Errors: Undeliverable."""
    page = f"{credential.get('url', _URL).rstrip('/')}/pages/{quote(credential['page'], safe='')}/incidents"
    headers = {"Authorization": f"OAuth {credential['token']}", "Content-Type": "application/json"}
    body = json.dumps(render.statuspage(notice)).encode()
    known = notice.reference or await _published(notice, page, headers, credential, sending)
    if known is not None:
        url = f"{page}/{quote(known, safe='')}"
        answer = accepted(await sending.http(url, body, headers, credential, "PATCH"), "the status page")
        return delivered(Reason.UPDATED, reference=_id(answer.json()))
    answer = accepted(await sending.http(page, body, headers, credential), "the status page")
    return delivered(reference=_id(answer.json()))


async def _published(
    notice: Notice, page: str, headers: Mapping[str, str], credential: Mapping[str, str], sending: Sending
) -> str | None:
    """Return the id of this incident's open public one, None where there is none."""
    answer = accepted(await sending.http(f"{page}/unresolved", b"", headers, credential, "GET"), "the status page")
    for incident in _listed(answer):
        metadata = incident.get("metadata")
        ours = metadata.get("incident_operator") if isinstance(metadata, dict) else None
        if isinstance(ours, dict) and ours.get("incident") == notice.incident:
            return _id(incident)
    return None


def _listed(answer: Answer) -> list[Any]:
    """Return the incidents of an answer. Errors: Undeliverable where it is no list."""
    found = answer.value()
    if not isinstance(found, list):
        raise Undeliverable(_NOT_STATUSPAGE)
    return [incident for incident in found if isinstance(incident, dict)]


def _id(incident: Mapping[str, Any]) -> str:
    """Return an incident's id. Errors: Undeliverable where it has none."""
    found = incident.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise Undeliverable(_NOT_STATUSPAGE)
    return found
