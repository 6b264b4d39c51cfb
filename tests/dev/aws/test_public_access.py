"""What a bucket gives to everybody: by its policy and its objects' tags, unless public access is blocked."""

import json
import urllib.error
import urllib.request
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from dev.processes import wait_until

from .conftest import REGION, Account
from .test_authorization import refusal

BLOCK = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def everybody(bucket: str, **more: Any) -> dict[str, Any]:
    """Return a policy that lets everybody read what is tagged as public."""
    statement = {
        "Sid": "PublicRead",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/data-classification": "public-dataset"}},
    }
    return {"Version": "2012-10-17", "Statement": [{**statement, **more}]}


def block(account: Account, bucket: str, **on: bool) -> None:
    """Set the public-access block; what is not named is off."""
    wanted = {name: on.get(name, False) for name in BLOCK}
    account.client("s3").put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)


@pytest.fixture
def bucket(account: Account) -> str:
    """Return a bucket whose tagged object everybody may read, and whose other object nobody may."""
    s3, name = account.client("s3"), f"images-{account.id}"
    s3.create_bucket(Bucket=name)
    block(account, name)
    s3.put_object(Bucket=name, Key="a/public.jpg", Body=b"jpg", Tagging="data-classification=public-dataset")
    s3.put_object(Bucket=name, Key="private.csv", Body=b"csv")
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(everybody(name)))
    return name


def get(account: Account, bucket: str, key: str) -> tuple[int, bytes]:
    """Ask for an object as a browser does."""
    try:
        with urllib.request.urlopen(f"{account.admin.url}/{bucket}/{key}") as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_everybody_reads_what_the_policy_and_the_tag_give(account: Account, bucket: str) -> None:
    """The tagged object, by GET and by HEAD; neither the untagged one, nor the list, nor what is not there."""
    assert get(account, bucket, "a/public.jpg") == (200, b"jpg")
    status, body = get(account, bucket, "private.csv")
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body
    # Who may not list does not learn that there is no such object.
    assert get(account, bucket, "a/missing.jpg")[0] == 403
    assert get(account, bucket, "")[0] == 403
    assert get(account, f"no-{bucket}", "a/public.jpg")[0] == 403
    unsigned = boto3.client(
        "s3", region_name=REGION, endpoint_url=account.admin.url, config=Config(signature_version=UNSIGNED)
    )
    assert unsigned.head_object(Bucket=bucket, Key="a/public.jpg")["ContentLength"] == 3
    with pytest.raises(ClientError) as error:
        unsigned.head_object(Bucket=bucket, Key="private.csv")
    assert error.value.response["Error"]["Code"] == "403"
    with pytest.raises(ClientError):
        unsigned.put_object(Bucket=bucket, Key="a/public.jpg", Body=b"mine")


def test_a_tag_decides_when_it_changes(account: Account, bucket: str) -> None:
    """An object is public exactly as long as it is tagged."""
    s3 = account.client("s3")
    s3.delete_object_tagging(Bucket=bucket, Key="a/public.jpg")
    assert get(account, bucket, "a/public.jpg")[0] == 403
    tags = {"TagSet": [{"Key": "data-classification", "Value": "public-dataset"}]}
    s3.put_object_tagging(Bucket=bucket, Key="private.csv", Tagging=tags)
    assert get(account, bucket, "private.csv")[0] == 200


def test_a_deny_beats_the_allow(account: Account, bucket: str) -> None:
    """An explicit Deny for everybody, as S3 evaluates it."""
    policy = everybody(bucket)
    policy["Statement"].append({**policy["Statement"][0], "Sid": "No", "Effect": "Deny", "Condition": {}})
    account.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    assert get(account, bucket, "a/public.jpg")[0] == 403


def test_restricting_public_buckets_shuts_out_everybody_at_once(account: Account, bucket: str) -> None:
    """The policy stays as it is, and the account's own are not kept out."""
    block(account, bucket, RestrictPublicBuckets=True)
    assert get(account, bucket, "a/public.jpg")[0] == 403
    assert account.client("s3").get_object(Bucket=bucket, Key="a/public.jpg")["Body"].read() == b"jpg"
    block(account, bucket)
    assert get(account, bucket, "a/public.jpg")[0] == 200


def test_a_public_policy_is_refused_where_it_is_blocked(account: Account, bucket: str) -> None:
    """One with a condition on tags is public; one for a fixed network or a named principal is not."""
    s3 = account.client("s3")
    block(account, bucket, BlockPublicPolicy=True)
    public = json.dumps(everybody(bucket))
    code, message = refusal(s3.put_bucket_policy, Bucket=bucket, Policy=public)
    assert (code, "BlockPublicPolicy" in message) == ("AccessDenied", True)
    for more in (
        {"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}},
        {"Principal": {"AWS": f"arn:aws:iam::{account.id}:root"}},
    ):
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(everybody(bucket, **more)))
        assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": False}
    block(account, bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=public)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}


def test_a_new_bucket_blocks_public_access(account: Account) -> None:
    """As AWS makes buckets."""
    s3, name = account.client("s3"), f"new-{account.id}"
    s3.create_bucket(Bucket=name)
    found = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert found == dict.fromkeys(BLOCK, True)
    s3.delete_public_access_block(Bucket=name)
    code, _ = refusal(s3.get_public_access_block, Bucket=name)
    assert code == "NoSuchPublicAccessBlockConfiguration"


def test_who_blocked_is_in_the_trail_and_the_dump(account: Account, bucket: str) -> None:
    """Under the names that CloudTrail uses."""
    block(account, bucket, RestrictPublicBuckets=True)
    trail = account.client("cloudtrail")
    about = [{"AttributeKey": "ResourceName", "AttributeValue": bucket}]

    def told() -> bool:
        names = [event["EventName"] for event in trail.lookup_events(LookupAttributes=about)["Events"]]
        return names.count("PutBucketPublicAccessBlock") == 2

    assert wait_until(told, seconds=10, every=0.1)
    with urllib.request.urlopen(f"{account.admin.url}/_sim/dump?account={account.id}") as answer:  # noqa: S310
        access = json.load(answer)["publicAccess"][bucket]
    assert access["block"]["restrictPublicBuckets"] is True
    assert access["tags"] == {"a/public.jpg": {"data-classification": "public-dataset"}}
