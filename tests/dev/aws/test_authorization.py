"""Policies decide on every call, and denials read as AWS's own."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.processes import wait_until
from incident_operator.adapters.clock import Clock

from .conftest import REGION, Account, Caller, allow, document

GET = {"TableName": "orders", "Key": {"k": {"S": "1"}}}


def refusal(call: Any, **arguments: Any) -> tuple[str, str]:
    """Return code and message of a call that must be refused."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found = error.value.response["Error"]
    return str(found["Code"]), str(found["Message"])


def test_a_denial_names_caller_action_resource_and_why(account: Account) -> None:
    """The message is AWS's, word for word: people and programs read it."""
    table = account.table()
    session = account.admin.assume(account.role("app"), "fn")
    user = f"arn:aws:sts::{account.id}:assumed-role/app/fn"
    assert refusal(session.client("dynamodb").get_item, **GET) == (
        "AccessDeniedException",
        f"User: {user} is not authorized to perform: dynamodb:GetItem on resource: {table} "
        "because no identity-based policy allows the dynamodb:GetItem action",
    )


def test_an_identity_policy_allows_exactly_its_actions_and_resources(account: Account) -> None:
    """Another action or another table stays denied."""
    table = account.table()
    account.table("other")
    session = account.admin.assume(account.role("app", allow("dynamodb:getitem", table)))
    client = session.client("dynamodb")
    assert "Item" not in client.get_item(**GET)
    assert refusal(client.get_item, **{**GET, "TableName": "other"})[0] == "AccessDeniedException"
    assert refusal(client.put_item, TableName="orders", Item={"k": {"S": "1"}})[0] == "AccessDeniedException"


