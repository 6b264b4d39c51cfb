"""Who calls, and that nobody else does."""

import json
import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import ROOT, Account, Caller, allow, document


def code(error: Any) -> str:
    """Return an error's code."""
    return str(error.value.response["Error"]["Code"])


def test_every_account_has_its_admin(account: Account) -> None:
    """A key id with an account in it is that account's root."""
    assert account.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{account.id}:root"


@pytest.mark.parametrize(
    ("service", "call", "expected"),
    [
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("iam", "list_roles", "InvalidClientTokenId"),
        ("dynamodb", "list_tables", "UnrecognizedClientException"),
        ("lambda", "list_functions", "UnrecognizedClientException"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
    ],
)
def test_an_unknown_key_is_refused_as_each_service_does(url: str, service: str, call: str, expected: str) -> None:
    """Nobody is nobody."""
    nobody = Caller(url=url, key="AKIANOBODY0000000000")
    with pytest.raises(ClientError) as error:
        getattr(nobody.client(service), call)()
    assert code(error) == expected


def test_accounts_see_nothing_of_each_other(account: Account, url: str) -> None:
    """State belongs to the caller's account."""
    account.role("mine")
    account.table("mine")
    other = Account(id="999988887777", admin=Caller(url=url, key="SIMADMIN999988887777"))
    assert other.client("dynamodb").list_tables()["TableNames"] == []
    with pytest.raises(ClientError) as error:
        other.client("iam").get_role(RoleName="mine")
    assert code(error) == "NoSuchEntity"


def test_a_user_calls_with_an_access_key_until_it_is_inactive(account: Account) -> None:
    """IAM users' keys are real, and can be switched off."""
    iam = account.client("iam")
    iam.create_user(UserName="dave")
    key = iam.create_access_key(UserName="dave")["AccessKey"]["AccessKeyId"]
    dave = Caller(url=account.admin.url, key=key)
    assert dave.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{account.id}:user/dave"
    with pytest.raises(ClientError) as error:
        dave.client("iam").list_roles()
    assert code(error) == "AccessDenied"
    iam.put_user_policy(UserName="dave", PolicyName="p", PolicyDocument=json.dumps(allow("iam:List*", "*")))
    assert dave.client("iam").list_roles()["Roles"] == []
    iam.update_access_key(UserName="dave", AccessKeyId=key, Status="Inactive")
    with pytest.raises(ClientError) as error:
        dave.client("sts").get_caller_identity()
    assert code(error) == "InvalidClientTokenId"


def test_a_session_is_named_after_role_and_session_without_the_path(account: Account) -> None:
    """A role's path is in its ARN, and not in its sessions'."""
    arn = account.role("reader", path="/service-role/")
    assert arn == f"arn:aws:iam::{account.id}:role/service-role/reader"
    session = account.admin.assume(arn, "run-1")
    expected = f"arn:aws:sts::{account.id}:assumed-role/reader/run-1"
    assert session.client("sts").get_caller_identity()["Arn"] == expected


def test_a_role_is_assumed_only_by_whom_its_trust_policy_names(account: Account) -> None:
    """Allowed to assume is not enough: the role has to trust."""
    may_assume = account.role("caller", allow("sts:AssumeRole", "*"))
    trusting = account.role("trusting", trust={"AWS": may_assume})
    wary = account.role("wary", trust={"AWS": f"arn:aws:iam::{account.id}:role/somebody-else"})
    caller = account.admin.assume(may_assume)
    caller.assume(trusting)
    for refused in (wary, f"arn:aws:iam::{account.id}:role/absent"):
        with pytest.raises(ClientError) as error:
            caller.assume(refused)
        assert code(error) == "AccessDenied"
        assert f"is not authorized to perform: sts:AssumeRole on resource: {refused}" in str(error.value)


def test_trust_in_the_account_leaves_it_to_the_callers_policies(account: Account) -> None:
    """A role that trusts its account's root is assumed by those whose own policies allow it."""
    target = account.role("target")
    without = account.admin.assume(account.role("without"))
    with_it = account.admin.assume(account.role("with", allow("sts:AssumeRole", target)))
    with_it.assume(target)
    with pytest.raises(ClientError) as error:
        without.assume(target)
    assert code(error) == "AccessDenied"
    denied = account.role("denied", allow("sts:AssumeRole", "*"), document("Deny", "sts:AssumeRole", target))
    with pytest.raises(ClientError, match="with an explicit deny in an identity-based policy"):
        account.admin.assume(denied).assume(target)


def test_a_session_policy_is_checked_and_bounded(account: Account) -> None:
    """STS takes 2,048 characters of valid JSON."""
    arn = account.role("limited")
    with pytest.raises(ClientError) as error:
        account.admin.assume(arn, policy=allow("s3:GetObject", ["arn:aws:s3:::" + "x" * 60] * 40))
    assert code(error) in ("ValidationError", "PackedPolicyTooLarge")
    with pytest.raises(ClientError) as error:
        account.client("sts").assume_role(RoleArn=arn, RoleSessionName="x1", Policy="{not json")
    assert code(error) == "MalformedPolicyDocument"


def test_sessions_say_when_they_end(account: Account) -> None:
    """Expiration is as long as was asked for."""
    arn = account.role("short")
    made = account.client("sts").assume_role(RoleArn=arn, RoleSessionName="s1", DurationSeconds=900)["Credentials"]
    left = made["Expiration"] - datetime.now(made["Expiration"].tzinfo)  # noqa: TID251
    assert 850 < left.total_seconds() <= 900


def test_a_session_of_ones_own_outlives_the_key_and_ends_by_what_the_user_may(account: Account) -> None:
    """A key that is Inactive ends no session that was opened with it; a Deny to the user does, at once."""
    iam = account.client("iam")
    iam.create_user(UserName="erin")
    iam.put_user_policy(UserName="erin", PolicyName="p", PolicyDocument=json.dumps(allow("dynamodb:*", "*")))
    key = iam.create_access_key(UserName="erin")["AccessKey"]["AccessKeyId"]
    session = Caller(url=account.admin.url, key=key).own_session()
    arn = f"arn:aws:iam::{account.id}:user/erin"
    assert session.client("sts").get_caller_identity()["Arn"] == arn
    iam.update_access_key(UserName="erin", AccessKeyId=key, Status="Inactive")
    assert session.client("dynamodb").list_tables()["TableNames"] == []
    iam.put_user_policy(UserName="erin", PolicyName="q", PolicyDocument=json.dumps(document("Deny", "*", "*")))
    with pytest.raises(ClientError, match="with an explicit deny in an identity-based policy"):
        session.client("dynamodb").list_tables()
    iam.delete_user_policy(UserName="erin", PolicyName="q")
    assert session.client("dynamodb").list_tables()["TableNames"] == []
    # Only sessions that were opened before an instant, as AWS itself revokes them.
    older = document("Deny", "*", "*", Condition={"DateLessThan": {"aws:TokenIssueTime": "2100-01-01T00:00:00Z"}})
    iam.put_user_policy(UserName="erin", PolicyName="q", PolicyDocument=json.dumps(older))
    with pytest.raises(ClientError, match="explicit deny"):
        session.client("dynamodb").list_tables()
    iam.update_access_key(UserName="erin", AccessKeyId=key, Status="Active")
    assert Caller(url=account.admin.url, key=key).client("dynamodb").list_tables()["TableNames"] == []


@pytest.mark.parametrize(
    ("service", "call", "expected"),
    [
        ("iam", "list_users", "InvalidClientTokenId"),
        ("sts", "get_session_token", "AccessDenied"),
    ],
)
def test_a_session_of_ones_own_opens_no_other_and_does_not_call_iam(
    account: Account, service: str, call: str, expected: str
) -> None:
    """Not even the root's, without MFA."""
    session = account.admin.own_session()
    with pytest.raises(ClientError) as error:
        getattr(session.client(service), call)()
    assert code(error) == expected


def test_how_long_a_session_of_ones_own_may_last_is_bounded(account: Account) -> None:
    """As AWS bounds it; the client itself refuses what is too short."""
    with pytest.raises(ClientError) as error:
        account.client("sts").get_session_token(DurationSeconds=129_601)
    assert code(error) == "ValidationError"


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "localhost"])  # noqa: S104
def test_it_listens_on_loopback_only(host: str) -> None:
    """Any other address is refused with the reason."""
    made = subprocess.run(
        [sys.executable, "-m", "dev.aws", "--host", host], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    assert "loopback only" in made.stderr
