"""What the operator may do by its manifests, and what it asked for by the API server's audit log."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.controlplane.kubectl import kustomized
from dev.loopback import ROOT
from dev.stack import OPERATOR, OPERATOR_NAMESPACE

#: What the role `system:discovery`, which every account has, lets anybody ask.
DISCOVERY = ("/api", "/apis", "/version", "/openapi")


@dataclass(frozen=True, order=True, kw_only=True)
class Right:
    """One verb on one resource.

    Shape: `resource` has its subresource and group, as `incidentruns/status.ops.shopsmart.com`; one of the core group
    is `events`. `namespace` is empty for "in all of them".
    """

    verb: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        """Return it as one would say it."""
        return f"{self.verb} {self.resource}" + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request of the operator's. Shape: `right` is None for what is not about a resource, like discovery."""

    right: Right | None
    path: str
    allowed: bool

    def within(self, rights: Iterable[Right]) -> bool:
        """Tell whether rights cover it: those for all namespaces, or for its own."""
        if self.right is None:
            return self.path.startswith(DISCOVERY)
        everywhere = Right(verb=self.right.verb, resource=self.right.resource)
        return not {self.right, everywhere}.isdisjoint(rights)


def granted() -> frozenset[Right]:
    """Return what manifests/base gives to the operator's account, through whichever binding.

    Errors: ValueError for a rule that this can't say: by name, or for URLs.
    """
    manifests = kustomized(ROOT / "manifests/base")
    roles = {(m["kind"], m["metadata"]["name"]): m for m in manifests if m["kind"] in ("Role", "ClusterRole")}
    found: set[Right] = set()
    for binding in manifests:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding") or not _ours(binding):
            continue
        role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        namespace = binding["metadata"].get("namespace", "") if binding["kind"] == "RoleBinding" else ""
        found.update(right for rule in role["rules"] for right in _rights(rule, namespace))
    return frozenset(found)


def _ours(binding: dict[str, Any]) -> bool:
    return any(s["kind"] == "ServiceAccount" and s["name"] == OPERATOR for s in binding["subjects"])


def _rights(rule: dict[str, Any], namespace: str) -> Iterator[Right]:
    if set(rule) != {"apiGroups", "resources", "verbs"}:
        raise ValueError(f"a rule with {sorted(rule)}: teach tests/e2e/rights.py to read it")
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield Right(verb=verb, resource=_named(resource, group), namespace=namespace)


def _named(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def lines(log: Path) -> int:
    """Return how long the log is by now."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def asked(log: Path, *, since: int = 0) -> list[Request]:
    """Return what operators asked, in order, leaving out the first `since` lines; kubectl's requests are people's."""
    if not log.exists():
        return []
    entries = [json.loads(line) for line in log.read_text().splitlines()[since:]]
    user = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}"
    return [
        _request(entry)
        for entry in entries
        if entry["user"]["username"] == user and not entry.get("userAgent", "").startswith("kubectl/")
    ]


def _request(entry: dict[str, Any]) -> Request:
    about = entry.get("objectRef")
    right = None
    if about and about.get("resource"):
        sub = f"/{about['subresource']}" if about.get("subresource") else ""
        resource = _named(about["resource"] + sub, about.get("apiGroup", ""))
        # The namespace itself is no object in a namespace, though the log names it so.
        namespace = "" if about["resource"] == "namespaces" else about.get("namespace", "")
        right = Right(verb=entry["verb"], resource=resource, namespace=namespace)
    decision = entry.get("annotations", {}).get("authorization.k8s.io/decision")
    return Request(right=right, path=entry["requestURI"], allowed=decision == "allow")


def used(rights: Iterable[Right], requests: Iterable[Request]) -> frozenset[Right]:
    """Return those rights without which some request would have been refused."""
    made = {request.right for request in requests if request.right is not None}
    anywhere = {(right.verb, right.resource) for right in made}
    return frozenset(
        right for right in rights if (right in made if right.namespace else (right.verb, right.resource) in anywhere)
    )


def beyond(rights: frozenset[Right], requests: Iterable[Request]) -> list[str]:
    """Return the requests that were refused, or that something else than these rights let through, each kind once.

    A Secret of a connection is a team's to give, by a Role of its own namespace, or to refuse (docs/connections.md).
    """
    return sorted(
        {
            f"{request.right or request.path}: {'allowed by other rights' if request.allowed else 'refused'}"
            for request in requests
            if not (request.allowed and request.within(rights)) and not _is_a_teams(request.right)
        }
    )


def _is_a_teams(right: Right | None) -> bool:
    return right is not None and (right.verb, right.resource) == ("get", "secrets") and right.namespace != ""
