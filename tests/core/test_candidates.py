"""Candidates: what was agreed to and still matches is acted on, and nothing else."""

from typing import Any

import pytest

from incident_operator.api.plan import RemediationPlanStatus
from incident_operator.core.draft import PlanDraft
from incident_operator.core.planning import aimed, still_matching, with_targets
from tests.builders import a_call, a_plan

INSTANCES = tuple(f"arn:aws:ec2:us-east-1:123456789012:instance/i-{n}" for n in (1, 2, 3))


def a_draft(*candidates: str) -> PlanDraft:
    """Return what the fix would be about now."""
    spec = a_plan().spec
    return PlanDraft(
        title="t",
        calls=spec.calls,
        touches=spec.touches,
        risk=spec.risk,
        verify=spec.verify,
        diff=(),
        candidates=candidates,
    )


@pytest.mark.parametrize(
    ("now", "most", "acted_on"),
    [
        (INSTANCES, None, INSTANCES),
        (INSTANCES[1:], None, INSTANCES[1:]),
        ((INSTANCES[2], INSTANCES[0]), None, (INSTANCES[0], INSTANCES[2])),
        (INSTANCES, 1, INSTANCES[:1]),
        ((*INSTANCES[:1], "arn:aws:ec2:us-east-1:123456789012:instance/i-new"), None, INSTANCES[:1]),
        ((), None, ()),
    ],
    ids=["all", "one recovered", "the plan's order", "at most", "never a new one", "none"],
)
def test_approved_and_still_matching(now: tuple[str, ...], most: int | None, acted_on: tuple[str, ...]) -> None:
    """The intersection, bounded."""
    assert still_matching(a_plan(candidates=INSTANCES, max_targets=most).spec, a_draft(*now)) == acted_on


@pytest.mark.parametrize(
    ("how", "filled"),
    [
        ({}, list(INSTANCES[:2])),
        ({"after": "/"}, ["i-1", "i-2"]),
        ({"after": "/", "as": "Id"}, [{"Id": "i-1"}, {"Id": "i-2"}]),
    ],
)
def test_targets_are_written_as_the_call_takes_them(how: dict[str, Any], filled: list[Any]) -> None:
    """As ARNs, as ids, as objects; elsewhere nothing changes."""
    arguments = {"TargetGroupArn": "arn", "Targets": {"fromTargets": how}, "Deep": [{"Ids": {"fromTargets": how}}]}
    assert with_targets(arguments, INSTANCES[:2]) == {
        "TargetGroupArn": "arn",
        "Targets": filled,
        "Deep": [{"Ids": filled}],
    }


def test_the_session_of_the_call_may_not_touch_who_was_left_out() -> None:
    """Not even if the call's arguments were wrong."""
    call = a_call().model_copy(update={"arguments": {"Ids": {"fromTargets": {"after": "/"}}}, "resources": INSTANCES})
    plan = a_plan(candidates=INSTANCES, status=RemediationPlanStatus(targets=INSTANCES[:1]))
    made = aimed(call, plan)
    assert made.arguments == {"Ids": ["i-1"]}
    assert made.resources == INSTANCES[:1]


def test_a_call_of_a_plan_without_candidates_is_as_it_was_approved() -> None:
    """To the letter."""
    assert aimed(a_call(), a_plan()) == a_call()
