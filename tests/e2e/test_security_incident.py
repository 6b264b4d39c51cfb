"""SEC-2023-0156: a leaked key reads all customers. Evidence first, then the key is dead; nothing makes it valid again.

Judged from outside: by who holds the key, the simulator's journal and its dump, and the evidence itself.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from dev.processes import wait_until
from dev.shop.front import seed as front_seed
from dev.shop.front.faults import FAULTS as FRONT_FAULTS
from dev.shop.front.life import life as front_life
from dev.shop.partners import api, front, seed
from dev.shop.partners.faults import FAULTS
from dev.shop.partners.grant import grant
from dev.shop.partners.scraper import Scraper
from incident_operator.adapters.clock import Clock

from .test_s3_access import approved, operations
from .world import World, outcome, story

RUN, SCRAPED_API = "sec-2023-0156", "api-key-scraped"


@pytest.fixture
def partners(make_world: Callable[..., World]) -> World:
    """Return a world with a partner's key and a bucket for evidence, and a grant for both."""
    world = make_world()
    world.shop = seed.seed(world.shop, world.folder)
    world.admin.apply([grant(world.shop.account, world.name, world.name)])
    return world


def scraped(world: World) -> tuple[datetime, datetime]:
    """Let the key be used, wait until CloudTrail shows all of it, and return the window."""
    start = Clock().now() - timedelta(seconds=2)
    FAULTS[RUN].break_(world.shop)
    end = Clock().now()
    assert wait_until(lambda: "CreateAccessKey" in events_of(world), seconds=60, every=0.25)
    return start, end


def events_of(world: World, user: str = seed.PARTNER) -> set[str]:
    """Return the names of what CloudTrail shows of a partner's user by now."""
    about = [{"AttributeKey": "Username", "AttributeValue": user}]
    found = world.shop.client("cloudtrail").lookup_events(LookupAttributes=about)["Events"]
    return {event["EventName"] for event in found}


def started(world: World, window: tuple[datetime, datetime], fault: str = RUN) -> None:
    """Open a confidential incident as alice, and apply the run of a fault's example that joins it."""
    incident = {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Incident",
        "metadata": {"name": fault, "namespace": world.name},
        "spec": {
            "ticket": FAULTS[fault].ticket,
            "title": "Unusual API access patterns detected",
            "severity": "P1",
            "confidential": True,
        },
    }
    world.apply(incident)
    manifest = world.manifest(FAULTS[fault].example, incident={"name": fault})
    known, who = ("accessKeyId", seed.PARTNER) if fault == RUN else ("apiKeyId", api.FEED)
    manifest["spec"]["parameters"] |= {
        known: world.shop.keys[who].access_key_id,
        "windowStart": f"{window[0]:%Y-%m-%dT%H:%M:%SZ}",
        "windowEnd": f"{window[1]:%Y-%m-%dT%H:%M:%S.%fZ}",
        "evidenceBucket": seed.evidence_bucket(world.shop),
    }
    world.apply(manifest)


def evidence(world: World) -> dict[str, bytes]:
    """Return what is in the evidence bucket."""
    s3, bucket = world.shop.client("s3"), seed.evidence_bucket(world.shop)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_evidence_is_written_first_and_the_key_is_dead_afterwards(partners: World) -> None:
    """By itself the one, with a person's word the other; the thief is refused from then on, and stays refused."""
    world = partners
    key = world.shop.keys[seed.PARTNER].access_key_id
    window = scraped(world)
    with Scraper(shop=world.shop) as thief, world.operator():
        before = world.dump()
        started(world, window)
        assert wait_until(lambda: bool(evidence(world)), seconds=60, every=0.25), world.log()
        assert thief.once() == "ok"
        plan = world.open_plan(RUN, "disableKey")
        # Nothing but the evidence was written until somebody agreed.
        assert operations(world) == ["PutObject"]
        assert plan["spec"]["askBecause"] == ["ContainmentIsForPeople"]
        assert plan["spec"]["irreversible"]
        status = world.status(RUN)
        (other,) = [f for f in status["findings"] if f["reason"] == "PersistenceByActor"]
        assert "CreateAccessKey" in other["message"]
        # A confidential incident: two people of the Security tier, though the risk is Disruptive.
        assert (plan["spec"]["tier"], plan["spec"]["risk"]) == ("Security", "Disruptive")
        approved(world, plan, "bob")
        assert operations(world) == ["PutObject"]
        approved(world, plan, "carol")
        status = world.finished(RUN)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert thief.once() == "UnrecognizedClientException"
        # No customer's request fails of it: how bad it is, people say. It is told as unknown, not as nothing.
        assert "impact" not in status
    # The key, and the one that the thief made with it.
    assert operations(world) == ["PutObject", "UpdateAccessKey", "UpdateAccessKey"]
    assert all(call["outcome"] == "OK" for call in world.changes_by_operator())
    ((name, body),) = evidence(world).items()
    assert name.endswith(f"-{hashlib.sha256(body).hexdigest()}.jsonl")
    head, *events = [json.loads(line) for line in body.decode().splitlines()]
    assert head["actors"] == [world.shop.user_arn(seed.PARTNER)]
    told = [dict(zip(head["columns"], event, strict=True)) for event in events]
    assert {"DescribeTable", "CreateAccessKey"} <= {event["name"] for event in told}
    assert {event["address"] for event in told} == {seed.SCRAPER}
    # All that differs are the evidence and the two keys.
    after = world.dump()
    keys = before["users"][seed.PARTNER].pop("keys")
    assert key in keys
    assert len(keys) == 2
    assert set(keys.values()) == {"Active"}
    assert after["users"][seed.PARTNER].pop("keys") == dict.fromkeys(keys, "Inactive")
    assert list(after["buckets"][seed.evidence_bucket(world.shop)].pop("objects")) == [name]
    before["buckets"][seed.evidence_bucket(world.shop)].pop("objects")
    assert after == before


