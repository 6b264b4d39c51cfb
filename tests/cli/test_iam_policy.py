"""`iam-policy`: valid, least, and enough; what it leaves out is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from incident_operator.actions.catalogue import catalogue
from incident_operator.api.runbook import ClusterRunbook
from tests.builders import a_grant, a_runbook
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.test_lint import incident
from tests.cli.test_say import finish
from tests.repo.files import ROOT

BASE = "kubectl incident iam-policy manifests/runbooks/lambda-failures.yaml --grant dev/shop/grant.yaml"


def statements(out: str) -> dict[str, dict[str, Any]]:
    """Return a policy's statements by Sid, as IAM would read them."""
    document = json.loads(out)
    assert document["Version"] == "2012-10-17"
    assert set(document) == {"Version", "Statement"}
    return {statement["Sid"]: statement for statement in document["Statement"]}


def test_the_role_of_changes_may_call_what_the_fixes_call() -> None:
    """Service by service, on what the grant lists of it."""
    shown = (
        "kubectl incident iam-policy manifests/runbooks/lambda-failures.yaml "
        "--grant dev/shop/grant.yaml --role remediation"
    )
    code, out, err = incident(shown)
    assert (code, err) == (0, "")
    found = statements(out)
    assert found["FixLambda"]["Resource"] == ["arn:aws:lambda:*:123456789012:function:*"]
    assert all(":iam::" in arn for arn in found["FixIam"]["Resource"])
    fixes = ("iam.restore-role-access", "lambda.rollback-alias", "lambda.set-configuration")
    called = {permission for name in fixes for permission in catalogue()[name].writes}  # type: ignore[attr-defined]
    assert {action for s in found.values() for action in s["Action"]} == called


def test_the_reading_role_may_read_what_the_runbook_reads_and_no_more() -> None:
    """Also what aws.query asks for in its inputs; nothing that writes."""
    shown = (
        "kubectl incident iam-policy manifests/runbooks/lambda-failures.yaml --grant dev/shop/grant.yaml --role read"
    )
    (read,) = statements(incident(shown)[1]).values()
    assert "iam:GetRole" in read["Action"], "by aws.query alone"
    assert "dynamodb:DescribeTable" not in read["Action"], "no check of this runbook reads it"
    assert [
        a
        for a in read["Action"]
        if not a.split(":")[1].startswith(("Get", "List", "Describe", "Lookup", "Filter", "Simul"))
    ] == []


def test_the_operator_may_only_assume_and_only_it_may() -> None:
    """Its own policy and the trust policy of the roles fit each other."""
    (own,) = statements(incident(f"{BASE} --role operator")[1]).values()
    assert own["Action"] == ["sts:AssumeRole"]
    assert [arn.rsplit("/")[-1] for arn in own["Resource"]] == ["IncidentOperatorRead", "IncidentOperatorRemediation"]
    principal = "arn:aws:iam::123456789012:role/incident-operator"
    (trust,) = statements(incident(f"kubectl incident iam-policy --role trust --principal {principal}")[1]).values()
    assert trust["Principal"] == {"AWS": principal}
    assert incident("kubectl incident iam-policy --role trust")[0] == 64


def files(folder: Path, grant: dict[str, Any]) -> str:
    """Write a runbook and a grant; return the command's beginning."""
    head = {"apiVersion": "ops.shopsmart.com/v1alpha1", "metadata": {"name": "r"}}
    (folder / "r.yaml").write_text(yaml.safe_dump({**head, "kind": "Runbook", "spec": a_runbook().wire()}))
    (folder / "g.yaml").write_text(yaml.safe_dump(a_grant(**grant).wire()))
    return "kubectl incident iam-policy r.yaml --grant g.yaml --role"


def test_what_the_grant_does_not_permit_is_left_out_and_said(tmp_path: Path) -> None:
    """An action that is not listed, and a service without a resource."""
    command = files(tmp_path, {"actions": ["lambda.*"]})
    code, out, err = incident(f"{command} remediation", tmp_path)
    assert (code, list(statements(out))) == (0, ["Read"])
    assert "note: restoreAccess is left out: ActionGrant shop does not list iam.restore-role-access" in err
    command = files(tmp_path, {})
    _, out, err = incident(f"{command} remediation", tmp_path)
    assert "FixLambda" not in statements(out)
    assert "note: lambda:InvokeFunction left out: the grant lists no resource of lambda" in err


def test_one_role_for_both_gets_the_reads_too(tmp_path: Path) -> None:
    """A grant without readRoleArn reads as its roleArn."""
    _, out, _ = incident(f"{files(tmp_path, {})} remediation", tmp_path)
    assert "cloudwatch:GetMetricData" in statements(out)["Read"]["Action"]


@pytest.mark.parametrize("instances", [(), ("arn:aws:ec2:*:123456789012:instance/*",)], ids=["none", "some"])
def test_the_reading_role_may_probe_from_what_the_grant_lists_by_one_document(
    tmp_path: Path, instances: tuple[str, ...]
) -> None:
    """Never on everything; and without instances it can't send anything, which is said."""
    grant = {"actions": ["ec2.*"], "probes": {"instances": list(instances)}}
    files(tmp_path, grant)
    book = ROOT / "manifests/runbooks/network-connectivity.yaml"
    _, out, err = incident(f"kubectl incident iam-policy {book} --grant g.yaml --role read", tmp_path)
    found = statements(out)
    assert "ssm:SendCommand" not in found["Read"]["Action"]
    if not instances:
        assert "Probe" not in found
        assert "note: connections can't ask instances: the probes of ActionGrant shop list none" in err
        return
    assert found["Probe"]["Action"] == ["ssm:SendCommand"]
    document = "arn:aws:ssm:*:123456789012:document/IncidentOperator-Probe"
    assert sorted(found["Probe"]["Resource"]) == sorted([document, *instances])
    assert "ssm:GetCommandInvocation" in found["Read"]["Action"]


@pytest.mark.parametrize("role", ["read", "remediation"])
def test_the_roles_of_two_grants_are_not_mixed(tmp_path: Path, role: str) -> None:
    """Each would get what is the other's."""
    command = files(tmp_path, {})
    other = a_grant().wire()
    other["metadata"]["name"] = "other"
    other["spec"]["aws"]["roleArn"] = "arn:aws:iam::210987654321:role/Other"
    (tmp_path / "o.yaml").write_text(yaml.safe_dump(other))
    code, out, err = incident(f"{command} {role} --grant o.yaml", tmp_path)
    assert (code, out, "these grants name 2 roles" in err) == (1, "", True)


def test_without_files_the_clusters_runbooks_and_grants_count(api: FakeApi, command: Command) -> None:
    """A grant may be named; what is no file and no grant is told."""
    stored = yaml.safe_load((ROOT / "manifests" / "runbooks" / "lambda-failures.yaml").read_text())
    api.put(a_grant(), ClusterRunbook.model_validate(stored))
    for options in ((), ("--grant", "shop")):
        code, out, _ = finish(command("iam-policy", "--role", "remediation", *options))
        assert (code, statements(out)["FixIam"]["Resource"]) == (
            0,
            ["arn:aws:iam::123456789012:role/lambda-execution-role"],
        )
    _, _, err = finish(command("iam-policy", "--role", "read", "--grant", "nope"))
    assert err.startswith("error: nope is neither a file nor an ActionGrant of the cluster")
