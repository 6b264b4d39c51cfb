"""A compromised key: what CloudTrail shows of it, what is written down, and what is disabled, by people's word only."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.evidence import Collect, EvidenceInputs
from incident_operator.actions.iam_credentials import AccessKey, DisableCredentials, KeyInputs, KeyPersistence
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.api.meta import Risk
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.builders import NOW

KEY, MADE, PARTNERS = "AKIAIOSFODNN7EXAMPLE", "AKIAI44QH8DHBEXAMPLE", "AKIAJQABLZS4A3EXAMPLE"[:20]
USER = "arn:aws:iam::123456789012:user/partner-feed"
THIEF, OURS = "203.0.113.7", "10.0.4.20"
INPUTS: dict[str, Any] = {
    "access_key_id": KEY,
    "window_start": NOW - timedelta(hours=2),
    "window_end": NOW - timedelta(minutes=30),
    "own_networks": ("10.0.0.0/16",),
}
AT = NOW - timedelta(hours=1)
COLLECT, DISABLE, CHECK, PERSISTENCE = Collect(), DisableCredentials(), AccessKey(), KeyPersistence()
EVIDENCE = EvidenceInputs(**INPUTS, evidence_bucket="evidence")
KEYS = KeyInputs(**INPUTS)


def event(number: int, name: str = "DescribeTable", address: str = THIEF, **more: Any) -> dict[str, Any]:
    """Return a CloudTrail event as projected."""
    found = {
        "id": f"event-{number}",
        "name": name,
        "at": AT.isoformat(),
        "actor": USER,
        "source": "dynamodb.amazonaws.com",
        "address": address,
        "error": None,
        "readOnly": True,
        "parameters": {},
        "version": None,
    }
    return {**found, **more}


def key(key_id: str, status: str = "Active", created: Any = NOW - timedelta(days=90)) -> dict[str, Any]:
    """Return a key as listed."""
    return {"AccessKeyId": key_id, "Status": status, "CreateDate": created.isoformat()}


def a_reader(*events: dict[str, Any], **answers: Any) -> DictReader:
    """Return an account whose partner's key is active, and an empty bucket for evidence."""
    values: dict[str, Any] = {
        "iam.get_access_key_last_used": {"UserName": "partner-feed"},
        "iam.list_access_keys": [key(KEY)],
        "iam.get_user": {"UserName": "partner-feed", "Arn": USER},
        "iam.get_login_profile": NotFound("none", code="NoSuchEntity"),
        "cloudtrail.lookup_events": list(events),
        "s3.list_objects_v2": [],
        "s3.get_bucket_policy_status": NotFound("none", code="NoSuchBucketPolicy"),
    }
    return DictReader(answers={**values, **answers})


def disabling(reader: DictReader) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return DISABLE.plan(KEYS, DISABLE.observe(KEYS, reader))


def collecting(reader: DictReader, inputs: EvidenceInputs = EVIDENCE) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return COLLECT.plan(inputs, COLLECT.observe(inputs, reader))


def test_evidence_is_one_object_named_by_its_digest() -> None:
    """S3 is told the digest as well; the same events give the same plan."""
    reader = a_reader(event(2), event(1, error="AccessDenied"))
    draft = collecting(reader)
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.hazards, draft.ask_because) == (Risk.LOW, (), ())
    (call,) = draft.calls
    body = call.arguments["Body"].encode()
    assert call.arguments["Key"].endswith(f"-{hashlib.sha256(body).hexdigest()}.jsonl")
    assert base64.b64decode(call.arguments["ChecksumSHA256"]) == hashlib.sha256(body).digest()
    assert call.resources == draft.touches == (f"arn:aws:s3:::evidence/{call.arguments['Key']}",)
    head, *events = [json.loads(line) for line in body.decode().splitlines()]
    assert head["actors"] == [USER]
    assert [e[0] for e in events] == ["event-1", "event-2"]
    assert draft == collecting(a_reader(event(1, error="AccessDenied"), event(2)))


@pytest.mark.parametrize(
    ("reason", "reader", "more"),
    [
        ("BucketMissing", a_reader(event(1), **{"s3.list_objects_v2": NotFound("no", code="NoSuchBucket")}), {}),
        ("BucketPublic", a_reader(event(1), **{"s3.get_bucket_policy_status": {"IsPublic": True}}), {}),
        ("WindowOpen", a_reader(event(1)), {"window_end": NOW + timedelta(minutes=1)}),
        ("NothingToCollect", a_reader(), {}),
    ],
)
def test_why_no_evidence_is_written(reason: str, reader: DictReader, more: dict[str, Any]) -> None:
    """Each with its own reason."""
    found = collecting(reader, EVIDENCE.model_copy(update=more))
    assert isinstance(found, NotApplicable)
    assert found.reason == reason


