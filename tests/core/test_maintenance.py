"""decide_runbook: when a runbook is validated, what a report amounts to, whose review is overdue, what is due."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml

from incident_operator.actions.catalogue import infos
from incident_operator.adapters.kube import NotFound
from incident_operator.adapters.store import Store
from incident_operator.api.escalation import EscalationPolicySpec
from incident_operator.api.meta import Condition, Metadata
from incident_operator.api.run import CheckState, CheckStatus, IncidentRunStatus, RunbookPin
from incident_operator.api.runbook import (
    Maintenance,
    RunbookProblem,
    RunbookStatus,
    UpdateReason,
    Validation,
    ValidationPart,
    ValidationResult,
)
from incident_operator.controllers.resolving import is_stale
from incident_operator.controllers.runbooks import Runbooks
from incident_operator.core.maintenance import (
    LEAST,
    MAX_FINDINGS,
    MAX_UPDATES,
    MOST,
    RETRY,
    SPREAD,
    VALIDATE_EVERY,
    FixTrial,
    RunbookDecision,
    RunbookView,
    Tried,
    Validate,
    calls_for_update,
    decide_runbook,
    freshness,
    on_call,
    report,
    share,
    used_in_major_incident,
    validation_due,
    verdict,
    with_update_due,
)
from incident_operator.core.run import Tell
from incident_operator.core.runbook import validate
from incident_operator.core.schedule import Timing
from incident_operator.settings import Settings
from tests.builders import NOW, a_run, a_runbook
from tests.core.policies import FILE as POLICY_FILE

DAY = timedelta(days=1)
INSTALLED = NOW - 10 * DAY
PASSED = CheckStatus(name="users", action="lambda.invocations", state=CheckState.PASSED)
PROBLEM = RunbookProblem(field="spec.steps[0].checks[0].action", message="there is no action 'lambda.nothing'")
#: A problem of an expression names its line.
MISTAKE = RunbookProblem(field="spec.steps[0].fixes[0].when", line=1, column=3, message="there is no check 'x'")


def kept(**fields: Any) -> Maintenance:
    """Return how a runbook is kept."""
    return Maintenance.model_validate({"owner": "platform", **fields})


def said(by: str, at: datetime) -> dict[str, Any]:
    """Return a row of the record."""
    return {"by": by, "at": at, "revision": "rbk-users-0123456789"}


def tried(**fields: Any) -> Tried:
    """Return a trial in which everything went well."""
    values: dict[str, Any] = {
        "namespace": "shop",
        "checks": (PASSED,),
        "fixes": (FixTrial(name="restoreAccess", planned=True),),
        "permissions": {"iam:PutRolePolicy (Remediation)": True},
    }
    return Tried(**{**values, **fields})


def made(result: Tried | None = None, *, at: datetime = NOW, generation: int = 1) -> Validation:
    """Return a report; without a trial where none is given."""
    return report(a_runbook(), (), result, generation, at)


def a_view(*, status: RunbookStatus | None = None, generation: int = 1, **fields: Any) -> RunbookView:
    """Return a runbook that was seen now for the first time."""
    spec = a_runbook(**({"maintenance": fields.pop("maintenance")} if "maintenance" in fields else {}))
    values: dict[str, Any] = {
        "metadata": Metadata(name="users", uid="uid", generation=generation, creation_timestamp=INSTALLED),
        "spec": spec,
        "status": status or RunbookStatus(),
        "revision": "crbk-users-0123456789",
        "since": NOW,
    }
    return RunbookView(**{**values, **fields})


def condition(decision: RunbookDecision, type_: str) -> Condition:
    """Return a condition of what is stored."""
    (found,) = [c for c in decision.status.conditions if c.type == type_]
    return found


def after(decision: RunbookDecision, view: RunbookView, **fields: Any) -> RunbookView:
    """Return what is seen once the decision is stored."""
    return replace(view, status=decision.status, made=None, **fields)


# --- fresh ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, (None, "NotScheduled"), id="nobody says how often"),
        pytest.param({"reviewEvery": "11d"}, (True, "NotDueYet"), id="installed a short while ago"),
        pytest.param({"reviewEvery": "10d"}, (False, "ReviewOverdue"), id="never reviewed, and due at this instant"),
        pytest.param({"reviewEvery": "2d", "reviews": [said("anybody", NOW - DAY)]}, (True, "Reviewed"), id="in time"),
        pytest.param(
            {"reviewEvery": "1d", "reviews": [said("anybody", NOW - DAY)]},
            (False, "ReviewOverdue"),
            id="a review holds until reviewEvery, exclusive",
        ),
        pytest.param(
            {"reviewEvery": "1d", "reviews": [said("anybody", NOW + DAY)]},
            (False, "ReviewOverdue"),
            id="a review that is still ahead does not count",
        ),
        pytest.param({"reviewEvery": "2d", "reviewedAt": NOW - DAY}, (True, "Reviewed"), id="the owner's older field"),
        pytest.param(
            {"reviewEvery": "2d", "reviewers": ["a", "b"], "reviews": [said("a", NOW - DAY)]},
            (False, "ReviewOverdue"),
            id="the other reviewer never did",
        ),
        pytest.param(
            {"reviewEvery": "11d", "reviewers": ["a", "b"], "reviews": [said("a", NOW - DAY)]},
            (True, "NotDueYet"),
            id="the other reviewer has time left",
        ),
        pytest.param(
            {"reviewEvery": "2d", "reviewers": ["a"], "reviews": [said("b", NOW - DAY)]},
            (False, "ReviewOverdue"),
            id="nobody's word is taken for another's",
        ),
        pytest.param(
            {"reviewEvery": "3d", "reviewers": ["a"], "reviews": [said("a", NOW - DAY), said("a", NOW - 20 * DAY)]},
            (True, "Reviewed"),
            id="the newest counts, in whatever order they stand",
        ),
        pytest.param(
            {"reviewEvery": "2d", "reviewers": ["platform"], "reviewedAt": NOW - DAY},
            (True, "Reviewed"),
            id="the owner is a reviewer",
        ),
        pytest.param(
            {"reviewEvery": "2d", "reviews": [said("a", NOW - DAY)], "archived": {"reason": "gone"}},
            (False, "Archived"),
            id="archived",
        ),
    ],
)
def test_a_runbook_is_fresh_while_every_reviewers_word_holds(
    fields: dict[str, Any], expected: tuple[bool | None, str]
) -> None:
    """By the record, and by the installation until the first review is due."""
    assert freshness(kept(**fields), INSTALLED, NOW)[:2] == expected


@pytest.mark.parametrize(
    ("fields", "others", "expected"),
    [
        pytest.param({"reviews": [said("a", NOW - DAY)]}, ["a", "b"], "ReviewOverdue", id="each of those on call"),
        pytest.param({"reviews": [said("a", NOW), said("b", NOW)]}, ["a", "b"], "Reviewed", id="all of them did"),
        pytest.param({"reviews": [said("c", NOW)]}, ["a"], "ReviewOverdue", id="not somebody else"),
        pytest.param({"reviews": [said("c", NOW)]}, [], "Reviewed", id="anybody, where nobody is on call"),
        pytest.param({"reviewers": ["c"], "reviews": [said("c", NOW)]}, ["a"], "Reviewed", id="whom it names, alone"),
    ],
)
def test_those_on_call_review_a_runbook_that_names_nobody(
    fields: dict[str, Any], others: list[str], expected: str
) -> None:
    """By the EscalationPolicy; what the runbook says wins."""
    assert freshness(kept(reviewEvery="2d", **fields), INSTALLED, NOW, others).reason == expected
    view = a_view(maintenance={"owner": "o", "reviewEvery": "2d", **fields}, others=tuple(others))
    assert condition(decide_runbook(view, NOW), "Fresh").reason == expected


def test_those_on_call_are_contacts_of_their_kind() -> None:
    """Neither roles, vendors nor customer support; nobody without a policy."""
    assert on_call(EscalationPolicySpec.model_validate(POLICY["spec"])) == ("Primary", "Secondary", "Escalation")
    assert on_call(None) == ()


def test_without_maintenance_nobody_promised_anything() -> None:
    """That is not known, and closes no gate."""
    assert freshness(None, INSTALLED, NOW).fresh is None


def test_what_is_overdue_names_whose_review() -> None:
    """And since when, in instants: an age would be another message each second."""
    fields = kept(reviewEvery="1d", reviewers=["a", "b", "c"], reviews=[said("a", NOW), said("b", NOW - 2 * DAY)])
    found = freshness(fields, INSTALLED, NOW)
    assert "b reviewed it 2026-01-13, c reviewed it never" in found.message
    assert found.message == freshness(fields, INSTALLED, NOW + timedelta(hours=1)).message
    # The next one to run out is told when it does.
    assert found.until == NOW + DAY
    assert "a reviewed it 2026-01-15, b " in freshness(fields, INSTALLED, NOW + DAY).message


def test_it_turns_at_the_first_review_that_ends() -> None:
    """The decision comes back at that instant, and not before."""
    reviews = [said("a", NOW - DAY), said("b", NOW - 2 * DAY)]
    maintenance = {"owner": "o", "reviewEvery": "3d", "reviewers": ["a", "b"], "reviews": reviews}
    found = freshness(kept(**maintenance), INSTALLED, NOW)
    assert (found.reviewed_at, found.until) == (NOW - 2 * DAY, NOW + DAY)
    view = a_view(maintenance=maintenance, status=RunbookStatus(validation=made()))
    decision = decide_runbook(view, NOW)
    assert decision.wake_at == NOW + DAY
    assert decision.status.reviewed_at == NOW - 2 * DAY
    later = decide_runbook(after(decision, view), NOW + DAY)
    assert (condition(later, "Fresh").status, condition(later, "Fresh").reason) == ("False", "ReviewOverdue")
    assert [e.reason for e in later.effects if isinstance(e, Tell)] == ["ReviewOverdue"]


# --- what a report amounts to -----------------------------------------------------------------------------------------


def test_everything_tried_and_well_is_true() -> None:
    """It says when, where and how much."""
    found = verdict(made(tried()))
    assert (found.status, found.reason) == (True, "Validated")
    assert found.message == ("2026-01-15 14:30Z in namespace shop: 4 references, 1 permissions, 1 checks, 1 fixes")


def test_what_was_not_tried_is_unknown() -> None:
    """Never True."""
    found = verdict(made())
    assert (found.status, found.reason) == (None, "NoTrial")
    assert "Schema, Expressions, References hold; Permissions, Checks, Fixes not tried" in found.message


@pytest.mark.parametrize(
    ("fields", "expected", "told"),
    [
        pytest.param(
            {"checks": (PASSED, PASSED.model_copy(update={"state": CheckState.FAILED, "reason": "UsersFailing"}))},
            (True, "Validated"),
            "2 checks",
            id="a finding is an answer",
        ),
        pytest.param(
            {"checks": (PASSED.model_copy(update={"state": CheckState.ERROR, "reason": "AccessDenied"}),)},
            (False, "CheckError"),
            "Checks users: AccessDenied",
            id="an error is none",
        ),
        pytest.param(
            {"checks": (PASSED.model_copy(update={"state": CheckState.INCONCLUSIVE, "reason": "TooFewSamples"}),)},
            (None, "NotCovered"),
            "Checks: users: TooFewSamples",
            id="an unclear answer is not known",
        ),
        pytest.param(
            {"fixes": (FixTrial(name="restoreAccess", reason="NothingLost"),)},
            (True, "Validated"),
            "1 fixes",
            id="a fix with nothing to do now is planned",
        ),
        pytest.param(
            {"fixes": (FixTrial(name="restoreAccess", failed=True, reason="ExpressionFailed", message="no such key"),)},
            (False, "FixError"),
            "Fixes restoreAccess: ExpressionFailed: no such key",
            id="a fix that can't be planned",
        ),
        pytest.param(
            {"permissions": {"a:B (Read)": True, "a:C (Read)": False}},
            (False, "PermissionMissing"),
            "Permissions a:C (Read)",
            id="a permission is denied",
        ),
        pytest.param(
            {"permissions": {"a:B (Read)": None}},
            (None, "NotCovered"),
            "a:B (Read): NotSimulated",
            id="a permission can't be simulated",
        ),
        pytest.param(
            {
                "permissions": {"a:B (Read)": None},
                "fixes": (FixTrial(name="restoreAccess", failed=True, reason="Timeout"),),
            },
            (False, "FixError"),
            "Fixes restoreAccess: Timeout",
            id="what failed weighs more than what is not known",
        ),
        pytest.param(
            {"problem": ("GrantMissing", "no ActionGrant selects namespace shop")},
            (False, "TrialInvalid"),
            "GrantMissing: no ActionGrant selects namespace shop",
            id="a trial that can't begin",
        ),
    ],
)
def test_a_trial_amounts_to(fields: dict[str, Any], expected: tuple[bool | None, str], told: str) -> None:
    """Failed is False, not known is Unknown, and the message names which."""
    found = verdict(made(tried(**fields)))
    assert found[:2] == expected
    assert told in found.message


def test_problems_of_the_text_are_told_apart() -> None:
    """An expression's has a line."""
    found = report(a_runbook(), (PROBLEM, MISTAKE), None, 1, NOW)
    results = {part.part: part.result for part in found.parts}
    assert results[ValidationPart.REFERENCES] == results[ValidationPart.EXPRESSIONS] == ValidationResult.FAILED
    assert verdict(found)[:2] == (False, "RunbookInvalid")
    assert "(+1 more)" in verdict(found).message


