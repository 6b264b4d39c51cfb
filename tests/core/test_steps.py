"""What a run's steps say of a fix that nothing calls for, or that does not fit (any more)."""

from typing import Any

import pytest

from incident_operator.actions.catalogue import infos
from incident_operator.api.plan import PlanState
from incident_operator.api.run import CheckState, FixState, FixStatus, StepStatus
from incident_operator.api.runbook import Fix
from incident_operator.core.run import FixResult, not_called_for
from incident_operator.core.run.steps import with_fixes
from incident_operator.core.runbook import finders
from tests.builders import a_runbook
from tests.core.runs import check

FIX = Fix(name="collect", action="evidence.collect", on_findings=("CompromisedKeyActive", "PersistenceByActor"))


def became(status: dict[str, Any], **result: Any) -> tuple[str, str | None]:
    """Return state and reason of a fix of such a status after a look that found no plan."""
    before = FixStatus.model_validate({"name": "collect", "action": "evidence.collect", **status})
    steps = (StepStatus(name="contain", title="Immediate Containment", fixes=(before,)),)
    (after,) = with_fixes(steps, {"collect": FixResult(name="collect", **result)})
    (fix,) = after.fixes
    return str(fix.state), fix.reason


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (CheckState.PASSED, None),
        (CheckState.FAILED, None),
        (CheckState.ERROR, "CheckUnanswered"),
        (CheckState.INCONCLUSIVE, "CheckUnanswered"),
    ],
)
def test_that_nothing_calls_for_a_fix_is_known_only_of_checks_that_answered(
    state: CheckState, reason: str | None
) -> None:
    """An error is no answer; a check that can't call for it does not count."""
    checks = {"key": check("key", state, "Other"), "users": check("users", CheckState.ERROR, "AccessDenied")}
    result = not_called_for(FIX, ("key", "persistence"), checks)
    assert (result.state, result.reason) == (FixState.NOT_NEEDED, reason)
    assert ("key" in result.message) == (reason is not None)


def test_who_can_call_for_a_fix_is_told_by_what_actions_and_rules_can_find() -> None:
    """In the document's order; no other check."""
    spec = a_runbook(
        steps=[
            {
                "name": "contain",
                "title": "Immediate Containment",
                "expectedBy": "10m",
                "checks": [
                    {"name": "key", "action": "iam.access-key"},
                    {"name": "web", "action": "waf.clients"},
                    {
                        "name": "asked",
                        "action": "aws.query",
                        "findings": [{"reason": "CompromisedKeyActive", "when": "true", "message": "it is"}],
                    },
                    {"name": "persistence", "action": "iam.key-persistence"},
                ],
            }
        ]
    )
    assert finders(spec, infos(), FIX.on_findings) == ("key", "asked", "persistence")


@pytest.mark.parametrize("state", ["NotApplicable", "Error"])
def test_a_fix_that_was_called_for_in_vain_is_not_forgotten_when_its_finding_goes(state: str) -> None:
    """Somebody disabled the key by hand: the evidence that it called for was never written."""
    gone = became({"state": state, "reason": "BucketPublic"}, state=FixState.NOT_NEEDED)
    assert gone == ("NotNeeded", "FindingGone")
    again = {"state": "NotNeeded", "reason": "FindingGone"}
    assert became(again, state=FixState.NOT_NEEDED) == gone
    assert became(again, state=FixState.NOT_NEEDED, reason="CheckUnanswered") == gone
    written = became(again, state=FixState.NOT_APPLICABLE, reason="AlreadyCollected")
    assert written == ("NotApplicable", "AlreadyCollected")


def test_evidence_that_was_there_already_is_not_missed_when_its_finding_goes() -> None:
    """Nothing is left to be written."""
    there = {"state": "NotApplicable", "reason": "AlreadyCollected"}
    assert became(there, state=FixState.NOT_NEEDED) == ("NotNeeded", None)


@pytest.mark.parametrize("state", [*PlanState, FixState.BLOCKED])
def test_what_became_of_a_plan_stays_unless_it_changed_nothing_and_does_not_fit_any_more(
    state: FixState | PlanState,
) -> None:
    """Another run wrote the same evidence while this one's plan waited: that is what holds now."""
    planned = {"state": state, "plan_ref": "run-collect-1-00000000"}
    assert became(planned, state=FixState.NOT_NEEDED) == (str(state), None)
    found = became(planned, state=FixState.NOT_APPLICABLE, reason="AlreadyCollected")
    news = state in {FixState.BLOCKED, PlanState.PROPOSED, PlanState.SUPERSEDED}
    assert found == (("NotApplicable", "AlreadyCollected") if news else (str(state), None))
