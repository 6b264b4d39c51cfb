"""The tiers: a VPC, a subnet and a security group for each, and what the rules say of the way between them."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from ..shop import Shop, ShopError

WEB, CACHE = "web-servers", "cache"
PORT = 6379
NAMESPACE, FAILING, REQUESTS, FAILED = "ShopSmart/Network", "FailingShare", "Requests", "FailedRequests"


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """Where the tiers are. Shape: groups and subnets by the tier's name, each with one address; `server` is an id."""

    vpc: str
    groups: dict[str, str]
    subnets: dict[str, str]
    addresses: dict[str, str]
    server: str

    @property
    def rule(self) -> dict[str, Any]:
        """The rule of the cache that lets the web servers in."""
        pairs = [{"GroupId": self.groups[WEB]}]
        return {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "UserIdGroupPairs": pairs}


def tiers_of(shop: Shop) -> Tiers:
    """Return the tiers as they were seeded. Errors: ShopError where they were not."""
    found = known_tiers(shop)
    if found is None:
        raise ShopError("the tiers' network is not there: seed it first")
    return found


def known_tiers(shop: Shop) -> Tiers | None:
    """Return the tiers as they were seeded; None where they were not."""
    ec2 = shop.client("ec2")
    named = [{"Name": "group-name", "Values": [WEB, CACHE]}]
    groups = {g["GroupName"]: g for g in ec2.describe_security_groups(Filters=named)["SecurityGroups"]}
    if set(groups) != {WEB, CACHE}:
        return None
    interfaces: dict[str, Any] = {}
    for tier, group in groups.items():
        members = [{"Name": "group-id", "Values": [group["GroupId"]]}]
        (interfaces[tier],) = ec2.describe_network_interfaces(Filters=members)["NetworkInterfaces"]
    (found,) = ec2.describe_instances(Filters=[{"Name": "instance.group-id", "Values": [groups[WEB]["GroupId"]]}])[
        "Reservations"
    ]
    return Tiers(
        server=found["Instances"][0]["InstanceId"],
        vpc=groups[CACHE]["VpcId"],
        groups={tier: group["GroupId"] for tier, group in groups.items()},
        subnets={tier: interface["SubnetId"] for tier, interface in interfaces.items()},
        addresses={tier: interface["PrivateIpAddress"] for tier, interface in interfaces.items()},
    )


def listen(shop: Shop, tiers: Tiers, host: str, port: int) -> None:
    """Let the cache's interface lead to a server of this machine, for whoever connects within the VPC."""
    ec2 = shop.client("ec2")
    wanted = [{"Name": "group-id", "Values": [tiers.groups[CACHE]]}]
    (interface,) = ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
    tag = {"Key": f"listens-{PORT}", "Value": f"{host}:{port}"}
    ec2.create_tags(Resources=[interface["NetworkInterfaceId"]], Tags=[tag])


def is_open(shop: Shop, tiers: Tiers) -> bool:
    """Tell whether a new connection gets from the web servers to the cache, as the network itself would decide."""
    ec2 = shop.client("ec2")
    (group,) = ec2.describe_security_groups(GroupIds=[tiers.groups[CACHE]])["SecurityGroups"]
    lets_in = any(
        rule["IpProtocol"] == "tcp"
        and rule["FromPort"] <= PORT <= rule["ToPort"]
        and any(pair["GroupId"] == tiers.groups[WEB] for pair in rule["UserIdGroupPairs"])
        for rule in group["IpPermissions"]
    )
    acls = ec2.describe_network_acls(Filters=[{"Name": "association.subnet-id", "Values": [tiers.subnets[CACHE]]}])
    found: list[Any] = acls["NetworkAcls"]
    if len(found) != 1:
        raise ShopError(f"subnet {tiers.subnets[CACHE]} has {len(found)} network ACLs, not one")
    source = ip_address(tiers.addresses[WEB])
    first = next(
        entry
        for entry in sorted(found[0]["Entries"], key=lambda e: int(e["RuleNumber"]))
        if not entry["Egress"] and "CidrBlock" in entry and source in ip_network(entry["CidrBlock"])
    )
    return lets_in and bool(first["RuleAction"] == "allow")
