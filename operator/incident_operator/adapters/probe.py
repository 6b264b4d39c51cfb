"""HTTP probes within what a grant admits: resolved once, connected to that address, no redirects.

What can't be asked at all: link-local and metadata addresses, unspecified and multicast ones.
"""

import ipaddress
import json
import socket
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import urllib3

from ..actions.ports import HttpAnswer, ReadError
from ..api.grant import Probes

_BODY_LIMIT = 64 * 1024
_NEVER = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "0.0.0.0/8", "224.0.0.0/4")
_NEVER_NETWORKS = tuple(ipaddress.ip_network(n) for n in _NEVER)


def admitted_address(host: str, port: int, probes: Probes) -> str:
    """Return the one address to connect to. Errors: ReadError NotGranted, or Unreachable for a name unknown."""
    if probes.ports and port not in probes.ports:
        raise ReadError("NotGranted", f"the grant's probes do not list port {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ReadError("Unreachable", f"the name {host} is not known") from None
    address = str(found[0][4][0])
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _NEVER_NETWORKS):
        raise ReadError("NotGranted", f"{host} is {address}: never an address for a probe")
    if host in probes.hosts:
        return address
    if any(ip in ipaddress.ip_network(cidr, strict=False) for cidr in probes.cidrs):
        return address
    raise ReadError("NotGranted", f"the grant's probes list neither {host} nor a network with {address}")


def get(url: str, probes: Probes, *, timeout: timedelta, parse_json: bool) -> HttpAnswer:
    """GET a URL. Errors: ReadError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ReadError("InvalidRequest", "a probe's url is http(s)://host[:port]/path, without a user")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ReadError("InvalidRequest", "a probe's port is a number up to 65535") from None
    address = admitted_address(parts.hostname, port, probes)
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
        raise ReadError("Unreachable", f"{parts.netloc} can't be reached: {type(error).__name__}") from None
    return HttpAnswer(
        status=answer.status,
        elapsed=timedelta(seconds=monotonic() - began),
        size=len(body),
        content_type=answer.headers.get("Content-Type", "")[:100],
        json=_parsed(body) if parse_json else None,
    )


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise ReadError("MalformedAnswer", "the answer is not JSON") from None
