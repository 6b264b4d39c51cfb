"""Keyword builders of valid objects; every test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from incident_operator.api.grant import ActionGrant
from incident_operator.api.intervention import PLAN_VERBS, Intervention, Verb
from incident_operator.api.meta import Metadata, Risk
from incident_operator.api.plan import (
    Approval,
    Call,
    RemediationPlan,
    RemediationPlanSpec,
    RemediationPlanStatus,
    Repeat,
    RunReference,
    Tier,
    Undo,
    Verify,
)
from incident_operator.api.run import IncidentRun, IncidentRunStatus
from incident_operator.api.runbook import RunbookSpec

NOW = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/IncidentOperatorRemediation"


def a_call(*, repeat: Repeat = Repeat.ABSOLUTE, operation: str = "put_role_policy") -> Call:
    """Return a call of the kind asked for."""
    return Call(
        service="iam",
        operation=operation,
        arguments={"RoleName": "lambda-execution-role"},
        permissions=("iam:PutRolePolicy",),
        resources=("arn:aws:iam::123456789012:role/lambda-execution-role",),
        repeat=repeat,
        timeout=timedelta(seconds=10),
        summary=f"iam:{operation}",
    )


def a_plan(*, status: RemediationPlanStatus | None = None, **spec: Any) -> RemediationPlan:
    """Return a plan of the run `run`."""
    values: dict[str, Any] = {
        "run_ref": RunReference(name="run", uid="run-uid"),
        "fix": "restoreAccess",
        "action": "iam.restore-role-access",
        "attempt": 1,
        "title": "restore access",
        "calls": (a_call(),),
        "touches": ("arn:aws:iam::123456789012:role/lambda-execution-role",),
        "risk": Risk.LOW,
        "tier": Tier.LOW,
        "verify": Verify(
            signal="no denials",
            wait=timedelta(seconds=60),
            every=timedelta(seconds=20),
            deadline=timedelta(minutes=10),
        ),
        "undo": Undo(calls=(a_call(operation="delete_role_policy"),)),
        "account": "123456789012",
        "region": "us-east-1",
        "role": ROLE,
        "hash": "0" * 64,
    }
    return RemediationPlan(
        metadata=Metadata(name="run-restoreaccess-1-00000000", namespace="shop", uid="plan-uid"),
        spec=RemediationPlanSpec(**{**values, **spec}),
        status=status or RemediationPlanStatus(),
    )


def a_word(name: str = "word", *, by: str = "alice", at: datetime = NOW, **spec: Any) -> Intervention:
    """Return an intervention on the plan of `a_plan`, or on the run of `a_run` for a verb that is about runs."""
    verb = Verb(spec.get("verb", "Approve"))
    plan = {"kind": "RemediationPlan", "name": "run-restoreaccess-1-00000000", "uid": "plan-uid"}
    run = {"kind": "IncidentRun", "name": "run", "uid": "run-uid"}
    target = {**(plan if verb in PLAN_VERBS else run), **spec.pop("target", {})}
    return Intervention.model_validate(
        {
            "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "creationTimestamp": at},
            "spec": {"target": target, "verb": verb, "responder": by, **spec},
        }
    )


def an_approval(responder: str, *, at: datetime = NOW, **fields: Any) -> Approval:
    """Return a stored approval that holds for an hour."""
    values: dict[str, Any] = {
        "intervention": f"approval-of-{responder}",
        "expires_at": at + timedelta(hours=1),
        "tier": Tier.LOW,
    }
    return Approval(responder=responder, at=at, **{**values, **fields})


def a_runbook(**spec: Any) -> RunbookSpec:
    """Return a runbook of one check and one fix."""
    return RunbookSpec.model_validate(
        {
            "title": "Lambda Function Failures",
            "incidentType": "LambdaFailure",
            "steps": [
                {
                    "name": "assess",
                    "title": "Immediate Assessment",
                    "expectedBy": "5m",
                    "checks": [{"name": "users", "action": "lambda.invocations"}],
                    "fixes": [
                        {"name": "restoreAccess", "action": "iam.restore-role-access", "onFindings": ["RoleLacks"]}
                    ],
                }
            ],
            "recovery": {"checks": ["users"], "stableFor": "5m"},
            **spec,
        }
    )


def a_run(*, status: IncidentRunStatus | None = None, **spec: Any) -> IncidentRun:
    """Return a run on `lambda-failures` that may apply up to Low."""
    return IncidentRun.model_validate(
        {
            "metadata": {"name": "run", "namespace": "shop", "uid": "run-uid", "creationTimestamp": NOW},
            "spec": {
                "incident": {"title": "birthday mails fail", "severity": "P2"},
                "runbookRef": {"name": "lambda-failures"},
                "automation": {"applyUpTo": "Low"},
                **spec,
            },
            "status": status or IncidentRunStatus(),
        }
    )


def a_grant(**spec: Any) -> ActionGrant:
    """Return a grant for the shop's account that may restore one access by itself."""
    return ActionGrant.model_validate(
        {
            "metadata": {"name": "shop"},
            "spec": {
                "namespaceSelector": {"matchLabels": {"team": "shop"}},
                "aws": {
                    "roleArn": ROLE,
                    "regions": ["us-east-1"],
                    "resources": ["arn:aws:iam::123456789012:role/lambda-execution-role"],
                    "protectedActors": ["arn:aws:iam::123456789012:role/SecurityAudit"],
                },
                "actions": ["iam.*", "lambda.*"],
                "automation": {"applyUpTo": "Low"},
                "restorable": {
                    "access": [
                        {
                            "role": "arn:aws:iam::123456789012:role/lambda-execution-role",
                            "actions": ["dynamodb:GetItem"],
                            "resources": ["arn:aws:dynamodb:us-east-1:123456789012:table/birthday-users"],
                        }
                    ]
                },
                **spec,
            },
        }
    )
