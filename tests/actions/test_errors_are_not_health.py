"""A check that gets no answer is Error or Inconclusive: it never passes, and it never finds anything.

Asked of every check of every runbook that ships, as the operator asks it: with the runbook's own inputs and findings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from incident_operator.actions.base import Unclear
from incident_operator.actions.catalogue import check_action, infos
from incident_operator.actions.connected import SYMPTOMS
from incident_operator.actions.ports import ConnectFrom, NotFound, ReadError, RedisAnswer, Rows, Scalar
from incident_operator.actions.reads import READS
from incident_operator.api.runbook import Check, ClusterRunbook, FindingKind
from incident_operator.core.expressions import ExpressionError, evaluate, render
from incident_operator.core.runbook import bind_inputs, bind_parameters, dependencies, with_closeout
from tests.actions.runbook_samples import SAMPLES
from tests.builders import NOW

FOLDER = Path(__file__).parents[2] / "manifests/runbooks"
RUNBOOKS = {
    path.stem: ClusterRunbook.model_validate(yaml.safe_load(path.read_text()))
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
}
#: Each as the adapters raise it, of AWS and of connections.
FAILURES = {
    "denied": ReadError("AccessDenied", "denied", code="AccessDenied"),
    "throttled": ReadError("Throttled", "throttled", code="ThrottlingException"),
    "timeout": ReadError("Timeout", "no answer in time"),
    "unreachable": ReadError("Unreachable", "no way there"),
    "malformed": ReadError("MalformedAnswer", "something unexpected"),
    "refused": ReadError("InvalidRequest", "refused", code="ValidationError"),
    "not granted": ReadError("NotGranted", "not granted"),
}
#: What only connections raise. The other reasons of theirs are symptoms, and so findings (`actions.connected`).
CONNECTION_FAILURES = {
    "nothing listens": ReadError("Refused", "the host refuses connections"),
    "no such connection": ReadError("ConnectionMissing", "the run gives no connection of this name"),
    "connection invalid": ReadError("ConnectionInvalid", "the Secret is no connection's"),
    "role too powerful": ReadError("RoleTooPowerful", "the role may write"),
}
_ELAPSED = timedelta(milliseconds=3)


@dataclass
class EndingReader:
    """Implements `actions.ports.Reader`: every read ends as told. Shape: `made` has what was read.

    `end` is given service and operation; of a connection `postgres` and the statement, or `redis` and the command; of
    a probe `http` or `tcp`, and where to.
    """

    end: Callable[[str, str], Any]
    made: list[tuple[str, str]] = field(default_factory=list)
    since: datetime = NOW - timedelta(minutes=15)
    now: datetime = NOW
    account: str = "123456789012"
    region: str = "us-east-1"
    global_region: str = "us-east-1"
    protected_actors: tuple[str, ...] = ()

    def scaled(self, wait: timedelta) -> timedelta:
        """Return the wait: real time."""
        return wait

    def prefetch(self, service: str, operation: str, *arguments: Mapping[str, Any], region: str | None = None) -> None:
        """Begin nothing."""

    def _ended(self, service: str, operation: str) -> Any:
        self.made.append((service, operation))
        return self.end(service, operation)

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """End as told. Errors: PermissionError for what is not listed."""
        if (service, operation) not in READS:
            raise PermissionError(f"{service}.{operation} is not a listed read")
        return self._ended(service, operation)

    def postgres(self, connection: str, statement: str, arguments: Sequence[Scalar] = (), **_: Any) -> Any:
        """End as told."""
        return self._ended("postgres", statement)

    def redis(self, connection: str, command: str, **_: Any) -> Any:
        """End as told."""
        return self._ended("redis", command)

    def http_get(self, url: str, **_: Any) -> Any:
        """End as told."""
        return self._ended("http", url)

    def tcp(self, host: str, port: int, **_: Any) -> Any:
        """End as told."""
        return self._ended("tcp", f"{host}:{port}")

    def tcp_from(self, asked: Sequence[ConnectFrom], **_: Any) -> Any:
        """End as told."""
        return self._ended("tcp_from", " ".join(f"{one.host}:{one.port}" for one in asked))


def raising(error: Exception) -> Callable[[str, str], NoReturn]:
    """Return what raises an error."""

    def end(service: str, operation: str) -> NoReturn:
        raise error

    return end


def lacking(which: int) -> Callable[[str, str], NoReturn]:
    """Return what says that there is no such thing, by one of the codes that the read lists for that.

    Errors: ReadError InvalidRequest of a read without any: nothing else comes of it.
    """

    def end(service: str, operation: str) -> NoReturn:
        codes = READS[service, operation].missing if (service, operation) in READS else ()
        if not codes:
            raise ReadError("InvalidRequest", "refused", code="ValidationError")
        raise NotFound("there is none", code=codes[which])

    return end


def empty(service: str, operation: str) -> Any:
    """Return what the adapters make of an answer with nothing in it. Errors: ReadError MalformedAnswer, as theirs."""
    if service == "postgres":
        return Rows(rows=(), truncated=False, withheld=0, sees_all=True, elapsed=_ELAPSED)
    if service == "redis":
        return _empty_redis(operation)
    listed = READS[service, operation]
    try:
        return listed.project({listed.items: []} if listed.items else {})
    except (KeyError, TypeError, ValueError):
        raise ReadError("MalformedAnswer", f"{service}.{operation} answered something unexpected") from None


def _empty_redis(command: str) -> RedisAnswer:
    if command == "ROLE":
        raise ReadError("MalformedAnswer", "ROLE was answered by something unexpected")
    if command == "CLIENT LIST":
        return RedisAnswer(elapsed=_ELAPSED, fields={"clients": 0, "addresses": 0}, rows=())
    if command.startswith("INFO"):
        return RedisAnswer(elapsed=_ELAPSED, fields={})
    return RedisAnswer(elapsed=_ELAPSED)


@dataclass(frozen=True)
class Answer:
    """What the operator would store of a check: its state, and the reasons of the problems it found."""

    state: str
    problems: tuple[str, ...] = ()


def ask(runbook: ClusterRunbook, check: Check, reader: Any) -> Answer:
    """Ask a check as the operator does, in its controllers' order: inputs, facts, output, findings, the runbook's."""
    sample = SAMPLES[runbook.metadata.name]
    parameters, problems = bind_parameters(runbook.spec, dict(sample.parameters))
    assert problems == ()
    checks = {name: {"output": dict(output)} for name, output in sample.outputs.items()}
    incident = {"detectedAt": NOW.isoformat()}
    variables = {
        "parameters": parameters,
        "checks": checks,
        "findings": [],
        "incident": incident,
        "now": NOW.isoformat(),
    }
    action: Any = check_action(check.action)
    bound = bind_inputs(infos()[check.action], check.inputs, [p.name for p in runbook.spec.parameters])
    rendered = render(bound, "input", variables)
    inputs = action.inputs_model.model_validate({k: v for k, v in rendered.items() if v is not None})
    try:
        facts = action.observe(inputs, reader)
        output, found = action.output(facts).wire(), action.findings(inputs, facts)
    except ReadError:
        return Answer("Error")
    problems_found = [
        f.reason
        for f in (found.found if isinstance(found, Unclear) else found)
        if action.reasons[f.reason].kind == FindingKind.PROBLEM
    ]
    seen, failed = {"output": output, "inputs": inputs.wire(), "parameters": parameters}, False
    seen["now"] = NOW.isoformat()
    for rule in check.findings:
        try:
            holds = evaluate(rule.when, "finding", seen) is True
        except ExpressionError:
            failed = True
            continue
        if holds and rule.kind == FindingKind.PROBLEM:
            problems_found.append(rule.reason)
    if problems_found:
        return Answer("Failed", tuple(problems_found))
    if isinstance(found, Unclear):
        return Answer("Inconclusive")
    return Answer("Error" if failed else "Passed")


def every_check() -> Iterator[Any]:
    """Yield every check of every shipped runbook, those of its close-out as well."""
    for name, runbook in RUNBOOKS.items():
        for check in with_closeout(runbook.spec).checks:
            yield pytest.param(runbook, check, id=f"{name}-{check.name}")


def every_connected_check() -> Iterator[Any]:
    """Yield those that ask a connection of the run."""
    for given in every_check():
        _, check = given.values
        if "connection" in check.inputs:
            yield given


def test_every_runbook_that_ships_has_a_sample() -> None:
    """With all that its checks read of each other, and nothing for checks that it does not have."""
    assert set(SAMPLES) == set(RUNBOOKS)
    for name, runbook in RUNBOOKS.items():
        spec, sample = with_closeout(runbook.spec), SAMPLES[name]
        names = {check.name for check in spec.checks}
        read = set().union(*(dependencies(spec)[check] for check in names))
        assert read <= set(sample.outputs), name
        assert {*sample.absent, *sample.elsewhere, *sample.unset, *sample.empty, *sample.unlisted} <= names, name


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_a_check_whose_reads_fail_neither_passes_nor_finds(runbook: ClusterRunbook, check: Check, failure: str) -> None:
    """Whatever the reason, and though the check reads for sure."""
    reader = EndingReader(raising(FAILURES[failure]))
    answer = ask(runbook, check, reader)
    assert reader.made, "the check made no read that could fail"
    assert answer.state in ("Error", "Inconclusive")
    assert answer.problems == ()


@pytest.mark.parametrize("failure", CONNECTION_FAILURES)
@pytest.mark.parametrize(("runbook", "check"), list(every_connected_check()))
def test_a_connection_that_fails_is_no_health(runbook: ClusterRunbook, check: Check, failure: str) -> None:
    """Nor a finding: whether it is the service that is down, or our own way to it, can't be told from here."""
    answer = ask(runbook, check, EndingReader(raising(CONNECTION_FAILURES[failure])))
    assert answer == Answer("Error")


