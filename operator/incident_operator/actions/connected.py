"""What the checks of a run's connections share: their inputs, and the errors that are the symptom."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, field_validator

from ..api.meta import Duration
from .base import Found, Inputs, ReasonInfo
from .ports import ReadError

MAX_TIMEOUT = timedelta(seconds=30)

#: Errors of a connection that are no trouble of ours but what is wrong: findings of every such check.
SYMPTOMS: Mapping[str, ReasonInfo] = {
    "ConnectionSlotsExhausted": ReasonInfo(
        doc="The server has no connection slot left, so it lets nobody in: not the operator, and not the service."
    ),
    "StartingUp": ReasonInfo(doc="The server is starting, stopping, loading or recovering, and takes no connections."),
}


class ConnectedInputs(Inputs):
    """A connection by the name that the run gives it under `spec.connections`."""

    connection: Annotated[
        str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", max_length=63, json_schema_extra={"literal": True})
    ]
    timeout: Duration = timedelta(seconds=5)

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= MAX_TIMEOUT:
            raise ValueError("between 100ms and 30s")
        return value


def symptom(error: ReadError) -> Found:
    """Return the finding that an error is. Errors: the error itself, where it is none."""
    if error.reason not in SYMPTOMS:
        raise error
    return Found(reason=error.reason, message=error.message)


def within(rows: Sequence[Mapping[str, Any]], size: int) -> tuple[dict[str, Any], ...]:
    """Return the first rows that fit into so many bytes of JSON."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        size -= len(json.dumps(row)) + 2
        if size < 0:
            break
        kept.append(dict(row))
    return tuple(kept)
