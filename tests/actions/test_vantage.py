"""Probes from instances: whom a check asks, and what it makes of what they say, or don't."""

import json
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError

from incident_operator.actions import vantage
from incident_operator.actions.base import Unclear
from incident_operator.actions.catalogue import catalogue, check_action
from incident_operator.actions.ec2 import ConnectAlongPaths, FromPathInputs, RestoreRule
from incident_operator.actions.reads import READS
from tests.actions.reader import DictReader
from tests.actions.test_ec2 import INPUTS, a_network
from tests.repo.files import ROOT

ONE, TWO = "i-00000001", "i-00000002"
FROM_INSTANCES = FromPathInputs.model_validate({**INPUTS.wire(), "vantage": "instances"})
_CONNECT: dict[str, Any] = {
    "host": "10.0.2.5",
    "port": 5432,
    "vantage": "instances",
    "instances": {"autoScalingGroup": "web"},
}


def reader(running: tuple[str, ...] = (ONE, TWO), network: dict[str, Any] | None = None, **said: Any) -> DictReader:
    """Return a tier whose instances say what is given by name (`one`, `two`), else that they are connected."""
    answers = dict(a_network(**(network or {})).answers)
    answers["ec2.describe_instances"] = [{"InstanceId": i, "State": "running"} for i in running]
    heard = {f"from.{ONE}": said.get("one", "Connected"), f"from.{TWO}": said.get("two", "Connected")}
    return DictReader(answers={**answers, **heard})


def connect(asked: DictReader, **inputs: Any) -> tuple[Any, Any]:
    """Return output and answer of tcp.connect."""
    action: Any = check_action("tcp.connect")
    given = action.inputs_model.model_validate({**_CONNECT, **inputs})
    facts = action.observe(given, asked)
    return action.output(facts), action.findings(given, facts)


SAID: dict[str, tuple[dict[str, str], list[str], bool]] = {
    "both connect": ({}, [], False),
    "one gets no answer": ({"two": "Timeout"}, ["ConnectionBlocked"], False),
    "one has no way": ({"one": "Unreachable"}, ["ConnectionBlocked"], False),
    "both are refused": ({"one": "Refused", "two": "Refused"}, ["ConnectionRefused", "ConnectionRefused"], False),
    "one is not managed": ({"one": "NotManaged"}, [], True),
    "one said something odd": ({"two": "Failed"}, [], True),
    "one is silent, the other blocked": ({"one": "NoAnswer", "two": "Timeout"}, ["ConnectionBlocked"], True),
    "none says anything": ({"one": "NoAnswer", "two": "NotLinux"}, [], True),
}


@pytest.mark.parametrize(("said", "reasons", "unclear"), SAID.values(), ids=list(SAID))
def test_what_instances_meet_is_found_and_their_silence_is_no_pass(
    said: dict[str, str], reasons: list[str], unclear: bool
) -> None:
    """Who gave no answer is named. The same of a way between tiers."""
    output, answer = connect(reader(**said))
    assert output.connected == (not reasons and not unclear)
    action = ConnectAlongPaths()
    along = action.findings(FROM_INSTANCES, action.observe(FROM_INSTANCES, reader(**said)))
    for one in (answer, along):
        assert isinstance(one, Unclear) == unclear
        assert [f.reason for f in (one.found if isinstance(one, Unclear) else one)] == reasons
        if isinstance(one, Unclear):
            assert one.reason == "ProbeUnanswered"
            silent = {"one": ONE, "two": TWO}
            assert all(silent[who] in one.message for who, word in said.items() if word.startswith("No"))
            assert len(one.message) < 400


@pytest.mark.parametrize("two", ["NotProbed", "NotManaged"])
def test_what_was_not_probed_says_why_and_what_to_do(two: str) -> None:
    """It is no pass, whatever else is said; and who could not be asked anyway is named besides."""
    _, answer = connect(reader(one="NotProbed", two=two))
    action = ConnectAlongPaths()
    along = action.findings(FROM_INSTANCES, action.observe(FROM_INSTANCES, reader(one="NotProbed", two=two)))
    for one in (answer, along):
        assert isinstance(one, Unclear)
        assert (one.reason, one.found) == ("NotProbed", ())
        assert "not probed: an observe-only run sends no command" in one.message
        assert "askUpTo: Low" in one.message
        assert (TWO in one.message) == (two == "NotManaged")
        assert ONE not in one.message


