"""The clock of a review: when people are reminded of it and of its action items, and what they are late with.

A *mark* is an instant after which people are told something, once: two before the review is due, one when it is, and
one for each action item that has an owner and a day. Every mark that has passed is first written into the status,
then told, then written down as told: after a crash in between it is told again (at least once), and never forgotten.
People's clocks are real and are never scaled. Source: decision 1; the document, "Post-Incident Review (Within 48
hours)".
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ..api.review import (
    ActionItem,
    OverdueItem,
    PostIncidentReview,
    PostIncidentReviewSpec,
    PostIncidentReviewStatus,
    Reminder,
    ReminderReason,
)
from .conditions import with_condition
from .redact import redact
from .review import DUE_AFTER, is_overdue
from .schedule import earliest
from .story import Tell


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """One instant of the review's clock. Units: `after` the end of the newest run."""

    key: str
    after: timedelta
    reason: ReminderReason
    #: How many of the escalation policy's roles are told, from the first one on.
    roles: int


#: In order. Source: the document for 48 hours; a day before, and four hours before.
MARKS = (
    _Mark(key="review-24h", after=timedelta(hours=24), reason=ReminderReason.REVIEW_DUE_SOON, roles=1),
    _Mark(key="review-44h", after=timedelta(hours=44), reason=ReminderReason.REVIEW_DUE_SOON, roles=2),
    _Mark(key="review-48h", after=DUE_AFTER, reason=ReminderReason.REVIEW_OVERDUE, roles=3),
)
_BY_KEY = {mark.key: mark for mark in MARKS}


@dataclass(frozen=True, kw_only=True)
class Remind:
    """Tell people what they are late with, or soon will be: an effect, performed at least once.

    Shape: either `owner`, as an action item names them, or the first `roles` of the escalation policy, for nobody in
    particular owns a review. `keys` are the stored reminders that it covers: with the review's uid they are what a
    repetition has in common with the first time.
    """

    keys: tuple[str, ...]
    owner: str | None = None
    roles: int = 0
    message: str
    #: The Events on the review: one, or one for each action item.
    tells: tuple[Tell, ...]


@dataclass(frozen=True, kw_only=True)
class ReviewDecision:
    """The status to be stored; once it is, what to send, and when to look again.

    Shape: `reminders` rest on the stored status alone, so there are none together with a new one.
    """

    status: PostIncidentReviewStatus
    #: Runbooks (kind, name) to be noted as due for an update before the status is stored: once settled, nobody looks.
    lessons: tuple[tuple[str, str], ...] = ()
    reminders: tuple[Remind, ...] = ()
    wake_at: datetime | None = None


def decide_review(review: PostIncidentReview, now: datetime) -> ReviewDecision:
    """Decide what a review's clock says now. A review without a draft, or without its end, has no clock yet."""
    spec, status = review.spec, review.status
    if spec.drafted_at is None or status.due_at is None:
        return ReviewDecision(status=status)
    late = overdue_items(spec, now)
    after = status.model_copy(
        update={
            "open_items": sum(not item.done for item in spec.action_items),
            "overdue_items": tuple(_listed(item) for item in late),
            "overdue_count": len(late),
            "reminders": (*_of_the_review(spec, status, status.due_at, now), *_of_items(spec, status, now)),
            "lessons_noted_at": (status.lessons_noted_at or now) if _teaches(review) else None,
            "settled": spec.complete and all(item.done for item in spec.action_items),
            "conditions": with_condition(
                status.conditions, "Overdue", *_overdue(status.due_at, spec.complete, now), now
            ),
        }
    )
    if after != status:
        new = after.lessons_noted_at is not None and status.lessons_noted_at is None
        return ReviewDecision(status=after, lessons=_learners(status) if new else (), wake_at=now)
    return ReviewDecision(status=status, reminders=tuple(_unsaid(review)), wake_at=_next(spec, status.due_at, now))


def _teaches(review: PostIncidentReview) -> bool:
    """Tell whether people have finished a review of a real incident, and left in it what a runbook is to learn."""
    return review.spec.complete and bool(review.spec.knowledge_base) and bool(_learners(review.status))


def _learners(status: PostIncidentReviewStatus) -> tuple[tuple[str, str], ...]:
    """Return the runbooks that were used, each once; a drill's learn nothing."""
    used = [] if status.drill else [(run.runbook_kind, run.runbook) for run in status.runs]
    return tuple(dict.fromkeys((kind, name) for kind, name in used if kind is not None and name is not None))


def told(status: PostIncidentReviewStatus, keys: Iterable[str], now: datetime) -> PostIncidentReviewStatus:
    """Return the status after people were told of these reminders; those that are gone meanwhile are left out."""
    said = set(keys)
    reminders = tuple(
        one.model_copy(update={"told_at": now}) if one.key in said and one.told_at is None else one
        for one in status.reminders
    )
    return status.model_copy(update={"reminders": reminders})


def overdue_items(spec: PostIncidentReviewSpec, now: datetime) -> tuple[ActionItem, ...]:
    """Return the action items that somebody owns and whose day has passed, in their order."""
    return tuple(item for item in spec.action_items if (at := _late_from(item)) is not None and now > at)


def day_after(day: str) -> datetime | None:
    """Return the first instant after a calendar day, in UTC; None for a day that no calendar has.

    >>> day_after("2024-01-22").isoformat(), day_after("2024-02-31")
    ('2024-01-23T00:00:00+00:00', None)
    """
    try:
        found = date.fromisoformat(day) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return datetime(found.year, found.month, found.day, tzinfo=UTC)


