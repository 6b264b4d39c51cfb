"""What a disabled key does not end: everything denied to its user, and a role's older sessions, both undone exactly."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from incident_operator.actions.iam_credentials import AccessKey
from incident_operator.actions.iam_sessions import QuarantineUser, RevokeSessions, SessionsInputs
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.reads import READS
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.actions.test_compromised_key import KEYS, OURS, USER, a_reader, event
from tests.builders import NOW

ROLE = "arn:aws:iam::123456789012:role/jobs/partner-export"
INPUTS = SessionsInputs(role_arn=ROLE, opened_before=NOW - timedelta(minutes=30))
QUARANTINE, REVOKE = QuarantineUser(), RevokeSessions()
NO_POLICY = NotFound("none", code="NoSuchEntity")
DENY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}


def a_user(*events: dict[str, Any], **answers: Any) -> DictReader:
    """Return a key's user with no policy of ours."""
    return a_reader(*events, **{"iam.get_user_policy": NO_POLICY, **answers})


def a_role(**answers: Any) -> DictReader:
    """Return a role that people assume, with no policy of ours."""
    values: dict[str, Any] = {
        "iam.get_role": {"RoleName": "partner-export", "Arn": ROLE, "Path": "/jobs/", "TrustedServices": []},
        "iam.get_role_policy": NO_POLICY,
        "sts.get_caller_identity": {"Arn": "arn:aws:sts::123456789012:assumed-role/IncidentOperatorRead/run"},
    }
    return DictReader(answers={**values, **answers})


def revoking(reader: DictReader, inputs: SessionsInputs = INPUTS) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return REVOKE.plan(inputs, REVOKE.observe(inputs, reader))


def quarantining(reader: DictReader) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return QUARANTINE.plan(KEYS, QUARANTINE.observe(KEYS, reader))


def denied(decision: str, *policies: str) -> list[dict[str, Any]]:
    """Return what a simulation answers."""
    return [{"action": "sts:GetCallerIdentity", "resource": "*", "decision": decision, "policies": list(policies)}]


def test_a_quarantine_is_one_policy_of_our_own_and_is_taken_away_exactly() -> None:
    """It denies all, so it holds for every key, the console and the user's own sessions."""
    draft = quarantining(a_user(event(1)))
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.touches, draft.evidence_first) == (Risk.DISRUPTIVE, (USER,), True)
    assert draft.ask_because == ("ContainmentIsForPeople",)
    (call,) = draft.calls
    assert json.loads(call.arguments["PolicyDocument"]) == DENY_ALL
    assert draft.undo is not None
    (back,) = draft.undo.calls
    assert (back.operation, back.arguments) == (
        "delete_user_policy",
        {"UserName": "partner-feed", "PolicyName": call.arguments["PolicyName"]},
    )
    assert draft.undo.guards[0].read.operation == "get_user_policy"
    there = QUARANTINE.observe(KEYS, a_user(event(1), **{"iam.get_user_policy": DENY_ALL}))
    gone = QUARANTINE.observe(KEYS, a_user(event(1)))
    assert [QUARANTINE.applied(call, KEYS, facts) for facts in (gone, there)] == [False, True]
    assert [QUARANTINE.applied(back, KEYS, facts) for facts in (gone, there)] == [True, False]


@pytest.mark.parametrize(
    ("reason", "reader"),
    [
        ("KeyUnknown", a_user(event(1), **{"iam.get_access_key_last_used": NO_POLICY})),
        ("AlreadyQuarantined", a_user(event(1), **{"iam.get_user_policy": DENY_ALL})),
    ],
)
def test_why_a_user_is_not_quarantined(reason: str, reader: DictReader) -> None:
    """Each with its own reason."""
    draft = quarantining(reader)
    assert isinstance(draft, NotApplicable)
    assert draft.reason == reason


def test_somebody_elses_policy_of_our_name_is_no_quarantine() -> None:
    """What it says counts, not what it is called."""
    allowing = {**DENY_ALL, "Statement": [{**DENY_ALL["Statement"][0], "Effect": "Allow"}]}  # type: ignore[dict-item]
    assert isinstance(quarantining(a_user(event(1), **{"iam.get_user_policy": allowing})), PlanDraft)


