"""The port through which the catalogue observes the world: reading only, listed operations only.

Adapters implement it; actions get it. Nothing here can change anything (invariant I2): what instances are asked to do
by `tcp_from` is to connect, or to GET a path over HTTP, by a document that can nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol


class ReadError(Exception):
    """A read that gave no answer: the check is Error, never healthy and never broken.

    `reason` is one of AccessDenied, NotFound, Throttled, Timeout, Unreachable, InvalidRequest, MalformedAnswer,
    NotGranted; of probes from instances also ProbeDocumentMissing and ProbeDocumentChanged; of connections also
    Refused, ConnectionMissing, ConnectionInvalid, RoleTooPowerful; and three that are the symptom, no trouble of ours:
    ConnectionSlotsExhausted, StartingUp, and PublicAccessDenied of a read that was made as anybody on the internet
    would make it; and InternalError, of an action that failed in a way it does not foresee.
    `code` is the target's own error code. `message` is safe to store (no free text of the target).
    """

    def __init__(self, reason: str, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code


class NotFound(ReadError):
    """The thing does not exist; actions often turn it into a fact."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__("NotFound", message, code=code)


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """A response: status, elapsed, size and a few safe headers; the body only as size and a JSON object if asked."""

    status: int
    elapsed: timedelta
    size: int
    content_type: str
    json: Any = None


#: What a statement may be given as an argument.
Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a SELECT, by column.

    Shape: values are numbers, booleans, None, instants as RFC 3339 text, and tokens of `[A-Za-z0-9_.:-]`; a text that
    is no token is None and counted in `withheld` (decision 19). `truncated`: there were more rows than asked for.
    `sees_all`: the role is told what other roles' sessions do; else views of sessions blank theirs, and leave out.
    """

    rows: tuple[Mapping[str, Any], ...]
    truncated: bool
    withheld: int
    sees_all: bool
    elapsed: timedelta


@dataclass(frozen=True, kw_only=True)
class RedisAnswer:
    """A Redis answer: one value, or named values, or rows of them; texts only as tokens, as in `Rows`."""

    elapsed: timedelta
    value: Any = None
    fields: Mapping[str, Any] | None = None
    rows: tuple[Mapping[str, Any], ...] | None = None


#: What came of connecting.
Connection = Literal["Connected", "Refused", "Timeout", "Unreachable"]


@dataclass(frozen=True, kw_only=True)
class ConnectFrom:
    """One place, and the instances that are to connect to it. Shape: `path` is what they GET there; empty, nothing."""

    instances: tuple[str, ...]
    host: str
    port: int
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class FromInstance:
    """What one instance said of one place.

    Shape: `outcome` is None where it gave no answer: `why` is then NotManaged, NotLinux, NoAnswer or Failed, or
    NotProbed where the run only observes. `status` is the HTTP status that a GET was answered with; its `outcome` is
    then Connected.
    """

    instance: str
    host: str
    port: int
    outcome: Connection | None = None
    why: str = ""
    status: int | None = None


class Reader(Protocol):
    """One observation's view of the world. Reads of one diagnosis are shared: the same read is made once."""

    @property
    def now(self) -> datetime:
        """The instant of this observation, aware UTC."""
        ...

    @property
    def since(self) -> datetime:
        """The start of what may be looked back on.

        For checks: the incident's detection less a (scaled) lead, or the moment the last fix was applied, whichever
        is later. For judging a fix: the moment its last call was answered.
        """
        ...

    @property
    def account(self) -> str:
        """The grant's account, twelve digits."""
        ...

    @property
    def region(self) -> str:
        """The region where an action's input names none: the grant's first."""
        ...

    @property
    def global_region(self) -> str:
        """The region whose CloudTrail has the events of IAM and other services without a region: its partition's."""
        ...

    @property
    def protected_actors(self) -> tuple[str, ...]:
        """ARN patterns of those whose removals of access are on purpose."""
        ...

    def scaled(self, wait: timedelta) -> timedelta:
        """Divide a real wait or look-back by the time scale (decision 1)."""
        ...

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """Make one listed read call and return its projection, JSON-safe (instants as RFC 3339 text).

        Shape: `service` and `operation` as boto3 spells them ("iam", "get_role"); the projection is the one listed
        for the operation in `actions.reads`, with every page followed up to the listed bound.
        Errors: ReadError (NotFound for the service's not-found codes); PermissionError for an operation not listed.
        """
        ...

    def prefetch(self, service: str, operation: str, *arguments: Mapping[str, Any], region: str | None = None) -> None:
        """Begin reads that are going to be asked, one for each of `arguments`, all at once, and wait for none.

        It changes nothing but time: `aws` with the same arguments gives the answer, or raises what it failed with.
        """
        ...

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """GET an address the grant's probes admit: resolved once, no redirects, never a metadata address.

        Errors: ReadError.
        """
        ...

    def postgres(
        self,
        connection: str,
        statement: str,
        arguments: Sequence[Scalar] = (),
        *,
        max_rows: int = 20,
        timeout: timedelta = timedelta(seconds=5),
    ) -> Rows:
        """Ask one SELECT of a connection of the run, read-only, as a role that may only read.

        Shape: `statement` is one that `core.statement` takes; `arguments` are its $1, $2, ...
        Errors: ReadError.
        """
        ...

    def postgres_place(self, connection: str) -> str:
        """Return where a connection of the run leads, `host:port`, without connecting. Errors: ReadError."""
        ...

    def redis(self, connection: str, command: str, *, timeout: timedelta = timedelta(seconds=5)) -> RedisAnswer:
        """Send one command of the list (`core.rediscommand`) to a connection of the run. Errors: ReadError."""
        ...

    def tcp(self, host: str, port: int, *, timeout: timedelta) -> timedelta:
        """Connect to an address the grant's probes admit, send nothing, and return how long that took.

        Errors: ReadError: Refused where the host itself said no, Timeout and Unreachable where nothing answered.
        """
        ...

    def tcp_from(
        self, asked: Sequence[ConnectFrom], *, timeout: timedelta, region: str | None = None
    ) -> tuple[FromInstance, ...]:
        """Let instances that the grant's probes list connect, and say what came of it; all at once.

        Nothing is sent over the connection, but where a path is given one GET without a body, whose status is read.

        It is the one thing the port does that AWS counts as a change: a command of SSM, of the one probe document
        (`actions.vantage`), with a host, a port, a time and perhaps a path. The same is asked once in a diagnosis.
        For a run that only observes nothing is sent: all that leads to it is read, and who could be asked is NotProbed.
        Shape: an answer for each instance of each place, in their order. `timeout` is rounded up to whole seconds.
        Errors: ReadError where nobody may be asked, or the document is not the one that it must be.
        """
        ...
