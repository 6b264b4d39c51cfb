"""The run's connections: Secrets that hold host and credential together, read at the moment of use.

Nothing of a Secret is kept, stored or logged: a `Target` lives as long as one read, and shows its host only. The
operator may read just those Secrets that a team lets it, by a Role of the team's own namespace.
"""

import asyncio
import base64
import binascii
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from ..actions.ports import ReadError
from ..api.run import IncidentRun
from .kube import Forbidden, Kube, KubeError, NotFound

SECRET_TYPE = "ops.shopsmart.com/connection"  # noqa: S105  (a type, no secret)
#: How many connections the operator has to one target at a time: it must not be what fills the slots.
PER_TARGET = 2
_READ_SECONDS = 15.0
_KEYS = frozenset({"url", "host", "port", "user", "password", "database", "tls", "ca.crt"})
_SCHEMES: Mapping[str, tuple[frozenset[str], int]] = {
    "PostgreSQL": (frozenset({"postgresql", "postgres"}), 5432),
    "Redis": (frozenset({"redis", "rediss"}), 6379),
}
_SSLMODES = {"disable": "disable", "require": "encrypt", "verify-ca": "verify", "verify-full": "verify"}

System = Literal["PostgreSQL", "Redis"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to connect, as whom. Shape: shows host and port only, whoever prints it."""

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: str | None = field(default=None, repr=False)
    #: verify: the server proves who it is; encrypt: it does not; disable: plain text.
    tls: Literal["verify", "encrypt", "disable"] = "verify"
    ca: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"


class Slots:
    """How many connections there may be to each target at a time, in this process."""

    def __init__(self, per_target: int = PER_TARGET) -> None:
        self._per_target = per_target
        self._lock = threading.Lock()
        self._by_place: dict[str, threading.BoundedSemaphore] = {}

    @contextlib.contextmanager
    def taken(self, place: str, *, seconds: float) -> Iterator[None]:
        """Hold one of a target's connections. Errors: ReadError Timeout where none becomes free in time."""
        with self._lock:
            slots = self._by_place.setdefault(place, threading.BoundedSemaphore(self._per_target))
        if not slots.acquire(timeout=seconds):
            message = f"{place}: {self._per_target} checks are asking it already, and took longer than {seconds:g} s"
            raise ReadError("Timeout", message)
        try:
            yield
        finally:
            slots.release()


class Connections:
    """The connections of one run, by the names its runbook uses."""

    def __init__(self, secrets: Mapping[str, str], read: Callable[[str], Mapping[str, Any]], slots: Slots) -> None:
        self._secrets, self._read, self.slots = dict(secrets), read, slots

    @classmethod
    def of(cls, run: IncidentRun, kube: Kube, slots: Slots) -> "Connections":
        """Return the connections of a run; its Secrets are read through this loop, from the threads of effects."""
        loop = asyncio.get_running_loop()
        namespace = run.metadata.namespace or ""

        def read(name: str) -> Mapping[str, Any]:
            path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
            future = asyncio.run_coroutine_threadsafe(kube.request("GET", path), loop)
            try:
                secret: Mapping[str, Any] = future.result(_READ_SECONDS)
            except Forbidden:
                message = (
                    f"the operator may not read Secret {name}; a Role in namespace {namespace} must let it get "
                    f"secrets with resourceNames [{name}] (docs/connections.md)"
                )
                raise ReadError("AccessDenied", message, code="Forbidden") from None
            except NotFound:
                message = f"there is no Secret {name} in namespace {namespace}"
                raise ReadError("ConnectionMissing", message) from None
            except (KubeError, TimeoutError):
                raise ReadError("Unreachable", f"the API server did not give Secret {name}") from None
            return secret

        return cls({name: c.secret_ref.name for name, c in run.spec.connections.items()}, read, slots)

    def target(self, name: str, system: System) -> Target:
        """Return where a connection leads, read now. Errors: ReadError that names the Secret, never what is in it."""
        secret_name = self._secrets.get(name)
        if secret_name is None:
            known = f"; it has {', '.join(sorted(self._secrets))}" if self._secrets else ""
            message = f"the run has no connection {name!r}{known}: add spec.connections.{name}.secretRef.name"
            raise ReadError("ConnectionMissing", message)
        secret = self._read(secret_name)
        if secret.get("type") != SECRET_TYPE:
            message = f"Secret {secret_name} is not of type {SECRET_TYPE}: only those are meant to be connected with"
            raise ReadError("ConnectionInvalid", message)
        try:
            return _target(_decoded(secret.get("data") or {}), system)
        except _Wrong as wrong:
            raise ReadError("ConnectionInvalid", f"Secret {secret_name}: {wrong}") from None


class _Wrong(Exception):
    """What is wrong with a Secret, without its values."""


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(data) - _KEYS)
    if unknown:
        raise _Wrong(f"the key {unknown[0][:40]!r} is not one of {', '.join(sorted(_KEYS))}")
    try:
        return {key: base64.b64decode(value).decode().strip() for key, value in data.items()}
    except (binascii.Error, UnicodeDecodeError):
        raise _Wrong("a value is no text") from None


def _target(values: Mapping[str, str], system: System) -> Target:
    if "url" in values:
        values = {**_from_url(values["url"], system), **{k: v for k, v in values.items() if k in ("tls", "ca.crt")}}
    host, port = values.get("host", ""), values.get("port", str(_SCHEMES[system][1]))
    if not host or "," in host or host.startswith(("/", "@")):
        raise _Wrong("host must be one name or address (or give url)")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise _Wrong("port must be a number up to 65535")
    tls = values.get("tls", "verify")
    if tls not in ("verify", "encrypt", "disable"):
        raise _Wrong("tls must be verify, encrypt or disable")
    ca = values.get("ca.crt")
    if ca is not None:
        _require_certificates(ca)
    return Target(
        host=host,
        port=int(port),
        user=values.get("user") or None,
        password=values.get("password") or None,
        database=values.get("database") or None,
        tls=tls,  # type: ignore[arg-type]
        ca=ca,
    )


def _from_url(url: str, system: System) -> dict[str, str]:
    """Return the parts of a URL. Only what is known is taken: an option of the client library is none of a Secret's."""
    schemes = _SCHEMES[system][0]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _Wrong("url can't be read") from None
    if parts.scheme not in schemes or not host:
        raise _Wrong(f"url must be {min(schemes)}://user:password@host:port/database for {system}")
    values = {"host": unquote(host), "database": unquote(parts.path.strip("/"))}
    if port is not None:
        values["port"] = str(port)
    if parts.username:
        values["user"] = unquote(parts.username)
    if parts.password:
        values["password"] = unquote(parts.password)
    if parts.scheme == "redis":
        values["tls"] = "disable"
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key != "sslmode" or value not in _SSLMODES or system != "PostgreSQL":
            raise _Wrong(f"url may have sslmode={'|'.join(_SSLMODES)} for PostgreSQL, and nothing else after the ?")
        values["tls"] = _SSLMODES[value]
    return values


def _require_certificates(text: str) -> None:
    try:
        ssl.create_default_context().load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise _Wrong("ca.crt must be certificates in PEM") from None
