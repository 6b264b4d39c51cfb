"""Reviews on a real API server: drafted when a run ends, then people's, whatever the operator does afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev.controlplane.kubectl import KubectlError
from dev.faultproxy import Fault, Harm
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS

from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
#: Reviews are no matter of who leads: a busy machine must not lose the Lease meanwhile.
LEASE = {"lease-duration": "10s"}


def incident(world: World) -> dict[str, Any]:
    """Return a run's manifest whose incident is detected now, and needs a short recovery only."""
    manifest = world.manifest(FAULT.example)
    now = world.admin.json("get", "namespace", world.name)["metadata"]["creationTimestamp"]
    manifest["spec"]["incident"].update(severity="P2", detectedAt=now)
    return manifest


def broken(world: World) -> None:
    """Break the shop, and wait until customers feel it."""
    FAULT.break_(world.shop)
    assert wait_until_felt(world.shop, time_scale=TIME_SCALE)


def reviews(world: World) -> list[dict[str, Any]]:
    """Return the reviews of the namespace."""
    return list(world.admin.json("get", "postincidentreviews", "-n", world.name)["items"])


def said(world: World, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `kubectl incident` as alice."""
    program = Path(sys.executable).with_name("kubectl-incident")
    environment = {**os.environ, "KUBECONFIG": str(world.stack.kubeconfig("alice"))}
    command = [str(program), *arguments, "-n", world.name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def edit(world: World, name: str, spec: dict[str, Any]) -> None:
    """Let alice edit a review. Errors: KubectlError."""
    world.alice.run("patch", "pir", name, "-n", world.name, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_a_review_is_drafted_once_and_then_peoples(world: World) -> None:
    """What alice wrote, before the draft and after it, stays: also when another run of the incident ends."""
    mine = {"title": "Mails, as alice calls it"}
    with world.customers(), world.operator(**LEASE):
        broken(world)
        manifest = incident(world)
        manifest["spec"]["automation"] = {"applyUpTo": "None"}
        world.apply(manifest)
        name = manifest["metadata"]["name"]
        plan = world.open_plan(name)
        (begun,) = reviews(world)
        review = begun["metadata"]["name"]
        early = said(world, "review", name)
        assert (early.returncode, "no draft yet" in early.stderr or "has not ended" in early.stderr) == (1, True)
        edit(world, review, mine)
        assert world.answer(world.say("bob", "Approve", plan, tier=plan["spec"]["tier"]))["status"] == "True"
        status = world.finished(name)
        assert outcome(status) == "Resolved/Runbook", story(status)

        (drafted,) = reviews(world)
        spec, facts = drafted["spec"], drafted["status"]
        assert spec["title"] == mine["title"]
        assert spec["primaryCause"] == {"text": status["rootCause"]["summary"], "probable": True}
        conditions = {c["type"]: (c["status"], c["reason"]) for c in facts["conditions"]}
        assert conditions == {"Drafted": ("True", "Drafted"), "Overdue": ("False", "NotDueYet")}
        assert (facts["openItems"], facts["settled"]) == (len(spec["actionItems"]), False)
        assert facts["resolution"]["restoredAt"] == status["recovery"]["passingSince"]
        runbook = world.admin.json("get", "clusterrunbook", manifest["spec"]["runbookRef"]["name"])
        assert (begun["status"]["incidentType"], begun["status"]["severity"]) == (runbook["spec"]["incidentType"], "P2")
        assert (facts["incidentType"], facts["severity"]) == (runbook["spec"]["incidentType"], "P2")
        assert facts["restoredAt"] == facts["resolution"]["restoredAt"]
        assert (facts["resolvedBy"], facts["automatic"], facts["reopened"]) == ("Runbook", False, 0)
        assert (facts["classification"], facts["drill"]) == ("Incident", False)
        assert "of requests failed" in spec["customerImpact"]
        assert [(p["name"], p["state"]) for p in facts["plans"]] == [(plan["metadata"]["name"], "Helped")]
        assert {f["source"] for f in facts["timeline"] if f["text"] in spec["primaryCause"]["text"]} != set()
        assert any("bob" in line for line in [*spec["wentWell"], *spec["couldBeImproved"]])
        shown = said(world, "review", name)
        assert shown.stdout.startswith(f"# Post-Incident Review: {spec['ticket']}\n"), shown.stderr
        assert "(probable: nobody has confirmed it yet)" in shown.stdout
        assert "[RESOLVED] P2 Incident - Mails, as alice calls it\n" in said(world, "message", name).stdout
        assert "<h2>Timeline</h2>" in said(world, "review", review, "--html").stdout

        written = {
            "primaryCause": {"text": "a deployment took the permission away", "probable": False},
            "wentWell": [],
            "timeline": [{"at": spec["detectedAt"], "text": "alice noticed"}],
            "complete": True,
        }
        edit(world, review, written)
        (edited,) = reviews(world)
        again = {**manifest, "metadata": {**manifest["metadata"], "name": f"{name}-again"}}
        world.apply(again)
        ended = world.finished(f"{name}-again")
        (last,) = reviews(world)
        assert last["spec"] == edited["spec"]
        assert last["metadata"]["generation"] == edited["metadata"]["generation"]
        assert last["spec"]["timeline"] == written["timeline"]
        assert [r["name"] for r in last["status"]["runs"]] == [name, f"{name}-again"]
        assert last["status"]["resolution"]["outcome"] == ended["outcome"]
        assert last["status"]["restoredAt"] >= facts["restoredAt"], "users have been well since, whatever it found"
        shown = said(world, "review", f"{name}-again")
        assert "**Primary Cause**: a deployment took the permission away\n" in shown.stdout
        for broken_field in ({"ticket": "INC-0"}, {"draftedAt": None}):
            with pytest.raises(KubectlError, match=r"never change|draftedAt says"):
                edit(world, review, broken_field)


def test_a_run_that_names_no_incident_has_a_review_of_its_own_and_a_drill_none(
    make_world: Callable[..., World],
) -> None:
    """It begins at the end of the run; an operator that is killed before that end finds it, and drafts no other."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    with world.customers(), world.operator(**LEASE) as operator:
        killed = Fault(what="postincidentreviews/status", harm=Harm.LOST, act=operator.kill)
        world.proxy.arm(killed)
        broken(world)
        drill = world.manifest(FAULT.example, drill=True)
        drill["metadata"]["name"] = "a-drill"
        world.apply(drill)
        world.finished("a-drill")
        assert reviews(world) == []
        nothing = said(world, "review", "a-drill")
        assert (nothing.returncode, "observe-only" in nothing.stderr) == (1, True)
        manifest = world.manifest(FAULT.example)
        manifest["spec"]["incident"]["severity"] = "P2"
        world.apply(manifest)
        world.finished(manifest["metadata"]["name"])
        assert killed.struck.is_set()
        (review,) = reviews(world)
        assert review["spec"]["draftedAt"]
        assert review["metadata"]["generation"] == 1, "a draft is written once"
        # What set the shop up minutes before is no factor: nothing of it broke.
        changes = [f["message"] for f in world.status(manifest["metadata"]["name"])["findings"] if "actor" in f]
        factors = " ".join(review["spec"].get("contributingFactors", ()))
        assert any("PublishVersion" in change or "CreateAlias" in change for change in changes), changes
        assert "PublishVersion" not in factors
        assert "CreateAlias" not in factors
        assert [run["name"] for run in review["status"]["runs"]] == [manifest["metadata"]["name"]]
