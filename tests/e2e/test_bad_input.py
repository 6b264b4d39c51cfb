"""Bad input is refused as early as it can be, says what to write instead, and loses nothing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import KubectlError
from dev.loopback import ROOT
from dev.processes import wait_until

from .world import World, outcome, story

NAME = "inc-2023-1247"


@pytest.fixture(scope="module")
def here(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return one world with an operator, for all of this module: nothing is broken in it, nobody invokes."""
    from .world import a_world

    with a_world(stack, tmp_path_factory.mktemp("world")) as world, world.operator() as operator:
        operator.wait_leading()
        yield world


def _named(world: World, name: str, **spec: Any) -> dict[str, Any]:
    manifest = world.manifest("incident-run.yaml", **spec)
    manifest["metadata"]["name"] = name
    return manifest


# --- refused by the API server, before anything is stored ---


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"automation": {"applyUpTo": "Medium"}}, 'supported values: "None", "Low", "Disruptive", "Destructive"'),
        ({"automation": {"applyUpTo": "Low", "askUpTo": "None"}}, "askUpTo: None is observe only"),
        ({"startDeadline": "1.5h"}, "spec.startDeadline"),
        ({"incident": {"severity": "P1"}}, "describe the incident (title, severity) or join one that exists (name)"),
        ({"incident": {"title": "x", "severity": "P7"}}, 'supported values: "P0", "P1", "P2", "P3"'),
        ({"runbook": {"name": "lambda-failures"}}, 'unknown field "spec.runbook"'),
        ({"incident": {"title": "x", "detectedAt": "yesterday"}}, "spec.incident.detectedAt"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_the_api_server_refuses(here: World, spec: dict[str, Any], said: str) -> None:
    """With the field, and what may stand there."""
    with pytest.raises(KubectlError) as refused:
        here.apply(_named(here, "refused", **spec))
    assert said.lower() in str(refused.value).lower()
    assert here.admin.run("get", "irun", "refused", "-n", here.name, "--ignore-not-found") == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timeZone": "Not A Zone"}, "spec.timeZone"),
        ({"roles": [{"name": "VP", "engage": {"P0": "30m", "P1": "NextDay", "P2": "Soon", "P3": "1d"}}]}, "engage.P2"),
        ({"contacts": [{"name": "Primary", "kind": "OnCall", "email": "p@company.com"}]}, "not in spec.contacts"),
        ({"paging": {"role": "Nobody", "rungs": [{"contact": "Primary", "repeatEvery": "5m"}]}}, "spec.paging.role"),
        (
            {"paging": {"role": "On-call Engineer", "rungs": [{"contact": "Primary", "repeatEvery": "0m"}]}},
            "spec.paging.rungs[0].repeatEvery",
        ),
        (
            {"paging": {"role": "On-call Engineer", "rungs": [{"contact": "Primary", "repeatEvery": "5m"}] * 2}},
            "every rung but the last says when the next begins",
        ),
        ({"calendar": {"holidays": ["2026-02-30"]}}, "spec.calendar.holidays[0]"),
        (
            {"calendar": {"workingHours": [{"days": ["Mon"], "from": "18:00", "to": "09:00"}]}},
            "working hours end after they begin",
        ),
        ({"contacts": [{"name": "Primary", "kind": "OnCall"}]}, "say how this contact is reached"),
        ({"severities": {"P0": None}}, "spec.severities.P0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_the_api_server_refuses_a_policy(here: World, change: dict[str, Any], said: str) -> None:
    """The shipped one is taken; with one thing changed it is not, and what is wrong is said."""
    policy = yaml.safe_load((ROOT / "manifests/base/escalation-policy.yaml").read_text())
    policy["metadata"]["namespace"] = here.name
    here.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(policy))
    for key, value in change.items():
        merged = isinstance(value, dict) and key != "paging"
        policy["spec"][key] = {**policy["spec"][key], **value} if merged else value
    with pytest.raises(KubectlError) as refused:
        here.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(policy))
    assert said in str(refused.value)


# --- refused by the operator: the run waits, says so, and can be edited ---