def test_a_report_is_bounded_and_says_what_failed_first() -> None:
    """However much there is to say."""
    permissions = {f"a:B{number:03} (Read)": None if number % 2 else False for number in range(100)}
    found = report(a_runbook(), (), tried(permissions=permissions), 1, NOW)
    assert len(found.findings) == MAX_FINDINGS
    assert {one.result for one in found.findings} == {ValidationResult.FAILED}
    assert len(verdict(found).message) <= 1024


def test_what_a_runbook_has_is_counted() -> None:
    """Expressions in inputs, conditions, findings and impact; actions, reasons and recovery's checks."""
    spec = a_runbook(
        steps=[
            {
                "name": "assess",
                "title": "Assess",
                "expectedBy": "5m",
                "checks": [
                    {
                        "name": "users",
                        "action": "lambda.invocations",
                        "inputs": {"functionName": "${parameters.a}", "alias": "${parameters.b}"},
                        "findings": [{"when": "output.total == 0", "reason": "Quiet", "message": "m"}],
                    }
                ],
                "fixes": [{"name": "undo", "action": "lambda.rollback-alias", "when": "true", "onFindings": ["Quiet"]}],
            }
        ],
        impact={"failed": "1", "total": "2"},
    )
    counts = {part.part: part.count for part in report(spec, (), None, 1, NOW).parts}
    assert (counts[ValidationPart.EXPRESSIONS], counts[ValidationPart.REFERENCES]) == (6, 4)
    broken = a_runbook(
        steps=[
            {
                "name": "assess",
                "title": "Assess",
                "expectedBy": "5m",
                "checks": [{"name": "users", "action": "lambda.invocations", "inputs": {"functionName": "${"}}],
            }
        ]
    )
    assert validate(broken, infos())
    found = report(broken, validate(broken, infos()), None, 1, NOW)
    assert {p.part: p.count for p in found.parts}[ValidationPart.EXPRESSIONS] == 1


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [f"uid-{number}" for number in range(40)])
def test_when_it_is_due_is_spread_and_within_bounds(uid: str) -> None:
    """A new spec within SPREAD; a good one at most validateEvery after the last; a bad one within RETRY."""
    metadata = Metadata(name="users", uid=uid, generation=2, creation_timestamp=INSTALLED)
    view = a_view(metadata=metadata, status=RunbookStatus(validation=made(generation=1)))
    due = validation_due(view)
    assert due is not None
    assert NOW <= due <= NOW + SPREAD
    for report_, longest in ((made(tried(), generation=2), VALIDATE_EVERY), (made(generation=2), VALIDATE_EVERY)):
        due = validation_due(replace(view, status=RunbookStatus(validation=report_)))
        assert due is not None
        assert NOW < due <= NOW + longest
    failed = made(tried(problem=("GrantMissing", "none")), generation=2)
    due = validation_due(replace(view, status=RunbookStatus(validation=failed)))
    assert due is not None
    assert NOW + RETRY / 2 <= due <= NOW + RETRY


