"""WAF: who is named, who is never blocked, and what a plan replaces: nothing but what it was made of."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.reads import READS
from incident_operator.actions.waf import MOST_IN_SET, WafInputs, WebClients
from incident_operator.actions.waf_fixes import BlockAddresses, RateLimit
from incident_operator.api.meta import Risk
from incident_operator.core.draft import Judgement, NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.builders import NOW

ACL = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/partners/11111111-1111-1111-1111-111111111111"
SET = "arn:aws:wafv2:us-east-1:123456789012:regional/ipset/blocked/22222222-2222-2222-2222-222222222222"
THIEF, PARTNER, OLD = "203.0.113.7", "198.51.100.9", "192.0.2.0/24"
CHECK, BLOCK, LIMIT = WebClients(), BlockAddresses(), RateLimit()
INPUTS: dict[str, Any] = {"web_acl": "partners", "own_networks": ("100.64.0.0/16",), "abusive_requests": 100}


def visible(metric: str) -> dict[str, Any]:
    """Return a visibility configuration."""
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": metric}


BLOCKING = {
    "Name": "blocked",
    "Priority": 0,
    "Statement": {"IPSetReferenceStatement": {"ARN": SET}},
    "Action": {"Block": {}},
    "VisibilityConfig": visible("blocked"),
}
LIMITING = {
    "Name": "too-often",
    "Priority": 1,
    "Statement": {"RateBasedStatement": {"Limit": 100, "AggregateKeyType": "IP"}},
    "Action": {"Count": {}},
    "VisibilityConfig": visible("too-often"),
}


def acl(*rules: Any, lock: str = "token-1", **more: Any) -> dict[str, Any]:
    """Return GetWebACL's answer as the reader gives it."""
    stored = {
        "Name": "partners", "Id": ACL.rsplit("/", 1)[1], "ARN": ACL, "DefaultAction": {"Allow": {}},
        "Description": "partners API", "VisibilityConfig": visible("partners"), "Capacity": 3, "CaptchaConfig": None,
        "Rules": list(rules or (BLOCKING, LIMITING)), **more,
    }  # fmt: skip
    return dict(READS["wafv2", "get_web_acl"].project({"WebACL": stored, "LockToken": lock}))


def ip_set(*addresses: str, lock: str = "token-1", version: str = "IPV4") -> dict[str, Any]:
    """Return GetIPSet's answer as the reader gives it."""
    stored = {
        "Name": "blocked", "Id": SET.rsplit("/", 1)[1], "ARN": SET, "IPAddressVersion": version, "Description": "",
        "Addresses": list(addresses),
    }  # fmt: skip
    return dict(READS["wafv2", "get_ip_set"].project({"IPSet": stored, "LockToken": lock}))


def sampled(
    *counts: tuple[str, str, str, int], late: float = 600, population_of: Any = None
) -> Callable[[dict[str, Any]], Any]:
    """Return what GetSampledRequests says: metric, address, action, weight; `late` seconds ago."""

    def answer(asked: dict[str, Any]) -> Any:
        found = [
            {
                "Request": {"ClientIP": address, "URI": "/?password=hunter2", "Headers": []},
                "Weight": many,
                "Timestamp": (NOW - timedelta(seconds=late)).isoformat(),
                "Action": action,
            }
            for metric, address, action, many in counts
            if metric == asked["RuleMetricName"]
        ]
        window = {"StartTime": asked["TimeWindow"]["StartTime"], "EndTime": asked["TimeWindow"]["EndTime"]}
        if found and found[0]["Timestamp"] < window["StartTime"]:
            found = []
        population = population_of(found) if population_of else sum(s["Weight"] for s in found)
        whole = {"SampledRequests": found, "PopulationSize": population, "TimeWindow": window}
        return READS["wafv2", "get_sampled_requests"].project(whole)

    return answer


SCRAPED = sampled(
    ("partners", THIEF, "ALLOW", 400), ("partners", PARTNER, "ALLOW", 12), ("too-often", THIEF, "COUNT", 300)
)


