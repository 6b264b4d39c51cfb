"""AWS WAF, fixes: block addresses, or let a rate-based rule block.

Behind one address there can be many people (NAT), so both fixes are people's to decide, and neither is ever undone by
a machine. An update replaces a whole list: the lock token that guards it is the one of just the list that the plan was
made of, else nothing is sent. Source: facts on AWS (section 4, row 20), on verification.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Guard, Precondition, Read, Repeat, Undo, Volatile
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import Facts, FixAction, ReasonInfo, register
from .ports import Reader
from .reads.waf import content, digest
from .waf import (
    MOST_IN_SET,
    MOST_RULES,
    IpSet,
    Network,
    Sampled,
    WafFacts,
    WafInputs,
    WebClients,
    asked_acl,
    blocks_by,
    covered,
    networks,
    overlap,
    read_samples,
    read_set,
    read_waf,
    within,
)

CALL_TIMEOUT = timedelta(seconds=10)
#: The part of the past by which an effect is judged: long enough that who goes on is seen.
RECENT = timedelta(minutes=2)
#: The widest networks that are blocked: a /24 is one small provider's, a /48 one site's.
WIDEST: Mapping[int, int] = {4: 24, 6: 48}

# --- what both fixes have in common -----------------------------------------------------------------------------------


class Effect(Facts):
    """What became of requests lately. Units: requests, as far as samples tell.

    Shape: `hit` are those whom the fix is meant for, `others` everybody else; `refused` are addresses that the fix's
    own rule refused, at most 64 of all `clients`; `blocked` is what the IP sets have; `configured`: a rule refuses.
    """

    hit_allowed: int = 0
    hit_refused: int = 0
    others_allowed: int = 0
    refused: tuple[str, ...] = ()
    clients: int = 0
    blocked: tuple[str, ...] = ()
    configured: bool = False


def measured(
    samples: Sequence[Sampled], meant: Sequence[Network], rules: Iterable[str], after: datetime, *, configured: bool
) -> Effect:
    """Count the samples after an instant; refused is what the fix's own rules refused."""
    own, counts = frozenset(rules), defaultdict[tuple[bool, bool], float](float)
    recent = [s for s in samples if s.at > after and s.action != "COUNT"]
    for sample in recent:
        if sample.action == "ALLOW" or sample.rule in own:
            counts[within(sample.address, meant), sample.action == "ALLOW"] += sample.weight
    return Effect(
        hit_allowed=math.ceil(counts[True, True]),
        hit_refused=math.ceil(counts[True, False]),
        others_allowed=math.ceil(counts[False, True]),
        refused=tuple(sorted({s.address for s in recent if s.rule in own and s.action != "ALLOW"}))[:64],
        clients=len({s.address for s in recent}),
        configured=configured,
    )


def judge(inputs: WafInputs, before: WafFacts, after: Effect, what: str) -> Judgement:
    """Refused, none of them let through, and the others served as before.

    The others are judged by how many of them are refused, not by how many requests they send: that changes by itself.
    """
    if not after.configured:
        return Judgement(outcome=None, measured=True, message=f"{what}: somebody changed it since")
    told = f"{after.hit_refused} requests of {what} refused, {after.hit_allowed} let through"
    if after.hit_allowed:
        return Judgement(outcome=None, measured=True, message=told)
    if not after.hit_refused:
        return Judgement(outcome=None, measured=False, message=told, waiting_for=f"requests of {what}")
    known = networks((*before.abusive, *before.named, *(c.address for c in before.counted)))
    known += networks(a for one in before.sets for a in one.addresses)
    bystanders = [address for address in after.refused if not within(address, known)]
    if len(bystanders) > after.clients * inputs.max_client_share:
        message = f"{told}; but {len(bystanders)} of {after.clients} clients are refused who were not meant"
        return Judgement(outcome=None, measured=True, message=message)
    if any(c.allowed and not within(c.address, known) for c in before.clients) and not after.others_allowed:
        message = f"{told}; nobody else was seen since"
        return Judgement(outcome=None, measured=False, message=message, waiting_for="requests of other clients")
    return Judgement(outcome="Helped", measured=True, message=f"{told}; the others are served")


