"""Deployed code really runs: under its role, within its limits."""

import base64
import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Account, allow, eventually, zipped

READS = """
import boto3
table = boto3.client("dynamodb")
def handler(event, context):
    return table.get_item(TableName="orders", Key={"k": {"S": "1"}}).get("Item")
"""
SLEEPS = """
import time
def handler(event, context):
    time.sleep(event)
    return "done"
"""
TELLS = """
import os
calls = 0
def handler(event, context):
    global calls
    calls += 1
    return {
        "pid": os.getpid(),
        "calls": calls,
        "version": context.function_version,
        "region": os.environ["AWS_REGION"],
        "arn": context.invoked_function_arn,
        "env": os.environ.get("STAGE"),
        "left": context.get_remaining_time_in_millis(),
    }
"""


def test_a_function_does_what_its_role_may(account: Account) -> None:
    """The incident, end to end: denied, then allowed, by nothing but the role's policy."""
    table = account.table()
    account.client("dynamodb").put_item(TableName="orders", Item={"k": {"S": "1"}})
    account.function(READS, account.role("app"), name="reader")
    error, payload = account.invoke("reader")
    user = f"arn:aws:sts::{account.id}:assumed-role/app/reader"
    assert error == "Unhandled"
    assert payload["errorType"] == "ClientError"
    assert payload["errorMessage"] == (
        "An error occurred (AccessDeniedException) when calling the GetItem operation: "
        f"User: {user} is not authorized to perform: dynamodb:GetItem on resource: {table} "
        "because no identity-based policy allows the dynamodb:GetItem action"
    )
    account.client("iam").put_role_policy(
        RoleName="app", PolicyName="p", PolicyDocument=json.dumps(allow("dynamodb:GetItem", table))
    )
    assert account.invoke("reader") == (None, {"k": {"S": "1"}})


def test_the_process_is_kept_warm_until_the_function_changes(account: Account) -> None:
    """The second invocation finds what the first left; new code or configuration starts afresh."""
    account.function(TELLS, account.role("app"))
    first, second = account.invoke()[1], account.invoke()[1]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"]
    client = account.client("lambda")
    client.update_function_configuration(FunctionName="fn", Environment={"Variables": {"STAGE": "prod"}})
    third = account.invoke()[1]
    assert (third["calls"], third["env"]) == (1, "prod")
    client.update_function_code(FunctionName="fn", ZipFile=zipped("def handler(event, context):\n    return 'new'\n"))
    assert account.invoke() == (None, "new")


def test_a_qualifier_chooses_what_runs(account: Account) -> None:
    """Version, alias, alias with weights, `$LATEST`; and nothing else."""
    source = "def handler(event, context):\n    return {0!r}\n"
    account.function(source.format("one"), account.role("app"))
    client = account.client("lambda")
    client.publish_version(FunctionName="fn")
    client.update_function_code(FunctionName="fn", ZipFile=zipped(source.format("two")))
    client.publish_version(FunctionName="fn")
    client.update_function_code(FunctionName="fn", ZipFile=zipped(source.format("latest")))
    client.create_alias(FunctionName="fn", Name="LIVE", FunctionVersion="1")
    assert account.invoke()[1] == "latest"
    assert account.invoke(Qualifier="$LATEST")[1] == "latest"
    assert account.invoke(Qualifier="2")[1] == "two"
    assert account.invoke(Qualifier="LIVE")[1] == "one"
    assert account.invoke("fn:LIVE")[1] == "one"
    half = {"AdditionalVersionWeights": {"2": 0.5}}
    client.update_alias(FunctionName="fn", Name="LIVE", RoutingConfig=half)
    assert {account.invoke(Qualifier="LIVE")[1] for _ in range(40)} == {"one", "two"}
    for missing in ({"FunctionName": "absent"}, {"FunctionName": "fn", "Qualifier": "BETA"}):
        with pytest.raises(ClientError) as error:
            client.invoke(**missing)
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_the_handler_is_told_where_it_runs(account: Account) -> None:
    """Context and environment are Lambda's, in the function's own region."""
    role = account.role("app")
    elsewhere = account.client("lambda", "eu-west-1")
    elsewhere.create_function(
        FunctionName="fn", Role=role, Handler="app.handler", Runtime="python3.11", Code={"ZipFile": zipped(TELLS)}
    )
    told = json.loads(elsewhere.invoke(FunctionName="fn")["Payload"].read())
    assert told["region"] == "eu-west-1"
    assert told["version"] == "$LATEST"
    assert told["arn"] == f"arn:aws:lambda:eu-west-1:{account.id}:function:fn"
    assert 0 < told["left"] <= 3000


