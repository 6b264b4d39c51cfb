"""What can go wrong with the storefront: done over the wire by who would do it, healed exactly.

A deploy is a new default version of the launch template and an instance refresh, all at once for a release and one by
one for a configuration. One bad instance is told so on its own address: nobody's call makes a machine fail.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..faults import Fault
from ..shop import Shop, ShopError
from . import seed
from .traffic import ask

#: Where a release of INC-2023-3421 says that it is well.
MOVED_PATH = "/healthz"
#: How late the agent of INC-2023-2890 is: longer than anybody waits, whatever the time scale.
LAG_SECONDS = 12 * 3600
#: Page views a second that two instances can't carry and four can: each makes 13.
HEAVY_RATE = 34


def deploy(shop: Shop, *, minimum: int, **changed: Any) -> None:
    """Deploy a configuration to all instances. Units: `minimum` percent of them stay in service meanwhile."""
    ec2 = shop.client("ec2", "web-deployer")
    made = ec2.create_launch_template_version(
        LaunchTemplateName=seed.TEMPLATE, LaunchTemplateData=seed.template_data(seed.configuration(**changed))
    )
    number = str(made["LaunchTemplateVersion"]["VersionNumber"])
    ec2.modify_launch_template(LaunchTemplateName=seed.TEMPLATE, DefaultVersion=number)
    shop.client("autoscaling", "web-deployer").start_instance_refresh(
        AutoScalingGroupName=seed.GROUP, Preferences={"MinHealthyPercentage": minimum}
    )


def _deployed(minimum: int, **changed: Any) -> dict[str, Any]:
    """Return what is the same for every fault that is a deploy."""
    return {
        "parts": (seed.template, seed.target_group, seed.group, seed.instances),
        "actor": "user web-deployer",
        "is_broken": lambda shop: seed.live_configuration(shop) == seed.configuration(**changed),
        "act": lambda shop: deploy(shop, minimum=minimum, **changed),
    }


def _made_to_fail(count: Callable[[int], int], how: str) -> dict[str, Any]:
    """Return what is the same for every fault of single instances; the group does not replace them by itself."""

    def act(shop: Shop) -> None:
        shop.client("autoscaling", "web-sre").update_auto_scaling_group(
            AutoScalingGroupName=seed.GROUP, HealthCheckType="EC2"
        )
        found = sorted(seed.addresses(shop).items())
        for identity, address in found[: count(len(found))]:
            body = json.dumps({"fail": how}).encode()
            if ask(f"http://{address}:{seed.PORT}/chaos", method="POST", body=body) != 200:
                raise ShopError(f"instance {identity} does not hear that it is to fail")

    def is_broken(shop: Shop) -> bool:
        found = seed.addresses(shop)
        failing = [identity for identity in found if seed.is_failing(shop, identity)]
        return seed.group_of(shop)["HealthCheckType"] == "EC2" and len(failing) == count(len(found))

    return {
        "parts": (seed.template, seed.target_group, seed.group, seed.instances),
        "actor": "user web-sre; a machine",
        "is_broken": is_broken,
        "act": act,
    }


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="inc-2023-3421",
            title="a deploy moved the health check's path; the load balancer asks for the old one",
            ticket="INC-2023-3421",
            example="alb-target-health.yaml",
            **_deployed(0, release="1.1", healthPath=MOVED_PATH),
        ),
        Fault(
            name="web-bad-deploy",
            title="a release fails on every path",
            ticket="INC-2024-0301",
            example="alb-target-health.yaml",
            ends="Unresolved/RecoveryNotReached",
            **_deployed(0, release="1.1", fail="all"),
        ),
        Fault(
            name="inc-2023-2890",
            title="the agent's metric comes hours late: the alarm that scales out sees nothing of the load",
            ticket="INC-2023-2890",
            example="autoscaling-failures.yaml",
            **_deployed(50, agent={**seed.configuration()["agent"], "lagSeconds": LAG_SECONDS}),
        ),
        Fault(
            name="web-one-bad-instance",
            title="one instance fails on every path",
            ticket="INC-2024-0302",
            example="alb-target-health.yaml",
            ends="Resolved/Runbook",
            **_made_to_fail(lambda count: 1, "all"),
        ),
        Fault(
            name="web-one-failing-pages",
            title="one instance fails its customers and says that it is well",
            ticket="INC-2024-0303",
            example="alb-target-health.yaml",
            ends="Unresolved/NoFixApplies",
            **_made_to_fail(lambda count: 1, "pages"),
        ),
        Fault(
            name="web-last-healthy",
            title="all instances but one fail on every path",
            ticket="INC-2024-0304",
            example="alb-target-health.yaml",
            ends="Resolved/Runbook",
            **_made_to_fail(lambda count: count - 1, "all"),
        ),
    )
}


def named(name: str) -> Fault:
    """Return a fault by name. Errors: ShopError that lists the names."""
    if name not in FAULTS:
        raise ShopError(f"the storefront has no fault {name!r}; there are: {', '.join(FAULTS)}")
    return FAULTS[name]
