"""The partners' web front: customers over HTTP behind a load balancer, and a web ACL before that.

Behind the load balancer is one server, in the process of whoever serves. Clients come from loopback addresses of their
own, and only connect from there: to WAF they are as different as clients are.
"""

import http.client
import http.server
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dev.loopback import address as own_address
from dev.processes import wait_until
from incident_operator.adapters.clock import Clock

from ..shop import Shop, ShopError

BALANCER, TARGET_GROUP, WEB_ACL, IP_SET = "partners-front", "partners-front", "partners-front", "partners-blocked"
RATE_RULE, BLOCK_RULE = "too-often", "blocked"
PORT = 8088
#: Requests of one address in five minutes, from which on the rate-based rule counts.
LIMIT = 200
#: From where partners come, and who scrapes. What somebody blocked long ago is in the set as well.
PARTNERS = tuple(f"127.198.51.{last}" for last in range(20, 28))
SCRAPER = "127.203.0.113"
BLOCKED_BEFORE = "192.0.2.0/24"


def balancer(shop: Shop) -> dict[str, Any]:
    """Return the load balancer, made where it is not there."""
    elb, ec2 = shop.client("elbv2"), shop.client("ec2")
    found = [b for b in elb.describe_load_balancers()["LoadBalancers"] if b["LoadBalancerName"] == BALANCER]
    if found:
        return dict(found[0])
    subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"][:2]]
    made = elb.create_load_balancer(Name=BALANCER, Subnets=subnets)["LoadBalancers"][0]
    vpc = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"][0]["VpcId"]
    group = elb.create_target_group(
        Name=TARGET_GROUP, Protocol="HTTP", Port=PORT, VpcId=vpc, TargetType="ip", HealthCheckPath="/health"
    )["TargetGroups"][0]["TargetGroupArn"]
    action = {"Type": "forward", "TargetGroupArn": group}
    elb.create_listener(LoadBalancerArn=made["LoadBalancerArn"], Protocol="HTTP", Port=PORT, DefaultActions=[action])
    return dict(made)


