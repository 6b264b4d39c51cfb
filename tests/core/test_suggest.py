"""The ranking of runbooks: by words that are there, in an order that is always the same, with the reason why."""

from typing import Any

import pytest

from incident_operator.core.suggest import Candidate, Suggestions, stem, suggest, tokens
from tests.builders import a_runbook


def a_candidate(name: str, *, reasons: tuple[str, ...] = (), **spec: Any) -> Candidate:
    """Return a cluster's runbook that is found by what is given alone."""
    runbook = a_runbook(**{"title": name, "incidentType": "Other", **spec})
    return Candidate(kind="ClusterRunbook", name=name, spec=runbook, reasons=reasons)


LAMBDA = a_candidate(
    "functions",
    symptoms=['Logs showing "AccessDenied" errors', "Task timed out after"],
    reasons=("RoleLacksPermission",),
    history=[{"ticket": "INC-1", "rootCause": "IAM role lost DynamoDB permissions"}],
)
BUCKET = a_candidate("buckets", symptoms=["Users get 403 from S3", "Images are missing"])
DATABASE = a_candidate("databases", title="Slow queries", incidentType="DatabaseConnections")
ALL = (LAMBDA, BUCKET, DATABASE)


def names(found: Suggestions) -> list[str]:
    """Return the ranked runbooks' names."""
    return [suggestion.candidate.name for suggestion in found.ranked]


def test_the_runbook_with_the_rarest_words_comes_first() -> None:
    """A 403 from S3 is a bucket's, though other runbooks know other words of the question."""
    found = suggest("users cannot log in, 403 from S3", ALL)
    assert names(found) == ["buckets", "functions"]
    assert found.ranked[0].score > found.ranked[1].score > 0
    assert found.unmatched == ()
    assert found.common == ("cannot", "in", "from")


def test_each_rank_says_which_words_matched_what() -> None:
    """What weighs most first; the text is the runbook's own."""
    (first,) = suggest("role timeouts: AccessDenied, lost permission", (LAMBDA,)).ranked
    assert [(match.where, match.words) for match in first.matches] == [
        ("findings", ("role", "permission")),
        ("symptoms", ("AccessDenied",)),
        ("history", ("role", "lost", "permission")),
    ]
    assert first.matches[1].text == 'Logs showing "AccessDenied" errors'


def test_a_word_that_no_runbook_has_is_said_to_match_nothing() -> None:
    """Nothing is guessed: neither from a part of a word nor from a similar one."""
    found = suggest("frobnicator imag S3", ALL)
    assert found.unmatched == ("frobnicator",)
    assert names(found) == ["buckets"]


def test_when_nothing_matches_no_runbook_is_named() -> None:
    """Also where nothing was asked but words that say nothing, and where there is no runbook."""
    for question in ("kubernetes nodes", "why is it so", ""):
        assert suggest(question, ALL).ranked == ()
    assert suggest("403", ()).unmatched == ("403",)


def test_a_symptom_counts_more_than_a_ticket_of_the_past() -> None:
    """Symptoms are written to be found by."""
    past = a_candidate("past", history=[{"ticket": "INC-1", "impact": "checkout was down"}])
    now = a_candidate("now", symptoms=["checkout was down"])
    assert names(suggest("checkout down", (past, now))) == ["now", "past"]


def test_the_order_does_not_depend_on_the_order_of_what_is_given() -> None:
    """Equal scores are told by name."""
    same = [a_candidate(name, title="Slow pages") for name in ("b", "a", "c")]
    assert names(suggest("slow", same)) == names(suggest("slow", same[::-1])) == ["a", "b", "c"]
    assert suggest("users 403", ALL) == suggest("users 403", ALL)


@pytest.mark.parametrize(
    "words",
    [
        ("error", "errors"),
        ("fail", "fails", "failed", "failing", "failure", "failures"),
        ("deny", "denies", "denied"),
        ("drop", "drops", "dropped", "dropping"),
        ("query", "queries"),
        ("process", "processes"),
    ],
)
def test_forms_of_a_word_are_one_word(words: tuple[str, ...]) -> None:
    """By endings alone."""
    assert len({stem(word) for word in words}) == 1


def test_a_compound_is_itself_and_its_parts() -> None:
    """As the logs write it, and as people say it."""
    assert set(tokens("AccessDenied")) == {stem("accessdenied"), stem("access"), stem("denied")}
    assert tokens("S3") == ("s3",)
    assert set(tokens("DynamoDB")) >= {stem("dynamo"), "db"}
    assert suggest("access denied", ALL).ranked[0].candidate is LAMBDA
