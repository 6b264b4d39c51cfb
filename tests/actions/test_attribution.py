"""Who took the access away: only a change that took it away, and nobody while CloudTrail does not show it yet."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.awslambda import Denial
from incident_operator.actions.ports import HttpAnswer, NotFound
from incident_operator.actions.role_access import (
    Access,
    AccessFacts,
    AccessInputs,
    Change,
    FormerVersion,
    explaining,
    read_access,
)
from tests.builders import NOW

ROLE = "arn:aws:iam::123456789012:role/mailer"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/people"
POLICY = "arn:aws:iam::123456789012:policy/MailerAccess"
MISSING = Access(action="dynamodb:GetItem", resource=TABLE, identity="implicitDeny", resource_policy="Silent")


def statement(action: str, effect: str = "Allow") -> dict[str, Any]:
    """Return a table policy about the role."""
    return {"Statement": [{"Effect": effect, "Principal": {"AWS": ROLE}, "Action": action, "Resource": TABLE}]}


def put(policy: Any, actor: str = "somebody") -> dict[str, Any]:
    """Return the event of a policy's change."""
    return {"name": "PutResourcePolicy", "actor": actor, "parameters": {"policy": policy}}


DELETED = {"name": "DeleteResourcePolicy", "actor": "audit", "parameters": {}}
CREATED = {"name": "CreateTable", "actor": "root", "parameters": {}}
GAVE, GIVES_OTHER, DENIES = (
    statement("dynamodb:GetItem"),
    statement("dynamodb:UpdateItem"),
    statement("dynamodb:*", effect="Deny"),
)


class Trail:
    """A reader to whom CloudTrail shows these events of the table, newest first."""

    now, since, account, region, protected_actors = NOW, NOW, "123456789012", "us-east-1", ()
    global_region = "us-east-1"

    def __init__(self, events: list[dict[str, Any]], present: Any, *, policy: bool = False) -> None:
        """Know the events and the table's present policy; and whether a policy of the role lost the table."""
        self.events, self.present, self.policy = events, present, policy

    def scaled(self, wait: timedelta) -> timedelta:
        """Nothing is scaled."""
        return wait

    def prefetch(self, service: str, operation: str, *arguments: Any, region: str | None = None) -> None:
        """Begin nothing."""

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """Answer: no identity policy allows it."""
        if operation == "simulate_principal_policy":
            return [{"action": "dynamodb:GetItem", "resource": TABLE, "decision": "implicitDeny", "policies": []}]
        if operation == "get_resource_policy":
            if not self.present:
                raise NotFound("there is none")
            return self.present
        if operation == "lookup_events":
            about_table = (arguments or {})["LookupAttributes"][0]["AttributeValue"] == TABLE
            count = len(self.events)
            return [
                {**event, "at": f"2026-01-15T14:{count - i:02}:00Z", "readOnly": False, "error": None, "source": ""}
                for i, event in enumerate(self.events)
                if about_table
            ]
        if operation == "list_attached_role_policies" and self.policy:
            return [{"name": "MailerAccess", "arn": POLICY}]
        if operation == "get_policy":
            # Shared with another role: not restored, but its change explains all the same.
            return {"Arn": POLICY, "DefaultVersionId": "v2", "AttachmentCount": 2}
        if operation == "list_policy_versions":
            return [{"VersionId": "v2"}, {"VersionId": "v1"}]
        if operation == "get_policy_version":
            return GAVE if (arguments or {})["VersionId"] == "v1" else GIVES_OTHER
        return []

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """Nothing here asks the network."""
        raise AssertionError(url)


def looked(events: list[dict[str, Any]], present: Any) -> AccessFacts:
    """Return what is read of a role that may not read the table."""
    inputs = AccessInputs(role_arn=ROLE, denials=(Denial(action="dynamodb:GetItem", resource=TABLE),))
    return read_access(inputs, Trail(events, present))