def test_an_index_is_a_resource_of_its_own(account: Account) -> None:
    """A query on an index needs the index, not the table."""
    index = {
        "IndexName": "by-k",
        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    table = account.table(GlobalSecondaryIndexes=[index])
    session = account.admin.assume(account.role("app", allow("dynamodb:Query", table)))
    query = {
        "TableName": "orders",
        "KeyConditionExpression": "k = :k",
        "ExpressionAttributeValues": {":k": {"S": "1"}},
    }
    assert session.client("dynamodb").query(**query)["Count"] == 0
    _, message = refusal(session.client("dynamodb").query, IndexName="by-k", **query)
    assert f"on resource: {table}/index/by-k because" in message


def test_attached_policies_count_by_their_default_version(account: Account) -> None:
    """Choosing another default version changes what is allowed, at once."""
    table = account.table()
    iam = account.client("iam")
    role = account.role("app")
    policy = iam.create_policy(PolicyName="data", PolicyDocument=json.dumps(allow("dynamodb:GetItem", table)))
    arn = policy["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="app", PolicyArn=arn)
    client = account.admin.assume(role).client("dynamodb")
    client.get_item(**GET)
    nothing = json.dumps(allow("dynamodb:DescribeTable", table))
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=nothing, SetAsDefault=True)
    assert refusal(client.get_item, **GET)[0] == "AccessDeniedException"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    client.get_item(**GET)


def test_a_managed_policy_of_aws_is_there_when_it_is_named(account: Account) -> None:
    """AWS's own policies exist in every account."""
    role = account.role("app")
    arn = "arn:aws:iam::aws:policy/AmazonDynamoDBReadOnlyAccess"
    account.table()
    client = account.admin.assume(role).client("dynamodb")
    assert refusal(client.describe_table, TableName="orders")[0] == "AccessDeniedException"
    account.client("iam").attach_role_policy(RoleName="app", PolicyArn=arn)
    client.describe_table(TableName="orders")


def test_an_explicit_deny_beats_every_allow(account: Account) -> None:
    """In an identity policy, and in the table's own."""
    table = account.table()
    role = account.role("app", allow("dynamodb:*", "*"), document("Deny", "dynamodb:GetItem", table))
    client = account.admin.assume(role).client("dynamodb")
    assert "with an explicit deny in an identity-based policy" in refusal(client.get_item, **GET)[1]
    account.client("iam").delete_role_policy(RoleName="app", PolicyName="inline1")
    client.get_item(**GET)
    own = document("Deny", "dynamodb:GetItem", table, Principal={"AWS": role})
    account.client("dynamodb").put_resource_policy(ResourceArn=table, Policy=json.dumps(own))
    assert "with an explicit deny in a resource-based policy" in refusal(client.get_item, **GET)[1]
    account.client("dynamodb").delete_resource_policy(ResourceArn=table)
    client.get_item(**GET)


def test_a_tables_own_policy_may_allow_by_itself(account: Account) -> None:
    """Within an account one of the two is enough."""
    table = account.table()
    role = account.role("app")
    client = account.admin.assume(role).client("dynamodb")
    own = document("Allow", "dynamodb:GetItem", table, Principal={"AWS": role})
    account.client("dynamodb").put_resource_policy(ResourceArn=table, Policy=json.dumps(own))
    client.get_item(**GET)
    assert refusal(client.scan, TableName="orders")[0] == "AccessDeniedException"


@pytest.mark.parametrize("named", ["role", "session"])
def test_a_boundary_limits_all_but_what_names_the_session(account: Account, named: str) -> None:
    """A resource policy that names the role is limited by the boundary; one that names the session is not."""
    table = account.table()
    role = account.role("app", allow("dynamodb:*", "*"))
    client = account.admin.assume(role, "s1").client("dynamodb")
    client.get_item(**GET)
    iam = account.client("iam")
    bound = iam.create_policy(PolicyName="bound", PolicyDocument=json.dumps(allow("s3:*", "*")))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="app", PermissionsBoundary=bound)
    assert "because no permissions boundary allows the dynamodb:GetItem action" in refusal(client.get_item, **GET)[1]
    who = role if named == "role" else f"arn:aws:sts::{account.id}:assumed-role/app/s1"
    own = document("Allow", "dynamodb:GetItem", table, Principal={"AWS": who})
    account.client("dynamodb").put_resource_policy(ResourceArn=table, Policy=json.dumps(own))
    if named == "session":
        client.get_item(**GET)
    else:
        assert "permissions boundary" in refusal(client.get_item, **GET)[1]


def test_a_session_policy_limits_what_the_role_may(account: Account) -> None:
    """A session does only what both allow."""
    table = account.table()
    role = account.role("app", allow("dynamodb:*", "*"))
    client = account.admin.assume(role, policy=allow("dynamodb:GetItem", table)).client("dynamodb")
    client.get_item(**GET)
    assert "because no session policy allows the dynamodb:Scan" in refusal(client.scan, TableName="orders")[1]


def test_conditions_are_evaluated_or_refused_never_guessed(account: Account) -> None:
    """PrincipalArn is known; a source address is not."""
    table = account.table()
    iam, role = account.client("iam"), account.role("app")
    client = account.admin.assume(role).client("dynamodb")
    for arn, allowed in ((role, True), (f"{role}-other", False)):
        only = allow("dynamodb:*", table, Condition={"ArnLike": {"aws:PrincipalArn": arn}})
        iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=json.dumps(only))
        if allowed:
            client.get_item(**GET)
        else:
            assert refusal(client.get_item, **GET)[0] == "AccessDeniedException"
    odd = allow("dynamodb:*", table, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=json.dumps(odd))
    code, message = refusal(client.get_item, **GET)
    assert code == "PolicyNotEvaluable"
    assert "IpAddress" in message