def test_evidence_that_is_there_is_not_written_again() -> None:
    """What is written is named by what it says."""
    draft = collecting(a_reader(event(1)))
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    after = a_reader(event(1), **{"s3.list_objects_v2": [call.arguments["Key"]]})
    found = collecting(after)
    assert isinstance(found, NotApplicable)
    assert found.reason == "AlreadyCollected"
    before, seen = COLLECT.observe(EVIDENCE, a_reader(event(1))), COLLECT.observe(EVIDENCE, after)
    assert COLLECT.judge(EVIDENCE, before, seen).outcome == "Helped"
    assert COLLECT.judge(EVIDENCE, before, before).outcome is None
    assert [COLLECT.applied(call, EVIDENCE, facts) for facts in (before, seen)] == [False, True]


def test_a_key_is_disabled_for_good_and_never_by_itself() -> None:
    """There is no undo, and a person always agrees."""
    draft = disabling(a_reader(event(1)))
    assert isinstance(draft, PlanDraft)
    assert draft.undo is None
    assert draft.irreversible
    assert draft.ask_because == ("ContainmentIsForPeople",)
    assert draft.touches == (USER,)
    assert [c.arguments for c in draft.calls] == [
        {"UserName": "partner-feed", "AccessKeyId": KEY, "Status": "Inactive"}
    ]
    # Key ids are masked in what is stored for people: words name the key by its end.
    assert KEY not in draft.title + draft.calls[0].summary


@pytest.mark.parametrize(
    ("asks", "events", "networks"),
    [
        ("OwnServiceUsesKey", (event(1), event(2, address=OURS)), ("10.0.0.0/16",)),
        ("OwnUseUnknown", (), ("10.0.0.0/16",)),
        ("OwnUseUnknown", (event(1),), ()),
    ],
)
def test_whoever_is_asked_is_told_of_own_use(asks: str, events: Any, networks: tuple[str, ...]) -> None:
    """Also that nobody knows: CloudTrail is silent, or no network of ours is named."""
    inputs = KEYS.model_copy(update={"own_networks": networks})
    draft = DISABLE.plan(inputs, DISABLE.observe(inputs, a_reader(*events)))
    assert isinstance(draft, PlanDraft)
    assert draft.ask_because == ("ContainmentIsForPeople", asks)


def test_a_key_made_with_it_goes_too_and_the_partners_new_one_stays() -> None:
    """Which is which: CloudTrail shows who made it, the key's age says which one it is."""
    making = event(3, "CreateAccessKey", readOnly=False, source="iam.amazonaws.com")
    keys = [key(KEY, "Inactive"), key(MADE, created=AT), key(PARTNERS, created=AT + timedelta(minutes=5))]
    reader = a_reader(making, **{"iam.list_access_keys": keys})
    draft = disabling(reader)
    assert isinstance(draft, PlanDraft)
    assert [c.arguments["AccessKeyId"] for c in draft.calls] == [MADE]
    found = CHECK.findings(KEYS, CHECK.observe(KEYS, reader))
    assert not isinstance(found, Unclear)
    assert [f.reason for f in found] == ["CompromisedKeyActive"]
    other = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, reader))
    assert not isinstance(other, Unclear)
    assert [f.reason for f in other] == ["PersistenceByActor"]


def test_a_key_that_is_not_there_or_dead_is_not_disabled() -> None:
    """Unknown is no health: the check is Inconclusive."""
    gone = a_reader(**{"iam.get_access_key_last_used": NotFound("no", code="NoSuchEntity")})
    found = disabling(gone)
    assert isinstance(found, NotApplicable)
    assert found.reason == "KeyUnknown"
    assert isinstance(CHECK.findings(KEYS, CHECK.observe(KEYS, gone)), Unclear)
    dead = a_reader(event(1), **{"iam.list_access_keys": [key(KEY, "Inactive")]})
    found = disabling(dead)
    assert isinstance(found, NotApplicable)
    assert found.reason == "AlreadyInactive"
    assert CHECK.findings(KEYS, CHECK.observe(KEYS, dead)) == []


def test_no_call_and_no_key_are_no_answer_about_other_ways_in() -> None:
    """CloudTrail is late, and a key that is gone may have left something behind."""
    silent = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader()))
    assert isinstance(silent, Unclear)
    assert (silent.reason, silent.found) == ("NoCalls", ())
    made = event(1, "CreateUser", parameters={"userName": "other"})
    gone = a_reader(made, **{"iam.get_access_key_last_used": NotFound("no", code="NoSuchEntity")})
    left = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, gone))
    assert isinstance(left, Unclear)
    assert (left.reason, [f.reason for f in left.found]) == ("KeyUnknown", ["PersistenceByActor"])


def test_a_session_of_the_users_own_is_another_way_in() -> None:
    """It is valid until it ends, whatever becomes of the key; CloudTrail names nobody: it is the key's own user's."""
    opened = event(1, "GetSessionToken", source="sts.amazonaws.com")
    refused = event(2, "GetFederationToken", source="sts.amazonaws.com", error="AccessDenied")
    (found,) = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader(opened, refused)))  # type: ignore[misc]
    assert (found.reason, found.subject) == ("PersistenceByActor", "partner-feed")
    assert found.message.startswith("GetSessionToken with key ")
    assert "on partner-feed at" in found.message


