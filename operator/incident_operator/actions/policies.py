"""Read IAM policy documents: does a statement speak of this role, action and resource?

Conditions are never guessed: an Allow with one does not count as allowing, a Deny with one is reported as denying
under conditions. Wildcards are IAM's `*` and `?`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..core.risk import covers, matches

Verdict = Literal["Allows", "Denies", "Silent"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One action on one resource; either may be a pattern."""

    action: str
    resource: str


def statements(document: Any) -> list[Mapping[str, Any]]:
    """Return the statements of a document; none of a missing one."""
    found = (document or {}).get("Statement", ())
    return list(found) if isinstance(found, list | tuple) else [found]


def listed(value: Any) -> list[str]:
    """Return a policy element as a list."""
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def speaks_of(statement: Mapping[str, Any], pair: Pair) -> bool:
    """Tell whether a statement's action and resource cover a pair."""
    action, resource = pair.action.lower(), pair.resource
    if "Action" in statement:
        acts = any(covers(a.lower(), action) for a in listed(statement["Action"]))
    else:
        acts = not any(covers(a.lower(), action) for a in listed(statement.get("NotAction")))
    if not acts:
        return False
    if "Resource" in statement:
        return any(covers(r, resource) for r in listed(statement["Resource"]))
    if "NotResource" in statement:
        return not any(covers(r, resource) for r in listed(statement["NotResource"]))
    return True


def names_role(statement: Mapping[str, Any], role_arn: str) -> bool:
    """Tell whether a resource policy's statement decides for a role: itself, its sessions, or everybody.

    The account as principal counts for a Deny alone: an Allow of it only lets the account's own policies decide.
    """
    principal = statement.get("Principal")
    if principal is None and "NotPrincipal" in statement:
        excluded = statement["NotPrincipal"]
        names = listed(excluded.get("AWS") if isinstance(excluded, Mapping) else excluded)
        return role_arn not in names
    if principal == "*":
        return True
    if not isinstance(principal, Mapping):
        return False
    account = role_arn.split(":")[4]
    name = role_arn.rsplit("/", 1)[-1]
    return any(
        matches(role_arn, (p,))
        or p == "*"
        or (statement.get("Effect") == "Deny" and (p == account or p.endswith(f":iam::{account}:root")))
        or p.startswith(f"arn:aws:sts::{account}:assumed-role/{name}/")
        for p in listed(principal.get("AWS"))
    )


def resource_policy(document: Any, role_arn: str, pair: Pair) -> Verdict:
    """Return what a resource policy says of a role and a pair; of conditions only a Deny counts."""
    verdict: Verdict = "Silent"
    for statement in statements(document):
        if not names_role(statement, role_arn) or not speaks_of(statement, pair):
            continue
        if statement.get("Effect") == "Deny":
            return "Denies"
        if "Condition" not in statement:
            verdict = "Allows"
    return verdict


def allows(document: Any, pair: Pair) -> bool:
    """Tell whether an identity policy allows a pair without conditions, and does not deny it."""
    allowed = False
    for statement in statements(document):
        if speaks_of(statement, pair):
            if statement.get("Effect") == "Deny":
                return False
            allowed = allowed or "Condition" not in statement
    return allowed


def granted(document: Any) -> list[Pair]:
    """Return every action-resource pair that a document's Allow statements list; NotAction and NotResource as `*`."""
    return [
        Pair(action=action, resource=resource)
        for statement in statements(document)
        if statement.get("Effect") == "Allow"
        for action in (listed(statement.get("Action")) or ["*"])
        for resource in (listed(statement.get("Resource")) or ["*"])
    ]


def added(before: Any, after: Any) -> list[Pair]:
    """Return the pairs that `after` lists and `before` does not allow. Shape: sorted, patterns as written."""
    new = {(p.action, p.resource) for p in granted(after) if not allows(before, p)}
    return [Pair(action=a, resource=r) for a, r in sorted(new)]


def document_of(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Return the smallest document that allows exactly these pairs: one statement per set of resources."""
    by_action: dict[str, set[str]] = {}
    for pair in pairs:
        by_action.setdefault(pair.action, set()).add(pair.resource)
    by_resources: dict[tuple[str, ...], list[str]] = {}
    for action, resources in sorted(by_action.items()):
        by_resources.setdefault(tuple(sorted(resources)), []).append(action)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": list(resources)}
            for resources, actions in sorted(by_resources.items())
        ],
    }
