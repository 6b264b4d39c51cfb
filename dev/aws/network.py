"""Who gets through: what security groups, network ACLs and routes do to a TCP connection within a VPC.

moto keeps them as records; here they decide. Source: the VPC user guide: groups remember connections, ACLs don't, so
an answer must come back through them to the port that it was asked from.
"""

from ipaddress import ip_address, ip_network
from typing import Any

#: Where Linux connects from. An ACL must let the answer back to whichever of them it is.
_EPHEMERAL = (32768, 60999)
_TCP, _ALL = frozenset({"tcp", "6", "-1"}), "-1"


def passes(backend: Any, source: Any, target: Any, port: int) -> bool:
    """Tell whether a connection gets from one network interface of moto's to a port of another, and its answer back."""
    return (
        _group_lets(source, "egress_rules", target, port)
        and _group_lets(target, "ingress_rules", source, port)
        and _is_carried(backend, source, target, port)
    )


def _group_lets(interface: Any, rules: str, peer: Any, port: int) -> bool:
    return any(_rule_fits(rule, peer, port) for group in interface.group_set for rule in getattr(group, rules))


def _rule_fits(rule: Any, peer: Any, port: int) -> bool:
    if str(rule.ip_protocol) not in _TCP:
        return False
    if str(rule.ip_protocol) != _ALL and not int(rule.from_port) <= port <= int(rule.to_port):
        return False
    mine = {group.id for group in peer.group_set}
    if rule.source_group.get("GroupId") in mine:
        return True
    network = rule.ip_range.get("CidrIp")
    return bool(network) and ip_address(peer.private_ip_address) in ip_network(network)


def _is_carried(backend: Any, source: Any, target: Any, port: int) -> bool:
    """Tell what stands between subnets; within one there is nothing."""
    if source.subnet.id == target.subnet.id:
        return True
    there, back = target.private_ip_address, source.private_ip_address
    return (
        _acl_lets(backend, source.subnet, True, there, (port, port))
        and _acl_lets(backend, target.subnet, False, back, (port, port))
        and _acl_lets(backend, target.subnet, True, back, _EPHEMERAL)
        and _acl_lets(backend, source.subnet, False, there, _EPHEMERAL)
        and _is_routed(backend, source.subnet, there)
        and _is_routed(backend, target.subnet, back)
    )


def _acl_lets(backend: Any, subnet: Any, egress: bool, peer: str, ports: tuple[int, int]) -> bool:
    """Return what the first entry that fits says, of both ends of a range of ports: an ACL ends with a denial."""
    acl = next(a for a in backend.network_acls.values() if any(s.subnet_id == subnet.id for s in a.associations))
    return all(_first(acl, egress, peer, port) for port in set(ports))


def _first(acl: Any, egress: bool, peer: str, port: int) -> bool:
    for entry in sorted(acl.network_acl_entries, key=lambda e: int(e.rule_number)):
        if _is_true(entry.egress) != egress or not entry.cidr_block or str(entry.protocol) not in _TCP:
            continue
        first, last = entry.port_range_from, entry.port_range_to
        within = str(entry.protocol) == _ALL or first is None or int(first) <= port <= int(last)
        if within and ip_address(peer) in ip_network(entry.cidr_block):
            return bool(entry.rule_action == "allow")
    return False


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _is_routed(backend: Any, subnet: Any, peer: str) -> bool:
    """Tell whether the most special route to an address leads somewhere that is there."""
    tables = [t for t in backend.route_tables.values() if t.vpc_id == subnet.vpc_id]
    own = [t for t in tables if subnet.id in t._associations.values()] or [t for t in tables if t.main_association_id]
    fit = [
        route
        for route in own[0].routes
        if route.destination_cidr_block and ip_address(peer) in ip_network(route.destination_cidr_block)
    ]
    best = max(fit, key=lambda route: ip_network(route.destination_cidr_block).prefixlen, default=None)
    return best is not None and bool(best.local or best.gateway or best.vpc_pcx or best.transit_gateway)
