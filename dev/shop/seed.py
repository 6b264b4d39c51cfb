"""Make the shop, or make it again what it was: each part looks first and writes only what differs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from . import policies, releases
from .shop import Key, Shop

#: Users by id: name and address.
USERS: Mapping[str, tuple[str, str]] = {
    "u-1": ("Ada", "ada@customers.example"),
    "u-2": ("Grace", "grace@customers.example"),
    "u-3": ("Edsger", "edsger@customers.example"),
    "u-4": ("Barbara", "barbara@customers.example"),
    "u-5": ("Alan", "alan@customers.example"),
    "u-test": ("Test", "nobody@shopsmart.example"),
}
_TEMPLATE = b"<h1>Happy birthday, {name}!</h1>\n<p>10% off everything today.</p>\n"
#: Whose key the shop keeps, and as what.
_KEYS = {"operator": "incident-operator", "deployer": "deployer", "sre": "sre", "storefront": "storefront"}
Part = Callable[[Shop], None]


def seed(shop: Shop, state_dir: Path) -> Shop:
    """Make all of the shop that is not there, write `shop.json`, and return the shop with everybody's keys."""
    for part in (storage, mail, people, service_policy, function, table_policy, bucket_policy, concurrency, alarm):
        part(shop)
    seeded = shop.with_keys({who: key_of(shop, who, user) for who, user in _KEYS.items()})
    seeded.save(state_dir)
    return seeded


def absent(error: ClientError, *codes: str) -> bool:
    """Tell whether AWS says that there is no such thing; raises any other error."""
    if error.response.get("Error", {}).get("Code") in codes:
        return True
    raise error


# --- what nothing breaks ----------------------------------------------------------------------------------------------


def storage(shop: Shop) -> None:
    """The users' table and the bucket with the template."""
    dynamodb, s3 = shop.client("dynamodb"), shop.client("s3")
    try:
        dynamodb.describe_table(TableName=shop.table)
    except ClientError as error:
        if absent(error, "ResourceNotFoundException"):
            dynamodb.create_table(
                TableName=shop.table,
                KeySchema=[{"AttributeName": "userId", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "userId", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
            dynamodb.get_waiter("table_exists").wait(TableName=shop.table, WaiterConfig={"Delay": 1})
    items = [{"userId": {"S": i}, "name": {"S": n}, "email": {"S": e}} for i, (n, e) in USERS.items()]
    dynamodb.batch_write_item(RequestItems={shop.table: [{"PutRequest": {"Item": item}} for item in items]})
    make_bucket(shop, shop.bucket)
    s3.put_object(Bucket=shop.bucket, Key=releases.TEMPLATE_KEY, Body=_TEMPLATE, ContentType="text/html")


def mail(shop: Shop) -> None:
    """The sender's identity; verifying again changes nothing."""
    shop.client("ses").verify_email_identity(EmailAddress=shop.sender)


def alarm(shop: Shop) -> None:
    """The alarm on the function's errors, which wakes those on call: over the shortest period that CloudWatch takes."""
    client = shop.client("cloudwatch")
    if not client.describe_alarms(AlarmNames=[shop.alarm])["MetricAlarms"]:
        client.put_metric_alarm(
            AlarmName=shop.alarm,
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Dimensions=[{"Name": "FunctionName", "Value": shop.function}],
            Statistic="Sum",
            Period=10,
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=0,
            TreatMissingData="notBreaching",
            AlarmActions=[f"arn:aws:sns:{shop.region}:{shop.account}:platform-oncall"],
        )


def people(shop: Shop) -> None:
    """The roles and users."""
    account, iam = f"arn:aws:iam::{shop.account}:root", shop.client("iam")
    make_role(shop, shop.role, policies.trust(service="lambda.amazonaws.com"), path=shop.role_path)
    make_role(shop, "SecurityAudit", policies.trust(principal=account), policies.auditing(shop))
    for user, may in policies.users(shop).items():
        make_user(shop, user)
        iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(may))
    for role, may in policies.roles_of_operator(shop).items():
        make_role(shop, role, policies.trust(principal=shop.user_arn("incident-operator")), may)


def make_bucket(shop: Shop, name: str) -> None:
    """Make a bucket that is not there."""
    s3 = shop.client("s3")
    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        if absent(error, "404", "NoSuchBucket"):
            where = {} if shop.region == "us-east-1" else {"LocationConstraint": shop.region}
            s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))


def make_user(shop: Shop, name: str) -> None:
    """Make a user that is not there."""
    iam = shop.client("iam")
    try:
        iam.get_user(UserName=name)
    except ClientError as error:
        if absent(error, "NoSuchEntity"):
            iam.create_user(UserName=name)


def make_role(
    shop: Shop, name: str, trust: policies.Document, may: policies.Document | None = None, *, path: str = "/"
) -> None:
    """Make a role that is not there, and give it what it may do as its policy `work`."""
    iam = shop.client("iam")
    try:
        iam.get_role(RoleName=name)
    except ClientError as error:
        if absent(error, "NoSuchEntity"):
            iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=policies.text(trust))
    if may is not None:
        iam.put_role_policy(RoleName=name, PolicyName="work", PolicyDocument=policies.text(may))