def a_reader(samples: Any = SCRAPED, **answers: Any) -> DictReader:
    """Return an account with a web ACL that blocks by an IP set and counts who comes too often."""
    values: dict[str, Any] = {
        "wafv2.list_web_acls": [{"Name": "partners", "Id": ACL.rsplit("/", 1)[1], "ARN": ACL}],
        "wafv2.get_web_acl": acl(),
        "wafv2.get_ip_set": ip_set(OLD),
        "wafv2.get_sampled_requests": samples,
        "ec2.describe_vpcs": ["10.0.0.0/16"],
        "ec2.describe_addresses": ["198.51.100.200"],
        "ec2.describe_nat_gateways": ["198.51.100.201"],
    }
    return DictReader(answers={**values, **answers})


def asked(**more: Any) -> WafInputs:
    """Return inputs."""
    return WafInputs(**{**INPUTS, **more})


def planned(action: Any, reader: DictReader | None = None, **more: Any) -> PlanDraft | NotApplicable:
    """Return what a fix says."""
    found: PlanDraft | NotApplicable = action.plan(asked(**more), action.observe(asked(**more), reader or a_reader()))
    return found


def drafted(action: Any, reader: DictReader | None = None, **more: Any) -> PlanDraft:
    """Return a fix's plan."""
    found = planned(action, reader, **more)
    assert isinstance(found, PlanDraft), found
    return found


def reason(action: Any, reader: DictReader | None = None, **more: Any) -> str:
    """Return why a fix does not apply."""
    found = planned(action, reader, **more)
    assert isinstance(found, NotApplicable), found
    return found.reason


def findings(reader: DictReader | None = None, **more: Any) -> list[str]:
    """Return the reasons that the check finds."""
    found = CHECK.findings(asked(**more), CHECK.observe(asked(**more), reader or a_reader()))
    assert not isinstance(found, Unclear)
    return [f.reason for f in found]


# --- the check --------------------------------------------------------------------------------------------------------


def test_who_sends_most_is_named_by_address_and_nothing_else_of_a_request_is_kept() -> None:
    """What was asked for, and with which headers, is not for us."""
    facts = CHECK.observe(asked(), a_reader())
    assert facts.abusive == (f"{THIEF}/32",)
    assert "hunter2" not in facts.model_dump_json()
    assert findings() == ["AbusiveAddresses", "RateRuleOnlyCounts"]
    output = CHECK.output(facts).wire()
    assert output["toBlock"] == [f"{THIEF}/32"]
    assert (output["requests"], output["clientCount"]) == (412, 2)


def test_what_is_blocked_is_no_finding_any_more() -> None:
    """Nor is a suspect within a network that is blocked."""
    reader = a_reader(**{"wafv2.get_ip_set": ip_set(OLD, f"{THIEF}/32"), "wafv2.get_web_acl": acl(BLOCKING)})
    assert findings(reader, addresses=("192.0.2.77",)) == []
    assert findings(reader, addresses=("192.0.2.77", "192.0.3.1")) == ["SuspectsNotBlocked"]


def test_a_sample_stands_for_its_part_of_all_requests() -> None:
    """Weights are relative: what counts is how many requests the samples were taken from."""
    few = sampled(("partners", THIEF, "ALLOW", 3), ("partners", PARTNER, "ALLOW", 1), population_of=lambda _: 400)
    facts = CHECK.observe(asked(), a_reader(few, **{"wafv2.get_web_acl": acl(BLOCKING)}))
    (most,) = [c for c in facts.clients if c.address == THIEF]
    assert most.allowed == 300


def test_who_stopped_or_is_refused_by_now_is_no_finding() -> None:
    """A quarter of an hour without a request; or the rate limit blocks them already."""
    stopped = a_reader(sampled(("partners", THIEF, "ALLOW", 400), late=1000))
    assert findings(stopped, window_start=NOW - timedelta(hours=1)) == []
    both = (("partners", THIEF, "ALLOW", 400), ("too-often", THIEF, "COUNT", 3), ("too-often", THIEF, "BLOCK", 1))
    assert findings(a_reader(sampled(*both))) == []


def test_an_address_of_our_own_is_told_and_not_to_be_blocked() -> None:
    """Whether it was declared or AWS knows it: a VPC, an elastic address, a NAT gateway."""
    for own in ("100.64.9.9", "10.0.4.20", "198.51.100.200", "198.51.100.201"):
        reader = a_reader(sampled(("partners", own, "ALLOW", 400)))
        assert findings(reader) == ["OwnAddressAbusive"]
        assert CHECK.output(CHECK.observe(asked(), reader)).wire()["toBlock"] == []
        assert reason(BLOCK, reader) == "NothingToBlock"


