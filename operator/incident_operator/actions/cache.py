"""Redis and its kin: one command that only reads, of a connection of the run; and who is connected to a node."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from ..core.rediscommand import MAX_COMMAND, command_problem
from .base import CheckAction, Facts, Found, Output, ReasonInfo, Unclear, register
from .connected import SYMPTOMS, ConnectedInputs, symptom, within
from .ports import Reader, ReadError

_ROWS_BYTES = 700
_FIELDS_BYTES = 1000


class CommandInputs(ConnectedInputs):
    """The command is literal, as one types it: `INFO memory`. `fields` are those to keep of a long answer."""

    command: Annotated[str, Field(max_length=MAX_COMMAND, json_schema_extra={"literal": True, "language": "redis"})]
    fields: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")], ...], Field(max_length=24)] = ()

    @field_validator("command")
    @classmethod
    def _listed(cls, value: str) -> str:
        problem = command_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value


class CommandFacts(Facts):
    """The answer, as far as it is numbers and tokens; or, where the server lets nobody in, the reason for that."""

    value: int | float | str | None = None
    fields: dict[str, Any] | None = None
    rows: tuple[dict[str, Any], ...] | None = None
    truncated: bool = False
    seconds: float = 0.0
    symptom: str | None = None
    message: str = ""


class CommandOutput(Output):
    """One value, or named values, or rows; `truncated`: name the `fields` you need."""

    value: int | float | str | None = None
    fields: dict[str, Any] | None = None
    rows: tuple[dict[str, Any], ...] | None = None
    truncated: bool
    seconds: float


@register
class SendCommand(CheckAction[CommandInputs, CommandFacts]):
    """What does Redis say? The findings that the runbook declares judge it."""

    name = "redis.command"
    title = "A command of Redis that only reads"
    inputs_model = CommandInputs
    facts_model = CommandFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = SYMPTOMS

    def observe(self, inputs: CommandInputs, reader: Reader) -> CommandFacts:
        """Ask. Errors: ReadError, but for one that is the symptom."""
        try:
            answer = reader.redis(inputs.connection, inputs.command, timeout=inputs.timeout)
        except ReadError as error:
            found = symptom(error)
            return CommandFacts(symptom=found.reason, message=found.message)
        wanted = answer.fields
        if wanted is not None and inputs.fields:
            wanted = {name: wanted[name] for name in inputs.fields if name in wanted}
        fields = None if wanted is None else _fitting(wanted)
        rows = None if answer.rows is None else within(answer.rows, _ROWS_BYTES)
        return CommandFacts(
            value=answer.value,
            fields=fields,
            rows=rows,
            truncated=len(fields or ()) < len(wanted or ()) or len(rows or ()) < len(answer.rows or ()),
            seconds=round(answer.elapsed.total_seconds(), 3),
        )

    def output(self, facts: CommandFacts) -> CommandOutput:
        """Return the answer."""
        return CommandOutput(
            value=facts.value,
            fields=facts.fields,
            rows=facts.rows,
            truncated=facts.truncated,
            seconds=facts.seconds,
        )

    def findings(self, inputs: CommandInputs, facts: CommandFacts) -> Sequence[Found] | Unclear:
        """Return the symptom, if the server let nobody in; what the answer means, the runbook says.

        An answer of which nothing could be kept, or none of the fields that are asked for, says nothing.
        """
        if facts.symptom:
            return [Found(reason=facts.symptom, message=facts.message)]
        without_fields = not facts.fields and (bool(inputs.fields) or facts.fields is None)
        if facts.value is None and facts.rows is None and without_fields:
            message = f"the answer to {inputs.command} has nothing that is asked for"
            return Unclear(reason="NothingAnswered", message=message)
        return []


def _fitting(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first fields that fit."""
    pairs = within([{name: value} for name, value in fields.items()], _FIELDS_BYTES)
    return {name: value for pair in pairs for name, value in pair.items()}


# --- redis.clients ----------------------------------------------------------------------------------------------------

_MOST_SHOWN = 24


