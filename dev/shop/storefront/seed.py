"""Make the storefront, or make it again what it was: each part looks first and writes only what differs.

Two instances of `dev.shop.storefront.web`, in a group of up to four, behind a load balancer that anybody on this
machine can ask. Its load is scaled out on a metric that the instances' own agent puts, as in INC-2023-2890.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from dev.processes import wait_until

from .. import policies
from ..seed import key_of
from ..shop import Shop, ShopError
from .traffic import ask

GROUP = "shopsmart-prod-asg"
BALANCER = "shopsmart-prod-alb"
TARGET_GROUP = "shopsmart-prod-tg"
TEMPLATE = "shopsmart-web"
POLICY = "scale-out"
ALARM = "shopsmart-web-busy"
PORT = 8080
MINIMUM, DESIRED, MAXIMUM = 2, 2, 4
HEALTH_PATH = "/health"
#: The agent's metric, which the alarm watches; AWS/EC2 CPUUtilization says the same natively.
AGENT_NAMESPACE, AGENT_METRIC = "ShopSmart/Agent", "cpu_usage_active"
#: A page takes this long and an instance makes two at a time: 40 pages a second are all that one instance can do.
_PAGE_SECONDS, _SLOTS = 0.05, 2
_AGENT_SECONDS = 60
#: The periods that an alarm of a scaled stack may have. Seconds.
_PERIODS = (1, 5, 10, 20, 30, 60)
_PROGRAM = "dev.shop.storefront.web"
_HEALTH_CHECK: Mapping[str, Any] = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckPath": HEALTH_PATH,
    "HealthCheckIntervalSeconds": 15,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 2,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
_GROUP: Mapping[str, Any] = {
    "MinSize": MINIMUM,
    "MaxSize": MAXIMUM,
    "HealthCheckType": "ELB",
    "HealthCheckGracePeriod": 120,
    "DefaultCooldown": 60,
}
_DRAIN_SECONDS = "30"
#: Whose key the storefront adds, and as what.
_KEYS = {"web-deployer": "web-deployer", "web-sre": "web-sre"}
Part = Callable[[Shop], None]


def seed(shop: Shop, state_dir: Path, *, time_scale: float = 1, seconds: float = 30) -> Shop:
    """Make all of the storefront that is not there, and return the shop with its people's keys.

    Shape: its instances are healthy when this returns; `time_scale` is the stack's, for the alarm's period.
    Errors: ShopError when they are not within `seconds`.
    """
    people(shop)
    seeded = shop.with_keys({who: key_of(shop, who, user) for who, user in _KEYS.items()})
    seeded.save(state_dir)
    for part in PARTS:
        part(seeded)
    scaling_policy(seeded, time_scale)
    wait_until_well(seeded, seconds=seconds)
    return seeded


def people(shop: Shop) -> None:
    """The users who deploy and run the web tier."""
    iam = shop.client("iam")
    for user, actions in (("web-deployer", _DEPLOYING), ("web-sre", _RUNNING)):
        try:
            iam.get_user(UserName=user)
        except ClientError as error:
            if _code(error) != "NoSuchEntity":
                raise
            iam.create_user(UserName=user)
        document = policies.document(policies.allow("Web", list(actions), "*"))
        iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(document))


_DEPLOYING = ("ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate", "autoscaling:StartInstanceRefresh")
_RUNNING = (
    "autoscaling:UpdateAutoScalingGroup",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:SuspendProcesses",
    "autoscaling:ResumeProcesses",
)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


# --- what nothing breaks ----------------------------------------------------------------------------------------------


def network(shop: Shop) -> None:
    """A VPC with a subnet in each of two zones."""
    ec2 = shop.client("ec2")
    if _vpc(shop) is not None:
        return
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16", TagSpecifications=[_named("vpc", "storefront")])["Vpc"]["VpcId"]
    for number, zone in enumerate("ab"):
        ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"10.20.{number}.0/24",
            AvailabilityZone=f"{shop.region}{zone}",
            TagSpecifications=[_named("subnet", f"storefront-{zone}")],
        )


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}


def _vpc(shop: Shop) -> str | None:
    found = shop.client("ec2").describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["storefront"]}])["Vpcs"]
    return str(found[0]["VpcId"]) if found else None


def _subnets(shop: Shop) -> list[str]:
    wanted = [{"Name": "tag:Name", "Values": ["storefront-a", "storefront-b"]}]
    found = shop.client("ec2").describe_subnets(Filters=wanted)["Subnets"]
    return sorted(str(subnet["SubnetId"]) for subnet in found)


def load_balancer(shop: Shop) -> None:
    """The load balancer and its listener."""
    elb = shop.client("elbv2")
    try:
        balancer = elb.describe_load_balancers(Names=[BALANCER])["LoadBalancers"][0]
    except ClientError as error:
        if _code(error) not in ("LoadBalancerNotFound", "LoadBalancerNotFoundException"):
            raise
        balancer = elb.create_load_balancer(Name=BALANCER, Subnets=_subnets(shop))["LoadBalancers"][0]
    arn = balancer["LoadBalancerArn"]
    if not elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]:
        action = {"Type": "forward", "TargetGroupArn": target_group_arn(shop)}
        elb.create_listener(LoadBalancerArn=arn, Protocol="HTTP", Port=PORT, DefaultActions=[action])


def balancer_of(shop: Shop) -> Mapping[str, Any]:
    """Return the load balancer as AWS describes it."""
    found = shop.client("elbv2").describe_load_balancers(Names=[BALANCER])["LoadBalancers"]
    return dict(found[0])


def address(shop: Shop) -> str:
    """Return where customers find the storefront: a URL without a slash at its end."""
    return f"http://{balancer_of(shop)['DNSName']}:{PORT}"


# --- what faults break and `heal` restores ----------------------------------------------------------------------------


def target_group(shop: Shop) -> None:
    """The target group with its health check."""
    elb = shop.client("elbv2")
    found = _target_group(shop)
    if found is None:
        found = elb.create_target_group(
            Name=TARGET_GROUP, Protocol="HTTP", Port=PORT, VpcId=_vpc(shop), TargetType="instance", **_HEALTH_CHECK
        )["TargetGroups"][0]
    elif any(found[key] != value for key, value in _HEALTH_CHECK.items()):
        elb.modify_target_group(TargetGroupArn=found["TargetGroupArn"], **_HEALTH_CHECK)
    arn, name = found["TargetGroupArn"], "deregistration_delay.timeout_seconds"
    attributes = {a["Key"]: a["Value"] for a in elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]}
    if attributes[name] != _DRAIN_SECONDS:
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[{"Key": name, "Value": _DRAIN_SECONDS}])


def _target_group(shop: Shop) -> Any:
    try:
        return shop.client("elbv2").describe_target_groups(Names=[TARGET_GROUP])["TargetGroups"][0]
    except ClientError as error:
        if _code(error) not in ("TargetGroupNotFound", "TargetGroupNotFoundException"):
            raise
        return None


def target_group_arn(shop: Shop) -> str:
    """Return the target group's ARN. Errors: ShopError where there is none."""
    found = _target_group(shop)
    if found is None:
        raise ShopError(f"there is no target group {TARGET_GROUP} in account {shop.account}")
    return str(found["TargetGroupArn"])


