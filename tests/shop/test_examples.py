"""The examples are what they say: valid runs of a shipped runbook, each for a fault that exists."""

from typing import Any

import pytest
import yaml

from dev.shop import grant as birthday_grant
from dev.shop.departments import FAULTS as ALL_FAULTS
from dev.shop.departments import department_of
from dev.shop.examples import FOLDER, POLICY, Example, examples
from dev.shop.grant import grant
from dev.shop.granting import written
from dev.shop.images import grant as images_grant
from dev.shop.partners import grant as partners_grant
from dev.shop.storefront import grant as storefront_grant
from incident_operator.actions.catalogue import infos
from incident_operator.api.grant import ActionGrant
from incident_operator.api.meta import Risk
from incident_operator.api.policy import RemediationPolicy
from incident_operator.api.run import IncidentRun, RunPhase
from incident_operator.api.runbook import ClusterRunbook
from incident_operator.core.health import HealthPlan, plan_health
from incident_operator.core.run import ENDS
from incident_operator.core.runbook import bind_parameters
from incident_operator.core.windows import problem
from tests.shop.test_runbook import FILE as RUNBOOK

EXAMPLES = examples()


@pytest.fixture(params=list(EXAMPLES))
def example(request: pytest.FixtureRequest) -> Example:
    """Return each example."""
    return EXAMPLES[request.param]


def test_an_example_is_a_valid_run(example: Example) -> None:
    """Its kind, its name, its namespace, and parameters that the runbook takes."""
    assert set(example.manifest) == {"apiVersion", "kind", "metadata", "spec"}
    run = IncidentRun.model_validate(example.manifest)
    team = department_of(example.fault).namespace if example.fault else "shopsmart"
    assert run.metadata.namespace == team
    # One example names a runbook that does not exist; its parameters are those of the first one.
    shipped = RUNBOOK.with_name(f"{run.spec.runbook_ref.name}.yaml")
    shipped = RUNBOOK if example.outcome == "RunbookNotFound" else shipped
    spec = ClusterRunbook.model_validate(yaml.safe_load(shipped.read_text())).spec
    assert bind_parameters(spec, run.spec.parameters)[1] == ()


def test_the_policy_can_be_worked_with() -> None:
    """Its parameters and checks fit the shipped runbook, and its windows can be read."""
    policy = RemediationPolicy.model_validate(yaml.safe_load(POLICY.read_text()))
    runbook = ClusterRunbook.model_validate(yaml.safe_load(RUNBOOK.read_text())).spec
    assert policy.metadata.namespace == "shopsmart"
    assert bind_parameters(runbook, policy.spec.remediation.parameters)[1] == ()
    assert isinstance(plan_health(policy.spec.health, runbook, infos()), HealthPlan)
    assert problem(policy.spec.guardrails.windows) is None


def test_an_example_says_how_it_ends(example: Example) -> None:
    """In words that the product uses; its fault can be broken."""
    assert RunPhase(example.phase) in ENDS | {RunPhase.PENDING}
    assert example.fault is None or example.fault in ALL_FAULTS


def test_every_fault_has_an_example_of_its_own() -> None:
    """Or one that says how a run with another's example ends."""
    for fault in ALL_FAULTS.values():
        found = EXAMPLES[fault.example]
        if found.fault == fault.name:
            assert found.manifest["spec"]["incident"]["ticket"].split("-")[0] in ("INC", "SEC")
        else:
            assert found.fault in ALL_FAULTS


def test_names_and_tickets_are_not_shared() -> None:
    """All examples can be applied to one namespace."""
    names = [e.manifest["metadata"]["name"] for e in EXAMPLES.values()]
    tickets = [e.manifest["spec"]["incident"]["ticket"] for e in EXAMPLES.values()]
    assert len(set(names)) == len(names)
    assert len(set(tickets)) == len(tickets)


def test_only_the_expired_example_says_when_it_was_detected() -> None:
    """An example is applied at any time: its incident is detected then."""
    dated = [name for name, e in EXAMPLES.items() if "detectedAt" in e.manifest["spec"]["incident"]]
    assert dated == ["expired.yaml"]


@pytest.mark.parametrize(
    ("department", "asks"),
    [
        pytest.param(birthday_grant, Risk.DESTRUCTIVE, id="birthday"),
        pytest.param(images_grant, Risk.DISRUPTIVE, id="images"),
        pytest.param(partners_grant, Risk.DISRUPTIVE, id="partners"),
        pytest.param(storefront_grant, Risk.DESTRUCTIVE, id="storefront"),
    ],
)
def test_a_departments_grant_is_what_its_function_writes(department: Any, asks: Risk) -> None:
    """Its file is generated, and valid; where nothing destructive is meant, it is not even asked for."""
    assert department.FILE.read_text() == written(department.grant(), department.HEADER)
    assert ActionGrant.model_validate(department.grant()).spec.automation.ask_up_to == asks


def test_a_grant_of_another_account_names_no_other() -> None:
    """Each test makes its own; only the account's ids are in it."""
    text = written(grant("210987654321", "birthday-7", "birthday-7"), "")
    assert "123456789012" not in text
    assert ActionGrant.model_validate(yaml.safe_load(text)).selects({"shopsmart.com/team": "birthday-7"})


def test_the_readme_lists_every_example() -> None:
    """With its fault and its end."""
    text = (FOLDER / "README.md").read_text()
    for name, found in EXAMPLES.items():
        ends = found.phase if found.phase == found.outcome else f"{found.phase}/{found.outcome}"
        assert f"| `{name}` | {found.fault or '–'} | {ends} |" in text
