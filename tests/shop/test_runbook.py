"""The shipped runbook can be run: the real catalogue knows all it names, and its expressions hold on real outputs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from incident_operator.actions.catalogue import infos
from incident_operator.api.runbook import ClusterRunbook
from incident_operator.core.expressions import evaluate, render
from incident_operator.core.runbook import bind_parameters, dependencies, validate

FILE = Path(__file__).parents[2] / "manifests/runbooks/lambda-failures.yaml"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:mailer"
ROLE = "arn:aws:iam::123456789012:role/service-role/mailer-role"


@pytest.fixture(scope="module")
def runbook() -> ClusterRunbook:
    """Return the runbook as shipped."""
    return ClusterRunbook.model_validate(yaml.safe_load(FILE.read_text()))


def variables(**changes: Any) -> dict[str, Any]:
    """Return what the fixes' expressions see after a bad release."""
    return {
        "parameters": {"functionName": "mailer", "alias": "LIVE", "region": None, "relatedResources": ["templates"]},
        "checks": {
            "configuration": {"output": {"functionArn": FUNCTION, "roleArn": ROLE}},
            "errors": {"output": {"denials": [], "errors": {"KeyError": 4}}},
            "liveVersion": {"output": {"found": True, "answer": {"LastModified": "2026-01-15T14:00:00.000+0000"}}},
        },
        "findings": ["FunctionErrors"],
        "incident": {},
        "now": "2026-01-15T14:30:00.000Z",
        **changes,
    }


def test_the_runbook_has_no_problems(runbook: ClusterRunbook) -> None:
    """Every action, input, reason and expression is known."""
    assert validate(runbook.spec, infos()) == ()


def test_the_steps_are_the_documents(runbook: ClusterRunbook) -> None:
    """Five steps, with the document's titles and minutes."""
    assert [(s.title, s.expected_by.total_seconds() / 60) for s in runbook.spec.steps] == [
        ("Immediate Assessment", 5),
        ("IAM Role Analysis", 10),
        ("Resource Access Testing", 15),
        ("Permission Policy Fix", 20),
        ("Validation and Monitoring", 25),
    ]
    assert [h.ticket for h in runbook.spec.history] == ["INC-2023-1247", "INC-2023-0892", "INC-2023-1456"]


def test_nothing_of_the_example_is_in_the_procedure(runbook: ClusterRunbook) -> None:
    """Names of the shop stand in symptoms and history only."""
    procedure = str(runbook.spec.model_copy(update={"symptoms": (), "history": (), "description": None}))
    assert "irthday" not in procedure


def test_what_users_feel_needs_no_other_check(runbook: ClusterRunbook) -> None:
    """Errors, invocations and throttles are asked at once, without waiting for the configuration."""
    graph = dependencies(runbook.spec)
    assert all(not graph[name] for name in ("configuration", "errors", "invocations", "throttles"))
    assert graph["roleAccess"] == {"configuration", "errors"}


def test_only_the_function_has_to_be_named(runbook: ClusterRunbook) -> None:
    """All other parameters have a default or may be absent."""
    values, problems = bind_parameters(runbook.spec, {"functionName": "mailer"})
    assert problems == ()
    assert values["alias"] is None
    _, problems = bind_parameters(runbook.spec, {})
    assert [p.field for p in problems] == ["spec.parameters.functionName"]


def input_of(runbook: ClusterRunbook, name: str, key: str, seen: dict[str, Any]) -> Any:
    """Return one rendered input of a check or fix."""
    inputs = {a.name: a.inputs for a in runbook.spec.checks} | {a.name: a.inputs for a in runbook.spec.fixes}
    return render(inputs[name][key], "input", seen)


def test_a_role_with_a_path_is_asked_by_its_name(runbook: ClusterRunbook) -> None:
    """The last segment of its ARN."""
    assert input_of(runbook, "role", "arguments", variables()) == {"RoleName": "mailer-role"}
    assert input_of(runbook, "recentChanges", "resources", variables()) == [FUNCTION, "mailer-role", "templates"]


def test_the_region_is_the_functions(runbook: ClusterRunbook) -> None:
    """Of its ARN where it was found, else the parameter's, else nothing."""
    assert input_of(runbook, "roleAccess", "region", variables()) == "eu-west-1"
    missing = variables(checks={"configuration": {"output": {"functionArn": "", "roleArn": ""}}})
    assert input_of(runbook, "roleAccess", "region", missing) is None


@pytest.mark.parametrize(("alias", "qualifier"), [("LIVE", "LIVE"), (None, "$LATEST")])
def test_without_an_alias_latest_serves(runbook: ClusterRunbook, alias: str | None, qualifier: str) -> None:
    """The version that serves is the alias's, else $LATEST."""
    seen = variables(parameters={"functionName": "mailer", "alias": alias})
    assert input_of(runbook, "liveVersion", "arguments", seen)["Qualifier"] == qualifier


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"now": "2026-01-17T14:30:00.000Z"}, False),
        ({"findings": ["AccessDenied", "FunctionErrors"]}, False),
    ],
)
def test_only_a_recent_release_is_rolled_back(runbook: ClusterRunbook, changes: dict[str, Any], wanted: bool) -> None:
    """And never for a denial, which an older version can't cure."""
    (fix,) = [f for f in runbook.spec.fixes if f.name == "rollBack"]
    assert fix.when is not None
    assert evaluate(fix.when, "input", variables(**changes)) is wanted


def test_errors_that_are_denials_are_not_rolled_back(runbook: ClusterRunbook) -> None:
    """S3 may deny without saying what: that is no error of the code."""
    (fix,) = [f for f in runbook.spec.fixes if f.name == "rollBack"]
    seen = variables()
    seen["checks"]["errors"]["output"]["errors"] = {"AccessDenied": 7}
    assert evaluate(fix.when or "", "input", seen) is False
