"""CloudTrail: every management call that changes something becomes an event, minutes later.

As in AWS, IAM's events are kept in us-east-1, all others in the region they were made in; what data calls do to items,
objects and invocations is not recorded; the state before a change is not told (our own journal tells it).
"""

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .identity import Principal
from .journal import is_mutating
from .permissions import function_name, needs, redacted
from .policies import parsed
from .state import managed_policy
from .telemetry import TRAIL_DELAY, Delayed
from .wire import Call, Refused, Reply, plain

_GLOBAL = frozenset({"iam", "sts"})
_SOURCES = {"cloudwatch": "monitoring", "ses": "ses", "sesv2": "ses", "elbv2": "elasticloadbalancing"}
_DATA = {
    "dynamodb": frozenset(
        {
            *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems", "ExecuteStatement"),
            *("GetItem", "Query", "Scan", "BatchGetItem", "TransactGetItems"),
        }
    ),
    "lambda": frozenset({"Invoke", "InvokeAsync"}),
    "logs": frozenset({"PutLogEvents"}),
    "cloudwatch": frozenset({"PutMetricData"}),
    "ses": frozenset({"SendEmail", "SendRawEmail", "SendTemplatedEmail", "SendBulkTemplatedEmail"}),
    "sesv2": frozenset({"SendEmail"}),
}
#: Lambda's events carry the version of its API.
_LAMBDA_NAMES = {
    "CreateFunction": "20150331",
    "DeleteFunction": "20150331",
    "UpdateFunctionCode": "20150331v2",
    "UpdateFunctionConfiguration": "20150331v2",
    "PublishVersion": "20150331",
    "CreateAlias": "20150331",
    "UpdateAlias": "20150331",
    "DeleteAlias": "20150331",
    "AddPermission": "20150331v2",
    "RemovePermission": "20150331v2",
    "PutFunctionConcurrency": "20171031",
    "DeleteFunctionConcurrency": "20171031",
}
#: S3's events have names of their own for some calls.
_S3_NAMES = {
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "DeleteBucketPublicAccessBlock",
}
_ATTRIBUTES = ("ResourceName", "EventName", "Username", "EventId", "EventSource", "ReadOnly", "AccessKeyId")
_PAGE = 50
#: On loopback all callers look alike: a caller may say from where it stands for calling.
SOURCE = "HTTP_X_SIM_SOURCE_ADDRESS"


