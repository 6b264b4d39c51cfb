"""Public read comes back by one declared statement, beside all others; and only where nobody shut it on purpose."""

import json
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.s3 import (
    AnonymousReads,
    BucketPolicy,
    DeclaredInputs,
    MergeBucketPolicy,
    MergeInputs,
    ObjectsInputs,
    ObjectTags,
    PublicAccessBlock,
    ReadsFacts,
    SeenObject,
)
from incident_operator.api.plan import Hazard, Tier
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.planning import tier_of
from tests.actions.reader import DictReader

FIX = MergeBucketPolicy()
INPUTS = MergeInputs(bucket="images", canaries=("a.jpg", "b.jpg"), private_object="prices.csv")
OTHER = {"Sid": "Uploads", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/media"}}
OTHER |= {"Action": "s3:PutObject", "Resource": "arn:aws:s3:::images/*"}
MEDIA = "arn:aws:iam::123456789012:user/media"
AUDIT = "arn:aws:sts::123456789012:assumed-role/SecurityAudit/eve"
DENIED = ReadError("PublicAccessDenied", "anybody who asks is refused")
TAG = {"data-classification": "public-dataset"}


def policy(*statements: Any) -> dict[str, Any]:
    """Return a document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def wrote(document: Any, actor: str = MEDIA, minute: int = 10) -> dict[str, Any]:
    """Return the event of a policy that was written, or deleted."""
    return {
        "name": "PutBucketPolicy" if document else "DeleteBucketPolicy",
        "at": f"2026-01-15T14:{minute:02d}:00+00:00",
        "actor": actor,
        "error": None,
        "readOnly": False,
        "parameters": {"bucketPolicy": document} if document else {},
        "version": None,
    }


def a_reader(document: Any = None, **answers: Any) -> DictReader:
    """Return a bucket that refuses everybody: its tagged canaries are there, its policy lost public read."""
    document = policy(OTHER) if document is None else document
    values: dict[str, Any] = {
        "s3.get_bucket_policy": document,
        "s3.get_public_access_block": NotFound("none", code="NoSuchPublicAccessBlockConfiguration"),
        "s3.get_object_tagging": lambda asked: {} if asked["Key"] == "prices.csv" else TAG,
        "s3.head_object": DENIED,
        "s3.list_objects_v2": ["a.jpg", "b.jpg", "prices.csv"],
        "cloudtrail.lookup_events": [wrote(document), wrote(policy(OTHER, INPUTS.statement()), minute=1)],
    }
    protected = ("arn:aws:iam::123456789012:role/SecurityAudit",)
    return DictReader(answers={**values, **answers}, protected_actors=protected)


def planned(reader: DictReader) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return FIX.plan(INPUTS, FIX.observe(INPUTS, reader))


def test_the_statement_is_added_and_everything_else_is_kept() -> None:
    """Never automatic; rests on what was read; the undo is what was there."""
    draft = planned(a_reader())
    assert isinstance(draft, PlanDraft)
    assert draft.hazards == (Hazard.EXPOSES_DATA,)
    assert tier_of(draft, ()) == Tier.SECURITY
    (call,) = draft.calls
    assert json.loads(call.arguments["Policy"]) == policy(OTHER, INPUTS.statement())
    assert draft.preconditions[0].equals == [OTHER]
    assert draft.undo is not None
    assert json.loads(draft.undo.calls[0].arguments["Policy"]) == policy(OTHER)
    assert MEDIA in str(draft.diff[1].after)


def test_a_bucket_without_a_policy_gets_one_and_loses_it_again() -> None:
    """The undo deletes what was added."""
    reader = a_reader(
        **{
            "s3.get_bucket_policy": NotFound("none", code="NoSuchBucketPolicy"),
            "cloudtrail.lookup_events": [wrote(None)],
        }
    )
    draft = planned(reader)
    assert isinstance(draft, PlanDraft)
    assert json.loads(draft.calls[0].arguments["Policy"]) == policy(INPUTS.statement())
    assert draft.preconditions[0].equals is None
    assert draft.undo is not None
    assert draft.undo.calls[0].operation == "delete_bucket_policy"


DENY = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::images/a.*"}
THEIRS = {**INPUTS.statement(), "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}


@pytest.mark.parametrize(
    ("reason", "reader"),
    [
        ("PublicAccessBlocked", a_reader(**{"s3.get_public_access_block": {"RestrictPublicBuckets": True}})),
        ("PublicAccessBlocked", a_reader(**{"s3.get_public_access_block": {"BlockPublicPolicy": True}})),
        ("ExplicitDeny", a_reader(policy(OTHER, DENY))),
        ("ExplicitDeny", a_reader(policy(INPUTS.statement(), DENY))),
        (
            "AccessRemovedOnPurpose",
            # Others wrote the policy since: who took the statement away is who counts.
            a_reader(
                **{
                    "cloudtrail.lookup_events": [
                        wrote(policy(OTHER), minute=20),
                        wrote(policy(), AUDIT, minute=15),
                        wrote(policy(INPUTS.statement()), minute=1),
                    ]
                }
            ),
        ),
        ("NothingMissing", a_reader(policy(OTHER, INPUTS.statement()))),
        ("StatementDiffers", a_reader(policy(OTHER, THEIRS))),
        (
            "CanariesMissing",
            a_reader(
                **{"s3.get_object_tagging": lambda a: NotFound("no", code="NoSuchKey") if a["Key"] == "a.jpg" else TAG}
            ),
        ),
        ("ObjectsUntagged", a_reader(**{"s3.get_object_tagging": {}})),
        ("AlreadyReadable", a_reader(**{"s3.head_object": {"ContentLength": 1}})),
        ("NoProof", a_reader(**{"s3.get_object_tagging": TAG})),
        ("PolicyTooLarge", a_reader(policy({**OTHER, "Resource": ["arn:aws:s3:::images/" + "x" * 13000]}))),
    ],
)
def test_why_nothing_is_merged(reason: str, reader: DictReader) -> None:
    """Each with its own reason, so that a person knows who decides."""
    found = planned(reader)
    assert isinstance(found, NotApplicable)
    assert found.reason == reason


def test_a_condition_that_leaves_most_readers_alone_is_no_explicit_deny() -> None:
    """A Deny of plain HTTP is on many buckets; one on the objects' tags is meant for these objects."""
    http = {**DENY, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    assert isinstance(planned(a_reader(policy(OTHER, http))), PlanDraft)
    tags = {**DENY, "Condition": {"StringEquals": {"s3:ExistingObjectTag/data-classification": "public-dataset"}}}
    found = planned(a_reader(policy(OTHER, tags)))
    assert isinstance(found, NotApplicable)
    assert found.reason == "ExplicitDeny"


def test_a_change_that_cloudtrail_does_not_show_leaves_the_actor_open() -> None:
    """The newest event left another policy than the present one: whoever made it is not known yet."""
    inputs = DeclaredInputs(bucket="images", canaries=("a.jpg",))
    check = BucketPolicy()
    reader = a_reader(**{"cloudtrail.lookup_events": [wrote(policy(OTHER, INPUTS.statement()))]})
    found = check.findings(inputs, check.observe(inputs, reader))
    assert isinstance(found, Unclear)
    assert (found.reason, found.found[0].reason, found.found[0].actor) == ("ActorUnknown", "PublicReadMissing", None)


@pytest.mark.parametrize("check", [AnonymousReads(), BucketPolicy(), PublicAccessBlock(), ObjectTags(), FIX])
@pytest.mark.parametrize(
    "error",
    [
        ReadError("AccessDenied", "denied", code="AccessDenied"),
        ReadError("Timeout", "no answer"),
        ReadError("MalformedAnswer", "something else"),
        NotFound("no bucket", code="NoSuchBucket"),
    ],
    ids=lambda error: error.code or error.reason,
)
def test_a_read_that_fails_is_neither_health_nor_a_finding(check: Any, error: ReadError) -> None:
    """Whichever read it is: what can't be looked at is an Error."""
    inputs = check.inputs_model.model_validate(
        {
            k: v
            for k, v in INPUTS.wire().items()
            if k in check.inputs_model.model_json_schema(by_alias=True)["properties"]
        }
    )
    whole = a_reader()
    check.observe(inputs, whole)
    for name in {name for name, _, _ in whole.asked}:
        if name in ("s3.get_object_tagging", "s3.head_object") and isinstance(error, NotFound):
            continue  # an object that is not there is a fact
        with pytest.raises(ReadError):
            check.observe(inputs, a_reader(**{name: error}))


def test_nobody_knows_the_tags_of_what_is_not_there() -> None:
    """A bucket in which there is nothing is none whose objects are all tagged."""
    inputs = DeclaredInputs(bucket="images", canaries=("a.jpg", "b.jpg"))
    check = ObjectTags()
    gone = NotFound("no object", code="NoSuchKey")
    reader = a_reader(**{"s3.list_objects_v2": [], "s3.get_object_tagging": gone})
    found = check.findings(inputs, check.observe(inputs, reader))
    assert isinstance(found, Unclear)
    assert (found.reason, found.found) == ("CanariesMissing", ())


def seen(canary: int, private: int) -> ReadsFacts:
    """Return what everybody gets of the canaries and of the private object."""
    canaries = tuple(SeenObject(key=key, status=canary, exists=True) for key in INPUTS.canaries)
    return ReadsFacts(canaries=canaries, private=SeenObject(key="prices.csv", status=private, exists=True))


@pytest.mark.parametrize(
    ("canary", "private", "outcome"), [(200, 403, "Helped"), (403, 403, None), (200, 200, "Worse"), (403, 200, "Worse")]
)
def test_it_helped_only_if_no_more_was_opened(canary: int, private: int, outcome: str | None) -> None:
    """The private object readable is worse than images that are not, and is put back at once."""
    judged = FIX.judge(INPUTS, FIX.observe(INPUTS, a_reader()), seen(canary, private))
    assert (judged.outcome, judged.measured) == (outcome, True)


def test_a_missing_object_is_not_blamed_on_the_policy() -> None:
    """S3 answers 403 to both."""
    inputs = ObjectsInputs(bucket="images", canaries=("a.jpg",), private_object="prices.csv")
    check = AnonymousReads()
    reader = a_reader(
        **{"s3.get_object_tagging": lambda a: NotFound("no", code="NoSuchKey") if a["Key"] == "a.jpg" else {}}
    )
    found = check.findings(inputs, check.observe(inputs, reader))
    assert not isinstance(found, Unclear)
    assert [f.reason for f in found] == ["CanariesMissing"]


def test_after_an_interruption_the_policy_tells_what_was_done() -> None:
    """Written, not written, or somebody else's third one."""
    before = FIX.observe(INPUTS, a_reader())
    draft = FIX.plan(INPUTS, before)
    assert isinstance(draft, PlanDraft)
    (put,) = draft.calls
    after = FIX.observe(INPUTS, a_reader(policy(OTHER, INPUTS.statement())))
    third = FIX.observe(INPUTS, a_reader(policy(INPUTS.statement())))
    assert [FIX.applied(put, INPUTS, facts) for facts in (after, before, third)] == [True, False, None]
