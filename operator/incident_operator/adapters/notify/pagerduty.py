"""PagerDuty's Events API v2: trigger, acknowledge, resolve; one dedup key an incident, one for its plans that wait."""

import json
from collections.abc import Mapping

from ...api.escalation import Channel
from ...core import notice as render
from ...core.notice import Notice
from .delivery import Delivery, Reason, Undeliverable, delivered, failed, retry
from .http import accepted
from .sending import Sending

REQUIRED = frozenset({"routing-key"})
OPTIONAL = frozenset({"url", "ca.crt"})
_URL = "https://events.pagerduty.com/v2/enqueue"


async def deliver(notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending) -> Delivery:
    """Send an event; without a request where the occasion is none of PagerDuty's. Errors: Undeliverable."""
    event = render.pagerduty(notice, credential["routing-key"])
    if event is None:
        return delivered(Reason.NOT_FOR_THIS_CHANNEL)
    headers = {"Content-Type": "application/json"}
    answer = await sending.http(credential.get("url", _URL), json.dumps(event).encode(), headers, credential)
    if answer.status == 400 and b"routing" in answer.body.lower():
        # PagerDuty answers a key that is none like any other error of the event.
        raise Undeliverable(failed(Reason.UNAUTHORIZED, "PagerDuty does not know the routing key"))
    if accepted(answer, "PagerDuty").json().get("status") != "success":
        raise Undeliverable(retry(Reason.SERVER_ERROR, "what answers is not PagerDuty's API"))
    return delivered(reference=render.dedup_key(notice.incident, question=notice.question))
