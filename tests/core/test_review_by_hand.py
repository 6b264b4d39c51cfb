"""The review of an incident that people ended without a run: what is drafted, what is measured, what has none."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.meta import Metadata
from incident_operator.api.review import PostIncidentReview, PostIncidentReviewStatus
from incident_operator.api.run import Resolution
from incident_operator.core.redact import MARK
from incident_operator.core.report import fact_of, fold, parse_month
from incident_operator.core.review_by_hand import draft_by_hand, facts_by_hand, is_drafted_by_hand
from incident_operator.core.review_clock import decide_review
from incident_operator.core.review_text import markdown, message
from tests.builders import a_run
from tests.core.incidents import Life, minutes, utc

DETECTED = "2026-01-13 10:00"
TEXT = """\
# Post-Incident Review: INC-2026-0042

## Incident Summary
- **Date/Time**: 2026-01-13 10:00 UTC
- **Duration**: 45 minutes
- **Severity**: P1
- **Services Affected**: (to be completed)
- **Customer Impact**: 15% of requests, by alice

## Timeline
- 10:00 - Incident detected: Checkout fails
- 10:05 - alice acknowledged it
- 10:05 - alice says that 15% of requests fail
- 10:05 - alice names the cause: the pool was empty
- 10:45 - alice says that it is over: the pool was raised
- 10:45 - Service fully restored

## Root Cause Analysis
**Primary Cause**: the pool was empty
**Contributing Factors**:
(to be completed)

## What Went Well
- alice responded 5 minutes after detection

## What Could Be Improved
(to be completed)

## Action Items
(to be completed)

## Knowledge Base Updates
- Nobody let a runbook work on it: write one, or say in one when it fits
"""


def lived(verb: str = "Resolve", *, acknowledged: bool = True, **spec: Any) -> Life:
    """Return an incident that alice took after 5 minutes, and ended after 45."""
    life = Life(DETECTED, "P1", spec=spec).turn()
    life.until("2026-01-13 10:05")
    if acknowledged:
        life.say("Acknowledge").say("SetImpact", percent=15).say("SetRootCause", reason="the pool was empty")
    life.until("2026-01-13 10:45")
    more = {"reason": "the pool was raised"} if verb == "Resolve" else {"reason": "a test"}
    return life.say(verb, **more)


def review_of(life: Life) -> PostIncidentReview:
    """Return its review, as it is stored."""
    metadata = Metadata(name=life.incident.metadata.name, namespace="shop")
    facts = facts_by_hand(PostIncidentReviewStatus(), life.incident, life.now)
    return PostIncidentReview(metadata=metadata, spec=draft_by_hand(life.incident, life.now), status=facts)


def test_what_people_did_by_hand_is_drafted_from_what_they_said() -> None:
    """Golden: the document's sections; what nobody said is missing, and nothing is measured."""
    review = review_of(lived(ticket="INC-2026-0042"))
    assert markdown(review) == TEXT
    status = review.status
    assert (status.duration, status.restored_at, status.resolved_by) == (
        minutes(45),
        utc("2026-01-13 10:45"),
        Resolution.MANUAL,
    )
    assert status.times is not None
    assert (status.times.started, status.times.restored) == (minutes(5), minutes(45))
    assert (status.impact, status.runs, status.resolution, status.plans) == (None, (), None, ())
    assert status.due_at == utc("2026-01-13 10:45") + timedelta(hours=48)
    assert all(fact.run is None for fact in status.timeline)
    assert "(incident" in markdown(review, with_facts=True)


def test_the_report_counts_it() -> None:
    """Resolved by hand: an incident with its time, and none that a runbook could have helped with."""
    reviews = [review_of(lived()), review_of(lived("FalsePositive"))]
    report = fold(map(fact_of, reviews), parse_month("2026-01"), now=utc("2026-02-01 00:00"))
    figures = report.figures
    assert (figures.incidents, figures.resolved, figures.open) == (1, 1, 0)
    assert (figures.repair.mean, figures.runbook.ran) == (minutes(45), 0)
    assert (figures.false_positives, figures.false_positive_rate) == (1, 0.5)


def test_a_false_alarm_has_no_duration_and_teaches_no_runbook() -> None:
    """It says what it was, also in the message to stakeholders."""
    review = review_of(lived("FalsePositive"))
    assert (review.status.duration, review.status.restored_at, review.status.resolved_by) == (None, None, None)
    assert review.spec.knowledge_base == ()
    assert any("false alarm" in line for line in review.spec.could_be_improved)
    assert "Status: FALSE ALARM" in message(review)
    assert review.status.due_at == utc("2026-01-13 10:45") + timedelta(hours=48)


def test_a_missed_clock_is_named_and_no_word_of_praise_is_made_up() -> None:
    """Nobody acknowledged a P0 within 15 minutes."""
    life = Life(DETECTED, "P0").until("2026-01-13 10:45").say("Resolve", reason="it is well")
    review = review_of(life)
    assert review.spec.went_well == ()
    assert [line for line in review.spec.could_be_improved if "response clock was missed" in line]


@pytest.mark.parametrize("spec", [{"drill": True}, {"confidential": True, "audience": ["Primary"]}], ids=str)
def test_what_is_practised_or_confidential_has_none(spec: dict[str, Any]) -> None:
    """A review's clock tells roles and rooms."""
    assert not is_drafted_by_hand(lived(**spec).incident)
    assert is_drafted_by_hand(lived().incident)


def test_one_that_goes_on_or_whose_run_does_has_none() -> None:
    """And a duplicate is the other one's; an incident whose run was only a look has nobody else to write it."""
    life = Life(DETECTED, "P1").turn()
    assert not is_drafted_by_hand(life.incident)
    assert not is_drafted_by_hand(life.say("Duplicate", duplicateOf="inc-0").incident)
    with_run = Life(DETECTED, "P1", runs=(a_run(),)).turn().say("Resolve", reason="done")
    assert with_run.status.runs
    assert not is_drafted_by_hand(with_run.incident)
    ended = tuple(run.model_copy(update={"finished_at": with_run.now}) for run in with_run.status.runs)
    status = with_run.status.model_copy(update={"runs": ended})
    assert is_drafted_by_hand(with_run.incident.model_copy(update={"status": status}))


def test_it_is_drafted_the_same_again_and_its_clock_runs() -> None:
    """After a crash in between: the same facts, from the same incident; and it is overdue like any other."""
    life = lived()
    review = review_of(life)
    assert facts_by_hand(review.status, life.incident, life.now) == review.status
    late = decide_review(review, utc("2026-01-15 10:46")).status
    assert [(c.type, c.status, c.reason) for c in late.conditions if c.type == "Overdue"] == [
        ("Overdue", "True", "PastDue")
    ]


def test_no_secret_is_drafted() -> None:
    """Whatever a person wrote into the title or said."""
    life = lived(title="login fails with password=hunter2secret")
    text = markdown(review_of(life), with_facts=True)
    assert "hunter2secret" not in text
    assert MARK.strip("[]<>") in text
