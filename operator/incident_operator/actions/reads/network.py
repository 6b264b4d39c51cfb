"""Networks of EC2: security groups, network ACLs, route tables, and which addresses a group has."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead


def _groups(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep each group's rules, by the group's id."""
    return {
        group["GroupId"]: {
            "name": group.get("GroupName", ""),
            "vpc": group.get("VpcId"),
            "ingress": [_permission(p) for p in group.get("IpPermissions", ())],
            "egress": [_permission(p) for p in group.get("IpPermissionsEgress", ())],
        }
        for group in answer.get("SecurityGroups", ())
    }


def _permission(permission: Mapping[str, Any]) -> dict[str, Any]:
    """Keep protocol, ports and peers; never descriptions. Shape: prefix lists are counted, not followed."""
    return {
        "protocol": str(permission.get("IpProtocol", "")),
        "from": permission.get("FromPort"),
        "to": permission.get("ToPort"),
        "groups": sorted(pair["GroupId"] for pair in permission.get("UserIdGroupPairs", ()) if "GroupId" in pair),
        "cidrs": sorted(
            [r["CidrIp"] for r in permission.get("IpRanges", ())]
            + [r["CidrIpv6"] for r in permission.get("Ipv6Ranges", ())]
        ),
        "prefixLists": len(permission.get("PrefixListIds", ())),
    }


def _acls(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": acl["NetworkAclId"],
            "subnets": sorted(a["SubnetId"] for a in acl.get("Associations", ()) if "SubnetId" in a),
            "entries": [
                {
                    "number": entry["RuleNumber"],
                    "egress": bool(entry["Egress"]),
                    "allow": entry["RuleAction"] == "allow",
                    "protocol": str(entry["Protocol"]),
                    "cidr": entry.get("CidrBlock"),
                    "from": (entry.get("PortRange") or {}).get("From"),
                    "to": (entry.get("PortRange") or {}).get("To"),
                }
                for entry in acl.get("Entries", ())
            ],
        }
        for acl in answer.get("NetworkAcls", ())
    ]


def _tables(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": table["RouteTableId"],
            "main": any(a.get("Main") for a in table.get("Associations", ())),
            "subnets": sorted(a["SubnetId"] for a in table.get("Associations", ()) if "SubnetId" in a),
            "routes": [
                {"cidr": route["DestinationCidrBlock"], "state": route.get("State", "active")}
                for route in table.get("Routes", ())
                if "DestinationCidrBlock" in route
            ],
        }
        for table in answer.get("RouteTables", ())
    ]


def _interfaces(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "subnet": interface.get("SubnetId"),
            "address": interface.get("PrivateIpAddress"),
            "groups": sorted(group["GroupId"] for group in interface.get("Groups", ())),
        }
        for interface in answer.get("NetworkInterfaces", ())
    ]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("ec2", "describe_security_groups"): ListedRead(
        permissions=("ec2:DescribeSecurityGroups",),
        project=_groups,
        items="SecurityGroups",
        missing=("InvalidGroup.NotFound", "InvalidGroupId.NotFound"),
    ),
    ("ec2", "describe_network_acls"): ListedRead(
        permissions=("ec2:DescribeNetworkAcls",), project=_acls, items="NetworkAcls"
    ),
    ("ec2", "describe_route_tables"): ListedRead(
        permissions=("ec2:DescribeRouteTables",), project=_tables, items="RouteTables"
    ),
    ("ec2", "describe_network_interfaces"): ListedRead(
        permissions=("ec2:DescribeNetworkInterfaces",), project=_interfaces, items="NetworkInterfaces"
    ),
}