def key_of(shop: Shop, who: str, user: str) -> Key:
    """Return a user's key: the known one while it exists, else a new one in place of those whose secret is lost."""
    iam = shop.client("iam")
    there = [k["AccessKeyId"] for k in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]
    known = shop.keys.get(who)
    if known is not None and known.access_key_id in there:
        return known
    for key in there:
        iam.delete_access_key(UserName=user, AccessKeyId=key)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return Key(access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"])


# --- what faults break and `heal` restores ----------------------------------------------------------------------------


def service_policy(shop: Shop) -> None:
    """The role's managed policy: two versions, the second the default, attached alone; no inline policy beside it."""
    iam = shop.client("iam")
    first, second = policies.service_access(shop)
    arn = shop.policy_arn
    try:
        iam.get_policy(PolicyArn=arn)
    except ClientError as error:
        if absent(error, "NoSuchEntity"):
            iam.create_policy(PolicyName=shop.policy, PolicyDocument=policies.text(first))
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=policies.text(second), SetAsDefault=True)
    if iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] != "v2":
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v2")
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if version["VersionId"] not in ("v1", "v2"):
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    attached = iam.list_attached_role_policies(RoleName=shop.role)["AttachedPolicies"]
    if [p["PolicyArn"] for p in attached] != [arn]:
        iam.attach_role_policy(RoleName=shop.role, PolicyArn=arn)
    for name in iam.list_role_policies(RoleName=shop.role)["PolicyNames"]:
        iam.delete_role_policy(RoleName=shop.role, PolicyName=name)


def function(shop: Shop) -> None:
    """The function with its two versions and LIVE at the second; later versions are deleted."""
    client = shop.client("lambda")
    name = shop.function
    first, second = (releases.package(release) for release in releases.RELEASES)
    wanted = releases.configuration(shop)
    try:
        found = client.get_function_configuration(FunctionName=name)
    except ClientError as error:
        if absent(error, "ResourceNotFoundException"):
            client.create_function(FunctionName=name, Code={"ZipFile": first}, Publish=True, **wanted)
            client.update_function_code(FunctionName=name, ZipFile=second)
            client.publish_version(FunctionName=name)
        found = client.get_function_configuration(FunctionName=name)
    if found["CodeSha256"] != releases.sha256(second):
        client.update_function_code(FunctionName=name, ZipFile=second)
    if changed := releases.differs(found, wanted):
        client.update_function_configuration(FunctionName=name, **changed)
    _alias(client, shop)
    for version in versions(shop):
        if version > len(releases.RELEASES):
            client.delete_function(FunctionName=name, Qualifier=str(version))


def _alias(client: Any, shop: Shop) -> None:
    """Point the alias at the last seeded version, unless it does."""
    wanted = {"FunctionName": shop.function, "Name": shop.alias, "FunctionVersion": str(len(releases.RELEASES))}
    try:
        alias = client.get_alias(FunctionName=shop.function, Name=shop.alias)
    except ClientError as error:
        if absent(error, "ResourceNotFoundException"):
            client.create_alias(**wanted)
        return
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    if alias["FunctionVersion"] != wanted["FunctionVersion"] or weights:
        client.update_alias(**wanted, RoutingConfig={"AdditionalVersionWeights": {}})


def versions(shop: Shop) -> list[int]:
    """Return the numbers of the published versions, rising."""
    pages = shop.client("lambda").get_paginator("list_versions_by_function").paginate(FunctionName=shop.function)
    return sorted(int(v["Version"]) for page in pages for v in page["Versions"] if v["Version"].isdigit())


def concurrency(shop: Shop) -> None:
    """The function's reserved concurrency."""
    client = shop.client("lambda")
    found = client.get_function_concurrency(FunctionName=shop.function).get("ReservedConcurrentExecutions")
    if found != releases.RESERVED_CONCURRENCY:
        client.put_function_concurrency(
            FunctionName=shop.function, ReservedConcurrentExecutions=releases.RESERVED_CONCURRENCY
        )


def table_policy(shop: Shop) -> None:
    """The table's own policy."""
    dynamodb, wanted = shop.client("dynamodb"), policies.table_policy(shop)
    if read_table_policy(shop) != wanted:
        dynamodb.put_resource_policy(ResourceArn=shop.table_arn, Policy=policies.text(wanted))


def read_table_policy(shop: Shop) -> Any:
    """Return the table's own policy; None where it has none."""
    try:
        return policies.read(shop.client("dynamodb").get_resource_policy(ResourceArn=shop.table_arn)["Policy"])
    except ClientError as error:
        absent(error, "PolicyNotFoundException")
        return None


def bucket_policy(shop: Shop) -> None:
    """The bucket's own policy."""
    wanted = policies.bucket_policy(shop)
    if read_bucket_policy(shop) != wanted:
        shop.client("s3").put_bucket_policy(Bucket=shop.bucket, Policy=policies.text(wanted))


def read_bucket_policy(shop: Shop) -> Any:
    """Return the bucket's own policy; None where it has none."""
    try:
        return policies.read(shop.client("s3").get_bucket_policy(Bucket=shop.bucket)["Policy"])
    except ClientError as error:
        absent(error, "NoSuchBucketPolicy")
        return None
