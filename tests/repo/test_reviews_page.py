"""docs/reviews.md says what the review's clock can say, and no more."""

import re

from incident_operator.api.review import ReminderReason
from incident_operator.core.review_clock import MARKS
from incident_operator.core.runbook_lesson import MAX_HISTORY
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs/reviews.md").read_text()


def _table(head: str) -> list[list[str]]:
    rows = _PAGE.split(f"| {head} |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_reminder_is_documented() -> None:
    """With the hours of its marks."""
    shown = {row[0]: row[1] for row in _table("Event | when | who should hear it")}
    assert set(shown) == set(ReminderReason)
    for mark in MARKS:
        assert f"{mark.after.total_seconds() / 3600:.0f} hours" in shown[mark.reason]


def test_every_reason_of_overdue_is_documented() -> None:
    """In each status that it is set to."""
    source = (ROOT / "operator/incident_operator/core/review_clock.py").read_text()
    given = re.findall(r'return (True|False), "([A-Z][A-Za-z]+)",', source)
    assert sorted((row[0], row[1]) for row in _table("status | reason | meaning")) == sorted(given)
    assert len(given) == 3


def test_the_page_says_how_long_a_history_may_be() -> None:
    """As the contract does."""
    assert f"full ({MAX_HISTORY})" in _PAGE
