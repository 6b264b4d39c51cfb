"""The storefront in a test's world: its grant, its runs, and how it is seen from outside."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dev.processes import wait_until
from dev.shop.granting import a_grant
from dev.shop.shop import Shop
from dev.shop.storefront import seed
from dev.shop.storefront.traffic import Traffic

from .world import TIME_SCALE, World


@contextlib.contextmanager
def open_storefront(world: World) -> Iterator[Shop]:
    """Seed the storefront in the world's account, and grant its namespace what the two runbooks need."""
    shop = seed.seed(world.shop, world.folder, time_scale=TIME_SCALE)
    wanted = grant(world)
    world.admin.apply([wanted])
    try:
        yield shop
    finally:
        world.admin.run("delete", "actiongrant", wanted["metadata"]["name"], "--ignore-not-found")


def grant(world: World) -> dict[str, Any]:
    """Return the storefront's grant for the world's namespace, where the birthday team's has the general checks."""
    return a_grant(
        world.shop.account,
        name=f"{world.name}-web",
        label=world.name,
        description="The storefront: its target group and its Auto Scaling group.",
        resources=[
            f"arn:aws:autoscaling:us-east-1:{world.shop.account}:autoScalingGroup:*",
            f"arn:aws:elasticloadbalancing:us-east-1:{world.shop.account}:targetgroup/{seed.TARGET_GROUP}/*",
        ],
        actions=["autoscaling.*", "elbv2.*"],
        ask_up_to="Destructive",
        # Instances listen on loopback addresses.
        probes={"cidrs": ["127.0.0.0/8"], "ports": [seed.PORT]},
    )


def run_of(world: World, name: str, runbook: str, ticket: str, **parameters: Any) -> dict[str, Any]:
    """Return a run of the storefront."""
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "IncidentRun",
        "metadata": {"name": name, "namespace": world.name},
        "spec": {
            "incident": {"ticket": ticket, "title": ticket, "severity": "P2"},
            "runbookRef": {"kind": "ClusterRunbook", "name": runbook},
            "parameters": {"targetGroup": seed.TARGET_GROUP, "autoScalingGroup": seed.GROUP, **parameters},
            "automation": {"applyUpTo": "Disruptive"},
        },
    }


def customers(shop: Shop, rate: float = 10) -> Traffic:
    """Return customers of the storefront."""
    return Traffic(address=seed.address(shop), rate=rate)


def wait_until_all(shop: Shop, state: str, seconds: float = 60) -> None:
    """Wait until as many targets as wanted are there, all in a state. Errors: AssertionError when not in time."""

    def met() -> bool:
        states = list(seed.health(shop).values())
        return len(states) >= seed.DESIRED and all(s == state for s in states)

    assert wait_until(met, seconds=seconds, every=0.2), seed.health(shop)


def health_check_path(shop: Shop) -> str:
    """Return the path that the load balancer asks now."""
    found = shop.client("elbv2").describe_target_groups(Names=[seed.TARGET_GROUP])["TargetGroups"]
    return str(found[0]["HealthCheckPath"])


def suspended(shop: Shop) -> list[str]:
    """Return the processes that the group is kept from."""
    return [str(p["ProcessName"]) for p in seed.group_of(shop)["SuspendedProcesses"]]


def terminations(shop: Shop) -> set[str]:
    """Return the activities of the group that terminated an instance, by id."""
    scaling = shop.client("autoscaling")
    pages = scaling.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=seed.GROUP)
    found = [activity for page in pages for activity in page["Activities"]]
    return {str(a["ActivityId"]) for a in found if str(a["Description"]).startswith("Terminating")}


def calls(made: list[dict[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the operator's changing calls: operation and outcome."""
    return [(str(call["operation"]), call["outcome"]) for call in made]
