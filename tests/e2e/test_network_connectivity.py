"""The network's replays: a rule that a deployment took away, and an ACL that no rule of a group gets around.

Judged from outside: real connections of the web servers, the simulator's journal, and the group's rules themselves.
"""

from collections.abc import Callable
from typing import Any

import pytest

from dev.shop.network.faults import FAULTS, deny_by_acl, remove_rule
from dev.shop.network.grant import grant
from dev.shop.network.place import CACHE, Tiers
from dev.shop.network.seed import seed
from dev.shop.network.traffic import traffic

from .people import plan_that_names_who
from .world import World, impact, outcome, story


def _world(make_world: Callable[..., World], **options: Any) -> tuple[World, Tiers]:
    world = make_world()
    world.shop, tiers = seed(world.shop)
    protected = tuple(world.shop.user_arn(name) for name in options.get("protected", ()))
    world.admin.apply([grant(world.shop.account, world.name, world.name, tiers, protected=protected)])
    return world, tiers


def _applied(world: World, tiers: Tiers) -> str:
    manifest = world.manifest("network-rule-removed.yaml")
    manifest["spec"]["parameters"]["vpcId"] = tiers.vpc
    world.apply(manifest)
    return str(manifest["metadata"]["name"])


def _rules(world: World) -> dict[str, Any]:
    """Return every rule of every group, by group."""
    found = world.shop.client("ec2").describe_security_groups()["SecurityGroups"]
    return {g["GroupId"]: (g["IpPermissions"], g["IpPermissionsEgress"]) for g in found}


def test_a_rule_that_a_deployment_took_is_given_back(make_world: Callable[..., World]) -> None:
    """By itself: the way is declared restorable, and who closed it is known and not protected. That rule, no other."""
    world, tiers = _world(make_world)
    with traffic(world.shop, tiers) as web, world.operator():
        assert web.wait_share(0)
        before, dump = _rules(world), world.dump()
        FAULTS["network-rule-removed"].act(world.shop)
        assert web.wait_share(1)
        status = world.finished(_applied(world, tiers))
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert "SecurityGroupRuleMissing" in str(status["rootCause"]), story(status)
        assert impact(status)[0] > 0
        # A web server itself met the block, and after the rule was given back it got through: that is what judged it.
        met = [line["reason"] for line in status["timeline"] if line["source"] == "check connections"]
        assert "ConnectionBlocked" in met, story(status)
        # Until CloudTrail shows who it was a person would have to agree: that plan, if there was time for it, is void.
        plans = world.plans()
        (plan,) = [p for p in plans if p["status"]["state"] == "Helped"]
        assert {p["status"]["state"] for p in plans} <= {"Helped", "Superseded"}
        assert "instances of web-servers connect" in plan["status"]["message"], plan["status"]
        assert web.wait_share(0)
    web_servers = {tuple(probe["arguments"]["InstanceIds"]) for probe in world.probes()}
    assert web_servers == {(tiers.server,)}
    assert {probe["outcome"] for probe in world.probes()} == {"OK"}
    (made,) = world.changes_by_operator()
    assert (made["operation"], made["outcome"]) == ("AuthorizeSecurityGroupIngress", "OK")
    assert made["arguments"]["GroupId"] == tiers.groups[CACHE]
    assert _rules(world) == before
    assert world.dump() == dump


@pytest.mark.parametrize("case", ["protected", "acl"])
def test_what_must_not_be_opened_by_a_machine_is_not(make_world: Callable[..., World], case: str) -> None:
    """Closed on purpose by a protected actor: people are asked. Closed by a network ACL: no rule opens it."""
    world, tiers = _world(make_world, protected=("network-deployer",))
    with traffic(world.shop, tiers) as web, world.operator():
        assert web.wait_share(0)
        if case == "acl":
            deny_by_acl(world.shop, tiers)
        else:
            remove_rule(world.shop, tiers)
        assert web.wait_share(1)
        before = _rules(world)
        name = _applied(world, tiers)
        if case == "acl":
            status = world.finished(name)
            assert outcome(status) == "Unresolved/NoFixApplies", story(status)
            assert "NetworkAclDenies" in {f["reason"] for f in status["findings"]}
        else:
            plan = plan_that_names_who(world, name)
            assert plan["spec"]["tier"] == "Security"
            word = world.say("bob", "Reject", plan, reason="it was closed on purpose")
            assert world.answer(word)["status"] == "True"
            status = world.finished(name)
            assert outcome(status) == "Unresolved/NotPermitted", story(status)
    assert world.changes_by_operator() == []
    assert _rules(world) == before
