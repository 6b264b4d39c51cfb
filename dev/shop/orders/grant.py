"""What runs of the orders team may do, and the objects that let the operator reach its database."""

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


def grant(account: str, label: str, name: str, database: Database) -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
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
        probes={"hosts": [database.place[0]], "cidrs": ["127.0.0.0/8"], "ports": [database.place[1]]},
    )


def secrets(namespace: str, database: Database) -> list[dict[str, Any]]:
    """Return the Secrets of the connections, and the Role that lets the operator and responders read just these."""
    return connection_objects(namespace, {name.lower(): database.url(role) for name, role in CONNECTIONS.items()})


def connections() -> dict[str, Any]:
    """Return a run's `spec.connections`."""
    return {connection: {"secretRef": {"name": connection.lower()}} for connection in CONNECTIONS}
