"""Versions, aliases, revisions and limits of Lambda functions."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Account, zipped

HANDLER = "def handler(event, context):\n    return {release!r}\n"


@pytest.fixture
def deployed(account: Account) -> Account:
    """An account with function `fn`, three published versions and alias LIVE on the newest."""
    account.function(HANDLER.format(release=1), account.role("app"))
    client = account.client("lambda")
    for release in (1, 2, 3):
        client.update_function_code(FunctionName="fn", ZipFile=zipped(HANDLER.format(release=release)))
        client.publish_version(FunctionName="fn")
    client.create_alias(FunctionName="fn", Name="LIVE", FunctionVersion="3")
    return account


def code(call: Any, **arguments: Any) -> tuple[str, int]:
    """Return error code and HTTP status of a call that must be refused."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    response = error.value.response
    return str(response["Error"]["Code"]), int(response["ResponseMetadata"]["HTTPStatusCode"])


def test_an_alias_moves_only_from_the_revision_that_was_seen(deployed: Account) -> None:
    """A stale RevisionId is refused, each change makes a new one."""
    client = deployed.client("lambda")
    seen = client.get_alias(FunctionName="fn", Name="LIVE")["RevisionId"]
    move = {"FunctionName": "fn", "Name": "LIVE"}
    moved = client.update_alias(**move, FunctionVersion="2", RevisionId=seen)
    assert moved["FunctionVersion"] == "2"
    assert moved["RevisionId"] != seen
    refused = code(client.update_alias, **move, FunctionVersion="1", RevisionId=seen)
    assert refused == ("PreconditionFailedException", 412)
    assert client.get_alias(FunctionName="fn", Name="LIVE")["FunctionVersion"] == "2"
    assert client.get_alias(FunctionName="fn", Name="LIVE")["RevisionId"] == moved["RevisionId"]


def test_an_update_that_fails_keeps_the_revision(deployed: Account) -> None:
    """An alias can't be moved to a version that does not exist, and nothing changes."""
    client = deployed.client("lambda")
    before = client.get_alias(FunctionName="fn", Name="LIVE")
    refused = code(client.update_alias, FunctionName="fn", Name="LIVE", FunctionVersion="9")
    assert refused == ("ResourceNotFoundException", 404)
    after = client.get_alias(FunctionName="fn", Name="LIVE")
    assert {k: after[k] for k in ("FunctionVersion", "RevisionId")} == {
        k: before[k] for k in ("FunctionVersion", "RevisionId")
    }


def test_configuration_code_and_publishing_check_the_revision(deployed: Account) -> None:
    """Whoever looked at an older function changes nothing."""
    client = deployed.client("lambda")
    stale = client.get_function_configuration(FunctionName="fn")["RevisionId"]
    fresh = client.update_function_configuration(FunctionName="fn", Timeout=7, RevisionId=stale)["RevisionId"]
    assert fresh != stale
    for call, more in (
        (client.update_function_configuration, {"Timeout": 9}),
        (client.update_function_code, {"ZipFile": zipped("x = 1")}),
        (client.publish_version, {}),
    ):
        assert code(call, FunctionName="fn", RevisionId=stale, **more) == ("PreconditionFailedException", 412)
    assert client.get_function_configuration(FunctionName="fn")["Timeout"] == 7
    assert client.publish_version(FunctionName="fn", RevisionId=fresh)["Version"] == "4"


def test_publishing_nothing_new_returns_the_existing_version(deployed: Account) -> None:
    """Lambda makes no version of what did not change, even after a change and its undoing."""
    client = deployed.client("lambda")
    assert client.publish_version(FunctionName="fn")["Version"] == "3"
    client.update_function_configuration(FunctionName="fn", Timeout=9)
    client.update_function_configuration(FunctionName="fn", Timeout=3)
    assert client.publish_version(FunctionName="fn")["Version"] == "3"
    client.update_function_configuration(FunctionName="fn", Timeout=9)
    made = client.publish_version(FunctionName="fn")
    assert (made["Version"], made["Timeout"]) == ("4", 9)
    assert client.get_function_configuration(FunctionName="fn", Qualifier="3")["Timeout"] == 3


