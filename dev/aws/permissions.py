"""Which IAM actions on which resources a call needs. Source: AWS's service authorization reference.

Only the services whose callers are limited here are known; for any other a limited caller needs the action on `*`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.models import iam_backends
from moto.kms.models import kms_backends

from .wire import Call


@dataclass(frozen=True, kw_only=True)
class Need:
    """One action on one resource."""

    action: str
    resource: str


def needs(call: Call, account: str) -> list[Need]:
    """Return what a call needs. Shape: empty for what everybody may do."""
    if call.name in (("sts", "GetCallerIdentity"), ("sts", "AssumeRole"), ("sts", "GetSessionToken")):
        return []
    by_service = _SERVICES.get(call.service)
    if by_service is not None:
        return list(by_service(call, account))
    return [Need(action=f"{_PREFIX.get(call.service, call.service)}:{call.operation}", resource="*")]


_PREFIX = {"elbv2": "elasticloadbalancing", "elb": "elasticloadbalancing", "sesv2": "ses", "stepfunctions": "states"}


# --- lambda -----------------------------------------------------------------------------------------------------------


def function_name(text: str) -> tuple[str, str | None]:
    """Return name and qualifier of a function given as name, `name:qualifier`, partial or full ARN."""
    if ":function:" in text:
        text = text.split(":function:", 1)[1]
    elif text.count(":") == 2:  # account:function:name
        text = text.rsplit(":", 1)[1]
    name, _, qualifier = text.partition(":")
    return name, qualifier or None


def _lambda(call: Call, account: str) -> Iterator[Need]:
    given = call.arguments.get("FunctionName")
    action = {"Invoke": "InvokeFunction", "InvokeAsync": "InvokeFunction"}.get(call.operation, call.operation)
    if not given:
        arn = call.arguments.get("Resource", "*") if call.operation in ("ListTags", "TagResource") else "*"
        yield Need(action=f"lambda:{action}", resource=arn)
        return
    name, qualifier = function_name(given)
    arn = f"arn:aws:lambda:{call.region}:{account}:function:{name}"
    if action == "InvokeFunction":
        qualifier = qualifier or call.arguments.get("Qualifier")
        arn += f":{qualifier}" if qualifier else ""
    yield Need(action=f"lambda:{action}", resource=arn)
    if call.operation in ("CreateFunction", "UpdateFunctionConfiguration") and call.arguments.get("Role"):
        yield Need(action="iam:PassRole", resource=call.arguments["Role"])


# --- dynamodb ---------------------------------------------------------------------------------------------------------


def table_arn(text: str, region: str, account: str) -> str:
    """Return a table's ARN, given its name or an ARN of it, of an index or a stream of it."""
    if text.startswith("arn:"):
        return "/".join(text.split("/")[:2])
    return f"arn:aws:dynamodb:{region}:{account}:table/{text}"


_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


def _dynamodb(call: Call, account: str) -> Iterator[Need]:
    arguments = call.arguments

    def need(action: str, table: str, index: str | None = None) -> Need:
        arn = table_arn(table, call.region, account)
        return Need(action=f"dynamodb:{action}", resource=f"{arn}/index/{index}" if index else arn)

    if call.operation in ("BatchGetItem", "BatchWriteItem"):
        yield from (need(call.operation, table) for table in arguments.get("RequestItems", {}))
    elif call.operation in ("TransactGetItems", "TransactWriteItems"):
        for item in arguments.get("TransactItems", ()):
            for kind, body in item.items():
                yield need(_TRANSACTED.get(kind, "GetItem"), body["TableName"])
    elif "TableName" in arguments:
        yield need(call.operation, arguments["TableName"], arguments.get("IndexName"))
    elif "ResourceArn" in arguments:
        yield Need(action=f"dynamodb:{call.operation}", resource=arguments["ResourceArn"])
    else:
        yield Need(action=f"dynamodb:{call.operation}", resource="*")


# --- s3 ---------------------------------------------------------------------------------------------------------------

_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListBuckets": "ListAllMyBuckets",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketMetricsConfiguration": "GetMetricsConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "PutBucketMetricsConfiguration": "PutMetricsConfiguration",
    "DeleteBucketMetricsConfiguration": "PutMetricsConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
}


