"""PostgreSQL: one read-only SELECT of a connection of the run."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from ..core.statement import MAX_ARGUMENTS, MAX_STATEMENT, of_sessions, placeholders, statement_problem
from .base import CheckAction, Facts, Found, Output, ReasonInfo, Unclear, register
from .connected import SYMPTOMS, ConnectedInputs, symptom, within
from .ports import Reader, ReadError, Scalar

#: Of a check's 2 KiB of output; the first row is in it twice.
_OUTPUT_BYTES = 1800
_FACTS_BYTES = 12 * 1024
MAX_ROWS = 100


class QueryInputs(ConnectedInputs):
    """The statement is literal; values go in as `$1`, `$2`, ..., which `arguments` gives in order."""

    statement: Annotated[str, Field(max_length=MAX_STATEMENT, json_schema_extra={"literal": True, "language": "sql"})]
    arguments: Annotated[tuple[Scalar, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 20

    @field_validator("statement")
    @classmethod
    def _one_select(cls, value: str) -> str:
        problem = statement_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _every_argument(self) -> "QueryInputs":
        wanted, given = placeholders(self.statement), len(self.arguments)
        if wanted != given:
            raise ValueError(f"the statement takes {wanted} arguments, and {given} are given")
        return self


class QueryFacts(Facts):
    """The rows; or, where the server lets nobody in, the reason for that."""

    rows: tuple[dict[str, Any], ...] = ()
    truncated: bool = False
    withheld: int = 0
    seconds: float = 0.0
    symptom: str | None = None
    message: str = ""


class QueryOutput(Output):
    """The rows that fit; `first` is the first of them: `output.first.used > 80`.

    Shape: `count` rows were read; `truncated`: there are more than are shown; `withheld` texts were no tokens.
    """

    rows: tuple[dict[str, Any], ...]
    first: dict[str, Any] | None = None
    count: int
    truncated: bool
    withheld: int
    seconds: float


@register
class Query(CheckAction[QueryInputs, QueryFacts]):
    """What does a SELECT say? The findings that the runbook declares judge it."""

    name = "postgres.query"
    title = "A read-only SELECT in PostgreSQL"
    inputs_model = QueryInputs
    facts_model = QueryFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = SYMPTOMS

    def observe(self, inputs: QueryInputs, reader: Reader) -> QueryFacts:
        """Ask. Errors: ReadError, but for one that is the symptom.

        Half of the sessions is no answer to a question about sessions: it would pass for a quiet server.
        """
        try:
            answer = reader.postgres(
                inputs.connection,
                inputs.statement,
                inputs.arguments,
                max_rows=inputs.max_rows,
                timeout=inputs.timeout,
            )
        except ReadError as error:
            found = symptom(error)
            return QueryFacts(symptom=found.reason, message=found.message)
        view = of_sessions(inputs.statement)
        if view is not None and not answer.sees_all:
            message = f"{view} hides other roles' sessions from the role of {inputs.connection}: GRANT pg_monitor to it"
            raise ReadError("AccessDenied", message)
        kept = within(answer.rows, _FACTS_BYTES)
        return QueryFacts(
            rows=kept,
            truncated=answer.truncated or len(kept) < len(answer.rows),
            withheld=answer.withheld,
            seconds=round(answer.elapsed.total_seconds(), 3),
        )

    def output(self, facts: QueryFacts) -> QueryOutput:
        """Return the first rows, as many as fit."""
        first = within(facts.rows[:1], _OUTPUT_BYTES // 2)
        kept = within(facts.rows, _OUTPUT_BYTES - sum(len(str(row)) for row in first)) if first else ()
        return QueryOutput(
            rows=kept,
            first=first[0] if first else None,
            count=len(facts.rows),
            truncated=facts.truncated or len(kept) < len(facts.rows),
            withheld=facts.withheld,
            seconds=facts.seconds,
        )

    def judged(self, facts: QueryFacts) -> QueryOutput:
        """Return all rows: a rule that looks for one among them must see it."""
        return self.output(facts).model_copy(update={"rows": facts.rows, "truncated": facts.truncated})

    def findings(self, inputs: QueryInputs, facts: QueryFacts) -> Sequence[Found] | Unclear:
        """Return the symptom, if the server let nobody in; what the rows mean, the runbook says."""
        return [Found(reason=facts.symptom, message=facts.message)] if facts.symptom else []