class _WafFix(FixAction[WafInputs, WafFacts]):
    """What both fixes read."""

    inputs_model = WafInputs
    facts_model = WafFacts
    reads = WebClients.reads
    waits = Waits(wait=timedelta(minutes=2), every=timedelta(seconds=30), deadline=timedelta(minutes=10))

    def observe(self, inputs: WafInputs, reader: Reader) -> WafFacts:
        """Read the same as the check."""
        return read_waf(inputs, reader)

    def _lately(self, inputs: WafInputs, reader: Reader) -> tuple[Mapping[str, Any], list[Sampled], datetime]:
        """Return the web ACL, its samples, and from when on they count: lately, and only since the call."""
        acl = asked_acl(inputs, reader)
        start = max(reader.since, reader.now - reader.scaled(RECENT))
        return acl, read_samples(acl, inputs, reader, start), start


def _because(inputs: WafInputs) -> tuple[str, ...]:
    return ("ContainmentIsForPeople", *(() if inputs.own_networks else ("OwnNetworksUnknown",)))


_COMMON: Mapping[str, ReasonInfo] = {
    "NoWebAcl": ReasonInfo(doc="No web ACL is named."),
    "HitsManyClients": ReasonInfo(doc="Too many other clients would be refused as well."),
    "ManagedElsewhere": ReasonInfo(doc="Firewall Manager owns the web ACL: it would put back what it wants."),
}


# --- waf.block-addresses ----------------------------------------------------------------------------------------------


