"""CloudTrail: who changed what, as AWS tells it, minutes late."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from incident_operator.actions.reads import READS

from .conftest import REGION, Account, Caller, allow, eventually


def events(account: Account, key: str, value: str, newest: str, region: str = REGION) -> list[dict[str, Any]]:
    """Return the events of one attribute, newest first, each with its body, once the newest has a name."""
    attributes = [{"AttributeKey": key, "AttributeValue": value}]

    def read() -> Any:
        found = account.client("cloudtrail", region).lookup_events(LookupAttributes=attributes)["Events"]
        return found if found and found[0]["EventName"] == newest else None

    found = eventually(read)
    assert found, f"{newest} does not become the newest event of {value}"
    return [{**e, "body": json.loads(e["CloudTrailEvent"])} for e in found]


def test_a_policys_new_version_names_who_made_it_and_which(account: Account) -> None:
    """The true actor, the document, and the version it became."""
    iam = account.client("iam")
    changer = account.admin.assume(account.role("auditor", allow("iam:*", "*")), "mallory")
    arn = iam.create_policy(PolicyName="data", PolicyDocument=json.dumps(allow("s3:*", "*")))["Policy"]["Arn"]
    text = json.dumps(allow("s3:GetObject", "*"))
    changer.client("iam").create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)
    found = events(account, "ResourceName", arn, "CreatePolicyVersion")[0]
    body = found["body"]
    assert body["eventName"] == found["EventName"] == "CreatePolicyVersion"
    assert body["userIdentity"]["arn"] == f"arn:aws:sts::{account.id}:assumed-role/auditor/mallory"
    assert found["Username"] == "mallory"
    assert body["eventSource"] == "iam.amazonaws.com"
    assert body["requestParameters"] == {"policyArn": arn, "policyDocument": text, "setAsDefault": True}
    assert body["responseElements"]["policyVersion"]["versionId"] == "v2"
    assert body["readOnly"] is False
    by_name = events(account, "ResourceName", "data", "CreatePolicyVersion")
    assert [e["EventName"] for e in by_name] == ["CreatePolicyVersion", "CreatePolicy"]


def test_a_buckets_policy_is_told_as_an_object(account: Account) -> None:
    """S3's events differ from those of others; deleting is an event too."""
    s3, bucket = account.client("s3"), f"data-{account.id}"
    s3.create_bucket(Bucket=bucket)
    # A new bucket blocks public access: the policy names somebody.
    policy = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*", Principal={"AWS": f"arn:aws:iam::{account.id}:root"})
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    s3.put_object(Bucket=bucket, Key="data", Body=b"no event")
    s3.delete_bucket_policy(Bucket=bucket)
    _, put, created = events(account, "ResourceName", bucket, "DeleteBucketPolicy")
    assert created["EventName"] == "CreateBucket"
    assert put["body"]["requestParameters"] == {"bucketName": bucket, "bucketPolicy": policy}


def test_a_tables_policy_and_a_roles_are_found_by_what_they_are_on(account: Account) -> None:
    """By ARN for the table, by name for the role."""
    table = account.table()
    role = account.role("app")
    own = allow("dynamodb:GetItem", table, Principal={"AWS": role})
    account.client("dynamodb").put_resource_policy(ResourceArn=table, Policy=json.dumps(own))
    account.client("iam").put_role_policy(
        RoleName="app", PolicyName="p", PolicyDocument=json.dumps(allow("s3:GetObject", "*"))
    )
    put = events(account, "ResourceName", table, "PutResourcePolicy")[0]
    assert json.loads(put["body"]["requestParameters"]["policy"]) == own
    by_name = events(account, "ResourceName", "app", "PutRolePolicy")[0]
    assert by_name["body"]["requestParameters"]["policyName"] == "p"
    assert events(account, "ResourceName", role, "PutRolePolicy")[0]["EventId"] == by_name["EventId"]


def test_lambdas_events_carry_its_api_version_and_stay_in_their_region(account: Account) -> None:
    """A function's events are where the function is; IAM's are in us-east-1."""
    elsewhere = account.client("lambda", "eu-west-1")
    elsewhere.create_function(
        FunctionName="fn", Role=account.role("app"), Handler="a.b", Runtime="python3.11", Code={"ZipFile": b"PK"}
    )
    elsewhere.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=5)
    found = events(account, "ResourceName", "fn", "PutFunctionConcurrency20171031", "eu-west-1")
    assert found[0]["body"]["requestParameters"]["reservedConcurrentExecutions"] == 5
    assert found[1]["EventName"] == "CreateFunction20150331"
    assert "hidden" in found[1]["body"]["requestParameters"]["code"]["zipFile"]
    assert events(account, "EventName", "CreateRole", "CreateRole")[0]["body"]["awsRegion"] == "us-east-1"
    anything = account.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": "fn"}]
    )
    assert anything["Events"] == []


def test_attempts_that_were_refused_are_told_with_their_error(account: Account) -> None:
    """A denied change is an event with an errorCode."""
    session = account.admin.assume(account.role("app"), "s1")
    with pytest.raises(ClientError):
        session.client("iam").delete_role(RoleName="app")
    found = events(account, "EventName", "DeleteRole", "DeleteRole")[0]["body"]
    assert found["errorCode"] == "AccessDenied"
    assert found["responseElements"] is None


def test_reads_and_data_are_no_events(account: Account) -> None:
    """Management events of changes only."""
    account.table()
    account.client("dynamodb").put_item(TableName="orders", Item={"k": {"S": "1"}})
    account.client("dynamodb").describe_table(TableName="orders")
    account.client("dynamodb").delete_table(TableName="orders")
    found = events(account, "ResourceName", "orders", "DeleteTable")
    assert [e["EventName"] for e in found] == ["DeleteTable", "CreateTable"]


