"""Buckets and tables."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, keep, policy_document

_NO_BUCKET = ("NoSuchBucket",)


def _grants(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep which group may do what; of an account only that it is one, not whose."""
    return [
        {"grantee": (g.get("Grantee") or {}).get("URI", "account"), "permission": g.get("Permission", "")}
        for g in answer.get("Grants", ())
    ]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("s3", "get_bucket_policy"): ListedRead(
        permissions=("s3:GetBucketPolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("NoSuchBucketPolicy", "NoSuchBucket"),
    ),
    ("s3", "get_bucket_policy_status"): ListedRead(
        permissions=("s3:GetBucketPolicyStatus",),
        project=lambda answer: keep("IsPublic")(answer["PolicyStatus"]),
        missing=("NoSuchBucketPolicy", *_NO_BUCKET),
    ),
    ("s3", "get_public_access_block"): ListedRead(
        permissions=("s3:GetBucketPublicAccessBlock",),
        project=lambda answer: keep(
            "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"
        )(answer["PublicAccessBlockConfiguration"]),
        missing=("NoSuchPublicAccessBlockConfiguration", *_NO_BUCKET),
    ),
    ("s3", "get_bucket_acl"): ListedRead(permissions=("s3:GetBucketAcl",), project=_grants, missing=_NO_BUCKET),
    # Only who may list learns that an object does not exist; to all others a missing one looks denied.
    ("s3", "get_object_tagging"): ListedRead(
        permissions=("s3:GetObjectTagging", "s3:ListBucket"),
        project=lambda answer: {tag["Key"]: tag["Value"] for tag in answer["TagSet"]},
        missing=("NoSuchKey", *_NO_BUCKET),
    ),
    ("s3", "list_objects_v2"): ListedRead(
        permissions=("s3:ListBucket",),
        project=lambda answer: [item["Key"] for item in answer.get("Contents", ())],
        items="Contents",
        bound=50,
        missing=_NO_BUCKET,
    ),
    # HEAD is permitted exactly where GET is.
    ("s3", "head_object"): ListedRead(
        permissions=(), project=keep("ContentLength"), missing=("404", "NoSuchKey", *_NO_BUCKET), unsigned=True
    ),
    ("dynamodb", "get_resource_policy"): ListedRead(
        permissions=("dynamodb:GetResourcePolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("PolicyNotFoundException", "ResourceNotFoundException"),
    ),
    ("dynamodb", "describe_table"): ListedRead(
        permissions=("dynamodb:DescribeTable",),
        project=lambda answer: {
            "status": answer["Table"]["TableStatus"],
            "keyArn": (answer["Table"].get("SSEDescription") or {}).get("KMSMasterKeyArn"),
        },
        missing=("ResourceNotFoundException",),
    ),
}
