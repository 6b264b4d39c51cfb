"""The cache's replays: a failover that hosts did not follow, and a primary that is gone.

Judged from outside: what hosts publish of their customers' requests, the simulator's journal and dump, and the keys.
"""

from collections.abc import Callable
from typing import Any

import redis

from dev import loopback
from dev.shop.sessions.faults import FAULTS
from dev.shop.sessions.grant import connections, grant
from dev.shop.sessions.hosts import hosts
from dev.shop.sessions.place import CLINGING, FLEET, GROUP, HANDLING, cache
from dev.shop.sessions.seed import seed

from .recycling import recycled_one_by_one
from .world import World, impact, outcome, story

#: A run names the network of the hosts: the operator is no host.
NETWORK = loopback.address().rpartition(".")[0] + ".0/24"


def _world(make_world: Callable[..., World], *, automatic_failover: bool) -> World:
    """Return a world with the cache, the team's grant and its connections."""
    world = make_world()
    world.shop = seed(world.shop, automatic_failover=automatic_failover)
    world.admin.apply([grant(world.shop.account, world.name, world.name), *connections(world.shop, world.name)])
    return world


def _applied(world: World, example: str) -> str:
    manifest = world.manifest(example)
    manifest["spec"]["parameters"]["hosts"] = [NETWORK]
    world.apply(manifest)
    return str(manifest["metadata"]["name"])


def _reasons(status: dict[str, Any]) -> set[str]:
    return {finding["reason"] for finding in status["findings"]}


def test_a_failover_that_is_done_is_not_made_again(make_world: Callable[..., World]) -> None:
    """INC-2023-1654: the hosts that stayed behind are named and recycled, one by one; no second failover."""
    world = _world(make_world, automatic_failover=True)
    fault = FAULTS["inc-2023-1654"]
    with hosts(world.shop) as fleet, world.operator():
        assert fleet.wait_share(), fleet.errors
        there = FLEET.hosts(world.shop)
        clinging = {host.id: host.address for host in there if host.release == CLINGING}
        former = cache(world.shop).primary
        fault.act(world.shop)
        assert fleet.wait_share(above=0.05)
        before, roles = world.dump(), cache(world.shop).roles
        name = _applied(world, fault.example)
        plan = world.open_plan(name)
        status = world.status(name)
        assert {"FailoverDone", "HostsOnReplica", "ThresholdBreached"} <= _reasons(status), story(status)
        (found,) = [f for f in status["findings"] if f["reason"] == "HostsOnReplica"]
        assert impact(status)[0] > 0
        named = {host.address for host in there if host.address in found["message"].replace(",", " ").split()}
        assert named == set(clinging.values()), found
        fixes = {fix["name"]: fix for step in status["steps"] for fix in step.get("fixes", ())}
        assert "already" in fixes["failOver"]["message"], story(status)
        assert (plan["spec"]["fix"], {call["arguments"]["InstanceId"] for call in plan["spec"]["calls"]}) == (
            "recycleHosts",
            set(clinging),
        )
        assert world.changes_by_operator() == []
        assert world.answer(world.say("bob", "Approve", plan, tier=plan["spec"]["tier"]))["status"] == "True"
        status = world.finished(name)
        assert outcome(status) == "Resolved/Runbook", story(status)
        (rate,) = [c for step in status["steps"] for c in step.get("checks", ()) if c["name"] == "hitRate"]
        # Recovery needs this check to pass, and it can't without what was usual before the incident.
        assert 0 < rate["output"]["baseline"] <= 1, story(status)
        assert fleet.wait_share(), fleet.errors
        assert set(recycled_one_by_one(world, FLEET.name)) == set(clinging), "nobody but those who stayed behind"
        assert {host.id for host in there} - set(clinging) < {host.id for host in FLEET.hosts(world.shop)}
        assert [host.release for host in FLEET.hosts(world.shop)] == [HANDLING] * len(there)
        assert world.dump() == before
        assert cache(world.shop).roles == roles, "no second failover"
        assert not _clients(world, former), "all hosts are on the new primary"


def test_a_lost_primary_is_replaced_once_people_agree(make_world: Callable[..., World]) -> None:
    """The replica that had everything becomes the primary: asked first, one call, no session lost."""
    world = _world(make_world, automatic_failover=False)
    fault = FAULTS["cache-primary-lost"]
    with hosts(world.shop, clinging=0) as fleet, world.operator():
        assert fleet.wait_share()
        former = cache(world.shop)
        fault.act(world.shop)
        assert fleet.wait_share(above=0.9)
        kept = _keys(former.nodes[former.replica])
        before = world.dump()
        name = _applied(world, fault.example)
        plan = world.open_plan(name)
        assert "ReplicaLostPrimary" in _reasons(world.status(name))
        assert world.changes_by_operator() == []
        assert plan["spec"]["hazards"] == ["LosesData"]
        assert plan["spec"]["calls"][0]["repeat"] == "Once"
        word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
        assert world.answer(word)["status"] == "True"
        status = world.finished(name)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert "ReplicaLostPrimary" in str(status["rootCause"]), story(status)
        assert fleet.wait_share()
    (made,) = world.changes_by_operator()
    assert (made["operation"], made["outcome"]) == ("ModifyReplicationGroup", "OK")
    after = world.dump()
    swapped = {former.replica: "primary", former.primary: "replica"}
    region = f"{world.shop.region}/{GROUP}"
    assert after["replicationGroups"][region]["roles"] == swapped
    after["replicationGroups"][region]["roles"] = before["replicationGroups"][region]["roles"]
    assert after == before
    assert kept <= _keys(former.nodes[former.replica])


def _keys(place: tuple[str, int]) -> set[str]:
    with redis.Redis(host=place[0], port=place[1], decode_responses=True) as client:
        return set(client.keys("cart:*"))


def _clients(world: World, node: str) -> set[str]:
    """Return the hosts that are connected to a node, by the node's own word."""
    host, port = cache(world.shop).nodes[node]
    with redis.Redis(host=host, port=port, decode_responses=True) as client:
        connected = {str(one["addr"]).rpartition(":")[0] for one in client.client_list()}
    return connected & {one.address for one in FLEET.hosts(world.shop)}
