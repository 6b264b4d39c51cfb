"""Who took the access away: only a change that took it away, and nobody while CloudTrail does not show it yet."""

from typing import Any

import pytest

from incident_operator.actions.iam import Access, AccessFacts, Change, FormerVersion, _explains_resource, explaining
from tests.builders import NOW

ROLE = "arn:aws:iam::123456789012:role/mailer"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/people"
POLICY = "arn:aws:iam::123456789012:policy/MailerAccess"
MISSING = Access(action="dynamodb:GetItem", resource=TABLE, identity="implicitDeny", resource_policy="Silent")
DENIED = Access(action="dynamodb:GetItem", resource=TABLE, identity="implicitDeny", resource_policy="Denies")


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


@pytest.mark.parametrize(
    ("events", "present", "access", "explained"),
    [
        ([put(GIVES_OTHER), put(GAVE), CREATED], GIVES_OTHER, MISSING, True),
        ([put(GIVES_OTHER), CREATED], GIVES_OTHER, MISSING, False),
        ([put(GIVES_OTHER), put(GIVES_OTHER)], GIVES_OTHER, MISSING, False),
        ([put(GIVES_OTHER)], GIVES_OTHER, MISSING, True),
        ([put(GAVE)], GIVES_OTHER, MISSING, False),
        ([DELETED, put(GAVE)], {}, MISSING, True),
        ([put(GAVE)], {}, MISSING, False),
        ([put(DENIES), put(GIVES_OTHER), CREATED], DENIES, DENIED, True),
        ([CREATED], {}, MISSING, False),
        ([], {}, MISSING, False),
    ],
    ids=[
        "the policy before gave it",
        "the first policy ever never gave it",
        "the policy before did not give it either",
        "the policy before is older than CloudTrail",
        "the change that left the present policy is not shown yet",
        "the policy was deleted",
        "the deletion is not shown yet",
        "a deny is its writer's, whatever was before",
        "there never was a policy",
        "nothing is known",
    ],
)
def test_a_resources_change_explains_only_what_it_took(
    events: list[dict[str, Any]], present: Any, access: Access, explained: bool
) -> None:
    """The newest change, if what stands now is its result."""
    found = _explains_resource(events, present, ROLE, [access])
    assert found == (events[0] if explained else None)


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