def test_whoever_quarantines_is_told_that_a_service_of_ours_uses_the_key() -> None:
    """And a silent CloudTrail is no proof that none does."""
    ours, silent = quarantining(a_user(event(1, address=OURS))), quarantining(a_user())
    assert isinstance(ours, PlanDraft)
    assert isinstance(silent, PlanDraft)
    assert ours.ask_because == ("ContainmentIsForPeople", "OwnServiceUsesKey")
    assert silent.ask_because == ("ContainmentIsForPeople", "OwnUseUnknown")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (denied("explicitDeny", "user_partner-feed_IncidentQuarantine"), "Helped"),
        (denied("explicitDeny", "somebody-elses"), None),
        (denied("implicitDeny"), None),
        (denied("allowed"), None),
    ],
)
def test_a_quarantine_helped_where_simulation_says_that_ours_denies(answer: Any, outcome: str | None) -> None:
    """Denied for another reason is not what was done."""
    after = QUARANTINE.measure(KEYS, a_user(event(1), **{"iam.simulate_principal_policy": answer}))
    judged = QUARANTINE.judge(KEYS, QUARANTINE.observe(KEYS, a_user(event(1))), after)
    assert judged.outcome == outcome


def test_older_sessions_are_revoked_by_when_they_were_issued() -> None:
    """One policy named by its instant: none is overwritten."""
    draft = revoking(a_role())
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.hazards, draft.touches) == (Risk.DISRUPTIVE, (), (ROLE,))
    (call,) = draft.calls
    (statement,) = json.loads(call.arguments["PolicyDocument"])["Statement"]
    assert statement["Condition"] == {
        "DateLessThan": {"aws:TokenIssueTime": f"{INPUTS.opened_before:%Y-%m-%dT%H:%M:%SZ}"}
    }
    assert f"{INPUTS.opened_before:%Y%m%dT%H%M%SZ}" in call.arguments["PolicyName"]
    # A role may have a path: its name is the last segment.
    assert call.arguments["RoleName"] == "partner-export"
    assert draft.undo is not None
    assert [c.operation for c in draft.undo.calls] == ["delete_role_policy"]
    there = REVOKE.observe(INPUTS, a_role(**{"iam.get_role_policy": INPUTS.document}))
    gone = REVOKE.observe(INPUTS, a_role())
    assert [REVOKE.applied(call, INPUTS, facts) for facts in (gone, there)] == [False, True]


def test_of_a_role_that_services_assume_it_is_an_outage_by_design() -> None:
    """The thief's sessions are not told from the service's own."""
    role = {"RoleName": "partner-export", "Arn": ROLE, "Path": "/jobs/"}
    draft = revoking(a_role(**{"iam.get_role": {**role, "TrustedServices": ["lambda.amazonaws.com"]}}))
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.hazards) == (Risk.DESTRUCTIVE, (Hazard.OUTAGE,))
    assert "lambda.amazonaws.com" in draft.diff[0].what


def test_which_services_assume_a_role_is_all_that_is_kept_of_its_trust() -> None:
    """Of an account or a user only that it is none."""
    trust = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]}},
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
            {"Effect": "Deny", "Principal": {"Service": "states.amazonaws.com"}},
            {"Effect": "Allow", "Principal": "*"},
        ]
    }
    answer = {"Role": {"RoleName": "r", "Arn": ROLE, "AssumeRolePolicyDocument": trust}}
    kept = READS["iam", "get_role"].project(answer)
    assert kept["TrustedServices"] == ["ec2.amazonaws.com", "lambda.amazonaws.com"]
    assert "root" not in json.dumps({**kept, "Arn": ""})