@register
class BlockAddresses(_WafFix):
    """Add the abusive addresses to the IP set that the web ACL blocks by; those in it stay."""

    name = "waf.block-addresses"
    title = "Block the addresses"
    writes = ("wafv2:UpdateIPSet",)
    risk = "Disruptive: whoever shares an address with them is refused too. Never automatic."
    undo = "Exact, by a person's word: what was added is taken out, if nobody changed the set since."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **_COMMON,
        "NothingToBlock": ReasonInfo(doc="No address is abusive or named that is not blocked already."),
        "NoBlockingSet": ReasonInfo(doc="No rule of the web ACL blocks by an IP set: adding to one would do nothing."),
        "TooWide": ReasonInfo(doc="A network is wider than is ever blocked at once: /24 of IPv4, /48 of IPv6."),
        "OwnAddress": ReasonInfo(doc="An address is our own: of a declared network, a VPC, a NAT gateway, or elastic."),
        "IpSetFull": ReasonInfo(
            doc=f"The set would have more than {MOST_IN_SET} addresses: a plan can't put all of them back."
        ),
    }

    def plan(self, inputs: WafInputs, facts: WafFacts) -> PlanDraft | NotApplicable:
        """One call a set, of the union; refused where it would hit ourselves or too many others."""
        if not facts.name:
            return NotApplicable(reason="NoWebAcl", message="no web ACL is named")
        wanted = networks(dict.fromkeys((*facts.named, *facts.abusive)))
        if not wanted:
            return NotApplicable(reason="NothingToBlock", message=f"nobody is left to be blocked by {facts.name}")
        refused = self._refusal(inputs, facts, wanted)
        if refused is not None:
            return refused
        by_set = {one.version: one for one in reversed(facts.sets)}
        chosen = [(one, [str(n) for n in wanted if n.version == one.version]) for one in by_set.values()]
        chosen = [(one, added) for one, added in chosen if added]
        if sum(len(added) for _, added in chosen) < len(wanted):
            message = f"no rule of {facts.name} blocks by an IP set of these addresses' version"
            return NotApplicable(reason="NoBlockingSet", message=message)
        for one, added in chosen:
            if one.total + len(added) > MOST_IN_SET:
                message = f"IP set {one.name} has {one.total} addresses: with {len(added)} more a plan can't carry them"
                return NotApplicable(reason="IpSetFull", message=message)
        sent = sum(c.allowed for c in facts.clients if within(c.address, wanted))
        return PlanDraft(
            title=f"block {len(wanted)} addresses at {facts.name}",
            calls=tuple(self._call(inputs, one, one.addresses, (*one.addresses, *added)) for one, added in chosen),
            touches=tuple(one.arn for one, _ in chosen),
            risk=Risk.DISRUPTIVE,
            region=facts.region,
            preconditions=tuple(
                Precondition(read=_set_read(inputs, one), path="digest", equals=content(list(one.addresses)))
                for one, _ in chosen
            ),
            verify=self.waits.verify(
                f"requests from these addresses are refused by {facts.name}, and the others served"
            ),
            diff=(
                *(
                    DiffLine(what=f"IP set {one.name}", before=f"{one.total} addresses", after=f"and {_list(added)}")
                    for one, added in chosen
                ),
                DiffLine(what="requests so far", before=f"about {sent} of {facts.requests} came from these"),
            ),
            undo=Undo(
                calls=tuple(
                    self._call(inputs, one, (*one.addresses, *added), one.addresses) for one, added in chosen
                ),
                safe_when="nobody changed the IP set since",
                guards=tuple(Guard(read=_set_read(inputs, one), path="digest") for one, _ in chosen),
            ),
            ask_because=_because(inputs),
            evidence_first=True,
        )  # fmt: skip

    @staticmethod
    def _refusal(inputs: WafInputs, facts: WafFacts, wanted: Sequence[Network]) -> NotApplicable | None:
        own = networks({*facts.own, *inputs.own_networks})
        for network in wanted:
            if network.prefixlen < WIDEST[network.version]:
                message = f"{network} is wider than /{WIDEST[network.version]}: nobody knows whom that hits"
                return NotApplicable(reason="TooWide", message=message)
            if overlap(network, own):
                return NotApplicable(reason="OwnAddress", message=f"{network} has addresses of our own")
        if not facts.sets:
            message = f"no rule of {facts.name} blocks by an IP set: adding to one would do nothing"
            return NotApplicable(reason="NoBlockingSet", message=message)
        return _too_many(inputs, facts, facts.hit)

    def _call(self, inputs: WafInputs, one: IpSet, before: Sequence[str], after: Sequence[str]) -> Call:
        said = {"Description": one.description} if one.description else {}
        found = content(list(before))
        return Call(
            service="wafv2",
            operation="update_ip_set",
            arguments={
                "Name": one.name,
                "Scope": inputs.scope,
                "Id": one.id,
                **said,
                "Addresses": list(after),
            },
            permissions=("wafv2:UpdateIPSet",),
            resources=(one.arn,),
            repeat=Repeat.GUARDED,
            timeout=CALL_TIMEOUT,
            volatile=(Volatile(argument="LockToken", read=_set_read(inputs, one), path=f"tokens.{found}"),),
            summary=f"replace the {len(before)} addresses of IP set {one.name} by {len(after)}",
        )

    def applied(self, call: Call, inputs: WafInputs, facts: WafFacts) -> bool | None:
        """Tell by the set's addresses."""
        one = next((s for s in facts.sets if s.id == call.arguments["Id"]), None)
        if one is None or one.total > MOST_IN_SET:
            return None
        return content(list(one.addresses)) == content(call.arguments["Addresses"])

    def measure(self, inputs: WafInputs, reader: Reader) -> Effect:
        """Read what became of requests from all that the sets block, lately."""
        acl, samples, start = self._lately(inputs, reader)
        arns = {blocks_by(rule): str(rule["Name"]) for rule in acl["rules"] if blocks_by(rule)}
        sets = [read_set(arn, rule, inputs, reader) for arn, rule in list(arns.items())[:4]]
        meant = networks(a for one in sets for a in one.addresses)
        effect = measured(samples, meant, arns.values(), start, configured=bool(sets))
        return effect.model_copy(update={"blocked": tuple(str(network) for network in meant)[:MOST_IN_SET]})

    def judge(self, inputs: WafInputs, before: WafFacts, after: Effect) -> Judgement:
        """Those are refused and the others served; that others were refused before proves nothing of these."""
        what, added = "the blocked addresses", networks((*before.abusive, *before.named))
        if not all(covered(network, networks(after.blocked)) for network in added):
            return judge(inputs, before, after.model_copy(update={"configured": False}), what)
        if not any(within(address, added) for address in after.refused):
            after = after.model_copy(update={"hit_refused": 0})
        return judge(inputs, before, after, what)


