"""Incidents on a real API server: opened by a run, told to real receivers, said by people, closed with the run."""

import dataclasses
import urllib.error
import urllib.request

import pytest
import yaml

from dev.controlplane.kubectl import KubectlError
from dev.processes import wait_until
from dev.receivers import Hook, Mood, Receivers
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from incident_operator.adapters.clock import Clock

from .incidents import LOOPBACK, an_escalation_policy, condition_of, incidents, the_incident, wait_for
from .test_review import incident, reviews, said
from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
OPTIONS = {**LOOPBACK, "lease-duration": "10s"}


def by_hand(world: World, name: str = "by-hand", **spec: object) -> str:
    """Let alice open an incident; return its name."""
    manifest = {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Incident",
        "metadata": {"name": name, "namespace": world.name},
        "spec": {"title": "Checkout is slow", "severity": "P1", **spec},
    }
    world.alice.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    return name


def test_people_follow_an_incident_from_its_run_to_its_end(world: World) -> None:
    """Opened by the run, paged, acknowledged by a command, resolved with the run; every receiver hears the end.

    The fix waits for bob, so that the end comes after alice's word, however busy the machine is.
    """
    with Receivers() as receivers, world.customers(), world.operator(**OPTIONS):
        an_escalation_policy(world, receivers)
        FAULT.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = incident(world)
        manifest["spec"]["incident"]["severity"] = "P1"
        manifest["spec"]["automation"] = {"applyUpTo": "None"}
        world.apply(manifest)
        opened = the_incident(world)
        name, run = opened["metadata"]["name"], manifest["metadata"]["name"]
        assert wait_until(lambda: bool(receivers.pagerduty.received and receivers.mail.received), seconds=20)
        acknowledged = said(world, "ack", run)
        assert acknowledged.returncode == 0, acknowledged.stdout + acknowledged.stderr
        assert said(world, "severity", run, "P0", "--reason", "payments fail, too").returncode == 0
        plan = world.open_plan(run)
        assert world.answer(world.say("bob", "Approve", plan, tier=plan["spec"]["tier"]))["status"] == "True"
        ended = world.finished(run)
        assert outcome(ended) == "Resolved/Runbook", story(ended)
        status = wait_for(
            world,
            name,
            lambda s: s["phase"] == "Resolved" and all(e["state"] != "Due" for e in s["engagements"]),
        )
        assert (status["commander"], status["resolution"]["by"]) == ("alice", "incident-operator")
        assert status["times"].keys() >= {
            *("started", "alerted", "paged", "acknowledged", "diagnosisStarted", "causeFound", "mitigated", "resolved")
        }
        assert condition_of(status, "RespondedInTime") == ("True", "InTime")
        assert [(r["name"], r["phase"]) for r in status["runs"]] == [(run, "Resolved")]
        assert status["cause"]["probable"] is True
        actions = [r.json["event_action"] for r in receivers.pagerduty.received]
        assert (actions[0], actions[-1]) == ("trigger", "resolve")
        assert "acknowledge" in actions
        base = f"incident-operator/{world.name}/{name}"
        assert {r.json["dedup_key"] for r in receivers.pagerduty.received} <= {base, f"{base}:approval"}
        assert all(one["state"] == "resolved" for one in receivers.pagerduty.incidents.values())
        assert len(receivers.slack.messages) == 1, "the room has one message, changed in place"
        (room,) = receivers.slack.messages.values()
        assert "RESOLVED" in str(room)
        (ticket,) = [taken["text"] for taken in receivers.webhook.taken.values() if taken["occasion"] == "Resolved"]
        for heading in ("Root Cause: Probably: ", "Resolved at: ", "Actions Taken:", "Next Steps:"):
            assert heading in ticket
        assert max(e["times"] for e in status["engagements"]) < 10, "nobody is told the same again and again"
        done = {duty["name"] for duty in status["closeout"]["duties"] if duty["state"] == "Done"}
        assert done >= {"ticketUpdated", "stakeholdersTold"}
        assert receivers.statuspage.received == [], "only a person publishes"
        (review,) = reviews(world)
        assert (review["metadata"]["name"], review["spec"]["severity"]) == (name, "P0"), "as people rated it"
        table = world.alice.run("get", "incidents", "-n", world.name)
        assert "Resolved" in table
        assert "alice" in table
        status = wait_for(world, name, lambda s: len(s["closeout"].get("looks", ())) == 3)
        assert status["closeout"]["looks"] == ["Passing"] * 3


def test_what_people_may_say_is_checked_where_it_is_said(world: World) -> None:
    """By the API server: other people, other verbs, missing words; an incident's spec never changes."""
    name = by_hand(world)
    target = world.admin.json("get", "incident", "-n", world.name, name)
    refused = {
        "cannot create resource": lambda: world.say("mallory", "Acknowledge", target),
        "may not publish": lambda: world.say("alice", "Publish", target, reason="hello"),
        "people speak for themselves": lambda: world.say("alice", "Acknowledge", target, responder="bob"),
        "names the severity": lambda: world.say("alice", "SetSeverity", target),
        "says percent": lambda: world.say("alice", "SetImpact", target),
        "names the other incident": lambda: world.say("alice", "Duplicate", target),
        "is its reason": lambda: world.say("alice", "SetRootCause", target),
        "about an Incident": lambda: world.say("alice", "Approve", target, tier="Low"),
        "only a RecordAction": lambda: world.say("alice", "Resolve", target, duty="alertsWorking"),
        "never changes": lambda: world.admin.run(
            "patch", "incident", name, "-n", world.name, "--type=merge", "-p", '{"spec": {"severity": "P3"}}'
        ),
    }
    for message, word in refused.items():
        with pytest.raises(KubectlError, match=message):
            word()


