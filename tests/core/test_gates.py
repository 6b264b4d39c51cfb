"""Gates: each blocks for the fact it is named by, and only for that."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from incident_operator.api.meta import Automation, Risk
from incident_operator.api.plan import Capacity, Downstream, Hazard, Permission, PlanState, Tier
from incident_operator.api.run import Baseline, FixState, FixStatus
from incident_operator.core.approval import SOFT
from incident_operator.core.draft import GrantedAccess, PlanDraft, Removal
from incident_operator.core.gates import GateFacts, closed
from incident_operator.core.planning import hash_draft, reasons_to_ask, tier_of
from incident_operator.core.risk import covers
from tests.builders import NOW, a_call, a_grant, a_plan, an_approval

#: A sale: nothing is changed from an hour ago to an hour from now.
FROZEN = a_grant(
    freezes=[
        {"from": NOW - timedelta(hours=1), "until": NOW + timedelta(hours=1), "reason": "Black Friday"},
    ]
)
#: Evidence that the run has still to write.
UNWRITTEN = FixStatus(name="collect", action="evidence.collect")


def facts(*, plan: dict[str, Any] | None = None, **changes: Any) -> GateFacts:
    """Return facts under which a Low plan may be applied."""
    values: dict[str, Any] = {
        "plan": a_plan(**(plan or {})).spec,
        "run_automation": Automation(apply_up_to=Risk.LOW),
        "grant": a_grant(),
        "baseline": Baseline(state="Failing", at=NOW),
        "now": NOW,
    }
    return GateFacts(**{**values, **changes})


def names(given: GateFacts) -> list[str]:
    """Return the names of the closed gates."""
    return [gate.name for gate in closed(given)]


def test_a_low_plan_within_its_grant_is_open() -> None:
    """The ordinary case: nothing blocks."""
    assert names(facts()) == []


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"grant": None}, "GrantMissing"),
        ({"plan": {"touches": ("arn:aws:iam::123456789012:role/other",)}}, "GrantMissing"),
        ({"plan": {"region": "eu-west-1"}}, "GrantMissing"),
        ({"plan": {"role": "arn:aws:iam::999999999999:role/r"}}, "GrantMissing"),
        ({"plan": {"permission": Permission(denied=("iam:PutRolePolicy",))}}, "PermissionMissing"),
        ({"plan": {"risk": Risk.DISRUPTIVE}}, "ApprovalMissing"),
        ({"plan": {"ask_because": ("ActorUnknown",)}}, "ApprovalMissing"),
        ({"plan": {"tier": Tier.SECURITY}}, "ApprovalMissing"),
        ({"plan": {"hazards": (Hazard.LOSES_DATA,)}}, "ApprovalMissing"),
        ({"baseline": Baseline(state="Passing", at=NOW)}, "ApprovalMissing"),
        ({"drill": True}, "RiskAboveCeiling"),
        ({"run_automation": Automation(ask_up_to=Risk.NONE)}, "RiskAboveCeiling"),
        ({"leading": False}, "NotLeader"),
        ({"runbook_valid": False}, "RunbookInvalid"),
        ({"grant": a_grant(suspended={"reason": "game day"})}, "GrantSuspended"),
        ({"admission": "the policies are not there"}, "AdmissionUnproven"),
        ({"grant": FROZEN}, "Frozen"),
        ({"cooldown_until": NOW + timedelta(seconds=1)}, "Cooldown"),
        ({"circuit_open": True}, "CircuitOpen"),
        ({"runbook_stale": True}, "RunbookStale"),
        ({"plan": {"capacity": Capacity(healthy_before=3, healthy_after=1, minimum=2)}}, "HealthBudget"),
        ({"plan": {"capacity": Capacity(healthy_before=1, healthy_after=0, minimum=2)}}, "HealthBudget"),
        ({"plan": {"common_cause": True}}, "CommonCause"),
        ({"plan": {"downstream": Downstream(used=70, added=20, maximum=100)}}, "DownstreamBudget"),
        ({"plan": {"evidence_first": True}, "fixes": (UNWRITTEN,)}, "EvidenceMissing"),
        ({"plan": {"revert_of": "run-x-1-00000000"}}, "ApprovalMissing"),
    ],
)
def test_each_fact_closes_its_gate(changes: dict[str, Any], gate: str) -> None:
    """One fact at a time."""
    assert gate in names(facts(**changes))


@pytest.mark.parametrize(
    "plan",
    [
        {"capacity": Capacity(healthy_before=3, healthy_after=2, minimum=2)},
        {"capacity": Capacity(healthy_before=0, healthy_after=0, minimum=2)},
        {"downstream": Downstream(used=60, added=20, maximum=100)},
    ],
    ids=["enough stay healthy", "none was healthy before", "exactly at the share"],
)
def test_a_budget_that_is_kept_blocks_nothing(plan: dict[str, Any]) -> None:
    """At the bound is within it."""
    assert names(facts(plan=plan)) == []


@pytest.mark.parametrize(
    ("fix", "message"),
    [
        ({"state": "Pending"}, "wait for it"),
        ({"state": "Proposed"}, "wait for it"),
        ({"state": "Approved", "reason": "Approved"}, "wait for it"),
        ({"state": "Applying"}, "wait for it"),
        ({"state": "Verifying"}, "wait for it"),
        ({"state": "Blocked", "reason": "ApprovalMissing"}, "see to what blocks it"),
        ({"state": "Blocked", "reason": "GrantSuspended"}, "see to what blocks it"),
        ({"state": "Error", "reason": "AccessDenied"}, "mend that"),
        ({"state": "NoEffect", "reason": "CallFailed"}, "mend that"),
        ({"state": "Inconclusive", "reason": "NotMeasured"}, "mend that"),
        ({"state": "Unknown", "reason": "CallUnknown"}, "mend that"),
        ({"state": "Worse"}, "mend that"),
        ({"state": "Reverted"}, "mend that"),
        ({"state": "UndoBlocked"}, "mend that"),
        ({"state": "Rejected"}, "mend that"),
        ({"state": "Superseded", "reason": "WorldChanged"}, "mend that"),
        ({"state": "Expired", "reason": "Cancelled"}, "mend that"),
        ({"state": "NotApplicable", "reason": "BucketPublic"}, "mend that"),
        ({"state": "NotApplicable", "reason": "BucketMissing"}, "mend that"),
        ({"state": "NotApplicable", "reason": "WindowOpen"}, "mend that"),
        ({"state": "NotApplicable", "reason": "NothingToCollect"}, "mend that"),
        ({"state": "NotApplicable", "reason": "GrantMissing"}, "mend that"),
        ({"state": "NotNeeded", "reason": "CheckUnanswered"}, "mend that"),
        ({"state": "NotNeeded", "reason": "FindingGone"}, "mend that"),
    ],
)
def test_containment_waits_for_the_evidence_of_its_run(fix: dict[str, Any], message: str) -> None:
    """In every state but one that proves it; what to do about it is said."""
    told = FixStatus.model_validate({"name": "collect", "action": "evidence.collect", **fix})
    (gate,) = closed(facts(plan={"evidence_first": True}, fixes=(told,)))
    assert gate.name == "EvidenceMissing"
    assert gate.message.startswith(f"collect is {fix['state']}")
    assert message in gate.message
    assert ("--override EvidenceMissing" in gate.message) == (message != "wait for it")
    assert fix.get("reason", "") in gate.message
    assert names(facts(fixes=(told,))) == []
    # Another fix's evidence that is written says nothing of this one's.
    other = FixStatus.model_validate({"name": "other", "action": "evidence.collect-requests", "state": "Helped"})
    assert names(facts(plan={"evidence_first": True}, fixes=(other, told))) == ["EvidenceMissing"]
    # People may know better: with a reason, by as many as must agree.
    agreed = an_approval("alice", override=("EvidenceMissing",))
    assert names(facts(plan={"evidence_first": True}, fixes=(told,), approvals=(agreed,))) == []


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"hazards": (Hazard.COST, Hazard.LOSES_DATA)}, "a plan with hazard LosesData is never automatic"),
        ({"hazards": (Hazard.EXPOSES_DATA,)}, "a plan with hazard ExposesData is never automatic"),
        ({"tier": Tier.SECURITY}, "tier Security is never automatic"),
        ({"risk": Risk.DISRUPTIVE}, "risk Disruptive is above applyUpTo Low"),
    ],
)
def test_who_is_asked_reads_why(plan: dict[str, Any], why: str) -> None:
    """Not that a tier is never automatic where it is something else."""
    (verdict,) = closed(facts(plan=plan))
    assert verdict.message.startswith(f"{why}; ")


@pytest.mark.parametrize(
    "fix",
    [
        {"state": "NotApplicable", "reason": "AlreadyCollected"},
        {"state": "NotNeeded"},
        {"state": "Helped"},
        {"state": "Helped", "reason": "Verified"},
        {"state": "Pending", "action": "iam.disable-credentials"},
    ],
)
def test_evidence_that_is_written_or_not_called_for_holds_nothing_up(fix: dict[str, Any]) -> None:
    """Written in this run or before it; what its findings do not call for is not waited for."""
    told = FixStatus.model_validate({"name": "collect", "action": "evidence.collect", **fix})
    assert names(facts(plan={"evidence_first": True}, fixes=(told,))) == []


@pytest.mark.parametrize("state", ["NotNeeded", "NotApplicable"])
def test_why_evidence_is_not_written_is_said_in_the_words_of_who_looked(state: str) -> None:
    """People must know what to mend before they override."""
    told = FixStatus.model_validate(
        {"name": "collect", "action": "evidence.collect", "state": state, "reason": "Why", "message": "no bucket b"}
    )
    (gate,) = closed(facts(plan={"evidence_first": True}, fixes=(told,)))
    assert gate.message.startswith(f"collect is {state}, no bucket b: ")


def test_every_state_of_a_fix_is_judged_by_the_evidence_gate() -> None:
    """A state that is added later holds containment, until somebody says that it proves the evidence."""
    for state in (*FixState, *PlanState):
        told = FixStatus(name="collect", action="evidence.collect", state=state)
        opens = not names(facts(plan={"evidence_first": True}, fixes=(told,)))
        assert opens == (state in {FixState.NOT_NEEDED, PlanState.HELPED}), state


def test_evidence_that_a_person_left_out_is_waited_for_by_nobody_and_still_missing() -> None:
    """Whoever agrees must know; a plan of it that waits would never be applied."""
    told = FixStatus(name="collect", action="evidence.collect", state=PlanState.PROPOSED)
    (gate,) = closed(facts(plan={"evidence_first": True}, fixes=(told,), skipped=("collect",)))
    assert "left out" in gate.message
    assert "--override EvidenceMissing" in gate.message


def test_confidentiality_is_no_risk() -> None:
    """It says who agrees where somebody must: what exposes data asks all the same, evidence is collected by itself."""
    secret = {"tier": Tier.SECURITY, "confidential": True}
    assert names(facts(plan=secret)) == []
    for why in ({"hazards": (Hazard.EXPOSES_DATA,)}, {"ask_because": ("BeyondRestorable",)}, {"risk": Risk.DISRUPTIVE}):
        assert names(facts(plan={**secret, **why})) == ["ApprovalMissing"]


@pytest.mark.parametrize("until", [NOW, NOW - timedelta(minutes=1)], ids=["at its end", "long over"])
def test_what_is_over_blocks_nothing(until: datetime) -> None:
    """A freeze and a cooldown end at their instant."""
    freeze = {"from": NOW - timedelta(hours=2), "until": until, "reason": "sale"}
    assert names(facts(grant=a_grant(freezes=[freeze]), cooldown_until=until)) == []


def test_every_soft_gate_and_no_hard_one_can_be_overridden() -> None:
    """The two lists are one truth."""
    soft = {
        "grant": FROZEN,
        "cooldown_until": NOW + timedelta(hours=1),
        "circuit_open": True,
        "runbook_stale": True,
        "plan": {
            "capacity": Capacity(healthy_before=3, healthy_after=0, minimum=1),
            "common_cause": True,
            "downstream": Downstream(used=99, added=1, maximum=100),
            "evidence_first": True,
        },
        "fixes": (UNWRITTEN,),
    }
    blocked = closed(facts(**soft))
    assert {gate.name for gate in blocked} == SOFT
    assert not any(gate.hard for gate in blocked)
    agreed = an_approval("alice", override=tuple(SOFT))
    assert closed(facts(**soft, approvals=(agreed,))) == ()
    assert {g.name for g in closed(facts(**soft, approvals=(an_approval("alice"),)))} == SOFT


def test_what_needs_broken_glass_is_held_however_many_agree() -> None:
    """A grant and a run that let a machine do all let it do this never; one who breaks the glass is enough."""
    anything = Automation(apply_up_to=Risk.DESTRUCTIVE, ask_up_to=Risk.DESTRUCTIVE)
    freely = {
        "run_automation": anything,
        "grant": a_grant(automation={"applyUpTo": "Destructive", "askUpTo": "Destructive"}),
    }
    plan = {"risk": Risk.DESTRUCTIVE, "tier": Tier.DESTRUCTIVE}
    assert names(facts(plan=plan, **freely)) == []
    glass = {**plan, "needs_break_glass": True}
    assert names(facts(plan=glass, **freely)) == ["ApprovalMissing"]
    two = tuple(an_approval(who, tier=Tier.DESTRUCTIVE) for who in ("alice", "bob"))
    assert names(facts(plan=plan, approvals=two)) == []
    (held,) = closed(facts(plan=glass, approvals=two, **freely))
    assert "break the glass" in held.message
    broken = an_approval("carol", tier=Tier.DESTRUCTIVE, break_glass=True, reason="nobody is served")
    assert names(facts(plan=glass, approvals=(broken,), **freely)) == []
    assert names(facts(plan=glass, approvals=(*two, broken), **freely)) == []


def test_an_approval_of_another_tier_is_none() -> None:
    """What came to light since made it a plan for others to agree to."""
    given = facts(plan={"tier": Tier.SECURITY}, approvals=(an_approval("alice"), an_approval("bob")))
    assert "ApprovalMissing" in names(given)
    security = tuple(an_approval(who, tier=Tier.SECURITY) for who in ("alice", "bob"))
    assert names(facts(plan={"tier": Tier.SECURITY}, approvals=security)) == []


def test_an_approval_that_ran_out_is_none() -> None:
    """At its very instant."""
    plan = {"risk": Risk.DISRUPTIVE, "tier": Tier.DISRUPTIVE}
    held = an_approval("alice", tier=Tier.DISRUPTIVE)
    assert names(facts(plan=plan, approvals=(held,))) == []
    assert names(facts(plan=plan, approvals=(held,), now=held.expires_at)) == ["ApprovalMissing"]


def test_the_grant_bounds_the_run() -> None:
    """Effective automation is the minimum: a generous run does not widen a narrow grant."""
    grant = a_grant(automation={"applyUpTo": "None"})
    assert names(facts(grant=grant, run_automation=Automation(apply_up_to=Risk.DESTRUCTIVE))) == ["ApprovalMissing"]


TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/birthday-users"
LAMBDA_ROLE = "arn:aws:iam::123456789012:role/lambda-execution-role"


def a_draft(**changes: Any) -> PlanDraft:
    """Return a draft that gives back GetItem, taken by the pipeline."""
    spec = a_plan().spec
    values: dict[str, Any] = {
        "title": "restore",
        "calls": (a_call(),),
        "touches": spec.touches,
        "risk": Risk.LOW,
        "verify": spec.verify,
        "diff": (),
        "hazards": (Hazard.GRANTS_ACCESS,),
        "undo": spec.undo,
        "grants": (GrantedAccess(role=LAMBDA_ROLE, action="dynamodb:GetItem", resource=TABLE),),
        "removals": (Removal(actor="arn:aws:iam::123456789012:user/deployer"),),
    }
    return PlanDraft(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"removals": (Removal(actor=None),)}, "ActorUnknown"),
        ({"removals": ()}, "ActorUnknown"),
        (
            {"removals": (Removal(actor="arn:aws:sts::123456789012:assumed-role/SecurityAudit/audit-2023-q4"),)},
            "AccessRemovedOnPurpose",
        ),
        (
            {"grants": (GrantedAccess(role=LAMBDA_ROLE, action="dynamodb:DeleteTable", resource=TABLE),)},
            "BeyondRestorable",
        ),
        (
            {"grants": (GrantedAccess(role=LAMBDA_ROLE, action="dynamodb:*", resource=TABLE),)},
            "BeyondRestorable",
        ),
        (
            {"grants": (GrantedAccess(role=LAMBDA_ROLE, action="dynamodb:GetItem", resource="*"),)},
            "BeyondRestorable",
        ),
    ],
)
def test_access_is_given_back_by_itself_only_where_the_grant_says_so(changes: dict[str, Any], reason: str) -> None:
    """Decision 24: restorable, a known actor, and not a removal on purpose."""
    assert reasons_to_ask(a_draft(), a_grant()) == ()
    assert reason in reasons_to_ask(a_draft(**changes), a_grant())


def test_removal_on_purpose_is_for_security() -> None:
    """Decision 14: GrantsAccess beyond restorable is tier Security."""
    assert tier_of(a_draft(), ("AccessRemovedOnPurpose",)) == Tier.SECURITY
    assert tier_of(a_draft(), ()) == Tier.LOW


def test_a_confidential_incident_is_for_security() -> None:
    """Decision 14: whatever the risk; and an approval of another tier is of another plan."""
    grant, fix = a_grant(), "restoreAccess"
    assert tier_of(a_draft(), (), confidential=True) == Tier.SECURITY
    assert hash_draft(a_draft(), grant, fix=fix, confidential=True) != hash_draft(a_draft(), grant, fix=fix)


def test_the_hash_is_of_what_is_executed() -> None:
    """Decision 13: another title or diff is the same plan; another touched resource is not."""
    grant, fix = a_grant(), "restoreAccess"
    same = hash_draft(a_draft(), grant, fix=fix)
    assert hash_draft(a_draft(title="other"), grant, fix=fix) == same
    assert hash_draft(a_draft(touches=(TABLE,)), grant, fix=fix) != same


def test_the_hash_is_of_who_must_agree_too() -> None:
    """An approval is of a tier: when it comes to light who took the access away, it is another plan."""
    grant, fix = a_grant(), "restoreAccess"
    protected = a_draft(removals=(Removal(actor="arn:aws:iam::123456789012:role/SecurityAudit"),))
    assert hash_draft(protected, grant, fix=fix) != hash_draft(a_draft(), grant, fix=fix)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("dynamodb:*", "dynamodb:GetItem", True),
        ("dynamodb:GetItem", "dynamodb:*", False),
        ("dynamodb:Get?tem", "dynamodb:Get*", False),
        ("*", "*", True),
        ("arn:a/*", "arn:a/b*", True),
        ("arn:a/b", "arn:a/?", False),
    ],
)
def test_a_pattern_covers_only_what_it_surely_matches(outer: str, inner: str, expected: bool) -> None:
    """A wildcard is never covered by something narrower."""
    assert covers(outer, inner) is expected
