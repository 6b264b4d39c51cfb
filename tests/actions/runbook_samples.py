"""What each shipped runbook's checks are asked with: parameters, and what earlier checks have said.

A runbook that ships has an entry here: `test_errors_are_not_health` asks every one of its checks with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.actions import webtier

_FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:mailer"


@dataclass(frozen=True)
class Sample:
    """What one runbook's checks are asked with.

    Shape: `outputs` by check name, of those that other checks read; `absent`: by check, findings that say that a
    thing does not exist, which AWS itself said; `elsewhere`: checks of things whose absence another check finds.
    `unset`: why a check passes where a setting was never made; of an answer with nothing in it, `empty`: why it is
    one, `unlisted`: what it finds, because what was asked for by name is not in it.
    """

    parameters: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    unset: Mapping[str, str] = field(default_factory=dict)
    empty: Mapping[str, str] = field(default_factory=dict)
    unlisted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_TARGET_HEALTH = {
    "targetGroupArn": webtier.ARN,
    "loadBalancerArn": webtier.BALANCER,
    "total": 3,
    "healthy": 3,
    "unhealthy": 0,
    "unhealthyTargets": [],
    "failAlike": False,
}

_NOBODY_CHANGED = "no change is an answer: what is found are facts for people, no problems"

SAMPLES: Mapping[str, Sample] = {
    "lambda-failures": Sample(
        {"functionName": _FUNCTION, "alias": "LIVE", "alarmNames": ["mailer-errors"], "relatedAlarms": ["queue-age"]},
        {
            "configuration": {
                "functionArn": _FUNCTION,
                "roleArn": "arn:aws:iam::123456789012:role/mailer-role",
            },
            "errors": {"denials": [{"action": "dynamodb:GetItem", "resource": "*", "count": 1, "explicit": False}]},
        },
        {"configuration": ("FunctionMissing",), "role": ("RoleMissing",)},
        # `configuration` reads the same version, and finds FunctionMissing.
        frozenset({"liveVersion"}),
        empty={
            "errors": "no line of the log tells an error",
            "throttles": "nobody was refused: AWS counts throttles only where there are some",
            "recentChanges": _NOBODY_CHANGED,
            "liveVersion": "what it answers is for a fix's condition, and no rule judges it",
            "mails": "no mail was sent, so none bounced",
        },
        unlisted={"alarm": ("AlarmMissing",), "relatedAlarms": ("AlarmMissing",)},
    ),
    "alb-target-health": Sample(
        {"targetGroup": "web", "autoScalingGroup": "web-asg", "declaredPath": "/healthz"},
        {"targetHealth": _TARGET_HEALTH},
        {"loadBalancer": ("LoadBalancerMissing",)},
        empty={"recentChanges": _NOBODY_CHANGED},
    ),
    "autoscaling-failures": Sample(
        {
            "autoScalingGroup": "web-asg",
            "targetGroup": "web",
            "metricNamespace": "CWAgent",
            "metricName": "cpu_usage_active",
        },
        {"targetHealth": _TARGET_HEALTH},
        empty={"recentChanges": _NOBODY_CHANGED},
    ),
    "cache-performance": Sample(
        {"replicationGroup": "sessions", "hosts": ["10.0.16.0/20"], "metricNamespace": "Shop"},
        absent={"replicationGroup": ("ReplicationGroupMissing",)},
        empty={"recentChanges": _NOBODY_CHANGED},
    ),
    "network-connectivity": Sample(
        {
            "vpcId": "vpc-0123456789abcdef0",
            "paths": [{"from": "web-servers", "to": "database", "port": 5432}],
            "metricNamespace": "Shop",
        },
        empty={"recentChanges": _NOBODY_CHANGED},
        unlisted={"paths": ("SecurityGroupMissing", "SecurityGroupMissing")},
    ),
    "database-performance": Sample(
        {"databaseInstance": "orders", "applicationUsers": ["orders"], "errorNamespace": "Shop"},
        absent={"instance": ("InstanceMissing",)},
        empty={
            "holders": "for people: no rule judges it",
            "applicationHosts": "for a fix, which recycles nobody then: no rule judges it",
            "longRunning": "no session is in a long transaction",
            "blockers": "no session waits for another",
            "dominating": "no statement of the application's runs for long",
            "sequentialScans": "no big table was scanned",
            "recentChanges": _NOBODY_CHANGED,
            "replicas": "the instance has no replica of its own",
        },
    ),
    "s3-access": Sample(
        {
            "bucket": "images",
            "canaries": ["a.jpg", "b.jpg"],
            "privateObject": "invoice.pdf",
            "metricsFilter": "images",
            "roleArn": "arn:aws:iam::123456789012:role/web-role",
            "requiredAccess": [{"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::images/*"]}],
        },
        absent={
            "images": ("CanariesMissing", "PrivateObjectMissing"),
            "accessList": ("BucketMissing",),
        },
        unset={"publicAccessBlock": "a bucket without a block of its own blocks nothing"},
        empty={
            "accessList": "a list without a grant gives nobody anything",
            "recentChanges": _NOBODY_CHANGED,
        },
    ),
    "security-incident": Sample(
        {
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
            "apiKeyId": "a1b2c3d4e5",
            "windowStart": "2026-01-14T14:00:00Z",
            "windowEnd": "2026-01-14T16:00:00Z",
            "evidenceBucket": "evidence",
            "webAcl": "partners",
        },
        {"key": {"user": "partner"}},
        empty={"userChanges": _NOBODY_CHANGED},
    ),
}
