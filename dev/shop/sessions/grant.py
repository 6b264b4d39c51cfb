"""What runs of the sessions' team may read and change, and the connections they name."""

from collections.abc import Mapping
from typing import Any

from ..grant import LABEL
from ..shop import Shop
from .place import GROUP, Place, cache

#: Who names a Secret in a run must be able to read it.
_RESPONDERS = {"kind": "Group", "name": "responders", "apiGroup": "rbac.authorization.k8s.io"}
_OPERATOR = {"kind": "ServiceAccount", "name": "incident-operator", "namespace": "incident-system"}


def grant(account: str, label: str, name: str) -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": "The sessions' cache: who its primary is, and one failover where people agree.",
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": {
                "roleArn": f"arn:aws:iam::{account}:role/IncidentOperatorRemediation",
                "readRoleArn": f"arn:aws:iam::{account}:role/IncidentOperatorRead",
                "regions": ["us-east-1"],
                "resources": [f"arn:aws:elasticache:*:{account}:replicationgroup:{GROUP}"],
            },
            "actions": ["aws.*", "cloudtrail.*", "cloudwatch.*", "elasticache.*", "redis.*"],
            "automation": {"applyUpTo": "Disruptive", "askUpTo": "Disruptive"},
            "probes": {"cidrs": ["127.0.0.0/8"]},
        },
    }


def connections(shop: Shop, namespace: str) -> list[dict[str, Any]]:
    """Return the Secrets of endpoint and nodes, and the Role that lets the operator and responders read them."""
    found = cache(shop)
    nodes = {f"cache-{node.removeprefix(f'{GROUP}-')}": place for node, place in found.nodes.items()}
    places: Mapping[str, Place] = {"cache-endpoint": found.endpoint, **nodes}
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "ops.shopsmart.com/connection",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"url": f"redis://{host}:{port}"},
        }
        for name, (host, port) in places.items()
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "cache", "namespace": namespace}}
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(places), "verbs": ["get"]}
    return [
        *secrets,
        {**role, "kind": "Role", "rules": [rule]},
        {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "cache"},
            "subjects": [_OPERATOR, _RESPONDERS],
        },
    ]
