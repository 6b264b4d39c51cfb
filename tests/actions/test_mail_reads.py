"""What is kept of SES's counts of mails."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from incident_operator.actions.aws import Query, QueryFacts
from incident_operator.actions.reads import READS
from incident_operator.core.expressions import evaluate
from tests.repo.files import ROOT

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


def bounces(*points: dict[str, Any]) -> bool:
    """Tell whether the rule of `lambda-failures` finds that mails bounce, by these points and what the read keeps."""
    spec = yaml.safe_load((ROOT / "manifests/runbooks/lambda-failures.yaml").read_text())["spec"]
    (check,) = [c for step in spec["steps"] for c in step.get("checks", ()) if c["name"] == "mails"]
    (rule,) = check["findings"]
    assert (rule["reason"], rule["kind"]) == ("MailsBounce", "Info")
    facts = QueryFacts(found=True, answer=SENT.project({"SendDataPoints": list(points)}))
    seen = {"output": Query().judged(facts).wire(), "inputs": {}, "parameters": {}, "now": BEGUN.isoformat()}
    return bool(evaluate(rule["when"], "finding", json.loads(json.dumps(seen))))


def test_mails_that_bounce_are_found_by_their_share_in_the_last_hour() -> None:
    """A few of many are usual, a few at all are nothing, and what is long over is not this incident."""
    some = {"DeliveryAttempts": 100, "Bounces": 5}
    assert bounces(point(-1, **some))
    assert bounces(point(-1, DeliveryAttempts=200, Bounces=1), point(-3, **some))
    assert not bounces()
    assert not bounces(point(-1, DeliveryAttempts=101, Bounces=5))
    assert not bounces(point(-1, DeliveryAttempts=4, Bounces=4))
    assert not bounces(point(-4, **some))