def test_a_function_is_killed_when_its_time_is_up(account: Account) -> None:
    """The timeout is enforced, and the next invocation runs in a fresh process."""
    account.function(SLEEPS, account.role("app"), Timeout=1)
    error, payload = account.invoke(event=20)
    assert error == "Unhandled"
    assert payload["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in payload["errorMessage"]
    assert account.invoke(event=0) == (None, "done")


def test_a_function_is_killed_when_it_takes_more_memory_than_it_has(account: Account) -> None:
    """Memory is a limit: what needs more dies, and lives with more."""
    hungry = "def handler(event, context):\n    return len(bytearray(200 * 1024 * 1024))\n"
    account.function(hungry, account.role("app"))
    made = account.client("lambda").invoke(FunctionName="fn", LogType="Tail")
    assert "signal: killed" in json.loads(made["Payload"].read())["errorMessage"]
    assert "Memory Size: 128 MB\tMax Memory Used: 128 MB" in base64.b64decode(made["LogResult"]).decode()
    account.client("lambda").update_function_configuration(FunctionName="fn", MemorySize=512)
    assert account.invoke() == (None, 200 * 1024 * 1024)


def test_code_that_can_not_be_loaded_says_so(account: Account) -> None:
    """A bad deployment is an error of each invocation."""
    role = account.role("app")
    account.function("import absent_module\n", role, name="imports")
    account.function("x = 1\n", role, name="handlerless")
    account.function("raise RuntimeError('broken at import')\n", role, name="raises")
    assert account.invoke("imports")[1]["errorType"] == "Runtime.ImportModuleError"
    assert account.invoke("handlerless")[1]["errorType"] == "Runtime.HandlerNotFound"
    assert account.invoke("raises")[1]["errorMessage"] == "broken at import"


def together(account: Account, count: int, event: Any) -> list[str]:
    """Invoke at the same time; return per invocation `done` or the error code."""
    client, found = account.client("lambda"), []

    def one() -> None:
        try:
            made = client.invoke(FunctionName="fn", Payload=json.dumps(event))
            found.append(json.loads(made["Payload"].read()))
        except ClientError as error:
            found.append(error.response["Error"]["Code"] + "/" + str(error.response.get("Reason")))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def test_reserved_concurrency_is_enforced(account: Account) -> None:
    """No more at once than reserved; none at all when it is zero; as many as wanted without."""
    account.function(SLEEPS, account.role("app"))
    client = account.client("lambda")
    throttled = "TooManyRequestsException/ReservedFunctionConcurrentInvocationLimitExceeded"
    client.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=1)
    assert together(account, 2, 0.5) == [throttled, "done"]
    client.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=0)
    assert together(account, 1, 0) == [throttled]
    with pytest.raises(ClientError) as error:
        client.invoke(FunctionName="fn")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    client.delete_function_concurrency(FunctionName="fn")
    assert together(account, 3, 0.2) == ["done"] * 3


def test_other_calls_are_answered_while_a_function_runs(account: Account) -> None:
    """A running function holds nobody up."""
    account.function(SLEEPS, account.role("app"), Timeout=10)
    thread = threading.Thread(target=lambda: account.invoke(event=1.5))
    thread.start()
    calls = 0
    while thread.is_alive():
        account.client("iam").get_role(RoleName="app")
        calls += 1
    assert calls > 2, "each waited for the function"


def test_dry_run_and_event_answer_at_once(account: Account) -> None:
    """A dry run runs nothing; an event runs later."""
    bucket = f"made-{account.id}"
    source = f"import boto3\ndef handler(event, context):\n    boto3.client('s3').create_bucket(Bucket={bucket!r})\n"
    account.function(source, account.role("app", allow("s3:CreateBucket", "*")))
    client = account.client("lambda")
    assert client.invoke(FunctionName="fn", InvocationType="DryRun")["StatusCode"] == 204
    assert account.client("s3").list_buckets()["Buckets"] == []
    assert client.invoke(FunctionName="fn", InvocationType="Event")["StatusCode"] == 202
    assert eventually(lambda: account.client("s3").list_buckets()["Buckets"])


def test_variables_under_a_customers_key_need_the_role_to_decrypt(account: Account) -> None:
    """Without kms:Decrypt the function does not start, as in Lambda."""
    key = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    more: dict[str, Any] = {"KMSKeyArn": key, "Environment": {"Variables": {"STAGE": "prod"}}}
    account.function(TELLS, account.role("app"), **more)
    with pytest.raises(ClientError) as error:
        account.client("lambda").invoke(FunctionName="fn")
    assert error.value.response["Error"]["Code"] == "KMSAccessDeniedException"
    account.client("iam").put_role_policy(
        RoleName="app", PolicyName="k", PolicyDocument=json.dumps(allow("kms:Decrypt", key))
    )
    assert account.invoke()[1]["env"] == "prod"
