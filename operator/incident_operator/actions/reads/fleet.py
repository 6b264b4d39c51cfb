"""Instances, the groups that keep their number, and the load balancers before them."""

import re
from collections.abc import Mapping
from typing import Any

from .listed import ListedRead, each, keep

_GROUP = (
    "TargetGroupArn TargetGroupName Protocol Port TargetType LoadBalancerArns HealthCheckProtocol HealthCheckPort "
    "HealthCheckPath HealthCheckEnabled HealthCheckIntervalSeconds HealthyThresholdCount UnhealthyThresholdCount"
)
#: What a target answered to its health check, in the words of ELB.
_CODES = re.compile(r"failed with these codes: \[([1-5]\d\d(?:, ?[1-5]\d\d)*)\]")
#: When a process was suspended, and what an activity did to which instance, in the words of Auto Scaling.
_SUSPENDED = re.compile(r"^User suspended at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)$")
_ACTIVITY = re.compile(r"^(Launching a new|Terminating) EC2 instance(?:: (i-[0-9a-f]{8,17}))?")
_HEALTH = re.compile(r"taken out of service in response to an? (?:EC2|ELB|EBS|VPC_LATTICE)[\w ]{0,24}health")
#: Why a launch failed: EC2's code where the message has one, else the sentence that AWS documents for it.
_CODE = re.compile(r"Error Code: ([A-Za-z][A-Za-z0-9.]{1,63})\b")
_SENTENCES = (
    (re.compile(r"do not have sufficient [\w.]+ capacity"), "InsufficientInstanceCapacity"),
    (re.compile(r"[Tt]he (?:image|AMI)(?: id| ID)? .{0,40}does not exist"), "InvalidAMIID.NotFound"),
    (re.compile(r"[Tt]he key pair .{0,260}does not exist"), "InvalidKeyPair.NotFound"),
    (re.compile(r"[Tt]he security group .{0,80}does not exist"), "InvalidGroup.NotFound"),
    (re.compile(r"[Tt]he subnet .{0,40}does not exist"), "InvalidSubnetID.NotFound"),
    (re.compile(r"more (?:vCPU capacity|instances)"), "InstanceLimitExceeded"),
    (re.compile(r"launch template .{0,140}does not exist"), "InvalidLaunchTemplateName.NotFound"),
)


def _groups(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**keep(*_GROUP.split())(group), "Matcher": (group.get("Matcher") or {}).get("HttpCode")}
        for group in answer.get("TargetGroups", ())
    ]


def _target_health(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep state and reason; of the description the status codes alone."""
    kept = []
    for described in answer.get("TargetHealthDescriptions", ()):
        health = described["TargetHealth"]
        codes = _CODES.search(health.get("Description") or "")
        kept.append(
            {
                "Id": described["Target"]["Id"],
                "Port": described["Target"].get("Port"),
                "State": health["State"],
                "Reason": health.get("Reason"),
                "Codes": codes[1].replace(" ", "") if codes else None,
            }
        )
    return kept


def _load_balancers(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **keep("LoadBalancerArn", "LoadBalancerName", "DNSName", "Scheme", "Type")(balancer),
            "State": (balancer.get("State") or {}).get("Code"),
        }
        for balancer in answer.get("LoadBalancers", ())
    ]


def _scaling_groups(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = (
        "AutoScalingGroupName AutoScalingGroupARN MinSize MaxSize DesiredCapacity HealthCheckType "
        "HealthCheckGracePeriod TargetGroupARNs Status"
    )
    instance = keep("InstanceId", "AvailabilityZone", "LifecycleState", "HealthStatus", "ProtectedFromScaleIn")
    kept = []
    for group in answer.get("AutoScalingGroups", ()):
        suspended = []
        for process in group.get("SuspendedProcesses", ()):
            at = _SUSPENDED.match(process.get("SuspensionReason") or "")
            suspended.append({"ProcessName": process["ProcessName"], "SuspendedAt": at[1] if at else None})
        kept.append(
            {
                **keep(*names.split())(group),
                "Instances": [instance(member) for member in group.get("Instances", ())],
                "SuspendedProcesses": sorted(suspended, key=lambda process: str(process["ProcessName"])),
            }
        )
    return kept


def _activities(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep what was done to which instance, whether for its health, and why it failed; nothing of the prose."""
    kept = []
    for activity in answer.get("Activities", ()):
        did = _ACTIVITY.match(activity.get("Description") or "")
        message = activity.get("StatusMessage") or ""
        code = _CODE.search(message)
        named = code[1] if code else next((name for pattern, name in _SENTENCES if pattern.search(message)), None)
        failed = activity["StatusCode"] == "Failed"
        kept.append(
            {
                **keep("ActivityId", "StatusCode", "StartTime", "EndTime", "Progress")(activity),
                "Kind": None if did is None else "Terminate" if did[1] == "Terminating" else "Launch",
                "InstanceId": did[2] if did else None,
                "ForHealth": bool(_HEALTH.search(activity.get("Cause") or "")),
                "Code": (named or "Other") if failed else None,
            }
        )
    return kept


def _instances(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = keep("InstanceId", "PrivateIpAddress", "LaunchTime", "InstanceType", "ImageId")
    return [
        {
            **kept(instance),
            "State": instance["State"]["Name"],
            "AvailabilityZone": (instance.get("Placement") or {}).get("AvailabilityZone"),
        }
        for reservation in answer.get("Reservations", ())
        for instance in reservation.get("Instances", ())
    ]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("elbv2", "describe_target_groups"): ListedRead(
        permissions=("elasticloadbalancing:DescribeTargetGroups",),
        project=_groups,
        items="TargetGroups",
        missing=("TargetGroupNotFound",),
    ),
    ("elbv2", "describe_target_health"): ListedRead(
        permissions=("elasticloadbalancing:DescribeTargetHealth",),
        project=_target_health,
        missing=("TargetGroupNotFound",),
    ),
    ("elbv2", "describe_load_balancers"): ListedRead(
        permissions=("elasticloadbalancing:DescribeLoadBalancers",),
        project=_load_balancers,
        items="LoadBalancers",
        missing=("LoadBalancerNotFound",),
    ),
    ("elbv2", "describe_listeners"): ListedRead(
        permissions=("elasticloadbalancing:DescribeListeners",),
        project=each("Listeners", "ListenerArn", "Port", "Protocol"),
        items="Listeners",
        missing=("LoadBalancerNotFound", "ListenerNotFound"),
    ),
    ("autoscaling", "describe_auto_scaling_groups"): ListedRead(
        permissions=("autoscaling:DescribeAutoScalingGroups",), project=_scaling_groups, items="AutoScalingGroups"
    ),
    ("autoscaling", "describe_scaling_activities"): ListedRead(
        permissions=("autoscaling:DescribeScalingActivities",), project=_activities, items="Activities", bound=100
    ),
    ("autoscaling", "describe_scheduled_actions"): ListedRead(
        permissions=("autoscaling:DescribeScheduledActions",),
        project=each(
            "ScheduledUpdateGroupActions",
            "ScheduledActionName",
            "StartTime",
            "MinSize",
            "MaxSize",
            "DesiredCapacity",
        ),
        items="ScheduledUpdateGroupActions",
    ),
    ("ec2", "describe_instances"): ListedRead(
        permissions=("ec2:DescribeInstances",),
        project=_instances,
        items="Reservations",
        missing=("InvalidInstanceID.NotFound",),
    ),
}
