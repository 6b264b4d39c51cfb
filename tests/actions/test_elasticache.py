"""A failover only where the primary is gone, nothing was done yet and a replica has all; and who stayed behind."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.cache import Clients, ClientsInputs
from incident_operator.actions.elasticache import (
    DescribeGroup,
    FailOver,
    FailoverInputs,
    GroupInputs,
    NodeConnection,
)
from incident_operator.actions.ports import NotFound, ReadError, RedisAnswer
from incident_operator.actions.reads.cache import READS
from incident_operator.api.meta import Risk
from incident_operator.api.plan import Hazard, Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.builders import NOW

ARN = "arn:aws:elasticache:us-east-1:123456789012:replicationgroup:carts"
SILENT = ReadError("Refused", "carts-001 refuses connections")
PRIMARY = {"role": "master", "connected_slaves": 1}
LOST = {
    "role": "slave",
    "master_link_status": "down",
    "master_link_down_since_seconds": 120,
    "master_sync_in_progress": 0,
    "slave_repl_offset": 5000,
}
FOLLOWS = {**LOST, "master_link_status": "up", "master_link_down_since_seconds": 0}
INPUTS = FailoverInputs(
    replication_group="carts",
    nodes=(
        NodeConnection(member="carts-001", connection="node001"),
        NodeConnection(member="carts-002", connection="node002"),
    ),
    endpoint="cache",
)


@dataclass
class Reader(DictReader):
    """Answers of connections too. Shape: by connection and command; an exception is raised."""

    redis_answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def redis(self, connection: str, command: str, *, timeout: timedelta = timedelta(seconds=5)) -> RedisAnswer:
        """Return the answer. Errors: what is to be raised."""
        answer = self.redis_answers[connection, command]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, RedisAnswer):
            return answer
        return RedisAnswer(elapsed=timedelta(0), fields=answer)


def a_group(**changes: Any) -> dict[str, Any]:
    """Return a group of two nodes as projected."""
    members = [
        {"id": "carts-001", "role": "primary", "zone": "us-east-1a", "endpoint": None},
        {"id": "carts-002", "role": "replica", "zone": "us-east-1b", "endpoint": None},
    ]
    part = {"id": "0001", "status": "available", "primaryEndpoint": None, "members": members}
    given = {"status": "available", "automaticFailover": "disabled", "clusterEnabled": False, "nodeGroups": [part]}
    return {"id": "carts", "arn": ARN, **given, **changes}


def an_event(kind: str, *, minutes: float, first: str = "carts-001", second: str | None = "carts-002") -> Any:
    """Return an event so many minutes ago."""
    at = (NOW - timedelta(minutes=minutes)).isoformat()
    return {"at": at, "source": "carts", "kind": kind, "first": first, "second": second}


def a_reader(
    *, group: Any = None, events: Any = (), first: Any = SILENT, second: Any = None, endpoint: Any = SILENT
) -> Reader:
    """Return a world whose primary is gone, but for what is given."""
    return Reader(
        answers={
            "elasticache.describe_replication_groups": group if isinstance(group, Exception) else [group or a_group()],
            "elasticache.describe_events": list(events) if not isinstance(events, Exception) else events,
        },
        redis_answers={
            ("node001", "INFO replication"): first,
            ("node002", "INFO replication"): second or LOST,
            ("cache", "ROLE"): endpoint,
        },
    )


def planned(reader: Reader) -> PlanDraft | NotApplicable:
    """Return what the fix makes of a world."""
    action = FailOver()
    return action.plan(INPUTS, action.observe(INPUTS, reader))


def test_a_lost_primary_is_failed_over_once_by_naming_the_replica() -> None:
    """Without automatic failover; it loses data perhaps, so people are asked, and it can't be undone."""
    draft = planned(a_reader())
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    assert (call.operation, call.repeat) == ("modify_replication_group", Repeat.ONCE)
    assert call.arguments == {"ReplicationGroupId": "carts", "PrimaryClusterId": "carts-002", "ApplyImmediately": True}
    assert (draft.risk, draft.hazards, draft.touches) == (Risk.DISRUPTIVE, (Hazard.LOSES_DATA,), (ARN,))
    assert draft.irreversible


