"""What goes wrong with the network, done over the wire by who does it."""

from botocore.exceptions import ClientError

from ..sessions.faults import Fault
from ..shop import Shop
from .place import CACHE, Tiers, tiers_of


def remove_rule(shop: Shop, tiers: Tiers, *, who: str = "network-deployer") -> None:
    """A deployment takes away the rule that lets the web servers in."""
    ec2 = shop.client("ec2", who)
    ec2.revoke_security_group_ingress(GroupId=tiers.groups[CACHE], IpPermissions=[tiers.rule])


def deny_by_acl(shop: Shop, tiers: Tiers) -> None:
    """A network ACL's entry denies everything that comes into the cache's subnet, before any other entry."""
    ec2 = shop.client("ec2")
    filters = [{"Name": "association.subnet-id", "Values": [tiers.subnets[CACHE]]}]
    (acl,) = ec2.describe_network_acls(Filters=filters)["NetworkAcls"]
    ec2.create_network_acl_entry(
        NetworkAclId=acl["NetworkAclId"],
        RuleNumber=1,
        Protocol="-1",
        RuleAction="deny",
        Egress=False,
        CidrBlock="0.0.0.0/0",
    )


def give_rule_back(shop: Shop, tiers: Tiers) -> None:
    """Make the rule what it was, whoever gave it back since."""
    ec2 = shop.client("ec2")
    try:
        ec2.authorize_security_group_ingress(GroupId=tiers.groups[CACHE], IpPermissions=[tiers.rule])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            name="network-rule-removed",
            title="a deployment took away the rule that lets the web servers reach the cache",
            ticket="INC-2024-0202",
            actor="user network-deployer",
            example="network-rule-removed.yaml",
            act=lambda shop: remove_rule(shop, tiers_of(shop)),
            heal=lambda shop: give_rule_back(shop, tiers_of(shop)),
        ),
    )
}
