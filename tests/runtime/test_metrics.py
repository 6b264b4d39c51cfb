"""Every metric is documented as it is served, and every alert rests on metrics that there are."""

import asyncio
import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.aio import client

from dev.controlplane.kubectl import kustomized
from incident_operator.adapters.admission import AdmissionProof
from incident_operator.adapters.aws import Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.evaluator import Evaluator
from incident_operator.adapters.kube import Kube, asked
from incident_operator.adapters.pool import Pool
from incident_operator.adapters.store import Store
from incident_operator.adapters.tally import Tally
from incident_operator.api.meta import GROUP, VERSION
from incident_operator.api.plan import GateVerdict, RemediationPlanStatus
from incident_operator.api.run import FixState, FixStatus, IncidentRunStatus, Now, RunPhase, StepStatus
from incident_operator.runtime.leader import Leader
from incident_operator.runtime.metrics import (
    Metrics,
    asked_since,
    behind_schedule,
    closed_gates,
    measure_leading,
    measure_standing,
    reviews_overdue,
    runbooks_by,
    runbooks_due,
    runs_by_phase,
    untold,
)
from incident_operator.runtime.queue import Queue
from incident_operator.runtime.watch import Watch
from incident_operator.settings import Settings
from tests.builders import NOW, a_plan, a_run
from tests.metrics_page import documented, labels, served
from tests.repo.files import ROOT

_RULES = yaml.safe_load((ROOT / "manifests/monitoring/rules.yaml").read_text())["spec"]["groups"]
ALERTS: Mapping[str, str] = {rule["alert"]: rule["expr"] for group in _RULES for rule in group["rules"]}


@pytest.fixture
async def metrics() -> Metrics:
    """Return the metrics of a leader, each with a series."""
    metrics, clock, settings = Metrics(), Clock(), Settings(identity="one")
    store = _stored(a_plan(status=RemediationPlanStatus(gates=(GateVerdict(name="Frozen", hard=False),))))
    kube = Kube(client.ApiClient(), clock)
    parts = SimpleNamespace(
        kube=kube,
        store=store,
        clock=clock,
        admission=AdmissionProof(kube, clock, "incident-system"),
        messenger=SimpleNamespace(deliveries=Tally("channel_type", "state", "reason")),
        aws=Gateway(now=clock.now, scaled=settings.scaled),
        pool=Pool(1),
        evaluator=Evaluator(),
        ends=Tally("phase", "outcome", "severity"),
        outcomes=Tally("outcome", "risk"),
    )
    context: Any = parts
    queue, watch = Queue(clock.monotonic), Watch(store, kube, lambda kind, key: None, ())
    measure_standing(metrics, queue, Leader(kube, clock, settings), settings.workers)
    measure_leading(metrics, context, watch)
    tallies = [queue.adds, queue.retries, kube.errors, parts.aws.calls, parts.aws.errors, parts.ends, parts.outcomes]
    for tally in (*tallies, watch.seen, parts.messenger.deliveries):
        tally.count(*tally.labels)
    metrics.reconciles.labels("IncidentRun", "ok").inc()
    metrics.reconcile_errors.labels("IncidentRun", "Conflict").inc()
    metrics.reconcile_seconds.labels("IncidentRun").observe(1)
    metrics.queue_wait.labels("IncidentRun").observe(1)
    await kube.close()
    return metrics


async def test_what_is_served_is_what_is_documented(metrics: Metrics) -> None:
    """By name and type; the labels are those of the page, too."""
    page = documented()
    assert served(metrics.text()) == {name: row.type for name, row in page.items()}
    assert labels(metrics.text()) == {name: set(row.labels) for name, row in page.items()}


