"""A web tier of one test: real instances in a group behind a load balancer, made over the wire."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from .conftest import Account, eventually

GROUP, TARGETS, BALANCER, TEMPLATE = "web", "web-targets", "web-balancer", "web-template"
PORT = 8080


def user_data(program: str = "dev.shop.storefront.web", **configuration: Any) -> str:
    """Return user data that names a program."""
    wanted = {"port": PORT, "pageSeconds": 0.01, **configuration}
    text = json.dumps({"program": program, "configuration": wanted})
    return base64.b64encode(text.encode()).decode()


class Tier:
    """The web tier of an account. Shape: `instances` are made at once, unless there are to be none."""

    def __init__(self, account: Account, desired: int = 2, high: int = 4, **group: Any) -> None:
        self.account = account
        self.ec2, self.elb = account.client("ec2"), account.client("elbv2")
        self.scaling = account.client("autoscaling")
        vpc = self.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24", AvailabilityZone="us-east-1a")
        self.subnet = subnet["Subnet"]["SubnetId"]
        self.arn = self.elb.create_target_group(
            Name=TARGETS, Protocol="HTTP", Port=PORT, VpcId=vpc, HealthCheckPath="/health",
            HealthCheckIntervalSeconds=10, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
        made = self.elb.create_load_balancer(Name=BALANCER, Subnets=[self.subnet])["LoadBalancers"][0]
        self.balancer, self.host = made["LoadBalancerArn"], made["DNSName"]
        action = {"Type": "forward", "TargetGroupArn": self.arn}
        self.elb.create_listener(LoadBalancerArn=self.balancer, Protocol="HTTP", Port=PORT, DefaultActions=[action])
        self.template()
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, MinSize=0, MaxSize=high, DesiredCapacity=desired,
            LaunchTemplate={"LaunchTemplateName": TEMPLATE, "Version": "$Default"}, VPCZoneIdentifier=self.subnet,
            TargetGroupARNs=[self.arn], **{"HealthCheckGracePeriod": 30, "DefaultCooldown": 1, **group},
        )  # fmt: skip

    def template(self, **changed: Any) -> None:
        """Make the launch template, or its next version, and make that the default."""
        data = {"ImageId": "ami-12c6146b", "InstanceType": "t3.small", "UserData": user_data(**changed)}
        known = self.ec2.describe_launch_templates()["LaunchTemplates"]
        if not known:
            self.ec2.create_launch_template(LaunchTemplateName=TEMPLATE, LaunchTemplateData=data)
            return
        made = self.ec2.create_launch_template_version(LaunchTemplateName=TEMPLATE, LaunchTemplateData=data)
        number = str(made["LaunchTemplateVersion"]["VersionNumber"])
        self.ec2.modify_launch_template(LaunchTemplateName=TEMPLATE, DefaultVersion=number)

    # --- what can be seen -------------------------------------------------------------------------------------

    @property
    def group(self) -> Any:
        """The group as described."""
        return self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]

    @property
    def in_service(self) -> list[str]:
        """The ids of the instances in service."""
        return [i["InstanceId"] for i in self.group["Instances"] if i["LifecycleState"] == "InService"]

    @property
    def health(self) -> dict[str, Any]:
        """The targets' health by id."""
        found = self.elb.describe_target_health(TargetGroupArn=self.arn)["TargetHealthDescriptions"]
        return {d["Target"]["Id"]: d["TargetHealth"] for d in found}

    @property
    def states(self) -> list[str]:
        """The targets' states, sorted."""
        return sorted(h["State"] for h in self.health.values())

    @property
    def activities(self) -> list[Any]:
        """The group's activities, newest first."""
        return list(self.scaling.describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"])

    def address(self, instance: str) -> str:
        """Return an instance's address."""
        found = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return str(found["PrivateIpAddress"])

    def settle(self, states: list[str], seconds: float = 30) -> None:
        """Wait until the targets have these states, and as many instances are in service."""
        reached: Callable[[], bool] = lambda: self.states == states and len(self.in_service) == len(states)  # noqa: E731
        assert eventually(reached, seconds), (self.health, self.group["Instances"], self.activities)

    def get(self, path: str = "/", host: str = "") -> int:
        """Return the status of a request through the load balancer, or to a host."""
        return request(f"http://{host or self.host}:{PORT}{path}")[0]

    def chaos(self, instance: str, fail: str) -> None:
        """Make one instance fail, as it is asked on its own address."""
        url = f"http://{self.address(instance)}:{PORT}/chaos"
        assert request(url, json.dumps({"fail": fail}).encode())[0] == 200


def request(url: str, body: bytes | None = None) -> tuple[int, str]:
    """Return status and text of a request."""
    try:
        with urllib.request.urlopen(url, data=body, timeout=10) as answer:  # noqa: S310 loopback
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
