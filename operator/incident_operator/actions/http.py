"""HTTP: one GET of an address that the grant's probes admit, asked from here or from instances."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ..api.meta import Duration
from .base import CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import ConnectFrom, Reader
from .vantage import HOST_PATTERN, NO_PATH, PATH_PATTERN, READS, Got, Instances, Vantage, as_got, silence

#: How long an instance may be waited for, as the probe document takes it.
_LONGEST = timedelta(seconds=30)


class GetInputs(Inputs):
    """The address is literal: nothing that a check found can redirect it."""

    url: str = Field(max_length=2048, json_schema_extra={"literal": True})
    timeout: Duration = timedelta(seconds=5)
    expect_status: tuple[int, ...] = (200,)
    max_latency: Duration | None = None
    parse_json: bool = False
    vantage: Vantage = "operator"
    instances: Instances | None = None
    region: str | None = None

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if (self.vantage == "instances") != (self.instances is not None):
            raise ValueError("vantage: instances and which ones they are go together")
        if self.instances is None:
            return self
        if why := _status_only(body=self.parse_json, time=self.max_latency is not None):
            raise ValueError(why)
        if self.timeout > _LONGEST:
            raise ValueError("instances are waited for 30s at most: write a timeout up to that")
        place(self.url)
        return self


def _status_only(*, body: bool, time: bool) -> str:
    """Return what to write instead of what instances can't tell; empty where nothing of it is asked."""
    if body:
        return (
            "instances say the status only: leave out parseJson, and give the service a path whose status says what "
            "the body would, or ask with vantage: operator"
        )
    if time:
        return (
            "instances say the status only: leave out maxLatency, and write timeout for how long an answer may take, "
            "or ask with vantage: operator"
        )
    return ""


