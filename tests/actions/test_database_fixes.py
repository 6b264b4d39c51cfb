"""Fixes of databases, purely: the wrong turns that the document's own commands would take, and what is answered."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.ports import NotFound, ReadError, Rows
from incident_operator.actions.postgres_backends import (
    BackendFacts,
    CancelBackends,
    CancelInputs,
    TerminateBackends,
    TerminateInputs,
)
from incident_operator.actions.postgres_index import CreateIndex, IndexInputs
from incident_operator.actions.rds import (
    InstanceFacts,
    InstanceInputs,
    RebootWithFailover,
    ResizeInputs,
    ResizeInstance,
)
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard, Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader

ARN = "arn:aws:rds:us-east-1:123456789012:db:shop"
PLACE = "db.shop.internal:5432"
AVAILABLE: dict[str, Any] = {
    **{"arn": ARN, "status": "available", "class": "db.r5.large", "engine": "postgres", "place": PLACE, "pending": []},
    **{"multiAz": True, "zone": "us-east-1a", "replicas": [], "replicaOf": None, "backupDays": 7},
}
RESIZE = ResizeInputs(instance="shop", instance_class="db.r5.2xlarge")
FAILOVER = InstanceInputs(instance="shop")
WHERE: dict[str, Any] = {"connection": "database", "operator_connection": "operator", "instance": "shop"}
TERMINATE = TerminateInputs(**WHERE, users=("app",))
CANCEL = CancelInputs(**WHERE, users=("app",), queryid="-42")
BUILD = IndexInputs(**WHERE, statement="CREATE INDEX CONCURRENTLY i ON s.t (c)")


class DatabaseReader(DictReader):
    """Answers statements with what it was given, in order; an exception is raised."""

    def __init__(self, *rows: Any, **answers: Any) -> None:
        given = {"place.database": PLACE, "place.operator": PLACE, "rds.describe_db_instances": AVAILABLE}
        super().__init__({**given, **{name.replace("__", "."): value for name, value in answers.items()}})
        self._rows = list(rows)

    def postgres(self, *_: Any, **__: Any) -> Rows:
        """Return the next rows. Errors: the exception that stands there instead."""
        found = self._rows.pop(0)
        if isinstance(found, Exception):
            raise found
        return Rows(rows=tuple(found), truncated=False, withheld=0, sees_all=True, elapsed=ELAPSED)


ELAPSED = timedelta(milliseconds=3)
SLOTS = {"used": 33, "maximum": 33, "hidden": 0, "waiting": 0}
IDLE = {"pid": 7, "started": 1_700_000_000_000_000, "username": "app", "client": "10.0.0.5", "transaction": False}


def rds(**changes: Any) -> DictReader:
    """Return a reader of the instance, changed."""
    return DictReader(
        {
            "rds.describe_db_instances": {**AVAILABLE, **changes},
            "rds.describe_orderable_db_instance_options": ["db.r5.2xlarge"],
        }
    )


def refusal(answer: PlanDraft | NotApplicable) -> str:
    """Return why there is no plan."""
    assert isinstance(answer, NotApplicable), answer
    return answer.reason


@pytest.mark.parametrize(
    ("changes", "reason", "for_now"),
    [
        ({"pending": ["EngineVersion"]}, "ChangesPending", False),
        ({"status": "modifying"}, "InstanceNotAvailable", True),
        ({"status": "backing-up"}, "InstanceNotAvailable", True),
        ({"status": "failed"}, "InstanceNotAvailable", False),
        ({"status": "storage-full"}, "InstanceNotAvailable", False),
    ],
)
def test_an_outage_is_refused_where_it_would_do_more_than_it_says(
    changes: dict[str, Any], reason: str, for_now: bool
) -> None:
    """ApplyImmediately flushes every pending change; an instance that is busy takes none, and is waited for."""
    for action, inputs in ((ResizeInstance(), RESIZE), (RebootWithFailover(), FAILOVER)):
        answer = action.plan(inputs, action.observe(inputs, rds(**changes)))
        assert isinstance(answer, NotApplicable)
        assert (answer.reason, answer.for_now) == (reason, for_now)


def test_a_resize_is_one_call_that_is_never_repeated_and_an_outage() -> None:
    """And what must still be so at the call is written down: available, nothing pending."""
    action = ResizeInstance()
    before = action.observe(RESIZE, rds())
    draft = action.plan(RESIZE, before)
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    assert call.arguments == {
        "DBInstanceIdentifier": "shop",
        "DBInstanceClass": "db.r5.2xlarge",
        "ApplyImmediately": True,
    }
    assert (call.repeat, draft.risk, draft.undo) == (Repeat.ONCE, Risk.DISRUPTIVE, None)
    assert set(draft.hazards) == {Hazard.OUTAGE, Hazard.COST}
    assert {(p.path, str(p.equals)) for p in draft.preconditions} == {("status", "available"), ("pending", "[]")}
    during = action.observe(RESIZE, rds(status="modifying", pending=["DBInstanceClass"]))
    after = action.observe(RESIZE, rds(**{"class": "db.r5.2xlarge"}))
    assert (action.judge(RESIZE, before, during).outcome, action.applied(call, RESIZE, during)) == (None, True)
    assert action.judge(RESIZE, before, after).outcome == "Helped"
    assert action.applied(call, RESIZE, before) is False


def test_a_class_that_is_not_given_not_offered_or_there_already_is_no_plan() -> None:
    """RDS is asked before anybody is."""
    action = ResizeInstance()
    none = ResizeInputs(instance="shop")
    assert refusal(action.plan(none, action.observe(none, rds()))) == "NoClassGiven"
    unknown = ResizeInputs(instance="shop", instance_class="db.r5.huge")
    assert refusal(action.plan(unknown, action.observe(unknown, rds()))) == "ClassUnknown"
    same = ResizeInputs(instance="shop", instance_class="db.r5.large")
    assert refusal(action.plan(same, action.observe(same, rds()))) == "ClassAlready"
    missing = DictReader({"rds.describe_db_instances": NotFound("there is none")})
    assert refusal(action.plan(RESIZE, action.observe(RESIZE, missing))) == "InstanceMissing"


def test_a_failover_needs_a_standby_and_is_over_in_another_zone() -> None:
    """A restart without one is only an outage; the same zone proves nothing."""
    action = RebootWithFailover()
    assert refusal(action.plan(FAILOVER, action.observe(FAILOVER, rds(multiAz=False)))) == "NotMultiAz"
    before = action.observe(FAILOVER, rds())
    draft = action.plan(FAILOVER, before)
    assert isinstance(draft, PlanDraft)
    assert draft.calls[0].arguments["ForceFailover"] is True
    assert action.judge(FAILOVER, before, before).outcome is None
    moved = before.model_copy(update={"zone": "us-east-1b"})
    assert action.judge(FAILOVER, before, moved).outcome == "Helped"
    assert action.judge(FAILOVER, before, InstanceFacts()).measured is False
    assert action.applied(draft.calls[0], FAILOVER, before) is None, "the facts alone don't say: never made twice"


FULL = ReadError("ConnectionSlotsExhausted", "no slot", code="53300")


def test_a_database_that_lets_nobody_in_is_told_of_and_nothing_is_planned() -> None:
    """It is the symptom, no error; and what can't be looked at is not changed."""
    for action, inputs in ((TerminateBackends(), TERMINATE), (CancelBackends(), CANCEL)):
        facts = action.observe(inputs, DatabaseReader(FULL))  # type: ignore[arg-type]
        assert refusal(action.plan(inputs, facts)) == "ConnectionSlotsExhausted"  # type: ignore[arg-type]
        judged = action.judge(inputs, facts, facts)  # type: ignore[arg-type]
        assert (judged.outcome, judged.measured) == (None, True)
    assert refusal(CreateIndex().plan(BUILD, CreateIndex().observe(BUILD, DatabaseReader(FULL)))) == (
        "ConnectionSlotsExhausted"
    )