def test_a_bucket_policy_decides_for_whom_it_names_only(account: Account) -> None:
    """A Deny for one role is none for another."""
    s3 = account.client("s3")
    bucket = f"data-{account.id}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    objects = f"arn:aws:s3:::{bucket}/*"
    first, second = account.role("first", allow("s3:GetObject", objects)), account.role("second")
    one, two = (account.admin.assume(role, "s1").client("s3") for role in (first, second))
    assert one.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"x"
    user = f"arn:aws:sts::{account.id}:assumed-role/second/s1"
    assert refusal(two.get_object, Bucket=bucket, Key="a/b") == (
        "AccessDenied",
        f'User: {user} is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::{bucket}/a/b" '
        "because no identity-based policy allows the s3:GetObject action",
    )
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Deny", "Principal": {"AWS": first}, "Action": "s3:*", "Resource": objects},
            {"Effect": "Allow", "Principal": {"AWS": second}, "Action": "s3:GetObject", "Resource": objects},
        ],
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    assert "resource-based policy" in refusal(one.get_object, Bucket=bucket, Key="a/b")[1]
    assert two.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"x"
    s3.delete_bucket_policy(Bucket=bucket)
    assert refusal(two.get_object, Bucket=bucket, Key="a/b")[0] == "AccessDenied"


def test_a_missing_object_looks_denied_without_listing(account: Account) -> None:
    """Who may not list does not learn that a key is absent."""
    bucket = f"data-{account.id}"
    account.client("s3").create_bucket(Bucket=bucket)
    read = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*")
    blind = account.admin.assume(account.role("blind", read)).client("s3")
    seeing = account.admin.assume(
        account.role("seeing", read, allow("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    ).client("s3")
    code, message = refusal(blind.get_object, Bucket=bucket, Key="absent")
    assert code == "AccessDenied"
    assert "s3:ListBucket" in message
    assert refusal(seeing.get_object, Bucket=bucket, Key="absent")[0] == "NoSuchKey"


@pytest.mark.parametrize("text", ["{not json", "[]", json.dumps({"Statement": [{"Effect": "Allow"}]})])
def test_a_bucket_policy_that_is_none_is_refused(account: Account, text: str) -> None:
    """S3 stores policies only."""
    account.client("s3").create_bucket(Bucket=f"data-{account.id}")
    refused = refusal(account.client("s3").put_bucket_policy, Bucket=f"data-{account.id}", Policy=text)
    assert refused[0] == "MalformedPolicy"


def test_a_customers_key_decides_on_what_it_encrypts(account: Account) -> None:
    """Reading an encrypted object or table needs kms:Decrypt, which the key's policy leaves to identity policies."""
    kms, s3 = account.client("kms"), account.client("s3")
    bucket = f"data-{account.id}"
    delegating = document("Allow", "kms:*", "*", Principal={"AWS": f"arn:aws:iam::{account.id}:root"})
    key = kms.create_key(Policy=json.dumps(delegating))["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="o", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
    table = account.table(SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key})
    role = account.role("app", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*"), allow("dynamodb:GetItem", table))
    session = account.admin.assume(role)
    reads = (
        (session.client("s3").get_object, {"Bucket": bucket, "Key": "o"}),
        (session.client("dynamodb").get_item, GET),
    )
    for call, arguments in reads:
        _, message = refusal(call, **arguments)
        assert "kms:Decrypt on resource" in message
        assert key in message
    iam = account.client("iam")
    iam.put_role_policy(RoleName="app", PolicyName="k", PolicyDocument=json.dumps(allow("kms:Decrypt", key)))
    for call, arguments in reads:
        call(**arguments)
    closed = document("Allow", "kms:*", "*", Principal={"AWS": f"arn:aws:iam::{account.id}:role/keeper"})
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(closed))
    for call, arguments in reads:
        assert "no resource-based policy allows the kms:Decrypt" in refusal(call, **arguments)[1]


def test_mail_is_sent_from_identities_one_may_use(account: Account) -> None:
    """SES checks the identity of the sender."""
    account.client("ses").verify_email_identity(EmailAddress="shop@example.com")
    mail = {
        "Source": "Shop <shop@example.com>",
        "Destination": {"ToAddresses": ["x@example.com"]},
        "Message": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}},
    }
    arn = f"arn:aws:ses:{REGION}:{account.id}:identity/shop@example.com"
    without = account.admin.assume(account.role("without")).client("ses")
    code, message = refusal(without.send_email, **mail)
    assert code == "AccessDenied"
    assert f"ses:SendEmail on resource: {arn}" in message or "identity/example.com" in message
    any_identity = f"arn:aws:ses:{REGION}:{account.id}:identity/*"
    account.admin.assume(account.role("with", allow("ses:SendEmail", any_identity))).client("ses").send_email(**mail)


def test_iam_lambda_and_lookups_are_gated_too(account: Account) -> None:
    """Every service, with the ARN the action is on."""
    role = account.role("app")
    session = account.admin.assume(role, "s1")
    assert "iam:GetRole on resource: role app because" in refusal(session.client("iam").get_role, RoleName="app")[1]
    arn = f"arn:aws:lambda:{REGION}:{account.id}:function:fn"
    message = refusal(session.client("lambda").invoke, FunctionName="fn", Qualifier="LIVE")[1]
    assert f"lambda:InvokeFunction on resource: {arn}:LIVE because" in message
    message = refusal(session.client("lambda").update_alias, FunctionName="fn", Name="LIVE")[1]
    assert f"lambda:UpdateAlias on resource: {arn} because" in message
    assert refusal(session.client("cloudtrail").lookup_events)[0] == "AccessDeniedException"
    message = refusal(session.client("logs").filter_log_events, logGroupName="/aws/lambda/fn")[1]
    assert "log-group:/aws/lambda/fn:log-stream:" in message


def test_a_session_from_before_an_instant_is_refused_and_a_newer_one_works(account: Account) -> None:
    """As a role's sessions are revoked: by when their credentials were issued. Without the policy all work again."""
    table, iam = account.table(), account.client("iam")
    role = account.role("app", allow("dynamodb:GetItem", table))
    older = account.admin.assume(role).client("dynamodb")
    issued = Clock().now() + timedelta(milliseconds=1)
    # AWS's instants of issue are exact; a policy's may be as well.
    cutoff = {"Condition": {"DateLessThan": {"aws:TokenIssueTime": issued.isoformat()}}}
    iam.put_role_policy(
        RoleName="app", PolicyName="revoke", PolicyDocument=json.dumps(document("Deny", "*", "*", **cutoff))
    )
    assert wait_until(lambda: Clock().now() > issued, seconds=5, every=0.01)
    code, message = refusal(older.get_item, **GET)
    assert code == "AccessDeniedException"
    assert message.endswith("with an explicit deny in an identity-based policy")
    assert account.admin.assume(role).client("dynamodb").get_item(**GET)["ResponseMetadata"]["HTTPStatusCode"] == 200
    iam.delete_role_policy(RoleName="app", PolicyName="revoke")
    assert older.get_item(**GET)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_user_s_key_has_no_instant_of_issue(account: Account) -> None:
    """A condition on it speaks of temporary credentials alone."""
    iam, table = account.client("iam"), account.table()
    iam.create_user(UserName="feed")
    cutoff = {"Condition": {"DateLessThan": {"aws:TokenIssueTime": "2999-01-01T00:00:00Z"}}}
    for name, policy in {
        "work": allow("dynamodb:GetItem", table),
        "revoke": document("Deny", "*", "*", **cutoff),
    }.items():
        iam.put_user_policy(UserName="feed", PolicyName=name, PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="feed")["AccessKey"]["AccessKeyId"]
    feed = Caller(url=account.admin.url, key=key).client("dynamodb")
    assert feed.get_item(**GET)["ResponseMetadata"]["HTTPStatusCode"] == 200
    everything = json.dumps(document("Deny", "*", "*"))
    iam.put_user_policy(UserName="feed", PolicyName="revoke", PolicyDocument=everything)
    assert refusal(feed.get_item, **GET)[0] == "AccessDeniedException"
