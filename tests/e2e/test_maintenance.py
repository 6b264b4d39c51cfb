"""Runbooks kept true, on a real API server: tried without a change, found wrong by name, reviewed on the record."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt, wait_until_well
from dev.shop.faults import FAULTS
from tests.repo.files import ROOT

from .incidents import an_escalation_policy
from .test_metrics import page, total
from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
SHIPPED = ROOT / "manifests/runbooks/lambda-failures.yaml"
#: The on-call contacts of the shipped EscalationPolicy.
ON_CALL = ("Primary", "Secondary", "Escalation")
PARAMETERS = {"functionName": "AmazonQBirthdayDemoLambda", "alias": "LIVE"}


@pytest.fixture
def runbook(world: World) -> Iterator[dict[str, Any]]:
    """Return the shipped runbook under a name of the world's own, not stored; it is deleted at the end."""
    found = yaml.safe_load(SHIPPED.read_text())
    found["metadata"] = {"name": f"lambda-{world.name}"}
    found["spec"]["maintenance"] = {"owner": "platform-engineering", "reviewEvery": "90d"}
    yield found
    world.admin.run("delete", "clusterrunbook", f"lambda-{world.name}", "--ignore-not-found")


def tried(world: World, runbook: dict[str, Any], **maintenance: Any) -> dict[str, Any]:
    """Return the runbook with a trial in the world's namespace."""
    trial = {"namespace": world.name, "parameters": PARAMETERS}
    runbook["spec"]["maintenance"] |= {"trial": trial, **maintenance}
    return runbook


def stored(world: World) -> dict[str, Any]:
    """Return the runbook as it is."""
    return dict(world.admin.json("get", "clusterrunbook", f"lambda-{world.name}"))


def wait_for_condition(world: World, type_: str, status: str, reason: str, seconds: float = 90) -> dict[str, Any]:
    """Wait until the runbook's condition is so; return the condition."""
    found: dict[str, Any] = {}

    def met() -> bool:
        found.clear()
        for condition in (stored(world).get("status") or {}).get("conditions", ()):
            if condition["type"] == type_:
                found.update(condition)
        return (found.get("status"), found.get("reason")) == (status, reason)

    assert wait_until(met, seconds=seconds, every=0.25), f"{json.dumps(stored(world), indent=1)}\n{world.log()}"
    return dict(found)


def parts(world: World) -> dict[str, tuple[str, int]]:
    """Return what came of each part of the report, and how many were looked at."""
    return {p["part"]: (p["result"], p["count"]) for p in stored(world)["status"]["validation"]["parts"]}


def test_the_shipped_runbook_is_tried_and_nothing_is_changed(world: World, runbook: dict[str, Any]) -> None:
    """Every check asked, every fix planned, every permission simulated: not one call that changes, no plan, no run.

    And of the threads that incidents need, never more than one is taken.
    """
    before = world.dump()
    busy: list[float] = []
    with world.customers(), world.operator() as operator:
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        seen = len(world.journal())
        world.admin.apply([tried(world, runbook)])

        def looked_at() -> bool:
            busy.append(total(page(operator), "effects_in_flight"))
            return "validation" in (stored(world).get("status") or {})

        assert wait_until(looked_at, seconds=90, every=0.05), world.log()
        assert max(busy) <= 1
        wait_for_condition(world, "Validated", "True", "Validated")
        wait_for_condition(world, "Fresh", "True", "NotDueYet")
        mine = [call for call in world.journal()[seen:] if "IncidentOperator" in call["principal"]]
    assert {result for result, _ in parts(world).values()} == {"Passed"}, stored(world)["status"]["validation"]
    spec = runbook["spec"]["steps"]
    closing = len(runbook["spec"]["closeout"]["checks"])
    assert parts(world)["Checks"][1] == sum(len(step.get("checks", ())) for step in spec) + closing
    assert parts(world)["Fixes"][1] == sum(len(step.get("fixes", ())) for step in spec)
    assert parts(world)["Permissions"][1] > 10
    assert len(mine) > 10
    assert [call["operation"] for call in mine if call["mutating"]] == []
    assert world.changes_by_operator() == []
    assert world.dump() == before
    assert world.plans() == []
    assert world.admin.json("get", "incidentruns", "-n", world.name)["items"] == []