def test_nobody_to_ask_is_no_pass() -> None:
    """None of the group runs; a tier has none; nobody is to be asked at all."""
    output, answer = connect(reader(running=()))
    assert (output.connected, answer.reason) == (False, "NoInstance")
    action = ConnectAlongPaths()
    cases = {
        "no instance of web-servers runs": (FROM_INSTANCES, reader(running=())),
        "database has no network interface": (FROM_INSTANCES, reader(network={"placed": False})),
        "no security group database": (FROM_INSTANCES, reader(network={"groups": ("web-servers",)})),
        "vantage is operator": (FromPathInputs.model_validate(INPUTS.wire()), reader()),
    }
    for message, (inputs, asked) in cases.items():
        facts = action.observe(inputs, asked)
        found = action.findings(inputs, facts)
        assert isinstance(found, Unclear)
        assert (found.reason, found.found) == ("NoInstance", ())
        assert message in found.message
        assert action.output(facts).blocked == ()


CHOSEN: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "group": ({"autoScalingGroup": "web"}, [("tag:aws:autoscaling:groupName", "web")]),
    "tag": ({"tag": {"key": "tier", "value": "web"}}, [("tag:tier", "web")]),
    "security group": (
        {"securityGroup": {"vpcId": "vpc-12345678", "name": "web"}},
        [("vpc-id", "vpc-12345678"), ("instance.group-name", "web")],
    ),
}


@pytest.mark.parametrize(("given", "filters"), CHOSEN.values(), ids=list(CHOSEN))
def test_of_those_that_run_the_first_are_asked(given: dict[str, Any], filters: list[tuple[str, str]]) -> None:
    """Bounded, and the same ones each time."""
    asked = reader(running=(TWO, ONE))
    connect(asked, instances={**given, "atMost": 1})
    (looked,) = [arguments for name, arguments, _ in asked.asked if name == "ec2.describe_instances"]
    wanted = [*filters, ("instance-state-name", "running")]
    assert [(f["Name"], *f["Values"]) for f in looked["Filters"]] == wanted
    assert [a["instance"] for name, a, _ in asked.asked if name == "tcp_from"] == [ONE]


@pytest.mark.parametrize(
    "instances",
    [
        {},
        {"autoScalingGroup": "web", "tag": {"key": "a", "value": "b"}},
        {"ids": [f"i-0000000{n}" for n in range(4)]},
        {"ids": ["web-1"]},
        {"autoScalingGroup": "web", "atMost": 4},
        None,
    ],
)
def test_too_many_or_no_particular_instances_are_no_input(instances: Any) -> None:
    """Nor a vantage without any."""
    action: Any = check_action("tcp.connect")
    with pytest.raises(ValidationError):
        action.inputs_model.model_validate({**_CONNECT, "instances": instances})


JUDGED: dict[str, tuple[dict[str, Any], str | None, bool]] = {
    "all connect": ({}, "Helped", True),
    "one does not": ({"two": "Timeout"}, None, True),
    "nothing listens": ({"one": "Refused", "two": "Refused"}, None, True),
    "one is silent": ({"two": "NoAnswer"}, None, False),
    "one is silent, the other blocked": ({"one": "Timeout", "two": "NotManaged"}, None, False),
    "none runs": ({"running": ()}, None, False),
    "the rule is not there yet": ({"network": {"ingress": []}}, None, True),
}


@pytest.mark.parametrize(("after", "outcome", "measured"), JUDGED.values(), ids=list(JUDGED))
def test_a_rule_helped_once_the_tiers_instances_connect(
    after: dict[str, Any], outcome: str | None, measured: bool
) -> None:
    """Whatever the rules say; and where that can't be told, it is not told."""
    action = RestoreRule()
    before = action.observe(FROM_INSTANCES, reader(network={"ingress": []}))
    judged = action.judge(FROM_INSTANCES, before, action.measure(FROM_INSTANCES, reader(**after)))
    assert (judged.outcome, judged.measured) == (outcome, measured)