def configuration(**changed: Any) -> dict[str, Any]:
    """Return the configuration of a release: the seeded one, with what is changed."""
    return {
        "port": PORT,
        "release": "1.0",
        "healthPath": HEALTH_PATH,
        "slots": _SLOTS,
        "pageSeconds": _PAGE_SECONDS,
        "agent": {
            "namespace": AGENT_NAMESPACE,
            "metric": AGENT_METRIC,
            "everySeconds": _AGENT_SECONDS,
            "lagSeconds": 0,
        },
        **changed,
    }


def template_data(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a launch template's data for a configuration."""
    text = json.dumps({"program": _PROGRAM, "configuration": wanted}, sort_keys=True)
    return {
        "ImageId": "ami-12c6146b",
        "InstanceType": "t3.small",
        "UserData": base64.b64encode(text.encode()).decode(),
    }


def template(shop: Shop) -> None:
    """The launch template: version 1 is the default. Later versions stay, as nobody launches from them."""
    ec2, wanted = shop.client("ec2"), template_data(configuration())
    found = ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": [TEMPLATE]}])
    if not found["LaunchTemplates"]:
        ec2.create_launch_template(LaunchTemplateName=TEMPLATE, LaunchTemplateData=wanted)
        return
    if default_version(shop) != "1":
        ec2.modify_launch_template(LaunchTemplateName=TEMPLATE, DefaultVersion="1")


def default_version(shop: Shop) -> str:
    """Return the number of the template's default version."""
    found = shop.client("ec2").describe_launch_templates(
        Filters=[{"Name": "launch-template-name", "Values": [TEMPLATE]}]
    )
    return str(found["LaunchTemplates"][0]["DefaultVersionNumber"])


def live_configuration(shop: Shop) -> dict[str, Any]:
    """Return the configuration that an instance launched now would get."""
    found = shop.client("ec2").describe_launch_template_versions(LaunchTemplateName=TEMPLATE, Versions=["$Default"])
    data = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return dict(json.loads(base64.b64decode(data["UserData"]))["configuration"])


def group(shop: Shop) -> None:
    """The group: its size, its processes, and that all its instances are of the default template version."""
    scaling = shop.client("autoscaling")
    found = group_of(shop)
    if found is None:
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            LaunchTemplate={"LaunchTemplateName": TEMPLATE, "Version": "$Default"},
            VPCZoneIdentifier=",".join(_subnets(shop)),
            TargetGroupARNs=[target_group_arn(shop)],
            DesiredCapacity=DESIRED,
            Tags=[{"Key": "Name", "Value": "shopsmart-web", "PropagateAtLaunch": True}],
            **_GROUP,
        )
        return
    if any(found[key] != value for key, value in {**_GROUP, "DesiredCapacity": DESIRED}.items()):
        scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, DesiredCapacity=DESIRED, **_GROUP)
    if found["SuspendedProcesses"]:
        scaling.resume_processes(AutoScalingGroupName=GROUP)