@pytest.mark.parametrize("reason", SYMPTOMS)
@pytest.mark.parametrize(("runbook", "check"), list(every_connected_check()))
def test_a_server_that_lets_nobody_in_is_that_finding_alone(runbook: ClusterRunbook, check: Check, reason: str) -> None:
    """Nothing else is made of the answer that there is not."""
    answer = ask(runbook, check, EndingReader(raising(ReadError(reason, "nobody is let in"))))
    assert answer == Answer("Failed", (reason,))


@pytest.mark.parametrize("which", [0, -1], ids=["first code", "last code"])
@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_what_does_not_exist_is_no_health(runbook: ClusterRunbook, check: Check, which: int) -> None:
    """Missing is Error or Inconclusive, or the finding that says just that; it never passes.

    Codes are listed from the thing itself to what it is in: of a setting that nobody made the first one may pass.
    """
    answer = ask(runbook, check, EndingReader(lacking(which)))
    sample = SAMPLES[runbook.metadata.name]
    said = sample.absent.get(check.name, ())
    assert answer.problems in ((), said)
    if check.name in sample.unset and which == 0:
        assert answer.state == "Passed"
    elif check.name not in sample.elsewhere:
        assert answer.state in (("Failed",) if said else ("Error", "Inconclusive"))


@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_empty_answers_are_no_health(runbook: ClusterRunbook, check: Check) -> None:
    """No samples, no targets, no group, no row: nothing is never taken for "all of them are well"."""
    sample = SAMPLES[runbook.metadata.name]
    if check.name in sample.empty:
        pytest.skip(sample.empty[check.name])
    answer = ask(runbook, check, EndingReader(empty))
    if check.name in sample.unlisted:
        assert answer == Answer("Failed", sample.unlisted[check.name])
    else:
        assert answer.state in ("Error", "Inconclusive")


