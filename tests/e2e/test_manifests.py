"""What is applied in production, on a real API server: its strict validation is the schema validator here.

Nothing checks manifests better than who stores them: it knows its own kinds and ours, fields, values and pod security,
in the very version that the operator is tested with. There is no kubelet: what is shown of the Deployment is that it is
stored, and that its pods would be let in.
"""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl, KubectlError, Manifest, kustomized
from dev.loopback import ROOT
from dev.stack import OPERATOR, OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.evaluating import MEMORY_BYTES
from incident_operator.settings import TOLD_WITHIN, Settings
from tests.repo.files import tracked

FOLDERS = sorted(path.parent for path in tracked() if path.name == "kustomization.yaml")
#: What an installation applies, in this order.
INSTALLED = ("crds", "manifests/base", "manifests/runbooks")


def base(kind: str, name: str = OPERATOR) -> Manifest:
    """Return one object of manifests/base as it is rendered."""
    (found,) = (m for m in kustomized(ROOT / "manifests/base") if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


def a_pod() -> dict[str, Any]:
    """Return the pod that the Deployment's controller would make."""
    template = base("Deployment")["spec"]["template"]
    metadata = {**template["metadata"], "name": "a-pod", "namespace": OPERATOR_NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_kustomization_renders_all_that_lies_beside_it(folder: Path) -> None:
    """A manifest that is in the folder and not in its kustomization would never be applied."""
    assert kustomized(folder)
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    patches = {patch.get("path") for patch in listed.get("patches", [])}
    beside = {path.name for path in tracked() if path.parent == folder and path.suffix == ".yaml"}
    assert beside - {"kustomization.yaml"} <= {*listed.get("resources", []), *listed.get("components", []), *patches}


@pytest.mark.parametrize("folder", INSTALLED)
def test_the_api_server_takes_it_without_a_warning(stack: Stack, folder: str) -> None:
    """Every field is known, every value valid, and pod security has nothing to say."""
    strict = ("--dry-run=server", "--validate=strict", "--warnings-as-errors", "--force-conflicts")
    told = Kubectl(stack.kubeconfig()).run("apply", "--server-side", *strict, "-k", str(ROOT / folder))
    assert len(told.splitlines()) == len(kustomized(ROOT / folder))


def test_the_strict_validation_refuses_what_is_misspelt(stack: Stack) -> None:
    """A validator that lets everything pass would prove nothing."""
    wrong = base("Deployment")
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 75
    strict = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-")
    with pytest.raises(KubectlError, match="terminationGracePeriodSecond"):
        Kubectl(stack.kubeconfig()).run(*strict, stdin=yaml.safe_dump(wrong))


def test_its_pods_are_let_in_where_only_restricted_ones_are(stack: Stack) -> None:
    """By the namespace as it is shipped; one that may run as root is not."""
    admin = Kubectl(stack.kubeconfig())
    create = ("create", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
    assert "pod/a-pod created" in admin.run(*create, stdin=yaml.safe_dump(a_pod()))
    rooted = a_pod()
    rooted["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(KubectlError, match=r'violates PodSecurity "restricted:latest": runAsNonRoot'):
        admin.run(*create, stdin=yaml.safe_dump(rooted))


def test_nothing_is_written_but_to_a_bounded_tmp() -> None:
    """A read-only root, no privilege, and a token only where it is asked for."""
    spec = a_pod()["spec"]
    (container,), (volume,) = spec["containers"], spec["volumes"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (volume["name"], set(volume["emptyDir"])) == ("tmp", {"sizeLimit"})
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (the pod's own)
    assert base("ServiceAccount")["automountServiceAccountToken"] is False
    assert spec["automountServiceAccountToken"] is True


def test_a_greedy_expression_meets_its_own_limit_before_the_containers() -> None:
    """Else the kernel ends the whole container where one expression should fail."""
    (container,) = a_pod()["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    assert int(limit.removesuffix("Gi")) * 2**30 >= MEMORY_BYTES + 512 * 2**20


def test_the_grace_period_covers_a_call_in_flight_and_the_lease() -> None:
    """The numbers of the Deployment, the settings and the adapter fit: SIGKILL comes after all of them."""
    settings = Settings(identity="any")
    spec = a_pod()["spec"]
    (container,) = spec["containers"]
    assert not any(argument.startswith("--call-timeout") for argument in container["args"]), "then count with that"
    assert settings.drain >= settings.call_limit(settings.call_timeout) + TOLD_WITHIN, "its answer is written down too"
    margin = timedelta(seconds=10)
    grace = timedelta(seconds=spec["terminationGracePeriodSeconds"])
    assert grace >= settings.drain + TOLD_WITHIN + margin, "after the drain the Lease is released"


def test_one_replica_is_always_there_and_takes_over() -> None:
    """Two, of which a drain or an update takes one at a time, on two nodes where there are two."""
    spec, disruptions = base("Deployment")["spec"], base("PodDisruptionBudget")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert disruptions["minAvailable"] < spec["replicas"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    labels = spec["template"]["metadata"]["labels"]
    selectors = [spec["selector"], disruptions["selector"], spread["labelSelector"]]
    selectors += [base("NetworkPolicy")["spec"]["podSelector"]]
    assert [s["matchLabels"] for s in selectors] == [labels] * 4
    assert base("Service", "incident-operator-metrics")["spec"]["selector"] == labels


def test_the_network_is_closed_but_for_what_the_operator_needs() -> None:
    """Everybody's default is deny; the operator reaches DNS, AWS and the API server, and never the node's metadata."""
    deny, allow = base("NetworkPolicy", "default-deny")["spec"], base("NetworkPolicy")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allow["policyTypes"] == ["Ingress", "Egress"]
    (scrape,) = allow["ingress"]
    assert [set(peer) for peer in scrape["from"]] == [{"namespaceSelector"}]
    (container,) = a_pod()["spec"]["containers"]
    assert [p["port"] for p in scrape["ports"]] == [p["name"] for p in container["ports"]]
    dns, out = allow["egress"]
    assert {(p["protocol"], p["port"]) for p in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert {(p["protocol"], p["port"]) for p in out["ports"]} == {("TCP", 443), ("TCP", 6443)}
    closed = {network for peer in out["to"] for network in peer["ipBlock"]["except"]}
    assert {"169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"} == closed


def test_a_laptop_gets_rights_and_no_workload() -> None:
    """manifests/dev takes out what would need a kubelet, and nothing else."""
    dev = {(m["kind"], m["metadata"]["name"]) for m in kustomized(ROOT / "manifests/dev")}
    whole = {(m["kind"], m["metadata"]["name"]) for m in kustomized(ROOT / "manifests/base")}
    workload = {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert {kind for kind, _ in whole - dev} == workload
    assert {kind for kind, _ in dev}.isdisjoint(workload)
