"""What every kind of `ops.shopsmart.com/v1alpha1` shares: the base model, durations, instants, conditions.

The models in this package are the CRD contract: frozen, without logic, and the only source of `crds/`
(see `api.crd`). Python names are snake_case, the wire is camelCase.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "ops.shopsmart.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DURATION_PATTERN = r"^([0-9]+(ms|s|m|h|d))+$"
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_DURATION_UNIT = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(text: str) -> timedelta:
    """Read `90m`, `1h30m`, `7d`: the set the CRD pattern admits, no more and no less.

    Errors: ValueError that names the text and shows a valid one.
    Source: decision 2 (the API server's own `format: duration` also accepts `1.5d` and prose).
    """
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 5m, 1h30m or 7d")
    return sum((int(n) * _DURATION_UNIT[unit] for n, unit in _DURATION_PART.findall(text)), timedelta())


def format_duration(value: timedelta) -> str:
    """Write a duration so that `parse_duration` reads the same length back; whole milliseconds."""
    rest, parts = value // timedelta(milliseconds=1), []
    for unit in ("d", "h", "m", "s", "ms"):
        size = _DURATION_UNIT[unit] // timedelta(milliseconds=1)
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant. Units: aware UTC. Errors: ValueError for a text without a zone."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as 2026-01-31T14:30:00Z")
    return value.astimezone(UTC)


def format_instant(value: datetime) -> str:
    """Write an instant as the API server stores it, with milliseconds (waits are scaled below a second)."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Duration = Annotated[
    timedelta,
    BeforeValidator(lambda v: parse_duration(v) if isinstance(v, str) else v),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration", "pattern": DURATION_PATTERN, "maxLength": 32}),
]
Instant = Annotated[
    datetime,
    BeforeValidator(lambda v: parse_instant(v) if isinstance(v, str) else v),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
#: A reason: CamelCase, machine-readable, one per fact.
Reason = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
#: A name that expressions use (`checks.NAME.output`), so a CEL identifier.
Identifier = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9]*$", max_length=48)]
#: The name of another object.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
#: Any JSON, kept as written.
AnyJson = Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
#: A JSON object, kept as written.
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
#: A CEL expression, compiled when the runbook is read.
Expression = Annotated[str, Field(min_length=1, max_length=4096)]
Text = Annotated[str, Field(max_length=1024)]


class Model(BaseModel):
    """A value of the contract: immutable, camelCase on the wire, unknown fields of a newer version ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_enum_values=False
    )

    def wire(self) -> dict[str, Any]:
        """Return the JSON object to store: camelCase, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
#: A time of day on the wall clock of a zone, as 09:00.
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5)]


class Severity(StrEnum):
    """How bad it is for users; P0 is a complete outage. Source: the runbook's severity table."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Risk(StrEnum):
    """What a change may cost if it goes wrong, in rising order."""

    NONE = "None"
    LOW = "Low"
    DISRUPTIVE = "Disruptive"
    DESTRUCTIVE = "Destructive"


class Automation(Model):
    """How far the machine may go by itself, by risk."""

    apply_up_to: Risk = Field(Risk.NONE, description="Fixes up to this risk are applied without asking.")
    ask_up_to: Risk = Field(
        Risk.DESTRUCTIVE, description="Fixes up to this risk are proposed to people; None is observe only."
    )


class Condition(Model):
    """A condition as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: Annotated[str, Field(max_length=1024)] = ""
    last_transition_time: Instant
    observed_generation: int | None = None


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        default=(),
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class ObjectReference(Model):
    """An object of the same namespace."""

    name: ObjectName


class SecretReference(Model):
    """A Secret of the same namespace, of type `ops.shopsmart.com/connection`."""

    name: ObjectName


class Connection(Model):
    """How to reach a system that is not behind AWS's API."""

    secret_ref: SecretReference


class OwnerReference(Model):
    """Metadata: who this object is garbage-collected with."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Metadata(Model):
    """The part of ObjectMeta that decisions read."""

    name: str
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Column(Model):
    """A printer column of `kubectl get`."""

    name: str
    json_path: str
    type: Literal["string", "integer", "date", "boolean", "number"] = "string"
    #: 0 is shown always, 1 with `-o wide`.
    priority: int = 0


class Resource(Model):
    """How a kind is served: what `api.crd` needs besides the schema."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()


class KubernetesObject(Model):
    """A whole stored object. Subclasses add `spec` and `status` and name their `resource`."""

    resource: ClassVar[Resource]

    api_version: str = API_VERSION
    kind: str
    metadata: Metadata


def rules(*validations: tuple[str, str], **schema: Any) -> ConfigDict:
    """Return a model configuration that carries CEL rules `(rule, message)` into the CRD."""
    extra: dict[str, Any] = {
        "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in validations]
    }
    return ConfigDict(json_schema_extra={**extra, **schema})
