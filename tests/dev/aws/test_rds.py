"""RDS takes its time: what waits, what is flushed, what is away, and what comes back elsewhere."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev import databases
from dev.loopback import address
from dev.processes import wait_until

from .conftest import Account

NAME = "shop"


@pytest.fixture
def rds(unhurried: Account) -> Any:
    """A Multi-AZ instance that is a real server at an address of its own."""
    client = unhurried.admin.client("rds")
    client.create_db_instance(
        DBInstanceIdentifier=NAME,
        DBInstanceClass="db.r5.large",
        Engine="postgres",
        AllocatedStorage=20,
        MultiAZ=True,
        AvailabilityZone="us-east-1a",
        MasterUsername="postgres",
        MasterUserPassword="unused-by-anybody",
        Port=6543,
        Tags=[{"Key": "shopsmart.com/address", "Value": "127.0.0.9"}],
    )
    return client


def instance(rds: Any) -> dict[str, Any]:
    """Return the instance as it is described."""
    (found,) = rds.describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"]
    return dict(found)


def becomes(rds: Any, condition: Callable[[dict[str, Any]], bool]) -> bool:
    """Wait until the instance is so."""
    return wait_until(lambda: condition(instance(rds)), seconds=30)


def test_the_endpoint_is_the_real_server(rds: Any) -> None:
    """By its tag; the port is the instance's own."""
    assert instance(rds)["Endpoint"] == {"Address": "127.0.0.9", "Port": 6543}


def test_a_change_waits_for_its_window_and_apply_immediately_flushes_all_of_them(rds: Any) -> None:
    """The class is what it was until it is not; a change made now takes along what was meant for later."""
    rds.modify_db_instance(DBInstanceIdentifier=NAME, AllocatedStorage=50)
    waiting = instance(rds)
    assert (waiting["AllocatedStorage"], waiting["PendingModifiedValues"]) == (20, {"AllocatedStorage": 50})
    assert waiting["DBInstanceStatus"] == "available"
    rds.modify_db_instance(DBInstanceIdentifier=NAME, DBInstanceClass="db.r5.2xlarge", ApplyImmediately=True)
    during = instance(rds)
    assert (during["DBInstanceStatus"], during["DBInstanceClass"]) == ("modifying", "db.r5.large")
    assert becomes(rds, lambda found: found["DBInstanceStatus"] == "available")
    after = instance(rds)
    assert (after["DBInstanceClass"], after["AllocatedStorage"]) == ("db.r5.2xlarge", 50)
    assert not after.get("PendingModifiedValues")


def test_a_failover_comes_back_in_another_zone(rds: Any) -> None:
    """A reboot without it comes back where it was."""
    rds.reboot_db_instance(DBInstanceIdentifier=NAME)
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        rds.reboot_db_instance(DBInstanceIdentifier=NAME)
    assert becomes(rds, lambda found: found["DBInstanceStatus"] == "available")
    assert instance(rds)["AvailabilityZone"] == "us-east-1a"
    rds.reboot_db_instance(DBInstanceIdentifier=NAME, ForceFailover=True)
    assert becomes(rds, lambda found: found["AvailabilityZone"] == "us-east-1b")
    assert becomes(rds, lambda found: found["DBInstanceStatus"] == "available")


def test_only_a_class_that_is_offered_can_be_had(rds: Any) -> None:
    """RDS says which there are for an engine, and takes no other."""

    def offered(name: str) -> list[str]:
        found = rds.describe_orderable_db_instance_options(Engine="postgres", DBInstanceClass=name)
        return [option["DBInstanceClass"] for option in found["OrderableDBInstanceOptions"]]

    assert (offered("db.r5.2xlarge"), offered("db.r5.huge")) == (["db.r5.2xlarge"], [])
    with pytest.raises(ClientError, match="does not support"):
        rds.modify_db_instance(DBInstanceIdentifier=NAME, DBInstanceClass="db.r5.huge", ApplyImmediately=True)
    assert instance(rds)["DBInstanceStatus"] == "available"


REPLICA = "shop-replica"
PASSWORD = "the-master-user-s-own"  # noqa: S105


@pytest.fixture
def pair(unhurried: Account) -> Iterator[tuple[Any, databases.Server, databases.Server]]:
    """A primary and its read replica, both real."""
    client = unhurried.admin.client("rds")
    with databases.postgres(address()) as primary, databases.standby(primary, address()) as standby:
        with databases.admin(primary) as connection:
            connection.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
            assert databases.caught_up(connection)
        client.create_db_instance(
            DBInstanceIdentifier=NAME,
            DBInstanceClass="db.r5.large",
            Engine="postgres",
            AllocatedStorage=20,
            MasterUsername="postgres",
            MasterUserPassword=PASSWORD,
            Port=primary.port,
            Tags=[{"Key": "shopsmart.com/address", "Value": primary.host}],
        )
        client.create_db_instance_read_replica(
            DBInstanceIdentifier=REPLICA,
            SourceDBInstanceIdentifier=NAME,
            Port=standby.port,
            Tags=[{"Key": "shopsmart.com/address", "Value": standby.host}],
        )
        yield client, primary, standby


def replica(rds: Any) -> dict[str, Any]:
    """Return the replica as it is described."""
    (found,) = rds.describe_db_instances(DBInstanceIdentifier=REPLICA)["DBInstances"]
    return dict(found)


def test_a_replica_is_promoted_for_real_and_only_once(pair: tuple[Any, databases.Server, databases.Server]) -> None:
    """It leaves its source and takes writes; what is no replica is not promoted."""
    rds, _, standby = pair
    before = replica(rds)
    assert before["Endpoint"] == {"Address": standby.host, "Port": standby.port}
    assert before["ReadReplicaSourceDBInstanceIdentifier"] == NAME
    assert instance(rds)["ReadReplicaDBInstanceIdentifiers"] == [REPLICA]
    with pytest.raises(ClientError, match="not a read replica"):
        rds.promote_read_replica(DBInstanceIdentifier=NAME)
    rds.promote_read_replica(DBInstanceIdentifier=REPLICA, BackupRetentionPeriod=7)
    assert replica(rds)["DBInstanceStatus"] == "modifying"
    with pytest.raises(ClientError, match="not in available state"):
        rds.promote_read_replica(DBInstanceIdentifier=REPLICA)
    assert wait_until(lambda: replica(rds)["DBInstanceStatus"] == "available", seconds=30)
    assert replica(rds).get("ReadReplicaSourceDBInstanceIdentifier") is None
    assert instance(rds)["ReadReplicaDBInstanceIdentifiers"] == []
    with databases.admin(standby) as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        connection.execute("CREATE TABLE written ()")


def test_an_instance_whose_server_is_gone_has_failed(pair: tuple[Any, databases.Server, databases.Server]) -> None:
    """Its replica, which is there, has not."""
    rds, primary, _ = pair
    assert instance(rds)["DBInstanceStatus"] == "available"
    os.kill(primary.pid, signal.SIGQUIT)
    assert becomes(rds, lambda found: found["DBInstanceStatus"] == "failed")
    assert replica(rds)["DBInstanceStatus"] == "available"