def test_events_come_in_pages_and_within_times(account: Account) -> None:
    """Fifty at a time; StartTime and EndTime are honoured; only one attribute, of those known."""
    for index in range(60):
        account.client("iam").create_user(UserName=f"user{index}")
    pages = account.client("cloudtrail").get_paginator("lookup_events")
    by_name = [{"AttributeKey": "EventName", "AttributeValue": "CreateUser"}]

    def sizes() -> list[int]:
        return [len(page["Events"]) for page in pages.paginate(LookupAttributes=by_name)]

    assert eventually(lambda: sizes() == [50, 10])
    first = events(account, "EventName", "CreateUser", "CreateUser")[0]["EventTime"]
    client = account.client("cloudtrail")
    assert client.lookup_events(LookupAttributes=by_name, StartTime=first)["Events"]
    assert client.lookup_events(LookupAttributes=by_name, EndTime=first.replace(year=2020))["Events"] == []
    with pytest.raises(ClientError):
        client.lookup_events(LookupAttributes=[{"AttributeKey": "ResourceType", "AttributeValue": "x"}])


def test_users_reads_are_told_and_from_where_they_called(account: Account) -> None:
    """By the key that was used; neither what the key did to items, nor the reads of roles and of root."""
    iam, table = account.client("iam"), account.table()
    iam.create_user(UserName="partner")
    may = json.dumps(allow(["dynamodb:DescribeTable", "dynamodb:Scan"], table))
    iam.put_user_policy(UserName="partner", PolicyName="p", PolicyDocument=may)
    key = iam.create_access_key(UserName="partner")["AccessKey"]["AccessKeyId"]
    partner = Caller(url=account.admin.url, key=key).client("dynamodb")
    partner.meta.events.register(
        "before-send", lambda request, **_: request.headers.update({"X-Sim-Source-Address": "203.0.113.7"})
    )
    partner.scan(TableName="orders")
    partner.describe_table(TableName="orders")
    account.client("dynamodb").describe_table(TableName="orders")
    (read,) = events(account, "AccessKeyId", key, "DescribeTable")
    assert (read["ReadOnly"], read["body"]["readOnly"]) == ("true", True)
    assert read["body"]["sourceIPAddress"] == "203.0.113.7"
    assert read["body"]["userIdentity"]["userName"] == "partner"


def test_an_inactive_key_is_nobodys(account: Account) -> None:
    """Its calls are refused, and again answered once it is active."""
    iam = account.client("iam")
    iam.create_user(UserName="partner")
    iam.put_user_policy(UserName="partner", PolicyName="p", PolicyDocument=json.dumps(allow("iam:GetUser", "*")))
    key = iam.create_access_key(UserName="partner")["AccessKey"]["AccessKeyId"]
    caller = Caller(url=account.admin.url, key=key).client("iam")
    assert caller.get_user(UserName="partner")["User"]["UserName"] == "partner"
    iam.update_access_key(UserName="partner", AccessKeyId=key, Status="Inactive")
    with pytest.raises(ClientError) as error:
        caller.get_user(UserName="partner")
    assert error.value.response["Error"]["Code"] == "InvalidClientTokenId"
    iam.update_access_key(UserName="partner", AccessKeyId=key, Status="Active")
    assert caller.get_user(UserName="partner")["User"]["UserName"] == "partner"


def test_a_db_instance_s_changes_are_found_by_its_name_and_by_its_arn(account: Account) -> None:
    """What was asked for is told, also of a replica by its source's name; a password never is."""
    rds = account.client("rds")
    engine = {"DBInstanceClass": "db.r5.large", "Engine": "postgres", "AllocatedStorage": 20}
    login = {"MasterUsername": "postgres", "MasterUserPassword": "not-to-be-told"}
    rds.create_db_instance(DBInstanceIdentifier="shop", MultiAZ=True, **engine, **login)
    rds.create_db_instance_read_replica(DBInstanceIdentifier="copy", SourceDBInstanceIdentifier="shop")
    rds.modify_db_instance(DBInstanceIdentifier="shop", DBInstanceClass="db.r5.2xlarge", ApplyImmediately=False)
    changed, copied, created = events(account, "ResourceName", "shop", "ModifyDBInstance")
    assert (copied["EventName"], created["EventName"]) == ("CreateDBInstanceReadReplica", "CreateDBInstance")
    assert {"ResourceType": "AWS::RDS::DBInstance", "ResourceName": "shop"} in changed["Resources"]
    told = [e["parameters"] for e in READS["cloudtrail", "lookup_events"].project({"Events": [changed, copied]})]
    assert told == [
        {"dBInstanceIdentifier": "shop", "dBInstanceClass": "db.r5.2xlarge", "applyImmediately": False},
        {"dBInstanceIdentifier": "copy", "sourceDBInstanceIdentifier": "shop"},
    ]
    arn = f"arn:aws:rds:{REGION}:{account.id}:db:shop"
    assert events(account, "ResourceName", arn, "ModifyDBInstance")[-1]["EventName"] == "CreateDBInstance"
    assert "not-to-be-told" not in str([changed, copied, created])


def test_a_replication_group_s_changes_are_found_by_its_name(account: Account) -> None:
    """Also one that was refused: somebody tried."""
    with pytest.raises(ClientError):
        account.client("elasticache").test_failover(ReplicationGroupId="carts", NodeGroupId="0001")
    (tried,) = events(account, "ResourceName", "carts", "TestFailover")
    assert tried["body"]["errorCode"] == "ReplicationGroupNotFoundFault"
