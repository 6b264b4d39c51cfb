"""What /metrics says of a whole run: every documented metric is served, and those that must have moved have."""

import urllib.request
from collections.abc import Mapping

from dev.operators import OperatorProcess
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt, wait_until_well
from dev.shop.faults import FAULTS
from tests.metrics_page import documented, labels, served, values

from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]


def page(operator: OperatorProcess) -> str:
    """Return what the operator serves, as Prometheus would read it."""
    with urllib.request.urlopen(f"http://{operator.http}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return str(answer.read().decode())


def total(text: str, name: str, **wanted: str) -> float:
    """Return the sum of an own metric's series that have these labels."""
    found = values(text)
    return sum(
        value
        for (full, has), value in found.items()
        if full == f"incident_operator_{name}" and wanted.items() <= dict(has).items()
    )


def test_what_is_served_is_documented_and_moves_with_a_run(world: World) -> None:
    """One run that asks a person, is agreed to, and ends well."""
    # One process: a Lease as long as in production, that no busy machine takes away.
    with world.customers(), world.operator(**{"lease-duration": "15s"}) as operator:
        assert wait_until_well(world.shop, time_scale=TIME_SCALE)
        FAULT.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        manifest = world.manifest(FAULT.example, automation={"applyUpTo": "None"})
        name = manifest["metadata"]["name"]
        world.apply(manifest)
        plan = world.open_plan(name)
        asked = wait_until(lambda: total(page(operator), "gates_closed", gate="ApprovalMissing") == 1, seconds=20)
        assert asked, f"{page(operator)}\n{world.plans()}"
        _of_a_run_that_asks(page(operator))
        word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
        assert world.answer(word)["status"] == "True"
        status = world.finished(name)
        assert outcome(status) == "Resolved/Runbook", story(status)
        assert wait_until(lambda: total(page(operator), "runs") == 0, seconds=20)
        text = page(operator)
        assert operator.starts == 1, f"another process counts anew:\n{world.log()}"
    rows = documented()
    assert served(text) == {metric: row.type for metric, row in rows.items()}
    for metric, found in labels(text).items():
        assert found == set(rows[metric].labels), metric
    _of_a_run_that_ended(text)
    _no_name_of(world, text)


def _of_a_run_that_asks(text: str) -> None:
    assert total(text, "leader") == total(text, "admission_proven") == total(text, "approvals_waiting") == 1
    assert total(text, "runs", phase="AwaitingApproval") == total(text, "runs") == 1
    assert 0 < total(text, "approval_oldest_seconds") < total(text, "run_oldest_seconds") < 600


def _of_a_run_that_ended(text: str) -> None:
    exact: Mapping[str, tuple[float, dict[str, str]]] = {
        "runs_ended_total": (1, {"phase": "Resolved", "outcome": "Runbook", "severity": "P1"}),
        "plans_ended_total": (1, {"outcome": "Helped", "risk": "Low"}),
        "approvals_waiting": (0, {}),
        "approval_oldest_seconds": (0, {}),
        "run_oldest_seconds": (0, {}),
        "gates_closed": (0, {}),
        "evaluator_restarts_total": (0, {}),
        "build_info": (1, {}),
    }
    for name, (value, wanted) in exact.items():
        assert total(text, name, **wanted) == value, name
    moved = (
        ("reconcile_total", {"kind": "IncidentRun", "result": "ok"}),
        ("reconcile_seconds_count", {"kind": "RemediationPlan"}),
        ("queue_adds_total", {"kind": "IncidentRun"}),
        ("queue_wait_seconds_count", {"kind": "Intervention"}),
        ("watch_events_total", {"kind": "IncidentRun", "type": "ADDED"}),
        ("aws_calls_total", {"service": "iam", "operation": "get_role"}),
        ("aws_calls_total", {"service": "iam", "operation": "set_default_policy_version"}),
        ("aws_calls_total", {"service": "sts", "operation": "assume_role"}),
        ("api_writes", {}),
        ("workers", {}),
        ("effect_threads", {}),
        ("leader_epoch", {}),
    )
    for name, wanted in moved:
        assert total(text, name, **wanted) >= 1, (name, wanted)
    assert total(text, "reconcile_total") == total(text, "reconcile_seconds_count")
    assert total(text, "reconcile_errors_total") == total(text, "reconcile_total", result="error")
    assert total(text, "queue_retries_total") == total(text, "reconcile_total", result="error")


def _no_name_of(world: World, text: str) -> None:
    """No label's value is an ARN, or has the name of a namespace, an account or an object in it."""
    said = {value for _, has in values(text) for _, value in has}
    names = (world.name, world.shop.account, "inc-2023", "arn:", "shopsmart", "alice", "bob")
    assert [value for value in said for name in names if name in value] == []