def test_evidence_that_cannot_be_written_and_a_key_of_our_own_are_said(partners: World) -> None:
    """The bucket refuses: nothing pretends otherwise. A service of ours uses the key: whoever is asked is told."""
    world = partners
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
    deny["Resource"] = f"arn:aws:s3:::{seed.evidence_bucket(world.shop)}/*"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    world.shop.client("s3").put_bucket_policy(Bucket=seed.evidence_bucket(world.shop), Policy=policy)
    with Scraper(shop=world.shop, address=seed.OWN) as ours:
        assert ours.once() == "ok"
        window = scraped(world)
    with world.operator():
        before = world.dump()
        started(world, window)
        plan = world.open_plan(RUN, "disableKey")
        assert plan["spec"]["askBecause"] == ["ContainmentIsForPeople", "OwnServiceUsesKey"]
        # More than one where CloudTrail showed more calls meanwhile.
        states = {(p.get("status") or {}).get("state") for p in world.plans() if p["spec"]["fix"] == "collectEvidence"}
        assert states
        assert "Helped" not in states
        # Whoever agrees is told, and would have to say that they know (`--override EvidenceMissing`).
        fixes = {fix["name"]: fix for step in world.status(RUN)["steps"] for fix in step.get("fixes", ())}
        assert fixes["disableKey"]["reason"] == "EvidenceMissing", fixes
        assert fixes["disableKey"]["message"].startswith("collectEvidence is ")
        other = world.open_plan(RUN, "quarantineUser")
        assert other["spec"]["askBecause"] == plan["spec"]["askBecause"]
        for asked in (plan, other):
            word = world.say("bob", "Reject", asked, reason="the feed would stop; the partner gets a new key first")
            assert world.answer(word)["status"] == "True"
        status = world.finished(RUN)
    assert outcome(status).startswith("Unresolved/"), story(status)
    assert [c["operation"] for c in world.changes_by_operator() if c["outcome"] == "OK"] == []
    assert evidence(world) == {}
    assert world.dump() == before


def scraped_api(world: World) -> tuple[datetime, datetime]:
    """Let the API's key be used, wait until the access log shows all of it, and return the window."""
    start = Clock().now() - timedelta(seconds=2)
    FAULTS[SCRAPED_API].break_(world.shop)
    end = Clock().now()
    assert wait_until(lambda: len(api.scraped_at(world.shop, seed.SCRAPER, start)) == 5, seconds=60, every=0.25)
    return start, end


def test_a_scraped_api_key_is_disabled_partners_are_served_and_the_undo_is_exact(partners: World) -> None:
    """Evidence first, by itself; the key with two people's word; the other partner feels nothing."""
    world = partners
    world.shop = api.seed(world.shop, world.folder)
    key = world.shop.keys[api.FEED].access_key_id
    thief = api.Caller(shop=world.shop, who=api.FEED, address=seed.SCRAPER)
    window = scraped_api(world)
    with api.Caller(shop=world.shop, who=api.MARKET, rate=2) as market, world.operator():
        before = world.dump()
        started(world, window, SCRAPED_API)
        plan = world.open_plan(SCRAPED_API, "disableApiKey")
        assert wait_until(lambda: bool(evidence(world)), seconds=60, every=0.25), world.log()
        assert operations(world) == ["PutObject"]
        assert thief.once()[0] == 200
        assert plan["spec"]["askBecause"] == ["ContainmentIsForPeople"]
        assert (plan["spec"]["tier"], plan["spec"]["risk"]) == ("Security", "Disruptive")
        assert plan["spec"]["touches"] == [f"arn:aws:apigateway:us-east-1::/apikeys/{key}"]
        approved(world, plan, "bob", "carol")
        status = world.finished(SCRAPED_API)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert thief.once() == (403, {"message": "Forbidden"})
        assert wait_until(lambda: market.counts[200] > 0, seconds=30)
        assert set(market.counts) == {200}
        assert operations(world) == ["PutObject", "UpdateApiKey"]
        (body,) = evidence(world).values()
        head, *lines = [json.loads(line) for line in body.decode().splitlines()]
        assert (head["apiKeyId"], head["addresses"]) == (key, {seed.SCRAPER: 5})
        told = [dict(zip(head["columns"], line, strict=True)) for line in lines]
        assert {(line["method"], line["path"], line["status"]) for line in told} == {("GET", "/customers", "200")}
        # A key's value is nowhere: neither in the evidence nor in what is stored for people.
        stored = json.dumps([status, world.plans()]) + body.decode()
        assert world.shop.keys[api.FEED].secret_access_key not in stored
        before["buckets"][seed.evidence_bucket(world.shop)]["objects"] = world.dump()["buckets"][
            seed.evidence_bucket(world.shop)
        ]["objects"]
        after = world.dump()
        assert after["apiKeys"][f"us-east-1/{key}"].pop("enabled") is False
        expected = json.loads(json.dumps(before))
        expected["apiKeys"][f"us-east-1/{key}"].pop("enabled")
        assert after == expected
        undone(world)
        assert thief.once()[0] == 200
    assert world.dump() == before


