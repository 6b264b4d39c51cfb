"""Redis and its kin: one command of a literal list, and of its answer only numbers and tokens.

`core.rediscommand` says what may be sent; the answer's texts are kept only where they are tokens (decision 19), and
names become identifiers, so that expressions can say `output.fields.used_memory`.
"""

import math
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from ..actions.ports import ReadError, RedisAnswer
from ..api.grant import Probes
from ..core.redact import looks_random
from ..core.rediscommand import Command, parse
from .connections import Slots, Target
from .probe import Endpoint, admitted_address

MAX_FIELDS = 256
MAX_LISTED = 10
MAX_ADDRESSES = 128
_CONNECT_SECONDS = 5.0
MAX_TIMEOUT = timedelta(seconds=30)
_ADDRESS = re.compile(r"(?:^| )addr=(\S+)")
#: Our ends of the connections that are open now; threads add and take away single ones only.
_OURS: set[str | None] = set()
_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{0,64}")


class _Pinned(Connection):
    """Connects to the address that was admitted, whatever the name means by now."""

    def __init__(self, *, address: str, **rest: Any) -> None:
        self._address = address
        super().__init__(**rest)

    def _connect(self) -> Any:
        name, self.host = self.host, self._address
        try:
            return super()._connect()
        finally:
            self.host = name


class _PinnedTls(SSLConnection, _Pinned):
    """The same with TLS: the server proves that it is the name, not the address."""


def ask(
    target: Target, probes: Probes, slots: Slots, command: str, *, timeout: timedelta, api_server: Endpoint | None
) -> RedisAnswer:
    """Send one command and return what may be kept of its answer. Errors: ReadError, without the server's text."""
    try:
        listed = parse(command)
    except ValueError as error:
        raise ReadError("InvalidRequest", str(error)) from None
    timeout = min(timeout, MAX_TIMEOUT)
    with slots.taken(target.place, seconds=MAX_TIMEOUT.total_seconds()):
        address = admitted_address(target.host, target.port, probes, api_server)
        began = monotonic()
        raw = _exchange(_connection(target, address, timeout), listed, target, timeout)
    elapsed = timedelta(seconds=monotonic() - began)
    try:
        return _PROJECTIONS.get(listed.name, _as_value)(raw, elapsed)
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        message = f"{listed.name} was answered by something unexpected ({type(error).__name__})"
        raise ReadError("MalformedAnswer", message) from None


def _connection(target: Target, address: str, timeout: timedelta) -> Connection:
    database = target.database or ""
    given: dict[str, Any] = {
        "address": address,
        "host": target.host,
        "port": target.port,
        "username": target.user,
        "password": target.password,
        "db": int(database) if database.isdigit() else 0,
        "socket_timeout": timeout.total_seconds(),
        "socket_connect_timeout": _CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": True,
        "encoding_errors": "replace",
        "driver_info": None,
    }
    if target.tls == "disable":
        return _Pinned(**given)
    verify = target.tls == "verify"
    return _PinnedTls(
        **given,
        ssl_cert_reqs="required" if verify else "none",
        ssl_check_hostname=verify,
        ssl_ca_data=target.ca if verify else None,
    )


def _exchange(connection: Connection, command: Command, target: Target, timeout: timedelta) -> Any:
    """Connect, log in, send, read, close. Errors: ReadError."""
    ours: str | None = None
    try:
        connection.connect()
        ours = _place_of_ours(connection)
        _OURS.add(ours)
        connection.send_command(*command.words)
        answer = connection.read_response()
        return _without_us(answer) if command.name == "CLIENT LIST" else answer
    except (redis.RedisError, OSError) as error:
        raise _read_error(error, command, target, timeout) from None
    finally:
        connection.disconnect()
        _OURS.discard(ours)


def _without_us(answer: Any) -> Any:
    """Return a list of clients without our own connections: in the hosts' subnets we would be taken for a host."""
    if not isinstance(answer, str):
        return answer
    return "\n".join(line for line in answer.splitlines() if not _OURS.intersection(_ADDRESS.findall(line)))


