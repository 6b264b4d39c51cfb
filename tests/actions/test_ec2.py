"""What security groups, network ACLs and routes say of a way, and the one rule that may be given back."""

from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.ec2 import FromPathInputs, PathByRules, RestoreRule
from incident_operator.actions.ports import ReadError
from incident_operator.api.grant import ActionGrant
from incident_operator.api.plan import Hazard, Repeat, Tier
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.planning import reasons_to_ask, tier_of
from tests.actions.reader import DictReader
from tests.builders import NOW

WEB, DATABASE = "sg-0000000000000001", "sg-0000000000000002"
ARN = f"arn:aws:ec2:us-east-1:123456789012:security-group/{DATABASE}"
DEPLOYER = "arn:aws:iam::123456789012:user/deployer"
INPUTS = FromPathInputs.model_validate(
    {"vpcId": "vpc-12345678", "paths": [{"from": "web-servers", "to": "database", "port": 5432}]}
)
ALLOW = {"number": 100, "allow": True, "protocol": "-1", "cidr": "0.0.0.0/0", "from": None, "to": None}
ANYWHERE = {"protocol": "-1", "from": None, "to": None, "groups": [], "cidrs": ["0.0.0.0/0"], "prefixLists": 0}
#: The rule that lets the web servers in.
RULE = {"protocol": "tcp", "from": 5432, "to": 5432, "groups": [WEB], "cidrs": [], "prefixLists": 0}


def a_rule(**changes: Any) -> dict[str, Any]:
    """Return the rule, changed."""
    return {**RULE, **changes}


def an_event(*, actor: str = DEPLOYER, error: str | None = None, **rule: Any) -> dict[str, Any]:
    """Return a removal of the rule, as CloudTrail has it."""
    written = {"ipProtocol": "tcp", "fromPort": 5432, "toPort": 5432, "groups": {"items": [{"groupId": WEB}]}, **rule}
    return {
        "name": "RevokeSecurityGroupIngress",
        "at": (NOW - timedelta(minutes=20)).isoformat(),
        "actor": actor,
        "error": error,
        "readOnly": False,
        "parameters": {"groupId": DATABASE, "ipPermissions": {"items": [written]}},
    }


def a_network(
    *,
    ingress: Any = (RULE,),
    egress: Any = (ANYWHERE,),
    entries: Any = (),
    route: Any = ("10.0.0.0/16", "active"),
    placed: bool = True,
    groups: tuple[str, ...] = ("web-servers", "database"),
    events: Any = (),
) -> DictReader:
    """Return a VPC whose way is open, but for what is given; `entries` come before those that allow all."""
    known = {
        WEB: {"name": "web-servers", "vpc": "vpc-12345678", "ingress": [], "egress": list(egress)},
        DATABASE: {"name": "database", "vpc": "vpc-12345678", "ingress": list(ingress), "egress": [ANYWHERE]},
    }
    both = [{**ALLOW, "egress": False}, {**ALLOW, "egress": True}]
    interfaces = [
        {"subnet": "subnet-web", "address": "10.0.1.5", "groups": [WEB]},
        {"subnet": "subnet-db", "address": "10.0.2.5", "groups": [DATABASE]},
    ]
    return DictReader(
        answers={
            "ec2.describe_security_groups": {i: g for i, g in known.items() if g["name"] in groups},
            "ec2.describe_network_interfaces": interfaces if placed else [],
            "ec2.describe_network_acls": [
                {"id": "acl-web", "subnets": ["subnet-web"], "entries": both},
                {"id": "acl-db", "subnets": ["subnet-db"], "entries": [*entries, *both]},
            ],
            "ec2.describe_route_tables": [
                {"id": "rtb", "main": True, "subnets": [], "routes": [{"cidr": route[0], "state": route[1]}]}
            ],
            "cloudtrail.lookup_events": list(events),
        }
    )


def found(network: DictReader) -> Any:
    """Return what the check finds."""
    action = PathByRules()
    return action.findings(INPUTS, action.observe(INPUTS, network))


def planned(network: DictReader) -> PlanDraft | NotApplicable:
    """Return what the fix makes of a network."""
    action = RestoreRule()
    return action.plan(INPUTS, action.observe(INPUTS, network))