def test_a_thousand_do_not_meet() -> None:
    """Brought by one push, they come one after the other."""
    dues = [share(f"uid-{number}", SPREAD) for number in range(1000)]
    slots = [int(due / (SPREAD / 10)) for due in dues]
    assert all(60 < slots.count(slot) < 140 for slot in range(10))


def test_it_is_scaled_and_never_restless() -> None:
    """A wait of ours is scaled, a promise of people is not, and neither leads to trying it all the time."""
    fast = Timing(scale=60)
    view = a_view(timing=fast)
    due = validation_due(view)
    assert due is not None
    assert due <= NOW + SPREAD / 60
    maintenance = {"owner": "o", "validateEvery": "30d"}
    seldom = a_view(timing=fast, maintenance=maintenance, status=RunbookStatus(validation=made(tried())))
    later = validation_due(replace(seldom, metadata=seldom.metadata.model_copy(update={"uid": "uid-7"})))
    assert later is not None
    assert later > NOW + DAY
    often = a_view(maintenance={"owner": "o", "validateEvery": "0s"}, status=RunbookStatus(validation=made(tried())))
    due, again = validation_due(often), NOW
    for _ in range(5):
        assert due is not None
        again = due
        due = validation_due(replace(often, status=RunbookStatus(validation=made(tried(), at=again))))
        assert due == again + LEAST


