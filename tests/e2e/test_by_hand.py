"""Incidents that people open and end by hand, on a real API server: close-out, review and report without any run."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.processes import wait_until
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.api.incident import Incident
from incident_operator.api.meta import Metadata, format_instant, parse_instant
from incident_operator.api.review import HandledRun, PostIncidentReview, PostIncidentReviewSpec
from incident_operator.controllers.reviewing import record_end
from incident_operator.core.review_by_hand import draft_by_hand

from .incidents import LOOPBACK, an_escalation_policy, condition_of, wait_for
from .test_incident import by_hand
from .test_maintenance import runbook, stored, wait_for_condition
from .test_metrics import page, total
from .test_review import edit, reviews, said
from .world import World

OPTIONS = {**LOOPBACK, "lease-duration": "10s"}

__all__ = ["runbook"]


def done(world: World, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Let alice say something; it is taken."""
    answer = said(world, *arguments)
    assert answer.returncode == 0, f"{arguments}: {answer.stdout}{answer.stderr}\n{world.log()}"
    return answer


def review_of(world: World, name: str) -> dict[str, Any]:
    """Return the one review of an incident, by its name."""
    (found,) = (review for review in reviews(world) if review["metadata"]["name"] == name)
    return found


def test_one_that_was_resolved_by_hand_asks_people_how_metrics_are(world: World) -> None:
    """No run, no checks: three looks say Unknown, the duty stays open until a person does it, and nothing fails."""
    an_escalation_policy(world)
    with world.operator(**OPTIONS) as operator:
        name = by_hand(world)
        wait_for(world, name, lambda s: bool(s))
        done(world, "ack", name)
        done(world, "resolve", name, "--reason", "the pool was raised")
        status = wait_for(world, name, lambda s: len(s.get("closeout", {}).get("looks", ())) == 3, seconds=120)
        assert status["closeout"]["looks"] == ["Unknown"] * 3
        looks = [e["message"] for e in status["timeline"] if e["reason"] == "MetricsLookedAt"]
        assert [text.split(":")[0] for text in looks] == ["metrics at +15 m", "metrics at +30 m", "metrics at +60 m"]
        assert all("no run was at work on it" in text for text in looks), looks
        duties = {duty["name"]: duty["state"] for duty in status["closeout"]["duties"]}
        assert duties["metricsNormal"] == "Open"
        assert condition_of(status, "ClosedOut") == ("Unknown", "DutiesOpen")
        asked = next(c["message"] for c in status["conditions"] if c["type"] == "ClosedOut")
        assert "metricsNormal" in asked
        assert total(page(operator), "reconcile_errors_total", kind="Incident") == 0, world.log()
        for duty, state in duties.items():
            if state == "Open":
                done(world, "did", name, "looked at it", "--duty", duty)
        status = wait_for(world, name, lambda s: s["phase"] == "Closed")
        (metrics,) = (duty for duty in status["closeout"]["duties"] if duty["name"] == "metricsNormal")
        assert (metrics["state"], metrics["by"]) == ("Done", "alice")
        assert condition_of(status, "ClosedOut") == ("True", "DutiesDone")


