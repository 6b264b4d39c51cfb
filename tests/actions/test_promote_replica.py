"""Promoting a read replica, purely: everything that must be shown first, and what is judged afterwards."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.ports import NotFound, ReadError, Rows
from incident_operator.actions.rds_replica import PromoteFacts, PromoteInputs, PromoteReadReplica
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard, Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.builders import NOW

ACTION = PromoteReadReplica()
INPUTS = PromoteInputs(instance="shop-replica", primary="shop", connection="database", max_lag_seconds=60)
_ARN = "arn:aws:rds:us-east-1:123456789012:db:"
REPLICA: dict[str, Any] = {
    **{"arn": f"{_ARN}shop-replica", "status": "available", "class": "db.r5.large", "engine": "postgres"},
    **{"place": "replica.internal:5432", "pending": [], "multiAz": False, "zone": "us-east-1b", "replicas": []},
    **{"replicaOf": "shop", "backupDays": 0, "securityGroups": [], "securityGroupsActive": True},
}
#: As it is once RDS has given it up.
PRIMARY: dict[str, Any] = {
    **{"arn": f"{_ARN}shop", "status": "failed", "class": "db.r5.large", "engine": "postgres"},
    **{"place": "shop.internal:5432", "pending": [], "multiAz": False, "zone": "us-east-1a"},
    **{"replicas": ["shop-replica"], "replicaOf": None, "backupDays": 14},
    **{"securityGroups": ["sg-1", "sg-2"], "securityGroupsActive": True},
}
CUT_OFF = {"sg-1": {"ingress": []}, "sg-2": {"ingress": []}}
OPEN = {"sg-1": {"ingress": []}, "sg-2": {"ingress": [{"protocol": "tcp"}]}}


class RdsReader(DictReader):
    """Knows a replica and its primary, two metrics by their age in seconds, and who answers the application."""

    def __init__(
        self,
        *,
        replica: Mapping[str, Any] | Exception = REPLICA,
        primary: Mapping[str, Any] | Exception = PRIMARY,
        groups: Any = OPEN,
        lag: Mapping[int, float] | Exception = {30: 2.0},  # noqa: B006  (never changed)
        connections: Mapping[int, float] | Exception = {10: 12.0},  # noqa: B006
        endpoint: Any = "orders.shop.internal:5432",
        standby: bool | Exception = False,
    ) -> None:
        self.instances = {"shop-replica": replica, "shop": primary}
        self.series = {"ReplicaLag": lag, "DatabaseConnections": connections}
        self.standby = standby
        super().__init__(
            {
                "rds.describe_db_instances": lambda given: self.instances[given["DBInstanceIdentifier"]],
                "ec2.describe_security_groups": groups,
                "cloudwatch.get_metric_data": self._measured,
                "place.database": endpoint,
            }
        )

    def _measured(self, given: Mapping[str, Any]) -> Any:
        (query,) = given["MetricDataQueries"]
        found = self.series[query["MetricStat"]["Metric"]["MetricName"]]
        if isinstance(found, Exception):
            return found
        at = [(NOW - timedelta(seconds=age)).isoformat() for age in found]
        return [{"id": "metric", "at": at, "values": list(found.values())}]

    def postgres(self, *_: Any, **__: Any) -> Rows:
        """Say whether the server behind the endpoint is a standby. Errors: what is given instead."""
        if isinstance(self.standby, Exception):
            raise self.standby
        return Rows(rows=({"standby": self.standby},), truncated=False, withheld=0, elapsed=timedelta(0), sees_all=True)


def answered(**world: Any) -> PlanDraft | NotApplicable:
    """Return what is planned in a world."""
    return ACTION.plan(INPUTS, ACTION.observe(INPUTS, RdsReader(**world)))


def test_a_lost_primary_s_replica_is_promoted_once_and_only_by_people() -> None:
    """One call that is never repeated, irreversible, and with the fence written down to be looked at again."""
    draft = answered()
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    assert (call.operation, call.repeat) == ("promote_read_replica", Repeat.ONCE)
    assert call.arguments == {"DBInstanceIdentifier": "shop-replica", "BackupRetentionPeriod": 14}
    assert call.resources == (REPLICA["arn"],)
    assert draft.touches == (REPLICA["arn"], PRIMARY["arn"]), "nobody changes the old primary meanwhile"
    assert draft.risk == Risk.DESTRUCTIVE
    assert set(draft.hazards) == {Hazard.LOSES_DATA, Hazard.OUTAGE}
    assert draft.undo is None
    held = {(p.read.arguments["DBInstanceIdentifier"], p.path): p.equals for p in draft.preconditions}
    assert held == {
        ("shop-replica", "status"): "available",
        ("shop-replica", "pending"): [],
        ("shop-replica", "replicaOf"): "shop",
        ("shop", "status"): "failed",
    }


def _primary(**changes: Any) -> dict[str, Any]:
    return {**PRIMARY, **changes}


def _replica(**changes: Any) -> dict[str, Any]:
    return {**REPLICA, **changes}


ALIVE = _primary(status="available")


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        ({"replica": NotFound("there is none")}, "ReplicaMissing"),
        ({"replica": _replica(replicaOf=None)}, "NotAReplica"),
        ({"replica": _replica(replicaOf="billing")}, "ReplicaOfAnother"),
        ({"replica": _replica(replicaOf="arn:aws:rds:eu-west-1:123456789012:db:shop")}, "ReplicaOfAnother"),
        ({"replica": _replica(engine="aurora-postgresql")}, "EngineUnsupported"),
        ({"replica": _replica(status="backing-up")}, "ReplicaNotAvailable"),
        ({"replica": _replica(pending=["DBInstanceClass"])}, "ChangesPending"),
        ({"primary": _primary(status="available", multiAz=True), "groups": CUT_OFF}, "StandbyThere"),
        # Nothing of these shows that the old primary takes no writes.
        ({"primary": ALIVE}, "PrimaryNotFenced"),
        ({"primary": _primary(status="rebooting")}, "PrimaryNotFenced"),
        ({"primary": _primary(status="storage-full")}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": CUT_OFF}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": OPEN, "connections": {10: 0.0}}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": CUT_OFF, "connections": {400: 0.0}}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": CUT_OFF, "connections": {}}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": NotFound("none"), "connections": {10: 0.0}}, "PrimaryNotFenced"),
        ({"primary": ALIVE, "groups": {"sg-1": {"ingress": []}}, "connections": {10: 0.0}}, "PrimaryNotFenced"),
        ({"primary": {**ALIVE, "securityGroups": []}, "connections": {10: 0.0}}, "PrimaryNotFenced"),
        (
            {"primary": {**ALIVE, "securityGroupsActive": False}, "groups": CUT_OFF, "connections": {10: 0.0}},
            "PrimaryNotFenced",
        ),
        ({"endpoint": ReadError("ConnectionMissing", "none")}, "EndpointSwitchMissing"),
        ({"endpoint": "shop.internal:5432"}, "EndpointFixed"),
        ({"endpoint": "replica.internal:5432"}, "EndpointFixed"),
        ({"lag": {}}, "ReplicaLagUnknown"),
        ({"lag": {30: -1.0}}, "ReplicaLagUnknown"),
        ({"connections": {}}, "ReplicaLagUnknown"),
        ({"lag": {30: 61.0}}, "ReplicaLagTooHigh"),
        # Replication broke two minutes before the primary was lost: what it wrote meanwhile is lost.
        ({"lag": {30: -1.0, 131: 1.0}, "connections": {10: 12.0}}, "ReplicaLagTooHigh"),
    ],
)
def test_what_is_not_shown_is_refused(world: dict[str, Any], reason: str) -> None:
    """A fence, a switch, a small and known loss, and nothing that would be done besides."""
    answer = answered(**world)
    assert isinstance(answer, NotApplicable), answer
    assert answer.reason == reason
    assert reason in ACTION.reasons


def test_a_primary_that_is_cut_off_with_nobody_connected_is_fenced() -> None:
    """And the plan holds only while its security groups stay as they are."""
    draft = answered(primary=ALIVE, groups=CUT_OFF, connections={10: 0.0, 200: 40.0})
    assert isinstance(draft, PlanDraft)
    held = {p.path: p.equals for p in draft.preconditions}
    assert held["securityGroups"] == ["sg-1", "sg-2"]
    assert (held["sg-1.ingress"], held["sg-2.ingress"]) == ([], [])


@pytest.mark.parametrize("name", ["lag", "connections", "groups", "primary", "replica", "endpoint"])
@pytest.mark.parametrize("reason", ["AccessDenied", "Timeout", "MalformedAnswer"])
def test_what_cannot_be_read_is_an_error_and_no_plan(name: str, reason: str) -> None:
    """Nothing of it is taken for an answer."""
    with pytest.raises(ReadError) as raised:
        answered(**{name: ReadError(reason, "no answer")})
    assert raised.value.reason == reason


PROMOTED = _replica(replicaOf=None)


def _judged(**world: Any) -> tuple[str | None, bool, str | None]:
    before = ACTION.observe(INPUTS, RdsReader())
    found = ACTION.judge(INPUTS, before, ACTION.measure(INPUTS, RdsReader(**world)))
    return found.outcome, found.measured, found.waiting_for


def test_it_has_helped_when_the_application_reaches_one_primary_that_takes_writes() -> None:
    """Not before: the promotion ends, a person leads the endpoint, and the old primary stays away."""
    assert _judged(replica=PROMOTED) == ("Helped", True, None)
    assert _judged(replica=_replica(status="modifying")) == (None, True, "the end of the promotion")
    assert _judged(replica={**PROMOTED, "status": "backing-up"}) == (None, True, "the end of the promotion")
    led = "the application's endpoint, which a person leads to replica.internal:5432"
    assert _judged(replica=PROMOTED, standby=True) == (None, True, led)
    assert _judged(replica=PROMOTED, standby=ReadError("Refused", "nobody listens")) == (None, True, led)
    assert _judged(replica=PROMOTED, primary=ALIVE) == ("Worse", True, None)
    assert _judged(replica=PROMOTED, primary=_primary(status="starting"))[:2] == (None, False)
    assert _judged(replica=NotFound("there is none"))[:2] == (None, False)


def test_after_an_interruption_the_instance_itself_tells_whether_it_was_made() -> None:
    """And where it can't, nothing is made again anyhow."""
    draft = answered()
    assert isinstance(draft, PlanDraft)
    for replica, told in (
        (REPLICA, False),
        (_replica(status="modifying"), True),
        (PROMOTED, True),
        (NotFound("there is none"), None),
    ):
        facts = ACTION.observe(INPUTS, RdsReader(replica=replica))
        assert ACTION.applied(draft.calls[0], INPUTS, facts) is told
        assert PromoteFacts.model_validate(facts.wire()) == facts, "as it is stored with the plan"
