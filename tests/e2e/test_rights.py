"""The operator's rights are those it uses: manifests/base/rbac.yaml against the API server's audit log.

That no operator of any end-to-end test asked for more is checked where the session's stack ends (conftest.py).
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dev.controlplane.kubectl import kustomized
from dev.loopback import ROOT
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from dev.stack import OPERATOR, OPERATOR_NAMESPACE, Stack

from .rights import Right, asked, beyond, granted, lines, used
from .test_policy import a_policy, wait_for_condition
from .world import TIME_SCALE, World, outcome, story

OURS = "ops.shopsmart.com"


@pytest.fixture
def stack(lone_stack: Stack) -> Stack:
    """Return a stack of its own: what is done here concerns the whole cluster."""
    return lone_stack


def right(text: str, namespace: str = "") -> Right:
    """Return a right of the text that it prints."""
    verb, resource = text.split(" ")
    return Right(verb=verb, resource=resource, namespace=namespace)


#: Asked for only when something comes between: one playbook may pass without. Right → when.
SOMETIMES = {
    right(f"get incidentruns.{OURS}"): "a status write met a newer object, or a plan outlived its run",
    right(f"get remediationplans.{OURS}"): "a status write met a newer object, or a plan was there already",
    right("get controllerrevisions.apps"): "an operator that did not pin the runbook itself goes on with its run",
    right("patch events"): "the same words about the same object were posted before",
    right(f"get interventions.{OURS}"): "an answer to a word met a newer object",
    right(f"get remediationpolicies.{OURS}"): "a status write met a newer object",
    right(f"get runbooks.{OURS}"): "a status write met a newer object",
    right(f"get incidents.{OURS}"): "a status write met a newer object, or the incident was there already",
    right(
        f"acknowledge incidents.{OURS}"
    ): "never by a request: admission asks for it when Slack or PagerDuty is heard",
    right(f"note incidents.{OURS}"): "as acknowledge",
    right(f"get escalationpolicies.{OURS}"): "an operator for other namespaces asks for that of its own",
    right(f"get clusterrunbooks.{OURS}"): "a status write met a newer object, mostly another operator's",
}


def test_a_playbook_uses_every_right_and_asks_for_no_other(stack: Stack, make_world: Callable[..., World]) -> None:
    """As it is deployed, watching all namespaces, with a runbook of each kind, and with people asked on the way."""
    since = lines(stack.audit_log)
    world = make_world()
    fault, rights = FAULTS["inc-2023-1247"], granted()
    with world.customers(), world.operator(namespaces="") as operator, runbooks(world):
        operator.wait_leading()
        fault.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = world.manifest(fault.example)
        incident = manifest["spec"]["incident"]
        incident["severity"] = "P2"  # P0 and P1 watch recovery for longer: nothing else differs
        # Written, so that the run leaves a tombstone; and people are asked, so that they are answered.
        incident["detectedAt"] = world.admin.json("get", "namespace", world.name)["metadata"]["creationTimestamp"]
        manifest["spec"]["automation"] = {"applyUpTo": "None"}
        world.apply(manifest)
        plan = world.open_plan(manifest["metadata"]["name"])
        world.answer(world.say("bob", "Approve", plan, tier=plan["spec"]["tier"]))
        status = world.finished(manifest["metadata"]["name"])
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert wait_until(lambda: reported(world), seconds=10)
        # A policy whose users fail starts a run in the operator's own name.
        fault.heal(world.shop)
        policy = a_policy(world)
        world.admin.apply([policy])
        wait_for_condition(world, "Healthy", "True")
        fault.break_(world.shop)
        wait_for_condition(world, "Remediating", "True")
    requests = asked(stack.audit_log, since=since)
    assert beyond(rights, requests) == []
    assert set(SOMETIMES) <= rights, "listed above, but not in rbac.yaml any more: take the line out"
    made = used(rights, requests)
    unused = sorted(str(r) for r in rights - made - set(SOMETIMES))
    assert unused == [], "nobody asks for this: take it out of rbac.yaml, or say above when it is asked for"


@contextlib.contextmanager
def runbooks(world: World) -> Iterator[None]:
    """Apply the shipped runbook under the world's name, once for all namespaces and once for its own."""
    (shipped,) = yaml.safe_load_all((ROOT / "manifests/runbooks/lambda-failures.yaml").read_text())
    own = {"name": world.name, "namespace": world.name}
    world.admin.apply([{**shipped, "metadata": {"name": world.name}}, {**shipped, "kind": "Runbook", "metadata": own}])
    try:
        yield
    finally:
        world.admin.run("delete", "clusterrunbook", world.name)


def reported(world: World) -> bool:
    """Tell whether the operator has said of both that they hold."""
    found = world.admin.json("get", "clusterrunbook,runbook", "-n", world.name)["items"]
    ours = [book for book in found if book["metadata"]["name"] == world.name]
    ready = [c for book in ours for c in (book.get("status") or {}).get("conditions", []) if c["type"] == "Ready"]
    return [c["status"] for c in ready] == ["True", "True"]


def test_a_request_beyond_the_rights_is_seen(tmp_path: Path) -> None:
    """Refused, or let through by rights of others; discovery is everybody's, a Secret its team's."""
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}"

    def entry(uri: str, decision: str, about: dict[str, str] | None, agent: str = "kopf/1.45") -> str:
        annotations = {"authorization.k8s.io/decision": decision}
        line = {"user": {"username": account}, "verb": "get", "requestURI": uri, "annotations": annotations}
        return json.dumps({**line, "userAgent": agent, **({"objectRef": about} if about else {})})

    lease = {"resource": "leases", "apiGroup": "coordination.k8s.io", "name": "a"}
    log = tmp_path / "audit.jsonl"
    log.write_text(
        "\n".join(
            [
                entry("/apis", "allow", None),
                entry("/metrics", "allow", None),
                entry("/api/v1/namespaces/a", "allow", {"resource": "namespaces", "name": "a", "namespace": "a"}),
                entry("/api/v1/namespaces/a/configmaps/b", "forbid", {"resource": "configmaps", "namespace": "a"}),
                entry("/api/v1/namespaces/a/secrets/b", "allow", {"resource": "secrets", "namespace": "a"}),
                entry("/api/v1/secrets", "allow", {"resource": "secrets"}),
                entry("/api/v1/namespaces/a/pods/b", "allow", {"resource": "pods", "namespace": "a"}),
                entry("/api/v1/namespaces/a/pods/c", "allow", {"resource": "pods", "namespace": "a"}, "kubectl/v1.37"),
                entry("/a-lease", "allow", {**lease, "namespace": OPERATOR_NAMESPACE}),
                entry("/another-namespaces-lease", "forbid", {**lease, "namespace": "a"}),
            ]
        )
    )
    requests = asked(log)
    assert beyond(granted(), requests) == [
        "/metrics: allowed by other rights",
        "get configmaps in a: refused",
        "get leases.coordination.k8s.io in a: refused",
        "get pods in a: allowed by other rights",
        "get secrets: allowed by other rights",
    ]
    leases = right("get leases.coordination.k8s.io", OPERATOR_NAMESPACE)
    assert used(granted(), requests) == {leases, right("get namespaces")}


def test_no_rule_of_the_manifests_has_a_wildcard() -> None:
    """Nobody's role grows with kinds and verbs that are yet to come."""
    roles = [m for m in kustomized(ROOT / "manifests/base") if m["kind"] in ("Role", "ClusterRole")]
    assert len(roles) > 2
    wild = [m["metadata"]["name"] for m in roles for rule in m["rules"] for words in rule.values() if "*" in str(words)]
    assert wild == []