def test_a_promise_beyond_the_end_of_time_is_bounded() -> None:
    """What the pattern admits must not keep a run from being decided."""
    maintenance = {"owner": "o", "reviewEvery": "999999999d", "validateEvery": "999999999d"}
    view = a_view(maintenance=maintenance, status=RunbookStatus(validation=made(tried())))
    decision = decide_runbook(view, NOW)
    assert condition(decision, "Fresh").reason == "NotDueYet"
    assert decision.wake_at is not None
    assert decision.wake_at <= NOW + MOST


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"maintenance": {"owner": "o", "archived": {"reason": "gone"}}}, id="archived"),
        pytest.param({"mine": False}, id="another operator works in the trial's namespace"),
        pytest.param({"problems": (PROBLEM,)}, id="its text is wrong, which needs no trial"),
    ],
)
def test_some_are_not_validated(fields: dict[str, Any]) -> None:
    """Nothing is asked for, and nobody waits for it."""
    decision = decide_runbook(a_view(**fields), NOW + DAY)
    assert Validate() not in decision.effects
    assert decision.wake_at is None


# --- the decision -----------------------------------------------------------------------------------------------------


def test_a_new_runbook_is_validated_once_and_then_at_rest() -> None:
    """From its first sight to a report, and nothing is written while nothing happens."""
    view = a_view()
    first = decide_runbook(view, NOW)
    assert (condition(first, "Ready").status, condition(first, "Validated").reason) == ("True", "NotYetValidated")
    assert condition(first, "Validated").status == "Unknown"
    assert first.effects == ()
    assert first.wake_at is not None
    begins = decide_runbook(after(first, view), first.wake_at)
    assert begins.effects == (Validate(),)
    assert begins.status == first.status
    busy = decide_runbook(after(first, view, busy=True), first.wake_at + DAY)
    assert (busy.effects, busy.wake_at) == ((), None)
    at = first.wake_at + timedelta(seconds=5)
    ended = decide_runbook(replace(after(first, view), made=made(tried(), at=at)), at)
    assert condition(ended, "Validated").status == "True"
    assert [e.reason for e in ended.effects if isinstance(e, Tell)] == ["Validated"]
    assert ended.wake_at is not None
    assert at < ended.wake_at <= at + VALIDATE_EVERY
    rest = decide_runbook(after(ended, view), at + timedelta(seconds=1))
    assert (rest.status, rest.effects, rest.wake_at) == (ended.status, (), ended.wake_at)


