"""INC-2023-0987: product images answer 403. What is given back, what is not, and what nobody may overwrite.

Judged from outside: by browsers, the simulator's journal and its dump, never by the run's own words.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dev.processes import wait_until
from dev.shop.images import seed
from dev.shop.images.faults import FAULTS
from dev.shop.images.grant import grant
from dev.shop.images.traffic import Browsers

from .world import World, impact, outcome, story

RUN = "inc-2023-0987"
Images = Callable[[], World]


@pytest.fixture
def make_images(make_world: Callable[..., World]) -> Images:
    """Return a maker of worlds with a bucket of images, and a grant for it in place of the birthday service's."""

    def make() -> World:
        world = make_world()
        world.shop = seed.seed(world.shop, world.folder)
        world.admin.apply([grant(world.shop.account, world.name, world.name)])
        return world

    return make


def started(world: World) -> None:
    """Apply the example as alice does, for this world's bucket."""
    text = json.dumps(world.manifest("s3-access.yaml"))
    world.apply(json.loads(text.replace("shopsmart-product-images", seed.bucket_of(world.shop))))


def broken(world: World, fault: str) -> None:
    """Break it as its actor would, and wait until CloudTrail tells of it."""
    FAULTS[fault].break_(world.shop)
    about = [{"AttributeKey": "ResourceName", "AttributeValue": seed.bucket_of(world.shop)}]
    trail = world.shop.client("cloudtrail")
    actors = ("media", "quarterly-audit")

    def told() -> bool:
        return any(e["Username"] in actors for e in trail.lookup_events(LookupAttributes=about)["Events"])

    assert wait_until(told, seconds=60, every=0.25)


def approved(world: World, plan: dict[str, Any], *people: str) -> None:
    """Let people agree to a plan."""
    for who in people:
        answer = agreed(world, plan, who)
        assert answer["status"] == "True", answer


def agreed(world: World, plan: dict[str, Any], who: str) -> dict[str, Any]:
    """Let a person agree to a plan; return what they are answered."""
    return world.answer(world.say(who, "Approve", plan, tier=plan["spec"]["tier"]))


def state_of(world: World, plan: dict[str, Any]) -> str:
    """Return a plan's state as stored."""
    (stored,) = [p for p in world.plans() if p["metadata"]["name"] == plan["metadata"]["name"]]
    return str(stored["status"]["state"])


def agreed_anew(world: World) -> bool:
    """Tell whether the plan that is open now has the word of two people."""
    plan = world.open_plan(RUN)
    return all(agreed(world, plan, who)["status"] == "True" for who in ("bob", "carol"))


def operations(world: World) -> list[str]:
    """Return the changing calls of the operator, in order."""
    return [call["operation"] for call in world.changes_by_operator()]


def is_measured(world: World) -> bool:
    """Tell whether the run knows by S3's own metrics how many requests failed."""
    return bool(world.status(RUN).get("impact", {}).get("method") == "Measured")


def only_policy_changed(world: World, before: Any) -> Any:
    """Return the bucket's policy, having seen that it is all that differs from a dump."""
    bucket, after = seed.bucket_of(world.shop), world.dump()
    policy = after["buckets"][bucket].pop("policy")
    expected = json.loads(json.dumps(before))
    expected["buckets"][bucket].pop("policy")
    assert after == expected
    return policy