def _list(addresses: Sequence[str]) -> str:
    return ", ".join(addresses)


def _set_read(inputs: WafInputs, one: IpSet) -> Read:
    arguments = {"Name": one.name, "Id": one.id, "Scope": inputs.scope}
    return Read(service="wafv2", operation="get_ip_set", arguments=arguments)


def _too_many(inputs: WafInputs, facts: WafFacts, hit: int) -> NotApplicable | None:
    """Refuse where too large a part of the other clients is hit."""
    others = facts.client_count - sum(c.allowed >= inputs.abusive_requests for c in facts.clients)
    if not hit or hit <= others * inputs.max_client_share:
        return None
    message = f"{hit} of {others} other clients would be refused as well"
    return NotApplicable(reason="HitsManyClients", message=message)


# --- waf.rate-limit ---------------------------------------------------------------------------------------------------


@register
class RateLimit(_WafFix):
    """Let the web ACL's rate-based rule block where it only counts: what it counted is whom it will refuse."""

    name = "waf.rate-limit"
    title = "Let the rate limit block"
    writes = ("wafv2:UpdateWebACL",)
    risk = "Disruptive: whoever is over the limit is refused, and whoever shares their address. Never automatic."
    undo = "Exact, by a person's word: the rule only counts again, if nobody changed the web ACL since."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **_COMMON,
        "NoRateRule": ReasonInfo(doc="The web ACL has no rate-based rule, or more than one: a person writes one."),
        "AlreadyBlocks": ReasonInfo(doc="The rate-based rule blocks already."),
        "NothingCounted": ReasonInfo(doc="The rule counted nobody: it would refuse nobody."),
        "OwnAddressLimited": ReasonInfo(doc="An address of our own is over the limit and would be refused."),
        "RulesNotKept": ReasonInfo(
            doc="The web ACL has rules or settings that a plan must not hold, or too many: an update would lose them."
        ),
    }

    def plan(self, inputs: WafInputs, facts: WafFacts) -> PlanDraft | NotApplicable:
        """One call with all rules as they are, but for the one action."""
        if not facts.name:
            return NotApplicable(reason="NoWebAcl", message="no web ACL is named")
        if len(facts.rate_rules) != 1:
            message = f"{facts.name} has {len(facts.rate_rules)} rate-based rules"
            return NotApplicable(reason="NoRateRule", message=message)
        (rule,) = facts.rate_rules
        if rule.get("Action") != {"Count": {}}:
            message = f"rule {rule['Name']} of {facts.name} does not only count"
            return NotApplicable(reason="AlreadyBlocks", message=message)
        if not facts.counted:
            message = f"rule {rule['Name']} of {facts.name} found nobody over its limit"
            return NotApplicable(reason="NothingCounted", message=message)
        own = networks({*facts.own, *inputs.own_networks})
        ours = [c.address for c in facts.counted if within(c.address, own)]
        if ours:
            return NotApplicable(reason="OwnAddressLimited", message=f"{ours[0]}, our own, is over the limit")
        if not facts.whole or len(facts.rules) > MOST_RULES:
            message = f"{facts.name} has rules or settings that a plan must not hold: an update would lose them"
            return NotApplicable(reason="RulesNotKept", message=message)
        if facts.managed:
            return NotApplicable(reason="ManagedElsewhere", message=f"Firewall Manager owns {facts.name}")
        refused = _too_many(inputs, facts, facts.limited)
        if refused is not None:
            return refused
        limit = rule["Statement"]["RateBasedStatement"]["Limit"]
        blocking = tuple({**r, "Action": {"Block": {}}} if r is rule else r for r in facts.rules)
        counted = ", ".join(c.address for c in facts.counted[:8])
        return PlanDraft(
            title=f"let rule {rule['Name']} of {facts.name} block",
            calls=(self._call(inputs, facts, facts.rules, blocking),),
            touches=(facts.arn,),
            risk=Risk.DISRUPTIVE,
            region=facts.region,
            preconditions=(
                Precondition(read=_acl_read(inputs, facts), path="digest", equals=_content(facts, facts.rules)),
            ),
            verify=self.waits.verify(f"who is over the limit of {facts.name} is refused, and the others are served"),
            diff=(
                DiffLine(what=f"action of rule {rule['Name']}, limit {limit}", before="Count", after="Block"),
                DiffLine(what="over the limit so far", before=f"{len(facts.counted)} addresses, {counted} among them"),
            ),
            undo=Undo(
                calls=(self._call(inputs, facts, blocking, facts.rules),),
                safe_when="nobody changed the web ACL since",
                guards=(Guard(read=_acl_read(inputs, facts), path="digest"),),
            ),
            ask_because=_because(inputs),
            evidence_first=True,
        )

    def _call(
        self, inputs: WafInputs, facts: WafFacts, before: Sequence[Any], after: Sequence[Mapping[str, Any]]
    ) -> Call:
        token = f"tokens.{_content(facts, before)}"
        return Call(
            service="wafv2",
            operation="update_web_acl",
            arguments={
                "Name": facts.name,
                "Scope": inputs.scope,
                "Id": facts.id,
                **facts.settings,
                "Rules": [dict(rule) for rule in after],
            },
            permissions=("wafv2:UpdateWebACL",),
            # WAF asks for the right for what the rules name as well.
            resources=(facts.arn, *dict.fromkeys(_named(after))),
            repeat=Repeat.GUARDED,
            timeout=CALL_TIMEOUT,
            volatile=(Volatile(argument="LockToken", read=_acl_read(inputs, facts), path=token),),
            summary=f"replace the rules of {facts.name}: all as they are, but for the action of the rate-based one",
        )

    def applied(self, call: Call, inputs: WafInputs, facts: WafFacts) -> bool | None:
        """Tell by the rules."""
        return [dict(rule) for rule in facts.rules] == list(call.arguments["Rules"])

    def measure(self, inputs: WafInputs, reader: Reader) -> Effect:
        """Read what became of requests lately; those over the limit are whom the rule refuses."""
        acl, samples, start = self._lately(inputs, reader)
        rates = [r for r in acl["rules"] if "RateBasedStatement" in r.get("Statement", {})]
        names = {r["Name"] for r in rates if r.get("Action") == {"Block": {}}}
        over = networks({s.address for s in samples if s.rule in names and s.action == "BLOCK" and s.at > start})
        return measured(samples, over, names, start, configured=len(names) == len(rates) == 1)

    def judge(self, inputs: WafInputs, before: WafFacts, after: Effect) -> Judgement:
        """Those over the limit are refused and the others served."""
        return judge(inputs, before, after, "those over the limit")


def _content(facts: WafFacts, rules: Sequence[Any]) -> str:
    return digest({"settings": facts.settings, "rules": list(rules)})


def _named(value: Any) -> list[str]:
    """Return the ARNs of WAF's that rules name."""
    if isinstance(value, Mapping):
        return [found for v in value.values() for found in _named(v)]
    if isinstance(value, list | tuple):
        return [found for v in value for found in _named(v)]
    return [value] if isinstance(value, str) and value.startswith("arn:") and ":wafv2:" in value else []


def _acl_read(inputs: WafInputs, facts: WafFacts) -> Read:
    arguments = {"Name": facts.name, "Id": facts.id, "Scope": inputs.scope}
    return Read(service="wafv2", operation="get_web_acl", arguments=arguments)
