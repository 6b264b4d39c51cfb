"""Each fault breaks what customers feel, by who would do it, and healing leaves no trace in the state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev.shop import faults, policies
from dev.shop.seed import seed, versions
from dev.shop.shop import Shop, ShopError, load
from dev.shop.traffic import Traffic

Dump = Callable[[Shop], Any]
BREAKING = {
    "inc-2023-1247": "dynamodb:GetItem",
    "inc-2023-0892": "s3:GetObject",
    "lambda-explicit-deny": "explicit deny in a resource-based policy",
    "inc-2023-1456": "dynamodb:UpdateItem",
    "lambda-timeout": "Task timed out after 1.00 seconds",
    "lambda-bad-deploy": "KeyError: 'displayName'",
    "two-causes": "dynamodb:GetItem",
}


def greet(shop: Shop) -> Any:
    """Invoke as a customer does."""
    return shop.invoke({"userId": "u-1"})


def test_the_seeded_shop_greets(shop: Shop) -> None:
    """Customers are greeted; the document's test event sends no mail."""
    assert greet(shop).body == {"greeted": "u-1", "sent": True}
    assert shop.invoke({"test": "true"}).body == {"greeted": "u-test", "sent": False}


def test_seeding_twice_changes_nothing(a_shop: Callable[..., Shop], dump: Dump, tmp_path: Path) -> None:
    """Not the state, and not the keys that are known."""
    shop = a_shop()
    before = dump(shop)
    again = seed(load(tmp_path), tmp_path)
    assert dump(shop) == before
    assert again.keys == shop.keys
    (tmp_path / "shop.json").unlink()
    forgetful = seed(Shop(account=shop.account, endpoint=shop.endpoint), tmp_path)
    assert forgetful.keys["deployer"] != shop.keys["deployer"]
    assert greet(forgetful).ok


def test_the_operator_may_only_assume(shop: Shop) -> None:
    """Its own identity reads nothing; its two roles trust it."""
    client = shop.client("iam", "operator")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.get_role(RoleName=shop.role)
    for role in ("IncidentOperatorRead", "IncidentOperatorRemediation"):
        arn = f"arn:aws:iam::{shop.account}:role/{role}"
        assert shop.client("sts", "operator").assume_role(RoleArn=arn, RoleSessionName="run")["Credentials"]


@pytest.mark.parametrize("name", BREAKING)
def test_a_fault_breaks_and_heals(name: str, shop: Shop, dump: Dump) -> None:
    """Customers feel it, in the words of the ticket; afterwards everything is as seeded, and greets."""
    seeded, fault = dump(shop), faults.named(name)
    assert fault.break_(shop)
    answer = greet(shop)
    assert not answer.ok
    assert BREAKING[name] in answer.error
    broken = dump(shop)
    assert broken != seeded
    assert not fault.break_(shop)
    assert dump(shop) == broken
    fault.heal(shop)
    assert dump(shop) == seeded
    assert greet(shop).ok


def test_throttling_is_felt_by_overlapping_customers(shop: Shop, dump: Dump) -> None:
    """Two calls fit the reserve, three do not; twice the reserve holds all that ever come, and one more."""
    seeded, fault = dump(shop), faults.named("lambda-throttled")
    fault.break_(shop)
    refused = "ReservedFunctionConcurrentInvocationLimitExceeded"
    with Traffic(shop=shop, rate=20) as traffic:
        assert traffic.wait_for(lambda answer: answer.error == refused, seconds=60)
        assert traffic.wait_for(lambda answer: answer.ok, seconds=60)
        shop.client("lambda", "sre").put_function_concurrency(
            FunctionName=shop.function, ReservedConcurrentExecutions=4
        )
    with Traffic(shop=shop, rate=20) as traffic:
        assert all(traffic.wait_for(lambda answer: answer.ok, seconds=60) for _ in range(6))
        assert greet(shop).ok
    assert set(traffic.counts) == {"ok"}
    fault.heal(shop)
    assert dump(shop) == seeded


def test_a_slow_release_is_cured_by_twice_its_timeout(shop: Shop) -> None:
    """What the runbook's fix does by hand: on $LATEST, published, the alias moved."""
    faults.named("lambda-timeout").break_(shop)
    client, name = shop.client("lambda"), {"FunctionName": shop.function}
    client.update_function_configuration(**name, Timeout=2)
    client.update_alias(**name, Name=shop.alias, FunctionVersion=client.publish_version(**name)["Version"])
    assert greet(shop).ok


def test_heal_removes_what_a_fix_left(shop: Shop, dump: Dump) -> None:
    """Inline policies, policy versions, function versions, alias and limits that came after the seed."""
    seeded = dump(shop)
    iam, client, name = shop.client("iam"), shop.client("lambda"), {"FunctionName": shop.function}
    faults.named("two-causes").break_(shop)
    given = policies.text(policies.document(policies.allow("Given", ["s3:GetObject"], shop.objects_arn)))
    iam.put_role_policy(RoleName=shop.role, PolicyName="incident-operator-1", PolicyDocument=given)
    iam.set_default_policy_version(PolicyArn=shop.policy_arn, VersionId="v1")
    faults.named("lambda-timeout").break_(shop)
    client.update_function_configuration(**name, Timeout=2, MemorySize=512)
    client.update_alias(**name, Name=shop.alias, FunctionVersion=client.publish_version(**name)["Version"])
    client.put_function_concurrency(**name, ReservedConcurrentExecutions=20)
    faults.heal_all(shop)
    assert dump(shop) == seeded
    assert versions(shop) == [1, 2]


def test_each_fault_is_done_by_who_would_do_it(shop: Shop, journal: Callable[[Shop], list[dict[str, Any]]]) -> None:
    """CloudTrail can name them: nothing is broken by the account's root."""
    for name in ("two-causes", "lambda-bad-deploy", "lambda-throttled", "inc-2023-1456"):
        start = len(journal(shop))
        faults.named(name).break_(shop)
        actors = {c["principal"].rsplit(":", 1)[-1] for c in journal(shop)[start:] if c["mutating"]}
        by = {
            "two-causes": {"user/deployer", "user/sre"},
            "lambda-bad-deploy": {"user/deployer"},
            "lambda-throttled": {"user/deployer", "user/sre"},
            "inc-2023-1456": {"assumed-role/SecurityAudit/quarterly-audit"},
        }
        assert actors - {"root"} == by[name]
        faults.heal_all(shop)


def test_nothing_is_wrong_with_the_healthy_fault(shop: Shop, dump: Dump) -> None:
    """It exists so that a run which finds nothing has a name."""
    seeded = dump(shop)
    faults.named("lambda-healthy").break_(shop)
    assert dump(shop) == seeded


def test_an_unknown_fault_lists_the_known() -> None:
    """A name mistyped at 3 a.m. gets the names."""
    with pytest.raises(ShopError, match=r"no fault 'inc-1247'; there are: inc-2023-1247, .*lambda-healthy"):
        faults.named("inc-1247")


def test_names_and_paths_are_free(a_shop: Callable[..., Shop]) -> None:
    """Another function, a role with a path, another region."""
    other = a_shop(
        function="Mailer", alias="PROD", role="mailer", role_path="/service-role/", table="people",
        bucket="mail-templates", policy="BirthdayMailer", region="eu-west-1",
    )  # fmt: skip
    assert greet(other).ok
    faults.named("inc-2023-1247").break_(other)
    assert "table/people" in greet(other).error
    faults.named("inc-2023-1247").heal(other)
    assert greet(other).ok
