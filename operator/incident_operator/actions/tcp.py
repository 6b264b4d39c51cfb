"""TCP: does something listen at an address that the grant's probes admit, asked from here or from instances?"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from ..api.meta import Duration
from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import ConnectFrom, Connection, Reader, ReadError
from .vantage import READS, Heard, Instances, Vantage, as_heard, silence

_NO_CONNECTION: Mapping[str, Connection] = {"Refused": "Refused", "Timeout": "Timeout", "Unreachable": "Unreachable"}


class ConnectInputs(Inputs):
    """Host and port are literal: nothing that a check found can redirect it."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=253, json_schema_extra={"literal": True})]
    port: Annotated[int, Field(ge=1, le=65535, json_schema_extra={"literal": True})]
    timeout: Duration = timedelta(seconds=5)
    vantage: Vantage = "operator"
    instances: Instances | None = None
    region: str | None = None

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if (self.vantage == "instances") != (self.instances is not None):
            raise ValueError("vantage: instances and which ones they are go together")
        return self

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(seconds=30):
            raise ValueError("between 100ms and 30s")
        return value


class ConnectFacts(Facts):
    """What came of it; from instances what each of them said, and `outcome` where all said the same.

    Shape: `from_instances` with nothing heard: none of them runs.
    """

    outcome: Connection | None
    seconds: float | None = None
    heard: tuple[Heard, ...] = ()
    from_instances: bool = False


class ConnectOutput(Output):
    """The same for expressions; `connected` says the one thing most rules ask, from instances of all of them."""

    connected: bool
    outcome: Connection | None = None
    seconds: float | None = None
    heard: tuple[Heard, ...] | None = None


@register
class Connect(CheckAction[ConnectInputs, ConnectFacts]):
    """Can a connection be made? Nothing is sent over it.

    A host that refuses has answered. Silence may be due to where the operator stands, so by itself it says nothing
    about the service; a runbook that knows better declares a finding over `output.connected`. Asked from instances of
    the service's own (`vantage: instances`), silence is what the service meets, and so a finding.
    """

    name = "tcp.connect"
    title = "A TCP connection"
    inputs_model = ConnectInputs
    facts_model = ConnectFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ConnectionRefused": ReasonInfo(doc="The host answers, and nothing listens on the port."),
        "ConnectionBlocked": ReasonInfo(doc="From an instance of the service no way leads to the host and port."),
    }
    reads_from_instances = READS

    def observe(self, inputs: ConnectInputs, reader: Reader) -> ConnectFacts:
        """Connect and close. Errors: ReadError where the address may not be asked."""
        if inputs.instances is not None:
            return _from_instances(inputs, inputs.instances, reader)
        try:
            elapsed = reader.tcp(inputs.host, inputs.port, timeout=inputs.timeout)
        except ReadError as error:
            if error.reason not in _NO_CONNECTION:
                raise
            return ConnectFacts(outcome=_NO_CONNECTION[error.reason])
        return ConnectFacts(outcome="Connected", seconds=round(elapsed.total_seconds(), 3))

    def output(self, facts: ConnectFacts) -> ConnectOutput:
        """Return what came of it."""
        return ConnectOutput(
            connected=facts.outcome == "Connected",
            outcome=facts.outcome,
            seconds=facts.seconds,
            heard=facts.heard if facts.from_instances else None,
        )

    def findings(self, inputs: ConnectInputs, facts: ConnectFacts) -> Sequence[Found] | Unclear:
        """A refusal is an answer; silence is none."""
        place = f"{inputs.host}:{inputs.port}"
        if facts.from_instances:
            return judged(facts.heard, "none of the instances runs")
        if facts.outcome == "Refused":
            return [Found(reason="ConnectionRefused", message=f"{place} refuses connections", subject=place)]
        if facts.outcome != "Connected":
            message = f"{place} can't be reached from where the operator runs ({facts.outcome})"
            return Unclear(reason="NotReachableFromHere", message=message)
        return []


def _from_instances(inputs: ConnectInputs, instances: Instances, reader: Reader) -> ConnectFacts:
    chosen = instances.chosen(reader, inputs.region)
    if not chosen:
        return ConnectFacts(outcome=None, from_instances=True)
    asked = ConnectFrom(instances=chosen, host=inputs.host, port=inputs.port)
    heard = as_heard(reader.tcp_from((asked,), timeout=inputs.timeout, region=inputs.region))
    outcomes = {one.outcome for one in heard}
    return ConnectFacts(outcome=outcomes.pop() if len(outcomes) == 1 else None, heard=heard, from_instances=True)


def judged(heard: Sequence[Heard], nobody: str) -> Sequence[Found] | Unclear:
    """Return what instances met: a place that one of them does not reach is found, and one that is silent is no pass.

    Shape: `nobody` says in words whom nobody could be asked for; of nothing heard it is why.
    """
    found = []
    for one in heard:
        if one.outcome == "Refused":
            message = f"{one.label}: the connection is refused"
            found.append(Found(reason="ConnectionRefused", message=message, subject=one.instance))
        elif one.outcome in ("Timeout", "Unreachable"):
            message = f"{one.label}: no connection ({one.outcome})"
            found.append(Found(reason="ConnectionBlocked", message=message, subject=one.instance))
    silent = silence(heard, tuple(found[:12]))
    if silent is not None:
        return silent
    if not heard:
        return Unclear(reason="NoInstance", message=f"nothing was asked: {nobody}")
    return found[:12]
