"""One request to a provider over HTTP: to an admitted address, redirected nowhere. Who asks limits the time.

The answer's body is read for tokens that are known; it is never logged, stored or told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from .delivery import Delivery, Reason, Undeliverable, failed, retry
from .place import Places, is_literal, tls, trouble

#: A status page answers with all of its open incidents.
_BODY_LIMIT = 1024 * 1024
#: A provider may ask for patience, not for silence: at most so long.
_LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a provider said. Shape: the body is not shown, whoever prints it."""

    status: int
    body: bytes = field(repr=False)
    retry_after: timedelta | None

    def value(self) -> Any:
        """Return what the body's JSON says; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def json(self) -> Mapping[str, Any]:
        """Return the body's JSON object; empty for any other."""
        value = self.value()
        return value if isinstance(value, dict) else {}


class Http:
    """Requests of one process. Each has a connection of its own: a kept one may be dead when a page is due."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str],
        ca: str | None = None,
        now: datetime,
    ) -> Answer:
        """Make one request and return the answer, whatever its status. Errors: Undeliverable for all else.

        Shape: `now` is what a date in Retry-After is compared with.
        """
        target = _parsed(url)
        place = f"{target.host}:{target.port}"
        context = tls(ca) if target.scheme == "https" else True
        try:
            if is_literal(target.host or ""):
                # The client connects to a literal without asking the resolver.
                await self._places.admitted(target.host or "", target.port or 0)
            async with self._opened().request(
                method,
                target,
                data=body or None,
                headers={"User-Agent": "incident-operator", "Accept-Encoding": "identity", **headers},
                ssl=context,
                allow_redirects=False,
            ) as response:
                read = await _bounded(response.content)
                pause = retry_after(response.headers.get("Retry-After", ""), now)
                return Answer(status=response.status, body=read, retry_after=pause)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Undeliverable(trouble(error, place)) from None
        except ValueError:
            # Of the client, for a value of the credential's that it can't put into a request.
            raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, "a value can't be sent as it is")) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._places, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,  # nobody asked for it, and little can become much
            )
        return self._session


def accepted(answer: Answer, place: str) -> Answer:
    """Return an answer that is a success. Errors: Undeliverable for any other status, by its number alone."""
    if 200 <= answer.status < 300:
        return answer
    raise Undeliverable(_refusal(answer, place))


def _refusal(answer: Answer, place: str) -> Delivery:
    says = f"{place} answers {answer.status}"
    if answer.status == 429:
        return retry(Reason.RATE_LIMITED, says, after=answer.retry_after)
    if answer.status >= 500:
        return retry(Reason.SERVER_ERROR, says, after=answer.retry_after)
    if answer.status in (408, 425):
        return retry(Reason.TIMEOUT, says, after=answer.retry_after)
    named = {401: Reason.UNAUTHORIZED, 403: Reason.UNAUTHORIZED, 404: Reason.NOT_FOUND, 410: Reason.NOT_FOUND}
    if answer.status in named:
        return failed(named[answer.status], says)
    return failed(Reason.REDIRECTED if 300 <= answer.status < 400 else Reason.REJECTED, says)


def retry_after(value: str, now: datetime) -> timedelta | None:
    """Return how long a provider asks to be left alone: seconds or a date (RFC 9110), at most five minutes."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Digits beyond nine are years: no number to compute with.
        return min(timedelta(seconds=int(value[:9])), _LONGEST_PAUSE)
    try:
        at = parsedate_to_datetime(value)
        return max(timedelta(), min(at - now, _LONGEST_PAUSE))
    except (ValueError, TypeError):
        return None


def _parsed(url: str) -> URL:
    try:
        target = URL(url)
        host, port = target.host, target.port
    except ValueError:
        raise Undeliverable(failed(Reason.ADDRESS_INVALID, "the Secret's url can't be read")) from None
    if target.scheme not in ("http", "https") or not host or not port or target.user is not None:
        message = "the Secret's url is http(s)://host[:port]/path, without a user"
        raise Undeliverable(failed(Reason.ADDRESS_INVALID, message))
    if not is_literal(host) and not any(character.isalpha() for character in host):
        # "2852039166" and "127.1" are addresses to some readers: not to be guessed at.
        raise Undeliverable(failed(Reason.ADDRESS_INVALID, "the Secret's url names no host"))
    return target


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Return the first MiB of a body."""
    read = bytearray()
    while len(read) < _BODY_LIMIT and (chunk := await content.read(_BODY_LIMIT - len(read))):
        read += chunk
    return bytes(read)
