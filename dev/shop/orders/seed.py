"""The DB instance of the orders, as RDS knows it: its endpoint is the real PostgreSQL."""

from dev.shop.shop import Shop

from .database import INSTANCE, Database


def seed(shop: Shop, database: Database) -> None:
    """Make the instance where it is missing."""
    rds = shop.client("rds")
    known = {found["DBInstanceIdentifier"] for found in rds.describe_db_instances()["DBInstances"]}
    if INSTANCE in known:
        return
    rds.create_db_instance(
        DBInstanceIdentifier=INSTANCE,
        DBInstanceClass="db.r5.large",
        Engine="postgres",
        AllocatedStorage=100,
        MultiAZ=True,
        MasterUsername="postgres",
        MasterUserPassword="unused-by-anybody",
        Port=database.server.port,
        Tags=[{"Key": "shopsmart.com/address", "Value": database.server.host}],
    )