def test_what_people_ended_by_hand_has_a_review_and_is_in_the_report(world: World) -> None:
    """An outage and a false alarm: drafted once, then people's; both in the rate; a duplicate has none."""
    an_escalation_policy(world)
    with world.operator(**OPTIONS):
        for name in ("outage", "alarm", "again"):
            by_hand(world, name, ticket=f"INC-{name.upper()}")
            wait_for(world, name, lambda s: bool(s))
        done(world, "ack", "outage")
        done(world, "resolve", "outage", "--reason", "the pool was raised")
        done(world, "false-positive", "alarm", "a test of the alarm")
        done(world, "duplicate", "again", "outage")
        for name, phase in (("outage", "Resolved"), ("alarm", "FalsePositive"), ("again", "Duplicate")):
            wait_for(world, name, lambda s, phase=phase: s["phase"] == phase)  # type: ignore[misc]
        assert {review["metadata"]["name"] for review in reviews(world)} == {"outage", "alarm"}
        outage, alarm = review_of(world, "outage"), review_of(world, "alarm")
        assert (outage["spec"]["ticket"], outage["spec"]["severity"]) == ("INC-OUTAGE", "P1")
        assert outage["spec"]["resolution"] == "the pool was raised"
        assert (outage["status"]["classification"], outage["status"]["resolvedBy"]) == ("Incident", "Manual")
        restored = parse_instant(outage["status"]["restoredAt"])
        assert parse_instant(outage["status"]["dueAt"]) == restored + timedelta(hours=48)
        assert (alarm["status"]["classification"], alarm["status"].get("restoredAt")) == ("FalsePositive", None)
        for review in (outage, alarm):
            assert condition_of(review["status"], "Overdue") == ("False", "NotDueYet")
            assert condition_of(review["status"], "Drafted") == ("True", "Drafted")
        edit(world, "outage", {"customerImpact": "nobody could pay", "resolution": "mine"})
        with pytest.raises(KubectlError, match="draftedAt"):
            edit(world, "outage", {"draftedAt": None})
    written = review_of(world, "outage")["spec"]
    with world.operator("second", **OPTIONS):  # takes them up anew, and writes no spec
        by_hand(world, "later")
        wait_for(world, "later", lambda s: bool(s))
        assert review_of(world, "outage")["spec"] == written
        assert written["resolution"] == "mine"
        month = written["detectedAt"][:7]
        figures = json.loads(done(world, "report", "--month", month, "-o", "json").stdout)["figures"]
        assert (figures["incidents"], figures["resolved"], figures["falsePositives"]) == (1, 1, 1)
        assert figures["falsePositiveRate"] == 0.5
        assert "Nobody let a runbook work on it" in done(world, "review", "outage").stdout