@pytest.mark.parametrize(
    ("name", "spec", "reason", "said"),
    [
        ("no-runbook", {"runbookRef": {"name": "lambda-failure"}}, "RunbookNotFound", "lambda-failures"),
        ("misspelt", {"parameters": {"functionNme": "x"}}, "ParametersInvalid", "functionNme"),
        ("missing", {"parameters": {}}, "ParametersInvalid", "functionName"),
        (
            "wrong-type",
            {"parameters": {"functionName": "x", "maximumTimeout": "ten"}},
            "ParametersInvalid",
            "maximumTimeout",
        ),
        (
            "out-of-bounds",
            {"parameters": {"functionName": "x", "maximumTimeout": 9000}},
            "ParametersInvalid",
            "900",
        ),
        ("pattern", {"parameters": {"functionName": "a b"}}, "ParametersInvalid", "functionName"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_a_run_that_cannot_start_waits(here: World, name: str, spec: dict[str, Any], reason: str, said: str) -> None:
    """It names what is wrong, what is known, until when it waits and what to type."""
    here.apply(_named(here, name, **spec))
    status = here.wait_for(name, lambda s: bool(s.get("conditions")))
    (accepted,) = [c for c in status["conditions"] if c["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", reason)
    assert said in accepted["message"]
    assert status["phase"] == "Pending"
    assert status["now"]["waitingFor"] == reason
    assert status["now"]["next"] == [f"kubectl edit irun -n {here.name} {name}"]
    assert "until" in status["now"]


def test_a_corrected_run_starts(here: World) -> None:
    """Nothing is lost: `kubectl apply` of the corrected manifest is all it takes."""
    here.apply(_named(here, "corrected", parameters={"functionName": "x", "aliass": "LIVE"}))
    here.wait_for("corrected", lambda s: bool(s.get("conditions")))
    here.apply(_named(here, "corrected"))
    status = here.wait_for("corrected", lambda s: bool(s.get("startedAt")))
    assert status["phase"] != "Pending"


def test_a_started_run_is_not_rewritten(here: World) -> None:
    """Only automation may change, downwards; both refusals say so."""
    here.apply(_named(here, "started"))
    here.wait_for("started", lambda s: bool(s.get("startedAt")))
    with pytest.raises(KubectlError, match="this run has started"):
        here.apply(_named(here, "started", parameters={"functionName": "another"}))
    with pytest.raises(KubectlError, match="only be lowered, never raised"):
        here.apply(_named(here, "started", automation={"applyUpTo": "Destructive"}))
    here.apply(_named(here, "started", automation={"applyUpTo": "None"}))


# --- runbooks ---


def _runbook(here: World, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return a small runbook of the namespace, changed."""
    check = {"name": "configuration", "action": "lambda.configuration", "inputs": {"functionName": "x"}}
    fix = {"name": "back", "action": "lambda.rollback-alias", "onFindings": ["FunctionMissing"]}
    spec: dict[str, Any] = {
        "title": "Small",
        "incidentType": "Small",
        "parameters": [{"name": "functionName", "type": "string", "required": True}],
        "steps": [{"name": "look", "title": "Look", "expectedBy": "5m", "checks": [check], "fixes": [fix]}],
        "recovery": {"checks": ["configuration"]},
    }
    change(spec)
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": "small", "namespace": here.name},
        "spec": spec,
    }


def _set(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of the first check or fix."""

    def change(spec: dict[str, Any]) -> None:
        kind, _, key = place.partition(".")
        spec["steps"][0][kind][0][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (_set("fixes.when", "findings.exists(f, f =="), "spec.steps[0].fixes[0].when", '"column": 24'),
        (_set("fixes.when", "parameters.functionNme == 'x'"), "spec.steps[0].fixes[0].when", "functionNme"),
        (_set("fixes.when", "checks.nobody.output.x == 1"), "spec.steps[0].fixes[0].when", "nobody"),
        (_set("fixes.onFindings", ["FunctionErors"]), "spec.steps[0].fixes[0].onFindings", "FunctionErors"),
        (_set("checks.action", "lambda.configurations"), "spec.steps[0].checks[0].action", "lambda.configuration"),
        (_set("checks.inputs", {"functionNam": "x"}), "spec.steps[0].checks[0].inputs", "functionNam"),
        (_set("checks.action", "lambda.rollback-alias"), "spec.steps[0].checks[0].action", "fix"),
    ],
    ids=["cel-syntax", "cel-parameter", "cel-check", "reason", "action", "input", "fix-as-check"],
)
def test_a_runbook_says_where_it_is_wrong(
    here: World, change: Callable[[dict[str, Any]], None], field: str, said: str
) -> None:
    """Ready=False with field, position and what is known; it is there before anybody needs the runbook."""
    manifest = _runbook(here, change)
    here.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    generation = here.admin.json("get", "runbook", "small", "-n", here.name)["metadata"]["generation"]
    found: dict[str, Any] = {}

    def read() -> bool:
        found.update(here.admin.json("get", "runbook", "small", "-n", here.name).get("status") or {})
        return bool(found.get("observedGeneration") == generation)

    assert wait_until(read, seconds=20, every=0.2), here.log()
    (ready,) = [c for c in found["conditions"] if c["type"] == "Ready"]
    assert ready["status"] == "False"
    problems = json.dumps(found["problems"])
    assert any(p["field"].startswith(field) for p in found["problems"]), problems
    assert said in problems


# --- systems that are not there ---


def test_a_function_that_does_not_exist(here: World) -> None:
    """A finding that names it; no fix, and nothing was changed."""
    here.apply(_named(here, "no-function", parameters={"functionName": "Nobody", "alias": "LIVE"}))
    status = here.finished("no-function")
    assert outcome(status).startswith("Unresolved/"), story(status)
    assert "FunctionMissing" in {f["reason"] for f in status["findings"]}, story(status)
    assert here.changes_by_operator() == []


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no AWS credentials"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY0000000000"}, "may not assume"),
    ],
    ids=["absent", "denied"],
)
def test_credentials_that_are_absent_or_denied(
    make_world: Callable[..., World], env: dict[str, str], said: str
) -> None:
    """Errors are no health: DiagnosisIncomplete, and who can help is said."""
    world = make_world()
    with world.operator(env=env):
        world.apply(world.manifest("incident-run.yaml"))
        status = world.finished(NAME)
    assert outcome(status) == "Unresolved/DiagnosisIncomplete", story(status)
    assert said in story(status)
    checks = [c for step in status["steps"] for c in step["checks"]]
    assert {c["state"] for c in checks} <= {"Error", "Inconclusive"}