def test_what_is_wrong_is_named(world: World, runbook: dict[str, Any]) -> None:
    """A reference that leads nowhere; then a permission that the role lost, and the check that rests on it."""
    checks = runbook["spec"]["steps"][0]["checks"]
    checks.append({"name": "lost", "action": "lambda.configurations"})
    with world.operator():
        world.admin.apply([tried(world, runbook)])
        condition = wait_for_condition(world, "Validated", "False", "RunbookInvalid")
        assert "lambda.configurations" in condition["message"], condition
        assert parts(world)["References"][0] == "Failed"
        assert parts(world)["Checks"][0] == "Unknown"
        checks.pop()
        denied = {"Effect": "Deny", "Action": "cloudtrail:LookupEvents", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
        where = {"RoleName": "IncidentOperatorRead", "PolicyName": "lost"}
        world.shop.client("iam").put_role_policy(**where, PolicyDocument=document)
        world.admin.apply([runbook])
        condition = wait_for_condition(world, "Validated", "False", "PermissionMissing")
        assert "cloudtrail:LookupEvents (IncidentOperatorRead)" in condition["message"], condition
        found = {(f["part"], f["name"], f["reason"]) for f in stored(world)["status"]["validation"]["findings"]}
        assert ("Checks", "recentChanges", "AccessDenied") in found, found
        # Given back, it is seen by itself within the hour.
        world.shop.client("iam").delete_role_policy(**where)
        assert wait_until(lambda: parts(world)["Permissions"][0] == "Passed", seconds=120, every=0.5), world.log()
    assert world.changes_by_operator() == []


def test_without_a_trial_it_says_what_was_not_tried(world: World, runbook: dict[str, Any]) -> None:
    """And a trial that can't begin says why."""
    with world.operator():
        world.admin.apply([runbook])
        condition = wait_for_condition(world, "Validated", "Unknown", "NoTrial")
        assert "Permissions, Checks, Fixes not tried" in condition["message"]
        runbook["spec"]["maintenance"]["trial"] = {"namespace": world.name}
        world.admin.apply([runbook])
        condition = wait_for_condition(world, "Validated", "False", "TrialInvalid")
        assert "'functionName' is required" in condition["message"]
    assert [c for c in world.journal() if "IncidentOperator" in c["principal"]] == []


def test_an_archived_runbook_starts_nothing_and_is_kept(world: World, runbook: dict[str, Any]) -> None:
    """Its run waits, says why, and begins once the word is taken back."""
    runbook["spec"]["maintenance"]["archived"] = {"reason": "the birthday mails are gone", "replacedBy": "mails"}
    with world.operator():
        world.admin.apply([runbook])
        wait_for_condition(world, "Fresh", "False", "Archived")
        wait_for_condition(world, "Validated", "Unknown", "Archived")
        ref = {"kind": "ClusterRunbook", "name": runbook["metadata"]["name"]}
        manifest = world.manifest("nothing-found.yaml", runbookRef=ref)
        world.apply(manifest)
        name = manifest["metadata"]["name"]
        status = world.wait_for(name, lambda status: bool(status.get("conditions")))
        accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
        assert (accepted["status"], accepted["reason"]) == ("False", "RunbookArchived"), story(status)
        assert accepted["message"].endswith("the birthday mails are gone; use mails instead")
        assert [c for c in world.journal() if "IncidentOperator" in c["principal"]] == []
        del runbook["spec"]["maintenance"]["archived"]
        world.admin.apply([runbook])
        world.wait_for(name, lambda status: bool(status.get("startedAt")))


def test_a_stale_runbook_asks_and_what_was_learnt_is_due(world: World, runbook: dict[str, Any]) -> None:
    """Its checks are asked, its fix waits for a person; after the incident an update is due, until a review is in."""
    runbook["spec"]["maintenance"] |= {"reviewEvery": "1s", "reviewers": ["Primary"]}
    ref = {"kind": "ClusterRunbook", "name": runbook["metadata"]["name"]}
    with world.customers(), world.operator():
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        world.admin.apply([runbook])
        assert "Primary reviewed it never" in wait_for_condition(world, "Fresh", "False", "ReviewOverdue")["message"]
        FAULT.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = world.manifest(FAULT.example, runbookRef=ref)
        assert manifest["spec"]["automation"]["applyUpTo"] == "Disruptive"
        assert manifest["spec"]["incident"]["severity"] in ("P0", "P1")
        world.apply(manifest)
        name = manifest["metadata"]["name"]
        plan = world.open_plan(name)
        fixes = [fix for step in world.status(name)["steps"] for fix in step.get("fixes", ())]
        assert {fix.get("reason") for fix in fixes if fix["state"] == "Blocked"} == {"RunbookStale"}, fixes
        assert world.changes_by_operator() == []
        tier = plan["spec"]["tier"]
        word = world.say("bob", "Approve", plan, tier=tier, override=["RunbookStale"], reason="read with care")
        assert world.answer(word)["status"] == "True"
        status = world.finished(name, seconds=180)
        assert outcome(status) == "Resolved/Runbook", story(status)
        (due,) = stored(world)["status"]["updateDue"]
        assert (due["reason"], due["about"]) == ("IncidentEnded", f"{world.name}/{name}")
        revision = stored(world)["status"]["revision"]
        at = world.admin.json("get", "irun", "-n", world.name, name)["metadata"]["creationTimestamp"]
        reviews = [{"by": "Primary", "at": at, "revision": revision}]
        runbook["spec"]["maintenance"] |= {"reviewEvery": "90d", "reviews": reviews}
        world.admin.apply([runbook])
        wait_for_condition(world, "Fresh", "True", "Reviewed")
        assert not stored(world)["status"].get("updateDue")
        # What is on the record stays on it, until the same contact reviews again.
        runbook["spec"]["maintenance"]["reviews"] = [{**reviews[0], "by": "Secondary"}]
        with pytest.raises(KubectlError, match="the record of reviews is only added to"):
            world.admin.run("replace", "-f", "-", stdin=yaml.safe_dump(runbook))
        del runbook["spec"]["maintenance"]
        with pytest.raises(KubectlError, match="the record of reviews is only added to"):
            world.admin.run("replace", "-f", "-", stdin=yaml.safe_dump(runbook))


def test_where_a_runbook_is_tried_is_said_where_it_must_be(world: World, runbook: dict[str, Any]) -> None:
    """A ClusterRunbook names a namespace, a Runbook has one."""
    runbook["spec"]["maintenance"]["trial"] = {"parameters": PARAMETERS}
    with pytest.raises(KubectlError, match="a ClusterRunbook says where it is tried"):
        world.admin.apply([runbook])
    own = {**tried(world, runbook), "kind": "Runbook", "metadata": {"name": "own", "namespace": world.name}}
    with pytest.raises(KubectlError, match="a Runbook is tried in its own namespace"):
        world.admin.apply([own])
    del own["spec"]["maintenance"]["trial"]["namespace"]
    world.admin.apply([own])


def test_who_has_a_runbook_tried_could_start_that_run(world: World, runbook: dict[str, Any]) -> None:
    """Else a schedule would read for them what they may not, with Secrets that they may not read."""
    rbac, name, mallory = "rbac.authorization.k8s.io", f"{world.name}-author", world.person("mallory")
    rules = [{"apiGroups": ["ops.shopsmart.com"], "resources": ["clusterrunbooks", "runbooks"], "verbs": ["*"]}]
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    subjects = [{"apiGroup": rbac, "kind": "User", "name": "mallory"}]
    ref = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
    binding = {**role, "kind": "ClusterRoleBinding", "roleRef": ref, "subjects": subjects}
    del binding["rules"]
    world.admin.apply([role, binding])
    try:
        can = ("auth", "can-i", "create", "clusterrunbooks", "--quiet")
        assert wait_until(lambda: _works(mallory, *can), seconds=10)
        with pytest.raises(KubectlError, match=f"mallory may not in {world.name}"):
            mallory.run("create", "-f", "-", stdin=yaml.safe_dump(tried(world, runbook)))
        own = {**runbook, "kind": "Runbook", "metadata": {"name": "own", "namespace": world.name}}
        trial = own["spec"]["maintenance"]["trial"]
        del trial["namespace"]
        trial["connections"] = {"database": {"secretRef": {"name": "payroll"}}}
        with pytest.raises(KubectlError, match="mallory may not get each of secrets/payroll in namespace"):
            mallory.run("create", "-f", "-", stdin=yaml.safe_dump(own))
        world.admin.apply([own])
        review = {"by": "Primary", "at": "2026-01-15T14:30:00Z", "revision": "rbk-own-0123456789"}
        patch = json.dumps({"spec": {"maintenance": {"reviews": [review]}}})
        mallory.run("patch", "runbook", "own", "-n", world.name, "--type=merge", "-p", patch)
        steps = json.dumps([{"op": "add", "path": "/spec/steps/0/checks/0/title", "value": "Another"}])
        with pytest.raises(KubectlError, match="may not get each of secrets/payroll"):
            mallory.run("patch", "runbook", "own", "-n", world.name, "--type=json", "-p", steps)
    finally:
        world.admin.run("delete", "clusterrole,clusterrolebinding", name)


def _works(who: Kubectl, *arguments: str) -> bool:
    try:
        who.run(*arguments)
    except KubectlError:
        return False
    return True


def test_those_on_call_are_asked_where_a_runbook_names_no_reviewers(world: World, runbook: dict[str, Any]) -> None:
    """By the EscalationPolicy of the namespace; who is on call no more is asked no more."""
    runbook |= {"kind": "Runbook", "metadata": {"name": "lambda", "namespace": world.name}}
    runbook["spec"]["maintenance"] |= {"reviewEvery": "1s"}
    said: list[str] = []

    def overdue(*who: str) -> bool:
        conditions = (world.admin.json("get", "runbook", "lambda", "-n", world.name).get("status") or {}).get(
            "conditions"
        )
        said[:] = [c["message"] for c in conditions or () if c["reason"] == "ReviewOverdue"]
        return bool(said) and [name for name in ON_CALL if f"{name} reviewed it never" in said[0]] == list(who)

    with world.operator():
        an_escalation_policy(world)
        world.admin.apply([runbook])
        assert wait_until(lambda: overdue(*ON_CALL), seconds=30, every=0.25), f"{said}\n{world.log()}"
        policy = world.admin.json("get", "escalationpolicy", "default", "-n", world.name)["spec"]
        kept = [one if one["name"] != "Escalation" else {**one, "kind": "Role"} for one in policy["contacts"]]
        an_escalation_policy(world, contacts=kept)
        assert wait_until(lambda: overdue(*ON_CALL[:2]), seconds=30, every=0.25), f"{said}\n{world.log()}"
