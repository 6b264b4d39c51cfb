"""The read operations of the catalogue: what may be asked of AWS, and what of the answer is kept.

Anything not listed is refused by the reader. A projection keeps what decisions need and drops the rest, above all
credentials: no function code URL, no environment, no secret. Source: facts on AWS, section 4.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Projection = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class ListedRead:
    """One read operation.

    Shape: `permissions` are the IAM actions it needs; `items` names the list of a paged answer,
    of which at most `bound` items are followed; `missing` are error codes that mean "there is none"; `free_text`: its
    answer is texts that anybody wrote, for an action that knows what to look for, never to be kept (decision 19).
    """

    permissions: tuple[str, ...]
    project: Projection
    items: str | None = None
    bound: int = 500
    missing: tuple[str, ...] = ()
    free_text: bool = False


def _keep(*names: str) -> Projection:
    return lambda answer: {name: answer[name] for name in names if name in answer}


def _each(items: str, *names: str) -> Projection:
    return lambda answer: [{name: item[name] for name in names if name in item} for item in answer.get(items, ())]


def policy_document(value: Any) -> Any:
    """Return a policy document as JSON: IAM answers it decoded, quoted or as text, depending on the client."""
    if not isinstance(value, str):
        return value
    text = unquote(value) if value.startswith("%7B") else value
    return json.loads(text)


def _function(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "FunctionName FunctionArn Role Timeout MemorySize State StateReasonCode LastUpdateStatus "
        "LastUpdateStatusReasonCode CodeSha256 Version RevisionId LastModified Runtime KMSKeyArn"
    )
    return _keep(*names.split())(answer)  # type: ignore[no-any-return]


def _role(answer: Mapping[str, Any]) -> dict[str, Any]:
    role = answer["Role"]
    boundary = role.get("PermissionsBoundary") or {}
    return {
        "RoleName": role["RoleName"],
        "Arn": role["Arn"],
        "Path": role.get("Path", "/"),
        "PermissionsBoundaryArn": boundary.get("PermissionsBoundaryArn"),
    }


def _simulated(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = []
    for result in answer.get("EvaluationResults", ()):
        boundary = result.get("PermissionsBoundaryDecisionDetail") or {}
        kept.append(
            {
                "action": result["EvalActionName"],
                "resource": result.get("EvalResourceName", "*"),
                "decision": result["EvalDecision"],
                "policies": sorted(
                    {s["SourcePolicyId"] for s in result.get("MatchedStatements", ()) if "SourcePolicyId" in s}
                ),
                "allowedByBoundary": boundary.get("AllowedByPermissionsBoundary"),
            }
        )
    return kept


def _trail(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep who did what when, and the policies written; never credentials of the session."""
    kept = []
    for event in answer.get("Events", ()):
        body = json.loads(event.get("CloudTrailEvent") or "{}")
        parameters = body.get("requestParameters") or {}
        kept.append(
            {
                "name": event.get("EventName", ""),
                "at": event.get("EventTime"),
                "actor": (body.get("userIdentity") or {}).get("arn", ""),
                "source": body.get("eventSource", ""),
                "error": body.get("errorCode"),
                "readOnly": bool(body.get("readOnly", False)),
                "parameters": {
                    key: parameters[key]
                    for key in _TRAIL_PARAMETERS
                    if key in parameters and parameters[key] is not None
                },
                "version": ((body.get("responseElements") or {}).get("policyVersion") or {}).get("versionId"),
            }
        )
    return kept


_TRAIL_PARAMETERS = (
    "policyArn",
    "policyName",
    "policyDocument",
    "setAsDefault",
    "versionId",
    "roleName",
    "bucketName",
    "bucketPolicy",
    "resourceArn",
    "policy",
    "functionName",
    "functionVersion",
    "name",
    "reservedConcurrentExecutions",
)


def _metrics(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"id": r["Id"], "at": list(r.get("Timestamps", ())), "values": list(r.get("Values", ()))}
        for r in answer.get("MetricDataResults", ())
    ]


