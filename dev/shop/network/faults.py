"""What goes wrong with the network, done over the wire by who does it."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from ..faults import Fault
from ..shop import Shop
from .place import CACHE, Tiers, is_open, tiers_of

#: The number of the entry that denies: nothing comes before it.
_DENYING = 1


def remove_rule(shop: Shop, tiers: Tiers, *, who: str = "network-deployer") -> None:
    """A deployment takes away the rule that lets the web servers in."""
    ec2 = shop.client("ec2", who)
    ec2.revoke_security_group_ingress(GroupId=tiers.groups[CACHE], IpPermissions=[tiers.rule])


def deny_by_acl(shop: Shop, tiers: Tiers) -> None:
    """A network ACL's entry denies everything that comes into the cache's subnet, before any other entry."""
    ec2 = shop.client("ec2")
    ec2.create_network_acl_entry(
        NetworkAclId=_acl(shop, tiers)["NetworkAclId"],
        RuleNumber=_DENYING,
        Protocol="-1",
        RuleAction="deny",
        Egress=False,
        CidrBlock="0.0.0.0/0",
    )


def undeny(shop: Shop, tiers: Tiers) -> None:
    """Take the entry that denies out of the network ACL, where it is there."""
    ec2 = shop.client("ec2")
    acl = _acl(shop, tiers)
    if any(entry["RuleNumber"] == _DENYING and not entry["Egress"] for entry in acl["Entries"]):
        ec2.delete_network_acl_entry(NetworkAclId=acl["NetworkAclId"], RuleNumber=_DENYING, Egress=False)


def _acl(shop: Shop, tiers: Tiers) -> Mapping[str, Any]:
    filters = [{"Name": "association.subnet-id", "Values": [tiers.subnets[CACHE]]}]
    (acl,) = shop.client("ec2").describe_network_acls(Filters=filters)["NetworkAcls"]
    return dict(acl)


def give_rule_back(shop: Shop, tiers: Tiers) -> None:
    """Make the rule what it was, whoever gave it back since."""
    ec2 = shop.client("ec2")
    try:
        ec2.authorize_security_group_ingress(GroupId=tiers.groups[CACHE], IpPermissions=[tiers.rule])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise


def way(shop: Shop) -> None:
    """The way from the web servers to the cache: the rule, and no entry that denies."""
    tiers = tiers_of(shop)
    give_rule_back(shop, tiers)
    undeny(shop, tiers)


def _is_denied(shop: Shop) -> bool:
    return any(e["RuleNumber"] == _DENYING and not e["Egress"] for e in _acl(shop, tiers_of(shop))["Entries"])


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="network-rule-removed",
            title="a deployment took away the rule that lets the web servers reach the cache",
            ticket="INC-2024-0202",
            actor="user network-deployer",
            example="network-rule-removed.yaml",
            parts=(way,),
            is_broken=lambda shop: not is_open(shop, tiers_of(shop)) and not _is_denied(shop),
            act=lambda shop: remove_rule(shop, tiers_of(shop)),
        ),
        Fault(
            name="network-acl-denies",
            title="a network ACL denies everything that comes into the cache's subnet",
            ticket="INC-2024-0203",
            actor="the account's root",
            example="network-rule-removed.yaml",
            ends="Unresolved/NoFixApplies",
            parts=(way,),
            is_broken=_is_denied,
            act=lambda shop: deny_by_acl(shop, tiers_of(shop)),
        ),
    )
}
