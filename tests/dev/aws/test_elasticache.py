"""Replication groups: real nodes, real replication, failovers that swap roles and are limited as AWS limits them."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.processes import wait_until

from .conftest import Account

GROUP = "sessions"


def group(client: Any) -> dict[str, Any]:
    """Return the group as described."""
    (found,) = client.describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"]
    return dict(found)


def places(client: Any) -> dict[str, tuple[str, int]]:
    """Return where each role is reached, and the primary endpoint as `endpoint`."""
    (part,) = group(client)["NodeGroups"]
    found = {m["CurrentRole"]: m["ReadEndpoint"] for m in part["NodeGroupMembers"]} | {
        "endpoint": part["PrimaryEndpoint"]
    }
    return {name: (at["Address"], at["Port"]) for name, at in found.items()}


def is_available(client: Any) -> bool:
    """Wait until the group is available: a failover, too, is over only then."""
    return wait_until(lambda: group(client)["Status"] == "available", seconds=60)


def swapped(client: Any, before: dict[str, tuple[str, int]]) -> bool:
    """Wait until a failover is over, and tell whether the former replica is the primary."""
    return wait_until(lambda: places(client)["primary"] == before["replica"], seconds=60) and is_available(client)


def at(place: tuple[str, int]) -> "redis.Redis":
    """Return a client of a node."""
    return redis.Redis(
        host=place[0], port=place[1], decode_responses=True, socket_timeout=10, retry=Retry(NoBackoff(), 0)
    )


def events(client: Any) -> list[str]:
    """Return what is told of the group, oldest first."""
    told = client.describe_events(SourceIdentifier=GROUP, SourceType="replication-group")["Events"]
    return [event["Message"] for event in reversed(told)]


def refused(call: Callable[[], Any]) -> str:
    """Return the code that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture
def cache(account: Account) -> Iterator[Any]:
    """Return the account's client, with an available group of two nodes."""
    with a_group(account) as client:
        yield client


@contextlib.contextmanager
def a_group(account: Account) -> Iterator[Any]:
    """Yield an account's client, with an available group of two nodes."""
    client = account.client("elasticache")
    client.create_replication_group(
        ReplicationGroupId=GROUP,
        ReplicationGroupDescription="sessions",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
    )
    assert is_available(client)
    yield client
    assert is_available(client)
    client.delete_replication_group(ReplicationGroupId=GROUP)


def test_a_failover_swaps_the_roles_and_is_told(cache: Any) -> None:
    """What was written is on the new primary; who stays connected through the endpoint stays on the old node."""
    before = places(cache)
    clinging = at(before["endpoint"])
    clinging.set("session:1", "cart")
    cache.test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
    assert swapped(cache, before)
    with pytest.raises(redis.ReadOnlyError):
        clinging.set("session:1", "other")
    assert at(before["endpoint"]).set("session:2", "cart")
    assert at(before["replica"]).get("session:1") == "cart"
    assert wait_until(lambda: at(before["primary"]).get("session:2") == "cart", seconds=60)
    assert events(cache) == [
        "Test Failover API called for node group 0001",
        "Failover from primary node sessions-001 to replica node sessions-002 completed",
    ]


def test_a_client_keeps_its_address_through_the_endpoint(cache: Any) -> None:
    """A node sees who is connected, as it would by a name that leads to it."""
    found = places(cache)
    source = found["endpoint"][0].rpartition(".")[0] + ".77"
    with socket.create_connection(found["endpoint"], source_address=(source, 0)) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(16) == b"+PONG\r\n"
        assert source in {c["addr"].split(":")[0] for c in at(found["primary"]).client_list()}


def test_a_lost_primary_is_failed_over_and_replaced(cache: Any) -> None:
    """AWS notices by itself where it may, and the lost node comes back as a replica."""
    before = places(cache)
    at(before["endpoint"]).set("session:1", "cart")
    with contextlib.suppress(redis.ConnectionError):
        at(before["primary"]).shutdown(nosave=True)
    assert swapped(cache, before)
    assert at(before["endpoint"]).get("session:1") == "cart"

    def replaced() -> bool:
        with contextlib.suppress(redis.RedisError):
            return at(before["primary"]).get("session:1") == "cart"
        return False

    assert wait_until(replaced, seconds=60)


def test_without_automatic_failover_a_primary_is_chosen_by_name(unhurried: Account) -> None:
    """And only then; a lost primary stays lost until somebody does."""
    with a_group(unhurried) as cache:
        _chosen_by_name(cache)


def _chosen_by_name(cache: Any) -> None:
    replica = {"ReplicationGroupId": GROUP, "PrimaryClusterId": "sessions-002", "ApplyImmediately": True}
    assert refused(lambda: cache.modify_replication_group(**replica)) == "InvalidParameterCombination"
    cache.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=False)
    assert group(cache)["AutomaticFailover"] == "disabled"
    test = {"ReplicationGroupId": GROUP, "NodeGroupId": "0001"}
    assert refused(lambda: cache.test_failover(**test)) == "InvalidReplicationGroupState"
    before = places(cache)
    cache.modify_replication_group(**replica)
    assert refused(lambda: cache.modify_replication_group(**replica)) == "InvalidReplicationGroupState"
    assert swapped(cache, before)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"ReplicationGroupId": "other", "NodeGroupId": "0001"}, "ReplicationGroupNotFoundFault"),
        ({"ReplicationGroupId": GROUP, "NodeGroupId": "0002"}, "NodeGroupNotFoundFault"),
    ],
)
def test_what_is_not_there_is_refused(cache: Any, call: dict[str, str], code: str) -> None:
    """By the codes that AWS uses."""
    assert refused(lambda: cache.test_failover(**call)) == code


def test_a_failover_is_in_the_journal_as_a_change(cache: Any, account: Account) -> None:
    """Though AWS calls it a test."""
    cache.test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
    (made,) = [call for call in account.ask("journal")["calls"] if call["operation"] == "TestFailover"]
    assert made["mutating"]


def test_failovers_are_limited(cache: Any) -> None:
    """To fifteen in a rolling day; the sixteenth is refused in AWS's words."""
    call = {"ReplicationGroupId": GROUP, "NodeGroupId": "0001"}
    for _ in range(15):
        cache.test_failover(**call)
        assert is_available(cache)
    assert refused(lambda: cache.test_failover(**call)) == "APICallRateForCustomerExceeded"
