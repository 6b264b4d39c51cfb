"""A fix that is planned anew while people think: what they are asked stays one thing, or names what it is now."""

from datetime import timedelta

import pytest

from incident_operator.api.plan import Approval, PlanState, RemediationPlan, RemediationPlanStatus, Tier
from incident_operator.api.run import IncidentRunStatus
from incident_operator.core.run import plan_attempt, replaced, spent, to_replace
from tests.builders import NOW, a_plan
from tests.core.runs import a_round, decide, ended, proposed, protected, started, the_plan

FIX, SAME, OTHER = "restoreAccess", "0" * 64, "1" * 64
ARN = "arn:aws:rds:us-east-1:123456789012:db:orders/backend"


@pytest.mark.parametrize(
    ("plans", "attempt"),
    [
        ((), 1),
        ((the_plan(),), 1),
        ((ended(PlanState.SUPERSEDED),), 2),
        ((ended(PlanState.SUPERSEDED), the_plan(attempt=2)), 2),
        ((ended(PlanState.SUPERSEDED, "rollback"),), 1),
        # Planned otherwise: the number stays, the hash tells them apart.
        ((the_plan(hash=OTHER),), 1),
        # And back again: the former plan of that number is over, and its name can't be had a second time.
        ((ended(PlanState.SUPERSEDED), the_plan(hash=OTHER)), 2),
        ((ended(PlanState.SUPERSEDED), ended(PlanState.SUPERSEDED, attempt=2), the_plan(hash=OTHER, attempt=2)), 3),
    ],
)
def test_an_attempt_is_the_unsettled_plans_or_the_next(plans: tuple[RemediationPlan, ...], attempt: int) -> None:
    """One unsettled plan per fix; a settled one is never taken up again."""
    assert plan_attempt(plans, FIX, SAME) == attempt


@pytest.mark.parametrize(
    ("candidates", "attempt"),
    [
        (("7.1", "8.2"), 1),
        (("8.2", "9.3"), 1),
        (("9.3",), 2),
        ((), 1),
    ],
    ids=["the same", "one is left", "none is left", "it has none"],
)
def test_a_plan_is_another_one_once_none_of_its_targets_is_left(candidates: tuple[str, ...], attempt: int) -> None:
    """Decision 13: it acts on those that still match, so while one does, it is what people were asked."""
    asked = the_plan(candidates=(f"{ARN}/7.1", f"{ARN}/8.2"), max_targets=5)
    assert plan_attempt((asked,), FIX, SAME, [f"{ARN}/{one}" for one in candidates]) == attempt
    under_way = asked.model_copy(update={"status": RemediationPlanStatus(state=PlanState.VERIFYING)})
    assert plan_attempt((under_way,), FIX, SAME, [f"{ARN}/9.3"]) == 1


def test_what_would_be_made_today_takes_the_place_of_what_waits() -> None:
    """Of its fix, and only of plans that wait: neither of itself nor of what is over, under way, or a way back."""
    fresh = the_plan(hash=OTHER, attempt=2)
    waits = the_plan()
    others = (
        fresh,
        the_plan("rollback"),
        ended(PlanState.SUPERSEDED, attempt=3),
        the_plan(status=RemediationPlanStatus(state=PlanState.VERIFYING), attempt=4),
        the_plan(attempt=5, revert_of="before"),
    )
    assert to_replace((waits, *others), fresh) == (waits,)
    assert to_replace((waits,), the_plan()) == ()


def test_who_agreed_to_what_was_replaced_reads_which_plan_it_is_now() -> None:
    """Its approval is void, it can't be approved any more, and the message names the one that can."""
    agreed = Approval(responder="bob", intervention="one", at=NOW, expires_at=NOW + timedelta(hours=1), tier=Tier.LOW)
    old = a_plan(status=RemediationPlanStatus(state=PlanState.APPROVED, approvals=(agreed,), approved_at=NOW))
    fresh = the_plan(attempt=2)
    status = replaced(old, fresh, NOW)
    assert (status.state, status.reason, status.settled) == (PlanState.SUPERSEDED, "Replaced", True)
    assert status.finished_at == NOW
    assert status.message.startswith(f"{fresh.metadata.name} takes its place: ")
    assert status.message.endswith("the approval of bob is void")


SPENT: dict[str, tuple[RemediationPlan, str | None]] = {
    "the same helped": (ended(PlanState.HELPED), "TriedAlready"),
    "another helped": (ended(PlanState.HELPED, hash=OTHER), None),
    "the same is temporary and in place": (
        the_plan(status=RemediationPlanStatus(state=PlanState.HELPED)),
        "TriedAlready",
    ),
    "the same was refused": (ended(PlanState.REJECTED), "Rejected"),
    "another was refused": (ended(PlanState.REJECTED, hash=OTHER), None),
    "the same did harm": (ended(PlanState.REVERTED), "TriedAlready"),
    "another had no effect": (ended(PlanState.NO_EFFECT, hash=OTHER), "TriedAlready"),
    "the same was replaced": (ended(PlanState.SUPERSEDED), None),
    "another fix helped": (ended(PlanState.HELPED, "rollback"), None),
    "it waits": (the_plan(), None),
}


@pytest.mark.parametrize(("known", "reason"), SPENT.values(), ids=list(SPENT))
def test_what_was_tried_is_not_proposed_again(known: RemediationPlan, reason: str | None) -> None:
    """People would be asked for what the run itself would not do; unless one of them says Retry."""
    fresh = the_plan(attempt=2)
    why = spent(fresh, (known,), IncidentRunStatus())
    assert (why[0] if why else None) == reason
    assert spent(fresh, (known,), IncidentRunStatus(waived=(known.metadata.name,))) is None


@pytest.mark.parametrize(("reason", "begun"), [("Replaced", True), ("WorldChanged", False)])
def test_only_what_was_begun_in_vain_counts_against_a_fix(reason: str, begun: bool) -> None:
    """What people slept through is planned again and again; what changes each time it is begun is given up."""
    over = RemediationPlanStatus(state=PlanState.SUPERSEDED, reason=reason, settled=True)
    plans = tuple(the_plan(status=over, attempt=n, hash=str(n) * 64) for n in (1, 2, 3, 4))
    decision = decide(protected(started(diagnosis=1)), a_round(fixes={FIX: proposed()}), plans=plans)
    assert (decision.status.active_plan is not None) == begun