def test_no_sample_is_no_health_and_no_web_acl_no_question() -> None:
    """Sampling can be off. Who names no web ACL asks nothing."""
    silent = CHECK.findings(asked(), CHECK.observe(asked(), a_reader(sampled())))
    assert isinstance(silent, Unclear)
    unasked = a_reader()
    nothing = WafInputs()
    assert CHECK.findings(nothing, CHECK.observe(nothing, unasked)) == []
    assert unasked.asked == []
    with pytest.raises(NotFound):
        CHECK.observe(asked(web_acl="other"), a_reader())


@pytest.mark.parametrize("action", [CHECK, BLOCK, LIMIT])
def test_a_read_that_fails_is_neither_health_nor_a_finding(action: Any) -> None:
    """Whichever read it is."""
    whole = a_reader()
    action.observe(asked(), whole)
    for name in {name for name, _, _ in whole.asked}:
        with pytest.raises(ReadError):
            action.observe(asked(), a_reader(**{name: ReadError("AccessDenied", "denied")}))


@pytest.mark.parametrize("wrong", [{"addresses": ("10.0.0.1/8",)}, {"addresses": ("192.0.2.1/32,203.0.113.0/24",)}])
def test_what_is_no_address_is_refused(wrong: dict[str, Any]) -> None:
    """The document's own comma list among it."""
    with pytest.raises(ValueError, match="validation error"):
        asked(**wrong)


# --- blocking ---------------------------------------------------------------------------------------------------------


def test_a_block_adds_to_what_is_blocked_and_its_undo_takes_just_that_out() -> None:
    """A person agrees, and is told whom it hits."""
    draft = drafted(BLOCK, addresses=("203.0.113.99",))
    assert (draft.risk, draft.touches) == (Risk.DISRUPTIVE, (SET,))
    assert draft.ask_because == ("ContainmentIsForPeople",)
    assert draft.evidence_first
    (call,) = draft.calls
    assert call.arguments == {
        "Name": "blocked",
        "Scope": "REGIONAL",
        "Id": SET.rsplit("/", 1)[1],
        "Addresses": [OLD, "203.0.113.99/32", f"{THIEF}/32"],
    }
    assert draft.undo is not None
    (back,) = draft.undo.calls
    assert back.arguments == {**call.arguments, "Addresses": [OLD]}
    assert draft.revert_if_worse is False
    assert drafted(BLOCK, own_networks=()).ask_because == ("ContainmentIsForPeople", "OwnNetworksUnknown")


def token_of(call: Any, answer: dict[str, Any]) -> Any:
    """Return the lock token that a call would be sent with, None where it would not be sent."""
    (guard,) = call.volatile
    assert guard.argument == "LockToken"
    members, found = guard.path.split(".")
    return answer[members].get(found)


def test_a_lock_token_is_only_that_of_the_list_a_plan_was_made_of() -> None:
    """Somebody blocked another address meanwhile: with a fresh token we would drop it. So there is none for us."""
    draft = drafted(BLOCK)
    (call,) = draft.calls
    assert token_of(call, ip_set(OLD, lock="token-7")) == "token-7"
    moved = ip_set(OLD, "198.51.100.0/24", lock="token-8")
    assert token_of(call, moved) is None
    (fact,) = draft.preconditions
    assert fact.equals == ip_set(OLD)["digest"] != moved["digest"]
    assert draft.undo is not None
    (back,) = draft.undo.calls
    assert token_of(back, ip_set(f"{THIEF}/32", OLD, lock="token-9")) == "token-9"
    assert token_of(back, moved) is None