def test_a_report_of_an_older_spec_says_nothing_of_this_one() -> None:
    """Neither the stored one nor one that was under way."""
    view = a_view(generation=2, status=RunbookStatus(validation=made(tried())), made=made(tried()))
    decision = decide_runbook(view, NOW)
    assert condition(decision, "Validated").reason == "NotYetValidated"


def test_what_is_wrong_with_the_text_is_said_at_once_and_once() -> None:
    """Without a trial; and what was tried before is not said of it."""
    view = a_view(problems=(PROBLEM,), status=RunbookStatus(validation=made(tried())))
    decision = decide_runbook(view, NOW + DAY)
    assert condition(decision, "Ready").status == condition(decision, "Validated").status == "False"
    assert condition(decision, "Ready").message == condition(decision, "Ready").message[:1024]
    assert PROBLEM.message in condition(decision, "Validated").message
    warnings = [(e.reason, e.warning) for e in decision.effects if isinstance(e, Tell)]
    assert warnings == [("RunbookInvalid", True), ("RunbookInvalid", True)]
    again = decide_runbook(after(decision, view), NOW + 2 * DAY)
    assert (again.status, again.effects) == (decision.status, ())
    # An upgrade that has the action: it is tried.
    cured = decide_runbook(after(decision, view, problems=()), NOW + 3 * DAY)
    assert Validate() in cured.effects


