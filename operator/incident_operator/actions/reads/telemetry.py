"""What happened: logs, metrics, and who changed what."""

import json
import re
from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, each


def _address(text: Any) -> str:
    """Return a caller's address, or the AWS service that called; nothing else that stands there."""
    return (
        text if isinstance(text, str) and re.fullmatch(r"[0-9a-fA-F.:]{3,45}|[a-z0-9.-]+\.amazonaws\.com", text) else ""
    )


def _trail(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep who did what when, and the policies written; never credentials of the session."""
    kept = []
    for event in answer.get("Events", ()):
        body = json.loads(event.get("CloudTrailEvent") or "{}")
        parameters = body.get("requestParameters") or {}
        kept.append(
            {
                "id": event.get("EventId", ""),
                "name": event.get("EventName", ""),
                "at": event.get("EventTime"),
                "actor": (body.get("userIdentity") or {}).get("arn", ""),
                "source": body.get("eventSource", ""),
                "address": _address(body.get("sourceIPAddress")),
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
    "userName",
    "roleArn",
    "bucketName",
    "bucketPolicy",
    "resourceArn",
    "policy",
    "functionName",
    "functionVersion",
    "name",
    "reservedConcurrentExecutions",
    "autoScalingGroupName",
    "minSize",
    "maxSize",
    "desiredCapacity",
    "scalingProcesses",
    "targetGroupArn",
    "healthCheckPath",
    "launchTemplateName",
    "launchTemplateId",
    "defaultVersion",
    "instanceId",
    "replicationGroupId",
    "groupId",
    "ipPermissions",
    "primaryClusterId",
    "cacheClusterId",
    "dBInstanceIdentifier",
    "sourceDBInstanceIdentifier",
    "dBInstanceClass",
    "applyImmediately",
    "forceFailover",
)


def _metrics(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"id": r["Id"], "at": list(r.get("Timestamps", ())), "values": list(r.get("Values", ()))}
        for r in answer.get("MetricDataResults", ())
    ]


def _alarms(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep whether each alarm works and what it looks at; no description, and no reason, which are free text."""
    kept = each("MetricAlarms", *_ALARM, *_METRIC_ALARM)(answer) + each("CompositeAlarms", *_ALARM)(answer)
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


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("logs", "filter_log_events"): ListedRead(
        permissions=("logs:FilterLogEvents",),
        project=each("events", "timestamp", "message"),
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