def test_a_login_to_the_console_is_for_people_to_end() -> None:
    """It is said with what to type, whatever else is known; alone it is no problem that a fix could end."""
    signs_in = {"iam.get_login_profile": {"UserName": "partner-feed", "CreateDate": NOW.isoformat()}}
    (found,) = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader(event(1), **signs_in)))  # type: ignore[misc]
    assert (found.reason, found.subject) == ("UserHasConsoleLogin", "partner-feed")
    assert "aws iam delete-login-profile --user-name partner-feed" in found.message
    assert PERSISTENCE.reasons[found.reason].kind == "Info"
    silent = PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader(**signs_in)))
    assert isinstance(silent, Unclear)
    assert [f.reason for f in silent.found] == ["UserHasConsoleLogin"]
    assert PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader(event(1)))) == ()


def test_a_silent_cloudtrail_leaves_open_what_was_made_with_a_dead_key() -> None:
    """The key can't be used: that no other was made with it is not known."""
    dead = {"iam.list_access_keys": [key(KEY, "Inactive")]}
    silent = CHECK.findings(KEYS, CHECK.observe(KEYS, a_reader(**dead)))
    assert isinstance(silent, Unclear)
    assert silent.reason == "NoCalls"
    assert CHECK.findings(KEYS, CHECK.observe(KEYS, a_reader(event(1), **dead))) == []


def test_calls_of_the_last_fifteen_minutes_may_be_missing() -> None:
    """What is found is found; that there is no other is not said before CloudTrail shows the whole window."""
    recent = KEYS.model_copy(update={"window_end": NOW - timedelta(minutes=14)})
    for events, reasons in (((event(1),), []), ((event(1, "CreateUser"),), ["PersistenceByActor"])):
        answer = PERSISTENCE.findings(recent, PERSISTENCE.observe(recent, a_reader(*events)))
        assert isinstance(answer, Unclear)
        assert (answer.reason, [f.reason for f in answer.found]) == ("WindowTooRecent", reasons)
    assert PERSISTENCE.findings(KEYS, PERSISTENCE.observe(KEYS, a_reader(event(1)))) == ()


def test_more_events_than_were_read_prove_nothing() -> None:
    """No other way in among a hundred events says nothing of the rest."""
    facts = PERSISTENCE.observe(KEYS, a_reader(*(event(n) for n in range(100))))
    assert isinstance(PERSISTENCE.findings(KEYS, facts), Unclear)


@pytest.mark.parametrize(
    ("minutes", "status", "late", "outcome", "measured"),
    [
        (16, "Inactive", (), "Helped", True),
        (16, "Inactive", (event(9, error="AccessDenied"),), "Helped", True),
        (16, "Inactive", (event(9),), None, True),
        (16, "Active", (), None, True),
        # CloudTrail's silence of the last fifteen minutes is no news.
        (5, "Inactive", (), None, False),
    ],
)
def test_it_helped_once_cloudtrail_shows_that_nobody_got_in(
    minutes: int, status: str, late: Any, outcome: str | None, measured: bool
) -> None:
    """Read at fifteen minutes, of calls later than one."""
    reader = a_reader(
        **{
            "iam.list_access_keys": [key(KEY, status)],
            "cloudtrail.lookup_events": lambda asked: [] if "EndTime" in asked else list(late),
        }
    )
    reader.since = NOW - timedelta(minutes=minutes)
    before = DISABLE.observe(KEYS, a_reader(event(1)))
    judged = DISABLE.judge(KEYS, before, DISABLE.measure(KEYS, reader))
    assert (judged.outcome, judged.measured) == (outcome, measured)


@pytest.mark.parametrize("action", [CHECK, PERSISTENCE, DISABLE, COLLECT])
@pytest.mark.parametrize("reason", ["AccessDenied", "Timeout", "MalformedAnswer"])
def test_a_read_that_fails_is_neither_health_nor_a_finding(action: Any, reason: str) -> None:
    """Whichever read it is."""
    inputs = EVIDENCE if action is COLLECT else KEYS
    whole = a_reader(event(1))
    action.observe(inputs, whole)
    for name in {name for name, _, _ in whole.asked}:
        with pytest.raises(ReadError):
            action.observe(inputs, a_reader(event(1), **{name: ReadError(reason, "no answer")}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_end": NOW - timedelta(hours=3)},
        {"window_start": NOW - timedelta(days=9)},
        {"window_start": (NOW - timedelta(hours=2)).replace(tzinfo=None)},
        {"own_networks": ("10.0.0.1/8",)},
        {"access_key_id": "ASIAIOSFODNN7EXAMPLE"},
    ],
    ids=["backwards", "unbounded", "no zone", "no network", "a session's key"],
)
def test_inputs_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    """The window is bounded and in UTC or another zone that is said."""
    with pytest.raises(ValueError, match="validation error"):
        KeyInputs(**{**INPUTS, **wrong})
