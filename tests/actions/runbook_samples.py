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
    """

    parameters: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


_TARGET_HEALTH = {
    "targetGroupArn": webtier.ARN,
    "loadBalancerArn": webtier.BALANCER,
    "total": 3,
    "healthy": 3,
    "unhealthy": 0,
    "unhealthyTargets": [],
    "failAlike": False,
}

SAMPLES: Mapping[str, Sample] = {
    "lambda-failures": Sample(
        {"functionName": _FUNCTION, "alias": "LIVE"},
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
    ),
    "alb-target-health": Sample(
        {"targetGroup": "web", "autoScalingGroup": "web-asg", "declaredPath": "/healthz"},
        {"targetHealth": _TARGET_HEALTH},
        {"loadBalancer": ("LoadBalancerMissing",)},
    ),
    "autoscaling-failures": Sample(
        {
            "autoScalingGroup": "web-asg",
            "targetGroup": "web",
            "metricNamespace": "CWAgent",
            "metricName": "cpu_usage_active",
        },
        {"targetHealth": _TARGET_HEALTH},
    ),
}
