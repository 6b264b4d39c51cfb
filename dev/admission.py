"""Admission as the stack installs it, and the wait until it is really in force.

A policy takes effect a second or two after it is stored, and one whose expressions do not fit is stored all the same:
each is tried with an object that it must refuse. All as dry runs, as the admin: whom no policy spares.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dev.controlplane.kubectl import Kubectl, KubectlError, Manifest, kustomized
from dev.loopback import ROOT
from dev.processes import StartError, wait_until
from incident_operator.adapters.admission import REFUSAL, forged
from incident_operator.api.meta import API_VERSION, GROUP, VERSION

FOLDER = ROOT / "manifests/admission"
STAMPING = FOLDER / "stamping"
SECONDS = 30.0
_NAME = "admission-probe"


def policies(kubectl: Kubectl) -> list[Manifest]:
    """Return the policies that this cluster can have: those that fill in need Kubernetes 1.36."""
    served = json.loads(kubectl.run("get", "--raw", "/apis/admissionregistration.k8s.io/v1"))
    stamps = any(resource["name"] == "mutatingadmissionpolicies" for resource in served["resources"])
    return [*kustomized(FOLDER), *(kustomized(STAMPING) if stamps else [])]


def await_admission(kubectl: Kubectl, installed: list[Manifest], namespace: str) -> None:
    """Wait until these policies do what they are for. Errors: StartError that says what is missing."""
    lacking = ["nothing was tried"]

    def in_force() -> bool:
        lacking[:] = missing(kubectl, installed, namespace)
        return not lacking

    if not wait_until(in_force, seconds=SECONDS, every=0.2):
        raise StartError(f"admission is not in force after {SECONDS:.0f} s: {'; '.join(lacking)}")


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """What a policy must refuse, and the words in which it does."""

    policy: str
    path: str
    body: Manifest
    words: str


def _probes(namespace: str) -> Iterator[_Probe]:
    ours = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}"
    run = _run(namespace)
    yield _Probe(policy="incident-interventions", path=f"{ours}/interventions", body=forged(namespace), words=REFUSAL)
    yield _Probe(
        policy="incident-runs",
        path=f"{ours}/incidentruns",
        body={**run, "spec": {**run["spec"], "requestedBy": "nobody:probe"}},
        words="a run is requested by its author",
    )
    yield _Probe(
        policy="incident-policies",
        path=f"{ours}/remediationpolicies",
        body=_policy("nobody:probe"),
        words="a policy is requested by who wrote it last",
    )
    yield _Probe(
        policy="incident-operator-only",
        path=f"{ours}/postincidentreviews",
        body={
            "apiVersion": API_VERSION,
            "kind": "PostIncidentReview",
            "metadata": {"name": _NAME},
            "spec": {"ticket": "PROBE-1", "detectedAt": "2024-01-01T00:00:00Z"},
        },
        words="may not create reviews",
    )
    yield _Probe(
        policy="incident-operator-records",
        path=f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
        body={"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": f"lock-{_NAME}"}},
        words="the operator's own",
    )


def _run(namespace: str) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRun",
        "metadata": {"name": _NAME, "namespace": namespace},
        "spec": {"incident": {"title": "Is admission on?"}, "runbookRef": {"name": _NAME}},
    }


def _policy(requested_by: str) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "RemediationPolicy",
        "metadata": {"name": _NAME},
        "spec": {
            "health": {"checks": [{"name": "probe"}]},
            "remediation": {"runbookRef": {"name": _NAME}},
            "requestedBy": requested_by,
        },
    }


def missing(kubectl: Kubectl, installed: list[Manifest], namespace: str) -> list[str]:
    """Return what keeps the policies from being in force, in words."""
    validating = [manifest for manifest in installed if manifest["kind"] == "ValidatingAdmissionPolicy"]
    told = [problem for policy in kubectl.stored(validating) if (problem := _unchecked(policy))]
    if told:
        return told
    for probe in _probes(namespace):
        refused = _refused(kubectl, probe.path, probe.body)
        if refused is None:
            told.append(f"{probe.policy} does not refuse what it is for: is its binding there?")
        elif probe.words not in refused:
            told.append(f"{probe.policy} does not answer, another does: {refused}")
    if any(manifest["kind"] == "MutatingAdmissionPolicy" for manifest in installed):
        told += _unstamped(kubectl, namespace)
    return told


def _unchecked(policy: Manifest) -> str | None:
    """Return why a stored policy is not known to be right; None if it is."""
    name, status = policy["metadata"]["name"], policy.get("status", {})
    if status.get("observedGeneration") != policy["metadata"]["generation"]:
        return f"{name} is not checked yet: is the controller validatingadmissionpolicy-status running?"
    warnings = status.get("typeChecking", {}).get("expressionWarnings", [])
    return f"{name} does not fit the kinds: {json.dumps(warnings)}" if warnings else None


def _unstamped(kubectl: Kubectl, namespace: str) -> list[str]:
    """Return what is not filled in."""
    ours = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}"
    word = forged(namespace)
    del word["spec"]["responder"]
    found: dict[str, Any] = {}
    refused = _refused(kubectl, f"{ours}/incidentruns", _run(namespace), found)
    told = []
    if "requestedBy" not in found.get("spec", {}):
        told.append(f"MutatingAdmissionPolicy incident-runs fills nothing in ({refused or 'is its binding there?'})")
    # Whoever is asked may lack the verb; what counts is that the schema does not miss the name.
    refused = _refused(kubectl, f"{ours}/interventions", word)
    if refused is not None and "spec.responder" in refused:
        told.append(f"MutatingAdmissionPolicy incident-interventions fills nothing in ({refused})")
    return told


def _refused(kubectl: Kubectl, path: str, body: Manifest, found: dict[str, Any] | None = None) -> str | None:
    """Return the words in which a dry run is refused; None where it is not, with the answer in `found`."""
    try:
        answer = kubectl.run("create", "--raw", f"{path}?dryRun=All", "-f", "-", stdin=json.dumps(body))
    except KubectlError as error:
        return str(error)
    if found is not None:
        found.update(json.loads(answer))
    return None