@pytest.mark.parametrize(
    ("reason", "reader", "more"),
    [
        ("RoleUnknown", a_role(**{"iam.get_role": NO_POLICY}), {}),
        ("RoleUnknown", a_role(**{"iam.get_role": {"Arn": ROLE.replace("jobs", "other"), "Path": "/other/"}}), {}),
        ("ServiceLinkedRole", a_role(**{"iam.get_role": {"Arn": ROLE, "Path": "/aws-service-role/x/"}}), {}),
        ("OwnRole", a_role(**{"sts.get_caller_identity": {"Arn": "arn:aws:sts::1:assumed-role/partner-export/r"}}), {}),
        ("InstantAhead", a_role(), {"opened_before": NOW + timedelta(seconds=1)}),
        ("AlreadyRevoked", a_role(**{"iam.get_role_policy": INPUTS.document}), {}),
    ],
    ids=["none", "another of that name", "service-linked", "our own", "ahead", "done"],
)
def test_why_sessions_are_not_revoked(reason: str, reader: DictReader, more: dict[str, Any]) -> None:
    """Above all: sessions that are yet to come are never refused, and we do not shut ourselves out."""
    draft = revoking(reader, INPUTS.model_copy(update=more))
    assert isinstance(draft, NotApplicable)
    assert draft.reason == reason


@pytest.mark.parametrize(
    ("older", "newer", "outcome"),
    [("explicitDeny", "allowed", "Helped"), ("allowed", "allowed", None), ("explicitDeny", "explicitDeny", "Worse")],
)
def test_it_helped_where_older_sessions_are_refused_and_newer_are_not(
    older: str, newer: str, outcome: str | None
) -> None:
    """By simulation, with the instant at which the credentials were issued."""
    cutoff = INPUTS.opened_before.isoformat()

    def simulated(arguments: dict[str, Any]) -> Any:
        (entry,) = arguments["ContextEntries"]
        assert (entry["ContextKeyName"], entry["ContextKeyType"]) == ("aws:TokenIssueTime", "date")
        (issued,) = entry["ContextKeyValues"]
        return denied(older if issued < cutoff else newer, f"role_partner-export_{INPUTS.policy_name}")

    after = REVOKE.measure(INPUTS, a_role(**{"iam.simulate_principal_policy": simulated}))
    assert REVOKE.judge(INPUTS, REVOKE.observe(INPUTS, a_role()), after).outcome == outcome


def test_the_check_names_the_roles_that_were_assumed_with_the_key() -> None:
    """Those sessions outlive the key; a refused attempt opened none, and what is no ARN is not kept."""
    opened = event(1, "AssumeRole", parameters={"roleArn": ROLE})
    refused = event(2, "AssumeRole", parameters={"roleArn": f"{ROLE}-2"}, error="AccessDenied")
    odd = event(3, "AssumeRole", parameters={"roleArn": "anything at all"})
    facts = AccessKey().observe(KEYS, a_reader(opened, refused, odd))
    assert facts.roles == (ROLE,)
    found = AccessKey().findings(KEYS, facts)
    assert next((f.reason, f.subject) for f in found) == ("SessionsOpenedWithKey", ROLE)  # type: ignore[union-attr]
    assert AccessKey().output(facts).wire()["roles"] == [ROLE]


@pytest.mark.parametrize("reason", ["AccessDenied", "Timeout", "MalformedAnswer"])
def test_a_read_that_fails_is_no_fact(reason: str) -> None:
    """Whichever read it is."""
    for action, inputs, maker in ((QUARANTINE, KEYS, a_user), (REVOKE, INPUTS, a_role)):
        whole: Any = maker()
        action.observe(inputs, whole)  # type: ignore[arg-type]
        for name in {name for name, _, _ in whole.asked}:
            with pytest.raises(ReadError):
                action.observe(inputs, maker(**{name: ReadError(reason, "no answer")}))  # type: ignore[arg-type]


def test_an_instant_without_a_zone_is_refused() -> None:
    """Hours would be guessed."""
    with pytest.raises(ValidationError, match="with a zone"):
        SessionsInputs(role_arn=ROLE, opened_before=NOW.replace(tzinfo=None))


def test_a_trust_policy_that_can_not_be_read_is_no_trust_of_nobody() -> None:
    """A role that services assume would pass for one that only people do."""
    role = READS["iam", "get_role"].project(
        {"Role": {"RoleName": "partner-export", "Arn": ROLE, "Path": "/jobs/", "AssumeRolePolicyDocument": '"?"'}}
    )
    with pytest.raises(ReadError, match="the trust policy of partner-export can't be read"):
        REVOKE.observe(INPUTS, a_role(**{"iam.get_role": role}))
