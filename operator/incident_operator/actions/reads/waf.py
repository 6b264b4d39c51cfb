"""AWS WAF: IP sets, web ACLs, and where sampled requests came from; which addresses are an account's own.

A lock token is not kept by itself: it stands under the digest of the content that it belongs to, so that who asks for
the token of one content gets none where there is another by now. Of a rule only such statements are kept as hold no
text to compare requests with: that can be a secret that a proxy adds. Of a request nothing but its address is kept.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, each

_MISSING = ("WAFNonexistentItemException",)
#: Statements without anything of a request's content.
_PLAIN = frozenset(
    {
        *("IPSetReferenceStatement", "RateBasedStatement", "GeoMatchStatement", "AsnMatchStatement"),
        *("RuleGroupReferenceStatement", "AndStatement", "OrStatement", "NotStatement"),
    }
)
_RULE = frozenset({"Name", "Priority", "Statement", "Action", "OverrideAction", "RuleLabels", "VisibilityConfig"})
#: What an update of a web ACL must say again, lest it is gone; and what it need not.
_SETTINGS = ("DefaultAction", "Description", "VisibilityConfig", "TokenDomains")
_DERIVED = frozenset(
    {
        *("Name", "Id", "ARN", "Rules", "Capacity", "LabelNamespace", "LockToken", "ManagedByFirewallManager"),
        *("PreProcessFirewallManagerRuleGroups", "PostProcessFirewallManagerRuleGroups"),
        *("RetrofittedByFirewallManager", "ApplicationConfig"),
    }
)
_ACTIONS: tuple[Mapping[str, Any] | None, ...] = ({"Allow": {}}, {"Block": {}}, {"Count": {}}, {"None": {}}, None)
#: WAF's own pattern of a description.
_DESCRIPTION = re.compile(r"[\w+=:#@/\-,.][\w+=:#@/\-,. ]{0,254}[\w+=:#@/\-,.]")


def digest(value: Any) -> str:
    """Return a digest of JSON, by which a lock token's content is told."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def content(addresses: list[str]) -> str:
    """Return the digest of an IP set's addresses, in whatever order."""
    return digest(sorted(addresses))


def _described(value: Any) -> str | None:
    return value if isinstance(value, str) and _DESCRIPTION.fullmatch(value) else None


def _ip_set(answer: Mapping[str, Any]) -> dict[str, Any]:
    one = answer["IPSet"]
    found = content(one["Addresses"])
    return {
        "Name": one["Name"],
        "Id": one["Id"],
        "ARN": one["ARN"],
        "IPAddressVersion": one["IPAddressVersion"],
        "Description": _described(one.get("Description")),
        "Addresses": list(one["Addresses"]),
        "digest": found,
        "tokens": {found: answer["LockToken"]},
    }


def _is_plain(statement: Any) -> bool:
    """Tell whether a statement, and all within it, may be kept."""
    if not isinstance(statement, Mapping) or not set(statement) <= _PLAIN:
        return False
    for said in statement.values():
        inner = [said.get("ScopeDownStatement"), said.get("Statement"), *(said.get("Statements") or ())]
        if said.get("CustomKeys") or not all(_is_plain(each) for each in inner if each):
            return False
    return True


def _present(value: Any) -> Any:
    """Return JSON without members that are None."""
    if isinstance(value, Mapping):
        return {key: _present(v) for key, v in value.items() if v is not None}
    return [_present(v) for v in value] if isinstance(value, list) else value


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    said = _present(rule)
    plain = (
        set(said) <= _RULE
        and _is_plain(said["Statement"])
        and said.get("Action") in _ACTIONS
        and said.get("OverrideAction") in _ACTIONS
    )
    return said if plain else {"Name": said["Name"], "Priority": said["Priority"], "opaque": True}


def _web_acl(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what an update must repeat. Shape: `whole`: nothing that it must repeat is left out."""
    acl = _present(answer["WebACL"])
    rules = [_rule(rule) for rule in acl.get("Rules", ())]
    settings = {name: acl[name] for name in _SETTINGS if acl.get(name)}
    extra = {name for name, value in acl.items() if value and name not in _DERIVED and name not in settings}
    whole = not extra and not any("opaque" in rule for rule in rules) and settings["DefaultAction"] in _ACTIONS
    if "Description" in settings and _described(settings["Description"]) is None:
        del settings["Description"]
        whole = False
    kept = {"settings": settings, "rules": rules}
    found = digest(kept)
    return {
        "Name": acl["Name"],
        "Id": acl["Id"],
        "ARN": acl["ARN"],
        **kept,
        "whole": whole,
        "managed": bool(acl.get("ManagedByFirewallManager")),
        "digest": found,
        "tokens": {found: answer["LockToken"]},
    }


def _samples(answer: Mapping[str, Any]) -> dict[str, Any]:
    kept = []
    for sample in answer.get("SampledRequests", ()):
        source = ipaddress.ip_address(sample["Request"]["ClientIP"])
        action = sample["Action"]
        kept.append(
            {
                "address": str(source),
                "action": action if action in ("ALLOW", "BLOCK", "COUNT", "CAPTCHA", "CHALLENGE") else "OTHER",
                "at": sample["Timestamp"],
                "weight": int(sample["Weight"]),
            }
        )
    window = answer["TimeWindow"]
    return {
        "population": int(answer["PopulationSize"]),
        "from": window["StartTime"],
        "to": window["EndTime"],
        "samples": kept,
    }


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("wafv2", "list_web_acls"): ListedRead(
        permissions=("wafv2:ListWebACLs",), project=each("WebACLs", "Name", "Id", "ARN"), items="WebACLs"
    ),
    ("wafv2", "get_web_acl"): ListedRead(permissions=("wafv2:GetWebACL",), project=_web_acl, missing=_MISSING),
    ("wafv2", "get_ip_set"): ListedRead(permissions=("wafv2:GetIPSet",), project=_ip_set, missing=_MISSING),
    ("wafv2", "get_sampled_requests"): ListedRead(
        permissions=("wafv2:GetSampledRequests",), project=_samples, missing=_MISSING
    ),
    ("ec2", "describe_vpcs"): ListedRead(
        permissions=("ec2:DescribeVpcs",),
        project=lambda answer: sorted(
            {
                cidr
                for vpc in answer.get("Vpcs", ())
                for cidr in (
                    vpc.get("CidrBlock"),
                    *(a.get("CidrBlock") for a in vpc.get("CidrBlockAssociationSet", ())),
                    *(a.get("Ipv6CidrBlock") for a in vpc.get("Ipv6CidrBlockAssociationSet", ())),
                )
                if cidr
            }
        ),
        items="Vpcs",
    ),
    ("ec2", "describe_addresses"): ListedRead(
        permissions=("ec2:DescribeAddresses",),
        project=lambda answer: sorted(a["PublicIp"] for a in answer.get("Addresses", ()) if a.get("PublicIp")),
    ),
    ("ec2", "describe_nat_gateways"): ListedRead(
        permissions=("ec2:DescribeNatGateways",),
        project=lambda answer: sorted(
            a["PublicIp"]
            for gateway in answer.get("NatGateways", ())
            if gateway.get("State") not in ("deleted", "deleting", "failed")
            for a in gateway.get("NatGatewayAddresses", ())
            if a.get("PublicIp")
        ),
        items="NatGateways",
    ),
}
