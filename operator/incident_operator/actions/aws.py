"""AWS in general: one listed read, for what the catalogue has no check of its own for."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import NotFound, Reader, ReadError
from .reads import READS

_MAX_ANSWER = 1500
#: What a rule is given at most.
_MAX_JUDGED = 64 * 1024


def _listed() -> frozenset[tuple[str, str]]:
    """Return what a runbook may ask for by name: its answer is kept, so log lines are not among it."""
    return frozenset(name for name, read in READS.items() if not read.free_text)


class QueryInputs(Inputs):
    """A listed operation, as boto3 spells it."""

    service: str
    operation: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    region: str | None = None


class QueryFacts(Facts):
    """The projected answer; `found` False where there is no such thing."""

    found: bool
    answer: Any = None


class QueryOutput(Output):
    """The answer, where it is small enough; of a long list the first three; of a list always the count."""

    found: bool
    answer: Any = None
    count: int | None = None
    cut: bool = False


@register
class Query(CheckAction[QueryInputs, QueryFacts]):
    """Ask one listed read operation; the runbook's own findings judge the answer."""

    name = "aws.query"
    title = "One read of AWS"
    inputs_model = QueryInputs
    facts_model = QueryFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {}

    def observe(self, inputs: QueryInputs, reader: Reader) -> QueryFacts:
        """Make the read. Errors: ReadError InvalidRequest for an operation that is not listed."""
        if (inputs.service, inputs.operation) not in _listed():
            own = sorted(o for s, o in _listed() if s == inputs.service)
            listed = ", ".join(own) if own else "nothing of it"
            message = f"{inputs.service}.{inputs.operation} is not a listed read; of {inputs.service}: {listed}"
            raise ReadError("InvalidRequest", message[:900])
        try:
            answer = reader.aws(inputs.service, inputs.operation, inputs.arguments, region=inputs.region)
        except NotFound:
            return QueryFacts(found=False)
        return QueryFacts(found=True, answer=answer)

    def output(self, facts: QueryFacts) -> QueryOutput:
        """Return the answer, cut to what status can hold."""
        count = len(facts.answer) if isinstance(facts.answer, list) else None
        if len(json.dumps(facts.answer)) > _MAX_ANSWER:
            shown = facts.answer[:3] if isinstance(facts.answer, list) else None
            if len(json.dumps(shown)) > _MAX_ANSWER:
                shown = None
            return QueryOutput(found=facts.found, answer=shown, count=count, cut=True)
        return QueryOutput(found=facts.found, answer=facts.answer, count=count)

    def judged(self, facts: QueryFacts) -> QueryOutput:
        """Return the whole answer: a rule that looks for what should not be in a list must see all of it."""
        if len(json.dumps(facts.answer)) > _MAX_JUDGED:
            return self.output(facts)
        count = len(facts.answer) if isinstance(facts.answer, list) else None
        return QueryOutput(found=facts.found, answer=facts.answer, count=count)

    def findings(self, inputs: QueryInputs, facts: QueryFacts) -> Sequence[Found] | Unclear:
        """Nothing by itself; but what is not there, or not seen whole, is not well because no rule minds it."""
        asked = f"{inputs.service}.{inputs.operation}"
        if not facts.found:
            return Unclear(
                reason="NotFound", message=f"{asked}: there is no such thing in the grant's account and region"
            )
        if len(json.dumps(facts.answer)) > _MAX_JUDGED:
            return Unclear(
                reason="AnswerTooLarge", message=f"{asked} answered more than rules can be given: ask for less of it"
            )
        return []
