"""What a runbook learns of a review: each figure by hand, nothing twice, nothing that nobody said."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.api.review import PostIncidentReview
from incident_operator.api.runbook import RunbookSpec
from incident_operator.core.redact import MARK
from incident_operator.core.runbook_lesson import Append, Lesson, Nothing, SetFigure, json_patch, learn, learned
from tests.builders import NOW, a_runbook

KNOWLEDGE = {"incidents": 47, "successRate": 0.78, "meanResolution": "18m", "source": "Incident Response Runbook 3.2"}


def a_review(*, by: str | None = "Runbook", phase: str = "Resolved", **spec: Any) -> PostIncidentReview:
    """Return the review of the document's example, as people finished it."""
    resolution = {"phase": phase, "outcome": by or "Unresolved", "summary": "memory raised", "by": by, "at": NOW}
    return PostIncidentReview.model_validate(
        {
            "metadata": {"name": "inc-2024-xxxx-00000000", "namespace": "shop"},
            "spec": {
                "ticket": "INC-2024-XXXX",
                "detectedAt": NOW,
                "title": "Users cannot log in",
                "customerImpact": "15% of requests failed",
                "primaryCause": {"text": "Database connection pool exhaustion", "probable": False},
                "complete": True,
                **spec,
            },
            "status": {"duration": "23m", "resolution": resolution},
        }
    )


def lesson(review: PostIncidentReview, **runbook: Any) -> Lesson:
    """Return what a runbook with the document's figures learns."""
    found = learn(review, a_runbook(**{"knowledge": KNOWLEDGE, **runbook}))
    assert isinstance(found, Lesson)
    return found


def figures(of: Lesson) -> dict[str, Any]:
    """Return the figures that are set."""
    return {one.field: one.value for one in of.additions if isinstance(one, SetFigure)}


def entry(of: Lesson) -> dict[str, Any]:
    """Return what is added to the history."""
    (value,) = [one.value for one in of.additions if isinstance(one, Append) and one.field == "history"]
    return dict(value)


def test_a_resolved_incident_is_a_ticket_a_success_and_a_symptom() -> None:
    """(0.78 x 47 + 1) / 48 = 0.7846; (18 min x 47 + 23 min) / 48 = 18 min 6 s."""
    found = lesson(a_review())
    assert entry(found) == {
        "ticket": "INC-2024-XXXX",
        "title": "Users cannot log in",
        "rootCause": "Database connection pool exhaustion",
        "resolution": "memory raised",
        "impact": "15% of requests failed",
        "resolutionTime": "23m",
    }
    assert figures(found) == {
        "incidents": 48,
        "successRate": 0.7846,
        "meanResolution": "18m6s",
        "source": "Incident Response Runbook 3.2; reviews up to INC-2024-XXXX",
    }
    assert Append(field="symptoms", value="Users cannot log in") in found.additions
    assert found.remarks == ()


def test_what_the_runbook_did_not_resolve_lowers_its_rate() -> None:
    """By a person, by itself, or not at all; only what was resolved has a time."""
    for by in ("Manual", "SelfRecovered"):
        assert figures(lesson(a_review(by=by)))["successRate"] == 0.7638
    unresolved = lesson(a_review(by=None, phase="Unresolved"))
    assert (figures(unresolved)["successRate"], figures(unresolved)["incidents"]) == (0.7638, 48)
    assert "meanResolution" not in figures(unresolved)
    assert "resolutionTime" not in entry(unresolved)


def test_peoples_words_win_and_a_guess_stays_one() -> None:
    """As in the review itself."""
    said = {"resolution": "pool of PgBouncer", "duration": "40m", "complete": False}
    found = lesson(a_review(**said, primaryCause={"text": "the pool", "probable": True}))
    assert (entry(found)["rootCause"], entry(found)["resolution"]) == ("Probably: the pool", "pool of PgBouncer")
    assert entry(found)["resolutionTime"] == "40m"
    assert "not complete" in found.remarks[0]


