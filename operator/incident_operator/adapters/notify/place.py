"""Where messages may be sent: a host is looked up once, its addresses are checked, and those are connected to.

A Secret is a team's own, but what it makes the operator connect to is not all the team may reach by itself: metadata
addresses and the API server never (as for probes), nor this pod's own loopback, where neighbours listen.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ..probe import Endpoint, is_out_of_bounds, undisguised
from .delivery import Delivery, Reason, Undeliverable, failed, retry


class Forbidden(OSError):
    """An address that is never connected to."""


class Places(AbstractResolver):
    """Looks up hosts and lets only what may be connected to through."""

    def __init__(self, api_server: Endpoint | None, *, loopback: bool) -> None:
        self._api_server, self._loopback = api_server, loopback

    async def admitted(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, all of them admitted. Errors: Forbidden; OSError for a name unknown."""
        found = await _addresses(host, port)
        servers = set[object]()
        if self._api_server is not None and port == self._api_server[1]:
            servers = {undisguised(address) for address in await _addresses(*self._api_server)}
        for address in found:
            ip = undisguised(address)
            if is_out_of_bounds(address) or ip in servers or (ip.is_loopback and not self._loopback):
                raise Forbidden("never an address of a channel")
        return found

    async def of(self, host: str, port: int) -> list[str]:
        """Return the addresses to connect to, in order. Errors: Undeliverable."""
        try:
            return await self.admitted(host, port)
        except Forbidden:
            raise Undeliverable(forbidden(host)) from None
        except OSError:
            raise Undeliverable(retry(Reason.UNREACHABLE, f"the name {host} is not known")) from None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look up a host for the HTTP client: it connects to what is returned, and looks up nothing itself."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.admitted(host, port)
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def forbidden(host: str) -> Delivery:
    """Return the delivery for a host that is never connected to."""
    return failed(Reason.ADDRESS_FORBIDDEN, f"{host} leads to an address that is never a channel's")


def is_literal(host: str) -> bool:
    """Tell whether a host is an address by itself, in the notation that every reader understands alike."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls(ca: str | None) -> ssl.SSLContext:
    """Return how a server has to prove who it is. Errors: Undeliverable where the authorities are none."""
    if ca is None:
        return _system_tls()
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, "ca.crt must be certificates in PEM")) from None


@functools.cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def trouble(error: Exception, place: str) -> Delivery:
    """Return the delivery for an error of a connection; the error's own words stay here."""
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return failed(Reason.TLS_FAILED, f"{place} does not prove who it is, or does not speak TLS")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, Forbidden):
        return forbidden(place)
    if isinstance(cause, TimeoutError):
        return retry(Reason.TIMEOUT, f"{place} did not answer in time")
    if isinstance(cause, ConnectionRefusedError):
        return retry(Reason.REFUSED, f"{place} refuses connections")
    before = isinstance(cause, OSError) and not isinstance(cause, ConnectionError | aiohttp.ClientError)
    if before or isinstance(error, aiohttp.ClientConnectorError):
        return retry(Reason.UNREACHABLE, f"{place} can't be reached")
    return retry(Reason.ANSWER_LOST, f"{place} ended the connection before it answered")


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no name") from None
    if not found:
        raise OSError("no address")
    return [str(entry[4][0]) for entry in found]
