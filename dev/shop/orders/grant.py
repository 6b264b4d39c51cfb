"""What runs of the orders team may do, and the objects that let the operator reach its database."""

from collections.abc import Mapping
from typing import Any

from ..granting import a_grant, connection_objects
from .database import INSTANCE, Database
from .hosts import FLEET
from .replica import REPLICA

#: Connection names of a run, by the role behind each.
CONNECTIONS = {
    "database": "incident_reader",
    "databaseOperator": "incident_operator",
    "databaseOwner": "orders_owner",
}


#: The Secret of the application's own endpoint: it leads to the instance until people lead it elsewhere.
APPLICATION = "application"


def grant(
    account: str, label: str, name: str, database: Database, application: Database | None = None
) -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    places = {database.place, (application or database).place}
    return a_grant(
        account,
        name=name,
        label=label,
        description="The orders: their database's sessions, statements and indexes, and the hosts that hold sessions.",
        resources=[
            *(f"arn:aws:rds:*:{account}:db:{name}" for name in (INSTANCE, REPLICA)),
            f"arn:aws:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/{FLEET.name}",
        ],
        actions=[
            # To zero and back is never automatic, whatever a grant says: somebody breaks the glass.
            *("autoscaling.recycle-instances", "autoscaling.recycle-through-zero"),
            *("aws.*", "cloudtrail.*", "cloudwatch.*", "postgres.*", "rds.*"),
        ],
        ask_up_to="Destructive",
        probes={
            "hosts": sorted({host for host, _ in places}),
            "cidrs": ["127.0.0.0/8"],
            "ports": sorted({port for _, port in places}),
        },
    )


def secrets(namespace: str, database: Database, application: Database | None = None) -> list[dict[str, Any]]:
    """Return the Secrets of the connections, and the Role that lets the operator and responders read just these."""
    urls = {name.lower(): database.url(role) for name, role in CONNECTIONS.items()}
    led = (application or database).url(CONNECTIONS["database"])
    return connection_objects(namespace, {**urls, APPLICATION: led})


def reached(told: Mapping[str, Any]) -> tuple[Database, Database]:
    """Return the database by its own endpoint and by the application's, as its process tells of it."""
    base = Database.reached_at(told["host"], told["port"], told["passwords"])
    return base, Database.reached_at(*told["application"], told["passwords"])


def connections() -> dict[str, Any]:
    """Return a run's `spec.connections`."""
    return {connection: {"secretRef": {"name": connection.lower()}} for connection in CONNECTIONS}
