"""AWS WAF, checks: who sends how many requests through a web ACL. The fixes are in `waf_fixes`.

Who abuses is told by WAF's own sampled requests, by the address that a request came from. Source: "Sampled web
requests" of the AWS WAF developer guide.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ..api.meta import parse_instant
from ..api.runbook import FindingKind
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import NotFound, Reader, ReadError

#: For how long WAF keeps samples, how many it gives at once, and of how many requests: the first of the time range.
SAMPLED_FOR, MAX_SAMPLES, POPULATION = timedelta(hours=3), 500, 5000
#: Whoever was not seen for so long has stopped by themselves.
STOPPED_AFTER = timedelta(minutes=15)
#: As many addresses a set may have, to be in a plan whole; AWS's own limit is 10,000.
MOST_IN_SET = 300
#: As many rules of a web ACL are asked for samples.
MOST_RULES = 12
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class WafInputs(Inputs):
    """A web ACL by name, whom people suspect, and what is our own.

    Shape: `addresses` and `own_networks` are CIDRs or single addresses; `abusive_requests` in the window make an
    address abusive. The window begins at `window_start`, else with the incident, and never earlier than WAF's samples.
    `max_client_share`: at most this part of all other client addresses may be hit as well.
    """

    web_acl: str | None = Field(None, pattern=r"^[\w-]{1,128}$")
    scope: Literal["REGIONAL", "CLOUDFRONT"] = "REGIONAL"
    addresses: tuple[str, ...] = Field((), max_length=32)
    own_networks: tuple[str, ...] = Field((), max_length=32)
    window_start: datetime | None = None
    abusive_requests: int = Field(1000, ge=1)
    max_client_share: float = Field(0.05, ge=0, le=1)
    region: str | None = None

    @field_validator("addresses", "own_networks")
    @classmethod
    def _are_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(each)) for each in given)

    def place(self, reader: Reader) -> str:
        """Return the region where the web ACL is kept."""
        return reader.global_region if self.scope == "CLOUDFRONT" else (self.region or reader.region)


class Client(ActionModel):
    """An address and how many requests of it WAF let through, and refused, as far as its samples tell."""

    address: str
    allowed: int = 0
    refused: int = 0


class IpSet(ActionModel):
    """An IP set that a rule blocks by."""

    name: str
    id: str
    arn: str
    version: int
    description: str | None = None
    addresses: tuple[str, ...] = ()
    total: int = 0
    rule: str


class WafFacts(Facts):
    """A web ACL, its blocking IP sets, what its samples tell, and the account's own networks.

    Shape: `name` is empty where none was asked for. `clients` are the addresses with the most requests let through,
    at most 20 of `client_count`; `counted` are those that the rate-based rule counted and that still come through.
    `abusive`, which still come through, and `named` are what is to be blocked and is not, as CIDRs; `hit` counts other
    clients than the abusive ones within them, `limited` those that the rate-based rule counted.
    """

    name: str = ""
    id: str = ""
    arn: str = ""
    region: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()
    whole: bool = False
    managed: bool = False
    sets: tuple[IpSet, ...] = ()
    own: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    counted: tuple[Client, ...] = ()
    client_count: int = 0
    requests: int = 0
    abusive: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    hit: int = 0
    limited: int = 0

    @property
    def rate_rules(self) -> tuple[dict[str, Any], ...]:
        """The rules that limit a rate."""
        return tuple(r for r in self.rules if "RateBasedStatement" in r.get("Statement", {}))


class Sampled(ActionModel):
    """One sampled request. Shape: `weight` is for how many requests it stands."""

    rule: str
    address: str
    action: str
    at: datetime
    weight: float


def networks(texts: Iterable[str]) -> list[Network]:
    """Return networks of CIDRs and addresses."""
    return [ipaddress.ip_network(text) for text in texts]


def within(address: str, many: Iterable[Network]) -> bool:
    """Tell whether an address is in one of the networks."""
    ip = ipaddress.ip_address(address)
    return any(ip.version == network.version and ip in network for network in many)


def overlap(one: Network, many: Iterable[Network]) -> bool:
    """Tell whether a network shares an address with one of the others."""
    return any(one.version == other.version and one.overlaps(other) for other in many)


def covered(one: Network, many: Iterable[Network]) -> bool:
    """Tell whether a network is wholly in one of the others."""
    return any(
        one.version == other.version
        and one.network_address in other
        and one.broadcast_address in other
        for other in many
    )  # fmt: skip


def asked_acl(inputs: WafInputs, reader: Reader) -> Mapping[str, Any]:
    """Return the named web ACL as it is read. Errors: ReadError; NotFound for one that does not exist."""
    where = inputs.place(reader)
    listed = reader.aws("wafv2", "list_web_acls", {"Scope": inputs.scope, "Limit": 100}, region=where)
    chosen = [acl for acl in listed if acl["Name"] == inputs.web_acl]
    if not chosen:
        if len(listed) >= 100:
            raise ReadError("InvalidRequest", "there are more web ACLs than are looked through")
        raise NotFound(
            f"there is no web ACL {inputs.web_acl} in scope {inputs.scope}", code="WAFNonexistentItemException"
        )
    named = {"Name": chosen[0]["Name"], "Id": chosen[0]["Id"], "Scope": inputs.scope}
    found: Mapping[str, Any] = reader.aws("wafv2", "get_web_acl", named, region=where)
    return found


def blocks_by(rule: Mapping[str, Any]) -> str:
    """Return the ARN of the IP set whose addresses a rule blocks; empty for any other rule."""
    said = rule.get("Statement", {}).get("IPSetReferenceStatement")
    return str(said["ARN"]) if said and rule.get("Action") == {"Block": {}} else ""


def read_set(arn: str, rule: str, inputs: WafInputs, reader: Reader) -> IpSet:
    """Return an IP set with its first addresses, and the rule that blocks by it. Errors: ReadError."""
    name, identity = arn.split("/")[-2:]
    asked = {"Name": name, "Id": identity, "Scope": inputs.scope}
    one = reader.aws("wafv2", "get_ip_set", asked, region=inputs.place(reader))
    return IpSet(
        name=one["Name"],
        id=one["Id"],
        arn=one["ARN"],
        version=6 if one["IPAddressVersion"] == "IPV6" else 4,
        description=one["Description"],
        addresses=tuple(one["Addresses"][:MOST_IN_SET]),
        total=len(one["Addresses"]),
        rule=rule,
    )


def read_samples(
    acl: Mapping[str, Any], inputs: WafInputs, reader: Reader, start: datetime
) -> list[Sampled]:  # fmt: skip
    """Return what was sampled of each rule and of the default action since then. Errors: ReadError."""
    metrics = {"": acl["settings"]["VisibilityConfig"]["MetricName"]}
    for rule in acl["rules"][:MOST_RULES]:
        if "VisibilityConfig" in rule:
            metrics[rule["Name"]] = rule["VisibilityConfig"]["MetricName"]
    window = {"StartTime": max(start, reader.now - SAMPLED_FOR).isoformat(), "EndTime": reader.now.isoformat()}
    asked = {
        name: {
            "WebAclArn": acl["ARN"],
            "RuleMetricName": metric,
            "Scope": inputs.scope,
            "TimeWindow": window,
            "MaxItems": MAX_SAMPLES,
        }
        for name, metric in metrics.items()
    }
    where = inputs.place(reader)
    reader.prefetch("wafv2", "get_sampled_requests", *asked.values(), region=where)
    found: list[Sampled] = []
    for name, arguments in asked.items():
        answer = reader.aws("wafv2", "get_sampled_requests", arguments, region=where)
        weights = sum(s["weight"] for s in answer["samples"])
        stands_for = answer["population"] * _stretch(answer, arguments["TimeWindow"]) / weights if weights else 0
        found += [
            Sampled(
                rule=name,
                address=s["address"],
                action=s["action"],
                at=_at(s["at"]),
                weight=s["weight"] * stands_for,
            )
            for s in answer["samples"]
        ]
    return found


def _stretch(answer: Mapping[str, Any], asked: Mapping[str, str]) -> float:
    """Return how much longer the asked time is than that of which there are samples: of much traffic only a part."""
    if answer["population"] < POPULATION:
        return 1
    sampled = max(_at(answer["to"]) - _at(answer["from"]), timedelta(seconds=1))
    return max(1.0, (_at(asked["EndTime"]) - _at(asked["StartTime"])) / sampled)


def _at(value: Any) -> datetime:
    return parse_instant(value) if isinstance(value, str) else value


def _order(sample: Sampled) -> tuple[datetime, bool]:
    """Return what samples are ordered by; within one second a refusal is taken for the later."""
    return sample.at, sample.action != "ALLOW"


def _clients(samples: Iterable[Sampled]) -> list[Client]:
    """Return clients by requests let through, most first."""
    allowed, refused = defaultdict[str, float](float), defaultdict[str, float](float)
    for sample in samples:
        (allowed if sample.action == "ALLOW" else refused)[sample.address] += sample.weight
    made = [Client(address=a, allowed=round(allowed[a]), refused=round(refused[a])) for a in {*allowed, *refused}]
    return sorted(made, key=lambda client: (-client.allowed, client.address))


def read_waf(inputs: WafInputs, reader: Reader) -> WafFacts:
    """Read the web ACL and what it saw. Errors: ReadError; NotFound for a web ACL that does not exist."""
    if inputs.web_acl is None:
        return WafFacts()
    acl = asked_acl(inputs, reader)
    arns = {blocks_by(rule): str(rule["Name"]) for rule in acl["rules"] if blocks_by(rule)}
    sets = tuple(read_set(arn, rule, inputs, reader) for arn, rule in list(arns.items())[:4])
    samples = read_samples(acl, inputs, reader, inputs.window_start or reader.since)
    decided = [s for s in samples if s.action != "COUNT"]
    where = inputs.region or reader.region
    own = sorted(
        {
            *inputs.own_networks,
            *reader.aws("ec2", "describe_vpcs", {}, region=where),
            *reader.aws("ec2", "describe_addresses", {}, region=where),
            *reader.aws("ec2", "describe_nat_gateways", {}, region=where),
        }
    )
    ours, blocked = networks(own), networks(a for one in sets for a in one.addresses)
    clients = _clients(decided)
    many = [c.address for c in clients if c.allowed >= inputs.abusive_requests]
    # Of much traffic the samples of a long time are of its beginning: who still comes is asked of the last minutes.
    lately = read_samples(acl, inputs, reader, reader.now - reader.scaled(STOPPED_AFTER))
    last = {s.address: s.action for s in sorted(lately, key=_order) if s.action != "COUNT"}
    through = {a for a, action in last.items() if action == "ALLOW" and not within(a, blocked)}
    abusive = [str(n) for n in networks(a for a in many if a in through and not within(a, ours))][:32]
    named = [str(n) for n in networks(inputs.addresses) if not covered(n, blocked)]
    rates = {r["Name"] for r in acl["rules"] if "RateBasedStatement" in r.get("Statement", {})}
    counted = _clients(s for s in samples if s.rule in rates and s.action == "COUNT" and s.address in through)
    meant = networks({*abusive, *named})
    others = [c.address for c in clients if c.address not in many]
    return WafFacts(
        name=acl["Name"],
        id=acl["Id"],
        arn=acl["ARN"],
        region=inputs.place(reader),
        settings=acl["settings"],
        rules=tuple(acl["rules"]),
        whole=acl["whole"],
        managed=acl["managed"],
        sets=sets,
        own=tuple(own[:64]),
        clients=tuple(clients[:20]),
        counted=tuple(counted[:20]),
        client_count=len(clients),
        requests=round(sum(s.weight for s in decided)),
        abusive=tuple(abusive),
        named=tuple(named),
        ours=tuple(a for a in many if within(a, ours))[:8],
        hit=sum(within(address, meant) for address in others),
        limited=sum(c.address not in many for c in counted),
    )


# --- waf.clients ------------------------------------------------------------------------------------------------------


class ClientsOutput(Output):
    """Who sent most, and what is to be blocked."""

    web_acl: str = ""
    requests: int = 0
    client_count: int = 0
    top: tuple[Client, ...] = ()
    abusive: tuple[str, ...] = ()
    to_block: tuple[str, ...] = ()
    rate_rules: tuple[str, ...] = ()
    ip_sets: tuple[str, ...] = ()


@register
class WebClients(CheckAction[WafInputs, WafFacts]):
    """Who sends more requests through a web ACL than anybody should, and is let through?"""

    name = "waf.clients"
    title = "Who sends how many requests"
    inputs_model = WafInputs
    facts_model = WafFacts
    reads = (
        "wafv2:ListWebACLs",
        "wafv2:GetWebACL",
        "wafv2:GetIPSet",
        "wafv2:GetSampledRequests",
        "ec2:DescribeVpcs",
        "ec2:DescribeAddresses",
        "ec2:DescribeNatGateways",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "AbusiveAddresses": ReasonInfo(
            doc="Addresses that are not ours sent more requests than anybody should, and are let through."
        ),
        "SuspectsNotBlocked": ReasonInfo(doc="Addresses that people named are not blocked."),
        "RateRuleOnlyCounts": ReasonInfo(
            doc="A rate-based rule found addresses over its limit, and only counts their requests."
        ),
        "OwnAddressAbusive": ReasonInfo(
            doc="An address of our own sends that many requests: a service of ours runs wild, or hides who does.",
            kind=FindingKind.INFO,
        ),
    }

    def observe(self, inputs: WafInputs, reader: Reader) -> WafFacts:
        """Read the web ACL, its samples, and our own networks; nothing where no web ACL is named."""
        return read_waf(inputs, reader)

    def output(self, facts: WafFacts) -> ClientsOutput:
        """Return the five that sent most, and what is to be blocked."""
        return ClientsOutput(
            web_acl=facts.name,
            requests=facts.requests,
            client_count=facts.client_count,
            top=facts.clients[:5],
            abusive=facts.abusive[:8],
            to_block=tuple(dict.fromkeys((*facts.named, *facts.abusive)))[:16],
            rate_rules=tuple(str(r["Name"]) for r in facts.rate_rules[:4]),
            ip_sets=tuple(one.name for one in facts.sets),
        )

    def findings(self, inputs: WafInputs, facts: WafFacts) -> Sequence[Found] | Unclear:
        """Name them. No sample at all is no answer: sampling is off, or nobody came."""
        if not facts.name:
            return []
        found = []
        if facts.abusive:
            top = next(c for c in facts.clients if within(c.address, networks(facts.abusive)))
            message = (
                f"{len(facts.abusive)} of {facts.client_count} addresses sent {inputs.abusive_requests} requests or "
                f"more through {facts.name} each, most of them {top.address} with about {top.allowed}"
            )
            found.append(Found(reason="AbusiveAddresses", message=message, subject=facts.name))
        if facts.named:
            message = f"{len(facts.named)} addresses that people named are not blocked, {facts.named[0]} among them"
            found.append(Found(reason="SuspectsNotBlocked", message=message, subject=facts.name))
        counting = [r for r in facts.rate_rules if r.get("Action") == {"Count": {}}]
        if counting and facts.counted:
            message = f"rule {counting[0]['Name']} only counts: {len(facts.counted)} addresses are over its limit"
            found.append(Found(reason="RateRuleOnlyCounts", message=message, subject=facts.name))
        found += [
            Found(reason="OwnAddressAbusive", message=f"{address}, which is our own, sends that many", subject=address)
            for address in facts.ours[:1]
        ]
        if not facts.requests:
            message = f"WAF has no sampled request of {facts.name}: sampling is off, or nobody came"
            return Unclear(reason="NoSamples", message=message, found=tuple(found))
        return found
