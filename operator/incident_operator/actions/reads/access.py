"""Identities, roles and policies; keys' own policies."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, each, keep, policy_document


def _role(answer: Mapping[str, Any]) -> dict[str, Any]:
    role = answer["Role"]
    boundary = role.get("PermissionsBoundary") or {}
    return {
        "RoleName": role["RoleName"],
        "Arn": role["Arn"],
        "Path": role.get("Path", "/"),
        "PermissionsBoundaryArn": boundary.get("PermissionsBoundaryArn"),
        "TrustedServices": _trusted_services(role.get("AssumeRolePolicyDocument")),
    }


def _trusted_services(document: Any) -> list[str] | None:
    """Return the services that a trust policy lets assume the role, nothing of other principals; None if unreadable."""
    given = policy_document(document) if document else {}
    if not isinstance(given, Mapping):
        return None
    statements = given.get("Statement", ())
    found: set[str] = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        services = principal.get("Service", ()) if isinstance(principal, Mapping) else ()
        if statement.get("Effect") == "Allow":
            found.update([services] if isinstance(services, str) else services)
    return sorted(found)


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


def _attached(answer: Mapping[str, Any]) -> Any:
    return [{"name": p["PolicyName"], "arn": p["PolicyArn"]} for p in answer.get("AttachedPolicies", ())]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("sts", "get_caller_identity"): ListedRead(permissions=(), project=keep("Account", "Arn")),
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
        project=lambda answer: keep("Arn", "DefaultVersionId", "AttachmentCount")(answer["Policy"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "list_policy_versions"): ListedRead(
        permissions=("iam:ListPolicyVersions",),
        project=each("Versions", "VersionId", "IsDefaultVersion", "CreateDate"),
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
    ("iam", "get_user"): ListedRead(
        permissions=("iam:GetUser",),
        project=lambda answer: keep("UserName", "Arn")(answer["User"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_login_profile"): ListedRead(
        permissions=("iam:GetLoginProfile",),
        project=lambda answer: keep("UserName", "CreateDate")(answer["LoginProfile"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_user_policy"): ListedRead(
        permissions=("iam:GetUserPolicy",),
        project=lambda answer: policy_document(answer["PolicyDocument"]),
        missing=("NoSuchEntity",),
    ),
    ("iam", "get_access_key_last_used"): ListedRead(
        permissions=("iam:GetAccessKeyLastUsed",),
        project=keep("UserName"),
        missing=("NoSuchEntity",),
    ),
    ("iam", "list_access_keys"): ListedRead(
        permissions=("iam:ListAccessKeys",),
        project=each("AccessKeyMetadata", "AccessKeyId", "Status", "CreateDate"),
        items="AccessKeyMetadata",
        missing=("NoSuchEntity",),
    ),
    ("kms", "get_key_policy"): ListedRead(
        permissions=("kms:GetKeyPolicy",),
        project=lambda answer: policy_document(answer["Policy"]),
        missing=("NotFoundException",),
    ),
}
