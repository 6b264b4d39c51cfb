"""One incident as it is stored, stage by stage: what the commands are shown in these tests."""

from datetime import datetime, timedelta
from typing import Any

from incident_operator.api.meta import Metadata
from incident_operator.api.plan import RemediationPlan
from incident_operator.api.run import IncidentRun
from tests.builders import NOW

ROLE = "arn:aws:iam::123456789012:role/lambda-execution-role"
POLICY = "arn:aws:iam::123456789012:policy/BirthdayServiceAccess"
PLAN = "inc-2024-0001-restoreaccess-1-1a2b3c4d"
CAUSE = "lambda-execution-role may not dynamodb:GetItem on table/birthday-users"


def at(seconds: float) -> datetime:
    """Return an instant of the story."""
    return NOW + timedelta(seconds=seconds)


def run(stage: str, **status: Any) -> IncidentRun:
    """Return the run at a stage: applied, diagnosing, diagnosed, applying, verifying, resolved."""
    order = ("applied", "diagnosing", "diagnosed", "applying", "verifying", "resolved")
    merged: dict[str, Any] = {}
    for name in order[: order.index(stage) + 1]:
        merged = {**merged, **_STAGES[name]}
    # The timeline only grows.
    merged["timeline"] = [t for name in order[: order.index(stage) + 1] for t in _STAGES[name].get("timeline", ())]
    return IncidentRun.model_validate(
        {
            "metadata": {"name": "inc-2024-0001", "namespace": "shopsmart", "uid": "run-uid", "creationTimestamp": NOW},
            "spec": {
                "incident": {"ticket": "INC-2024-0001", "title": "Birthday mails are not sent", "severity": "P1"},
                "runbookRef": {"name": "lambda-failures"},
                "automation": {"applyUpTo": "Low"},
            },
            "status": {**merged, **status},
        }
    )


def plan(
    state: str = "Proposed", *, name: str = PLAN, spec: dict[str, Any] | None = None, **status: Any
) -> RemediationPlan:
    """Return the plan that gives the role its access back, or one like it."""
    document = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "%s", "Resource": "*"}]}'
    values: dict[str, Any] = {
        "runRef": {"name": "inc-2024-0001", "uid": "run-uid"},
        "fix": "restoreAccess",
        "action": "iam.restore-role-access",
        "attempt": 1,
        "title": "set BirthdayServiceAccess back to version v1",
        "calls": [
            {
                "service": "iam",
                "operation": "create_policy_version",
                "arguments": {"PolicyArn": POLICY, "PolicyDocument": document % "dynamodb:GetItem"},
                "permissions": ["iam:CreatePolicyVersion"],
                "resources": [POLICY],
                "repeat": "Guarded",
                "timeout": "10s",
                "summary": "iam:CreatePolicyVersion",
            },
            {
                "service": "iam",
                "operation": "set_default_policy_version",
                "arguments": {
                    "PolicyArn": POLICY,
                    "VersionId": {"fromResult": {"call": 0, "path": "PolicyVersion.VersionId"}},
                },
                "permissions": ["iam:SetDefaultPolicyVersion"],
                "resources": [POLICY],
                "repeat": "Absolute",
                "timeout": "10s",
                "summary": "iam:SetDefaultPolicyVersion",
            },
        ],
        "touches": [POLICY],
        "risk": "Low",
        "tier": "Low",
        "hazards": ["GrantsAccess"],
        "diff": [
            {
                "what": "BirthdayServiceAccess, default version",
                "before": document % "ses:SendEmail",
                "after": document % "dynamodb:GetItem",
            }
        ],
        "permission": {"allowed": ["iam:CreatePolicyVersion"], "unknown": ["iam:SetDefaultPolicyVersion"]},
        "verify": {"signal": "no denials in the log", "wait": "60s", "every": "20s", "deadline": "10m"},
        "undo": {
            "calls": [
                {
                    "service": "iam",
                    "operation": "set_default_policy_version",
                    "arguments": {"PolicyArn": POLICY, "VersionId": "v2"},
                    "permissions": ["iam:SetDefaultPolicyVersion"],
                    "repeat": "Absolute",
                    "timeout": "10s",
                }
            ],
            "safeWhen": "nobody changed the policy since",
        },
        "account": "123456789012",
        "region": "us-east-1",
        "role": "arn:aws:iam::123456789012:role/IncidentOperatorRemediation",
        "hash": "1a2b3c4d" + "0" * 56,
    }
    return RemediationPlan.model_validate(
        {
            "metadata": Metadata(
                name=name,
                namespace="shopsmart",
                uid="plan-uid" if name == PLAN else f"{name}-uid",
                creation_timestamp=at(3),
                labels={"ops.shopsmart.com/run": "inc-2024-0001", "ops.shopsmart.com/fix": "restoreAccess"},
            ),
            "spec": {**values, **(spec or {})},
            "status": {"state": state, **status},
        }
    )