def test_by_the_operators_vantage_nobody_is_asked() -> None:
    """The rules decide."""
    action, inputs = RestoreRule(), FromPathInputs.model_validate(INPUTS.wire())
    before, asked = action.observe(inputs, reader(network={"ingress": []})), reader(one="Timeout")
    assert action.judge(inputs, before, action.measure(inputs, asked)).outcome == "Helped"
    assert {name for name, _, _ in asked.asked} & {"tcp_from", "ec2.describe_instances"} == set()


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document_that_ships_is_the_one_that_the_operator_knows() -> None:
    """What an admin makes of the file is what is compared before anything is sent."""
    shipped = json.loads((ROOT / "manifests/aws/incident-operator-probe.json").read_text())
    assert shipped == vantage.CONTENT


@pytest.mark.parametrize(
    "text", ["a;id", "$(id)", "`id`", "a b", "a'b", 'a"b', "a\nb", "a/b", "{{ x }}", "", "-e", "a|b"]
)
def test_no_parameter_can_be_more_than_a_place(text: str) -> None:
    """Every one has a pattern, and SSM puts its value into the script as it is."""
    declared = vantage.CONTENT["parameters"]
    assert set(declared) == {"host", "port", "seconds", "path"}
    for parameter in declared.values():
        assert re.fullmatch(parameter["allowedPattern"], text) is None
    script = "\n".join(vantage.CONTENT["mainSteps"][0]["inputs"]["runCommand"])
    assert set(re.findall(r"\{\{ (\w+) \}\}", script)) == set(declared)


def said_by_the_script(
    host: str, port: int, using: str = "bash", path: str = vantage.NO_PATH, seconds: str = "20"
) -> str:
    """Return what the document's script says here; with a shell that is not there, what it would say without one."""
    script = "\n".join(vantage.CONTENT["mainSteps"][0]["inputs"]["runCommand"])
    for name, value in (("host", host), ("port", str(port)), ("seconds", seconds), ("path", path)):
        script = script.replace("{{ " + name + " }}", value)
    script = script.replace("bash", using)
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_script_connects_and_says_one_word() -> None:
    """Against real sockets. Nothing is sent: whoever accepts reads an end at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert vantage.heard(said_by_the_script("127.0.0.1", port)) == "Connected"
        client, _ = server.accept()
        with client:
            assert client.recv(16) == b""
    assert vantage.heard(said_by_the_script("127.0.0.1", port)) == "Refused"
    odd = said_by_the_script("127.0.0.1", port, using="no-such-shell")
    assert odd.startswith("incident-operator-probe/1 ")
    assert vantage.heard(odd) is None


@pytest.mark.parametrize(
    "output",
    [
        "",
        "connected",
        "incident-operator-probe/2 connected",
        "incident-operator-probe/1 Connected",
        "incident-operator-probe/1 connected\n\n",
        "incident-operator-probe/1 connected\nincident-operator-probe/1 refused\n",
        "hello\nincident-operator-probe/1 connected\n",
        "incident-operator-probe/1 failed\n",
        "incident-operator-probe/1 connected and more",
    ],
)
def test_anything_but_its_one_line_is_no_answer(output: str) -> None:
    """Of output nothing else is ever kept."""
    assert vantage.heard(output) is None


ENDED: dict[str, dict[str, Any]] = {
    "it failed": {"Status": "Failed"},
    "it was cancelled": {"Status": "Cancelled"},
    "it exited with an error": {"ResponseCode": 1},
    "it complained": {"StandardErrorContent": "sh: 1: bash: not found"},
    "it is another document's": {"DocumentName": "AWS-RunShellScript"},
    "no exit status": {"ResponseCode": None},
}


@pytest.mark.parametrize("path", ["/", "/health", "/a/b-c_d.e~f/", "/" + "a" * 255])
def test_a_path_is_letters_that_mean_nothing_to_anyone(path: str) -> None:
    """What asks for one, and no other thing."""
    assert re.fullmatch(vantage.PATH_PATTERN, path)


@pytest.mark.parametrize("text", ["/a b", "/%0d", "/a?b=c", "/'", '/"', "/$(id)", "/\\n", "/a\n", "--", "a", "/" * 257])
def test_no_path_has_a_letter_that_does(text: str) -> None:
    """No quote, space, percent, backslash or line end."""
    assert re.fullmatch(vantage.PATH_PATTERN, text) is None


ANSWERS: dict[str, tuple[bytes, str]] = {
    "it is well": (b"HTTP/1.1 200 OK\r\n\r\nmy secret", "answered 200"),
    "of the older kind, without a phrase": (b"HTTP/1.0 503\r\n\r\n", "answered 503"),
    "a redirect is not followed": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "answered 302"),
    "it is not final": (b"HTTP/1.1 100 Continue\r\n\r\n", "connected"),
    "not HTTP": (b"-ERR unknown command, my secret\r\n", "connected"),
    "no status of HTTP": (b"HTTP/1.1 2000 OK\r\n\r\n", "connected"),
    "words that the script knows": (b"Connection refused\r\n", "connected"),
    "too short": (b"HTTP/1.1 20", "failed"),
    "nothing": (b"", "failed"),
}


@pytest.mark.parametrize(("answer", "word"), ANSWERS.values(), ids=list(ANSWERS))
def test_the_script_gets_a_path_and_says_the_status(answer: bytes, word: str) -> None:
    """One GET, the same each time, and of the answer three digits or none of it."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(60)
        port = server.getsockname()[1]

        def serve() -> bytes:
            client, _ = server.accept()
            with client:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    more = client.recv(1024)
                    if not more:
                        break
                    asked += more
                client.sendall(answer)
            return asked

        served = pool.submit(serve)
        said = said_by_the_script("127.0.0.1", port, path="/a-b/c.d")
        assert said == f"incident-operator-probe/1 {word}\n"
        wanted = f"GET /a-b/c.d HTTP/1.1|Host: 127.0.0.1:{port}|User-Agent: incident-operator|Connection: close||"
        assert served.result().decode() == wanted.replace("|", "\r\n")
    assert vantage.answered(said) == (int(word[-3:]) if word.startswith("answered") else None)


