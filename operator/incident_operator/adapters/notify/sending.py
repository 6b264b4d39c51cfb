"""What each channel's file is given to send with."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from .http import Answer, Http
from .place import Places


@dataclass(frozen=True, kw_only=True)
class Sending:
    """One delivery's means. Units: `timeout` for all of it; `now` is its instant."""

    client: Http
    places: Places
    now: datetime
    timeout: timedelta

    async def http(
        self, url: str, body: bytes, headers: Mapping[str, str], credential: Mapping[str, str], method: str = "POST"
    ) -> Answer:
        """Make one request, by the credential's authorities. Errors: Undeliverable."""
        ca = credential.get("ca.crt")
        return await self.client.send(method, url, body=body, headers=headers, ca=ca, now=self.now)
