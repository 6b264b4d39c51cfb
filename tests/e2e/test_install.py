"""docs/install.md, block by block, against a real API server; a process plays the pods, which nobody here would run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.admission import FOLDER, await_admission
from dev.controlplane.kubectl import Kubectl, kustomized
from dev.shop.seed import seed
from dev.shop.shop import DEFAULT_ACCOUNT, Shop
from dev.stack import OPERATOR, OPERATOR_NAMESPACE, SHOP_NAMESPACE, Stack
from incident_operator import __version__
from tests.repo.commands import blocks
from tests.repo.files import ROOT

from .world import World

PAGE = (ROOT / "docs/install.md").read_text()


@pytest.fixture
def stack(lone_stack: Stack) -> Stack:
    """Return a stack of its own: what is done here concerns the whole cluster."""
    return lone_stack


def printed(language: str) -> list[str]:
    """Return the page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def team(stack: Stack, tmp_path: Path) -> Iterator[World]:
    """Return the account and the namespace of the page's team; afterwards the cluster is as the stack had made it."""
    admin, runbooks, admission = (
        Kubectl(stack.kubeconfig()),
        kustomized(ROOT / "manifests/runbooks"),
        kustomized(FOLDER),
    )
    admin.run("delete", "-f", "-", stdin=yaml.safe_dump_all(admission))
    admin.run("delete", "clusterrunbooks", *(runbook["metadata"]["name"] for runbook in runbooks))
    admin.run("create", "namespace", SHOP_NAMESPACE)
    world = World(
        stack=stack,
        name=SHOP_NAMESPACE,
        shop=seed(Shop(account=DEFAULT_ACCOUNT, endpoint=stack.aws_endpoint), tmp_path),
        folder=tmp_path,
    )
    try:
        yield world
    finally:
        world.close()
        admin.run("delete", "namespace", SHOP_NAMESPACE)
        admin.run("delete", "actiongrant", yaml.safe_load(printed("yaml")[1])["metadata"]["name"], "--ignore-not-found")
        workload = "deployment,service,poddisruptionbudget,networkpolicy"
        admin.run("delete", workload, "--all", "-n", OPERATOR_NAMESPACE)
        admin.apply([*runbooks, *admission])
        await_admission(admin, admission, OPERATOR_NAMESPACE)


def sh(world: World, script: str, folder: Path) -> str:
    """Run a block as an admin's shell would; return what it printed. Errors: AssertionError with all of it."""
    env = {
        **os.environ,
        "KUBECONFIG": str(world.stack.kubeconfig()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-exo", "pipefail", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{world.log()}"
    return done.stdout


def test_the_installation_works_as_it_is_printed(team: World, tmp_path: Path) -> None:
    """From the kinds to a run that only looks, with the files of the page in their places."""
    folder = tmp_path / "here"
    (folder / "production").mkdir(parents=True)
    (folder / "incident-operator").symlink_to(ROOT)
    kustomization, grant = printed("yaml")
    (folder / "production/kustomization.yaml").write_text(kustomization)
    (folder / "production/grant.yaml").write_text(grant)
    kinds, operator, may, works = (block for block in blocks() if block.document == "docs/install.md")
    assert [block.commands[0] for block in (kinds, operator, may, works)] == [
        "kubectl apply --server-side -k incident-operator/crds",
        "kubectl apply --server-side -k incident-operator/manifests/admission",
        "kubectl apply --server-side -f production/grant.yaml",
        "kubectl -n incident-system get lease incident-operator",
    ]
    sh(team, kinds.script, folder)
    applied = sh(team, operator.script, folder)
    for part in ("deployment.apps", "networkpolicy.networking.k8s.io", "poddisruptionbudget.policy"):
        assert f"{part}/{OPERATOR} serverside-applied" in applied
    await_admission(team.admin, kustomized(FOLDER), OPERATOR_NAMESPACE)
    (container,) = stored(team, "deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/incident-operator:")
    sh(team, may.script, folder)
    with team.operator(namespaces="") as process:
        process.wait_leading()
        told = sh(team, works.script, folder)
    assert "lambda-failures condition met" in told
    assert team.changes_by_operator() == []
    status = team.status("observe-only")
    checks = [check for step in status["steps"] for check in step["checks"]]
    assert {check["state"] for check in checks} <= {"Passed", "Failed", "Inconclusive"}, checks


def stored(world: World, kind: str) -> Any:
    """Return an object of the operator's as the API server has it."""
    return world.admin.json("get", kind, OPERATOR, "-n", OPERATOR_NAMESPACE)


def test_the_role_is_the_accounts_and_may_only_assume() -> None:
    """The page's trust policy, permissions, annotation and grant speak of the same account, roles and names."""
    trust, may = (json.loads(text) for text in printed("json"))
    kustomization, grant = (yaml.safe_load(text) for text in printed("yaml"))
    (trusted,), (allowed,) = trust["Statement"], may["Statement"]
    provider = trusted["Principal"]["Federated"].partition("oidc-provider/")[2]
    assert trusted["Condition"]["StringEquals"] == {
        f"{provider}:aud": "sts.amazonaws.com",
        f"{provider}:sub": f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}",
    }
    assert allowed["Action"] == "sts:AssumeRole"
    assert sorted(allowed["Resource"]) == sorted(grant["spec"]["aws"][key] for key in ("roleArn", "readRoleArn"))
    assert [image["newTag"] for image in kustomization["images"]] == [__version__]
    (patch,) = kustomization["patches"]
    account = yaml.safe_load(patch["patch"])["metadata"]
    assert (account["name"], account["namespace"]) == (OPERATOR, OPERATOR_NAMESPACE)
    assert account["annotations"]["eks.amazonaws.com/role-arn"].endswith(f":role/{OPERATOR}")
