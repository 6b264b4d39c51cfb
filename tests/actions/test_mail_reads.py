"""What is kept of SES's counts of mails."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from incident_operator.actions.aws import Query, QueryFacts
from incident_operator.actions.reads import READS

BEGUN = datetime(2024, 1, 1, tzinfo=UTC)
SENT = READS["ses", "get_send_statistics"]


def point(number: int, **more: Any) -> dict[str, Any]:
    """Return a data point as SES answers it: the quarter of an hour, and its counts."""
    at = (BEGUN + number * timedelta(minutes=15)).isoformat()
    return {"Timestamp": at, "DeliveryAttempts": 10_000, "Bounces": number, "Complaints": 0, "Rejects": 0, **more}


def test_the_newest_stand_first_and_two_weeks_can_be_judged() -> None:
    """SES answers in no order, and more than a rule is given; what it may add some day is not kept."""
    points = [point(number, Recipient="ada@customers.example") for number in range(14 * 96)]
    kept = SENT.project({"SendDataPoints": points[::2] + points[1::2]})
    assert kept == [point(number) for number in range(14 * 96 - 1, 13 * 96 - 1, -1)]
    judged = Query().judged(QueryFacts(found=True, answer=json.loads(json.dumps(kept))))
    assert (judged.count, judged.cut) == (96, False)
    shown = Query().output(QueryFacts(found=True, answer=kept))
    assert shown.answer == kept[:3]


@pytest.mark.parametrize("answer", [{}, {"SendDataPoints": [{"Timestamp": BEGUN.isoformat()}]}])
def test_counts_that_are_missing_are_not_none(answer: dict[str, Any]) -> None:
    """The gateway calls it a malformed answer."""
    with pytest.raises(KeyError):
        SENT.project(answer)


def test_an_account_that_sent_nothing_has_no_points() -> None:
    """Which is an answer."""
    assert SENT.project({"SendDataPoints": []}) == []
