"""AWS WAF: moto keeps IP sets and web ACLs, this makes them block.

What moto takes and AWS refuses is refused: addresses that are no CIDR, /0, more than a set may have, calls for
CLOUDFRONT from another region than us-east-1. One resource has one web ACL. Lock tokens are UUIDs that change with
each update. Statements that the simulator can't evaluate are refused, as a rule that never matches would look like
safety. Source: facts on AWS, sections 2 and 4 (row 20); "AWS WAF quotas".
"""

import ipaddress
import random
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from moto.elbv2.models import elbv2_backends
from moto.wafv2.models import FakeIPSet, wafv2_backends

from ..identity import Principal
from ..permissions import Need
from ..telemetry import METRICS_DELAY
from ..wire import Call, Refused, Reply
from .firewall import KNOWN, SAMPLED, SAMPLED_FOR, Firewall, Memory, Rule, statements, window_of
from .service import Forward, Handler, Needs, Parts, Service

_NAMESPACE = "AWS/WAFV2"
_METRICS = {"ALLOW": "AllowedRequests", "BLOCK": "BlockedRequests", "COUNT": "CountedRequests"}
_MOST_ADDRESSES = 10_000
_LIMITS = range(10, 2_000_000_001)
_WINDOWS = (60, 120, 300, 600)
_MISSING = "AWS WAF couldn't perform the operation because your resource doesn't exist."