@dataclass(kw_only=True)
class Trail:
    """The events, by account and region."""

    delayed: Delayed
    _events: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, call: Call, principal: Principal, at: datetime, reply: Reply) -> None:
        """Keep a management call for later: one that changed something, or tried to, and all that users make.

        AWS keeps everybody's reads as well; those of roles and of root would only fill the simulator.
        """
        if not (is_mutating(call.operation) or principal.kind == "IAMUser") or _is_of_data(call):
            return
        event = event_of(call, principal, at, reply)
        where = principal.account, event["body"]["awsRegion"]

        def show() -> None:
            with self._lock:
                self._events[where].append(event)

        self.delayed.later(TRAIL_DELAY, show)

    def lookup(self, call: Call, principal: Principal) -> Reply:
        """Answer cloudtrail:LookupEvents: newest first, fifty at a time."""
        attributes = call.arguments.get("LookupAttributes") or []
        if len(attributes) > 1:
            raise Refused("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
        for attribute in attributes:
            if attribute["AttributeKey"] not in _ATTRIBUTES:
                message = f"the simulator can't look up by {attribute['AttributeKey']}"
                raise Refused("InvalidLookupAttributesException", message)
        start, end = _instant(call.arguments.get("StartTime")), _instant(call.arguments.get("EndTime"))
        with self._lock:
            events = list(self._events[principal.account, call.region])
        found = [
            e
            for e in sorted(events, key=lambda e: e["at"], reverse=True)
            if (start is None or e["at"] >= start.replace(microsecond=0))
            and (end is None or e["at"] <= end)
            and all(_has(e, a["AttributeKey"], a["AttributeValue"]) for a in attributes)
        ]
        token = call.arguments.get("NextToken")
        first = int(token) if token else 0
        size = min(int(call.arguments.get("MaxResults") or _PAGE), _PAGE)
        page = found[first : first + size]
        more = {"NextToken": str(first + size)} if first + size < len(found) else {}
        return call.answer({"Events": [_shown(e) for e in page], **more})


def _is_of_data(call: Call) -> bool:
    return call.operation in _DATA.get(call.service, ()) or (
        call.service == "s3" and ("Key" in call.arguments or call.operation == "DeleteObjects")
    )


def event_of(call: Call, principal: Principal, at: datetime, reply: Reply) -> dict[str, Any]:
    """Return an event: what LookupEvents looks at, and in `body` what it tells."""
    region = "us-east-1" if call.service in _GLOBAL else call.region
    code = reply.error_code
    name = call.operation + (_LAMBDA_NAMES.get(call.operation, "") if call.service == "lambda" else "")
    name = _S3_NAMES.get(name, name) if call.service == "s3" else name
    body: dict[str, Any] = {
        "eventVersion": "1.09",
        "userIdentity": _identity(principal, call.scope.access_key),
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": f"{_SOURCES.get(call.service, call.service)}.amazonaws.com",
        "eventName": name,
        "awsRegion": region,
        "sourceIPAddress": call.environ.get(SOURCE) or call.environ.get("REMOTE_ADDR", ""),
        "userAgent": call.environ.get("HTTP_USER_AGENT", ""),
        "requestParameters": parameters(call),
        "responseElements": None if code else _elements(call, principal),
        "requestID": call.id,
        "eventID": str(uuid.uuid4()),
        "readOnly": not is_mutating(call.operation),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": principal.account,
        "eventCategory": "Management",
    }
    if code:
        body["errorCode"] = "AccessDenied" if code.startswith("AccessDenied") else code
    return {"at": at, "body": body, "resources": _resources(call, principal)}


def _identity(principal: Principal, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": principal.kind,
        "arn": principal.arn,
        "accountId": principal.account,
        "accessKeyId": key,
    }
    if principal.kind == "IAMUser":
        found["userName"] = principal.name
    if principal.kind == "IAMUser" and principal.issued_at is not None:
        attributes = {"creationDate": f"{principal.issued_at:%Y-%m-%dT%H:%M:%SZ}", "mfaAuthenticated": "false"}
        found["sessionContext"] = {"attributes": attributes}
    if principal.kind == "AssumedRole":
        issuer = {"type": "Role", "arn": principal.role_arn, "accountId": principal.account}
        found["sessionContext"] = {"sessionIssuer": {**issuer, "userName": principal.role_arn.rsplit("/", 1)[-1]}}
    return found


def parameters(call: Call) -> dict[str, Any]:
    """Return the request as CloudTrail writes it: names begin with a small letter, an S3 policy is an object."""
    if call.service == "s3":
        found: dict[str, Any] = {"bucketName": call.arguments.get("Bucket")}
        if call.operation == "PutBucketPolicy":
            found["bucketPolicy"] = _document(call.arguments.get("Policy"))
        return found
    found = {key[:1].lower() + key[1:]: _lowered(v) for key, v in plain(redacted(call.arguments)).items()}
    if call.service == "ec2" and "ipPermissions" in found:
        found["ipPermissions"] = _items([_permission(rule) for rule in found["ipPermissions"]])
    return found


def _items(values: list[Any]) -> dict[str, Any]:
    """Return a list as EC2's events have it."""
    return {"items": values} if values else {}


def _permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule of a security group as EC2's events have it."""
    lists = {"userIdGroupPairs": "groups", "ipRanges": "ipRanges", "ipv6Ranges": "ipv6Ranges"}
    plainly = {key: value for key, value in rule.items() if not isinstance(value, list)}
    return {**plainly, **{name: _items(list(rule.get(key) or ())) for key, name in lists.items()}}


def _document(text: Any) -> Any:
    try:
        return parsed(text)
    except ValueError:
        return text


def _lowered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key[:1].lower() + key[1:]: _lowered(v) for key, v in value.items()}
    return [_lowered(v) for v in value] if isinstance(value, list) else value


