"""Hooks: what people say in Slack and PagerDuty, over HTTP. A provider whose signing secret is not set has no route.

Who is not believed gets 401, what can't be read 400. What is signed and of no concern gets 200 and says why: a sender
that is refused again and again ends by sending nothing at all.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from aiohttp import web

from ..adapters.kube import KubeError
from ..core.heard import Heard, NotHeard, from_pagerduty, from_slack

log = logging.getLogger(__name__)

BODY_LIMIT = 64 * 1024
#: The environment is where a Secret reaches a pod without a file that anybody else reads.
SLACK_SECRET, PAGERDUTY_SECRET = "SLACK_SIGNING_SECRET", "PAGERDUTY_SIGNING_SECRET"
_READ_SECONDS = 10.0
STATUSES: Mapping[NotHeard, int] = {NotHeard.NOT_SIGNED: 401, NotHeard.TOO_OLD: 401, NotHeard.MALFORMED: 400}

#: Makes a person's word of what was heard. Returns why it could not, for now; the sender is told to come back.
Hear = Callable[[Heard], Awaitable[str | None]]


class Hooks:
    """The routes of the hooks that have a signing secret. Shape: an empty secret is none."""

    def __init__(self, hear: Hear, now: Callable[[], datetime], *, slack: str = "", pagerduty: str = "") -> None:
        self._hear, self._now = hear, now
        self._slack, self._pagerduty = slack, pagerduty

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], hear: Hear, now: Callable[[], datetime]) -> "Hooks":
        """Return the hooks whose secrets are set."""
        secrets = (environ.get(name, "").strip() for name in (SLACK_SECRET, PAGERDUTY_SECRET))
        slack, pagerduty = secrets
        return cls(hear, now, slack=slack, pagerduty=pagerduty)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        if self._slack:
            app.router.add_post("/hooks/slack", self._from_slack)
        if self._pagerduty:
            app.router.add_post("/hooks/pagerduty", self._from_pagerduty)

    async def _from_slack(self, request: web.Request) -> web.Response:
        body = await _read(request)
        return await self._answer("slack", from_slack(_lowered(request), body, self._slack, self._now()))

    async def _from_pagerduty(self, request: web.Request) -> web.Response:
        body = await _read(request)
        return await self._answer("pagerduty", from_pagerduty(_lowered(request), body, self._pagerduty))

    async def _answer(self, provider: str, heard: Heard | NotHeard) -> web.Response:
        if isinstance(heard, NotHeard):
            log.info("a hook of %s: %s", provider, heard)
            return web.Response(status=STATUSES.get(heard, 200), text=f"{heard}\n")
        try:
            why_not = await self._hear(heard)
        except KubeError as error:
            why_not = type(error).__name__
        if why_not is not None:
            log.warning("%s of %s about %s is not taken: %s", heard.verb, provider, heard.incident, why_not)
            return web.Response(status=503, headers={"Retry-After": "5"}, text=f"{why_not}\n")
        return web.Response(text=f"{heard.verb} of {heard.incident}: taken\n")


async def _read(request: web.Request) -> bytes:
    """Return the body. Errors: 413 where it is too long, 408 where it does not come."""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _lowered(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
