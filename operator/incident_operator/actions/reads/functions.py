"""Lambda functions, their versions and aliases."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, each, keep


def _function(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "FunctionName FunctionArn Role Timeout MemorySize State StateReasonCode LastUpdateStatus "
        "LastUpdateStatusReasonCode CodeSha256 Version RevisionId LastModified Runtime KMSKeyArn"
    )
    return keep(*names.split())(answer)  # type: ignore[no-any-return]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("lambda", "get_function_configuration"): ListedRead(
        permissions=("lambda:GetFunctionConfiguration",), project=_function, missing=("ResourceNotFoundException",)
    ),
    ("lambda", "get_alias"): ListedRead(
        permissions=("lambda:GetAlias",),
        project=keep("Name", "FunctionVersion", "RevisionId", "RoutingConfig", "AliasArn"),
        missing=("ResourceNotFoundException",),
    ),
    ("lambda", "list_versions_by_function"): ListedRead(
        permissions=("lambda:ListVersionsByFunction",),
        project=each("Versions", "Version", "CodeSha256", "Timeout", "MemorySize", "LastModified"),
        items="Versions",
        bound=2000,
        missing=("ResourceNotFoundException",),
    ),
    ("lambda", "get_function_concurrency"): ListedRead(
        permissions=("lambda:GetFunctionConcurrency",),
        project=keep("ReservedConcurrentExecutions"),
        missing=("ResourceNotFoundException",),
    ),
}