def _s3(call: Call, account: str) -> Iterator[Need]:
    bucket, key = call.arguments.get("Bucket"), call.arguments.get("Key")
    if not bucket:
        yield Need(action=f"s3:{_S3_ACTIONS.get(call.operation, call.operation)}", resource="*")
        return
    arn = f"arn:aws:s3:::{bucket}"
    if call.operation == "DeleteObjects":
        for item in call.arguments.get("Delete", {}).get("Objects", ()):
            yield Need(action="s3:DeleteObject", resource=f"{arn}/{item['Key']}")
        return
    if call.operation == "CopyObject":
        source = call.arguments.get("CopySource", "")
        source = source if isinstance(source, str) else f"{source['Bucket']}/{source['Key']}"
        yield Need(action="s3:GetObject", resource=f"arn:aws:s3:::{source.lstrip('/').split('?')[0]}")
        yield Need(action="s3:PutObject", resource=f"{arn}/{key}")
        return
    yield Need(action=f"s3:{_S3_ACTIONS.get(call.operation, call.operation)}", resource=f"{arn}/{key}" if key else arn)


# --- iam, logs, kms, the rest -----------------------------------------------------------------------------------------


def _iam(call: Call, account: str) -> Iterator[Need]:
    arguments, backend = call.arguments, iam_backends[account]["aws"]
    resource = "*"
    if "PolicySourceArn" in arguments:
        resource = arguments["PolicySourceArn"]
    elif "RoleName" in arguments:
        role = backend.roles.get(arguments["RoleName"]) or next(
            (r for r in backend.roles.values() if r.name == arguments["RoleName"]), None
        )
        path = arguments.get("Path") or "/"
        resource = role.arn if role is not None else f"arn:aws:iam::{account}:role{path}{arguments['RoleName']}"
    elif "UserName" in arguments:
        user = backend.users.get(arguments["UserName"])
        resource = user.arn if user is not None else f"arn:aws:iam::{account}:user/{arguments['UserName']}"
    elif "PolicyArn" in arguments:
        resource = arguments["PolicyArn"]
    elif call.operation == "CreatePolicy":
        resource = f"arn:aws:iam::{account}:policy{arguments.get('Path') or '/'}{arguments['PolicyName']}"
    yield Need(action=f"iam:{call.operation}", resource=resource)


def _logs(call: Call, account: str) -> Iterator[Need]:
    group = call.arguments.get("logGroupName") or call.arguments.get("logGroupIdentifier")
    if group and group.startswith("arn:"):
        group = group.split(":log-group:", 1)[1].removesuffix(":*")
    stream = call.arguments.get("logStreamName", "")
    prefix = f"arn:aws:logs:{call.region}:{account}:log-group:"
    yield Need(action=f"logs:{call.operation}", resource=f"{prefix}{group or ''}:log-stream:{stream}")


def key_arn(text: str, region: str, account: str) -> str:
    """Return a key's ARN, given its id, an alias or an ARN."""
    if text.startswith("arn:") and ":alias/" not in text:
        return text
    backend = kms_backends[account][region]
    name = text.rsplit(":", 1)[-1]
    found = backend.get_key_id_from_alias(name) if name.startswith("alias/") else name
    return f"arn:aws:kms:{region}:{account}:key/{found or name}"


def _kms(call: Call, account: str) -> Iterator[Need]:
    given = call.arguments.get("KeyId")
    resource = key_arn(given, call.region, account) if given else "*"
    yield Need(action=f"kms:{call.operation}", resource=resource)


def _cloudwatch(call: Call, account: str) -> Iterator[Need]:
    yield Need(action=f"cloudwatch:{call.operation}", resource="*")


_SERVICES: dict[str, Callable[[Call, str], Iterator[Need]]] = {
    "lambda": _lambda,
    "dynamodb": _dynamodb,
    "s3": _s3,
    "iam": _iam,
    "logs": _logs,
    "kms": _kms,
    "cloudwatch": _cloudwatch,
}


def declare(needs_of: Mapping[str, Callable[[Call, str], Iterator[Need]]]) -> None:
    """Make known what calls of further services need."""
    _SERVICES.update(needs_of)


def redacted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments without secrets and without payloads: what a journal may hold."""
    hidden = {
        "Body", "ZipFile", "Payload", "Plaintext", "SecretString", "SecretBinary", "Password", "CiphertextBlob",
        "UserData", "MasterUserPassword", "AuthToken",
    }  # fmt: skip
    return {
        key: (f"({len(value) if hasattr(value, '__len__') else 1} hidden)" if key in hidden else _redacted(value))
        for key, value in arguments.items()
        if value is not None
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"Variables"}:
            return {"Variables": dict.fromkeys(value["Variables"], "(hidden)")}
        return redacted(value)
    if isinstance(value, list | tuple):
        return [_redacted(v) for v in value]
    return value
