"""API Gateway: who has a key is answered and counted, until the key is disabled; the access log tells who it was."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.processes import wait_until
from dev.shop import seed as birthday
from dev.shop.partners import api
from dev.shop.shop import Shop
from incident_operator.adapters.clock import Clock

from .conftest import Account


@pytest.fixture
def shop(account: Account, tmp_path: Path) -> Shop:
    """Return an account with the partners' API, and no more of the shop than its table."""
    found = Shop(account=account.id, endpoint=account.admin.url)
    birthday.storage(found)
    return api.seed(found, tmp_path)


def used(shop: Shop, who: str) -> list[list[int]]:
    """Return what was counted of a key yesterday and today, and what its quota leaves of each."""
    client, key = shop.client("apigateway"), shop.keys[who].access_key_id
    (plan,) = client.get_usage_plans(keyId=key)["items"]
    days = {"startDate": f"{Clock().now() - timedelta(days=1):%Y-%m-%d}", "endDate": f"{Clock().now():%Y-%m-%d}"}
    return list(client.get_usage(usagePlanId=plan["id"], keyId=key, **days)["items"][key])


def change(shop: Shop, who: str, path: str, value: str) -> Any:
    """Change a key."""
    operations = [{"op": "replace", "path": path, "value": value}]
    return shop.client("apigateway").update_api_key(apiKey=shop.keys[who].access_key_id, patchOperations=operations)


def test_a_disabled_key_is_refused_and_another_is_served(shop: Shop) -> None:
    """And once it is enabled again, it is served as before."""
    feed, market = api.Caller(shop=shop, who=api.FEED), api.Caller(shop=shop, who=api.MARKET)
    status, answer = feed.once()
    assert (status, answer["Count"]) == (200, len(birthday.USERS))
    change(shop, api.FEED, "/enabled", "false")
    assert feed.once() == (403, {"message": "Forbidden"})
    assert market.once()[0] == 200
    change(shop, api.FEED, "/enabled", "true")
    assert feed.once()[0] == 200
    # What was refused was not counted.
    assert [sum(n for n, _ in used(shop, who)) for who in (api.FEED, api.MARKET)] == [2, 1]


def test_the_access_log_says_who_asked_from_where(shop: Shop) -> None:
    """A key that is not known has no id, and is refused."""
    api.Caller(shop=shop, who=api.FEED, address="203.0.113.7").once()
    stranger = shop.with_keys({api.FEED: api.Key(access_key_id="x", secret_access_key="y" * 30)})
    assert api.Caller(shop=stranger, who=api.FEED).once()[0] == 403
    logs = shop.client("logs")

    def lines() -> list[dict[str, Any]]:
        found = logs.filter_log_events(logGroupName=api.LOG_GROUP)["events"]
        return [json.loads(event["message"]) for event in found]

    assert wait_until(lambda: len(lines()) == 2, seconds=30, every=0.1)
    first, second = sorted(lines(), key=lambda line: line["time"])
    assert (first["ip"], first["apiKeyId"]) == ("203.0.113.7", shop.keys[api.FEED].access_key_id)
    assert (first["path"], first["status"]) == ("/customers", "200")
    assert (second["apiKeyId"], second["status"]) == ("-", "403")


def test_a_plan_s_quota_and_throttle_refuse(shop: Shop) -> None:
    """Too many a week, and too many at once."""
    client = shop.client("apigateway")
    (plan,) = client.get_usage_plans()["items"]
    feed, market = api.Caller(shop=shop, who=api.FEED), api.Caller(shop=shop, who=api.MARKET)

    def limit(**settings: str) -> None:
        changes = [
            {"op": "replace", "path": path.replace("_", "/"), "value": value} for path, value in settings.items()
        ]
        client.update_usage_plan(usagePlanId=plan["id"], patchOperations=changes)

    limit(_quota_limit="2", _quota_period="WEEK")
    assert [feed.once()[0] for _ in range(3)] == [200, 200, 429]
    assert feed.once()[1] == {"message": "Limit Exceeded"}
    assert sum(n for n, _ in used(shop, api.FEED)) == 2
    # Nothing is given back before the test is long over: the second is one too many, however slow the machine.
    client.update_usage_plan(usagePlanId=plan["id"], patchOperations=[{"op": "remove", "path": "/quota"}])
    limit(_throttle_rateLimit="0", _throttle_burstLimit="1")
    assert market.once()[0] == 200
    assert market.once() == (429, {"message": "Too Many Requests"})


def test_a_key_s_value_is_told_only_to_who_asks_and_a_wrong_change_is_refused(shop: Shop) -> None:
    """Moto takes any path and any value for false."""
    client = shop.client("apigateway")
    assert "value" not in client.get_api_key(apiKey=shop.keys[api.FEED].access_key_id)
    for path, value in (("/enabled", "no"), ("/value", "false")):
        with pytest.raises(ClientError, match="BadRequestException"):
            change(shop, api.FEED, path, value)
    with pytest.raises(ClientError, match="NotFoundException"):
        client.get_usage(usagePlanId="none", startDate="2026-01-01", endDate="2026-01-02")


def test_seeding_again_changes_nothing(shop: Shop, tmp_path: Path) -> None:
    """Each part looks first."""
    assert api.seed(shop, tmp_path).keys == shop.keys