def test_public_read_comes_back_with_two_peoples_word_and_goes_again_exactly(make_images: Images) -> None:
    """The declared statement beside the others, browsers well, the price list shut; then the undo, to the letter."""
    world = make_images()
    with Browsers(shop=world.shop) as browsers, world.operator():
        assert browsers.wait_for(lambda status: status == 200, seconds=30), browsers.told()
        broken(world, RUN)
        assert browsers.wait_for(lambda status: status == 403, seconds=30), browsers.told()
        before = world.dump()
        started(world)
        plan = world.open_plan(RUN)
        assert (plan["spec"]["tier"], plan["spec"]["hazards"]) == ("Security", ["ExposesData"])
        # CloudWatch tells of requests a while later; while people are waited for, everything is looked at again.
        assert wait_until(lambda: is_measured(world), seconds=60, every=0.25), story(world.status(RUN))
        (cause,) = [f for f in world.status(RUN)["findings"] if f["reason"] == "PublicReadMissing"]
        assert cause["actor"].endswith(":user/media")
        approved(world, plan, "bob")
        # One is not enough for what exposes data, and nothing is done meanwhile.
        assert operations(world) == []
        approved(world, plan, "carol")
        status = world.finished(RUN)
        assert outcome(status) == "Resolved/Runbook", story(status)
        failed, total = impact(status)
        assert status["impact"]["method"] == "Measured"
        assert 0 < failed <= total, "what customers were refused, as S3 counted it"
        assert browsers.wait_for(lambda status: status == 200, seconds=30), browsers.told()
        assert browsers.get(seed.PRIVATE) == 403
        assert operations(world) == ["PutBucketPolicy"]
        policy = only_policy_changed(world, before)
        assert policy == seed.declared(world.shop)
        assert seed.MEDIA in status["rootCause"]["summary"], story(status)
        (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
        word = world.say("bob", "Revert", applied, reason="the drill ends")
        assert world.answer(word)["status"] == "True"
        backs: list[dict[str, Any]] = []

        def proposed() -> bool:
            backs[:] = [p for p in world.plans() if p["spec"].get("revertOf") == applied["metadata"]["name"]]
            return bool(backs)

        assert wait_until(proposed, seconds=60, every=0.25), world.log()
        approved(world, backs[0], "carol")
        assert wait_until(lambda: operations(world) == ["PutBucketPolicy"] * 2, seconds=60, every=0.25), world.log()
        assert world.dump() == before


@pytest.mark.parametrize(
    ("fault", "finding", "why"),
    [
        ("images-blocked", "PublicAccessBlocked", "PublicAccessBlocked"),
        ("images-explicit-deny", "ExplicitDeny", "ExplicitDeny"),
        ("images-audited", "AccessRemovedOnPurpose", "AccessRemovedOnPurpose"),
        ("images-untagged", "ObjectsUntagged", "ObjectsUntagged"),
    ],
)
def test_what_was_shut_on_purpose_or_would_not_help_is_left_alone(
    fault: str, finding: str, why: str, make_images: Images
) -> None:
    """No policy is written; the finding and why there is no plan reach people."""
    world = make_images()
    with Browsers(shop=world.shop) as browsers, world.operator():
        broken(world, fault)
        assert browsers.wait_for(lambda status: status == 403, seconds=30), browsers.told()
        before = world.dump()
        started(world)
        status = world.finished(RUN)
    assert outcome(status) == "Unresolved/NoFixApplies", story(status)
    assert finding in {f["reason"] for f in status["findings"]}, story(status)
    (fix,) = [f for step in status["steps"] for f in step.get("fixes", ())]
    assert (fix["state"], fix["reason"]) == ("NotApplicable", why), story(status)
    assert operations(world) == []
    assert world.dump() == before
    assert world.plans() == []


def test_a_statement_that_somebody_adds_meanwhile_is_not_overwritten(make_images: Images) -> None:
    """The approved plan is void, and the next one keeps the newer statement."""
    world = make_images()
    with world.operator():
        broken(world, RUN)
        started(world)
        plan = world.open_plan(RUN)
        newer = {**seed.uploading(world.shop), "Sid": "Thumbnails", "Action": ["s3:PutObject", "s3:PutObjectTagging"]}
        document = seed.without_public_read(world.shop)
        document["Statement"].append(newer)
        client = world.shop.client("s3", seed.MEDIA)
        client.put_bucket_policy(Bucket=seed.bucket_of(world.shop), Policy=json.dumps(document))
        # Their words are taken, and void once the operator looks again; or it has looked, and they come too late.
        answers = [agreed(world, plan, who) for who in ("bob", "carol")]
        assert all(a["status"] == "True" or a["reason"] == "PlanChanged" for a in answers), answers
        assert wait_until(lambda: state_of(world, plan) == "Superseded", seconds=60, every=0.25), world.log()
        assert operations(world) == []
        # CloudTrail tells of the newer change later: that may be one more plan.
        assert wait_until(lambda: agreed_anew(world), seconds=60, every=0.25), world.log()
        status = world.finished(RUN)
    assert outcome(status) == "Resolved/Runbook", story(status)
    policy = world.dump()["buckets"][seed.bucket_of(world.shop)]["policy"]
    assert policy["Statement"] == [seed.uploading(world.shop), newer, seed.public_read(world.shop)]