def test_publishing_other_code_than_was_meant_is_refused(deployed: Account) -> None:
    """CodeSha256 guards publishing."""
    client = deployed.client("lambda")
    sha = client.get_function_configuration(FunctionName="fn", Qualifier="1")["CodeSha256"]
    refused = code(client.publish_version, FunctionName="fn", CodeSha256=sha)
    assert refused == ("InvalidParameterValueException", 400)


def test_a_deleted_versions_number_is_not_used_again(deployed: Account) -> None:
    """Version numbers only grow."""
    client = deployed.client("lambda")
    client.update_alias(FunctionName="fn", Name="LIVE", FunctionVersion="1")
    client.delete_function(FunctionName="fn", Qualifier="3")
    client.update_function_configuration(FunctionName="fn", Timeout=8)
    assert client.publish_version(FunctionName="fn")["Version"] == "4"


def test_sixty_versions_come_in_pages_of_fifty(account: Account) -> None:
    """Asking once is not enough; following the marker is."""
    client = account.client("lambda")
    account.function(HANDLER.format(release=1), account.role("app"))
    for timeout in range(4, 64):
        client.update_function_configuration(FunctionName="fn", Timeout=timeout)
        client.publish_version(FunctionName="fn")
    first = client.list_versions_by_function(FunctionName="fn")
    assert len(first["Versions"]) == 50
    assert first["Versions"][0]["Version"] == "$LATEST"
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName="fn")
    assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", *map(str, range(1, 61))]


def test_what_does_not_exist_is_not_found(deployed: Account) -> None:
    """Functions, versions, aliases."""
    client = deployed.client("lambda")
    missing = ("ResourceNotFoundException", 404)
    assert code(client.get_function_configuration, FunctionName="absent") == missing
    assert code(client.get_function_configuration, FunctionName="fn", Qualifier="9") == missing
    assert code(client.get_alias, FunctionName="fn", Name="absent") == missing
    assert code(client.list_versions_by_function, FunctionName="absent") == missing
    assert code(client.update_alias, FunctionName="fn", Name="absent", FunctionVersion="1") == missing


def test_a_function_is_known_by_name_and_by_arn(deployed: Account) -> None:
    """Both spellings, in every call the operator makes."""
    client = deployed.client("lambda")
    arn = client.get_function_configuration(FunctionName="fn")["FunctionArn"]
    assert client.get_function_configuration(FunctionName=arn)["FunctionName"] == "fn"
    assert client.get_alias(FunctionName=arn, Name="LIVE")["FunctionVersion"] == "3"
    assert len(client.list_versions_by_function(FunctionName=arn)["Versions"]) == 4
    moved = client.update_alias(FunctionName=arn, Name="LIVE", FunctionVersion="1")
    assert moved["FunctionVersion"] == "1"
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=arn)


def test_a_role_that_does_not_trust_lambda_is_refused(account: Account) -> None:
    """The role has to name the service."""
    role = account.role("wrong", trust={"AWS": f"arn:aws:iam::{account.id}:root"})
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        account.function("x = 1", role)


def test_limits_are_those_of_lambda(deployed: Account) -> None:
    """Timeout, memory, and the concurrency that must stay unreserved."""
    client = deployed.client("lambda")
    update = client.update_function_configuration
    assert code(update, FunctionName="fn", Timeout=901)[0] == "ValidationException"
    assert code(update, FunctionName="fn", MemorySize=20000)[0] == "ValidationException"
    reserve = client.put_function_concurrency
    refused = code(reserve, FunctionName="fn", ReservedConcurrentExecutions=901)
    assert refused == ("InvalidParameterValueException", 400)
    assert reserve(FunctionName="fn", ReservedConcurrentExecutions=900)["ReservedConcurrentExecutions"] == 900


def test_functions_of_two_regions_are_apart(deployed: Account) -> None:
    """A region sees its own."""
    elsewhere = deployed.client("lambda", "eu-west-1")
    assert elsewhere.list_functions()["Functions"] == []
