"""The DB instance of the orders, as RDS knows it: its endpoint is the real PostgreSQL."""

from dev.databases import Server
from dev.shop.shop import Shop

from .database import INSTANCE, Database
from .replica import REPLICA


def seed(shop: Shop, database: Database, *, replica: Server | None = None) -> None:
    """Make the instance where it is missing: with a standby in another zone, or with this read replica instead."""
    rds = shop.client("rds")
    known = {found["DBInstanceIdentifier"] for found in rds.describe_db_instances()["DBInstances"]}
    if INSTANCE in known:
        return
    host, port = database.place
    rds.create_db_instance(
        DBInstanceIdentifier=INSTANCE,
        DBInstanceClass="db.r5.large",
        Engine="postgres",
        AllocatedStorage=100,
        MultiAZ=replica is None,
        MasterUsername="postgres",
        MasterUserPassword=database.passwords["postgres"],
        Port=port,
        Tags=[{"Key": "shopsmart.com/address", "Value": host}],
    )
    if replica is not None:
        replicated(shop, replica)


def replicated(shop: Shop, replica: Server) -> None:
    """Make the read replica known to RDS."""
    shop.client("rds").create_db_instance_read_replica(
        DBInstanceIdentifier=REPLICA,
        SourceDBInstanceIdentifier=INSTANCE,
        Port=replica.port,
        Tags=[{"Key": "shopsmart.com/address", "Value": replica.host}],
    )


def status(shop: Shop, name: str = INSTANCE) -> str:
    """Return what RDS says of one of the two."""
    (found,) = shop.client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    return str(found["DBInstanceStatus"])