def _alarms(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep whether each alarm works and what it looks at; no description, and no reason, which are free text."""
    kept = _each("MetricAlarms", *_ALARM, *_METRIC_ALARM)(answer) + _each("CompositeAlarms", *_ALARM)(answer)
    return kept  # type: ignore[no-any-return]


_ALARM = ("AlarmName", "AlarmArn", "StateValue", "StateUpdatedTimestamp", "ActionsEnabled")
_METRIC_ALARM = (
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "ExtendedStatistic",
    "Period",
    "EvaluationPeriods",
    "Unit",
    "Metrics",
)


def _attached(answer: Mapping[str, Any]) -> Any:
    return [{"name": p["PolicyName"], "arn": p["PolicyArn"]} for p in answer.get("AttachedPolicies", ())]


#: `(service, operation)` as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("sts", "get_caller_identity"): ListedRead(permissions=(), project=_keep("Account", "Arn")),
    ("lambda", "get_function_configuration"): ListedRead(
        permissions=("lambda:GetFunctionConfiguration",), project=_function, missing=("ResourceNotFoundException",)
    ),
    ("lambda", "get_alias"): ListedRead(
        permissions=("lambda:GetAlias",),
        project=_keep("Name", "FunctionVersion", "RevisionId", "RoutingConfig", "AliasArn"),
        missing=("ResourceNotFoundException",),
    ),
    ("lambda", "list_versions_by_function"): ListedRead(
        permissions=("lambda:ListVersionsByFunction",),
        project=_each("Versions", "Version", "CodeSha256", "Timeout", "MemorySize", "LastModified"),
        items="Versions",
        bound=2000,
        missing=("ResourceNotFoundException",),
    ),
    ("lambda", "get_function_concurrency"): ListedRead(
        permissions=("lambda:GetFunctionConcurrency",),
        project=_keep("ReservedConcurrentExecutions"),
        missing=("ResourceNotFoundException",),
    ),
    ("iam", "get_role"): ListedRead(permissions=("iam:GetRole",), project=_role, missing=("NoSuchEntity",)),
    ("iam", "list_attached_role_policies"): ListedRead(
        permissions=("iam:ListAttachedRolePolicies",),
        project=_attached,
        items="AttachedPolicies",
        missing=("NoSuchEntity",),
    ),
    ("iam", "list_role_policies"): ListedRead(
        permissions=("iam:ListRolePolicies",),
        project=lambda answer: list(answer.get("PolicyNames", ())),
        items="PolicyNames",
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_role_policy"): ListedRead(
        permissions=("iam:GetRolePolicy",),
        project=lambda answer: policy_document(answer["PolicyDocument"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_policy"): ListedRead(
        permissions=("iam:GetPolicy",),
        project=lambda answer: _keep("Arn", "DefaultVersionId", "AttachmentCount")(answer["Policy"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "list_policy_versions"): ListedRead(
        permissions=("iam:ListPolicyVersions",),
        project=_each("Versions", "VersionId", "IsDefaultVersion", "CreateDate"),
        items="Versions",
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_policy_version"): ListedRead(
        permissions=("iam:GetPolicyVersion",),
        project=lambda answer: policy_document(answer["PolicyVersion"]["Document"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "simulate_principal_policy"): ListedRead(
        permissions=("iam:SimulatePrincipalPolicy",),
        project=_simulated,
        items="EvaluationResults",
        missing=("NoSuchEntity",),
    ),
    ("s3", "get_bucket_policy"): ListedRead(
        permissions=("s3:GetBucketPolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("NoSuchBucketPolicy", "NoSuchBucket"),
    ),
    ("dynamodb", "get_resource_policy"): ListedRead(
        permissions=("dynamodb:GetResourcePolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("PolicyNotFoundException", "ResourceNotFoundException"),
    ),
    ("dynamodb", "describe_table"): ListedRead(
        permissions=("dynamodb:DescribeTable",),
        project=lambda answer: {
            "status": answer["Table"]["TableStatus"],
            "keyArn": (answer["Table"].get("SSEDescription") or {}).get("KMSMasterKeyArn"),
        },
        missing=("ResourceNotFoundException",),
    ),
    ("kms", "get_key_policy"): ListedRead(
        permissions=("kms:GetKeyPolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("NotFoundException",),
    ),
    ("logs", "filter_log_events"): ListedRead(
        permissions=("logs:FilterLogEvents",),
        project=_each("events", "timestamp", "message"),
        items="events",
        bound=2000,
        missing=("ResourceNotFoundException",),
        free_text=True,
    ),
    ("cloudwatch", "get_metric_data"): ListedRead(permissions=("cloudwatch:GetMetricData",), project=_metrics),
    ("cloudwatch", "describe_alarms"): ListedRead(permissions=("cloudwatch:DescribeAlarms",), project=_alarms),
    ("cloudtrail", "lookup_events"): ListedRead(
        permissions=("cloudtrail:LookupEvents",), project=_trail, items="Events", bound=100
    ),
}


def permissions() -> tuple[str, ...]:
    """Return every IAM action that observing may need: the session policy of the reading identity."""
    return tuple(sorted({p for read in READS.values() for p in read.permissions}))