def test_every_alert_rests_on_metrics_that_are_served() -> None:
    """A misspelt name would never fire; each has its line on what to do."""
    page = documented()
    assert len(ALERTS) >= 5
    for alert, expression in ALERTS.items():
        names = re.findall(r"\b(?:incident_operator|process)_\w+", expression)
        assert names, f"{alert} rests on nothing"
        assert set(names) <= set(page), alert
        assert expression.count("(") == expression.count(")")
        for listed in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in listed.split(",")} <= {x for name in names for x in page[name].labels}
    rows = (ROOT / "docs/metrics.md").read_text().split("| alert | means |", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| (\w+) \|", rows, re.MULTILINE)) == set(ALERTS)


def test_the_monitor_selects_the_operators_pods_by_their_port() -> None:
    """As the Deployment labels and names them."""
    (monitor,) = (m for m in kustomized(ROOT / "manifests/monitoring") if m["kind"] == "PodMonitor")
    (deployment,) = (m for m in kustomized(ROOT / "manifests/base") if m["kind"] == "Deployment")
    pod = deployment["spec"]["template"]
    assert monitor["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]


def _stored(*objects: Any) -> Store:
    store = Store()
    for number, item in enumerate(objects, 1):
        raw = item.wire()
        raw["metadata"] |= {"name": f"{raw['metadata']['name']}-{number}", "resourceVersion": str(number)}
        store.put(raw["kind"], raw)
    return store


def _asking(since: datetime, waiting_for: str = "approval") -> IncidentRunStatus:
    now = Now(doing="asking people", waiting_for=waiting_for)
    return IncidentRunStatus(phase=RunPhase.AWAITING_APPROVAL, started_at=NOW, awaiting_since=since, now=now)


def test_runs_are_counted_by_phase_and_those_that_ask_by_their_wait() -> None:
    """A run that waits for a lock asks nobody."""
    earlier = NOW - timedelta(hours=1)
    store = _stored(a_run(), a_run(status=_asking(earlier)), a_run(status=_asking(NOW, "ResourceLocked")))
    assert {phase: count for phase, count in runs_by_phase(store).items() if count} == {
        "Pending": 1,
        "AwaitingApproval": 2,
    }
    assert set(runs_by_phase(Store())) == {"Pending", "Diagnosing", "AwaitingApproval", "Remediating", "Verifying"}
    assert asked_since(store) == [earlier]
    assert behind_schedule(store) == 0


def test_gates_are_counted_by_the_plans_that_they_keep_closed() -> None:
    """Also where the plan would put back what an ended run changed: then people are asked about it."""
    gates = (GateVerdict(name="ApprovalMissing"), GateVerdict(name="Frozen", hard=False))
    status = RemediationPlanStatus(gates=gates)
    revert = a_plan(status=RemediationPlanStatus(gates=gates[:1]), revert_of="run-restoreaccess-1-00000000")
    revert = revert.model_copy(update={"metadata": revert.metadata.model_copy(update={"creation_timestamp": NOW})})
    store = _stored(a_plan(status=status), revert)
    assert closed_gates(store) == {"ApprovalMissing": 2, "Frozen": 1}
    assert asked_since(store) == [NOW]


def test_a_gate_that_run_and_plan_name_is_counted_once() -> None:
    """The run names the first gate of each fix when it asks; the plan all of its gates, when it is looked at next."""
    gates = (GateVerdict(name="ApprovalMissing"), GateVerdict(name="Frozen", hard=False))
    plan = a_plan(status=RemediationPlanStatus(gates=gates)).wire()
    fix = FixStatus(name="f", action="iam.f", state=FixState.BLOCKED, reason="ApprovalMissing")
    steps = (StepStatus(name="s", title="S", fixes=(fix.model_copy(update={"plan_ref": plan["metadata"]["name"]}),)),)
    run = a_run(status=_asking(NOW).model_copy(update={"steps": steps})).wire()
    for raw in (run, plan):
        raw["metadata"]["resourceVersion"] = "1"
    store = Store()
    store.put("IncidentRun", run)
    assert closed_gates(store) == {"ApprovalMissing": 1}
    store.put("RemediationPlan", plan)
    assert closed_gates(store) == {"ApprovalMissing": 1, "Frozen": 1}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PATCH", f"/apis/{GROUP}/{VERSION}/namespaces/shop/incidentruns/run/status", ("patch", "IncidentRun")),
        ("GET", f"/apis/{GROUP}/{VERSION}/incidentruns", ("list", "IncidentRun")),
        ("GET", f"/apis/{GROUP}/{VERSION}/actiongrants/shop", ("get", "ActionGrant")),
        ("POST", "/api/v1/namespaces/shop/events", ("create", "Event")),
        ("GET", "/api/v1/namespaces/shop", ("get", "Namespace")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/incident-system/leases/lock-1", ("update", "Lease")),
        ("GET", "/api/v1/namespaces/shop/secrets/password", ("get", "Secret")),
        ("DELETE", "/apis/example.com/v1/things/leases", ("delete", "Other")),
        ("GET", "/", ("list", "Other")),
    ],
)
def test_a_request_is_counted_by_verb_and_kind(method: str, path: str, expected: tuple[str, str]) -> None:
    """Never by a name, and what is not known is Other."""
    assert asked(method, path) == expected


async def test_a_full_pool_shows_what_waits() -> None:
    """In flight, and behind it."""
    pool, go, begun = Pool(1), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait(20)

    both = [asyncio.create_task(pool.run(work, timeout=timedelta(seconds=20))) for _ in range(2)]
    await asyncio.to_thread(begun.wait, 20)
    assert (pool.threads, pool.in_flight, pool.queued) == (1, 1, 1)
    go.set()
    assert await asyncio.gather(*both) == [True, True]
    assert (pool.in_flight, pool.queued) == (0, 0)
    pool.close()


def test_runbooks_are_counted_by_what_is_said_of_them() -> None:
    """What nobody said yet is Unknown; both kinds count."""
    store = Store()

    def put(kind: str, name: str, **status: Any) -> None:
        metadata = {"name": name, "uid": name, "resourceVersion": "1"}
        store.put(kind, {"kind": kind, "metadata": metadata, "spec": {}, "status": status})

    put("ClusterRunbook", "one", conditions=[{"type": "Validated", "status": "True"}], updateDue=[{"about": "a/b"}])
    put("Runbook", "two", conditions=[{"type": "Validated", "status": "False"}, {"type": "Fresh", "status": "True"}])
    put("Runbook", "three")
    assert runbooks_by(store, "Validated") == {"True": 1, "False": 1, "Unknown": 1}
    assert runbooks_by(store, "Fresh") == {"True": 1, "False": 0, "Unknown": 2}
    assert runbooks_due(store) == 1


def _said(kind: str, name: str, type_: str, status: str, *, phase: str | None = None, **spec: Any) -> dict[str, Any]:
    said = {"type": type_, "status": status, "reason": "Because", "lastTransitionTime": "2026-01-15T12:00:00Z"}
    metadata = {"name": name, "namespace": "shop", "resourceVersion": "1"}
    return {
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": {"conditions": [said]} | ({"phase": phase} if phase else {}),
    }


def test_of_whom_could_not_be_told_and_what_people_are_late_with() -> None:
    """Live incidents and no drills; unknown is not late."""
    store = Store()
    untold_of = [
        _said("Incident", "nobody", "Escalating", "False"),
        _said("Incident", "taken", "Escalating", "False", phase="Acknowledged"),
        _said("Incident", "told", "Escalating", "True"),
        _said("Incident", "over", "Escalating", "False", phase="Resolved"),
        _said("Incident", "drill", "Escalating", "False", drill=True),
    ]
    late = [
        _said("PostIncidentReview", "late", "Overdue", "True"),
        _said("PostIncidentReview", "due", "Overdue", "False"),
    ]
    for raw in (*untold_of, *late):
        store.put(raw["kind"], raw)
    assert (untold(store), reviews_overdue(store)) == (2, 1)
    assert {kind: store.count((kind,)) for kind in ("Incident", "PostIncidentReview")} == {
        "Incident": 5,
        "PostIncidentReview": 2,
    }
