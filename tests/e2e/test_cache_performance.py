"""The cache's replays: a failover that hosts did not follow, and a primary that is gone.

Judged from outside: what hosts publish of their customers' requests, the simulator's journal and dump, and the keys.
"""

from collections.abc import Callable
from typing import Any

import redis

from dev.shop.sessions.faults import FAULTS
from dev.shop.sessions.grant import connections, grant
from dev.shop.sessions.hosts import hosts
from dev.shop.sessions.place import GROUP, cache, host_addresses
from dev.shop.sessions.seed import seed

from .world import World, impact, outcome, story

#: A run names the hosts' own addresses: the operator is no host.
NETWORK = host_addresses()[0].rpartition(".")[0] + ".16/28"


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
    """INC-2023-1654: the hosts that stayed behind are named, one by one; once people recycle them, all is well."""
    world = _world(make_world, automatic_failover=True)
    fault = FAULTS["inc-2023-1654"]
    with hosts(world.shop) as fleet, world.operator():
        assert fleet.wait_share(), fleet.hosts
        fault.act(world.shop)
        assert fleet.wait_share(above=0.05)
        before, roles = world.dump(), cache(world.shop).roles
        name = _applied(world, fault.example)
        status = world.finished(name)
        assert outcome(status) == "Unresolved/NoFixApplies", story(status)
        assert {"FailoverDone", "HostsOnReplica", "ThresholdBreached"} <= _reasons(status), story(status)
        (found,) = [f for f in status["findings"] if f["reason"] == "HostsOnReplica"]
        assert impact(status)[0] > 0
        named = {address for address in host_addresses() if address in found["message"]}
        assert named == set(fleet.clinging), found
        (fix,) = [f for step in status["steps"] for f in step.get("fixes", ())]
        assert "already" in fix["message"], story(status)
        assert world.changes_by_operator() == []
        assert world.dump() == before
        assert cache(world.shop).roles == roles
        for address in named:
            fleet.at(address).recycle()
        assert fleet.wait_share(), [host.errors for host in fleet.hosts]


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
        return set(client.keys("session:*"))
