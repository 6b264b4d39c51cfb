"""WAF: a blocked address gets 403 and the others are served; lock tokens, limits, and what was seen of requests."""

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.aws.services.firewall import Firewall, Memory, Request, Rule

from .conftest import Account, eventually
from .webtier import PORT, Tier

#: Addresses of clients. They only connect from there, so no checkout is in another's way.
CUSTOMER, SCRAPER = "127.198.51.9", "127.203.0.7"
VISIBLE = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True}
SEEN = {**VISIBLE, "MetricName": "shop"}
AT = datetime(2024, 1, 15, 14, 30, tzinfo=UTC)


class Walled:
    """A load balancer without targets, an IP set, and a web ACL before it."""

    def __init__(self, account: Account) -> None:
        self.account, self.waf, self.tier = account, account.client("wafv2"), Tier(account, desired=0)
        self.set = self.waf.create_ip_set(
            Name="blocked", Scope="REGIONAL", IPAddressVersion="IPV4", Addresses=["192.0.2.0/24"]
        )["Summary"]
        self.acl = self.waf.create_web_acl(
            Name="shop", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=SEEN, Rules=self.rules("Count")
        )["Summary"]
        self.waf.associate_web_acl(WebACLArn=self.acl["ARN"], ResourceArn=self.tier.balancer)

    def rules(self, limited: str) -> list[dict[str, Any]]:
        """Return the rules, with what is done with who comes too often."""
        return [
            {
                "Name": "too-often",
                "Priority": 1,
                "Statement": {"RateBasedStatement": {"Limit": 10, "AggregateKeyType": "IP"}},
                "Action": {limited: {}},
                "VisibilityConfig": {**VISIBLE, "MetricName": "too-often"},
            },
            {
                "Name": "blocked",
                "Priority": 0,
                "Statement": {"IPSetReferenceStatement": {"ARN": self.set["ARN"]}},
                "Action": {"Block": {}},
                "VisibilityConfig": {**VISIBLE, "MetricName": "blocked"},
            },
        ]

    def update(self, *addresses: str, token: str = "") -> str:
        """Replace the set's addresses."""
        fresh = self.waf.get_ip_set(Name="blocked", Scope="REGIONAL", Id=self.set["Id"])["LockToken"]
        made = self.waf.update_ip_set(
            Name="blocked", Scope="REGIONAL", Id=self.set["Id"], Addresses=list(addresses), LockToken=token or fresh
        )
        return str(made["NextLockToken"])

    def limit(self, action: str) -> None:
        """Say what is done with who comes too often."""
        token = self.waf.get_web_acl(Name="shop", Scope="REGIONAL", Id=self.acl["Id"])["LockToken"]
        self.waf.update_web_acl(
            Name="shop", Scope="REGIONAL", Id=self.acl["Id"], DefaultAction={"Allow": {}}, VisibilityConfig=SEEN,
            Rules=self.rules(action), LockToken=token,
        )  # fmt: skip

    def get(self, source: str, **headers: str) -> int:
        """Return the status of a request from an address."""
        connection = http.client.HTTPConnection(self.tier.host, PORT, timeout=20, source_address=(source, 0))
        try:
            connection.request("GET", "/products", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def sampled(self, metric: str) -> list[dict[str, Any]]:
        """Return the requests that were sampled of a rule."""
        now = datetime.now(UTC)  # noqa: TID251 real time, as the requests are
        window = {"StartTime": now - timedelta(minutes=10), "EndTime": now}
        found = self.waf.get_sampled_requests(
            WebAclArn=self.acl["ARN"], RuleMetricName=metric, Scope="REGIONAL", TimeWindow=window, MaxItems=500
        )
        return list(found["SampledRequests"])


@pytest.fixture
def walled(account: Account) -> Iterator[Walled]:
    """The load balancer answers 503 itself, which is what whoever comes through gets."""
    made = Walled(account)
    assert eventually(lambda: made.get(CUSTOMER) == 503 and bool(made.sampled("shop")))
    yield made
    made.waf.disassociate_web_acl(ResourceArn=made.tier.balancer)


def test_a_blocked_address_is_refused_and_the_others_are_served(walled: Walled) -> None:
    """By the connection's own address; a header says nothing, unless a rule says that it does."""
    walled.update("192.0.2.0/24", f"{SCRAPER}/32")
    assert eventually(lambda: walled.get(SCRAPER) == 403)
    assert walled.get(CUSTOMER) == 503
    forged = {"X-Forwarded-For": CUSTOMER}
    assert walled.get(SCRAPER, **forged) == 403
    forged = {"X-Forwarded-For": SCRAPER}
    assert walled.get(CUSTOMER, **forged) == 503
    assert {s["Request"]["ClientIP"] for s in walled.sampled("blocked")} == {SCRAPER}
    assert {s["Action"] for s in walled.sampled("blocked")} == {"BLOCK"}
    assert {s["Request"]["ClientIP"] for s in walled.sampled("shop") if s["Action"] == "ALLOW"} >= {CUSTOMER}
    metrics = walled.account.client("cloudwatch")
    named = {"WebACL": "shop", "Region": "us-east-1", "Rule": "blocked"}
    dimensions = [{"Name": name, "Value": value} for name, value in named.items()]

    def counted() -> float:
        now = datetime.now(UTC)  # noqa: TID251 real time, as the requests are
        found = metrics.get_metric_statistics(
            Namespace="AWS/WAFV2", MetricName="BlockedRequests", Dimensions=dimensions, Statistics=["Sum"], Period=60,
            StartTime=now - timedelta(minutes=10), EndTime=now + timedelta(minutes=1),
        )  # fmt: skip
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    assert eventually(lambda: counted() >= 2)
    walled.update("192.0.2.0/24")
    assert eventually(lambda: walled.get(SCRAPER) == 503)


def test_who_comes_too_often_is_counted_first_and_refused_once_the_rule_blocks(walled: Walled) -> None:
    """Each address by itself."""
    codes = [walled.get(SCRAPER) for _ in range(25)]
    assert set(codes) == {503}
    assert {s["Request"]["ClientIP"] for s in walled.sampled("too-often")} == {SCRAPER}
    assert {s["Action"] for s in walled.sampled("too-often")} == {"COUNT"}
    walled.limit("Block")
    assert eventually(lambda: walled.get(SCRAPER) == 403)
    assert walled.get(CUSTOMER) == 503
    keys = walled.waf.get_rate_based_statement_managed_keys(
        Scope="REGIONAL", WebACLName="shop", WebACLId=walled.acl["Id"], RuleName="too-often"
    )
    assert keys["ManagedKeysIPV4"]["Addresses"] == [f"{SCRAPER}/32"]


def test_a_stale_lock_token_changes_nothing(walled: Walled) -> None:
    """Each update gives a new one, and tokens have AWS's shape."""
    first = walled.update(f"{SCRAPER}/32")
    assert len(first) == 36
    second = walled.update(f"{SCRAPER}/32", "192.0.2.1/32", token=first)
    before = walled.account.ask("dump")
    with pytest.raises(ClientError) as refused:
        walled.update("198.51.100.0/24", token=first)
    assert refused.value.response["Error"]["Code"] == "WAFOptimisticLockException"
    assert walled.account.ask("dump") == before
    assert second != first


def test_what_can_not_be_kept_or_evaluated_or_is_not_there_is_refused(walled: Walled) -> None:
    """The document's comma list is no address, a rule that never matches no safety, a missing balancer no place."""
    for address in ("0.0.0.0/0", "192.0.2.1", "192.0.2.1/33", "192.0.2.1/32,203.0.113.0/24", "::/1"):
        with pytest.raises(ClientError) as refused:
            walled.update(address)
        assert refused.value.response["Error"]["Code"] == "WAFInvalidParameterException", address
    odd = {"Limit": 10, "AggregateKeyType": "IP", "EvaluationWindowSec": 61}
    for statement in ({"GeoMatchStatement": {"CountryCodes": ["XX"]}}, {"RateBasedStatement": odd}):
        rule = {**walled.rules("Block")[0], "Statement": statement}
        with pytest.raises(ClientError) as refused:
            walled.waf.create_web_acl(
                Name="other", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=SEEN, Rules=[rule]
            )
        assert refused.value.response["Error"]["Code"] == "WAFInvalidParameterException"
    nowhere = walled.tier.balancer.rsplit("/", 1)[0] + "/0000000000000000"
    with pytest.raises(ClientError) as refused:
        walled.waf.associate_web_acl(WebACLArn=walled.acl["ARN"], ResourceArn=nowhere)
    assert refused.value.response["Error"]["Code"] == "WAFUnavailableEntityException"
    abroad = walled.account.client("wafv2", "eu-west-1")
    with pytest.raises(ClientError) as refused:
        abroad.create_ip_set(Name="x", Scope="CLOUDFRONT", IPAddressVersion="IPV4", Addresses=[])
    assert refused.value.response["Error"]["Code"] == "WAFInvalidParameterException"


# --- the rules alone --------------------------------------------------------------------------------------------------


def behind(*rules: Rule) -> Firewall:
    """Return a web ACL that allows whatever no rule decides."""
    return Firewall(metric="own", default="ALLOW", rules=rules, sets={}, memory=Memory(), count=lambda *_: None)


def asked(source: str = "192.0.2.1", **headers: str) -> Request:
    """Return a request."""
    return Request(source=source, method="GET", uri="/", headers=tuple(headers.items()))


def limiting(**more: Any) -> Rule:
    """Return a rule that blocks from the eleventh request within five minutes."""
    return Rule(name="r", metric="r", action="BLOCK", statement={"RateBasedStatement": {"Limit": 10, **more}})


def test_a_rate_is_of_five_minutes_and_of_one_address() -> None:
    """Who has been quiet for so long begins anew."""
    wall = behind(limiting())
    told = [wall.allows(asked(), AT + timedelta(seconds=n)) for n in range(12)]
    assert told == [True] * 10 + [False] * 2
    assert wall.allows(asked("192.0.2.2"), AT)
    assert wall.allows(asked(), AT + timedelta(minutes=6))


def test_a_header_names_the_source_only_where_it_is_configured() -> None:
    """A request without it matches nothing; one with rubbish in it does what the rule says."""
    config = {"HeaderName": "X-Forwarded-For", "FallbackBehavior": "MATCH"}
    wall = behind(limiting(ForwardedIPConfig=config))
    proxied = [asked(**{"X-Forwarded-For": f"203.0.113.{n % 2}, 192.0.2.9"}) for n in range(22)]
    assert [wall.allows(request, AT) for request in proxied] == [True] * 20 + [False] * 2
    assert not wall.allows(asked(**{"X-Forwarded-For": "nobody"}), AT)
    assert all(wall.allows(asked(), AT) for _ in range(12))


def test_a_part_of_the_requests_is_counted() -> None:
    """A statement within another, and its opposite."""
    scope = {"NotStatement": {"Statement": {"IPSetReferenceStatement": {"ARN": "none"}}}}
    assert [behind(limiting(ScopeDownStatement=scope)).allows(asked(), AT) for _ in range(3)] == [True] * 3
    never = {"AndStatement": {"Statements": [scope, {"IPSetReferenceStatement": {"ARN": "none"}}]}}
    wall = behind(limiting(ScopeDownStatement=never))
    assert all(wall.allows(asked(), AT) for _ in range(12))
