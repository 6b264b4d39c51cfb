"""The report on a real API server: more reviews than a page holds, read by who may and by who may not."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl
from dev.stack import Stack
from incident_operator.cli.cluster import PAGE
from tests.core.quarter import reviews
from tests.core.test_report import SUMMARY, squeezed

#: In a month in which no other test has an incident: 10 minutes each, as people wrote.
MANY = PAGE + 20


@pytest.fixture(scope="module")
def namespace(stack: Stack) -> Iterator[str]:
    """Return a namespace with the quarter that was computed by hand, and many incidents of an earlier month."""
    name = f"report-{uuid.uuid4().hex[:8]}"
    admin, operator = Kubectl(stack.kubeconfig()), Kubectl(stack.operator_kubeconfig)
    admin.run("create", "namespace", name)
    quarter = [_bare(review.wire()) for review in reviews(namespace=name)]
    many = [_said(name, number) for number in range(MANY)]
    # As the operator: nobody else begins reviews, or writes facts.
    create = ("create", "--validate=strict", "-f", "-", "-o", "name")
    made = operator.run(*create, stdin=_list([{**raw, "status": {}} for raw in quarter] + many), timeout=300)
    assert len(made.splitlines()) == len(quarter) + MANY
    facts = ("apply", "--server-side", "--subresource=status", "--validate=strict", "-f", "-", "-o", "name")
    written = operator.run(*facts, stdin=_list(quarter), timeout=300)
    assert len(written.splitlines()) == len(quarter)
    yield name
    admin.run("delete", "namespace", name, "--wait=false")


def _bare(raw: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what the server writes into its metadata."""
    return {**raw, "metadata": {key: raw["metadata"][key] for key in ("name", "namespace")}}


def _said(namespace: str, number: int) -> dict[str, Any]:
    detected = f"2025-03-{number % 31 + 1:02}T10:00:00Z"
    spec = {"ticket": f"INC-{number}", "detectedAt": detected, "severity": "P1", "duration": "10m"}
    metadata = {"name": f"many-{number:04}", "namespace": namespace}
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "PostIncidentReview",
        "metadata": metadata,
        "spec": spec,
    }


def _list(items: list[dict[str, Any]]) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})


def report(stack: Stack, who: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `kubectl incident report` as a person."""
    program = Path(sys.executable).with_name("kubectl-incident")
    environment = {**os.environ, "KUBECONFIG": str(stack.kubeconfig(who))}
    command = [str(program), "report", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_quarter_is_reported_from_what_the_server_stores(stack: Stack, namespace: str) -> None:
    """Every fact survives schema and storage: the figures are those that were computed by hand."""
    done = report(stack, "alice", "--quarter", "2026Q4", "-n", namespace)
    assert (done.returncode, done.stderr) == (0, "")
    summary, printed = squeezed(SUMMARY)[3:], squeezed(done.stdout)
    assert printed[3 : 3 + len(summary)] == summary
    assert f"Namespace {namespace}; months in UTC" in done.stdout
    assert "52 reviews in the period; not counted: 3 drills, 4 duplicates." in done.stdout
    assert "- 1 incident: no severity; write spec.severity of the review" in printed


def test_more_than_a_page_of_reviews_are_read_in_all_namespaces(stack: Stack, namespace: str) -> None:
    """The server's own pages, and its own continue tokens."""
    done = report(stack, "alice", "--month", "2025-03")
    assert (done.returncode, done.stderr) == (0, "")
    printed = squeezed(done.stdout)
    assert printed[2].startswith("All namespaces; months in UTC; ")
    assert f"| Incidents | {MANY}: {MANY} resolved |" in printed
    assert f"| P1 in less than 30 minutes | 100% ({MANY} of {MANY}) |" in printed
    assert f"- {MANY} incidents: no incident type: their runs have not ended, or their runbook is gone" in printed


def test_who_may_read_no_review_is_told_whom_to_ask(stack: Stack, namespace: str) -> None:
    """And with the role in one namespace, that one is reported."""
    refused = report(stack, "mallory", "--month", "2025-03", "-n", namespace)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "postincidentreviews.ops.shopsmart.com is forbidden" in refused.stderr
    assert "ask for the ClusterRole incident-" in refused.stderr
    bind = ("create", "rolebinding", "mallory-views", "--clusterrole=incident-viewer", "--user=mallory")
    Kubectl(stack.kubeconfig()).run(*bind, "-n", namespace)
    allowed = report(stack, "mallory", "--month", "2025-03", "-n", namespace)
    assert (allowed.returncode, f"| Incidents | {MANY}: {MANY} resolved |" in squeezed(allowed.stdout)) == (0, True)
