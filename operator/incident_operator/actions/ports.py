"""The port through which the catalogue observes the world: reading only, listed operations only.

Adapters implement it; actions get it. Nothing here can change anything (invariant I2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol


class ReadError(Exception):
    """A read that gave no answer: the check is Error, never healthy and never broken.

    `reason` is one of AccessDenied, NotFound, Throttled, Timeout, Unreachable, InvalidRequest, MalformedAnswer,
    NotGranted. `code` is the target's own error code. `message` is safe to store (no free text of the target).
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

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """GET an address the grant's probes admit: resolved once, no redirects, never a metadata address.

        Errors: ReadError.
        """
        ...
