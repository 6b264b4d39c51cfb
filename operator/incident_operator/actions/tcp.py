"""TCP: does something listen at an address that the grant's probes admit?"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from ..api.meta import Duration
from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import Reader, ReadError

Outcome = Literal["Connected", "Refused", "Timeout", "Unreachable"]
_NO_CONNECTION: Mapping[str, Outcome] = {"Refused": "Refused", "Timeout": "Timeout", "Unreachable": "Unreachable"}


class ConnectInputs(Inputs):
    """Host and port are literal: nothing that a check found can redirect it."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=253, json_schema_extra={"literal": True})]
    port: Annotated[int, Field(ge=1, le=65535, json_schema_extra={"literal": True})]
    timeout: Duration = timedelta(seconds=5)

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(seconds=30):
            raise ValueError("between 100ms and 30s")
        return value


class ConnectFacts(Facts):
    """What came of it."""

    outcome: Outcome
    seconds: float | None = None


class ConnectOutput(Output):
    """The same for expressions; `connected` says the one thing most rules ask."""

    connected: bool
    outcome: Outcome
    seconds: float | None = None


@register
class Connect(CheckAction[ConnectInputs, ConnectFacts]):
    """Can a connection be made? Nothing is sent over it.

    A host that refuses has answered. Silence may be due to where the operator stands, so by itself it says nothing
    about the service; a runbook that knows better declares a finding over `output.connected`.
    """

    name = "tcp.connect"
    title = "A TCP connection"
    inputs_model = ConnectInputs
    facts_model = ConnectFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ConnectionRefused": ReasonInfo(doc="The host answers, and nothing listens on the port."),
    }

    def observe(self, inputs: ConnectInputs, reader: Reader) -> ConnectFacts:
        """Connect and close. Errors: ReadError where the address may not be asked."""
        try:
            elapsed = reader.tcp(inputs.host, inputs.port, timeout=inputs.timeout)
        except ReadError as error:
            if error.reason not in _NO_CONNECTION:
                raise
            return ConnectFacts(outcome=_NO_CONNECTION[error.reason])
        return ConnectFacts(outcome="Connected", seconds=round(elapsed.total_seconds(), 3))

    def output(self, facts: ConnectFacts) -> ConnectOutput:
        """Return what came of it."""
        return ConnectOutput(connected=facts.outcome == "Connected", outcome=facts.outcome, seconds=facts.seconds)

    def findings(self, inputs: ConnectInputs, facts: ConnectFacts) -> Sequence[Found] | Unclear:
        """A refusal is an answer; silence is none."""
        place = f"{inputs.host}:{inputs.port}"
        if facts.outcome == "Refused":
            return [Found(reason="ConnectionRefused", message=f"{place} refuses connections", subject=place)]
        if facts.outcome != "Connected":
            message = f"{place} can't be reached from where the operator runs ({facts.outcome})"
            return Unclear(reason="NotReachableFromHere", message=message)
        return []