def test_the_source_names_the_newest_review_only() -> None:
    """However many there were."""
    source = "Incident Response Runbook 3.2; reviews up to INC-2023-0001"
    again = lesson(a_review(), knowledge={**KNOWLEDGE, "source": source})
    assert figures(again)["source"] == "Incident Response Runbook 3.2; reviews up to INC-2024-XXXX"
    alone = lesson(a_review(), knowledge={"incidents": 1})
    assert figures(alone) == {"incidents": 2, "source": "reviews up to INC-2024-XXXX"}


def test_without_a_number_of_incidents_no_figure_is_begun() -> None:
    """A rate over an unknown number can't be brought up to date."""
    for knowledge in (None, {"successRate": 0.5}):
        found = lesson(a_review(), knowledge=knowledge)
        assert figures(found) == {}
        assert "knowledge.incidents" in found.remarks[0]


def test_a_known_symptom_is_not_added_again() -> None:
    """Nor the runbook's own title."""
    known = lesson(a_review(), symptoms=["users CANNOT log in"])
    assert [one.field for one in known.additions if isinstance(one, Append)] == ["history"]
    full = lesson(a_review(), symptoms=[f"symptom {number}" for number in range(32)])
    assert "32 already" in full.remarks[0]


@pytest.mark.parametrize(
    ("review", "runbook", "why"),
    [
        (a_review(), {"history": [{"ticket": "INC-2024-XXXX"}]}, "in the runbook's history already"),
        (a_review(), {"history": [{"ticket": f"INC-{n}"} for n in range(32)]}, "history is full"),
        (a_review(ticket=None), {}, "has no ticket"),
        (a_review(by=None, phase="NothingFound"), {}, "ended NothingFound"),
        (a_review().model_copy(update={"status": type(a_review().status)()}), {}, "has not ended"),
    ],
    ids=["known", "full", "no ticket", "nothing found", "at work"],
)
def test_there_may_be_nothing_to_learn(review: PostIncidentReview, runbook: dict[str, Any], why: str) -> None:
    """And it is said why, in one line."""
    found = learn(review, a_runbook(**runbook))
    assert isinstance(found, Nothing)
    assert why in found.why


def test_learned_once_there_is_nothing_to_learn_again() -> None:
    """The spec that comes out is valid, has all of it, and knows the ticket."""
    review = a_review()
    spec = a_runbook(knowledge=KNOWLEDGE).wire()
    after = learned(spec, lesson(review))
    read = RunbookSpec.model_validate(after)
    assert read.knowledge is not None
    assert (read.knowledge.incidents, read.knowledge.mean_resolution) == (48, timedelta(minutes=18, seconds=6))
    assert read.history[-1].ticket == "INC-2024-XXXX"
    assert isinstance(learn(review, read), Nothing)
    assert {k: v for k, v in after.items() if k not in ("history", "knowledge", "symptoms")} == {
        k: v for k, v in spec.items() if k not in ("history", "knowledge", "symptoms")
    }


def test_the_patch_is_of_one_generation() -> None:
    """Lists that are not there yet are begun."""
    patch = json_patch({"knowledge": KNOWLEDGE, "symptoms": ["a"]}, 7, lesson(a_review()))
    assert patch[0] == {"op": "test", "path": "/metadata/generation", "value": 7}
    assert [(one["op"], one["path"]) for one in patch[1:]] == [
        ("add", "/spec/symptoms/-"),
        *(("add", f"/spec/knowledge/{name}") for name in ("incidents", "successRate", "meanResolution", "source")),
        ("add", "/spec/history"),
    ]
    assert patch[-1]["value"] == [entry(lesson(a_review()))]


def test_no_secret_goes_into_a_runbook() -> None:
    """It would be kept for good, in Git."""
    found = lesson(a_review(title="login with password=hunter2x", resolution="token=abcdef123456"))
    assert "hunter2x" not in str(found)
    assert "abcdef123456" not in str(found)
    assert MARK in entry(found)["title"]
