"""HTTP: one GET of an address that the grant's probes admit."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Duration
from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import Reader


class GetInputs(Inputs):
    """The address is literal: nothing that a check found can redirect it."""

    url: str = Field(max_length=2048, json_schema_extra={"literal": True})
    timeout: Duration = timedelta(seconds=5)
    expect_status: tuple[int, ...] = (200,)
    max_latency: Duration | None = None
    parse_json: bool = False


class GetFacts(Facts):
    """The answer in short; the body only as JSON, if asked for."""

    status: int
    seconds: float
    size: int
    body: Any = None


class GetOutput(Output):
    """The same for expressions."""

    status: int
    seconds: float
    size: int
    json_: Any = Field(None, alias="json")


@register
class Get(CheckAction[GetInputs, GetFacts]):
    """Does an address answer as expected, in time?"""

    name = "http.get"
    title = "An HTTP endpoint"
    inputs_model = GetInputs
    facts_model = GetFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "UnexpectedStatus": ReasonInfo(doc="The endpoint answered with another status."),
        "TooSlow": ReasonInfo(doc="The endpoint took longer than it should."),
    }

    def observe(self, inputs: GetInputs, reader: Reader) -> GetFacts:
        """Get the address. Errors: ReadError where it does not answer or may not be asked."""
        answer = reader.http_get(inputs.url, timeout=inputs.timeout, parse_json=inputs.parse_json)
        return GetFacts(
            status=answer.status, seconds=answer.elapsed.total_seconds(), size=answer.size, body=answer.json
        )

    def output(self, facts: GetFacts) -> GetOutput:
        """Return status, time and size."""
        return GetOutput(status=facts.status, seconds=round(facts.seconds, 3), size=facts.size, json_=facts.body)

    def findings(self, inputs: GetInputs, facts: GetFacts) -> Sequence[Found] | Unclear:
        """Compare status and time."""
        if facts.status not in inputs.expect_status:
            wanted = ", ".join(str(s) for s in inputs.expect_status)
            message = f"{inputs.url} answered {facts.status}, not {wanted}"
            return [Found(reason="UnexpectedStatus", message=message, subject=inputs.url)]
        if inputs.max_latency is not None and facts.seconds > inputs.max_latency.total_seconds():
            message = f"{inputs.url} took {facts.seconds:.2f} s"
            return [Found(reason="TooSlow", message=message, subject=inputs.url)]
        return []
