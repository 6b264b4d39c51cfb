"""What is asked of instances, and when nothing is: the one call of the observing port that AWS counts as a change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.ports import ConnectFrom, FromInstance, NotFound, ReadError
from incident_operator.actions.reads.commands import digest
from incident_operator.actions.vantage import CONTENT, DOCUMENT
from incident_operator.adapters import vantage
from incident_operator.adapters.aws import Gateway
from incident_operator.api.grant import ActionGrant, AwsGrant
from tests.builders import NOW, a_grant

ONE, TWO = "i-00000001", "i-00000002"
ACCOUNT, REGION = "123456789012", "us-east-1"
PLACE = ConnectFrom(instances=(ONE, TWO), host="10.0.2.5", port=5432)
PROBES: Mapping[str, Any] = {
    "cidrs": ["10.0.0.0/16"],
    "ports": [5432],
    "instances": [f"arn:aws:ec2:*:{ACCOUNT}:instance/*"],
}


def granting(probes: Mapping[str, Any] = PROBES, **spec: Any) -> ActionGrant:
    """Return a grant with these probes."""
    wire = a_grant().model_dump(mode="json", by_alias=True, exclude_none=True)
    return ActionGrant.model_validate({**wire, "spec": {**wire["spec"], "probes": dict(probes), **spec}})


@dataclass
class Ssm:
    """SSM as the gateway shows it. Shape: `ends` by instance, one after another; an exception is raised."""

    ends: dict[str, list[Any]] = field(default_factory=dict)
    managed: list[dict[str, Any]] = field(
        default_factory=lambda: [{"instance": i, "online": True, "linux": True} for i in (ONE, TWO)]
    )
    document: Any = field(
        default_factory=lambda: {"name": DOCUMENT, "version": "3", "digest": digest(json.loads(json.dumps(CONTENT)))}
    )
    described: Any = field(
        default_factory=lambda: {
            "name": DOCUMENT,
            "owner": ACCOUNT,
            "version": "3",
            "hash": "abc",
            "hashType": "Sha256",
            "status": "Active",
        }
    )
    sent: list[tuple[Any, ...]] = field(default_factory=list)

    def listed(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Answer a read that a diagnosis shares."""
        found = {
            "describe_instance_information": self.managed,
            "get_document": self.document,
            "describe_document": self.described,
        }[operation]
        if isinstance(found, Exception):
            raise found
        return found

    def read(self, grant: AwsGrant, region: str, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Say how far a command is."""
        assert (service, operation, arguments["CommandId"]) == ("ssm", "get_command_invocation", "c")
        waiting = self.ends.setdefault(arguments["InstanceId"], [ended(arguments["InstanceId"])])
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(found, Exception):
            raise found
        return found

    def send_probe(self, grant: AwsGrant, region: str, instances: Any, *arguments: Any) -> str:
        """Remember what is sent."""
        self.sent.append((tuple(instances), *arguments))
        return "c"


def ended(instance: str, state: str = "Success", outcome: str | None = "Connected", command: str = "c") -> Any:
    """Return an invocation, as it is read."""
    return {"command": command, "instance": instance, "state": state, "outcome": outcome}


def ask(
    ssm: Ssm, grant: ActionGrant | None = None, *asked: ConnectFrom, observe_only: bool = False
) -> dict[str, FromInstance]:
    """Let the instances connect; return what each said."""
    answers = vantage.ask(
        ssm,  # type: ignore[arg-type]
        grant or granting(),
        REGION,
        asked or (PLACE,),
        timeout=timedelta(milliseconds=1500),
        read=ssm.listed,
        api_server=("10.0.9.9", 5432),
        observe_only=observe_only,
    )
    return {answer.instance: answer for answer in answers}


def test_the_document_is_sent_as_it_was_seen_with_a_place_and_a_time() -> None:
    """By version and hash, and whatever is under way is waited for."""
    under_way = [NotFound("not yet"), ended(ONE, "Pending", None), ReadError("Throttled", "slow"), ended(ONE)]
    ssm = Ssm(ends={ONE: under_way})
    assert {i: a.outcome for i, a in ask(ssm).items()} == {ONE: "Connected", TWO: "Connected"}
    document = {"DocumentVersion": "3", "DocumentHash": "abc", "DocumentHashType": "Sha256"}
    assert ssm.sent == [((ONE, TWO), document, "10.0.2.5", 5432, 2)]


REFUSED: dict[str, tuple[Ssm, ActionGrant, ConnectFrom, str]] = {
    "the grant lists no instance": (Ssm(), granting({**PROBES, "instances": []}), PLACE, "NotGranted"),
    "the grant lists others": (
        Ssm(),
        granting({**PROBES, "instances": [f"arn:aws:ec2:*:{ACCOUNT}:instance/{ONE}"]}),
        PLACE,
        "NotGranted",
    ),
    "the grant is suspended": (Ssm(), granting(suspended={"reason": "halted"}), PLACE, "NotGranted"),
    "another network": (Ssm(), granting(), ConnectFrom(instances=(ONE,), host="10.9.0.1", port=5432), "NotGranted"),
    "another port": (Ssm(), granting(), ConnectFrom(instances=(ONE,), host="10.0.2.5", port=22), "NotGranted"),
    "a name that is not listed": (Ssm(), granting(), ConnectFrom(instances=(ONE,), host="db", port=5432), "NotGranted"),
    "metadata": (
        Ssm(),
        granting({**PROBES, "cidrs": ["0.0.0.0/0"]}),
        ConnectFrom(instances=(ONE,), host="169.254.169.254", port=5432),
        "NotGranted",
    ),
    "the API server": (Ssm(), granting(), ConnectFrom(instances=(ONE,), host="10.0.9.9", port=5432), "NotGranted"),
    "what is no host": (
        Ssm(),
        granting({**PROBES, "hosts": ["a;id"]}),
        ConnectFrom(instances=(ONE,), host="a;id", port=5432),
        "InvalidRequest",
    ),
    "too many instances": (
        Ssm(),
        granting(),
        ConnectFrom(instances=tuple(f"i-0000000{n}" for n in range(4)), host="10.0.2.5", port=5432),
        "InvalidRequest",
    ),
    "no document": (Ssm(document=NotFound("none")), granting(), PLACE, "ProbeDocumentMissing"),
    "another content": (
        Ssm(document={"name": DOCUMENT, "version": "3", "digest": digest({**CONTENT, "description": "mine"})}),
        granting(),
        PLACE,
        "ProbeDocumentChanged",
    ),
    "another version than was read": (
        Ssm(described={**Ssm().described, "version": "4"}),
        granting(),
        PLACE,
        "ProbeDocumentChanged",
    ),
    "another account's": (
        Ssm(described={**Ssm().described, "owner": "999999999999"}),
        granting(),
        PLACE,
        "ProbeDocumentChanged",
    ),
    "not active": (Ssm(described={**Ssm().described, "status": "Creating"}), granting(), PLACE, "ProbeDocumentChanged"),
    "nobody may look": (Ssm(document=ReadError("AccessDenied", "no")), granting(), PLACE, "AccessDenied"),
}


@pytest.mark.parametrize(("ssm", "grant", "asked", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_nothing_is_sent_but_what_is_granted_by_the_document_that_is_known(
    ssm: Ssm, grant: ActionGrant, asked: ConnectFrom, reason: str
) -> None:
    """The check is an error, and SSM is asked for nothing."""
    with pytest.raises(ReadError) as refused:
        ask(ssm, grant, asked)
    assert refused.value.reason == reason
    assert ssm.sent == []
    with pytest.raises(ReadError) as refused:
        ask(ssm, grant, asked, observe_only=True)
    assert refused.value.reason == reason


def test_who_only_observes_reads_all_that_leads_to_it_and_sends_nothing() -> None:
    """Who could not be asked anyway is told from who was not; nobody's answer is read."""
    ssm = Ssm(managed=[{"instance": ONE, "online": True, "linux": True}], ends={ONE: [AssertionError("read")]})
    answers = ask(ssm, observe_only=True)
    assert {i: (a.outcome, a.why) for i, a in answers.items()} == {ONE: (None, "NotProbed"), TWO: (None, "NotManaged")}
    assert ssm.sent == []


def test_who_has_no_agent_is_left_out_and_said() -> None:
    """Lost, unknown, or not Linux; with nobody left nothing is sent, and the document not even looked for."""
    ssm = Ssm(managed=[{"instance": ONE, "online": True, "linux": True}])
    answers = ask(ssm)
    assert (answers[ONE].outcome, answers[TWO].outcome, answers[TWO].why) == ("Connected", None, "NotManaged")
    assert [instances for instances, *_ in ssm.sent] == [(ONE,)]
    managed = [{"instance": ONE, "online": False, "linux": True}, {"instance": TWO, "online": True, "linux": False}]
    ssm = Ssm(managed=managed, document=AssertionError("looked for"))
    assert {i: a.why for i, a in ask(ssm).items()} == {ONE: "NotManaged", TWO: "NotLinux"}
    assert ssm.sent == []


ODD: dict[str, tuple[Any, str]] = {
    "it said something else": (ended(ONE, outcome=None), "Failed"),
    "it failed": (ended(ONE, "Failed"), "Failed"),
    "it was cancelled": (ended(ONE, "Cancelled"), "Failed"),
    "it was never delivered": (ended(ONE, "TimedOut", None), "NoAnswer"),
    "another command's": (ended(ONE, command="d"), "Failed"),
    "another instance's": (ended(TWO), "Failed"),
}


@pytest.mark.parametrize(("odd", "why"), ODD.values(), ids=list(ODD))
def test_what_is_odd_in_any_way_is_no_answer(odd: Any, why: str) -> None:
    """Though the word in it is a good one."""
    answer = ask(Ssm(ends={ONE: [odd]}))[ONE]
    assert (answer.outcome, answer.why) == (None, why)


def test_who_does_not_end_in_time_gave_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending, or never shown; and an error that does not pass by itself is one of the check."""
    monkeypatch.setattr(vantage, "_REACH_SECONDS", -60.0)
    answers = ask(Ssm(ends={ONE: [ended(ONE, "InProgress", None)], TWO: [NotFound("never")]}))
    assert {i: (a.outcome, a.why) for i, a in answers.items()} == {ONE: (None, "NoAnswer"), TWO: (None, "NoAnswer")}
    with pytest.raises(ReadError, match="no"):
        ask(Ssm(ends={ONE: [ReadError("AccessDenied", "no")]}))


GET = ConnectFrom(instances=(ONE,), host="10.0.2.5", port=5432, path="/health")


def got(outcome: str | None = None, status: int | None = None) -> dict[str, Any]:
    """Return an invocation that ended, as it is read: with a word, or a status."""
    return {**ended(ONE, outcome=outcome), **({"status": status} if status is not None else {})}


SAID: dict[str, tuple[Any, tuple[str | None, int | None, str]]] = {
    "a status": (got(status=503), ("Connected", 503, "")),
    "it is refused": (got("Refused"), ("Refused", None, "")),
    "no answer came": (got("Timeout"), ("Timeout", None, "")),
    "connected, and that is all": (got("Connected"), (None, None, "Failed")),
    "something else": (got(), (None, None, "Failed")),
    "it failed": ({**got(status=200), "state": "Failed"}, (None, None, "Failed")),
    "it was never delivered": ({**got(status=200), "state": "TimedOut"}, (None, None, "NoAnswer")),
    "another command's": ({**got(status=200), "command": "d"}, (None, None, "Failed")),
}


@pytest.mark.parametrize(("said", "wanted"), SAID.values(), ids=list(SAID))
def test_of_a_get_a_status_is_the_answer(said: Any, wanted: tuple[str | None, int | None, str]) -> None:
    """What says that the connection stands, and no more, is none."""
    ssm = Ssm(ends={ONE: [said]})
    answer = ask(ssm, None, GET)[ONE]
    assert (answer.outcome, answer.status, answer.why) == wanted
    assert [arguments[2:] for _, *arguments in ssm.sent] == [[5432, 2, "/health"]]


def test_a_status_is_no_answer_to_a_connection() -> None:
    """It was not asked for."""
    answer = ask(Ssm(ends={ONE: [got(status=200)]}))[ONE]
    assert (answer.outcome, answer.status, answer.why) == (None, None, "Failed")


@pytest.mark.parametrize(
    ("host", "path"),
    [("10.0.2.5", "-"), ("10.0.2.5", "/$(id)"), ("10.0.2.5", "health"), ("10.0.2.5", "/a\n"), ("fd00::1", "/")],
)
def test_no_path_is_sent_that_the_document_does_not_take(host: str, path: str) -> None:
    """Nor one with an address that is no host of HTTP as it stands."""
    ssm, asked = Ssm(), ConnectFrom(instances=(ONE,), host=host, port=5432, path=path)
    with pytest.raises(ReadError) as refused:
        ask(ssm, granting({**PROBES, "cidrs": ["10.0.0.0/16", "fd00::/16"]}), asked)
    assert (refused.value.reason, ssm.sent) == ("InvalidRequest", [])


class Recording(Gateway):
    """A gateway that makes no call, and remembers those that it would make."""

    def __init__(self) -> None:
        super().__init__(now=lambda: NOW, scaled=lambda wait: wait)
        self.assumed: list[tuple[str, str, Any]] = []
        self.made: list[dict[str, Any]] = []

    def _assume(self, role: str, region: str, name: str, policy: str) -> Mapping[str, Any]:
        self.assumed.append((role, name, json.loads(policy)))
        return {}

    def _client(self, service: str, region: str, config: Any, credentials: Any = None) -> Any:
        assert (service, config.retries["total_max_attempts"]) == ("ssm", 1)
        return self

    def send_command(self, **arguments: Any) -> Any:
        """Remember it."""
        self.made.append(arguments)
        return {"Command": {"CommandId": "c"}}


def test_a_probe_is_sent_once_under_a_session_of_just_it() -> None:
    """The reading role's; whatever `document` says, the name is the one document's, and there is nothing else."""
    grant = granting().spec.aws
    assert grant is not None
    gateway = Recording()
    document = {"DocumentVersion": "3", "DocumentHash": "abc", "DocumentHashType": "Sha256", "DocumentName": "AWS-Run"}
    assert gateway.send_probe(grant, REGION, [ONE], document, "10.0.2.5", 5432, 5) == "c"
    ((role, name, policy),) = gateway.assumed
    assert (role, name) == (grant.read_role_arn or grant.role_arn, "incident-operator-probe")
    (statement,) = policy["Statement"]
    assert statement["Action"] == ["ssm:SendCommand"]
    assert statement["Resource"] == [
        f"arn:aws:ssm:{REGION}:{ACCOUNT}:document/{DOCUMENT}",
        f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{ONE}",
    ]
    (made,) = gateway.made
    assert made == {
        "DocumentName": DOCUMENT,
        "DocumentVersion": "3",
        "DocumentHash": "abc",
        "DocumentHashType": "Sha256",
        "InstanceIds": [ONE],
        "Parameters": {"host": ["10.0.2.5"], "port": ["5432"], "seconds": ["5"]},
        "TimeoutSeconds": 30,
    }
    gateway.send_probe(grant, REGION, [ONE], document, "10.0.2.5", 5432, 5, "/health")
    parameters = {"host": ["10.0.2.5"], "port": ["5432"], "seconds": ["5"], "path": ["/health"]}
    assert gateway.made[1:] == [{**made, "Parameters": parameters}]