def _place_of_ours(connection: Connection) -> str:
    """Return our end of a connection as a server lists it. Errors: OSError."""
    connected: socket.socket | None = connection._sock
    assert connected is not None  # noqa: S101  (it has just connected)
    host, port, *_ = connected.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_error(error: Exception, command: Command, target: Target, timeout: timedelta) -> ReadError:
    """Return what an error means. Shape: nothing of the server's text is in it, but its code."""
    text, place = str(error), target.place
    if "max number of clients" in text:
        return ReadError("ConnectionSlotsExhausted", f"Redis at {place} has no client slot left", code="MAXCLIENTS")
    if isinstance(error, redis.BusyLoadingError):
        return ReadError("StartingUp", f"Redis at {place} is loading its data", code="LOADING")
    if isinstance(error, redis.AuthenticationError):
        return ReadError("AccessDenied", f"Redis at {place} refuses the user or its password: look at the Secret")
    if isinstance(error, redis.exceptions.NoPermissionError):
        message = f"the connection's user may not send {command.name}: give it the right by ACL SETUSER"
        return ReadError("AccessDenied", message, code="NOPERM")
    if isinstance(error, redis.TimeoutError | TimeoutError):
        hint = "" if target.tls == "disable" else "; if it speaks no TLS, set tls to disable in the Secret"
        return ReadError("Timeout", f"Redis at {place} did not answer in {timeout.total_seconds():g} s{hint}")
    if "certificate" in text.lower():
        message = "can't prove who it is: put its certificate authority into the Secret as ca.crt, or set tls"
        return ReadError("ConnectionInvalid", f"Redis at {place} {message}")
    if isinstance(error, redis.ResponseError):
        word = text.split(" ", 1)[0]
        code = word if re.fullmatch(r"[A-Z]{2,20}", word) else "ERR"
        return ReadError("InvalidRequest", f"Redis does not take {command.name} ({code})", code=code)
    return ReadError("Unreachable", f"Redis at {place} can't be reached: {type(error).__name__}")


def _token(value: Any) -> Any:
    """Return a number, or a text that is a token; None for any other, and for what looks like a password."""
    if isinstance(value, int):
        return value
    if not isinstance(value, str) or not _TOKEN.fullmatch(value) or looks_random(value):
        return None
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{1,18}", value):
        number = float(value)
        return number if math.isfinite(number) else None
    return value


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name)[:64].strip("_") or "_"


def _named(pairs: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    """Return named values that are numbers or tokens, a bounded number of them."""
    kept: dict[str, Any] = {}
    for name, value in pairs:
        token = _token(value)
        if token is not None and len(kept) < MAX_FIELDS:
            kept[_identifier(name)] = token
    return kept


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of an INFO; `db0:keys=1,expires=0` is `db0_keys` and `db0_expires`."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name.startswith("#"):
            continue
        if "=" not in value:
            yield name, value
            continue
        for part in value.split(","):
            inner, _, number = part.partition("=")
            yield f"{name}_{inner}", number


def _pairs(flat: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a flat list of names and values, and of those inside it."""
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        if isinstance(value, list):
            yield from _pairs(value, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", value


def _as_value(raw: Any, elapsed: timedelta) -> RedisAnswer:
    return RedisAnswer(elapsed=elapsed, value=_token(raw))


def _as_lines(raw: Any, elapsed: timedelta) -> RedisAnswer:
    return RedisAnswer(elapsed=elapsed, fields=_named(_lines(raw)))


def _as_pairs(raw: Any, elapsed: timedelta) -> RedisAnswer:
    return RedisAnswer(elapsed=elapsed, fields=_named(_pairs(raw)))


def _role(raw: Any, elapsed: timedelta) -> RedisAnswer:
    if raw[0] == "master":
        given = {"role": "master", "offset": raw[1], "replicas": len(raw[2])}
    elif raw[0] == "slave":
        given = dict(zip(("role", "primary_host", "primary_port", "link", "offset"), raw, strict=True))
    else:
        given = {"role": raw[0]}
    return RedisAnswer(elapsed=elapsed, fields=_named(iter(given.items())))


def _clients(raw: Any, elapsed: timedelta) -> RedisAnswer:
    """Return how many clients from which address, never what they call themselves or do."""
    clients = [dict(part.partition("=")[::2] for part in line.split(" ")) for line in raw.splitlines()]
    # S and M: the links between a primary and its replicas are no clients of anybody's.
    people = [client for client in clients if not set("SM") & set(client.get("flags", ""))]
    by_address = Counter(client["addr"].rpartition(":")[0].strip("[]") for client in people if "addr" in client)
    rows = [{"address": _token(address), "clients": n} for address, n in by_address.most_common(MAX_ADDRESSES)]
    idle = [int(client["idle"]) for client in clients if client.get("idle", "").isdigit()]
    fields = {
        "clients": len(people),
        "replication_links": len(clients) - len(people),
        "addresses": len(by_address),
        "longest_idle_seconds": max(idle, default=0),
        "blocked": sum("b" in client.get("flags", "") for client in clients),
        "pubsub": sum("P" in client.get("flags", "") for client in clients),
    }
    return RedisAnswer(elapsed=elapsed, fields=fields, rows=tuple(rows))


def _latency(raw: Any, elapsed: timedelta) -> RedisAnswer:
    names = ("event", "at", "latest_ms", "max_ms")
    rows = [{n: _token(v) for n, v in zip(names, event, strict=False)} for event in raw[:MAX_LISTED]]
    return RedisAnswer(elapsed=elapsed, rows=tuple(rows), fields={"events": len(raw)})


_PROJECTIONS: Mapping[str, Callable[[Any, timedelta], RedisAnswer]] = {
    "INFO": _as_lines,
    "CLUSTER INFO": _as_lines,
    "CONFIG GET": _as_pairs,
    "MEMORY STATS": _as_pairs,
    "ROLE": _role,
    "CLIENT LIST": _clients,
    "LATENCY LATEST": _latency,
}
