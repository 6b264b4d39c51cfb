"""http.get from instances: what they are answered is judged by its status, and what they don't say is no pass."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from incident_operator.actions.base import Unclear
from incident_operator.actions.catalogue import check_action, infos
from incident_operator.actions.http import place
from incident_operator.actions.ports import FromInstance, ReadError
from incident_operator.actions.vantage import as_got
from incident_operator.core.runbook import validate
from tests.actions.reader import DictReader
from tests.builders import a_runbook

ONE, TWO = "i-00000001", "i-00000002"
_GET: dict[str, Any] = {
    "url": "http://orders.internal:8080/health",
    "vantage": "instances",
    "instances": {"autoScalingGroup": "web"},
}


def reader(one: Any = 200, two: Any = 200, running: tuple[str, ...] = (ONE, TWO)) -> DictReader:
    """Return two instances that are answered with a status, or say what is given."""
    found = [{"InstanceId": i, "State": "running"} for i in running]
    return DictReader(answers={"ec2.describe_instances": found, f"from.{ONE}": one, f"from.{TWO}": two})


def get(asked: DictReader, **inputs: Any) -> tuple[Any, Any]:
    """Return output and answer of http.get."""
    action: Any = check_action("http.get")
    given = action.inputs_model.model_validate({**_GET, **inputs})
    facts = action.observe(given, asked)
    return action.output(facts), action.findings(given, facts)


SAID: dict[str, tuple[dict[str, Any], list[str], bool, int | None]] = {
    "both are well": ({}, [], False, 200),
    "one is not": ({"two": 503}, ["UnexpectedStatus"], False, None),
    "both are not": ({"one": 503, "two": 503}, ["UnexpectedStatus", "UnexpectedStatus"], False, 503),
    "a redirect is another status": ({"one": 302}, ["UnexpectedStatus"], False, None),
    "one is refused": ({"one": "Refused"}, ["ConnectionRefused"], False, None),
    "one has no way": ({"two": "Unreachable"}, ["ConnectionBlocked"], False, None),
    "none is answered in time": ({"one": "Timeout", "two": "Timeout"}, ["NoAnswerInTime"] * 2, False, None),
    "one is silent": ({"one": "NoAnswer"}, [], True, None),
    "one said something odd": ({"two": "Failed"}, [], True, None),
    "one connected, and that is all": ({"two": "Connected"}, [], True, None),
    "one is silent, the other not well": ({"one": "NotManaged", "two": 500}, ["UnexpectedStatus"], True, None),
}


@pytest.mark.parametrize(("said", "reasons", "unclear", "status"), SAID.values(), ids=list(SAID))
def test_the_status_is_judged_and_silence_is_no_pass(
    said: dict[str, Any], reasons: list[str], unclear: bool, status: int | None
) -> None:
    """Each instance for itself; `output.status` is what all were answered with."""
    asked = reader(**said)
    output, answer = get(asked)
    assert isinstance(answer, Unclear) == unclear
    assert [f.reason for f in (answer.found if isinstance(answer, Unclear) else answer)] == reasons
    if isinstance(answer, Unclear):
        assert answer.reason == "ProbeUnanswered"
    assert (output.status, output.seconds, output.size, len(output.heard)) == (status, None, None, 2)
    places = {(a["place"], a["path"]) for name, a, _ in asked.asked if name == "tcp_from"}
    assert places == {("orders.internal:8080", "/health")}


def test_another_status_may_be_the_expected_one() -> None:
    """As from the operator's place."""
    assert get(reader(one=302), expectStatus=[200, 302])[1] == []


def test_what_was_not_probed_is_no_pass() -> None:
    """A run that only observes sends no command."""
    output, answer = get(reader(one="NotProbed", two="NotProbed"))
    assert (output.status, answer.reason, answer.found) == (None, "NotProbed", ())


def test_nobody_to_ask_is_no_pass() -> None:
    """None of the group runs."""
    output, answer = get(reader(running=()))
    assert (output.status, output.heard, answer.reason) == (None, (), "NoInstance")


def test_who_may_not_be_asked_is_an_error() -> None:
    """It is raised, never judged."""
    with pytest.raises(ReadError):
        get(reader(one=ReadError("NotGranted", "no")))


def test_a_connection_without_a_status_is_no_answer() -> None:
    """Whatever an adapter says."""
    (got,) = as_got([FromInstance(instance=ONE, host="a", port=80, outcome="Connected")])
    assert (got.outcome, got.status, got.why) == (None, None, "Failed")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a body": ({"parseJson": True}, "leave out parseJson, and give the service a path whose status"),
    "a time": ({"maxLatency": "1s"}, "leave out maxLatency, and write timeout"),
    "too long a wait": ({"timeout": "40s"}, "write a timeout up to"),
    "no instances": ({"instances": None}, "go together"),
    "instances by the operator's vantage": ({"vantage": "operator"}, "go together"),
    "TLS": ({"url": "https://orders.internal/"}, "write http://, or tcp.connect"),
    "a user": ({"url": "http://a@orders.internal/"}, "without user"),
    "a query": ({"url": "http://orders.internal/?a=b"}, "without user, query"),
    "a fragment": ({"url": "http://orders.internal/#a"}, "without user, query"),
    "another scheme": ({"url": "file:///etc/passwd"}, "http://host"),
    "IPv6": ({"url": "http://[fd00::1]/"}, "IPv4"),
    "no host that the document takes": ({"url": "http://a;id/"}, "the host of a url"),
    "a quote": ({"url": "http://a/'"}, "the path of a url"),
    "an escape": ({"url": "http://a/%0d%0a"}, "the path of a url"),
    "a shell's letter": ({"url": "http://a/$(id)"}, "the path of a url"),
    "a port too high": ({"url": "http://a:70000/"}, "ort"),
    "port 0": ({"url": "http://a:0/"}, "1 to 65535"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=list(WRONG))
def test_what_instances_can_not_tell_is_no_input(given: dict[str, Any], message: str) -> None:
    """It is refused when it is written, and says what to write instead."""
    action: Any = check_action("http.get")
    with pytest.raises(ValidationError, match=message):
        action.inputs_model.model_validate({**_GET, **given})


def test_a_url_leads_to_one_place() -> None:
    """Port 80 and the root where nothing is said."""
    assert place("http://10.0.2.5") == ("10.0.2.5", 80, "/")
    assert place("http://Orders.internal:8080/a/b") == ("orders.internal", 8080, "/a/b")


LINTED = [name for name in WRONG if not {"timeout", "instances", "vantage"} & set(WRONG[name][0])]


@pytest.mark.parametrize("name", LINTED)
def test_lint_refuses_it_too(name: str) -> None:
    """Before it is ever run, by the same words; what a parameter decides is seen at run time."""
    given, message = WRONG[name]

    def problems(inputs: dict[str, Any]) -> list[str]:
        check = {"name": "health", "action": "http.get", "inputs": inputs}
        steps = [{"name": "one", "title": "One", "expectedBy": "5m", "checks": [check]}]
        return [p.message for p in validate(a_runbook(steps=steps), infos()) if p.field.endswith(".inputs")]

    assert problems(_GET) == []
    (problem,) = problems({**_GET, **given})
    assert re.search(message, problem)
    assert problems({**_GET, **given, "vantage": "operator"}) == []