def test_people_work_on_an_incident_of_their_own(world: World) -> None:
    """Opened by hand, without a run: severity, impact, cause, actions, the end, each answered; then a run joins."""
    an_escalation_policy(world)
    with world.operator(**OPTIONS):
        name = by_hand(world)
        wait_for(world, name, lambda s: bool(s))
        words = [
            ("take", name),
            ("severity", name, "P2", "--reason", "only carts"),
            ("impact", name, "15"),
            ("cause", name, "connection pool is empty"),
            ("did", name, "raised the pool to 50"),
            ("note", name, "watching it"),
            ("resolve", name, "--reason", "the pool was raised"),
            ("did", name, "alarm fired in a test", "--duty", "alertsWorking"),
        ]
        for word in words:
            done = said(world, *word)
            assert done.returncode == 0, f"{word}: {done.stdout}{done.stderr}"
        status = wait_for(world, name, lambda s: s["phase"] == "Resolved")
        assert (status["severity"], status["commander"], status["impact"]["method"]) == ("P2", "alice", "Person")
        assert status["cause"] == {"summary": "connection pool is empty", "probable": False, "by": "alice"}
        late = said(world, "ack", name)
        assert late.returncode == 2
        assert "TooLate" in late.stdout
        manifest = world.manifest("incident-run.yaml")
        manifest["spec"]["incident"] = {"name": name, "severity": "P2"}
        world.apply(manifest)
        status = wait_for(world, name, lambda s: s.get("reopened") == 1)
        assert status["phase"] == "Open"
        lost = world.manifest("incident-run.yaml")
        lost["metadata"]["name"] = "joins-nothing"
        lost["spec"]["incident"] = {"name": "no-such-incident"}
        world.apply(lost)
        reason = world.wait_for("joins-nothing", lambda s: bool(s.get("conditions")))["conditions"][0]["reason"]
        assert reason == "IncidentNotFound"
        assert {one["metadata"]["name"] for one in incidents(world)} == {name}


def test_a_page_that_a_killed_operator_had_on_its_way_arrives(world: World) -> None:
    """Killed before the receiver answered: the next one pages again, under the same key; nobody is paged zero times."""
    with Receivers() as receivers:
        an_escalation_policy(world, receivers)
        receivers.pagerduty.be(Mood.SLOW, seconds=60)
        with world.operator(**OPTIONS) as first:
            name = by_hand(world)
            assert wait_until(lambda: bool(receivers.pagerduty.received), seconds=30)
            first.kill()
        receivers.pagerduty.be(Mood.UP)
        with world.operator("second", **OPTIONS):
            wait_for(world, name, lambda s: bool(s.get("times", {}).get("paged")))
            keys = {r.json["dedup_key"] for r in receivers.pagerduty.received}
            assert len(receivers.pagerduty.received) >= 2
            assert len(keys) == 1


def test_receivers_that_fail_are_tried_again_and_others_meanwhile(world: World) -> None:
    """The pager answers 500 and the room throttles: mail arrives at once, and both do once they are well."""
    with Receivers() as receivers:
        an_escalation_policy(world, receivers)
        receivers.pagerduty.be(Mood.FAILED, times=1)
        receivers.slack.be(Mood.THROTTLED, times=1)
        with world.operator(**OPTIONS):
            name = by_hand(world)
            status = wait_for(
                world, name, lambda s: all(e["state"] != "Due" for e in s.get("engagements", [{"state": "Due"}]))
            )
            assert {e["state"] for e in status["engagements"]} == {"Delivered", "Sent"}
            assert len(receivers.slack.messages) == 1
            assert receivers.mail.received


def test_an_acknowledgement_in_slack_and_a_note_in_pagerduty_are_heard(world: World) -> None:
    """Signed hooks to the operator that leads: in the name of who said it, once, also when sent again; nothing else."""
    with Receivers() as receivers:
        an_escalation_policy(world, receivers)
        env = {
            "SLACK_SIGNING_SECRET": receivers.slack.signing_secret,
            "PAGERDUTY_SIGNING_SECRET": receivers.pagerduty.signing_secret,
        }
        with world.operator(env=env, **OPTIONS) as operator:
            name = by_hand(world)
            wait_for(world, name, lambda s: bool(s.get("times", {}).get("paged")))
            now = Clock().now()
            hooks = [
                ("slack", receivers.slack.commanded(f"ack {world.name}/{name}", by="erin", at=now)),
                (
                    "pagerduty",
                    receivers.pagerduty.annotated(
                        f"incident-operator/{world.name}/{name}", "on it", by="Frank", at=now
                    ),
                ),
            ]
            for provider, hook in [*hooks, *hooks]:
                assert posted(f"http://{operator.http}/hooks/{provider}", hook) == 200
            status = wait_for(world, name, lambda s: s["phase"] == "Acknowledged" and "Noted" in str(s["timeline"]))
            assert status["commander"].startswith("slack:erin")
            words = world.admin.json("get", "interventions", "-n", world.name)["items"]
            assert sorted(word["spec"]["verb"] for word in words) == ["Acknowledge", "Note"]
            forged = dataclasses.replace(hooks[0][1], body=hooks[0][1].body + b"&x=1")
            assert posted(f"http://{operator.http}/hooks/slack", forged) == 401


def posted(url: str, hook: Hook) -> int:
    """Post a hook as its provider does, and return the answer's status."""
    request = urllib.request.Request(url, data=hook.body, headers=dict(hook.headers), method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