@pytest.mark.parametrize("used", [None, "many"], ids=["withheld", "no number"])
def test_slots_that_were_not_counted_are_no_free_ones(used: str | None) -> None:
    """What the rules compare must be a number."""
    runbook = RUNBOOKS["database-performance"]
    (check,) = (c for c in runbook.spec.checks if c.name == "slots")
    row = {"used": used, "maximum": 97, "active": 0, "idle": 0, "idle_in_transaction": 0, "waiting": 0}
    rows = Rows(rows=(row,), truncated=False, withheld=0, sees_all=True, elapsed=_ELAPSED)
    assert ask(runbook, check, EndingReader(lambda service, operation: rows)) == Answer("Error")


_OF_SESSIONS = ["slots", "holders", "applicationHosts", "migrations", "longRunning", "blockers", "dominating"]


@pytest.mark.parametrize("name", _OF_SESSIONS)
def test_sessions_that_hide_are_no_quiet_server(name: str) -> None:
    """As they do from a role that is no pg_monitor, and the server says nothing of it."""
    runbook = RUNBOOKS["database-performance"]
    (check,) = (c for c in runbook.spec.checks if c.name == name)
    rows = Rows(rows=(), truncated=False, withheld=0, sees_all=False, elapsed=_ELAPSED)
    assert ask(runbook, check, EndingReader(lambda service, operation: rows)) == Answer("Error")