class Waf(Service):
    """IP sets and web ACLs."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        made, updated = FakeIPSet.__init__, FakeIPSet.update

        def init(one: Any, *arguments: Any, **named: Any) -> None:
            made(one, *arguments, **named)
            one.lock_token = str(uuid.uuid4())

        def update(one: Any, *arguments: Any, **named: Any) -> None:
            updated(one, *arguments, **named)
            one.lock_token = str(uuid.uuid4())

        # moto's tokens are six digits: no client that checks their shape would take them for AWS's.
        FakeIPSet.__init__ = init  # type: ignore[method-assign,assignment]
        FakeIPSet.update = update  # type: ignore[method-assign,assignment]

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto takes too easily, or does not do."""
        found: dict[tuple[str, str], Handler] = {
            ("wafv2", "CreateIPSet"): self._write_set,
            ("wafv2", "UpdateIPSet"): self._write_set,
            ("wafv2", "CreateWebACL"): self._write_acl,
            ("wafv2", "UpdateWebACL"): self._write_acl,
            ("wafv2", "AssociateWebACL"): self._associate,
            ("wafv2", "GetSampledRequests"): self._samples,
            ("wafv2", "GetRateBasedStatementManagedKeys"): self._keys,
        }
        return found

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of WAF's calls."""
        return {"wafv2": _needs}

    # --- calls ------------------------------------------------------------------------------------------------

    def _write_set(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _scope(call)
        addresses = call.arguments.get("Addresses") or []
        version = call.arguments.get("IPAddressVersion")
        if call.operation == "UpdateIPSet":
            known = _by_arn(principal.account, call).ip_sets.get(_arn(call, principal.account))
            version = known.ip_address_version if known is not None else version
        for address in addresses:
            if not _is_cidr(address, version):
                raise _invalid(f"IP_ADDRESS {address} is no CIDR that an {version} set can have")
        if len(addresses) > _MOST_ADDRESSES:
            raise Refused("WAFLimitsExceededException", f"An IP set can have at most {_MOST_ADDRESSES} addresses.")
        return forward()

    def _write_acl(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _scope(call)
        rules = call.arguments.get("Rules") or []
        backend = _by_arn(principal.account, call)
        if len({rule["Priority"] for rule in rules}) < len(rules):
            raise _invalid("Two rules have the same priority")
        for rule in rules:
            for kind, said in statements(rule["Statement"]):
                _check_statement(kind, said, backend)
        reply = forward()
        if reply.status < 400 and call.operation == "UpdateWebACL":
            acl = backend.wacls[_arn(call, principal.account)]
            # moto takes "no rules" for "as they are", and keeps what a request leaves out.
            acl.rules = acl.rules if rules else []
            acl.description = call.arguments.get("Description") or ""
        return reply

    def _associate(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        resource = call.arguments["ResourceArn"]
        backend = wafv2_backends[principal.account][call.region]
        if ":loadbalancer/" in resource:
            balancers = elbv2_backends[principal.account][call.region].load_balancers
            if resource not in balancers:
                raise Refused("WAFUnavailableEntityException", "AWS WAF couldn't retrieve a resource you asked for")
        if call.arguments["WebACLArn"] in backend.wacls:
            # One resource, one web ACL: the new one takes the old one's place.
            backend.disassociate_web_acl(resource)
        return forward()

    def _samples(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _scope(call)
        acl = _by_arn(principal.account, call).wacls.get(call.arguments["WebAclArn"])
        if acl is None:
            raise Refused("WAFNonexistentItemException", _MISSING)
        asked = call.arguments["TimeWindow"]
        start, end = _instant(asked["StartTime"]), _instant(asked["EndTime"])
        if start >= end:
            raise _invalid("The time window ends before it begins")
        # To the second: botocore writes whole seconds, and what came within the last is within the window.
        start = max(start, self.parts.clock.now() - SAMPLED_FOR)
        found = memory_of(acl).samples(call.arguments["RuleMetricName"], start, end.replace(microsecond=999_999))
        most = int(call.arguments["MaxItems"])
        if len(found) > SAMPLED:
            found, end = found[:SAMPLED], found[SAMPLED - 1].at
        # At random, as AWS: every second one could leave out a client that alternates with another.
        chosen = sorted(random.sample(found, min(most, len(found))), key=lambda sample: sample.at)
        shown = [
            {
                "Request": {
                    "ClientIP": sample.request.source,
                    "Country": "-",
                    "URI": sample.request.uri,
                    "Method": sample.request.method,
                    "HTTPVersion": sample.request.version,
                    "Headers": [{"Name": name, "Value": value} for name, value in sample.request.headers],
                },
                "Weight": 1,
                "Timestamp": sample.at,
                "Action": sample.action,
            }
            for sample in chosen
        ]
        window = {"StartTime": start, "EndTime": end}
        return call.answer({"SampledRequests": shown, "PopulationSize": len(found), "TimeWindow": window})

    def _keys(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _scope(call)
        backend = _by_arn(principal.account, call)
        acl = next((a for a in backend.wacls.values() if a.id == call.arguments["WebACLId"]), None)
        rule = next((r for r in acl.rules if r.name == call.arguments["RuleName"]), None) if acl is not None else None
        if rule is None or "RateBasedStatement" not in rule.statement:
            raise Refused("WAFNonexistentItemException", _MISSING)
        rate, now = rule.statement["RateBasedStatement"], self.parts.clock.now()
        keys = memory_of(acl).keys_over(rule.name, int(rate["Limit"]), now, window_of(rate))
        by_version: dict[int, list[str]] = {4: [], 6: []}
        for key in keys:
            network = ipaddress.ip_network(key)
            by_version[network.version].append(str(network))
        answer = {
            f"ManagedKeysIPV{version}": {"IPAddressVersion": f"IPV{version}", "Addresses": found}
            for version, found in by_version.items()
        }
        return call.answer(answer)

    # --- state ------------------------------------------------------------------------------------------------

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return IP sets and web ACLs by region and name; no lock tokens."""
        if account not in wafv2_backends:
            return {}
        sets, acls = {}, {}
        for region in sorted(wafv2_backends[account]):
            backend = wafv2_backends[account][region]
            sets.update({f"{region}/{one.name}": _set_state(one) for one in backend.ip_sets.values()})
            acls.update({f"{region}/{one.name}": _acl_state(one) for one in backend.wacls.values()})
        return {"ipSets": sets, "webAcls": acls} if sets or acls else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the IP set or the web ACL that a call changes."""
        if call.service != "wafv2" or "Id" not in call.arguments:
            return None
        backend, arn = _by_arn(account, call), _arn(call, account)
        if arn in backend.ip_sets:
            return _set_state(backend.ip_sets[arn])
        return _acl_state(backend.wacls[arn]) if arn in backend.wacls else None


def memory_of(acl: Any) -> Memory:
    """Return what a web ACL remembers of its requests."""
    found: Memory = vars(acl).setdefault("memory", Memory())
    return found


def firewall_of(parts: Parts, account: str, region: str, resource: str) -> Firewall | None:
    """Return what stands before a resource now; None for nothing. The lock is held."""
    if account not in wafv2_backends or region not in wafv2_backends[account]:
        return None
    backend = wafv2_backends[account][region]
    acl = backend.get_web_acl_for_resource(resource)
    if acl is None:
        return None
    state = (acl.lock_token, *(one.lock_token for one in backend.ip_sets.values()))
    known: tuple[Any, Firewall] | None = vars(acl).get("firewall")
    if known is None or known[0] != state:
        known = vars(acl)["firewall"] = (state, _made(parts, account, region, acl, backend))
    return known[1]


def _made(parts: Parts, account: str, region: str, acl: Any, backend: Any) -> Firewall:
    return Firewall(
        metric=acl.visibility_config["MetricName"],
        default=_action(acl.default_action),
        rules=[
            Rule(
                name=rule.name,
                metric=rule.visibility_config["MetricName"],
                action=_action(rule.action),
                statement=rule.statement,
            )
            for rule in sorted(acl.rules, key=lambda rule: rule.priority)
        ],
        sets={arn: [ipaddress.ip_network(a) for a in one.addresses] for arn, one in backend.ip_sets.items()},
        memory=memory_of(acl),
        count=partial(_count, parts, account, region, acl.name, acl.visibility_config["MetricName"]),
    )


def _count(parts: Parts, account: str, region: str, acl: str, own: str, metric: str, action: str) -> None:
    """Count what became of a request, visible later: under its rule, and what was decided under ALL as well."""
    at, where = parts.clock.now(), (("WebACL", acl), ("Region", region))
    rules = ["Default_Action" if metric == own else metric, *([] if action == "COUNT" else ["ALL"])]
    dimensions = [(*where, ("Rule", rule)) for rule in rules]
    values = {_METRICS[action]: 1.0}
    parts.delayed.later(
        METRICS_DELAY, lambda: parts.metrics.add(account, region, dimensions, at, namespace=_NAMESPACE, **values)
    )


def _action(action: Mapping[str, Any]) -> str:
    """Return an action's name in capitals, as samples have it."""
    return next(iter(action)).upper()


def _instant(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found.astimezone()


def _invalid(message: str) -> Refused:
    return Refused("WAFInvalidParameterException", f"Error reason: {message}")


def _scope(call: Call) -> None:
    if call.arguments.get("Scope") == "CLOUDFRONT" and call.region != "us-east-1":
        raise _invalid("The scope is not valid., field: SCOPE_VALUE, parameter: CLOUDFRONT")


def _is_cidr(text: str, version: str | None) -> bool:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text and network.prefixlen > 0 and version in (None, f"IPV{network.version}")


def _check_statement(kind: str, said: Mapping[str, Any], backend: Any) -> None:
    if kind not in KNOWN:
        raise _invalid(f"the simulator can't evaluate a {kind}")
    if kind == "IPSetReferenceStatement" and said["ARN"] not in backend.ip_sets:
        raise Refused("WAFNonexistentItemException", _MISSING)
    if kind == "RateBasedStatement":
        if said.get("AggregateKeyType") not in ("IP", "FORWARDED_IP"):
            raise _invalid(f"the simulator can't aggregate by {said.get('AggregateKeyType')}")
        if int(said["Limit"]) not in _LIMITS or int(said.get("EvaluationWindowSec") or 300) not in _WINDOWS:
            raise _invalid("the limit or the evaluation window of a rate-based statement is out of bounds")


def _by_arn(account: str, call: Call) -> Any:
    return wafv2_backends[account]["global" if call.arguments.get("Scope") == "CLOUDFRONT" else call.region]


def _arn(call: Call, account: str) -> str:
    """Return the ARN of the IP set or web ACL that a call names by name, id and scope."""
    kind = "ipset" if "IPSet" in call.operation else "webacl"
    scope = "global" if call.arguments.get("Scope") == "CLOUDFRONT" else "regional"
    named = f"{call.arguments.get('Name')}/{call.arguments.get('Id')}"
    return f"arn:aws:wafv2:{call.region}:{account}:{scope}/{kind}/{named}"


def _set_state(one: Any) -> dict[str, Any]:
    return {"version": one.ip_address_version, "addresses": sorted(one.addresses), "description": one.description}


def _acl_state(one: Any) -> dict[str, Any]:
    return {
        "default": one.default_action,
        "description": one.description,
        "visibility": one.visibility_config,
        "rules": [{k: v for k, v in rule.to_dict().items() if v is not None} for rule in one.rules],
        "resources": sorted(one.associated_resources),
    }


def _needs(call: Call, account: str) -> Iterator[Need]:
    """IP sets and web ACLs have ARNs; who writes a web ACL needs the right for the IP sets it names as well."""
    action, said = f"wafv2:{call.operation}", call.arguments
    if "WebACLArn" in said or "WebAclArn" in said:
        yield Need(action=action, resource=said.get("WebACLArn") or said["WebAclArn"])
    elif "Id" in said or call.operation in ("CreateIPSet", "CreateWebACL"):
        named = _arn(call, account)
        yield Need(action=action, resource=named if "Id" in said else named.rsplit("/", 1)[0] + "/*")
        for rule in said.get("Rules") or ():
            for kind, statement in statements(rule["Statement"]):
                if kind == "IPSetReferenceStatement":
                    yield Need(action=action, resource=statement["ARN"])
    else:
        yield Need(action=action, resource="*")