def place(url: str) -> tuple[str, int, str]:
    """Return host, port and path of what instances GET. Errors: ValueError, which says what to write instead."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        raise ValueError("instances speak no TLS: write http://, or tcp.connect with vantage: instances")
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("from instances a url is http://host[:port]/path, without user, query and fragment")
    if ":" in parts.hostname or re.fullmatch(HOST_PATTERN, parts.hostname) is None:
        raise ValueError("from instances the host of a url is a name or an IPv4 address")
    path = parts.path or "/"
    if path == NO_PATH or re.fullmatch(PATH_PATTERN, path) is None:
        raise ValueError("from instances the path of a url has letters, digits and /_.~- only, 256 at most")
    port = 80 if parts.port is None else parts.port
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    return parts.hostname, port, path


class GetFacts(Facts):
    """The answer in short; the body only as JSON, if asked for. From instances what each of them was answered.

    Shape: from instances `status` is the one that all were answered with, None where they were not; no time, no size.
    `from_instances` with nothing heard: none of them runs.
    """

    status: int | None
    seconds: float | None = None
    size: int | None = None
    body: Any = None
    heard: tuple[Got, ...] = ()
    from_instances: bool = False


class GetOutput(Output):
    """The same for expressions; from instances `status` is the one that all were answered with."""

    status: int | None = None
    seconds: float | None = None
    size: int | None = None
    json_: Any = Field(None, alias="json")
    heard: tuple[Got, ...] | None = None


@register
class Get(CheckAction[GetInputs, GetFacts]):
    """Does an address answer as expected, in time?

    From instances of the service's own (`vantage: instances`) the status alone is judged, over plain HTTP. What keeps
    them from an answer is what the service meets, and so a finding.
    """

    name = "http.get"
    title = "An HTTP endpoint"
    inputs_model = GetInputs
    facts_model = GetFacts
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "UnexpectedStatus": ReasonInfo(doc="The endpoint answered with another status."),
        "TooSlow": ReasonInfo(doc="The endpoint took longer than it should."),
        "ConnectionRefused": ReasonInfo(doc="From an instance of the service the connection is refused."),
        "ConnectionBlocked": ReasonInfo(doc="From an instance of the service no way leads to the host and port."),
        "NoAnswerInTime": ReasonInfo(doc="An instance of the service was not connected or not answered in time."),
    }
    reads_from_instances = READS

    def refused(self, inputs: Mapping[str, Any]) -> str:
        """Return what to write instead of what instances can't tell."""
        if inputs.get("vantage") != "instances":
            return ""
        if why := _status_only(body=inputs.get("parseJson") is True, time=inputs.get("maxLatency") is not None):
            return why
        try:
            place(str(inputs.get("url", "")))
        except ValueError as error:
            return str(error)
        return ""

    def observe(self, inputs: GetInputs, reader: Reader) -> GetFacts:
        """Get the address. Errors: ReadError where it does not answer or may not be asked."""
        if inputs.instances is not None:
            return _from_instances(inputs, inputs.instances, reader)
        answer = reader.http_get(inputs.url, timeout=inputs.timeout, parse_json=inputs.parse_json)
        return GetFacts(
            status=answer.status, seconds=answer.elapsed.total_seconds(), size=answer.size, body=answer.json
        )

    def output(self, facts: GetFacts) -> GetOutput:
        """Return status, time and size."""
        return GetOutput(
            status=facts.status,
            seconds=None if facts.seconds is None else round(facts.seconds, 3),
            size=facts.size,
            json_=facts.body,
            heard=facts.heard if facts.from_instances else None,
        )

    def findings(self, inputs: GetInputs, facts: GetFacts) -> Sequence[Found] | Unclear:
        """Compare status and time."""
        if facts.from_instances:
            return _judged(inputs, facts.heard)
        if facts.status not in inputs.expect_status:
            wanted = ", ".join(str(s) for s in inputs.expect_status)
            message = f"{inputs.url} answered {facts.status}, not {wanted}"
            return [Found(reason="UnexpectedStatus", message=message, subject=inputs.url)]
        if inputs.max_latency is None:
            return []
        if facts.seconds is None:
            return Unclear(reason="NotMeasured", message=f"how long {inputs.url} took is not known")
        if facts.seconds > inputs.max_latency.total_seconds():
            message = f"{inputs.url} took {facts.seconds:.2f} s"
            return [Found(reason="TooSlow", message=message, subject=inputs.url)]
        return []


def _from_instances(inputs: GetInputs, instances: Instances, reader: Reader) -> GetFacts:
    chosen = instances.chosen(reader, inputs.region)
    if not chosen:
        return GetFacts(status=None, from_instances=True)
    host, port, path = place(inputs.url)
    asked = ConnectFrom(instances=chosen, host=host, port=port, path=path)
    heard = as_got(reader.tcp_from((asked,), timeout=inputs.timeout, region=inputs.region))
    statuses = {one.status for one in heard}
    return GetFacts(status=statuses.pop() if len(statuses) == 1 else None, heard=heard, from_instances=True)


def _judged(inputs: GetInputs, heard: Sequence[Got]) -> Sequence[Found] | Unclear:
    """Return what instances were answered. One that says nothing is no pass, and neither is nobody to ask."""
    found = []
    for one in heard:
        if one.outcome == "Refused":
            reason, message = "ConnectionRefused", "the connection is refused"
        elif one.outcome == "Unreachable":
            reason, message = "ConnectionBlocked", "no way leads there"
        elif one.outcome == "Timeout":
            reason, message = "NoAnswerInTime", f"no answer in {inputs.timeout.total_seconds():g} s"
        elif one.status is not None and one.status not in inputs.expect_status:
            wanted = ", ".join(str(s) for s in inputs.expect_status)
            reason, message = "UnexpectedStatus", f"answered {one.status}, not {wanted}"
        else:
            continue
        found.append(Found(reason=reason, message=f"{one.label}: {message}", subject=one.instance))
    silent = silence(heard, tuple(found))
    if silent is not None:
        return silent
    if not heard:
        return Unclear(reason="NoInstance", message="nothing was asked: none of the instances runs")
    return found
