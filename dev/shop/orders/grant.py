"""What runs of the orders team may do, and the objects that let the operator reach its database."""

from typing import Any

from dev.shop.grant import LABEL

from .database import INSTANCE, Database

#: Connection names of a run, by the role behind each.
CONNECTIONS = {
    "database": "incident_reader",
    "databaseOperator": "incident_operator",
    "databaseOwner": "orders_owner",
}


def grant(account: str, label: str, name: str, database: Database) -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    iam = f"arn:aws:iam::{account}"
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The orders: their database's sessions, statements and indexes.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"{iam}:role/IncidentOperatorRemediation",
                "readRoleArn": f"{iam}:role/IncidentOperatorRead",
                "regions": ["us-east-1"],
                "resources": [f"arn:aws:rds:*:{account}:db:{INSTANCE}"],
            },
            "actions": ["aws.*", "cloudtrail.*", "cloudwatch.*", "postgres.*", "rds.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Destructive"},
            "probes": {"hosts": [database.server.host], "cidrs": ["127.0.0.0/8"], "ports": [database.server.port]},
        },
    }


def secrets(namespace: str, database: Database) -> list[dict[str, Any]]:
    """Return the Secrets of the connections, and the Role that lets the operator read just these."""
    names = {connection: connection.lower() for connection in CONNECTIONS}
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "ops.shopsmart.com/connection",
            "metadata": {"name": names[connection], "namespace": namespace},
            "stringData": {"url": database.url(role)},
        }
        for connection, role in CONNECTIONS.items()
    ]
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(names.values()), "verbs": ["get"]}]
    api = "rbac.authorization.k8s.io"
    metadata = {"name": "incident-connections", "namespace": namespace}
    account = {"kind": "ServiceAccount", "name": "incident-operator", "namespace": "incident-system"}
    made.append({"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    made.append(
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": metadata["name"]},
            # Who names a Secret in a run must be able to read it.
            "subjects": [account, {"kind": "Group", "name": "responders", "apiGroup": api}],
        }
    )
    return made


def connections() -> dict[str, Any]:
    """Return a run's `spec.connections`."""
    return {connection: {"secretRef": {"name": connection.lower()}} for connection in CONNECTIONS}
