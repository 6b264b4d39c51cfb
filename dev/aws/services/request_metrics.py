"""S3's request metrics: none but of what a metrics configuration of the bucket names, under its id (FilterId).

Counted is every request, whoever makes it and however it is answered: those that are refused are what people look for.
Source: S3, CloudWatch metrics; of the kinds of filters the simulator takes a prefix, and the whole bucket.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from ..authorization import bucket_named
from ..identity import Principal
from ..telemetry import METRICS_DELAY
from ..wire import Call, Refused, Reply
from .service import Forward, Handler, Parts

NAMESPACE = "AWS/S3"
_KINDS = {
    "GetObject": "GetRequests",
    "HeadObject": "HeadRequests",
    "PutObject": "PutRequests",
    "DeleteObject": "DeleteRequests",
    "ListObjects": "ListRequests",
    "ListObjectsV2": "ListRequests",
}


class RequestMetrics:
    """Metrics configurations by bucket, and the counting of requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        #: moto keeps no metrics configurations. They end with their bucket.
        self._filters: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return the calls about configurations."""
        return {
            ("s3", "PutBucketMetricsConfiguration"): self._put,
            ("s3", "GetBucketMetricsConfiguration"): self._get,
            ("s3", "ListBucketMetricsConfigurations"): self._list,
            ("s3", "DeleteBucketMetricsConfiguration"): self._delete,
        }

    def of(self, bucket: Any) -> dict[str, str]:
        """Return a bucket's filters: id → prefix, empty for the whole bucket."""
        return dict(sorted(self._filters.get(bucket, {}).items()))

    def count(self, call: Call, at: datetime, reply: Reply) -> None:
        """Count a request under every filter that it passes."""
        bucket = bucket_named(call.arguments.get("Bucket", ""))
        if bucket is None:
            return
        key = call.arguments.get("Key")
        passed = [
            id_ for id_, prefix in self.of(bucket).items() if not prefix or (key is not None and key.startswith(prefix))
        ]
        if not passed:
            return
        dimensions = [(("BucketName", call.arguments["Bucket"]), ("FilterId", id_)) for id_ in passed]
        values = {
            "AllRequests": 1.0,
            "4xxErrors": float(400 <= reply.status < 500),
            "5xxErrors": float(reply.status >= 500),
        }
        if call.operation in _KINDS:
            values[_KINDS[call.operation]] = 1.0
        account, region, metrics = bucket.account_id, bucket.region_name, self._parts.metrics
        self._parts.delayed.later(
            METRICS_DELAY, lambda: metrics.add(account, region, dimensions, at, namespace=NAMESPACE, **values)
        )

    def _put(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        bucket, asked = _bucket(call), call.arguments["MetricsConfiguration"]
        if asked["Id"] != call.arguments["Id"]:
            raise Refused("InvalidArgument", "The Id of the configuration is not the Id of the request")
        chosen = asked.get("Filter") or {}
        if set(chosen) - {"Prefix"}:
            raise Refused("NotImplemented", "the simulator filters request metrics by prefix only", status=501)
        self._filters.setdefault(bucket, {})[asked["Id"]] = chosen.get("Prefix", "")
        return call.answer({})

    def _get(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        filters, id_ = self.of(_bucket(call)), call.arguments["Id"]
        if id_ not in filters:
            raise Refused("NoSuchConfiguration", "The specified configuration does not exist.", status=404)
        return call.answer({"MetricsConfiguration": _configuration(id_, filters[id_])})

    def _list(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        found = [_configuration(id_, prefix) for id_, prefix in self.of(_bucket(call)).items()]
        return call.answer({"IsTruncated": False, "MetricsConfigurationList": found})

    def _delete(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        bucket, id_ = _bucket(call), call.arguments["Id"]
        if id_ not in self.of(bucket):
            raise Refused("NoSuchConfiguration", "The specified configuration does not exist.", status=404)
        del self._filters[bucket][id_]
        return call.answer({}, status=204)


def _bucket(call: Call) -> Any:
    bucket = bucket_named(call.arguments["Bucket"])
    if bucket is None:
        raise Refused("NoSuchBucket", "The specified bucket does not exist", status=404)
    return bucket


def _configuration(id_: str, prefix: str) -> dict[str, Any]:
    return {"Id": id_, **({"Filter": {"Prefix": prefix}} if prefix else {})}