def group_of(shop: Shop) -> Any:
    """Return the group as AWS describes it; None where there is none."""
    found = shop.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])
    return next(iter(found["AutoScalingGroups"]), None)


def scaling_policy(shop: Shop, time_scale: float = 1) -> None:
    """One more instance while the agent's metric is above 70 % for two periods of two minutes, scaled."""
    period = next((p for p in _PERIODS if p * time_scale >= 2 * _AGENT_SECONDS), 2 * _AGENT_SECONDS)
    scaling, cloudwatch = shop.client("autoscaling"), shop.client("cloudwatch")
    known = scaling.describe_policies(AutoScalingGroupName=GROUP, PolicyNames=[POLICY])["ScalingPolicies"]
    arn = (
        known[0]["PolicyARN"]
        if known
        else scaling.put_scaling_policy(
            AutoScalingGroupName=GROUP,
            PolicyName=POLICY,
            PolicyType="SimpleScaling",
            AdjustmentType="ChangeInCapacity",
            ScalingAdjustment=1,
            Cooldown=120,
        )["PolicyARN"]
    )
    if not cloudwatch.describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]:
        cloudwatch.put_metric_alarm(
            AlarmName=ALARM,
            Namespace=AGENT_NAMESPACE,
            MetricName=AGENT_METRIC,
            Dimensions=[{"Name": "AutoScalingGroupName", "Value": GROUP}],
            Statistic="Average",
            Period=period,
            EvaluationPeriods=2,
            Threshold=70,
            ComparisonOperator="GreaterThanThreshold",
            AlarmActions=[arn],
        )


def instances(shop: Shop) -> None:
    """The instances: those not of the default version, or made to fail, are replaced; all are registered and healthy.

    Shape: it is the last part of a fault, after those that decide what a new instance is.
    """
    scaling = shop.client("autoscaling")
    try:
        scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP)
    except ClientError as error:
        if _code(error) != "ActiveInstanceRefreshNotFound":
            raise
    wanted, registered = default_version(shop), health(shop)
    for instance in group_of(shop)["Instances"]:
        identity = instance["InstanceId"]
        stale = instance["LaunchTemplate"]["Version"] != wanted or is_failing(shop, identity)
        marked = instance["HealthStatus"] != "Healthy"
        if (stale or marked) and not instance["LifecycleState"].startswith("Terminating"):
            _replace(shop, identity)
        elif instance["LifecycleState"] == "InService" and registered.get(identity, "draining") == "draining":
            shop.client("elbv2").register_targets(TargetGroupArn=target_group_arn(shop), Targets=[{"Id": identity}])
    wait_until_well(shop)


def _replace(shop: Shop, identity: str) -> None:
    """Let the group replace an instance, unless it has let it go in the meantime."""
    try:
        shop.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=identity, ShouldDecrementDesiredCapacity=False
        )
    except ClientError as error:
        if "No managed instance found" not in str(error):
            raise


PARTS: tuple[Part, ...] = (network, template, target_group, load_balancer, group)


# --- how it is --------------------------------------------------------------------------------------------------------


def health(shop: Shop) -> dict[str, str]:
    """Return the state of each registered target, by instance id."""
    found = shop.client("elbv2").describe_target_health(TargetGroupArn=target_group_arn(shop))
    return {d["Target"]["Id"]: d["TargetHealth"]["State"] for d in found["TargetHealthDescriptions"]}


def addresses(shop: Shop) -> dict[str, str]:
    """Return the private address of each instance in service, by id."""
    found = group_of(shop)
    ids = [i["InstanceId"] for i in found["Instances"] if i["LifecycleState"] == "InService"]
    if not ids:
        return {}
    described = shop.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    return {i["InstanceId"]: i["PrivateIpAddress"] for r in described for i in r["Instances"]}


def is_failing(shop: Shop, instance: str) -> bool:
    """Tell whether an instance in service answers its front page with an error, or not at all."""
    where = addresses(shop).get(instance)
    return where is not None and ask(f"http://{where}:{PORT}/") >= 500


def is_well(shop: Shop) -> bool:
    """Tell whether the group has exactly as many instances as wanted, all in service and healthy."""
    found = group_of(shop)
    ready = [i for i in found["Instances"] if i["LifecycleState"] == "InService" and i["HealthStatus"] == "Healthy"]
    states = list(health(shop).values())
    return len(ready) == len(found["Instances"]) == found["DesiredCapacity"] == states.count("healthy") == len(states)


def wait_until_well(shop: Shop, *, seconds: float = 30) -> None:
    """Wait until the storefront is well. Errors: ShopError when it is not within `seconds`."""
    if not wait_until(lambda: is_well(shop), seconds=seconds, every=0.1):
        raise ShopError(f"the storefront's instances are not healthy after {seconds:.0f} s: {health(shop)}")
