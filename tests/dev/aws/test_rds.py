"""RDS takes its time: what waits, what is flushed, what is away, and what comes back elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

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
