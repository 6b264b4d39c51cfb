"""Roles and admission: named rights only, everything documented, the operator's account in one place per policy."""

import re
from typing import Any

import pytest
import yaml

from dev.stack import OPERATOR, OPERATOR_NAMESPACE
from incident_operator.adapters.admission import REFUSAL
from incident_operator.api.intervention import INCIDENT_VERBS, PLAN_VERBS, RUN_VERBS, Verb
from incident_operator.api.plan import Tier
from tests.repo.files import ROOT

Manifest = dict[str, Any]


def _manifests(folder: str) -> list[Manifest]:
    files = sorted((ROOT / "manifests" / folder).glob("*.yaml"))
    return [found for file in files for found in yaml.safe_load_all(file.read_text()) if found]


ROLES = [m for m in _manifests("base") if m["kind"] in ("Role", "ClusterRole")]
PEOPLE = {m["metadata"]["name"]: m for m in ROLES if m["metadata"]["name"] != OPERATOR}
POLICIES = {m["metadata"]["name"]: m for m in _manifests("admission") if m["kind"] == "ValidatingAdmissionPolicy"}


def _verbs(role: str, resource: str) -> set[str]:
    return {verb for rule in PEOPLE[role]["rules"] if resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{role['kind']}-{role['metadata']['name']}")
def test_a_role_names_what_it_gives(role: Manifest) -> None:
    """No `*`: a role must not grow with the next kind, and `*` would be every approval, too."""
    assert role["rules"]
    for rule in role["rules"]:
        assert not [part for parts in rule.values() for part in parts if "*" in part], rule


def test_every_word_has_a_role() -> None:
    """What the policy asks for by name can be had by the role that it names."""
    for verb in RUN_VERBS:
        assert verb.lower() in _verbs("incident-responder", "incidentruns")
    for verb in INCIDENT_VERBS:
        role = "incident-publisher" if verb == Verb.PUBLISH else "incident-responder"
        assert verb.lower() in _verbs(role, "incidents")
    for verb in PLAN_VERBS:
        if verb != Verb.APPROVE:
            assert verb.lower() in _verbs("incident-responder", "remediationplans")
    for tier in Tier:
        own = {verb for verb in _verbs(f"incident-approver-{tier.lower()}", "remediationplans") if "approve" in verb}
        assert own == {f"approve-{tier.lower()}"}
    assert _verbs("incident-break-glass", "remediationplans") == {"break-glass"}


@pytest.mark.parametrize("role", PEOPLE)
def test_no_role_for_people_reaches_what_is_the_operators(role: str) -> None:
    """Neither plans, statuses, Secrets nor the past."""
    assert not _verbs(role, "remediationplans") & {"create", "update", "patch"}
    assert not _verbs(role, "interventions") & {"update", "patch", "delete", "deletecollection"}
    resources = {resource for rule in PEOPLE[role]["rules"] for resource in rule["resources"]}
    assert not {r for r in resources if "/" in r} | (resources & {"secrets", "leases", "controllerrevisions"})
    approves = {verb for verb in _verbs(role, "remediationplans") if "approve" in verb or verb == "break-glass"}
    assert len(approves) <= 1, "one role, one tier"
    assert "incident-approver" in role or role == "incident-break-glass" or not approves


def test_every_role_and_policy_is_documented() -> None:
    """docs/permissions.md has each, and no other."""
    text = (ROOT / "docs/permissions.md").read_text()
    named = set(re.findall(r"^\| `([a-z-]+)`", text, re.MULTILINE))
    assert named == set(PEOPLE) | set(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_denies_and_fails_closed(name: str) -> None:
    """Each is bound, without exceptions; each refusal has words of its own."""
    spec = POLICIES[name]["spec"]
    assert spec["failurePolicy"] == "Fail"
    (binding,) = [
        m
        for m in _manifests("admission")
        if m["kind"] == "ValidatingAdmissionPolicyBinding" and m["spec"]["policyName"] == name
    ]
    assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
    assert all(validation["message"] and validation["reason"] == "Forbidden" for validation in spec["validations"])


def test_the_operators_account_is_named_once_per_policy() -> None:
    """As its first variable, where the kustomization says how to replace it."""
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}"
    knowing = [policy for policy in POLICIES.values() if account in yaml.safe_dump(policy, width=1000)]
    pattern = re.search(r"name: (incident-\(\S+\))\}", (ROOT / "manifests/admission/kustomization.yaml").read_text())
    assert pattern
    assert {p["metadata"]["name"] for p in knowing} == {n for n in POLICIES if re.fullmatch(pattern.group(1), n)}
    for policy in knowing:
        assert policy["spec"]["variables"][0] == {"name": "operator", "expression": f"'{account}'"}
        assert yaml.safe_dump(policy, width=1000).count(account) == 1


def test_the_proof_knows_the_words_of_the_policy() -> None:
    """They are those of its first validation, and of no other."""
    first, *others = POLICIES["incident-interventions"]["spec"]["validations"]
    assert first["message"] == REFUSAL
    assert REFUSAL in first["messageExpression"]
    rest = [validation for policy in POLICIES.values() for validation in policy["spec"]["validations"]]
    assert [v for v in rest if REFUSAL in str(v)] == [first]
    assert others