def entry(index: int, state: str, seconds: float, **more: Any) -> dict[str, Any]:
    """Return a journal entry of the plan."""
    finished = {} if state == "Intended" else {"finishedAt": at(seconds + 1)}
    return {
        "index": index,
        "summary": ("iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion")[index],
        "state": state,
        "intentAt": at(seconds),
        "deadline": at(seconds + 10),
        "epoch": 1,
        **finished,
        **more,
    }


def _steps(check: dict[str, Any], fix: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": "assess",
            "title": "Immediate Assessment",
            "expectedBy": at(120),
            "checks": [
                {"name": "configuration", "action": "lambda.configuration", "state": "Passed", "finishedAt": at(1)},
                {"name": "access", "action": "iam.role-access", **check},
            ],
        },
        {
            "name": "remediate",
            "title": "Quick Remediation",
            "expectedBy": at(600),
            "fixes": [{"name": "restoreAccess", "action": "iam.restore-role-access", **fix}],
        },
    ]


_FAILED = {"state": "Failed", "reason": "RoleLacksAccess", "message": CAUSE, "finishedAt": at(2)}
_WATCH = "kubectl incident watch -n shopsmart inc-2024-0001"
_STAGES: dict[str, dict[str, Any]] = {
    "applied": {},
    "diagnosing": {
        "phase": "Diagnosing",
        "startedAt": at(0.5),
        "steps": _steps({"state": "Running"}, {}),
        "now": {"doing": "diagnosing: 2 checks at once", "next": [_WATCH]},
        "timeline": [
            {"at": at(0.5), "reason": "Started", "message": "runbook lambda-failures: Lambda Function Failures"}
        ],
    },
    "diagnosed": {
        "phase": "Verifying",
        "diagnosedAt": at(3),
        "steps": _steps(_FAILED, {"state": "Proposed", "planRef": PLAN}),
        "findings": [
            {
                "reason": "RoleLacksAccess",
                "check": "access",
                "rootCause": True,
                "message": CAUSE,
                "actor": "arn:aws:iam::123456789012:user/deployer",
            },
            {
                "reason": "RecentChange",
                "check": "changes",
                "kind": "Info",
                "message": "CreatePolicyVersion by deployer",
            },
        ],
        "rootCause": {"summary": CAUSE, "reasons": ["RoleLacksAccess"]},
        "impact": {"summary": "212 of 240 failed (88 %)"},
        "recovery": {"state": "Failing", "lastCheckedAt": at(3)},
        "timeline": [
            {"at": at(2.5), "reason": "RoleLacksAccess", "message": CAUSE, "source": "check access"},
            {"at": at(3), "reason": "Diagnosed", "message": "1 problem found by 2 checks"},
        ],
    },
    "applying": {
        "phase": "Remediating",
        "activePlan": PLAN,
        "now": {
            "doing": "applying: set BirthdayServiceAccess back to version v1",
            "waitingFor": PLAN,
            "next": ["kubectl incident plan -n shopsmart inc-2024-0001", _WATCH],
        },
        "timeline": [
            {
                "at": at(4),
                "reason": "Applying",
                "message": "set BirthdayServiceAccess back to version v1",
                "source": f"plan {PLAN}",
            }
        ],
    },
    "verifying": {
        "phase": "Verifying",
        "steps": _steps({"state": "Passed", "finishedAt": at(70)}, {"state": "Helped", "planRef": PLAN}),
        "recovery": {"state": "Passing", "lastCheckedAt": at(130), "passingSince": at(70), "samples": 3},
        "now": {
            "doing": "users are well again: watching that it stays so",
            "waitingFor": "stability",
            "until": at(370),
            "next": [_WATCH],
        },
        "timeline": [{"at": at(65), "reason": "Helped", "message": "no denials since 14:31:05Z"}],
    },
    "resolved": {
        "phase": "Resolved",
        "outcome": "Runbook",
        "resolution": "Runbook",
        "finishedAt": at(371),
        "settled": True,
        "now": {"doing": "Resolved: set BirthdayServiceAccess back to version v1"},
        "timeline": [
            {"at": at(371), "reason": "Resolved", "message": "Runbook: set BirthdayServiceAccess back to version v1"}
        ],
    },
}
