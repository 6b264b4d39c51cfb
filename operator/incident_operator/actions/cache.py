"""Redis and its kin: one command that only reads, of a connection of the run."""

from collections.abc import Mapping, Sequence
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
        """Return the symptom, if the server let nobody in; what the answer means, the runbook says."""
        return [Found(reason=facts.symptom, message=facts.message)] if facts.symptom else []


def _fitting(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first fields that fit."""
    pairs = within([{name: value} for name, value in fields.items()], _FIELDS_BYTES)
    return {name: value for pair in pairs for name, value in pair.items()}
