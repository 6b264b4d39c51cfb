"""The review's clock: what people are reminded of and when, once each, and what a completed review stops."""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_operator.api.review import PostIncidentReview, PostIncidentReviewStatus
from incident_operator.core.review import DUE_AFTER
from incident_operator.core.review_clock import MARKS, Remind, decide_review, overdue_items, told
from tests.builders import NOW

ITEM = {"text": "mend it", "owner": "@platform-team", "dueDate": "2026-01-22"}
OTHER = {"text": "watch it", "owner": "@backend-team", "dueDate": "2026-01-29"}


def at(hours: float) -> datetime:
    """Return an instant after the end of the incident's run."""
    return NOW + timedelta(hours=hours)


def day(number: int, hours: float = 0) -> datetime:
    """Return an instant of a day of January 2026; the incident is of the 15th."""
    return datetime(2026, 1, number, tzinfo=NOW.tzinfo) + timedelta(hours=hours)


def a_review(*items: dict[str, Any], **spec: Any) -> PostIncidentReview:
    """Return a drafted review whose run ended at `NOW`."""
    return PostIncidentReview.model_validate(
        {
            "metadata": {"name": "inc-1-00000000", "namespace": "shop"},
            "spec": {"ticket": "INC-1", "detectedAt": NOW, "draftedAt": NOW, "actionItems": list(items), **spec},
            "status": {"dueAt": at(48)},
        }
    )


def edited(review: PostIncidentReview, **spec: Any) -> PostIncidentReview:
    """Return the review after a person wrote it."""
    return PostIncidentReview.model_validate({**review.wire(), "spec": {**review.spec.wire(), **spec}})


def looked_at(review: PostIncidentReview, now: datetime) -> tuple[PostIncidentReview, tuple[Remind, ...]]:
    """Return the review after the controller's turns, and what was sent. No turn is without an end."""
    sent: tuple[Remind, ...] = ()
    for _ in range(4):
        decision = decide_review(review, now)
        status = decision.status
        if status == review.status:
            if not decision.reminders:
                return review, sent
            sent += decision.reminders
            status = told(status, [key for one in decision.reminders for key in one.keys], now)
        else:
            assert decision.reminders == (), "what is not stored yet is not said"
        review = review.model_copy(update={"status": status})
    raise AssertionError("the status is written again and again")


def reasons(sent: tuple[Remind, ...]) -> list[str]:
    """Return the reasons of the Events."""
    return [tell.reason for one in sent for tell in one.tells]


def overdue(review: PostIncidentReview) -> tuple[str, str]:
    """Return status and reason of the condition."""
    (condition,) = [c for c in review.status.conditions if c.type == "Overdue"]
    return condition.status, condition.reason


def test_people_are_reminded_a_day_and_four_hours_before_and_when_it_is_due() -> None:
    """Each once, each to more of them, and what is stored says when."""
    review, said = a_review(), []
    for hours in (0, 23.9, 24.1, 30, 43.9, 44.1, 47.9, 48.1, 60, 1000):
        review, sent = looked_at(review, at(hours))
        said += [(hours, reason, one.roles) for one in sent for reason in reasons((one,))]
    assert said == [(24.1, "ReviewDueSoon", 1), (44.1, "ReviewDueSoon", 2), (48.1, "ReviewOverdue", 3)]
    assert [(one.key, one.told_at) for one in review.status.reminders] == [
        ("review-24h", at(24.1)),
        ("review-44h", at(44.1)),
        ("review-48h", at(48.1)),
    ]
    assert overdue(review) == ("True", "PastDue")


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.key)
def test_a_mark_passes_only_after_its_instant(mark: Any) -> None:
    """Not at it; and the decision says to look again at it."""
    review, _ = looked_at(a_review(), NOW + mark.after - timedelta(minutes=1))
    assert decide_review(review, NOW + mark.after).wake_at == NOW + mark.after
    _, sent = looked_at(review, NOW + mark.after)
    assert sent == ()
    _, sent = looked_at(review, NOW + mark.after + timedelta(milliseconds=1))
    assert reasons(sent) == [mark.reason]


def test_after_an_outage_over_several_reminders_there_is_one() -> None:
    """The newest, which says what was missed; all of them count as told."""
    review, _ = looked_at(a_review(), at(1))
    review, sent = looked_at(review, at(50))
    (remind,) = sent
    assert reasons(sent) == ["ReviewOverdue"]
    assert remind.keys == ("review-24h", "review-44h", "review-48h")
    assert "was due 2026-01-17 14:30 UTC" in remind.message
    assert "the reminder of 2026-01-16 14:30 UTC, 2026-01-17 10:30 UTC" in remind.message
    assert looked_at(review, at(51)) == (review, ())


