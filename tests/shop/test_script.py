"""A printed plan is run with bash and the real AWS CLI against the simulator: it does what the operator would do."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from dev.bench.baseline import command_line, write_wrapper
from dev.shop.faults import named
from dev.shop.grant import grant
from dev.shop.shop import Shop
from incident_operator.actions.catalogue import fix_action
from incident_operator.adapters.aws import Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.api.grant import ActionGrant
from incident_operator.api.plan import Guard, Permission, Precondition, Read, RemediationPlan
from incident_operator.api.runbook import Fix
from incident_operator.core.draft import PlanDraft
from incident_operator.core.planning import complete
from tests.builders import a_run
from tests.shop.test_faults import greet

Journal = Callable[[Shop], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def aws() -> Path:
    """Return the AWS CLI, installed once into the user's cache."""
    return command_line(print)


def planned(shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, **inputs: Any) -> RemediationPlan:
    """Return what the catalogue's own fix plans for the shop as it is, read as the operator reads."""
    key = shop.keys["operator"]
    for variable, value in {
        "AWS_ENDPOINT_URL": shop.endpoint,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }.items():
        monkeypatch.setenv(variable, value)
    granted = ActionGrant.model_validate(grant(shop.account))
    clock = Clock()
    gateway = Gateway(now=clock.now, scaled=lambda wait: wait, boto_session=boto3.session.Session())
    reader = gateway.reader(granted, since=clock.now() - timedelta(minutes=5), memo=None)
    action = fix_action(name)
    given = action.inputs_model.model_validate(inputs)
    draft = action.plan(given, action.observe(given, reader))
    assert isinstance(draft, PlanDraft), draft
    return complete(
        draft,
        run=a_run(),
        fix=Fix(name="fix", action=name, on_findings=("Any",)),
        attempt=1,
        inputs=inputs,
        grant=granted,
        permission=Permission(),
    )


def printed(plan: RemediationPlan, folder: Path, *options: str) -> str:
    """Return what the command prints for a saved plan, without any cluster."""
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan.wire()))
    program = Path(sys.executable).parent / "kubectl-incident"
    done = subprocess.run(
        [str(program), "script", "-f", str(file), *options],
        env={**os.environ, "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def run_by_hand(
    script: str, shop: Shop, aws: Path, folder: Path, *, account: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a script as a person with an admin's key would."""
    wrapper = write_wrapper(folder / "bin", aws, shop.endpoint)
    environment = {
        "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": f"SIMADMIN{account or shop.account}",
        "AWS_SECRET_ACCESS_KEY": "simulated",
    }
    return subprocess.run(
        ["bash"], input=script, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def changes_of(journal: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the calls that changed something, with their outcomes."""
    return [
        (entry["operation"], entry["outcome"]) for entry in journal if entry["mutating"] and not entry["byFunction"]
    ]


def test_a_plan_of_three_calls_with_guards_and_a_result_is_applied_and_undone_by_hand(
    shop: Shop, aws: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A guard read before each call, the published version taken from the answer, and the alias moved to it."""
    named("lambda-timeout").break_(shop)
    assert not greet(shop).ok
    client, name = shop.client("lambda"), {"FunctionName": shop.function}
    before = client.get_alias(**name, Name=shop.alias)["FunctionVersion"]
    plan = planned(
        shop,
        monkeypatch,
        "lambda.set-configuration",
        functionName=shop.function,
        alias=shop.alias,
        setting="timeout",
        maximumTimeout=2,
    )
    met = len(journal(shop))
    done = run_by_hand(printed(plan, tmp_path), shop, aws, tmp_path)
    assert done.returncode == 0, done.stderr
    made = journal(shop)[met:]
    assert changes_of(made) == [
        ("UpdateFunctionConfiguration", "OK"),
        ("PublishVersion", "OK"),
        ("UpdateAlias", "OK"),
    ]
    guarded = [entry for entry in made if entry["mutating"]]
    assert all("RevisionId" in entry["arguments"] for entry in guarded)
    assert greet(shop).ok

    undone = run_by_hand(printed(plan, tmp_path, "--undo"), shop, aws, tmp_path)
    assert undone.returncode == 0, undone.stderr
    assert client.get_alias(**name, Name=shop.alias)["FunctionVersion"] == before
    assert client.get_function_configuration(**name)["Timeout"] == 1


def test_bytes_and_documents_reach_aws_as_they_were_planned(
    shop: Shop, aws: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A restored policy, and a probe whose payload is bytes and whose answer is a stream."""
    named("inc-2023-1247").break_(shop)
    plan = planned(
        shop,
        monkeypatch,
        "iam.restore-role-access",
        roleArn=shop.role_arn,
        requiredAccess=[{"actions": ["dynamodb:GetItem"], "resources": [shop.table_arn]}],
        region=shop.region,
        functionName=shop.function,
        alias=shop.alias,
        probeEvent={"test": 'it\'s a "probe" of $HOME'},
    )
    met = len(journal(shop))
    done = run_by_hand(printed(plan, tmp_path), shop, aws, tmp_path)
    assert done.returncode == 0, done.stderr
    assert changes_of(journal(shop)[met:]) == [("SetDefaultPolicyVersion", "OK"), ("Invoke", "OK")]
    assert greet(shop).ok
    assert '{"greeted": "u-test", "sent": false}' in done.stderr, "the probe's own answer"


def test_nothing_is_changed_where_the_world_or_the_account_is_another(
    shop: Shop, aws: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A precondition that does not hold, an undo's guard that reads otherwise, and somebody else's credentials."""
    plan = planned(
        shop,
        monkeypatch,
        "lambda.rollback-alias",
        functionName=shop.function,
        alias=shop.alias,
    )
    alias = Read(service="lambda", operation="get_alias", arguments={"FunctionName": shop.function, "Name": shop.alias})
    assert plan.spec.undo is not None
    spec = plan.spec.model_copy(
        update={
            "preconditions": (Precondition(read=alias, path="FunctionVersion", equals="77"),),
            "undo": plan.spec.undo.model_copy(update={"guards": (Guard(read=alias, path="FunctionVersion"),)}),
        }
    )
    stale = plan.model_copy(update={"spec": spec, "status": plan.status.model_copy(update={"post_image": ["76"]})})
    met = len(journal(shop))
    for script, said, account in (
        (printed(stale, tmp_path), "FunctionVersion of lambda get_alias is not 77 any more", None),
        (printed(stale, tmp_path, "--undo"), "FunctionVersion of lambda get_alias is not 76 any more", None),
        (printed(plan, tmp_path), f"of account 999999999999, the plan is for {shop.account}", "999999999999"),
    ):
        done = run_by_hand(script, shop, aws, tmp_path, account=account)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert changes_of(journal(shop)[met:]) == []