def an_entry(**changes: Any) -> dict[str, Any]:
    """Return an entry of a network ACL that denies what comes in on the port."""
    return {
        **ALLOW,
        "number": 50,
        "allow": False,
        "egress": False,
        "protocol": "6",
        "from": 5432,
        "to": 5432,
        **changes,
    }


OPEN: dict[str, dict[str, Any]] = {
    "a rule names the group": {},
    "a rule names the network": {"ingress": [a_rule(groups=[], cidrs=["10.0.1.0/24"])]},
    "two rules, each of a part": {
        "ingress": [a_rule(groups=[], cidrs=["10.0.9.0/24"]), a_rule(groups=[], cidrs=["10.0.1.5/32"])]
    },
    "a range of ports": {"ingress": [a_rule(**{"from": 5000, "to": 6000})]},
    "any protocol": {"ingress": [a_rule(protocol="-1", **{"from": None, "to": None})]},
    "an ACL denies another port": {"entries": [an_entry(**{"from": 22, "to": 22})]},
    "an ACL denies another network": {"entries": [an_entry(cidr="192.168.0.0/16")]},
    "an ACL denies after it allows": {"entries": [an_entry(number=300)]},
}


@pytest.mark.parametrize("network", OPEN.values(), ids=list(OPEN))
def test_an_open_way_is_no_finding_and_no_fix(network: dict[str, Any]) -> None:
    """The rule is there still: nothing to give back."""
    assert found(a_network(**network)) == []
    draft = planned(a_network(**network))
    assert isinstance(draft, NotApplicable)
    assert draft.reason == "PathOpen"


CLOSED: dict[str, tuple[dict[str, Any], str]] = {
    "no egress": ({"egress": []}, "SecurityGroupEgressMissing"),
    "an ACL denies the way there": ({"entries": [an_entry()]}, "NetworkAclDenies"),
    "an ACL denies the way back": (
        {"entries": [an_entry(egress=True, **{"from": 1024, "to": 65535})]},
        "NetworkAclDenies",
    ),
    "no rule and an ACL denies": ({"ingress": [], "entries": [an_entry()]}, "NetworkAclDenies"),
    "no route": ({"route": ("192.168.0.0/16", "active")}, "RouteMissing"),
    "a dead route": ({"route": ("10.0.0.0/16", "blackhole")}, "RouteMissing"),
    "no such group": ({"groups": ("web-servers",)}, "SecurityGroupMissing"),
}


@pytest.mark.parametrize(("network", "reason"), CLOSED.values(), ids=list(CLOSED))
def test_what_no_rule_opens_is_found_and_not_fixed_by_one(network: dict[str, Any], reason: str) -> None:
    """Opening a group where something else denies would open it for nothing."""
    assert reason in [f.reason for f in found(a_network(**network))]
    draft = planned(a_network(**network))
    assert isinstance(draft, NotApplicable)
    assert draft.reason == reason
    assert reason in RestoreRule.reasons


NO_RULE: dict[str, Any] = {
    "none": [],
    "another port": [a_rule(**{"from": 22, "to": 22})],
    "UDP": [a_rule(protocol="udp")],
    "another group": [a_rule(groups=["sg-0000000000000009"])],
    "a network that the tier is not in": [a_rule(groups=[], cidrs=["10.0.9.0/24"])],
}


@pytest.mark.parametrize("ingress", NO_RULE.values(), ids=list(NO_RULE))
def test_the_one_missing_rule_is_planned(ingress: Any) -> None:
    """From the tier's group to the port, nothing wider; undone by taking just that away."""
    network = a_network(ingress=ingress, events=[an_event()])
    assert [f.reason for f in found(network)] == ["SecurityGroupRuleMissing"]
    draft = planned(network)
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    permission = {
        "IpProtocol": "tcp",
        "FromPort": 5432,
        "ToPort": 5432,
        "UserIdGroupPairs": [{"GroupId": WEB}],
    }
    assert call.operation == "authorize_security_group_ingress"
    assert call.arguments == {"GroupId": DATABASE, "IpPermissions": [permission]}
    assert (call.repeat, call.resources, draft.touches) == (Repeat.GUARDED, (ARN,), (ARN,))
    assert draft.hazards == (Hazard.GRANTS_ACCESS,)
    assert draft.undo is not None
    (undo,) = draft.undo.calls
    assert (undo.operation, undo.arguments) == ("revoke_security_group_ingress", call.arguments)


