"""A check that gets no answer is Error or Inconclusive: it never passes, and it never finds anything.

Asked of every check of every runbook that ships, as the operator asks it: with the runbook's own inputs and findings.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from incident_operator.actions.base import Unclear
from incident_operator.actions.catalogue import check_action, infos
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.reads import READS
from incident_operator.api.runbook import Check, ClusterRunbook, FindingKind
from incident_operator.core.expressions import evaluate, render
from incident_operator.core.runbook import bind_inputs, bind_parameters, dependencies
from tests.actions.runbook_samples import SAMPLES
from tests.builders import NOW

FOLDER = Path(__file__).parents[2] / "manifests/runbooks"
RUNBOOKS = {
    path.stem: ClusterRunbook.model_validate(yaml.safe_load(path.read_text()))
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
}
#: Each as the adapters raise it.
FAILURES = {
    "denied": ReadError("AccessDenied", "denied", code="AccessDenied"),
    "throttled": ReadError("Throttled", "throttled", code="ThrottlingException"),
    "timeout": ReadError("Timeout", "no answer in time"),
    "unreachable": ReadError("Unreachable", "no way there"),
    "malformed": ReadError("MalformedAnswer", "something unexpected"),
    "refused": ReadError("InvalidRequest", "refused", code="ValidationError"),
    "not granted": ReadError("NotGranted", "not granted"),
}


@dataclass
class FailingReader:
    """Implements `actions.ports.Reader`: every read ends in the same way. Shape: `made` counts them."""

    end: Callable[[], Any]
    made: int = 0
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

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """End as told. Errors: PermissionError for what is not listed."""
        if (service, operation) not in READS:
            raise PermissionError(f"{service}.{operation} is not a listed read")
        self.made += 1
        return self.end()

    def _probe(self, *_: Any, **__: Any) -> Any:
        self.made += 1
        return self.end()

    http_get = postgres = redis = tcp = _probe


def raising(error: Exception) -> Callable[[], NoReturn]:
    """Return what raises an error."""

    def end() -> NoReturn:
        raise error

    return end


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
    variables = {"parameters": parameters, "checks": checks, "findings": [], "incident": {}, "now": NOW.isoformat()}
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
    seen = {"output": output, "inputs": inputs.wire(), "parameters": parameters}
    problems_found += [rule.reason for rule in check.findings if evaluate(rule.when, "finding", seen) is True]
    if problems_found:
        return Answer("Failed", tuple(problems_found))
    return Answer("Inconclusive" if isinstance(found, Unclear) else "Passed")


def every_check() -> Iterator[Any]:
    """Yield every check of every shipped runbook."""
    for name, runbook in RUNBOOKS.items():
        for check in runbook.spec.checks:
            yield pytest.param(runbook, check, id=f"{name}-{check.name}")


def test_every_runbook_that_ships_has_a_sample() -> None:
    """With all that its checks read of each other: a new runbook is not left out."""
    assert set(SAMPLES) == set(RUNBOOKS)
    for name, runbook in RUNBOOKS.items():
        read = set().union(*(dependencies(runbook.spec)[check.name] for check in runbook.spec.checks))
        assert read <= set(SAMPLES[name].outputs), name


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_a_check_whose_reads_fail_neither_passes_nor_finds(runbook: ClusterRunbook, check: Check, failure: str) -> None:
    """Whatever the reason, and though the check reads for sure."""
    reader = FailingReader(raising(FAILURES[failure]))
    answer = ask(runbook, check, reader)
    assert reader.made > 0, "the check made no read that could fail"
    assert answer.state in ("Error", "Inconclusive")
    assert answer.problems == ()


@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_what_does_not_exist_is_no_health(runbook: ClusterRunbook, check: Check) -> None:
    """Missing is Error or Inconclusive, or the finding that says just that; it never passes."""
    answer = ask(runbook, check, FailingReader(raising(NotFound("there is none", code="NoSuchEntity"))))
    sample = SAMPLES[runbook.metadata.name]
    said = sample.absent.get(check.name, ())
    assert answer.problems in ((), said)
    if check.name not in sample.elsewhere:
        assert answer.state in (("Failed",) if said else ("Error", "Inconclusive"))


#: Checks for which no entry is an answer: nothing was done, nobody was denied.
_EMPTY_IS_AN_ANSWER = {"recentChanges", "activities", "errors", "throttles"}


@pytest.mark.parametrize(("runbook", "check"), list(every_check()))
def test_empty_answers_are_no_health(runbook: ClusterRunbook, check: Check) -> None:
    """No samples, no targets, no group: an empty list is never taken for "all of them are well"."""
    if check.name in _EMPTY_IS_AN_ANSWER or check.action in ("aws.query", "lambda.configuration", "iam.role-access"):
        pytest.skip("no list that could be empty, or nothing to be found in an empty one")
    answer = ask(runbook, check, FailingReader(list))
    assert answer.state in ("Error", "Inconclusive")
