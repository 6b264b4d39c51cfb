"""S3's request metrics: only of what a configuration names, and every request of it, refused ones too."""

from datetime import timedelta
from typing import Any

import pytest

from dev.processes import wait_until
from incident_operator.adapters.clock import Clock

from .conftest import Account
from .test_authorization import refusal
from .test_public_access import bucket, get

__all__ = ["bucket"]


def summed(account: Account, bucket: str, filter_id: str, metric: str) -> float | None:
    """Return the sum of a metric of the last hour; None where there is no sample."""
    dimensions = [{"Name": "BucketName", "Value": bucket}, {"Name": "FilterId", "Value": filter_id}]
    stat = {
        "Metric": {"Namespace": "AWS/S3", "MetricName": metric, "Dimensions": dimensions},
        "Period": 60,
        "Stat": "Sum",
    }
    now = Clock().now()
    answer = account.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
    )
    values = answer["MetricDataResults"][0]["Values"]
    return sum(values) if values else None


def configure(account: Account, bucket: str, filter_id: str, prefix: str = "") -> None:
    """Let requests be measured under a filter."""
    wanted: dict[str, Any] = {"Id": filter_id, **({"Filter": {"Prefix": prefix}} if prefix else {})}
    account.client("s3").put_bucket_metrics_configuration(Bucket=bucket, Id=filter_id, MetricsConfiguration=wanted)


def test_requests_are_counted_under_the_filters_that_they_pass(account: Account, bucket: str) -> None:
    """Whoever makes them: those that are answered, those that are refused, and of whom a filter does not tell, none."""
    get(account, bucket, "a/public.jpg")
    configure(account, bucket, "images", "a/")
    configure(account, bucket, "all")
    for key in ("a/public.jpg", "a/public.jpg", "a/missing.jpg", "private.csv"):
        get(account, bucket, key)
    account.client("s3").head_object(Bucket=bucket, Key="private.csv")

    def shown() -> bool:
        return summed(account, bucket, "all", "HeadRequests") == 1

    assert wait_until(shown, seconds=20)
    assert summed(account, bucket, "images", "AllRequests") == 3, "not the one before there was a filter"
    assert summed(account, bucket, "images", "4xxErrors") == 1
    assert summed(account, bucket, "images", "5xxErrors") == 0
    assert summed(account, bucket, "images", "GetRequests") == 3
    assert summed(account, bucket, "images", "HeadRequests") is None
    assert (summed(account, bucket, "all", "AllRequests") or 0) >= 5
    assert summed(account, bucket, "all", "4xxErrors") == 2
    assert summed(account, bucket, "other", "AllRequests") is None


def test_a_bucket_without_a_configuration_has_no_metrics(account: Account, bucket: str) -> None:
    """As in AWS, where they are paid for: silence says nothing of how many requests failed."""
    get(account, bucket, "a/public.jpg")
    other = f"measured-{account.id}"
    account.client("s3").create_bucket(Bucket=other)
    configure(account, other, "all")
    account.client("s3").list_objects_v2(Bucket=other)
    assert wait_until(lambda: summed(account, other, "all", "ListRequests") == 1, seconds=20)
    listed = account.client("cloudwatch").list_metrics(Namespace="AWS/S3", MetricName="AllRequests")["Metrics"]
    assert {d["Value"] for metric in listed for d in metric["Dimensions"]} == {other, "all"}


def test_configurations_are_kept_and_end(account: Account, bucket: str) -> None:
    """As the API has them; what there is not is refused by its name."""
    s3 = account.client("s3")
    configure(account, bucket, "images", "a/")
    configure(account, bucket, "all")
    found = s3.get_bucket_metrics_configuration(Bucket=bucket, Id="images")["MetricsConfiguration"]
    assert found == {"Id": "images", "Filter": {"Prefix": "a/"}}
    assert s3.list_bucket_metrics_configurations(Bucket=bucket)["MetricsConfigurationList"] == [{"Id": "all"}, found]
    s3.delete_bucket_metrics_configuration(Bucket=bucket, Id="images")
    for call in (s3.get_bucket_metrics_configuration, s3.delete_bucket_metrics_configuration):
        assert refusal(call, Bucket=bucket, Id="images")[0] == "NoSuchConfiguration"


@pytest.mark.parametrize("chosen", [{"Tag": {"Key": "a", "Value": "b"}}, {"And": {"Prefix": "a/", "Tags": []}}])
def test_what_is_not_simulated_is_refused(account: Account, bucket: str, chosen: dict[str, Any]) -> None:
    """Rather than counted wrongly."""
    wanted = {"Id": "tagged", "Filter": chosen}
    call = account.client("s3").put_bucket_metrics_configuration
    assert refusal(call, Bucket=bucket, Id="tagged", MetricsConfiguration=wanted)[0] == "NotImplemented"
