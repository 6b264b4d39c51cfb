"""Probes within what a grant admits: resolved once, connected to that address, no redirects.

What can't be asked at all, whatever a grant lists: link-local and metadata addresses, also in an IPv6 disguise,
unspecified and multicast ones, and the API server.
"""

import ipaddress
import json
import math
import re
import socket
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import urllib3

from ..actions.ports import HttpAnswer, ReadError
from ..api.grant import Probes
from ..core.redact import looks_random

_BODY_LIMIT = 64 * 1024
#: Link-local (every cloud's metadata), AWS's IPv6 metadata and pod identity, the ones of Google, Azure, Alibaba and
#: Oracle that are not link-local, unspecified, multicast and broadcast.
_NEVER = (
    *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32"),
    *("168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24"),
    *("0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32"),
)
_NEVER_NETWORKS = tuple(ipaddress.ip_network(n) for n in _NEVER)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

#: Host and port.
Endpoint = tuple[str, int]


def undisguised(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that is reached: an IPv4 one inside an IPv6 one is that IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is None and ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inside or ip
    return ip


def is_out_of_bounds(address: str) -> bool:
    """Tell whether an address is never connected to, whatever a grant or a Secret says."""
    ip = undisguised(address)
    return any(ip in network for network in _NEVER_NETWORKS)


def _addresses(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(str(entry[4][0]) for entry in found)


def admitted_address(host: str, port: int, probes: Probes, api_server: Endpoint | None = None) -> str:
    """Return the one address to connect to. Errors: ReadError NotGranted, or Unreachable for a name unknown."""
    if probes.ports and port not in probes.ports:
        raise ReadError("NotGranted", f"the grant's probes do not list port {port}")
    found = _addresses(host, port)
    if not found:
        raise ReadError("Unreachable", f"the name {host} is not known")
    address = found[0]
    ip = undisguised(address)
    if is_out_of_bounds(address):
        raise ReadError("NotGranted", f"{host} is {address}: never an address for a probe")
    if api_server is not None and port == api_server[1] and ip in map(undisguised, _addresses(*api_server)):
        raise ReadError("NotGranted", f"{host}:{port} is the API server: never an address for a probe")
    if host in probes.hosts:
        return address
    if any(ip in ipaddress.ip_network(cidr, strict=False) for cidr in probes.cidrs):
        return address
    raise ReadError("NotGranted", f"the grant's probes list neither {host} nor a network with {address}")


def admit_elsewhere(host: str, port: int, probes: Probes, api_server: Endpoint | None = None) -> None:
    """Let pass what may be connected to from another place, where a name may mean something else than here.

    A name must be listed itself, since what it leads to there can't be told. Errors: ReadError NotGranted.
    """
    if probes.ports and port not in probes.ports:
        raise ReadError("NotGranted", f"the grant's probes do not list port {port}")
    try:
        ip = undisguised(host)
    except ValueError:
        if host not in probes.hosts:
            raise ReadError("NotGranted", f"the grant's probes do not list the name {host}") from None
        if api_server is not None and (host, port) == api_server:
            raise ReadError("NotGranted", f"{host}:{port} is the API server: never an address for a probe") from None
        return
    if is_out_of_bounds(host):
        raise ReadError("NotGranted", f"{host} is never an address for a probe")
    if api_server is not None and port == api_server[1] and ip in map(undisguised, _addresses(*api_server)):
        raise ReadError("NotGranted", f"{host}:{port} is the API server: never an address for a probe")
    if host not in probes.hosts and not any(ip in ipaddress.ip_network(cidr, strict=False) for cidr in probes.cidrs):
        raise ReadError("NotGranted", f"the grant's probes list neither {host} nor a network with it")


def connect(host: str, port: int, probes: Probes, *, timeout: timedelta, api_server: Endpoint | None) -> timedelta:
    """Connect and close again, sending nothing; return how long it took. Errors: ReadError."""
    address = admitted_address(host, port, probes, api_server)
    began = monotonic()
    try:
        socket.create_connection((address, port), timeout=timeout.total_seconds()).close()
    except ConnectionRefusedError:
        raise ReadError("Refused", f"{host}:{port} refuses connections") from None
    except TimeoutError:
        raise ReadError("Timeout", f"{host}:{port} did not answer in {timeout.total_seconds():g} s") from None
    except OSError as error:
        raise ReadError("Unreachable", f"{host}:{port} can't be reached: {type(error).__name__}") from None
    return timedelta(seconds=monotonic() - began)


def get(
    url: str, probes: Probes, *, timeout: timedelta, parse_json: bool, api_server: Endpoint | None = None
) -> HttpAnswer:
    """GET a URL. Errors: ReadError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ReadError("InvalidRequest", "a probe's url is http(s)://host[:port]/path, without a user")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ReadError("InvalidRequest", "a probe's port is a number up to 65535") from None
    address = admitted_address(parts.hostname, port, probes, api_server)
    limits = urllib3.Timeout(total=timeout.total_seconds())
    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            address, port, timeout=limits, server_hostname=parts.hostname, assert_hostname=parts.hostname
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=limits)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = monotonic()
    try:
        with pool:
            answer = pool.request(
                "GET",
                target,
                headers={"Host": parts.netloc, "User-Agent": "incident-operator"},
                redirect=False,
                retries=False,
                preload_content=False,
            )
            body = answer.read(_BODY_LIMIT)
            answer.release_conn()
    except urllib3.exceptions.TimeoutError:
        raise ReadError("Timeout", f"{parts.netloc} did not answer in {timeout.total_seconds():g} s") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error.__cause__ or error.__context__, ConnectionRefusedError):
            raise ReadError("Refused", f"{parts.netloc} refuses connections") from None
        raise ReadError("Unreachable", f"{parts.netloc} can't be reached: {type(error).__name__}") from None
    return HttpAnswer(
        status=answer.status,
        elapsed=timedelta(seconds=monotonic() - began),
        size=len(body),
        content_type=answer.headers.get("Content-Type", "")[:100],
        json=_parsed(body) if parse_json else None,
    )


_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_MAX_DEPTH = 16


def _parsed(body: bytes) -> Any:
    try:
        return _tokens(json.loads(body))
    except ValueError:
        raise ReadError("MalformedAnswer", "the answer is not JSON") from None
    except RecursionError:
        raise ReadError("MalformedAnswer", "the answer is nested too deep") from None


def _tokens(value: Any, depth: int = 0) -> Any:
    """Return what may be kept of an answer: its shape, numbers that JSON's readers agree on, and tokens (decision 19).

    A text that is none is null; a member whose name is none is left out.
    """
    if depth > _MAX_DEPTH:
        raise ReadError("MalformedAnswer", f"the answer is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, str):
        return value if _is_token(value) else None
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_tokens(item, depth + 1) for item in value]
    return {name: _tokens(item, depth + 1) for name, item in value.items() if _is_token(name)}


def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None and not looks_random(text)
