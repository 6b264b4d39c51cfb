"""A signed webhook: whatever receives it can prove that it is from us, and that it has had it before."""

from collections.abc import Mapping

from ...api.escalation import Channel
from ...core import notice as render
from ...core.notice import Notice
from .delivery import Delivery, delivered
from .http import accepted
from .sending import Sending

REQUIRED = frozenset({"url", "signing-key"})
OPTIONAL = frozenset({"ca.crt"})


async def deliver(notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending) -> Delivery:
    """Post the notice. Errors: Undeliverable."""
    request = render.webhook(notice, credential["signing-key"], sending.now)
    accepted(await sending.http(credential["url"], request.body, request.headers, credential), "the webhook")
    return delivered()