def undone(world: World) -> None:
    """Put the API key's fix back on two people's word, and wait until it is."""
    (applied,) = [p for p in world.plans() if p["spec"]["fix"] == "disableApiKey" and p["status"].get("startedAt")]
    word = world.say("bob", "Revert", applied, reason="the partner has rotated its key, and this one is watched")
    assert world.answer(word)["status"] == "True"
    backs: list[dict[str, Any]] = []

    def proposed() -> bool:
        backs[:] = [p for p in world.plans() if p["spec"].get("revertOf") == applied["metadata"]["name"]]
        return bool(backs)

    assert wait_until(proposed, seconds=60, every=0.25), world.log()
    # Of a confidential incident this, too, is the Security tier's: two people, and never who asked for the run.
    approved(world, backs[0], "bob", "carol")
    done = ["PutObject", "UpdateApiKey", "UpdateApiKey"]
    assert wait_until(lambda: operations(world) == done, seconds=60, every=0.25), world.log()


def test_the_scraper_is_refused_at_the_web_acl_and_the_partners_are_served(partners: World) -> None:
    """Blocked by a person's word; what was blocked before stays, and the undo is exact.

    The key is dead already, and what was done with it is known: what is left is who still comes.
    """
    world = partners
    world.shop = front_seed.seed(world.shop, world.folder)
    fault = FRONT_FAULTS["web-acl-scraper"]
    start = Clock().now() - timedelta(seconds=2)
    with front_life(world.shop) as life:

        def ask(word: str, **arguments: Any) -> Any:
            return life.answers[word](arguments)

        assert fault.break_(ask)
        end = Clock().now()
        assert wait_until(lambda: "DescribeTable" in events_of(world, front_seed.FORMER), seconds=60, every=0.25)
        before = world.dump()
        with world.operator():
            manifest = world.manifest(fault.example)
            manifest["spec"]["parameters"] |= {
                "accessKeyId": world.shop.keys[front_seed.FORMER].access_key_id,
                "windowStart": f"{start:%Y-%m-%dT%H:%M:%SZ}",
                "windowEnd": f"{end:%Y-%m-%dT%H:%M:%S.%fZ}",
                "evidenceBucket": seed.evidence_bucket(world.shop),
            }
            world.apply(manifest)
            plan = world.open_plan(fault.name, "blockAddresses")
            assert (plan["spec"]["risk"], plan["spec"]["askBecause"]) == ("Disruptive", ["ContainmentIsForPeople"])
            found = {f["reason"]: f["message"] for f in world.status(fault.name)["findings"]}
            assert {"AbusiveAddresses", "RateRuleOnlyCounts"} <= set(found)
            assert front.SCRAPER in found["AbusiveAddresses"]
            assert operations(world) == []
            assert ask("scraped")
            approved(world, plan, "bob")
            status = world.finished(fault.name)
            assert outcome(status) == "Resolved/Runbook", story(status)
            assert ask("scraper") == 403
            assert set(ask("served")) == {"200"}
            # One call, and all that differs is one address more in the set.
            assert operations(world) == ["UpdateIPSet"]
            after = world.dump()
            ((_, blocked),) = after["ipSets"].items()
            assert blocked["addresses"] == sorted([front.BLOCKED_BEFORE, f"{front.SCRAPER}/32"])
            blocked["addresses"] = [front.BLOCKED_BEFORE]
            assert after == before
            # Somebody wants it back: exactly what was there.
            word = world.say("bob", "Revert", plan, reason="the partner moved in there")
            assert world.answer(word)["status"] == "True"
            assert wait_until(lambda: world.dump() == before, seconds=60, every=0.25), world.log()
            assert wait_until(lambda: ask("scraper") == 200, seconds=60, every=0.25)
    assert operations(world) == ["UpdateIPSet", "UpdateIPSet"]
    assert all(call["outcome"] == "OK" for call in world.changes_by_operator())