@asynccontextmanager
async def the_operators(world: World) -> AsyncIterator[Any]:
    """Connect as the operator: what a controller needs to write a review."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(world.stack.operator_kubeconfig))
        kube = await Kube.connect(Clock())
    try:
        yield SimpleNamespace(kube=kube, clock=Clock())
    finally:
        await kube.close()


def ended(world: World) -> Incident:
    """Return an incident that alice resolved, as it is about to be stored."""
    at = Clock().now().replace(microsecond=0)
    resolution = {"by": "alice", "at": format_instant(at), "summary": "it is well"}
    return Incident.model_validate(
        {
            "metadata": {"name": "by-hand", "namespace": world.name, "uid": "u"},
            "spec": {"title": "Checkout is slow", "severity": "P1", "detectedAt": format_instant(at)},
            "status": {
                "phase": "Resolved",
                "severity": "P1",
                "resolution": resolution,
                "times": {"resolved": resolution["at"]},
            },
        }
    )


async def test_a_draft_that_a_killed_operator_left_is_completed_and_not_made_again(world: World) -> None:
    """Killed after the draft and before its facts; meanwhile somebody wrote into it. The third time changes nothing."""
    incident, key = ended(world), (world.name, "by-hand")
    async with the_operators(world) as context:
        drafted = draft_by_hand(incident, context.clock.now())
        metadata = Metadata(name=key[1], namespace=key[0])
        await context.kube.create_once(PostIncidentReview(metadata=metadata, spec=drafted))
        edit(world, "by-hand", {"title": "mine", "resolution": None})
        before = review_of(world, "by-hand")["spec"]
        await record_end(context, key, incident)
        completed = review_of(world, "by-hand")
        assert completed["spec"] == before
        assert (before["title"], "resolution" in before) == ("mine", False)
        assert (completed["status"]["resolvedBy"], "dueAt" in completed["status"]) == ("Manual", True)
        await record_end(context, key, incident)
        assert review_of(world, "by-hand")["status"] == completed["status"]


async def test_a_tombstone_stays_what_it_is(world: World) -> None:
    """It names a run: that run drafts, whatever people say of the incident meanwhile."""
    incident, key = ended(world), (world.name, "by-hand")
    async with the_operators(world) as context:
        at = context.clock.now()
        metadata = Metadata(name=key[1], namespace=key[0])
        stone = PostIncidentReview(
            metadata=metadata, spec=PostIncidentReviewSpec(ticket="INC-1", detected_at=at, title="begun")
        )
        raw = {**await context.kube.create_once(stone), "kind": "PostIncidentReview"}
        run = HandledRun(name="run-1", uid="u", started_at=at)
        await context.kube.write_status(raw, stone.status.model_copy(update={"runs": (run,)}).wire())
        before = review_of(world, "by-hand")
        await record_end(context, key, incident)
        after = review_of(world, "by-hand")
        assert after["spec"] == before["spec"]
        assert "draftedAt" not in after["spec"]
        assert after["status"]["runs"] == before["status"]["runs"]
        assert (after["status"]["resolvedBy"], "dueAt" in after["status"]) == ("Manual", False)


def test_a_finished_review_makes_its_runbook_due_for_an_update_once(world: World, runbook: dict[str, Any]) -> None:
    """People leave a suggestion in it and say that it is complete; the runbook's next change answers that, for good."""
    name = runbook["metadata"]["name"]
    with world.operator(**OPTIONS):
        world.admin.apply([runbook])
        wait_for_condition(world, "Ready", "True", "Valid")
        begun = a_review(world, name)
        edit(world, "taught", {"knowledgeBase": ["say when it does not help"]})
        assert not stored(world)["status"].get("updateDue")
        edit(world, "taught", {"complete": True})
        assert wait_until(lambda: bool(stored(world)["status"].get("updateDue")), seconds=30), world.log()
        (due,) = stored(world)["status"]["updateDue"]
        assert (due["reason"], due["about"]) == ("SuggestionAccepted", f"{world.name}/taught")
        assert wait_until(lambda: "lessonsNotedAt" in review_of(world, "taught")["status"], seconds=30)
        runbook["spec"]["title"] = f"{runbook['spec']['title']}, revised"
        world.admin.apply([runbook])
        assert wait_until(lambda: not stored(world)["status"].get("updateDue"), seconds=30), world.log()
        noted = review_of(world, "taught")["status"]["lessonsNotedAt"]
        assert parse_instant(noted) >= begun
    with world.operator("second", **OPTIONS):  # the review is watched, for its work is not done: it is noted no more
        edit(world, "taught", {"customerImpact": "few"})
        item = {"text": "mend it", "owner": "@platform-team", "dueDate": "2024-01-22"}
        edit(world, "taught", {"actionItems": [item, {**item, "text": "watch it"}]})
        assert wait_until(lambda: review_of(world, "taught")["status"].get("openItems") == 2, seconds=30)
        assert review_of(world, "taught")["status"]["lessonsNotedAt"] == noted
        assert not stored(world)["status"].get("updateDue")


def a_review(world: World, name: str) -> Any:
    """Store a review of a run by this runbook, as the operator would, with work that is not done; return its end."""
    now = world.admin.json("get", "namespace", world.name)["metadata"]["creationTimestamp"]
    metadata = {"name": "taught", "namespace": world.name}
    head = {"apiVersion": "ops.shopsmart.com/v1alpha1", "kind": "PostIncidentReview", "metadata": metadata}
    items = [{"text": "mend it", "owner": "@platform-team", "dueDate": "2024-01-22"}]
    spec = {"ticket": "INC-1", "detectedAt": now, "draftedAt": now, "actionItems": items}
    run = {"name": "run-1", "uid": "u", "startedAt": now, "finishedAt": now, "phase": "Resolved", "outcome": "Runbook"}
    ran = {**run, "runbook": name, "runbookKind": "ClusterRunbook"}
    status = {"runs": [ran], "dueAt": "2099-01-01T00:00:00Z"}
    as_operator = Kubectl(world.stack.operator_kubeconfig)
    as_operator.run("create", "-f", "-", stdin=json.dumps({**head, "spec": spec}))
    as_operator.run(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--subresource=status",
        "-f",
        "-",
        stdin=json.dumps({**head, "status": status}),
    )
    return parse_instant(now)