def test_a_turn_is_told_once() -> None:
    """To people, as an Event; a first sight of something well is none."""
    view = a_view(status=RunbookStatus(validation=made(tried())))
    first = decide_runbook(view, NOW)
    assert [e for e in first.effects if isinstance(e, Tell)] == []
    failed = made(tried(permissions={"a:C (Read)": False}), at=NOW + DAY)
    turned = decide_runbook(replace(after(first, view), made=failed), NOW + DAY)
    (told,) = [e for e in turned.effects if isinstance(e, Tell)]
    assert (told.reason, told.warning) == ("PermissionMissing", True)
    assert "Validated is False: 2026-01-16 14:30Z: Permissions a:C (Read)" in told.message
    assert condition(turned, "Validated").last_transition_time == NOW + DAY
    rest = decide_runbook(after(turned, view), NOW + DAY + timedelta(minutes=1))
    assert [e for e in rest.effects if isinstance(e, Tell)] == []


def test_an_archived_runbook_is_kept_and_not_validated() -> None:
    """Its older report stays to be read."""
    stored = RunbookStatus(validation=made(tried()))
    view = a_view(maintenance={"owner": "o", "archived": {"reason": "gone"}}, status=stored)
    decision = decide_runbook(view, NOW)
    assert (condition(decision, "Validated").status, condition(decision, "Validated").reason) == ("Unknown", "Archived")
    assert condition(decision, "Fresh").message == "archived: gone"
    assert decision.status.validation == stored.validation


# --- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "drill", "began", "expected"),
    [
        ("P0", False, True, True),
        ("P1", False, True, True),
        ("P2", False, True, False),
        ("P3", False, True, False),
        ("P0", True, True, False),
        ("P1", False, False, False),
    ],
)
def test_an_update_is_due_after_major_incidents(severity: str, drill: bool, began: bool, expected: bool) -> None:
    """Those that used it: a run that never began, or a drill, taught nothing."""
    pin = RunbookPin(kind="ClusterRunbook", name="users", revision="crbk-users-0123456789")
    status = IncidentRunStatus(started_at=NOW, runbook=pin) if began else IncidentRunStatus()
    run = a_run(status=status, incident={"title": "t", "severity": severity}, drill=drill)
    assert used_in_major_incident(run) is expected
    assert calls_for_update(run.spec.incident.severity, drill=drill) is (expected or not began)