def test_what_was_written_down_and_not_said_is_said() -> None:
    """As after a crash between the write and the message; and again where the crash came after the message."""
    decided = decide_review(a_review(), at(25))
    stored = a_review().model_copy(update={"status": decided.status})
    first, again = decide_review(stored, at(26)), decide_review(stored, at(27))
    assert reasons(first.reminders) == ["ReviewDueSoon"]
    assert first.reminders == again.reminders, "the same words and keys: a repetition is known as one"


def test_a_completed_review_has_no_clock_of_its_own() -> None:
    """Also one that was late, or about to be reminded of; taken up again, it goes on where it was."""
    review, _ = looked_at(a_review(), at(25))
    done, sent = looked_at(edited(review, complete=True), at(60))
    assert (sent, overdue(done)) == ((), ("False", "Complete"))
    assert done.status.settled
    assert decide_review(done, at(60)).wake_at is None
    again, sent = looked_at(edited(done, complete=False), at(61))
    assert not again.status.settled
    assert reasons(sent) == ["ReviewOverdue"]
    pending = a_review().model_copy(update={"status": decide_review(a_review(), at(25)).status})
    finished, sent = looked_at(edited(pending, complete=True), at(25))
    assert (sent, finished.status.reminders) == ((), ())


def test_a_completed_review_stays_watched_until_its_work_is_done() -> None:
    """Its action items have their own days."""
    review, sent = looked_at(a_review(ITEM, complete=True), at(1))
    assert (review.status.settled, review.status.open_items, sent) == (False, 1, ())
    assert decide_review(review, at(1)).wake_at == day(23)
    review, sent = looked_at(review, day(23, 1))
    assert reasons(sent) == ["ActionItemOverdue"]
    review, _ = looked_at(edited(review, actionItems=[{**ITEM, "done": True}]), day(24))
    assert (review.status.settled, review.status.open_items, review.status.overdue_items) == (True, 0, ())


def test_an_action_item_is_overdue_after_its_day_and_its_owner_is_told_once() -> None:
    """Each owner for themselves; what is late is listed."""
    review, sent = looked_at(a_review(ITEM, OTHER, complete=True), day(22, 23.9))
    assert (sent, review.status.overdue_count) == ((), 0)
    review, sent = looked_at(review, day(23, 1))
    assert [(one.owner, one.roles) for one in sent] == [("@platform-team", 0)]
    assert "mend it (due 2026-01-22)" in sent[0].message
    assert [(one.text, one.owner, one.due_date) for one in review.status.overdue_items] == [
        ("mend it", "@platform-team", "2026-01-22")
    ]
    review, sent = looked_at(review, day(24))
    assert sent == ()
    review, sent = looked_at(review, day(31))
    assert [one.owner for one in sent] == ["@backend-team"]
    assert review.status.overdue_count == 2


def test_an_owner_of_several_has_one_message_and_each_item_its_event() -> None:
    """As after an outage; another owner's work is not in it."""
    second = {**ITEM, "text": "test it"}
    review, sent = looked_at(a_review(ITEM, second, OTHER, complete=True), day(31))
    assert [one.owner for one in sent] == ["@platform-team", "@backend-team"]
    assert sent[0].message.endswith(": mend it (due 2026-01-22); test it (due 2026-01-22)")
    assert reasons(sent) == ["ActionItemOverdue"] * 3
    assert len({key for one in sent for key in one.keys}) == len(review.status.reminders) == 3


@pytest.mark.parametrize(
    "item",
    [
        {**ITEM, "done": True},
        {"text": "nobody's", "dueDate": "2026-01-22"},
        {"text": "some day", "owner": "@platform-team"},
        {**ITEM, "dueDate": "2026-02-31"},
        {**ITEM, "dueDate": "9999-12-31"},
    ],
    ids=["done", "no owner", "no day", "a day that no calendar has", "the last day that can be written"],
)
def test_an_item_without_owner_or_day_has_no_clock(item: dict[str, Any]) -> None:
    """Nobody is told, and nothing is waited for."""
    review, sent = looked_at(a_review(item, complete=True), day(31))
    assert (sent, review.status.overdue_items) == ((), ())
    assert decide_review(review, day(31)).wake_at is None
    assert overdue_items(review.spec, day(31)) == ()


def test_another_day_or_owner_is_another_reminder_and_another_order_is_none() -> None:
    """What has been told stays told, wherever in the list it stands now."""
    review, _ = looked_at(a_review(ITEM, OTHER, complete=True), day(23, 1))
    review, sent = looked_at(edited(review, actionItems=[OTHER, ITEM]), day(23, 2))
    assert sent == ()
    review, sent = looked_at(edited(review, actionItems=[OTHER, {**ITEM, "dueDate": "2026-01-25"}]), day(24))
    assert (sent, review.status.overdue_count, review.status.reminders) == ((), 0, ())
    _, sent = looked_at(review, day(26, 1))
    assert [one.owner for one in sent] == ["@platform-team"]