def test_with_automatic_failover_aws_chooses() -> None:
    """It refuses a named primary then."""
    draft = planned(a_reader(group=a_group(automaticFailover="enabled")))
    assert isinstance(draft, PlanDraft)
    assert draft.calls[0].operation == "test_failover"
    assert draft.calls[0].arguments == {"ReplicationGroupId": "carts", "NodeGroupId": "0001"}


WRONG_TURNS: dict[str, tuple[dict[str, Any], str]] = {
    "a failover is done already": ({"events": [an_event("FailoverCompleted", minutes=3)]}, "FailoverAlreadyDone"),
    "a failover was asked for": (
        {"events": [an_event("FailoverRequested", minutes=1, first="0001", second=None)]},
        "FailoverInProgress",
    ),
    "the group is being changed": ({"group": a_group(status="modifying")}, "ReplicationGroupNotAvailable"),
    "the primary answers": ({"first": PRIMARY, "second": FOLLOWS}, "PrimaryAnswers"),
    "applications reach a primary": ({"endpoint": {"role": "master"}}, "PrimaryAnswers"),
    "only we do not reach the primary": ({"second": FOLLOWS}, "PrimaryOnlySilentToUs"),
    "AWS calls a replica the primary": ({"first": FOLLOWS}, "RolesDisagree"),
    "two primaries": ({"second": PRIMARY}, "RolesDisagree"),
    "the replica lost its primary before the incident": (
        {"second": {**LOST, "master_link_down_since_seconds": 86400}},
        "NoReplicaInSync",
    ),
    "the replica never had a whole copy": ({"second": {**LOST, "master_sync_in_progress": 1}}, "NoReplicaInSync"),
    "the replica never had its primary": (
        {"second": {**LOST, "master_link_down_since_seconds": -1}},
        "NoReplicaInSync",
    ),
    "no node answers": ({"second": SILENT}, "NoReplicaInSync"),
    "there is no such group": ({"group": NotFound("there is none")}, "ReplicationGroupMissing"),
}


@pytest.mark.parametrize(("world", "reason"), WRONG_TURNS.values(), ids=list(WRONG_TURNS))
def test_a_failover_that_would_harm_or_cure_nothing_is_not_planned(world: dict[str, Any], reason: str) -> None:
    """The reason is one that the action declares."""
    draft = planned(a_reader(**world))
    assert isinstance(draft, NotApplicable)
    assert draft.reason == reason
    assert draft.for_now == (reason in {"FailoverInProgress", "ReplicationGroupNotAvailable"})
    assert reason in FailOver.reasons


@pytest.mark.parametrize(
    "reason", ["AccessDenied", "NotGranted", "ConnectionMissing", "ConnectionInvalid", "InvalidRequest"]
)
@pytest.mark.parametrize("place", ["first", "second", "endpoint"])
def test_a_connection_that_we_may_not_use_says_nothing_of_the_server(place: str, reason: str) -> None:
    """Only silence counts as silence."""
    with pytest.raises(ReadError) as caught:
        planned(a_reader(**{place: ReadError(reason, "no")}))
    assert caught.value.reason == reason


@pytest.mark.parametrize("member", ["nodeGroups", "status", "id"])
def test_a_description_that_lacks_something_is_malformed(member: str) -> None:
    """And no finding."""
    group = a_group()
    del group[member]
    with pytest.raises(ReadError) as caught:
        planned(a_reader(group=group))
    assert caught.value.reason == "MalformedAnswer"