def _late_from(item: ActionItem) -> datetime | None:
    """Return when an action item is late; None where nobody owns it, it has no day, or it is done."""
    return None if item.done or not item.owner or item.due_date is None else day_after(item.due_date)


def _key(item: ActionItem) -> str:
    """Return what identifies an action item: all that it says. Another day or owner is another reminder."""
    said = json.dumps([item.text, item.owner, item.due_date])
    return f"item-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _listed(item: ActionItem) -> OverdueItem:
    return OverdueItem(text=redact(item.text)[:1024], owner=item.owner or "", due_date=item.due_date or "")


def _at(mark: _Mark, due_at: datetime) -> datetime:
    return due_at - DUE_AFTER + mark.after


def _of_the_review(
    spec: PostIncidentReviewSpec, status: PostIncidentReviewStatus, due_at: datetime, now: datetime
) -> Iterator[Reminder]:
    """Yield the reminders of the review itself: of this due date, for a further run moves it."""
    known = {one.key: one for one in status.reminders if one.due_at == due_at}
    for mark in MARKS:
        stored = known.get(mark.key)
        if spec.complete:
            if stored is not None and stored.told_at is not None:
                yield stored
        elif now > _at(mark, due_at):
            yield stored or Reminder(key=mark.key, reason=mark.reason, due_at=due_at)


def _of_items(spec: PostIncidentReviewSpec, status: PostIncidentReviewStatus, now: datetime) -> Iterator[Reminder]:
    """Yield the reminders of action items, each once: what people were told of stays while it is in the review."""
    known = {one.key: one for one in status.reminders}
    for key, item in {_key(item): item for item in spec.action_items}.items():
        stored, at = known.get(key), _late_from(item)
        if stored is not None and stored.told_at is not None:
            yield stored
        elif at is not None and now > at:
            yield stored or Reminder(key=key, reason=ReminderReason.ACTION_ITEM_OVERDUE, due_at=at)


def _overdue(due_at: datetime, complete: bool, now: datetime) -> tuple[bool, str, str]:
    """Return status, reason and message of the condition Overdue."""
    if complete:
        return False, "Complete", "people have finished the review"
    if is_overdue(due_at, complete, now):
        return True, "PastDue", f"the review was due {_said(due_at)}, and spec.complete is not true"
    return False, "NotDueYet", f"the review is due {_said(due_at)}"


def _next(spec: PostIncidentReviewSpec, due_at: datetime, now: datetime) -> datetime | None:
    """Return the next mark; None where nothing is left to come."""
    marks = [] if spec.complete else [_at(mark, due_at) for mark in MARKS]
    late = [at for item in spec.action_items if (at := _late_from(item)) is not None]
    return earliest(*(at for at in (*marks, *late) if at >= now))


def _unsaid(review: PostIncidentReview) -> Iterator[Remind]:
    """Yield what is written down and was not told: one message about the review, one to each owner of late work."""
    unsaid = [one for one in review.status.reminders if one.told_at is None]
    marks = [one for one in unsaid if one.key in _BY_KEY]
    if marks:
        yield _about_the_review(review, marks)
    late = {_key(item): item for item in review.spec.action_items}
    by_owner: dict[str, list[str]] = {}
    for one in unsaid:
        if one.key in late:
            by_owner.setdefault(late[one.key].owner or "", []).append(one.key)
    for owner, keys in by_owner.items():
        yield _about_items(review, owner, {key: late[key] for key in keys})


def _about_the_review(review: PostIncidentReview, marks: list[Reminder]) -> Remind:
    newest, name = marks[-1], _called(review)
    mark, due = _BY_KEY[newest.key], _said(newest.due_at)
    where = f"-n {review.metadata.namespace} {review.metadata.name}"
    overdue, missed = newest.reason == ReminderReason.REVIEW_OVERDUE, ""
    if marks[1:]:
        instants = ", ".join(_said(_at(_BY_KEY[one.key], one.due_at)) for one in marks[:-1])
        missed = f" (nobody was there to send the reminder of {instants})"
    if overdue:
        finish = f'kubectl patch pir {where} --type=merge -p \'{{"spec":{{"complete":true}}}}\''
        message = f"the post-incident review of {name} was due {due}{missed}; when it is finished: {finish}"
    else:
        message = f"the post-incident review of {name} is due {due}{missed}: kubectl incident review {where}"
    return Remind(
        keys=tuple(one.key for one in marks),
        roles=mark.roles,
        message=redact(message),
        tells=(Tell(newest.reason, redact(message), warning=overdue),),
    )


def _about_items(review: PostIncidentReview, owner: str, items: dict[str, ActionItem]) -> Remind:
    lines = [redact(f"{item.text} (due {item.due_date})") for item in items.values()]
    name = _called(review)
    head = f"overdue action item{'s' if lines[1:] else ''} of {name}, owned by {redact(owner)}"
    tells = (
        Tell(
            ReminderReason.ACTION_ITEM_OVERDUE, f"overdue action item of {name}, owned by {redact(owner)}: {line}", True
        )
        for line in lines
    )
    return Remind(keys=tuple(items), owner=owner, message=f"{head}: {'; '.join(lines)}", tells=tuple(tells))


def _called(review: PostIncidentReview) -> str:
    return redact(review.spec.ticket or review.metadata.name)


def _said(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