def test_who_accepts_and_says_nothing_has_not_answered() -> None:
    """Though it is connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert vantage.heard(said_by_the_script("127.0.0.1", port, path="/", seconds="1")) == "Timeout"


@pytest.mark.parametrize(
    "output",
    [
        *("", "answered 200", "incident-operator-probe/1 answered", "incident-operator-probe/1 answered 20"),
        *("incident-operator-probe/1 answered 2000", "incident-operator-probe/1 answered 100"),
        *("incident-operator-probe/1 answered 200\n\n", "incident-operator-probe/1 answered 200 OK"),
        *("x\nincident-operator-probe/1 answered 200\n", "incident-operator-probe/1 connected\n"),
        "incident-operator-probe/1 answered ٢٠٠\n",
    ],
)
def test_anything_but_its_one_status_is_none(output: str) -> None:
    """To a connection a status is no answer either."""
    assert vantage.answered(output) is None
    assert vantage.heard("incident-operator-probe/1 answered 200\n") is None


def test_a_commands_answer_is_one_word_or_none() -> None:
    """Nothing of what else an instance prints gets through, and a state that SSM does not have is refused."""
    project = READS["ssm", "get_command_invocation"].project
    good = {
        "CommandId": "c",
        "InstanceId": ONE,
        "DocumentName": vantage.DOCUMENT,
        "Status": "Success",
        "ResponseCode": 0,
        "StandardOutputContent": "incident-operator-probe/1 connected\n",
        "StandardErrorContent": "",
    }
    assert project(good) == {"command": "c", "instance": ONE, "state": "Success", "outcome": "Connected"}
    status = {**good, "StandardOutputContent": "incident-operator-probe/1 answered 503\n"}
    assert project(status) == {"command": "c", "instance": ONE, "state": "Success", "outcome": None, "status": 503}
    for changed in ENDED.values():
        assert project({**good, **changed})["outcome"] is None
        assert "status" not in project({**status, **changed})
    assert "secret" not in str(project({**good, "StandardOutputContent": "my secret"}))
    with pytest.raises(ValueError, match="state"):
        project({**good, "Status": "Done"})


def test_who_asks_instances_says_so() -> None:
    """Least-privilege policies are made from it."""
    asking = {name for name, action in catalogue().items() if action.reads_from_instances}
    assert asking == {"http.get", "tcp.connect", "ec2.connect", "ec2.restore-security-group-rule"}
    assert {p for name in asking for p in catalogue()[name].reads_from_instances} == set(vantage.READS)