@pytest.mark.parametrize(
    ("expected", "more"),
    [
        ("TooWide", {"addresses": ("0.0.0.0/0",)}),
        ("TooWide", {"addresses": ("203.0.0.0/16",)}),
        ("TooWide", {"addresses": ("2001:db8::/32",)}),
        ("OwnAddress", {"addresses": ("100.64.3.0/24",)}),
        ("OwnAddress", {"addresses": ("10.0.4.20",)}),
        ("OwnAddress", {"addresses": ("198.51.100.192/26",)}),
        ("NoBlockingSet", {"addresses": ("2001:db8::1",)}),
        ("HitsManyClients", {"addresses": ("198.51.100.0/25",)}),
        ("NoWebAcl", {"web_acl": None}),
        ("NothingToBlock", {"abusive_requests": 10_000}),
    ],
)
def test_whom_nobody_blocks(expected: str, more: dict[str, Any]) -> None:
    """Everybody, whole providers, ourselves, our customers: whoever named them."""
    assert reason(BLOCK, None, **more) == expected


def test_a_set_that_nothing_blocks_by_or_that_is_full_is_not_added_to() -> None:
    """It would look like safety; and a plan puts back a whole list or none."""
    counting = {**BLOCKING, "Action": {"Count": {}}}
    assert reason(BLOCK, a_reader(**{"wafv2.get_web_acl": acl(counting, LIMITING)})) == "NoBlockingSet"
    full = ip_set(*(f"192.0.2.{n % 256}/32" if n < 256 else f"192.0.3.{n - 256}/32" for n in range(MOST_IN_SET)))
    assert reason(BLOCK, a_reader(**{"wafv2.get_ip_set": full})) == "IpSetFull"


def judged(action: Any, *counts: tuple[str, str, str, int], late: float = 20, **answers: Any) -> Judgement:
    """Return what is said of the last two minutes, three minutes after the call."""
    before = action.observe(asked(), a_reader())
    reader = a_reader(sampled(*counts, late=late), **answers)
    reader.since = NOW - timedelta(minutes=3)
    found: Judgement = action.judge(asked(), before, action.measure(asked(), reader))
    return found


DONE = {"wafv2.get_ip_set": ip_set(OLD, f"{THIEF}/32")}
REFUSED, SERVED = ("blocked", THIEF, "BLOCK", 40), ("partners", PARTNER, "ALLOW", 3)


def test_a_block_helped_once_they_are_refused_and_the_others_served() -> None:
    """An address that was blocked before is no bystander."""
    assert judged(BLOCK, REFUSED, SERVED, ("blocked", "192.0.2.5", "BLOCK", 3), **DONE).outcome == "Helped"


@pytest.mark.parametrize(
    ("counts", "measured"),
    [
        ((REFUSED, SERVED, ("partners", THIEF, "ALLOW", 1)), True),
        ((SERVED,), False),
        ((REFUSED,), False),
        ((), False),
    ],
    ids=["still let through", "nobody refused", "nobody else served", "nothing seen"],
)
def test_a_block_that_is_not_seen_to_work_did_not_help(counts: Any, measured: bool) -> None:
    """What is not seen is not measured."""
    found = judged(BLOCK, *counts, **DONE)
    assert (found.outcome, found.measured) == (None, measured)


def test_a_block_that_somebody_took_out_again_did_not_help() -> None:
    """Though who was blocked before still is; nor did one that only those are refused by."""
    old = ("blocked", "192.0.2.5", "BLOCK", 3)
    assert "changed it since" in judged(BLOCK, old, SERVED, **{"wafv2.get_ip_set": ip_set(OLD)}).message
    found = judged(BLOCK, old, SERVED, **DONE)
    assert (found.outcome, found.waiting_for) == (None, "requests of the blocked addresses")


def test_what_was_long_ago_says_nothing_of_a_block() -> None:
    """Requests of before, and of before the last two minutes."""
    assert judged(BLOCK, REFUSED, SERVED, late=150, **DONE).outcome is None


def test_a_block_that_was_made_is_seen_in_the_set() -> None:
    """After an interruption, in whatever order AWS lists them."""
    (call,) = drafted(BLOCK).calls
    before, after = (BLOCK.observe(asked(), a_reader(**more)) for more in ({}, DONE))
    swapped = BLOCK.observe(asked(), a_reader(**{"wafv2.get_ip_set": ip_set(f"{THIEF}/32", OLD)}))
    assert [BLOCK.applied(call, asked(), f) for f in (before, after, swapped)] == [False, True, True]


# --- the rate limit ---------------------------------------------------------------------------------------------------