def a_grant(*, port: int = 5432, protected: tuple[str, ...] = ()) -> ActionGrant:
    """Return a grant that calls the way to a port restorable."""
    role = "arn:aws:iam::123456789012:role/Fix"
    return ActionGrant.model_validate(
        {
            "metadata": {"name": "network"},
            "spec": {
                "namespaceSelector": {},
                "aws": {
                    "roleArn": role,
                    "regions": ["us-east-1"],
                    "resources": ["*"],
                    "protectedActors": list(protected),
                },
                "actions": ["ec2.*"],
                "restorable": {"paths": [{"from": WEB, "to": DATABASE, "port": port}]},
            },
        }
    )


ASKED: dict[str, tuple[Any, ActionGrant, tuple[str, ...], Tier]] = {
    "known and restorable": ([an_event()], a_grant(), (), Tier.DISRUPTIVE),
    "another port is restorable": ([an_event()], a_grant(port=22), ("BeyondRestorable",), Tier.SECURITY),
    "a protected actor closed it": (
        [an_event()],
        a_grant(protected=(DEPLOYER,)),
        ("AccessRemovedOnPurpose",),
        Tier.SECURITY,
    ),
    "nobody knows who closed it": ([], a_grant(), ("ActorUnknown",), Tier.DISRUPTIVE),
    "only an attempt": ([an_event(error="UnauthorizedOperation")], a_grant(), ("ActorUnknown",), Tier.DISRUPTIVE),
    "another rule was removed": (
        [an_event(fromPort=22, toPort=22)],
        a_grant(),
        ("ActorUnknown",),
        Tier.DISRUPTIVE,
    ),
}


@pytest.mark.parametrize(("events", "grant", "asks", "tier"), ASKED.values(), ids=list(ASKED))
def test_people_are_asked_unless_the_way_is_restorable_and_its_closer_known(
    events: Any, grant: ActionGrant, asks: tuple[str, ...], tier: Tier
) -> None:
    """Source: decision 24."""
    draft = planned(a_network(ingress=[], events=events))
    assert isinstance(draft, PlanDraft)
    assert reasons_to_ask(draft, grant) == asks
    assert tier_of(draft, asks) == tier


@pytest.mark.parametrize(
    "network", [{"placed": False}, {"ingress": [a_rule(groups=[], prefixLists=1)]}], ids=["nowhere", "prefix list"]
)
def test_a_way_that_cannot_be_told_is_unclear_and_not_opened(network: dict[str, Any]) -> None:
    """Unknown is never open, and never a reason to open."""
    assert isinstance(found(a_network(**network)), Unclear)
    draft = planned(a_network(**network))
    assert isinstance(draft, NotApplicable)
    assert draft.reason == "PathUnknown"


@pytest.mark.parametrize(
    "read",
    ["describe_security_groups", "describe_network_interfaces", "describe_network_acls", "describe_route_tables"],
)
@pytest.mark.parametrize("answer", [ReadError("AccessDenied", "no"), ReadError("Timeout", "late"), [{"id": None}]])
def test_a_read_that_fails_is_an_error(read: str, answer: Any) -> None:
    """Never a finding and never a pass."""
    network = a_network()
    answers = {**network.answers, f"ec2.{read}": answer}
    with pytest.raises(ReadError):
        found(DictReader(answers=answers))


def test_it_helped_once_the_way_is_open() -> None:
    """By every rule on it."""
    action = RestoreRule()
    before = action.observe(INPUTS, a_network(ingress=[]))
    assert action.judge(INPUTS, before, before).outcome is None
    assert action.judge(INPUTS, before, action.observe(INPUTS, a_network())).outcome == "Helped"
    unclear = action.judge(INPUTS, before, action.observe(INPUTS, a_network(placed=False)))
    assert (unclear.outcome, unclear.measured) == (None, False)