@pytest.mark.parametrize(
    ("events", "present", "explained"),
    [
        ([put(GIVES_OTHER), put(GAVE), CREATED], GIVES_OTHER, True),
        ([put(GIVES_OTHER), CREATED], GIVES_OTHER, False),
        ([put(GIVES_OTHER), put(GIVES_OTHER)], GIVES_OTHER, False),
        ([put(GIVES_OTHER)], GIVES_OTHER, True),
        ([DELETED, put(GAVE)], {}, True),
        ([put(DENIES), put(GIVES_OTHER), CREATED], DENIES, True),
        ([CREATED], {}, False),
        ([], {}, False),
    ],
    ids=[
        "the policy before gave it",
        "the first policy ever never gave it",
        "the policy before did not give it either",
        "the policy before is older than CloudTrail",
        "the policy was deleted",
        "a deny is its writer's, whatever was before",
        "there never was a policy",
        "nothing is known",
    ],
)
def test_a_resources_change_explains_only_what_it_took(
    events: list[dict[str, Any]], present: Any, explained: bool
) -> None:
    """The newest change, if what stands now is its result."""
    found = looked(events, present)
    assert [c.event for c in found.changes] == ([events[0]["name"]] if explained else [])
    assert found.unseen == ()


@pytest.mark.parametrize(("events", "present"), [([put(GAVE)], GIVES_OTHER), ([put(GAVE)], {}), ([CREATED], DENIES)])
def test_a_change_that_is_not_shown_yet_is_known_to_be_missing(events: list[dict[str, Any]], present: Any) -> None:
    """What stands now is not what the newest event left: another one follows."""
    found = looked(events, present)
    assert (found.changes, found.unseen) == ((), (TABLE,))


def facts(*changes: Change, former: bool) -> AccessFacts:
    """Return facts with these changes, newest first."""
    version = FormerVersion(policy_arn=POLICY, current="v3", former="v2") if former else None
    return AccessFacts(access=(MISSING,), changes=changes, former=version, looked_at=NOW)


BY_DEPLOYER = Change(event="CreatePolicyVersion", subject=POLICY, actor="deployer", at=NOW)
BY_SOMEBODY = Change(event="PutResourcePolicy", subject=TABLE, actor="somebody", at=NOW)
BY_ADMIN = Change(event="PutRolePolicy", subject=ROLE, actor="admin", at=NOW)


def test_a_former_version_is_explained_by_its_policys_change_alone() -> None:
    """Until CloudTrail shows that change, the actor is unknown, not somebody else."""
    assert explaining(facts(BY_DEPLOYER, BY_ADMIN, BY_SOMEBODY, former=True), MISSING) == BY_DEPLOYER
    assert explaining(facts(BY_ADMIN, BY_SOMEBODY, former=True), MISSING) is None


def test_without_a_former_version_the_resource_comes_first() -> None:
    """Then the role's own changes."""
    assert explaining(facts(BY_ADMIN, BY_SOMEBODY, former=False), MISSING) == BY_SOMEBODY
    assert explaining(facts(BY_ADMIN, former=False), MISSING) == BY_ADMIN


def test_a_policys_change_that_is_not_shown_yet_is_known_to_be_missing() -> None:
    """Its other version allows it, and no event made the present one the default."""
    inputs = AccessInputs(role_arn=ROLE, denials=(Denial(action="dynamodb:GetItem", resource=TABLE),))
    found = read_access(inputs, Trail([], {}, policy=True))
    assert (found.changes, found.unseen) == ((), (POLICY,))


def test_while_the_resources_change_is_unseen_nobody_is_blamed() -> None:
    """Not even who changed the role lately."""
    seen = facts(BY_ADMIN, former=False)
    assert explaining(seen.model_copy(update={"unseen": (TABLE,)}), MISSING) is None


def test_while_a_policys_change_is_unseen_nobody_else_is_blamed() -> None:
    """Two things are missing, no one version has both, and the policy's change is not shown yet."""
    seen = facts(BY_ADMIN, former=False)
    assert explaining(seen.model_copy(update={"unseen": (POLICY,)}), MISSING) is None
    shown = facts(BY_DEPLOYER, BY_ADMIN, former=False)
    assert explaining(shown, MISSING) == BY_DEPLOYER
