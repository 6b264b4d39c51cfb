"""The partners' API: customers, for whoever has a key. Each part looks first and writes only what differs."""

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import policies
from ..policies import allow, document
from ..seed import make_role
from ..shop import Key, Shop

#: The API, its one resource and stage, and where its access log is.
API, RESOURCE, STAGE = "partner-api", "customers", "prod"
LOG_GROUP = "/aws/apigateway/partner-api"
PLAN = "partners"
#: Two partners' keys: one leaks, the other must not feel what is done about it. The shop keeps them by these names.
FEED, MARKET = "partner-feed-api", "partner-market-api"
#: From where partners call.
ADDRESSES = {FEED: "198.51.100.20", MARKET: "198.51.100.30"}
ROLE = "partner-api"
_LOGGED = {
    "requestId": "requestId",
    "ip": "identity.sourceIp",
    "apiKeyId": "identity.apiKeyId",
    "time": "requestTimeEpoch",
    "method": "httpMethod",
    "path": "resourcePath",
    "status": "status",
}


def seed(shop: Shop, state_dir: Path) -> Shop:
    """Make all that is not there beside a seeded shop, write `shop.json`, return the shop with the partners' keys."""
    reading = document(allow("Customers", ["dynamodb:Scan"], shop.table_arn))
    make_role(shop, ROLE, policies.trust(service="apigateway.amazonaws.com"), reading)
    name = _api(shop)
    plan = _plan(shop, name)
    seeded = shop.with_keys({who: _key(shop, who, plan) for who in (FEED, MARKET)})
    seeded.save(state_dir)
    return seeded


def api_id(shop: Shop) -> str:
    """Return the API's id; empty where there is none."""
    apis = shop.client("apigateway").get_rest_apis()["items"]
    return next((str(api["id"]) for api in apis if api["name"] == API), "")


def scraped_at(shop: Shop, address: str, since: datetime) -> list[datetime]:
    """Return when an address asked, as far as the access log shows it by now, oldest first."""
    found = shop.client("logs").filter_log_events(
        logGroupName=LOG_GROUP, filterPattern=f'"{address}"', startTime=int(since.timestamp() * 1000)
    )["events"]
    return sorted(datetime.fromtimestamp(event["timestamp"] / 1000, UTC) for event in found)


def key_enabled(shop: Shop) -> None:
    """The feed's key, enabled."""
    client, key = shop.client("apigateway"), shop.keys[FEED].access_key_id
    if not client.get_api_key(apiKey=key)["enabled"]:
        change = {"op": "replace", "path": "/enabled", "value": "true"}
        client.update_api_key(apiKey=key, patchOperations=[change])


def _api(shop: Shop) -> str:
    found = api_id(shop)
    if found:
        return found
    client = shop.client("apigateway")
    name: str = client.create_rest_api(name=API)["id"]
    (root,) = client.get_resources(restApiId=name)["items"]
    resource = client.create_resource(restApiId=name, parentId=root["id"], pathPart=RESOURCE)["id"]
    where = {"restApiId": name, "resourceId": resource, "httpMethod": "GET"}
    client.put_method(**where, authorizationType="NONE", apiKeyRequired=True)
    client.put_integration(
        **where,
        type="AWS",
        integrationHttpMethod="POST",
        uri=f"arn:aws:apigateway:{shop.region}:dynamodb:action/Scan",
        credentials=f"arn:aws:iam::{shop.account}:role/{ROLE}",
        requestTemplates={"application/json": json.dumps({"TableName": shop.table})},
    )
    client.create_deployment(restApiId=name, stageName=STAGE)
    group = f"arn:aws:logs:{shop.region}:{shop.account}:log-group:{LOG_GROUP}"
    shop.client("logs").create_log_group(logGroupName=LOG_GROUP)
    line = json.dumps({member: f"$context.{variable}" for member, variable in _LOGGED.items()})
    changes = {"destinationArn": group, "format": line}
    client.update_stage(
        restApiId=name,
        stageName=STAGE,
        patchOperations=[
            {"op": "replace", "path": f"/accessLogSettings/{setting}", "value": value}
            for setting, value in changes.items()
        ],
    )
    return name


def _plan(shop: Shop, api: str) -> str:
    client = shop.client("apigateway")
    plans = client.get_usage_plans()["items"]
    found = next((str(plan["id"]) for plan in plans if plan["name"] == PLAN), None)
    stages = [{"apiId": api, "stage": STAGE}]
    return found or str(client.create_usage_plan(name=PLAN, apiStages=stages)["id"])


def _key(shop: Shop, who: str, plan: str) -> Key:
    """Return a partner's key: its id, and its value as the secret."""
    client = shop.client("apigateway")
    known = next(iter(client.get_api_keys(nameQuery=who, includeValues=True)["items"]), None)
    if known is None:
        known = client.create_api_key(name=who, enabled=True)
        client.create_usage_plan_key(usagePlanId=plan, keyId=known["id"], keyType="API_KEY")
    return Key(access_key_id=known["id"], secret_access_key=known["value"])


@dataclass(kw_only=True)
class Caller:
    """A steady stream of requests with one partner's key. Shape: `counts` by HTTP status."""

    shop: Shop
    who: str
    #: From where; the partner's own address if not said.
    address: str = ""
    rate: float = 4
    counts: Counter[int] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Caller":
        """Start."""
        self._thread = threading.Thread(target=self._call, name=self.who, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the request in flight."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _call(self) -> None:
        url = self._url()
        while not self._stopped.wait(1 / self.rate):
            self.counts[self._get(url)[0]] += 1

    def once(self) -> tuple[int, Any]:
        """Ask for all customers; return the status and what was answered."""
        return self._get(self._url())

    def _url(self) -> str:
        return f"{self.shop.endpoint}/restapis/{api_id(self.shop)}/{STAGE}/_user_request_/{RESOURCE}"

    def _get(self, url: str) -> tuple[int, Any]:
        headers: Mapping[str, str] = {
            "x-api-key": self.shop.keys[self.who].secret_access_key,
            "X-Sim-Source-Address": self.address or ADDRESSES[self.who],
        }
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 (the simulator's own address)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