def test_it_helped_only_once_all_three_signals_are_there() -> None:
    """Reported complete, roles swapped, a primary behind the endpoint; before that it is measured and not yet so."""
    action = FailOver()
    before = action.observe(INPUTS, a_reader())
    swapped = a_group()
    for member, role in zip(swapped["nodeGroups"][0]["members"], ("replica", "primary"), strict=True):
        member["role"] = role
    done, master = [an_event("FailoverCompleted", minutes=0)], {"role": "master"}
    worlds: list[dict[str, Any]] = [
        {},
        {"group": swapped, "endpoint": master},
        {"events": done, "endpoint": master},
        {"group": swapped, "events": done},
    ]
    for world in worlds:
        judged = action.judge(INPUTS, before, action.observe(INPUTS, a_reader(**world)))
        assert (judged.outcome, judged.measured) == (None, True)
    after = action.observe(INPUTS, a_reader(group=swapped, events=done, endpoint=master, second=PRIMARY))
    assert action.judge(INPUTS, before, after).outcome == "Helped"


def test_events_are_kept_as_tokens_only() -> None:
    """A message of any other kind is counted and never kept."""
    messages = (
        "Failover from master node carts-001 to replica node carts-002 completed",
        "Test Failover API called for node group 0001",
        "Added cache nodes by Eve <eve@shop.example>",
    )
    answer = {"Events": [{"Message": m, "Date": NOW, "SourceIdentifier": "carts"} for m in messages]}
    kept = READS["elasticache", "describe_events"].project(answer)
    assert [event["kind"] for event in kept] == ["FailoverCompleted", "FailoverRequested", "Other"]
    assert (kept[0]["first"], kept[0]["second"]) == ("carts-001", "carts-002")
    assert "Eve" not in str(kept)


def test_a_group_without_roles_is_unclear() -> None:
    """AWS does not say who the primary is where cluster mode is on."""
    group = a_group()
    for member in group["nodeGroups"][0]["members"]:
        member["role"] = None
    action, inputs = DescribeGroup(), GroupInputs(replication_group="carts")
    found = action.findings(inputs, action.observe(inputs, a_reader(group=group)))
    assert isinstance(found, Unclear)
    assert found.reason == "RolesUnknown"


# --- who stayed behind ------------------------------------------------------------------------------------------------


def clients(role: str, addresses: dict[str, int], *, total: int | None = None, **inputs: Any) -> Any:
    """Return what the check finds on a node with these clients."""
    rows = tuple({"address": a, "clients": n} for a, n in addresses.items())
    listed = RedisAnswer(elapsed=timedelta(0), rows=rows, fields={"addresses": total or len(rows)})
    reader = Reader(
        answers={},
        redis_answers={
            ("old", "ROLE"): {"role": role},
            ("old", "CLIENT LIST"): listed,
            ("old", "INFO errorstats"): {"errorstat_READONLY_count": 7},
        },
    )
    given, action = ClientsInputs(connection="old", hosts=("10.0.1.0/24",), **inputs), Clients()
    facts = action.observe(given, reader)
    return action.output(facts), action.findings(given, facts)


def test_only_hosts_are_named_and_all_of_them() -> None:
    """By address; whoever else is connected to the former primary is nobody to recycle."""
    output, findings = clients("slave", {"10.0.1.7": 3, "10.9.9.9": 1, "10.0.1.4": 1})
    assert output.hosts == ("10.0.1.4", "10.0.1.7")
    assert (output.clients, output.read_only_errors) == (4, 7)
    (found,) = findings
    assert found.reason == "HostsOnReplica"
    assert "10.0.1.4, 10.0.1.7" in found.message
    assert "10.9.9.9" not in found.message


@pytest.mark.parametrize(
    ("role", "addresses", "inputs"),
    [
        ("master", {"10.0.1.7": 3}, {}),
        ("slave", {"10.9.9.9": 1}, {}),
        ("slave", {"10.0.1.7": 3}, {"reads_from_replicas": True}),
    ],
)
def test_who_is_where_they_should_be_is_no_finding(role: str, addresses: dict[str, int], inputs: Any) -> None:
    """On the primary, no host of ours, or reading on purpose."""
    assert clients(role, addresses, **inputs)[1] == []


def test_nobody_among_too_many_is_unclear() -> None:
    """Not all addresses were counted."""
    found = clients("slave", {"10.9.9.9": 1}, total=500)[1]
    assert isinstance(found, Unclear)