class ClientsInputs(ConnectedInputs):
    """A node, and the networks of the hosts that are meant: CIDRs, like 10.0.16.0/20.

    `readsFromReplicas`: hosts are connected to replicas on purpose.
    """

    hosts: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    reads_from_replicas: bool = False

    @field_validator("hosts")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text, strict=False)
        return value


class ClientsFacts(Facts):
    """The node's role, and the addresses of those hosts that are connected to it.

    Shape: `incomplete`: there are more addresses than a node's clients are counted by.
    """

    role: str | None = None
    hosts: tuple[str, ...] = ()
    clients: int = 0
    read_only_errors: int = 0
    incomplete: bool = False
    symptom: str | None = None
    message: str = ""


class ClientsOutput(Output):
    """Role (master or slave), at most 24 addresses, hosts, their clients, and writes refused since the node's start."""

    role: str | None = None
    hosts: tuple[str, ...] = ()
    total: int = 0
    clients: int = 0
    read_only_errors: int = 0


@register
class Clients(CheckAction[ClientsInputs, ClientsFacts]):
    """Which hosts are connected to a node, by address only? After a failover: who stayed on the former primary."""

    name = "redis.clients"
    title = "Who is connected to a node"
    inputs_model = ClientsInputs
    facts_model = ClientsFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **SYMPTOMS,
        "HostsOnReplica": ReasonInfo(
            doc="Hosts are connected to a node that takes no writes, as after a failover that they did not follow.",
            root_cause=True,
        ),
    }

    def observe(self, inputs: ClientsInputs, reader: Reader) -> ClientsFacts:
        """Ask for role, clients and errors. Errors: ReadError, but for one that is the symptom."""
        try:
            role, listed, errors = (
                reader.redis(inputs.connection, command, timeout=inputs.timeout)
                for command in ("ROLE", "CLIENT LIST", "INFO errorstats")
            )
        except ReadError as error:
            found = symptom(error)
            return ClientsFacts(symptom=found.reason, message=found.message)
        networks = [ip_network(text, strict=False) for text in inputs.hosts]
        if listed.rows is None or listed.fields is None or not (role.fields or {}).get("role"):
            raise ReadError("MalformedAnswer", "the node does not say its role, or who is connected")
        try:
            known = [(ip_address(row["address"]), int(row["clients"])) for row in listed.rows]
        except (KeyError, TypeError, ValueError):
            raise ReadError("MalformedAnswer", "the node names a client without an address") from None
        meant = [(str(address), n) for address, n in known if any(address in network for network in networks)]
        return ClientsFacts(
            role=(role.fields or {})["role"],
            hosts=tuple(sorted(address for address, _ in meant)),
            clients=sum(n for _, n in meant),
            read_only_errors=int((errors.fields or {}).get("errorstat_READONLY_count", 0)),
            incomplete=listed.fields.get("addresses", 0) > len(listed.rows),
        )

    def output(self, facts: ClientsFacts) -> ClientsOutput:
        """Return the hosts."""
        return ClientsOutput(
            role=facts.role,
            hosts=facts.hosts[:_MOST_SHOWN],
            total=len(facts.hosts),
            clients=facts.clients,
            read_only_errors=facts.read_only_errors,
        )

    def findings(self, inputs: ClientsInputs, facts: ClientsFacts) -> Sequence[Found] | Unclear:
        """Return the symptom; that nobody is connected is no news where not all addresses were counted."""
        if facts.symptom:
            return [Found(reason=facts.symptom, message=facts.message)]
        if facts.incomplete and not facts.hosts:
            message = "more addresses are connected than are counted: none of the hosts meant is among the busiest"
            return Unclear(reason="TooManyAddresses", message=message)
        if facts.role != "slave" or not facts.hosts or inputs.reads_from_replicas:
            return []
        shown, total = ", ".join(facts.hosts[:_MOST_SHOWN]), len(facts.hosts)
        more = f" and {total - _MOST_SHOWN} more" if total > _MOST_SHOWN else ""
        message = f"{total} hosts stay on {inputs.connection}, a replica that takes no writes: {shown}{more}"
        return [Found(reason="HostsOnReplica", message=message, subject=inputs.connection)]