#: No runbook that ships probes: what their actions make of failures is asked of them directly.
_PROBES: Mapping[str, Mapping[str, Any]] = {
    "http.get": {"url": "https://shop.example/healthz"},
    "tcp.connect": {"host": "db.internal", "port": 5432},
}
#: What only probes from instances raise.
_DOCUMENT_FAILURES = {
    "no document": ReadError("ProbeDocumentMissing", "there is no such document"),
    "another document": ReadError("ProbeDocumentChanged", "the document is another"),
}


@pytest.mark.parametrize("failure", [*FAILURES, *_DOCUMENT_FAILURES])
def test_a_probe_from_instances_that_fails_is_no_health(failure: str) -> None:
    """Nor a finding, whichever of its parts fails: finding the instances, or asking them."""
    action: Any = check_action("tcp.connect")
    given = {**_PROBES["tcp.connect"], "vantage": "instances", "instances": {"autoScalingGroup": "web"}}
    inputs = action.inputs_model.model_validate(given)
    error = {**FAILURES, **_DOCUMENT_FAILURES}[failure]
    running = [{"InstanceId": "i-00000001", "State": "running"}]

    def asking(service: str, operation: str) -> Any:
        if service == "ec2":
            return running
        raise error

    for end, reads in ((raising(error), 1), (asking, 2)):
        reader = EndingReader(end)
        with pytest.raises(ReadError):
            action.observe(inputs, reader)
        assert len(reader.made) == reads


@pytest.mark.parametrize("failure", [*FAILURES, *CONNECTION_FAILURES])
@pytest.mark.parametrize("name", _PROBES)
def test_a_probe_that_fails_is_no_health(name: str, failure: str) -> None:
    """Silence may be due to where we stand. One answer is one: a host that itself refuses a connection."""
    action: Any = check_action(name)
    inputs = action.inputs_model.model_validate(_PROBES[name])
    reader = EndingReader(raising({**FAILURES, **CONNECTION_FAILURES}[failure]))
    try:
        found = action.findings(inputs, action.observe(inputs, reader))
    except ReadError:
        found = None
    assert len(reader.made) == 1
    if (name, failure) == ("tcp.connect", "nothing listens"):
        assert [f.reason for f in found] == ["ConnectionRefused"]
    else:
        assert found is None or (isinstance(found, Unclear) and found.found == ())