def _visible(metric: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": metric}


def web_acl(shop: Shop) -> None:
    """The IP set, and the web ACL that blocks by it and counts who comes too often; before the load balancer."""
    waf = shop.client("wafv2")
    if any(acl["Name"] == WEB_ACL for acl in waf.list_web_acls(Scope="REGIONAL")["WebACLs"]):
        return
    blocked = waf.create_ip_set(
        Name=IP_SET, Scope="REGIONAL", IPAddressVersion="IPV4", Addresses=[BLOCKED_BEFORE], Description="for good"
    )["Summary"]["ARN"]
    made = waf.create_web_acl(Name=WEB_ACL, Scope="REGIONAL", **_settings(), Rules=_rules(blocked))["Summary"]["ARN"]
    waf.associate_web_acl(WebACLArn=made, ResourceArn=balancer(shop)["LoadBalancerArn"])


def _settings() -> dict[str, Any]:
    """Return what a web ACL is besides its rules."""
    return {
        "DefaultAction": {"Allow": {}},
        "Description": "before the partners",
        "VisibilityConfig": _visible(WEB_ACL),
    }


def _rules(blocked: str) -> list[dict[str, Any]]:
    """Return the rules, given the IP set's ARN: one blocks by it, one counts who comes too often."""
    statements: Mapping[str, tuple[dict[str, Any], str]] = {
        BLOCK_RULE: ({"IPSetReferenceStatement": {"ARN": blocked}}, "Block"),
        RATE_RULE: ({"RateBasedStatement": {"Limit": LIMIT, "AggregateKeyType": "IP"}}, "Count"),
    }
    return [
        {
            "Name": name,
            "Priority": priority,
            "Statement": statement,
            "Action": {action: {}},
            "VisibilityConfig": _visible(name),
        }
        for priority, (name, (statement, action)) in enumerate(statements.items())
    ]


def wall(shop: Shop) -> None:
    """What the web ACL blocks and counts, as it was made; written only where it differs."""
    waf = shop.client("wafv2")
    (blocked,) = [one for one in waf.list_ip_sets(Scope="REGIONAL")["IPSets"] if one["Name"] == IP_SET]
    named = {"Name": IP_SET, "Scope": "REGIONAL", "Id": blocked["Id"]}
    there = waf.get_ip_set(**named)
    if there["IPSet"]["Addresses"] != [BLOCKED_BEFORE]:
        before = {"Description": "for good", "Addresses": [BLOCKED_BEFORE]}
        waf.update_ip_set(**named, **before, LockToken=there["LockToken"])
    (acl,) = [one for one in waf.list_web_acls(Scope="REGIONAL")["WebACLs"] if one["Name"] == WEB_ACL]
    named = {"Name": WEB_ACL, "Scope": "REGIONAL", "Id": acl["Id"]}
    there, rules = waf.get_web_acl(**named), _rules(blocked["ARN"])
    if there["WebACL"]["Rules"] != rules:
        waf.update_web_acl(**named, **_settings(), Rules=rules, LockToken=there["LockToken"])


def get(host: str, source: str) -> int:
    """Ask for all customers from an address; return the status."""
    connection = http.client.HTTPConnection(host, PORT, timeout=20, source_address=(source, 0))
    try:
        connection.request("GET", "/customers")
        return connection.getresponse().status
    finally:
        connection.close()


def is_counted(shop: Shop) -> bool:
    """Tell whether WAF has samples of the last minutes of who comes too often."""
    waf, now = shop.client("wafv2"), Clock().now()
    (acl,) = [one for one in waf.list_web_acls(Scope="REGIONAL")["WebACLs"] if one["Name"] == WEB_ACL]
    found = waf.get_sampled_requests(
        WebAclArn=acl["ARN"],
        RuleMetricName=RATE_RULE,
        Scope="REGIONAL",
        TimeWindow={"StartTime": now - timedelta(minutes=5), "EndTime": now},
        MaxItems=1,
    )
    return bool(found["SampledRequests"])


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    """Serve customers behind the load balancer and the web ACL; yield the load balancer's host.

    Errors: ShopError when nobody answers within a minute.
    """
    host = str(balancer(shop)["DNSName"])
    web_acl(shop)
    server = http.server.ThreadingHTTPServer((own_address(), 0), _handler(shop))
    thread = threading.Thread(target=server.serve_forever, name="partners-front", daemon=True)
    thread.start()
    elb = shop.client("elbv2")
    group = elb.describe_target_groups(Names=[TARGET_GROUP])["TargetGroups"][0]["TargetGroupArn"]
    target = [{"Id": server.server_address[0], "Port": server.server_address[1]}]
    elb.register_targets(TargetGroupArn=group, Targets=target)
    try:
        if not wait_until(lambda: _answers(host), seconds=60, every=0.2):
            raise ShopError(f"nobody answers at {host}:{PORT}")
        yield host
    finally:
        elb.deregister_targets(TargetGroupArn=group, Targets=target)
        server.shutdown()
        thread.join()
        server.server_close()


def _answers(host: str) -> bool:
    try:
        return get(host, PARTNERS[0]) == 200
    except OSError:
        return False  # its listener is not there yet


def _handler(shop: Shop) -> type[http.server.BaseHTTPRequestHandler]:
    customers = len(shop.client("dynamodb").scan(TableName=shop.table)["Items"])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"customers": customers}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return Handler


@dataclass(kw_only=True)
class Clients:
    """A steady stream of requests from some addresses, in turn. Shape: `counts` by HTTP status; `rate` a second."""

    host: str
    sources: Sequence[str]
    rate: float = 4
    counts: Counter[int] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Clients":
        """Start."""
        self._thread = threading.Thread(target=self._come, name="clients", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the request in flight."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _come(self) -> None:
        turns = itertools.cycle(self.sources)
        while not self._stopped.wait(1 / self.rate):
            self.counts[get(self.host, next(turns))] += 1
