"""People in the loop, on a real API server, judged from the simulator: agree, refuse, stop, put back, come twice."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dev.faultproxy import Fault, Harm, Side
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.examples import examples
from dev.shop.faults import FAULTS
from dev.shop.faults import Fault as ShopFault

from .people import people_do, plan_that_names_who
from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
SETTING = FAULTS["lambda-timeout"]


def broken(world: World, fault: ShopFault = FAULT) -> None:
    """Break the shop, and wait until customers feel it."""
    fault.break_(world.shop)
    assert wait_until_felt(world.shop, time_scale=TIME_SCALE)


def asking(world: World, fault: ShopFault = FAULT, **spec: Any) -> str:
    """Apply a fault's run so that it asks before anything; return its name."""
    manifest = world.manifest(fault.example, automation={"applyUpTo": "None"}, **spec)
    world.apply(manifest)
    return str(manifest["metadata"]["name"])


def operations(world: World) -> list[str]:
    """Return what the operator changed, in order."""
    return [call["operation"] for call in world.changes_by_operator() if call["outcome"] == "OK"]


def plan_called(world: World, name: str) -> dict[str, Any]:
    """Return a plan as stored."""
    return dict(world.admin.json("get", "remediationplan", "-n", world.name, name))


@pytest.mark.parametrize("name", ["asks-first.yaml", "nobody-agrees.yaml", "cancelled.yaml"])
def test_an_example_ends_as_it_says(name: str, world: World) -> None:
    """With what its comment says people do; what nobody agreed to changes nothing."""
    example = examples()[name]
    with world.customers() as customers, world.operator():
        broken(world)
        before = world.dump()
        world.apply(world.manifest(name))
        people_do(world, example)
        status = world.finished(example.manifest["metadata"]["name"])
        assert outcome(status) == f"{example.phase}/{example.outcome}", story(status)
        if example.phase == "Resolved":
            assert customers.wait_for(lambda answer: answer.ok, seconds=10), customers.told()
            assert "agreed: bob" in json.dumps(status["timeline"])
        else:
            assert operations(world) == []
            assert world.dump() == before


def test_a_security_plan_takes_two_others_and_each_void_word_says_why(world: World) -> None:
    """Not who asked for it, not the same person twice, not under a tier that was not read; then it is applied."""
    fault = FAULTS["inc-2023-1456"]
    with world.customers() as customers, world.operator():
        broken(world, fault)
        manifest = world.manifest(fault.example)
        world.apply(manifest)
        name = manifest["metadata"]["name"]
        plan = world.open_plan(name)
        known = ("AccessRemovedOnPurpose", "BeyondRestorable")
        assert wait_until(lambda: set(world.open_plan(name)["spec"]["askBecause"]) == set(known), seconds=30)
        older, plan = plan, world.open_plan(name)
        tier = {"tier": "Security"}

        def said(who: str, target: dict[str, Any], **spec: Any) -> tuple[str, str]:
            answer = world.answer(world.say(who, "Approve", target, **spec))
            return answer["status"], answer["reason"]

        assert said("alice", plan, **tier) == ("False", "SelfApproval")
        assert said("bob", plan, tier="Low") == ("False", "TierMismatch")
        assert said("bob", plan, **tier, override=["GrantMissing"], reason="so") == ("False", "NotOverridable")
        if older["metadata"]["uid"] != plan["metadata"]["uid"]:
            assert said("bob", older, **tier) == ("False", "PlanChanged")
        assert said("bob", plan, **tier) == ("True", "Approved")
        assert said("bob", plan, **tier) == ("False", "SamePerson")
        assert operations(world) == []
        assert said("carol", plan, **tier) == ("True", "Approved")
        status = world.finished(name)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert customers.wait_for(lambda answer: answer.ok, seconds=10), customers.told()
        assert said("bob", plan, **tier) == ("False", "TooLate")


def _role(role: str, who: str, namespace: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{role}-{who}", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": who}],
    }


