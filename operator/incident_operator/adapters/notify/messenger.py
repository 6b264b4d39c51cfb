"""The messenger: one notice to one channel, once. Whether and when again is the caller's to decide."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from ...api.escalation import Channel, ChannelType
from ...core.notice import Notice
from ..clock import Clock
from ..probe import Endpoint
from ..tally import Tally
from . import email, pagerduty, slack, statuspage, webhook
from .delivery import Delivery, Reason, State, Undeliverable, checked, delivered, retry
from .http import Http
from .place import Places
from .sending import Sending

log = logging.getLogger(__name__)

#: What one delivery may take, all of it.
TIMEOUT = timedelta(seconds=10)


class _Way(Protocol):
    async def __call__(
        self, notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending, /
    ) -> Delivery: ...


@dataclass(frozen=True)
class _Kind:
    """A type of channel: the keys of its Secret, and how it is sent to."""

    required: frozenset[str]
    optional: frozenset[str]
    send: _Way


_KINDS: Mapping[ChannelType, _Kind] = {
    ChannelType.SLACK: _Kind(slack.REQUIRED, slack.OPTIONAL, slack.deliver),
    ChannelType.PAGER_DUTY: _Kind(pagerduty.REQUIRED, pagerduty.OPTIONAL, pagerduty.deliver),
    ChannelType.EMAIL: _Kind(email.REQUIRED, email.OPTIONAL, email.deliver),
    ChannelType.WEBHOOK: _Kind(webhook.REQUIRED, webhook.OPTIONAL, webhook.deliver),
    ChannelType.STATUS_PAGE: _Kind(statuspage.REQUIRED, statuspage.OPTIONAL, statuspage.publish),
}


class Messenger:
    """Sends. Shape: `loopback` lets channels lead to this machine itself, for development: a cluster's never may."""

    def __init__(
        self,
        clock: Clock,
        api_server: Endpoint | None = None,
        *,
        loopback: bool = False,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._clock, self._timeout = clock, timeout
        self._places = Places(api_server, loopback=loopback)
        self._client = Http(self._places)
        #: What became of messages, for metrics; what no channel was asked for is not among them.
        self.deliveries = Tally("channel_type", "state", "reason")

    async def close(self) -> None:
        """Close what is open."""
        await self._client.close()

    async def deliver(self, notice: Notice, channel: Channel, credential: Mapping[str, str] | None) -> Delivery:
        """Send a notice once and return what became of it; no fault of a provider is raised.

        Shape: nothing is sent to a status page: that is a person's to say, see `publish`.
        """
        if channel.type == ChannelType.STATUS_PAGE:
            return delivered(Reason.NOT_FOR_THIS_CHANNEL)
        return await self._sent(notice, channel, credential)

    async def publish(self, notice: Notice, channel: Channel, credential: Mapping[str, str] | None) -> Delivery:
        """Make a notice public on a status page, because a person said Publish; as `deliver` otherwise."""
        if channel.type != ChannelType.STATUS_PAGE:
            return delivered(Reason.NOT_FOR_THIS_CHANNEL)
        return await self._sent(notice, channel, credential)

    async def _sent(self, notice: Notice, channel: Channel, credential: Mapping[str, str] | None) -> Delivery:
        kind = _KINDS[channel.type]
        sending = Sending(client=self._client, places=self._places, now=self._clock.now(), timeout=self._timeout)
        try:
            known = checked(credential, kind.required, kind.optional)
            async with asyncio.timeout(self._timeout.total_seconds()):
                delivery = await kind.send(notice, channel, known, sending)
        except Undeliverable as error:
            delivery = error.delivery
        except TimeoutError:
            delivery = retry(Reason.TIMEOUT, f"{channel.type} did not answer in {self._timeout.total_seconds():g} s")
        self.deliveries.count(channel.type, delivery.state, delivery.reason)
        if delivery.state != State.DELIVERED:
            told = (notice.occasion, channel.name, notice.incident, delivery.state, delivery.reason)
            log.warning("%s to channel %r about %s: %s, %s", *told)
        return delivery
