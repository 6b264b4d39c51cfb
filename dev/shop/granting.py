"""What the ActionGrants of the shop's teams have in common, and how runs of a team reach its servers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

LABEL = "shopsmart.com/team"
#: The roles that the operator assumes, where a team has none of its own.
REMEDIATION = "IncidentOperatorRemediation"
_READING = "IncidentOperatorRead"
_RBAC = "rbac.authorization.k8s.io"


def a_grant(
    account: str,
    *,
    name: str,
    label: str,
    description: str,
    resources: Sequence[str],
    actions: Sequence[str],
    role: str = REMEDIATION,
    regions: Sequence[str] = ("us-east-1",),
    protected: Sequence[str] = (),
    apply_up_to: str = "Disruptive",
    ask_up_to: str = "Disruptive",
    **more: Any,
) -> dict[str, Any]:
    """Return a grant for one account and the namespaces with `shopsmart.com/team: <label>`.

    Shape: `protected` are ARNs of those whose removals of access are on purpose; `more` is the rest of the spec.
    """
    iam = f"arn:aws:iam::{account}:role"
    aws = {
        "roleArn": f"{iam}/{role}",
        "readRoleArn": f"{iam}/{_READING}",
        "regions": list(regions),
        "resources": list(resources),
        **({"protectedActors": list(protected)} if protected else {}),
    }
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ActionGrant",
        "metadata": {"name": name},
        "spec": {
            "description": description,
            "namespaceSelector": {"matchLabels": {LABEL: label}},
            "aws": aws,
            "actions": list(actions),
            "automation": {"applyUpTo": apply_up_to, "askUpTo": ask_up_to},
            **more,
        },
    }


def written(manifest: Mapping[str, Any], header: str) -> str:
    """Return a grant as YAML, below a header of comments."""
    plain = json.loads(json.dumps(manifest))  # without the sharing that YAML would write as anchors
    return header + yaml.safe_dump(plain, sort_keys=False, width=110)


def connection_objects(namespace: str, urls: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the Secrets of connections by name, and the Role that lets the operator and responders read just these.

    Responders too: who names a Secret in a run must be able to read it.
    """
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "ops.shopsmart.com/connection",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"url": url},
        }
        for name, url in urls.items()
    ]
    role = {"apiVersion": f"{_RBAC}/v1", "metadata": {"name": "incident-connections", "namespace": namespace}}
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(urls), "verbs": ["get"]}
    operator = {"kind": "ServiceAccount", "name": "incident-operator", "namespace": "incident-system"}
    responders = {"kind": "Group", "name": "responders", "apiGroup": _RBAC}
    return [
        *secrets,
        {**role, "kind": "Role", "rules": [rule]},
        {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": "incident-connections"},
            "subjects": [operator, responders],
        },
    ]
