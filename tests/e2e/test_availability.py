"""Two replicas on one Lease: who leads, who takes over, and that nothing is lost or done twice in between.

The world is looked at from outside: the Lease, the journal of the plan and of AWS, and each replica's own proxy, which
sees all it sends. Takeovers are told by epochs, never by how long they took.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from dev.faultproxy import Fault, FaultProxy, Harm, Side
from dev.operators import OperatorProcess
from dev.processes import wait_until
from dev.shop.shop import Shop
from incident_operator.api.meta import parse_instant
from incident_operator.runtime.app import EXIT_LEASE_LOST

from .cures import CALL_SECONDS, RUN_SECONDS, Cure, Playbook, break_and_apply, judged
from .world import World

POLICY = Playbook(fault="inc-2023-1247", ends="Resolved/Runbook")
TIMEOUT = Playbook(fault="lambda-timeout", ends="Resolved/Runbook")
#: The first changing call of each, as the proxies name it.
FIRST_CALL = {POLICY: "SetDefaultPolicyVersion", TIMEOUT: f"PUT /2015-03-31/functions/{Shop.function}/configuration"}
#: And all of them, as AWS journals them.
CALLS = {
    POLICY: {"SetDefaultPolicyVersion": 1},
    TIMEOUT: {"UpdateFunctionConfiguration": 1, "PublishVersion": 1, "UpdateAlias": 1},
}
#: Long enough that a busy machine does not move it by itself.
LEASE_SECONDS = 6


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One of two operators, and what it alone goes through."""

    operator: OperatorProcess
    proxy: FaultProxy

    def leads(self) -> bool:
        """Tell whether it says that it leads."""
        return self.operator.metric("incident_operator_leader") == 1.0

    def epoch(self) -> int:
        """Return the epoch it leads in; 0 while it does not."""
        return int(self.operator.metric("incident_operator_leader_epoch") or 0)


@dataclass(kw_only=True)
class Pair:
    """Two replicas of one operator in a world; the first in the list is whichever was `struck`."""

    world: World
    replicas: tuple[Replica, Replica]
    struck: list[Replica] = field(default_factory=list)

    def at(self, what: str, harm: Harm, act: Callable[[Replica], None], seconds: float = 0.0) -> None:
        """Let whoever leads meet a fault, the first time that either sends such a request."""

        def first(replica: Replica) -> None:
            if not self.struck:
                self.struck.append(replica)
                act(replica)

        for replica in self.replicas:
            replica.proxy.arm(Fault(what=what, harm=harm, seconds=seconds, act=lambda it=replica: first(it)))

    def wait_struck(self) -> tuple[Replica, Replica]:
        """Wait for the fault; return who met it and who did not."""
        assert wait_until(lambda: bool(self.struck), seconds=RUN_SECONDS), self.world.log()
        former = self.struck[0]
        return former, next(replica for replica in self.replicas if replica is not former)

    def start(self) -> tuple[Replica, Replica]:
        """Start one, wait until it leads, then start the other; return them in this order."""
        self.replicas[0].operator.start().wait_leading(60)
        self.replicas[1].operator.start()
        assert wait_until(self.replicas[1].operator.ready, seconds=60), self.world.log()
        return self.replicas

    def cured(self, playbook: Playbook, name: str, customers: Any) -> Cure:
        """Wait for the end and look at the world: all as it was planned, and each call made once."""
        status = self.world.finished(name, RUN_SECONDS)
        healed = customers.wait_for(lambda answer: answer.ok, seconds=30)
        cure = judged(self.world, status, healed=healed)
        assert cure.ends == playbook.ends, cure.told
        assert cure.healed, cure.told
        assert dict(cure.calls) == CALLS[playbook], cure.told
        return cure

    def applied(self) -> dict[str, Any]:
        """Return the status of the one plan that was begun."""
        (plan,) = [plan for plan in self.world.plans() if (plan.get("status") or {}).get("startedAt")]
        return dict(plan["status"])


@pytest.fixture
def make_pair(make_world: Callable[..., World]) -> Callable[..., Pair]:
    """Return a maker of pairs, not started."""

    def make(lease: int = LEASE_SECONDS, **options: Any) -> Pair:
        world = make_world()
        proxies = (world.another_proxy(), world.another_proxy())
        options = {"lease-duration": f"{lease}s", "call-timeout": f"{CALL_SECONDS}s", **options}
        first, second = (
            Replica(operator=world.operator(name, proxy, **options), proxy=proxy)
            for name, proxy in zip(("first", "second"), proxies, strict=True)
        )
        return Pair(world=world, replicas=(first, second))

    return make


def test_one_leads_and_when_it_is_lost_the_other_ends_the_incident(make_pair: Callable[..., Pair]) -> None:
    """The machine is lost with its call made and not journaled; the standby was ready all along without leading."""
    pair = make_pair()
    first, second = pair.start()
    assert (first.leads(), second.leads()) == (True, False)
    assert pair.world.lease()["spec"]["holderIdentity"] == first.operator.identity
    pair.at(FIRST_CALL[POLICY], Harm.LOST, lambda replica: replica.operator.lose())
    with pair.world.customers() as customers:
        name = break_and_apply(pair.world, POLICY)
        _, successor = pair.wait_struck()
        cure = pair.cured(POLICY, name, customers)
    plan = pair.applied()
    (call,) = plan["calls"]
    assert call["state"] == "Observed", cure.told
    assert plan["epoch"] > call["epoch"], cure.told
    assert successor.epoch() == pair.world.lease()["spec"]["leaseTransitions"] >= plan["epoch"]