def test_a_thing_to_learn_is_kept_until_the_spec_changes() -> None:
    """Once for each run, the oldest first and at most so many; any newer spec, a review among them, answers all."""
    status = RunbookStatus()
    for number in range(MAX_UPDATES + 4):
        at = NOW + number * DAY
        status = with_update_due(status, 1, UpdateReason.INCIDENT_ENDED, f"shop/run-{number}", at)
        assert with_update_due(status, 1, UpdateReason.INCIDENT_ENDED, f"shop/run-{number}", at + DAY) == status
    assert [due.about for due in status.update_due] == [f"shop/run-{number}" for number in range(MAX_UPDATES)]
    assert status.update_due[0].since == NOW
    same = decide_runbook(a_view(status=status), NOW)
    assert same.status.update_due == status.update_due
    newer = decide_runbook(a_view(status=status, generation=2), NOW)
    assert newer.status.update_due == ()
    learnt = with_update_due(status, 2, UpdateReason.INCIDENT_ENDED, "shop/another", NOW)
    assert [due.about for due in learnt.update_due] == ["shop/another"]


# --- the gate ---------------------------------------------------------------------------------------------------------


class Kept:
    """What `is_stale` asks of a context: the cluster's runbooks as they are, and the revisions that runs follow."""

    def __init__(self, *live: dict[str, Any], pinned: dict[str, Any] | None = None, policy: Any = None) -> None:
        self.store, self.runbooks, self.clock, self.revisions = Store(), Runbooks(infos()), self, self
        self._pinned = pinned
        self.kube, self.settings, self._policy = self, Settings(identity="test"), policy
        for number, spec in enumerate(live, 1):
            metadata = {"name": "users", "uid": "uid", "resourceVersion": str(number)}
            raw = {"kind": "ClusterRunbook", "metadata": {**metadata, "creationTimestamp": "2026-01-05T14:30:00Z"}}
            self.store.put("ClusterRunbook", {**raw, "spec": spec})

    def now(self) -> datetime:
        """Return the instant of the question."""
        return NOW

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Return the EscalationPolicy of the operator's namespace. Errors: NotFound without one."""
        assert (kind, namespace, name) == ("EscalationPolicy", self.settings.operator_namespace, "default")
        if self._policy is None:
            raise NotFound(kind, name)
        return dict(self._policy)

    async def load(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the pinned spec."""
        return self._pinned


STALE = a_runbook(maintenance={"owner": "o", "reviewEvery": "2d"}).wire()
REVIEWED = a_runbook(maintenance=kept(reviewEvery="2d", reviews=[said("a", NOW - DAY)]).wire()).wire()
NAMED = a_runbook(maintenance=kept(reviewEvery="2d", reviewers=["a"], reviews=[said("a", NOW - DAY)]).wire()).wire()
POLICY = yaml.safe_load(POLICY_FILE.read_text())
ARCHIVED = a_runbook(maintenance={"owner": "o", "archived": {"reason": "gone"}}).wire()
UNKEPT = a_runbook().wire()


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(Kept(STALE), True, id="overdue"),
        pytest.param(Kept(REVIEWED), False, id="reviewed"),
        pytest.param(Kept(STALE, REVIEWED, pinned=STALE), False, id="reviewed after the run began"),
        pytest.param(Kept(REVIEWED, ARCHIVED, pinned=REVIEWED), True, id="archived after the run began"),
        pytest.param(Kept(UNKEPT), False, id="nobody promised a review"),
        pytest.param(Kept(pinned=STALE), False, id="gone, and the run began a short while ago"),
        pytest.param(Kept(pinned=ARCHIVED), True, id="gone, and archived before"),
        pytest.param(Kept(), False, id="gone without a trace"),
        pytest.param(Kept(REVIEWED, policy=POLICY), True, id="reviewed by one who is not on call"),
        pytest.param(Kept(NAMED, policy=POLICY), False, id="reviewed by whom it names"),
    ],
)
async def test_a_run_asks_where_its_runbook_is_not_fresh(world: Any, expected: bool) -> None:
    """By the runbook as it is now, whatever the run follows; where it is gone, by what the run follows."""
    pin = RunbookPin(kind="ClusterRunbook", name="users", revision="crbk-users-0123456789")
    run = a_run(status=IncidentRunStatus(started_at=NOW - timedelta(hours=1), runbook=pin))
    assert await is_stale(world, run) is expected


async def test_a_run_without_a_runbook_yet_asks_for_no_review() -> None:
    """It is not accepted."""
    world: Any = Kept(STALE)
    assert await is_stale(world, a_run()) is False
