"""Buckets and tables."""

from collections.abc import Mapping

from .listed import ListedRead, policy_document

#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("s3", "get_bucket_policy"): ListedRead(
        permissions=("s3:GetBucketPolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("NoSuchBucketPolicy", "NoSuchBucket"),
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
