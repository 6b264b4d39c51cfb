"""Approvals: whose word counts, for what, for how long, and when enough have agreed."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.grant import ApprovalRule, Approvals, SelfApproval
from incident_operator.api.meta import Severity
from incident_operator.api.plan import Approval, PlanState, RemediationPlan, RemediationPlanStatus, Tier
from incident_operator.core.approval import Answer, Asked, decide_approval, is_enough, overridden
from tests.builders import NOW, a_plan, a_word, an_approval

TWO = ApprovalRule(approvers=2)


def asked(**changes: Any) -> Asked:
    """Return that carol asked for the run, a P2, and two others must agree."""
    return Asked(**{"requester": "carol", "severity": Severity.P2, "rule": TWO, **changes})


def answer(
    plan: RemediationPlan | None = None,
    known: tuple[Approval, ...] = (),
    given: Asked | None = None,
    after: timedelta = timedelta(),
    **word: Any,
) -> tuple[Approval | None, Answer]:
    """Return what comes of alice's Approve of a Low plan."""
    said = a_word(**{"verb": "Approve", "tier": "Low", **word})
    return decide_approval(said, plan or a_plan(), known, given or asked(), NOW + after)


def test_the_first_of_two_counts_and_says_who_is_missing() -> None:
    """It is stored with its author and its end; another person must agree."""
    approval, told = answer()
    assert approval is not None
    assert (approval.responder, approval.expires_at) == ("alice", NOW + timedelta(hours=1))
    assert told.effective
    assert told.message == "1 of 2 people agree (alice); another person must agree"


def test_the_second_of_two_is_enough() -> None:
    """Two distinct people."""
    approval, told = answer(known=(an_approval("bob"),))
    assert approval is not None
    assert is_enough((an_approval("bob"), approval), TWO)
    assert told.message == "2 of 2 people agree (alice, bob)"


def in_state(state: PlanState) -> RemediationPlan:
    """Return a plan in a state."""
    return a_plan(status=RemediationPlanStatus(state=state, message="a newer plan"))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"target": {"uid": "another"}}, "WrongUID"),
        ({"plan": in_state(PlanState.SUPERSEDED)}, "PlanChanged"),
        ({"plan": in_state(PlanState.APPLYING)}, "TooLate"),
        ({"plan": in_state(PlanState.REJECTED)}, "TooLate"),
        ({"tier": "Destructive"}, "TierMismatch"),
        ({"after": timedelta(hours=1)}, "Expired"),
        ({"known": (an_approval("alice"),)}, "SamePerson"),
        ({"override": ["GrantMissing"], "reason": "trust me"}, "NotOverridable"),
        ({"given": asked(requester="alice")}, "SelfApproval"),
        ({"given": asked(requester=None)}, "SelfApproval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_void_approval_says_why(case: dict[str, Any], reason: str) -> None:
    """One fact at a time, and nothing is stored."""
    approval, told = answer(**case)
    assert approval is None
    assert (told.effective, told.reason) == (False, reason)
    assert told.message


@pytest.mark.parametrize(
    ("rule", "severity", "counts"),
    [
        (SelfApproval.ALWAYS, Severity.P3, True),
        (SelfApproval.SEVERE, Severity.P1, True),
        (SelfApproval.SEVERE, Severity.P2, False),
        (SelfApproval.NEVER, Severity.P0, False),
    ],
)
def test_who_asked_may_agree_where_the_grant_says_so(rule: SelfApproval, severity: Severity, counts: bool) -> None:
    """By the tier's rule and the severity."""
    given = asked(requester="alice", severity=severity, rule=ApprovalRule(approvers=1, self_approve=rule))
    assert (answer(given=given)[0] is not None) == counts


def test_breaking_the_glass_is_enough_alone_even_for_who_asked() -> None:
    """It is recorded as such; the API server has asked for the verb, and the schema for a reason."""
    approval, _ = answer(given=asked(requester="alice"), breakGlass=True, reason="nobody else is awake")
    assert approval is not None
    assert approval.break_glass
    assert is_enough((approval,), TWO)


def test_a_word_that_is_stored_already_is_answered_again_and_not_counted_twice() -> None:
    """The process may have died between the write and the answer."""
    first, _ = answer()
    assert first is not None
    approval, told = answer(known=(first,))
    assert approval is None
    assert told.effective


def test_an_approval_that_ran_out_lets_the_same_person_agree_again() -> None:
    """Expired is gone: saying it again is no second voice."""
    old = an_approval("alice", at=NOW - timedelta(hours=2))
    approval, _ = answer(known=(old,))
    assert approval is not None


def test_an_override_counts_only_if_enough_people_named_it() -> None:
    """One of two who saw the freeze does not speak for the other."""
    named, silent = an_approval("alice", override=("Frozen",)), an_approval("bob")
    assert overridden((named, silent), TWO) == frozenset()
    assert overridden((named, an_approval("bob", override=("Frozen",))), TWO) == {"Frozen"}
    assert overridden((named,), ApprovalRule(approvers=1)) == {"Frozen"}


def test_the_default_rules_are_those_of_the_design() -> None:
    """Low 1, self allowed; Disruptive 1, self on P0 and P1; Destructive and Security two others."""
    rules = Approvals()
    assert [(rules.rule(tier).approvers, rules.rule(tier).self_approve) for tier in Tier] == [
        (1, SelfApproval.ALWAYS),
        (1, SelfApproval.SEVERE),
        (2, SelfApproval.NEVER),
        (2, SelfApproval.NEVER),
    ]