def test_a_rate_limit_changes_one_action_and_repeats_the_rest() -> None:
    """The description too, which an update without it would lose."""
    draft = drafted(LIMIT)
    (call,) = draft.calls
    blocking = {**LIMITING, "Action": {"Block": {}}}
    assert call.arguments == {
        "Name": "partners",
        "Scope": "REGIONAL",
        "Id": ACL.rsplit("/", 1)[1],
        "DefaultAction": {"Allow": {}},
        "Description": "partners API",
        "VisibilityConfig": visible("partners"),
        "Rules": [BLOCKING, blocking],
    }
    assert call.resources == (ACL, SET)
    assert draft.touches == (ACL,)
    assert draft.undo is not None
    (back,) = draft.undo.calls
    assert back.arguments == {**call.arguments, "Rules": [BLOCKING, LIMITING]}
    assert token_of(call, acl(lock="token-3")) == "token-3"
    assert token_of(call, acl(BLOCKING, blocking)) is None
    assert token_of(back, acl(BLOCKING, blocking, lock="token-4")) == "token-4"
    assert token_of(back, acl(LIMITING)) is None
    assert draft.ask_because == ("ContainmentIsForPeople",)
    assert draft.evidence_first


OURS_OVER = sampled(("too-often", "10.0.4.20", "COUNT", 4), ("partners", "10.0.4.20", "ALLOW", 9))
SECRET = {
    **BLOCKING,
    "Name": "from-our-proxy",
    "Statement": {"ByteMatchStatement": {"SearchString": "hunter2", "FieldToMatch": {"SingleHeader": {}}}},
}


@pytest.mark.parametrize(
    ("expected", "web_acl", "samples"),
    [
        ("NoRateRule", acl(BLOCKING), SCRAPED),
        ("NoRateRule", acl(LIMITING, {**LIMITING, "Name": "other"}), SCRAPED),
        ("AlreadyBlocks", acl({**LIMITING, "Action": {"Block": {}}}), SCRAPED),
        ("NothingCounted", acl(), sampled(("partners", THIEF, "ALLOW", 400))),
        ("OwnAddressLimited", acl(), OURS_OVER),
        ("RulesNotKept", acl(SECRET, LIMITING), SCRAPED),
        ("RulesNotKept", acl(CustomResponseBodies={"sorry": {"Content": "…"}}), SCRAPED),
        ("ManagedElsewhere", acl(ManagedByFirewallManager=True), SCRAPED),
        (
            "HitsManyClients",
            acl(),
            sampled(*((m, f"198.51.100.{n}", a, 4) for n in range(9) for m, a in (("partners", "ALLOW"),
                                                                                    ("too-often", "COUNT")))),
        ),
    ],
)  # fmt: skip
def test_why_no_rule_is_let_block(expected: str, web_acl: Any, samples: Any) -> None:
    """Each with its own reason; a rule that may hold a secret is not in a plan, so there is none."""
    assert "hunter2" not in repr(web_acl)
    assert reason(LIMIT, a_reader(samples, **{"wafv2.get_web_acl": web_acl})) == expected


def test_a_rate_limit_helped_once_who_was_counted_is_refused_and_nobody_else() -> None:
    """Somebody who was not counted before is a bystander."""
    done = {"wafv2.get_web_acl": acl(BLOCKING, {**LIMITING, "Action": {"Block": {}}})}
    over = ("too-often", THIEF, "BLOCK", 40)
    assert judged(LIMIT, over, SERVED, **done).outcome == "Helped"
    assert judged(LIMIT, over, SERVED).outcome is None
    hit = judged(LIMIT, over, SERVED, ("too-often", "198.51.100.77", "BLOCK", 4), **done)
    assert (hit.outcome, hit.measured) == (None, True)
    assert "were not meant" in hit.message


def test_a_rate_limit_that_was_set_is_seen_in_the_rules() -> None:
    """After an interruption."""
    (call,) = drafted(LIMIT).calls
    done = {"wafv2.get_web_acl": acl(BLOCKING, {**LIMITING, "Action": {"Block": {}}})}
    facts = [LIMIT.observe(asked(), a_reader(**more)) for more in ({}, done)]
    assert [LIMIT.applied(call, asked(), f) for f in facts] == [False, True]
