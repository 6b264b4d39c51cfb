"""Runs on their way, rounds that have answered, plans that have ended: what the tests of decide_run are about."""

from datetime import datetime
from typing import Any

from incident_operator.api.plan import GateVerdict, PlanState, RemediationPlan, RemediationPlanStatus
from incident_operator.api.run import (
    CheckState,
    CheckStatus,
    Finding,
    IncidentRun,
    RecoveryStatus,
    RunPhase,
)
from incident_operator.core.conditions import is_true
from incident_operator.core.run import (
    FINALIZER,
    CheckResult,
    FixResult,
    Round,
    RunDecision,
    RunView,
    Tell,
    decide_run,
)
from tests.builders import NOW, a_plan, a_run, a_runbook

RUNBOOK = a_runbook(
    steps=[
        {
            "name": "assess",
            "title": "Immediate Assessment",
            "expectedBy": "5m",
            "checks": [
                {"name": "users", "action": "lambda.invocations"},
                {"name": "access", "action": "iam.role-access"},
            ],
        },
        {
            "name": "remedy",
            "title": "Quick Remediation",
            "expectedBy": "10m",
            "fixes": [
                {"name": "restoreAccess", "action": "iam.restore-role-access", "onFindings": ["RoleLacks"]},
                {"name": "rollback", "action": "lambda.rollback-alias", "onFindings": ["CodeFails"]},
            ],
        },
    ]
)
DEPENDENCIES = {"users": frozenset[str](), "access": frozenset({"users"})}
CEILING = GateVerdict(name="RiskAboveCeiling", message="risk Disruptive is above askUpTo Low")
GATE = GateVerdict(name="ApprovalMissing", message="risk Disruptive is above applyUpTo Low")


def check(name: str, state: CheckState, reason: str = "RoleLacks", **result: Any) -> CheckResult:
    """Return a check's answer; Failed brings a finding."""
    status = CheckStatus(
        name=name,
        action="lambda.errors",
        state=state,
        reason=None if state == CheckState.PASSED else reason,
        message=f"{name} is {state}",
    )
    finding = Finding(reason=reason, check=name, root_cause=name == "access", message=f"{name}: {reason}")
    return CheckResult(status=status, findings=(finding,) if state == CheckState.FAILED else (), **result)


def a_round(users: CheckState = CheckState.FAILED, access: CheckState = CheckState.FAILED, /, **fields: Any) -> Round:
    """Return a full round whose checks have answered and whose fixes are planned and stored."""
    checks = {"users": check("users", users, "UsersFailing"), "access": check("access", access)}
    values: dict[str, Any] = {"kind": "Full", "started_at": NOW, "checks": checks, "fixes": {}, "stored": True}
    return Round(**{**values, **fields})


def a_sample(users: CheckState) -> Round:
    """Return a recovery round that has its answer."""
    checks = {"users": check("users", users, "UsersFailing")}
    return Round(kind="Recovery", started_at=NOW, checks=checks)


def proposed(fix: str = "restoreAccess", **fields: Any) -> FixResult:
    """Return a fix with a plan, open unless gates are given."""
    return FixResult(name=fix, plan=the_plan(fix), **fields)


def the_plan(fix: str = "restoreAccess", status: RemediationPlanStatus | None = None, **spec: Any) -> RemediationPlan:
    """Return a plan of a fix, named after it."""
    plan = a_plan(fix=fix, title=f"{fix}!", status=status, **spec)
    name = f"run-{fix.lower()}-{plan.spec.attempt}-00000000"
    return plan.model_copy(update={"metadata": plan.metadata.model_copy(update={"name": name})})


def ended(state: PlanState, fix: str = "restoreAccess", **spec: Any) -> RemediationPlan:
    """Return a plan that has ended."""
    return the_plan(fix, RemediationPlanStatus(state=state, settled=True, message=f"it {state}"), **spec)


def started(run: IncidentRun | None = None, /, **status: Any) -> IncidentRun:
    """Return a run that was accepted."""
    run = run or a_run()
    accepted = decide_run(RunView(run=run, runbook=RUNBOOK, revision="rev"), NOW).status
    return run.model_copy(update={"status": accepted.model_copy(update=status)})


def protected(run: IncidentRun) -> IncidentRun:
    """Return the run with our finalizer on it: a plan of it may be applied."""
    return run.model_copy(update={"metadata": run.metadata.model_copy(update={"finalizers": (FINALIZER,)})})


def recovering(run: IncidentRun | None = None, /, **recovery: Any) -> IncidentRun:
    """Return a run that has been diagnosed and waits for recovery."""
    values = {"diagnosed_at": NOW, "phase": RunPhase.VERIFYING, "diagnosis": 1}
    return started(run, **values, recovery=RecoveryStatus(**recovery))


def decide(run: IncidentRun, round_: Round | None = None, now: datetime = NOW, **view: Any) -> RunDecision:
    """Return the decision for a run that follows the runbook."""
    values: dict[str, Any] = {"runbook": RUNBOOK, "revision": "rev", "dependencies": DEPENDENCIES}
    return decide_run(RunView(run=run, round=round_, **{**values, **view}), now)


def end_of(decision: RunDecision) -> tuple[RunPhase, str | None]:
    """Return phase and reason of an end, having checked that it is one, told and marked as such."""
    status = decision.status
    assert status.settled
    assert status.finished_at is not None
    assert is_true(status.conditions, "Finished")
    assert status.timeline[-1].reason == str(status.phase)
    assert any(isinstance(e, Tell) for e in decision.effects)
    return status.phase, status.outcome
