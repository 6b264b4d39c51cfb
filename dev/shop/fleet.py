"""Hosts of a department as instances of an Auto Scaling group: what they are, and who of them serves now.

They are without a load balancer: who asks them knows their addresses, as clients with service discovery do. An
instance runs `dev.shop.storefront.web`, with the database or the cache that its launch template names.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dev.processes import wait_until

from .shop import Shop, ShopError
from .storefront.seed import PORT, template_data
from .storefront.traffic import NO_ANSWER

_LOOKUP_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """An instance in service. Shape: `release` is the version of the launch template that it was launched from."""

    id: str
    address: str
    release: int

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, seconds: float = _PATIENCE_SECONDS
    ) -> tuple[int, Any]:
        """Return status and body of a request; `NO_ANSWER` and None where there was none."""
        connection = http.client.HTTPConnection(self.address, PORT, timeout=seconds)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return NO_ANSWER, None
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A group and its launch template, both by the same name, and its bounds."""

    name: str
    minimum: int
    maximum: int

    def release(self, shop: Shop, configuration: Mapping[str, Any], desired: int, *, seconds: float = 60) -> None:
        """Release a configuration, and have so many instances: those that are launched from now on are of it.

        Errors: ShopError when they are not in service within `seconds`.
        """
        ec2, scaling = shop.client("ec2"), shop.client("autoscaling")
        wanted = {"port": PORT, "healthPath": "/health", "slots": 4, "pageSeconds": 0, **configuration}
        data = template_data(wanted)
        known = [{"Name": "launch-template-name", "Values": [self.name]}]
        if ec2.describe_launch_templates(Filters=known)["LaunchTemplates"]:
            made = ec2.create_launch_template_version(LaunchTemplateName=self.name, LaunchTemplateData=data)
            version = str(made["LaunchTemplateVersion"]["VersionNumber"])
            ec2.modify_launch_template(LaunchTemplateName=self.name, DefaultVersion=version)
        else:
            ec2.create_launch_template(LaunchTemplateName=self.name, LaunchTemplateData=data)
        if self.described(shop) is None:
            scaling.create_auto_scaling_group(
                AutoScalingGroupName=self.name,
                LaunchTemplate={"LaunchTemplateName": self.name, "Version": "$Default"},
                AvailabilityZones=[f"{shop.region}a", f"{shop.region}b"],
                MinSize=min(self.minimum, desired),
                MaxSize=self.maximum,
                DesiredCapacity=desired,
                HealthCheckType="EC2",
                HealthCheckGracePeriod=60,
                DefaultCooldown=60,
            )
        else:
            scaling.update_auto_scaling_group(
                AutoScalingGroupName=self.name, MinSize=min(self.minimum, desired), DesiredCapacity=desired
            )
        if not wait_until(lambda: len(self.hosts(shop)) == desired, seconds=seconds, every=0.1):
            raise ShopError(f"{len(self.hosts(shop))} of {desired} hosts of {self.name} serve after {seconds:g} s")

    def retire(self, shop: Shop, *, seconds: float = 60) -> None:
        """End all instances, the group with them. Errors: ShopError when it is still there after `seconds`."""
        shop.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=self.name, ForceDelete=True)
        if not wait_until(lambda: self.described(shop) is None, seconds=seconds, every=0.1):
            raise ShopError(f"the group {self.name} is still there after {seconds:g} s")

    def described(self, shop: Shop) -> Any:
        """Return the group as AWS describes it; None where there is none."""
        found = shop.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return next(iter(found["AutoScalingGroups"]), None)

    def hosts(self, shop: Shop) -> tuple[Host, ...]:
        """Return the instances in service, by address."""
        group = self.described(shop)
        if group is None:
            return ()
        serving = {i["InstanceId"]: i for i in group["Instances"] if i["LifecycleState"] == "InService"}
        if not serving:
            return ()
        described = shop.client("ec2").describe_instances(InstanceIds=list(serving))["Reservations"]
        found = [
            Host(
                id=i["InstanceId"],
                address=i["PrivateIpAddress"],
                release=int(serving[i["InstanceId"]]["LaunchTemplate"]["Version"]),
            )
            for reservation in described
            for i in reservation["Instances"]
        ]
        return tuple(sorted(found, key=lambda host: (len(host.address), host.address)))


@dataclass(kw_only=True)
class Directory:
    """Who serves now, looked up at most twice a second: what a client's service discovery knows."""

    shop: Shop
    fleet: Fleet
    _known: tuple[Host, ...] = ()
    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hosts(self) -> tuple[Host, ...]:
        """Return the hosts in service, by address."""
        with self._lock:
            if monotonic() >= self._until:
                # Who can't look anew goes on with what it knows.
                with contextlib.suppress(ClientError, BotoCoreError):
                    self._known = self.fleet.hosts(self.shop)
                self._until = monotonic() + _LOOKUP_SECONDS
            return self._known
