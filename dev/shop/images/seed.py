"""Make the bucket of product images, or make it again what it was: each part looks first, writes only what differs."""

from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .. import policies
from ..policies import Document, allow, document
from ..seed import absent, key_of, make_bucket, make_role, make_user
from ..shop import DEFAULT_ACCOUNT, Shop

#: What browsers ask for, and what nobody but the shop's own may read.
PRODUCTS = tuple(f"products/{number}.jpg" for number in range(1001, 1007))
PRIVATE = "suppliers/price-list.csv"
SID = "PublicReadGetObject"
#: Under which S3 counts requests for images (CloudWatch's FilterId), and what their keys begin with.
METRICS = "product-images"
_MEASURED = "products/"
TAG = ("data-classification", "public-dataset")
#: Who releases images and their policy, and the operator's own role for them.
MEDIA = "media"
REMEDIATION = "IncidentOperatorImages"
_JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"


def bucket_of(shop: Shop) -> str:
    """Return the bucket's name. Bucket names are global: each account has its own."""
    return "shopsmart-product-images" + ("" if shop.account == DEFAULT_ACCOUNT else f"-{shop.account}")


def bucket_arn(shop: Shop) -> str:
    """Return the bucket's ARN."""
    return f"arn:aws:s3:::{bucket_of(shop)}"


def seed(shop: Shop, state_dir: Path) -> Shop:
    """Make all that is not there beside a seeded shop, write `shop.json`, return the shop with the media team's key."""
    for part in (bucket, metrics, people, block, tags, policy):
        part(shop)
    seeded = shop.with_keys({MEDIA: key_of(shop, MEDIA, MEDIA)})
    seeded.save(state_dir)
    return seeded


def bucket(shop: Shop) -> None:
    """The bucket, the images and the list that is nobody's business."""
    s3, name = shop.client("s3"), bucket_of(shop)
    make_bucket(shop, name)
    there = {item["Key"] for item in s3.list_objects_v2(Bucket=name).get("Contents", ())}
    for key in PRODUCTS:
        if key not in there:
            s3.put_object(Bucket=name, Key=key, Body=_JPEG, ContentType="image/jpeg", Tagging="=".join(TAG))
    if PRIVATE not in there:
        s3.put_object(Bucket=name, Key=PRIVATE, Body=b"sku,price\n", ContentType="text/csv")


def metrics(shop: Shop) -> None:
    """What customers ask for is counted: a bucket has no request metrics by itself."""
    s3, name = shop.client("s3"), bucket_of(shop)
    wanted = {"Id": METRICS, "Filter": {"Prefix": _MEASURED}}
    found = s3.list_bucket_metrics_configurations(Bucket=name).get("MetricsConfigurationList", ())
    if wanted not in found:
        s3.put_bucket_metrics_configuration(Bucket=name, Id=METRICS, MetricsConfiguration=wanted)


def people(shop: Shop) -> None:
    """The media team's user, what the auditors may do to the bucket, and the operator's role for it."""
    iam, arn = shop.client("iam"), bucket_arn(shop)
    make_user(shop, MEDIA)
    own = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketPublicAccessBlock"]
    releasing = document(
        allow("Policies", own, arn),
        allow("Images", ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObjectTagging"], f"{arn}/*"),
    )
    iam.put_user_policy(UserName=MEDIA, PolicyName="images", PolicyDocument=policies.text(releasing))
    auditing = policies.text(document(allow("Images", own, arn)))
    iam.put_role_policy(RoleName="SecurityAudit", PolicyName="images", PolicyDocument=auditing)
    fixing = document(allow("Fixes", ["s3:PutBucketPolicy", "s3:DeleteBucketPolicy"], arn))
    make_role(shop, REMEDIATION, policies.trust(principal=shop.user_arn("incident-operator")), fixing)
    role = f"arn:aws:iam::{shop.account}:role/{REMEDIATION}"
    assuming = policies.text(document(allow("AssumeImages", ["sts:AssumeRole"], role)))
    iam.put_user_policy(UserName="incident-operator", PolicyName="images", PolicyDocument=assuming)


# --- what faults break and `heal` restores ----------------------------------------------------------------------------


def block(shop: Shop) -> None:
    """The public-access block: none by access lists, but policies may; the owner decided so."""
    wanted = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": False,
        "RestrictPublicBuckets": False,
    }
    s3, name = shop.client("s3"), bucket_of(shop)
    try:
        found = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        absent(error, "NoSuchPublicAccessBlockConfiguration")
        found = None
    if found != wanted:
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=wanted)


def tags(shop: Shop) -> None:
    """The images' tags, and none on what is private."""
    s3, name = shop.client("s3"), bucket_of(shop)
    for key in (*PRODUCTS, PRIVATE):
        found = s3.get_object_tagging(Bucket=name, Key=key)["TagSet"]
        wanted = [] if key == PRIVATE else [{"Key": TAG[0], "Value": TAG[1]}]
        if found != wanted:
            s3.put_object_tagging(Bucket=name, Key=key, Tagging={"TagSet": wanted})


def policy(shop: Shop) -> None:
    """The bucket's policy."""
    if read_policy(shop) != (wanted := declared(shop)):
        shop.client("s3").put_bucket_policy(Bucket=bucket_of(shop), Policy=policies.text(wanted))


def read_policy(shop: Shop) -> Any:
    """Return the bucket's policy; None where it has none."""
    try:
        return policies.read(shop.client("s3").get_bucket_policy(Bucket=bucket_of(shop))["Policy"])
    except ClientError as error:
        absent(error, "NoSuchBucketPolicy")
        return None


# --- the policy, as seeded and as faults leave it ---------------------------------------------------------------------


def uploading(shop: Shop) -> Document:
    """Return the statement that lets the media team upload."""
    return allow("MediaUploads", ["s3:PutObject"], f"{bucket_arn(shop)}/products/*", shop.user_arn(MEDIA))


def public_read(shop: Shop) -> Document:
    """Return the statement that lets everybody read what is tagged as public."""
    return {
        "Sid": SID,
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"{bucket_arn(shop)}/*",
        "Condition": {"StringEquals": {f"s3:ExistingObjectTag/{TAG[0]}": TAG[1]}},
    }


def declared(shop: Shop) -> Document:
    """Return the policy as it should be."""
    return document(uploading(shop), public_read(shop))


def without_public_read(shop: Shop) -> Document:
    """Return what INC-2023-0987's change made of it."""
    return document(uploading(shop))


def denying(shop: Shop) -> Document:
    """Return a policy that refuses everybody in so many words."""
    denied = {
        "Sid": "ImagesUnderReview",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"{bucket_arn(shop)}/products/*",
    }
    return document(uploading(shop), denied)
