"""S3 where moto keeps records only: public access that is really blocked, what a policy is, and request metrics."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from moto.s3.models import PublicAccessBlock, s3_backends

from .. import storage_rules
from ..authorization import bucket_named
from ..identity import Principal
from ..policies import is_public
from ..wire import Call, Refused, Reply
from .request_metrics import RequestMetrics
from .service import Handler, Parts, Service

Forward = Callable[[], Reply]


class Storage(Service):
    """Buckets: new ones block public access, as AWS makes them since April 2023."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._metrics = RequestMetrics(parts)

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return the calls whose answer public access changes, and those that moto does not know."""
        return {
            **self._metrics.handlers(),
            ("s3", "CreateBucket"): _create_bucket,
            ("s3", "PutBucketPolicy"): _put_bucket_policy,
            ("s3", "GetBucketPolicyStatus"): _get_bucket_policy_status,
        }

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return blocks, tags and filters of metrics by bucket; policies and objects are in the common part."""
        buckets = s3_backends[account]["aws"].buckets
        filters = {name: self._metrics.of(buckets[name]) for name in sorted(buckets)}
        return {
            "publicAccess": {name: _access(account, buckets[name]) for name in sorted(buckets)},
            "requestMetrics": {name: found for name, found in filters.items() if found},
        }

    def touched(self, call: Call, account: str) -> Any:
        """Return the block, the tags or the filters that a call changes."""
        if call.service != "s3" or not any(w in call.operation for w in ("PublicAccessBlock", "Tagging", "Metrics")):
            return None
        bucket = bucket_named(call.arguments.get("Bucket", ""))
        if bucket is not None and "Metrics" in call.operation:
            return self._metrics.of(bucket)
        return _access(account, bucket) if bucket is not None else None

    def answered(self, call: Call, at: datetime, reply: Reply) -> None:
        """Count the request."""
        if call.service == "s3":
            self._metrics.count(call, at, reply)


def _create_bucket(call: Call, principal: Principal, forward: Forward) -> Reply:
    existed = bucket_named(call.arguments["Bucket"]) is not None
    reply = forward()
    made = bucket_named(call.arguments["Bucket"])
    if reply.status < 400 and made is not None and not existed:
        made.public_access_block = PublicAccessBlock("true", "true", "true", "true")
    return reply


def _put_bucket_policy(call: Call, principal: Principal, forward: Forward) -> Reply:
    def unless_blocked() -> Reply:
        bucket = bucket_named(call.arguments["Bucket"])
        block = bucket.public_access_block if bucket is not None else None
        if block is not None and block.block_public_policy and is_public(call.arguments["Policy"]):
            message = (
                f"User: {principal.arn} is not authorized to perform: s3:PutBucketPolicy on resource: "
                f'"arn:aws:s3:::{call.arguments["Bucket"]}" because public policies are prevented by the '
                "BlockPublicPolicy setting in S3 Block Public Access."
            )
            raise Refused("AccessDenied", message, status=403)
        return forward()

    return storage_rules.put_bucket_policy(call, unless_blocked)


def _get_bucket_policy_status(call: Call, principal: Principal, forward: Forward) -> Reply:
    bucket = bucket_named(call.arguments["Bucket"])
    if bucket is None:
        raise Refused("NoSuchBucket", "The specified bucket does not exist", status=404)
    if not bucket.policy:
        raise Refused("NoSuchBucketPolicy", "The bucket policy does not exist", status=404)
    return call.answer({"PolicyStatus": {"IsPublic": is_public(bucket.policy)}})


def _access(account: str, bucket: Any) -> dict[str, Any]:
    tagger, block = s3_backends[account]["aws"].tagger, bucket.public_access_block
    tags = {key: tagger.get_tag_dict_for_resource(bucket.keys[key].arn) for key in sorted(bucket.keys)}
    return {
        "block": block.to_config_dict() if block is not None else None,
        "tags": {key: found for key, found in tags.items() if found},
    }