def test_a_further_run_of_the_incident_begins_the_clock_anew() -> None:
    """Its end moves the due date: what was said of the old one is no reminder of the new one."""
    review, _ = looked_at(a_review(), at(49))
    moved = review.status.model_copy(update={"due_at": at(60) + DUE_AFTER})
    review, sent = looked_at(review.model_copy(update={"status": moved}), at(61))
    assert (sent, review.status.reminders, overdue(review)) == ((), (), ("False", "NotDueYet"))
    _, sent = looked_at(review, at(60 + 25))
    assert reasons(sent) == ["ReviewDueSoon"]


def test_what_is_not_drafted_or_has_not_ended_has_no_clock() -> None:
    """A tombstone of a run that is at work."""
    begun = a_review(draftedAt=None)
    assert decide_review(begun, at(100)).status == begun.status
    undue = a_review().model_copy(update={"status": PostIncidentReviewStatus()})
    assert decide_review(undue, at(100)).status == undue.status


def test_no_secret_is_said() -> None:
    """Nor stored: people paste what they have at hand."""
    review, sent = looked_at(a_review({**ITEM, "text": "rotate password=hunter2x"}), day(31))
    assert "hunter2x" not in str(review.status.wire())
    assert "hunter2x" not in str(sent)


_ITEMS = st.lists(
    st.fixed_dictionaries(
        {"text": st.sampled_from(["a", "b"]), "done": st.booleans()},
        optional={"owner": st.sampled_from(["@x", "@y"]), "dueDate": st.sampled_from(["2026-01-16", "2026-01-17"])},
    ),
    max_size=4,
)
_STEPS = st.lists(st.tuples(st.floats(0, 30), st.booleans(), _ITEMS), max_size=8)


@given(_STEPS)
def test_whatever_people_write_and_whenever_it_is_looked_at_each_mark_is_told_once(steps: Any) -> None:
    """Looking again changes nothing; a repeated word comes only of work that was given another day or owner."""
    review, now = a_review(), NOW
    for hours, complete, items in steps:
        now += timedelta(hours=hours)
        review, sent = looked_at(edited(review, complete=complete, actionItems=items), now)
        assert looked_at(review, now) == (review, ())
        assert len(set(_keys(sent))) == len(list(_keys(sent)))
        assert review.status.settled == (complete and all(item["done"] for item in items))
        assert all(one.told_at is not None for one in review.status.reminders)
        wake_at = decide_review(review, now).wake_at
        assert wake_at is None or wake_at >= now
    if steps and not steps[-1][1]:
        said = [one.key for one in review.status.reminders if one.key.startswith("review")]
        assert said == [mark.key for mark in itertools.takewhile(lambda m: now > NOW + m.after, MARKS)]


def _keys(sent: tuple[Remind, ...]) -> Iterator[str]:
    return (key for one in sent for key in one.keys)


def _used(*runs: tuple[str, str], **status: Any) -> dict[str, Any]:
    began = {"uid": "u", "startedAt": NOW.isoformat().replace("+00:00", "Z")}
    listed = [
        {"name": f"run-{number}", "runbookKind": kind, "runbook": name, **began}
        for number, (kind, name) in enumerate(runs)
    ]
    return {"dueAt": at(48).isoformat().replace("+00:00", "Z"), "runs": listed, **status}


def _with_status(review: PostIncidentReview, status: dict[str, Any]) -> PostIncidentReview:
    return PostIncidentReview.model_validate({**review.wire(), "status": status})


USED = (("ClusterRunbook", "lambda-failures"), ("Runbook", "mails"), ("ClusterRunbook", "lambda-failures"))


def test_a_finished_review_that_teaches_something_makes_its_runbooks_due_once() -> None:
    """Each of them, before the write that says so; not again, until people take the end of it back."""
    review = _with_status(a_review(knowledgeBase=["add a fix"], complete=True), _used(*USED))
    decision = decide_review(review, at(1))
    assert decision.lessons == (("ClusterRunbook", "lambda-failures"), ("Runbook", "mails"))
    assert decision.status.lessons_noted_at == at(1)
    review = review.model_copy(update={"status": decision.status})
    assert decide_review(review, at(2)).lessons == ()
    open_, _ = looked_at(edited(review, complete=False), at(3))
    assert open_.status.lessons_noted_at is None
    assert decide_review(edited(open_, complete=True), at(4)).lessons == decision.lessons


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"complete": False, "knowledgeBase": ["add a fix"]}, _used(*USED)),
        ({"complete": True, "knowledgeBase": []}, _used(*USED)),
        ({"complete": True, "knowledgeBase": ["add a fix"]}, _used()),
        ({"complete": True, "knowledgeBase": ["add a fix"]}, _used(*USED, drill=True)),
    ],
    ids=["unfinished", "nothing to learn", "no runbook", "drill"],
)
def test_nothing_else_makes_a_runbook_due(spec: dict[str, Any], status: dict[str, Any]) -> None:
    """A suggestion that people struck out, or did not agree to yet, is none."""
    decision = decide_review(_with_status(a_review(**spec), status), at(1))
    assert (decision.lessons, decision.status.lessons_noted_at) == ((), None)
