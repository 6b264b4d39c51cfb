"""s3.requests: what CloudWatch counted of a bucket's requests; what nobody counts is unknown, and no zero."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.s3_requests import BucketRequests, RequestInputs
from tests.actions.reader import DictReader
from tests.builders import NOW


def metrics(**values: float) -> list[Mapping[str, Any]]:
    """Return GetMetricData's answer: one sample of each metric that is given, none of the others."""
    names = {"mallrequests": "all", "m4xxerrors": "refused", "m5xxerrors": "broken"}
    return [
        {
            "id": id_,
            "at": [NOW.isoformat()] if name in values else [],
            "values": [values[name]] if name in values else [],
        }
        for id_, name in names.items()
    ]


def asked(reader: DictReader, **inputs: Any) -> tuple[dict[str, Any], Any]:
    """Return output and findings."""
    check, given = BucketRequests(), RequestInputs(bucket="images", **{"metrics_filter": "all-images", **inputs})
    facts = check.observe(given, reader)
    return check.output(facts).wire(), check.findings(given, facts)


def test_refused_and_broken_requests_are_counted_of_all() -> None:
    """By the filter's own series of the bucket, over the window."""
    reader = DictReader({"cloudwatch.get_metric_data": metrics(all=200, refused=90, broken=10)})
    output, (found,) = asked(reader, region="eu-west-1")
    assert output == {"requests": 200, "failed": 100, "failureRate": 0.5}
    assert (found.reason, found.message) == ("RequestsFail", "100 of 200 requests to images failed (50%)")
    ((_, arguments, region),) = reader.asked
    assert region == "eu-west-1"
    assert arguments["StartTime"] == (NOW - timedelta(minutes=5)).isoformat()
    for query in arguments["MetricDataQueries"]:
        metric = query["MetricStat"]["Metric"]
        assert {d["Name"]: d["Value"] for d in metric["Dimensions"]} == {
            "BucketName": "images",
            "FilterId": "all-images",
        }


def test_errors_without_a_sample_did_not_happen_where_requests_have_one() -> None:
    """CloudWatch has none of what did not occur."""
    output, found = asked(DictReader({"cloudwatch.get_metric_data": metrics(all=200)}))
    assert (output["failed"], found) == (0, [])


@pytest.mark.parametrize("answer", [metrics(), metrics(refused=3), metrics(all=0), metrics(all=2, refused=2)])
def test_too_few_requests_prove_nothing(answer: list[Mapping[str, Any]]) -> None:
    """Neither health nor a failure; and where there are none, there is no count of any."""
    output, found = asked(DictReader({"cloudwatch.get_metric_data": answer}))
    assert isinstance(found, Unclear)
    assert ("requests" in output) == (answer == metrics(all=2, refused=2))


def test_a_bucket_without_a_metrics_configuration_is_not_asked() -> None:
    """It says that nothing is known, and no expression finds a number."""
    reader = DictReader({})
    output, (found,) = asked(reader, metrics_filter="")
    assert (output, found.reason, reader.asked) == ({}, "RequestsNotMeasured", [])


def test_nothing_from_before_a_fix_counts() -> None:
    """The window begins with the first whole minute after it; before that has passed there is nothing to ask."""
    reader = DictReader({"cloudwatch.get_metric_data": metrics(all=10)}, since=NOW - timedelta(seconds=90))
    asked(reader)
    assert reader.asked[0][1]["StartTime"] == (NOW - timedelta(minutes=1)).isoformat()
    young = DictReader({}, since=NOW - timedelta(seconds=1), now=NOW - timedelta(seconds=1))
    assert isinstance(asked(young)[1], Unclear)