@pytest.mark.parametrize("reason", ["AccessDenied", "Timeout", "Unreachable", "RoleTooPowerful", "MalformedAnswer"])
@pytest.mark.parametrize("place", ["connection", "rds", "statement"])
def test_a_read_that_fails_is_an_error_of_every_database_fix(reason: str, place: str) -> None:
    """Never facts that say that nothing is wrong."""
    error = ReadError(reason, "it failed")
    for action, inputs in (
        (TerminateBackends(), TERMINATE),
        (CancelBackends(), CANCEL),
        (CreateIndex(), BUILD),
        (ResizeInstance(), RESIZE),
        (RebootWithFailover(), FAILOVER),
    ):
        answers = {"connection": {"place__database": error}, "rds": {"rds__describe_db_instances": error}}.get(
            place, {}
        )
        if isinstance(inputs, InstanceInputs) and place != "rds":
            continue
        with pytest.raises(ReadError) as caught:
            action.observe(inputs, DatabaseReader(error, **answers))  # type: ignore[arg-type]
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("answers", "slots", "reason"),
    [
        ({"place__operator": "10.0.0.9:5432"}, SLOTS, "ConnectionElsewhere"),
        ({"place__database": "10.0.0.9:5432"}, SLOTS, "ConnectionElsewhere"),
        ({"rds__describe_db_instances": {**AVAILABLE, "place": None}}, SLOTS, "ConnectionElsewhere"),
        ({"rds__describe_db_instances": NotFound("none")}, SLOTS, "InstanceMissing"),
        ({}, {**SLOTS, "hidden": 4}, "NotVisible"),
    ],
)
def test_sessions_are_ended_only_where_it_is_known_whose_they_are(
    answers: dict[str, Any], slots: dict[str, Any], reason: str
) -> None:
    """The plan touches an instance by its ARN: both connections must lead there, and nothing may be hidden."""
    action = TerminateBackends()
    facts = action.observe(TERMINATE, DatabaseReader([slots], [IDLE], **answers))
    assert refusal(action.plan(TERMINATE, facts)) == reason