@pytest.mark.parametrize(
    ("playbook", "seconds"), [(POLICY, 4.0), (TIMEOUT, 4.0), (POLICY, 20.0)], ids=["one", "several", "never-answered"]
)
def test_who_is_told_to_leave_journals_its_call_first(
    make_pair: Callable[..., Pair], playbook: Playbook, seconds: float
) -> None:
    """SIGTERM during a long call: its outcome is found out and stored, no other is begun, and the Lease is free."""
    pair = make_pair(lease=60, **{"call-timeout": "6s"})
    pair.start()
    pair.at(FIRST_CALL[playbook], Harm.LATE, lambda replica: replica.operator.leave(), seconds)
    with pair.world.customers() as customers:
        name = break_and_apply(pair.world, playbook)
        former, successor = pair.wait_struck()
        held = pair.world.lease()["spec"]
        assert wait_until(lambda: bool(former.operator.ends), seconds=60), pair.world.log()
        assert former.operator.ends == [0], pair.world.log()
        left = pair.applied()["calls"]
        assert [call["state"] in ("Succeeded", "Observed") for call in left] == [True], left
        successor.operator.wait_leading(60)
        cure = pair.cured(playbook, name, customers)
    taken = pair.world.lease()["spec"]
    assert taken["holderIdentity"] == successor.operator.identity
    assert (parse_instant(taken["acquireTime"]) - parse_instant(held["renewTime"])).total_seconds() < held[
        "leaseDurationSeconds"
    ], "it waited until the Lease ran out"
    calls = pair.applied()["calls"]
    assert calls[0] == left[0], cure.told
    assert all(call["epoch"] > left[0]["epoch"] for call in calls[1:]), cure.told


def test_a_frozen_leader_that_wakes_up_changes_nothing(make_pair: Callable[..., Pair]) -> None:
    """Stopped with its call made and not journaled, woken when the other leads: it ends itself and writes nothing."""
    pair = make_pair()
    pair.start()

    def freeze(replica: Replica) -> None:
        replica.operator.restarts = False
        replica.operator.pause()

    pair.at(FIRST_CALL[POLICY], Harm.LATE, freeze)
    with pair.world.customers() as customers:
        name = break_and_apply(pair.world, POLICY)
        former, successor = pair.wait_struck()
        changes = list(former.proxy.changes)
        successor.operator.wait_leading(60)
        former.operator.resume()
        assert wait_until(lambda: bool(former.operator.ends), seconds=60), pair.world.log()
        assert former.operator.ends == [EXIT_LEASE_LOST], pair.world.log()
        cure = pair.cured(POLICY, name, customers)
    assert former.proxy.changes == changes, cure.told
    plan = pair.applied()
    assert plan["epoch"] > plan["calls"][0]["epoch"], cure.told


def test_a_leader_cut_off_from_the_api_server_ends_before_another_may_lead(make_pair: Callable[..., Pair]) -> None:
    """Its renewals get no answer at all, in the middle of a call: its own clock ends it, not an error."""
    pair = make_pair(lease=9)
    pair.start()
    pair.at(FIRST_CALL[POLICY], Harm.LATE, lambda replica: replica.proxy.cut_off(Side.API, 60), 1.0)
    with pair.world.customers() as customers:
        name = break_and_apply(pair.world, POLICY)
        former, successor = pair.wait_struck()
        successor.operator.wait_leading(60)
        assert former.operator.ends, "two led at once"
        assert set(former.operator.ends) == {EXIT_LEASE_LOST}, pair.world.log()
        cure = pair.cured(POLICY, name, customers)
    plan = pair.applied()
    assert plan["epoch"] > plan["calls"][0]["epoch"], cure.told


def test_a_leader_cut_off_from_aws_finishes_what_it_began(make_pair: Callable[..., Pair]) -> None:
    """The call was made and its answer never comes: it looks again when AWS can be reached, and calls nothing twice."""
    pair = make_pair()
    pair.start()
    pair.at(FIRST_CALL[POLICY], Harm.LATE, lambda replica: replica.proxy.cut_off(Side.AWS, 8))
    with pair.world.customers() as customers:
        name = break_and_apply(pair.world, POLICY)
        pair.wait_struck()
        cure = pair.cured(POLICY, name, customers)
    assert pair.applied()["calls"][0]["state"] == "Observed", cure.told


def test_a_renewal_whose_answer_is_lost_is_renewed_again(make_world: Callable[..., World]) -> None:
    """The next meets a conflict, with itself: no reason to end."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    lost = Fault(what="PUT leases", harm=Harm.LOST, nth=2)
    later = Fault(what="PUT leases", harm=Harm.LATE, nth=6)
    world.proxy.arm(lost, later)
    with world.operator(**{"lease-duration": "15s"}) as operator:
        operator.wait_leading()
        assert wait_until(later.struck.is_set, seconds=60), world.log()
        assert lost.struck.is_set()
        assert operator.starts == 1, world.log()
        assert operator.metric("incident_operator_leader_epoch") == 1.0