def test_one_person_may_break_the_glass_with_the_verb_and_a_reason(world: World) -> None:
    """Alone, and for all to see."""
    fault = FAULTS["inc-2023-1456"]
    with world.customers(), world.operator():
        broken(world, fault)
        manifest = world.manifest(fault.example)
        world.apply(manifest)
        world.admin.apply([_role("incident-break-glass", "alice", world.name)])
        name = manifest["metadata"]["name"]
        plan = plan_that_names_who(world, name)
        word = world.say("alice", "Approve", plan, tier=plan["spec"]["tier"], breakGlass=True, reason="nobody is awake")
        assert world.answer(word)["status"] == "True"
        status = world.finished(name)
    assert outcome(status) == "Resolved/Runbook", story(status)
    (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
    assert applied["status"]["approvals"][0]["breakGlass"]


def test_a_world_that_changed_voids_the_approval(world: World) -> None:
    """Somebody mends it by hand between plan and approval: superseded, nothing executed."""
    with world.customers(), world.operator():
        broken(world)
        name = asking(world)
        plan = world.open_plan(name)
        FAULT.heal(world.shop)
        word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
        assert world.answer(word)["status"] == "True"
        status = world.finished(name)
    assert outcome(status) == "Resolved/SelfRecovered", story(status)
    assert operations(world) == []
    stored = plan_called(world, plan["metadata"]["name"])["status"]
    assert stored["state"] == "Superseded"
    assert "the approval of bob is void" in stored["message"]


# --- stop in the middle of a plan of three calls ---


#: So that a call is still under way when what people said meanwhile has been heard.
PATIENT = {"call-timeout": "30s"}


def stopped_at_the_first_call(world: World, act: Callable[[dict[str, Any]], object], seconds: float = 0.5) -> str:
    """Apply the run of a plan with three calls, and let `act` happen while the first is under way; return its name.

    Shape: AWS has made the call, and answers so many seconds after `act` has returned.
    """
    assert world.proxy is not None
    manifest = world.manifest(SETTING.example)
    name = str(manifest["metadata"]["name"])
    first = Fault(what=Side.AWS, harm=Harm.LATE, seconds=seconds, act=lambda: act(world.run(name)))
    world.proxy.arm(first)
    world.apply(manifest)
    assert first.struck.wait(60), story(world.status(name))
    return name


def heard(world: World, who: str, verb: str, run: dict[str, Any], **spec: Any) -> None:
    """Let a person speak, and wait until the operator has heard it."""
    assert world.answer(world.say(who, verb, run, **spec), seconds=20)["status"] == "True"


def _journal_of(world: World) -> tuple[dict[str, Any], list[str]]:
    (plan,) = [p for p in world.plans() if (p.get("status") or {}).get("startedAt")]
    return plan, [entry["state"] for entry in plan["status"]["calls"]]


def test_cancelled_in_the_middle_status_is_what_the_simulator_saw(make_world: Callable[..., World]) -> None:
    """One call made, two not: said exactly, and nothing more is called."""
    world = make_world(through_proxy=True)
    with world.customers(), world.operator(**PATIENT):
        broken(world, SETTING)
        name = stopped_at_the_first_call(world, lambda run: heard(world, "bob", "Cancel", run, then="Leave"))
        status = world.finished(name)
    assert outcome(status) == "Cancelled/Cancelled", story(status)
    assert operations(world) == ["UpdateFunctionConfiguration"]
    plan, journal = _journal_of(world)
    assert plan["status"]["state"] == "Inconclusive"
    assert len(journal) == 1
    assert "1 of 3 calls were made and stay in place" in plan["status"]["message"]
    assert "not made: publish a version" in plan["status"]["message"]
    assert "finalizers" not in plan["metadata"]


def test_cancelled_with_revert_everything_is_as_before(make_world: Callable[..., World]) -> None:
    """The former state, exactly."""
    world = make_world(through_proxy=True)
    with world.customers(), world.operator(**PATIENT):
        broken(world, SETTING)
        before = world.dump()
        name = stopped_at_the_first_call(world, lambda run: heard(world, "bob", "Cancel", run, then="Revert"))
        status = world.finished(name)
    assert outcome(status) == "Cancelled/Cancelled", story(status)
    plan, _ = _journal_of(world)
    assert plan["status"]["state"] == "Reverted", plan["status"]
    assert world.dump() == before


def test_paused_in_the_middle_nothing_is_called_until_somebody_resumes(make_world: Callable[..., World]) -> None:
    """Status says how far it is, who stopped it, and what comes next; then it goes on and helps."""
    world = make_world(through_proxy=True)
    with world.customers(), world.operator(**PATIENT):
        broken(world, SETTING)
        name = stopped_at_the_first_call(world, lambda run: heard(world, "bob", "Pause", run, reason="let me look"))
        assert wait_until(lambda: _held(world) == ["Paused"], seconds=30), _journal_of(world)
        assert operations(world) == ["UpdateFunctionConfiguration"]
        assert "1 of 3 calls are made; next: publish a version" in _journal_of(world)[0]["status"]["message"]
        world.say("alice", "Resume", world.run(name))
        status = world.finished(name)
    assert outcome(status) == "Resolved/Runbook", story(status)
    assert operations(world) == ["UpdateFunctionConfiguration", "PublishVersion", "UpdateAlias"]


def _held(world: World) -> list[str]:
    return [gate["name"] for gate in _journal_of(world)[0]["status"].get("gates", ())]


def test_a_halt_holds_every_call_and_its_end_lets_them_go_on(make_world: Callable[..., World]) -> None:
    """The grant is read live before every call."""
    world = make_world(through_proxy=True)

    def suspended(value: Any) -> None:
        patch = json.dumps({"spec": {"suspended": value}})
        world.admin.run("patch", "actiongrant", world.name, "--type=merge", "-p", patch)

    with world.customers(), world.operator(**PATIENT):
        broken(world, SETTING)
        name = stopped_at_the_first_call(world, lambda _: suspended({"reason": "game day"}))
        assert wait_until(lambda: _held(world) == ["GrantSuspended"], seconds=30), _journal_of(world)
        assert operations(world) == ["UpdateFunctionConfiguration"]
        suspended(None)
        status = world.finished(name)
    assert outcome(status) == "Resolved/Runbook", story(status)
    assert operations(world) == ["UpdateFunctionConfiguration", "PublishVersion", "UpdateAlias"]


def test_a_run_deleted_in_the_middle_is_cancelled_and_leaves_no_finalizer(make_world: Callable[..., World]) -> None:
    """Deleting means Cancel; the object goes when the call under way is known."""
    world = make_world(through_proxy=True)

    def delete(run: dict[str, Any]) -> None:
        world.admin.run("delete", "incidentrun", "-n", world.name, run["metadata"]["name"], "--wait=false")

    with world.customers(), world.operator(**PATIENT):
        broken(world, SETTING)
        stopped_at_the_first_call(world, delete, seconds=3)
        gone = ("get", "incidentruns,remediationplans", "-n", world.name, "-o", "name")
        assert wait_until(lambda: world.admin.run(*gone).strip() == "", seconds=60), world.log()
    assert operations(world) == ["UpdateFunctionConfiguration"]


# --- put back ---


def reverting(world: World, plan: dict[str, Any]) -> dict[str, Any]:
    """Ask for a settled plan to be put back; return the plan that would do it."""
    word = world.say("bob", "Revert", plan, reason="the permanent fix is out")
    answer = world.answer(word)
    assert (answer["status"], answer["reason"]) == ("True", "Reverting"), answer
    (found,) = [p for p in world.plans() if p["spec"].get("revertOf") == plan["metadata"]["name"]]
    return found


def test_a_settled_fix_is_put_back_by_a_plan_of_its_own(world: World) -> None:
    """Shown, approved, executed: the state from before the fix, exactly."""
    with world.customers(), world.operator():
        broken(world)
        before = world.dump()
        manifest = world.manifest(FAULT.example)
        world.apply(manifest)
        status = world.finished(manifest["metadata"]["name"])
        assert outcome(status) == "Resolved/Runbook", story(status)
        (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
        back = reverting(world, applied)
        assert operations(world) == ["SetDefaultPolicyVersion"]
        assert world.answer(world.say("bob", "Approve", back, tier=back["spec"]["tier"]))["status"] == "True"
        name = back["metadata"]["name"]
        assert wait_until(lambda: plan_called(world, name)["status"].get("settled", False), seconds=60), world.log()
        assert plan_called(world, name)["status"]["state"] == "Reverted"
    assert world.dump() == before


def test_nothing_is_put_back_over_a_later_change(world: World) -> None:
    """A person changed it after the fix: their change stays."""
    with world.customers(), world.operator():
        broken(world)
        manifest = world.manifest(FAULT.example)
        world.apply(manifest)
        world.finished(manifest["metadata"]["name"])
        (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
        FAULT.heal(world.shop)
        FAULT.break_(world.shop)
        after = world.dump()
        back = reverting(world, applied)
        world.say("bob", "Approve", back, tier=back["spec"]["tier"])
        name = back["metadata"]["name"]
        assert wait_until(lambda: plan_called(world, name)["status"].get("settled", False), seconds=60), world.log()
        stored = plan_called(world, name)["status"]
    assert (stored["state"], stored["reason"]) == ("Superseded", "WorldChanged")
    assert "DefaultVersionId was changed since" in stored["message"]
    assert world.dump() == after


def test_a_temporary_fix_is_undone_when_its_time_is_over(world: World) -> None:
    """UndoIfSafe, after the run has long ended; the plan stays in sight until then."""
    (runbook,) = [
        r for r in world.admin.json("get", "clusterrunbooks")["items"] if r["metadata"]["name"] == "lambda-failures"
    ]
    spec = runbook["spec"]
    for step in spec["steps"]:
        for fix in step.get("fixes", ()):
            fix["temporary"] = {"reviewAfter": "20s", "onExpiry": "UndoIfSafe"}
    local = {
        "apiVersion": runbook["apiVersion"],
        "kind": "Runbook",
        "metadata": {"name": "temporary", "namespace": world.name},
    }
    world.admin.apply([{**local, "spec": spec}])
    with world.customers(), world.operator():
        broken(world)
        before = world.dump()
        manifest = world.manifest(FAULT.example, runbookRef={"kind": "Runbook", "name": "temporary"})
        manifest["spec"]["incident"]["severity"] = "P2"
        world.apply(manifest)
        status = world.finished(manifest["metadata"]["name"])
        assert outcome(status) == "Resolved/Runbook", story(status)
        (plan,) = [p for p in world.plans() if p["status"].get("startedAt")]
        assert "ownerReferences" not in plan["metadata"]
        name = plan["metadata"]["name"]
        assert wait_until(lambda: plan_called(world, name)["status"].get("settled", False), seconds=60), world.log()
        assert plan_called(world, name)["status"]["state"] == "Reverted"
    assert world.dump() == before


# --- twice ---


def test_the_same_manifest_applied_again_does_nothing_twice(world: World) -> None:
    """Deleted and created anew, as from a backup or from Git: refused, for this incident was handled."""
    with world.customers(), world.operator():
        broken(world)
        manifest = world.manifest(FAULT.example)
        detected = world.admin.json("get", "namespace", world.name)["metadata"]["creationTimestamp"]
        manifest["spec"]["incident"]["detectedAt"] = detected
        world.apply(manifest)
        name = manifest["metadata"]["name"]
        assert outcome(world.finished(name)) == "Resolved/Runbook"
        world.admin.run("delete", "incidentrun", "-n", world.name, name)
        made = operations(world)
        world.apply(manifest)
        status = world.wait_for(name, lambda s: bool(s.get("conditions")))
    (accepted,) = [c for c in status["conditions"] if c["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "AlreadyHandled")
    assert operations(world) == made


def test_two_runs_on_one_thing_take_turns(world: World) -> None:
    """One waits and says for whom; both end."""
    with world.customers(), world.operator():
        broken(world)
        first = world.manifest(FAULT.example)
        second = json.loads(json.dumps(first))
        second["metadata"]["name"] = "the-other-team"
        second["spec"]["incident"]["ticket"] = "INC-2024-7777"
        for manifest in (first, second):
            world.apply(manifest)
        ends = [world.finished(m["metadata"]["name"]) for m in (first, second)]
    assert [status["phase"] for status in ends] == ["Resolved", "Resolved"], "\n".join(map(story, ends))
    assert operations(world) == ["SetDefaultPolicyVersion"]