def test_the_plan_names_each_session_by_pid_and_start() -> None:
    """A pid comes again. And what the plan hashes does not move with the number of sessions."""
    action = TerminateBackends()
    facts = action.observe(TERMINATE, DatabaseReader([SLOTS], [IDLE, {**IDLE, "pid": 8}]))
    fewer = facts.model_copy(update={"backends": facts.backends[:1]})
    drafts = [action.plan(TERMINATE, found) for found in (facts, fewer)]
    one, other = [draft for draft in drafts if isinstance(draft, PlanDraft)]
    assert one.candidates == (f"{ARN}/backend/7.1700000000000000", f"{ARN}/backend/8.1700000000000000")
    assert (one.calls, one.verify, one.touches) == (other.calls, other.verify, other.touches)
    cancel = CancelBackends()
    cancels = [cancel.plan(CANCEL, found) for found in (facts, fewer)]
    same, again = [draft for draft in cancels if isinstance(draft, PlanDraft)]
    assert (same.calls, same.verify) == (again.calls, again.verify)


def test_new_idle_sessions_are_no_success() -> None:
    """The old ones are gone, and the slots are used again: the leak goes on."""
    action = TerminateBackends()
    before = action.observe(TERMINATE, DatabaseReader([SLOTS], [IDLE]))
    refilled = action.observe(TERMINATE, DatabaseReader([SLOTS], [{**IDLE, "pid": 9}]))
    assert action.judge(TERMINATE, before, refilled).outcome is None
    relieved = BackendFacts(place=before.place, used=5, maximum=33)
    assert action.judge(TERMINATE, before, relieved).outcome == "Helped"
