"""What tests ask of the simulator itself."""

import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from .conftest import Account, Caller, allow, start, stop, where, zipped

SOURCE = "import boto3\ndef handler(event, context):\n    boto3.client('s3').list_buckets()\n"


def test_the_journal_has_every_call_in_order(account: Account) -> None:
    """Who, what, with what, how it ended; and whether it could change anything."""
    role = account.role("app")
    session = account.admin.assume(role, "run-1")
    with pytest.raises(ClientError):
        session.client("iam").delete_role(RoleName="app")
    answered = account.client("iam").get_role(RoleName="app")["ResponseMetadata"]["RequestId"]
    calls = account.ask("journal")["calls"]
    assert calls.pop()["requestId"] == answered
    assert [(c["operation"], c["mutating"], c["outcome"]) for c in calls] == [
        ("CreateRole", True, "OK"),
        ("AssumeRole", False, "OK"),
        ("DeleteRole", True, "AccessDenied"),
    ]
    assert calls[2]["principal"] == f"arn:aws:sts::{account.id}:assumed-role/app/run-1"
    assert calls[2]["arguments"] == {"RoleName": "app"}
    later = account.ask("journal", after=str(calls[1]["sequence"]))["calls"]
    assert [c["operation"] for c in later] == ["DeleteRole", "GetRole"]
    since = calls[2]["at"].replace("+00:00", "Z")
    assert [c["operation"] for c in account.ask("journal", since=since)["calls"]] == ["DeleteRole", "GetRole"]


def test_the_journal_tells_what_a_change_replaced(account: Account) -> None:
    """CloudTrail does not; a test may want to know."""
    account.role("app", allow("s3:GetObject", "*"))
    account.client("iam").delete_role_policy(RoleName="app", PolicyName="inline0")
    last = account.ask("journal")["calls"][-1]
    assert last["before"]["inline"] == {"inline0": allow("s3:GetObject", "*")}
    assert last["after"]["inline"] == {}


def test_the_journal_holds_no_secret_and_marks_what_functions_do(account: Account) -> None:
    """Payloads, packages and variables are hidden; a function's own calls are told apart."""
    role = account.role("app", allow("s3:*", "*"))
    account.function(SOURCE, role, Environment={"Variables": {"PASSWORD": "hunter2"}})
    account.invoke(event={"card": "4111"})
    calls = account.ask("journal")["calls"]
    text = str(calls)
    assert "hunter2" not in text
    assert "4111" not in text
    made = [c for c in calls if c["byFunction"]]
    assert [c["operation"] for c in made] == ["ListBuckets"]
    assert made[0]["principal"].endswith(":assumed-role/app/fn")
    assert [c["mutating"] for c in calls if c["operation"] == "Invoke"] == [True]


def test_the_dump_is_the_same_for_the_same_state(account: Account) -> None:
    """Reads, invocations and a change that is taken back leave no trace in it."""
    role = account.role("app", allow("dynamodb:GetItem", "*"))
    account.table()
    account.function("def handler(event, context):\n    return 1\n", role)
    client = account.client("lambda")
    client.publish_version(FunctionName="fn")
    client.create_alias(FunctionName="fn", Name="LIVE", FunctionVersion="1")
    before = account.ask("dump")
    account.invoke()
    client.update_function_configuration(FunctionName="fn", Timeout=9)
    assert account.ask("dump") != before
    client.update_function_configuration(FunctionName="fn", Timeout=3)
    assert account.ask("dump") == before
    assert before["functions"]["us-east-1"]["fn"]["aliases"] == {"LIVE": {"version": "1", "routing": None}}
    assert before["roles"]["app"]["inline"] == {"inline0": allow("dynamodb:GetItem", "*")}
    client.update_function_code(FunctionName="fn", ZipFile=zipped("other = 1\n"))
    assert account.ask("dump") != before


def test_faults_happen_as_often_as_asked(account: Account) -> None:
    """Errors, throttling, answers that are none; then all is well again."""
    iam = account.client("iam")
    account.role("app")
    account.fault(service="iam", operation="GetRole", mode="error", times=2)
    for _ in range(2):
        with pytest.raises(ClientError, match="InternalFailure"):
            iam.get_role(RoleName="app")
    iam.get_role(RoleName="app")
    account.fault(service="iam", operation="get_role", mode="throttle")
    with pytest.raises(ClientError, match="Throttling"):
        iam.get_role(RoleName="app")
    account.fault(service="iam", mode="malformed")
    with pytest.raises(ResponseParserError):
        iam.get_role(RoleName="app")
    iam.get_role(RoleName="app")


def test_a_lost_answer_can_be_lost_before_or_after_the_effect(account: Account) -> None:
    """The caller can't tell; the state can."""
    iam = account.client("iam")
    for when, exists in (("before", False), ("after", True)):
        account.fault(service="iam", operation="CreateUser", mode="timeout", when=when, seconds=0.1)
        with pytest.raises(ConnectionClosedError):
            iam.create_user(UserName=when)
        names = [user["UserName"] for user in iam.list_users()["Users"]]
        assert (when in names) is exists


def test_an_error_says_what_it_is_told_to(account: Account) -> None:
    """So that tests see where the texts of AWS end up."""
    account.role("app")
    account.fault(service="iam", operation="GetRole", mode="error", message="see https://a:b@c")
    with pytest.raises(ClientError, match="see https://a:b@c"):
        account.client("iam").get_role(RoleName="app")


def test_a_timeout_keeps_the_caller_waiting(account: Account) -> None:
    """As long as was asked for, or until the caller gives up."""
    account.role("app")
    account.fault(service="iam", operation="GetRole", mode="timeout", seconds=5)
    impatient = boto3.session.Session(region_name="us-east-1").client(
        "iam",
        endpoint_url=account.admin.url,
        aws_access_key_id=account.admin.key,
        aws_secret_access_key="any",  # noqa: S106 signatures are not verified
        config=Config(read_timeout=0.3, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ReadTimeoutError):
        impatient.get_role(RoleName="app")


def test_bad_requests_say_what_is_there(url: str) -> None:
    """An unknown path and an unknown mode are told what is known."""
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{url}/_sim/nothing")  # noqa: S310 loopback
    assert b"/_sim/journal" in error.value.read()
    error.value.close()
    request = urllib.request.Request(f"{url}/_sim/fault", data=b'{"mode": "odd"}', method="POST")  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)  # noqa: S310 loopback
    assert b"mode must be one of" in error.value.read()
    error.value.close()


def test_latency_is_added_to_every_answer(account: Account) -> None:
    """A simulator as slow as the real one, for all callers alike."""
    process = start("--latency", "60ms")
    try:
        slow = Account(id=account.id, admin=Caller(url=where(process), key=account.admin.key))
        slow.client("sts").get_caller_identity()
        begun = time.monotonic()
        for _ in range(3):
            slow.client("sts").get_caller_identity()
        assert time.monotonic() - begun >= 0.18
        assert slow.ask("config")["latencySeconds"] == 0.06
        assert slow.ask("health") == {"status": "ok"}
    finally:
        assert stop(process) == 0