def _elements(call: Call, principal: Principal) -> Any:
    """Return the part of an answer that explains the present: which version a policy got."""
    if call.name != ("iam", "CreatePolicyVersion"):
        return None
    policy = managed_policy(principal.account, call.arguments["PolicyArn"])
    if policy is None:
        return None
    made = policy.versions[-1]
    return {
        "policyVersion": {
            "versionId": made.version_id,
            "isDefaultVersion": made.version_id == policy.default_version_id,
            "createDate": f"{made.create_date:%b %d, %Y %I:%M:%S %p}",
        }
    }


def _resources(call: Call, principal: Principal) -> list[tuple[str, str]]:
    """Return type and name of what a call is about: by ARN and by plain name."""
    found: dict[tuple[str, str], None] = {}
    types = {
        "RoleName": "AWS::IAM::Role",
        "UserName": "AWS::IAM::User",
        "PolicyArn": "AWS::IAM::Policy",
        "PolicyName": "AWS::IAM::Policy",
        "Bucket": "AWS::S3::Bucket",
        "TableName": "AWS::DynamoDB::Table",
        "ResourceArn": "AWS::DynamoDB::Table",
        "KeyId": "AWS::KMS::Key",
        "PermissionsBoundary": "AWS::IAM::Policy",
        "AutoScalingGroupName": "AWS::AutoScaling::AutoScalingGroup",
        "TargetGroupArn": "AWS::ElasticLoadBalancingV2::TargetGroup",
        "ListenerArn": "AWS::ElasticLoadBalancingV2::Listener",
        "LoadBalancerArn": "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "LaunchTemplateName": "AWS::EC2::LaunchTemplate",
        "LaunchTemplateId": "AWS::EC2::LaunchTemplate",
        "InstanceId": "AWS::EC2::Instance",
        "ReplicationGroupId": "AWS::ElastiCache::ReplicationGroup",
        "CacheClusterId": "AWS::ElastiCache::CacheCluster",
        "DBInstanceIdentifier": "AWS::RDS::DBInstance",
        "SourceDBInstanceIdentifier": "AWS::RDS::DBInstance",
        "GroupId": "AWS::EC2::SecurityGroup",
        "apiKey": "AWS::ApiGateway::ApiKey",
    }
    for member, kind in types.items():
        value = call.arguments.get(member)
        if isinstance(value, str):
            found[kind, value] = None
            if value.startswith("arn:") and "/" in value:
                found[kind, value.rsplit("/", 1)[-1]] = None
    if call.service == "lambda" and call.arguments.get("FunctionName"):
        name, _ = function_name(call.arguments["FunctionName"])
        found["AWS::Lambda::Function", name] = None
    kind = {"lambda": "AWS::Lambda::Function", "iam": "AWS::IAM::Role", "dynamodb": "AWS::DynamoDB::Table"}.get(
        call.service, f"AWS::{call.service.upper()}::Resource"
    )
    for need in needs(call, principal.account):
        if need.resource.startswith("arn:") and not any(need.resource == name for _, name in found):
            found[kind, need.resource] = None
    return list(found)


def _has(event: Mapping[str, Any], key: str, value: str) -> bool:
    body = event["body"]
    if key == "ResourceName":
        return any(name == value for _, name in event["resources"])
    known = {
        "EventName": body["eventName"],
        "EventId": body["eventID"],
        "EventSource": body["eventSource"],
        "Username": _username(body["userIdentity"]),
        "AccessKeyId": body["userIdentity"].get("accessKeyId"),
        "ReadOnly": str(body["readOnly"]).lower(),
    }
    return bool(known[key] == value)


def _username(identity: Mapping[str, Any]) -> str:
    return "root" if identity["type"] == "Root" else str(identity["arn"]).rsplit("/", 1)[-1]


def _shown(event: Mapping[str, Any]) -> dict[str, Any]:
    body = event["body"]
    return {
        "EventId": body["eventID"],
        "EventName": body["eventName"],
        "ReadOnly": str(body["readOnly"]).lower(),
        "AccessKeyId": body["userIdentity"].get("accessKeyId"),
        "EventTime": event["at"].replace(microsecond=0),
        "EventSource": body["eventSource"],
        "Username": _username(body["userIdentity"]),
        "Resources": [{"ResourceType": kind, "ResourceName": name} for kind, name in event["resources"]],
        "CloudTrailEvent": json.dumps(body),
    }


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    at = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)
