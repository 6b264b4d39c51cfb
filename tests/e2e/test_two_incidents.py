"""Two incidents at once on one Auto Scaling group: one waits, says for whom, and both end.

An instance fails, and the other one can't carry the load: one run replaces the instance, another adds capacity. What
is launched in the instance's place serves only when the test lets it, so the first run is still at work when the second
one would begin, however fast or slow the machine.
"""

from itertools import pairwise
from typing import Any

from dev.processes import wait_until
from dev.shop.shop import Shop
from dev.shop.storefront import faults, seed
from dev.shop.storefront.traffic import ask

from .comparing import only_touched
from .storefront import calls, customers, open_storefront, run_of
from .test_autoscaling_failures import busy
from .world import World, outcome, story

#: Page views a second that one instance can't carry, and two can.
RATE = 18
#: The load that the second run calls high, percent: half of what it is at the least.
HIGH = 30


def default_version(shop: Shop, number: str) -> None:
    """Let what is launched from now on be of this version of the launch template."""
    shop.client("ec2", "web-deployer").modify_launch_template(LaunchTemplateName=seed.TEMPLATE, DefaultVersion=number)


def a_version_that_fails(shop: Shop) -> str:
    """Make a version of the launch template whose instances fail on every path until told otherwise."""
    made = shop.client("ec2", "web-deployer").create_launch_template_version(
        LaunchTemplateName=seed.TEMPLATE, LaunchTemplateData=seed.template_data(seed.configuration(fail="all"))
    )
    return str(made["LaunchTemplateVersion"]["VersionNumber"])


def replacement(shop: Shop, before: set[str]) -> str:
    """Return the address of the instance that was launched since. Errors: AssertionError when there is none in time."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [where for identity, where in seed.addresses(shop).items() if identity not in before]
        return bool(found)

    assert wait_until(there, seconds=30, every=0.1)
    return found[0]


def plan_of(world: World, run: str) -> dict[str, Any]:
    """Return the one plan of a run that was begun, or is about to be."""
    status = world.status(run)
    (plan,) = [p for p in world.plans() if p["metadata"]["name"] == status["activePlan"]]
    return plan


def test_the_second_waits_for_the_first_and_says_so(world: World) -> None:
    """By its status, its condition and its timeline; no call of its own is made before the first plan has ended."""
    with open_storefront(world) as shop, customers(shop, rate=RATE) as felt, world.operator():
        # Else the group would grow by itself meanwhile.
        shop.client("cloudwatch").delete_alarms(AlarmNames=[seed.ALARM])
        failing = a_version_that_fails(shop)
        faults.named("web-one-bad-instance").break_(shop)
        before = set(seed.addresses(shop))
        default_version(shop, failing)
        assert wait_until(lambda: sorted(seed.health(shop).values()) == ["healthy", "unhealthy"], seconds=60, every=0.2)
        assert wait_until(lambda: felt.felt(3).median > 1, seconds=40, every=0.2), felt.felt(3)
        dump = world.dump()
        world.apply(run_of(world, "bad-instance", "alb-target-health", "INC-2024-0302"))
        world.wait_for("bad-instance", lambda s: s.get("phase") == "Verifying")
        first = plan_of(world, "bad-instance")
        # CloudWatch is late: a look before it shows the load would find nothing that more instances help with.
        assert wait_until(lambda: busy(shop) > 2 * HIGH, seconds=40, every=0.2), busy(shop)
        metric = {"metricNamespace": seed.AGENT_NAMESPACE, "metricName": seed.AGENT_METRIC, "highLoad": HIGH}
        world.apply(run_of(world, "slow-pages", "autoscaling-failures", "INC-2024-0305", desired=3, **metric))
        waiting = world.wait_for("slow-pages", lambda s: s.get("now", {}).get("waitingFor") == "ResourceLocked")
        made = calls(world.changes_by_operator())
        assert [operation for operation, _ in made] == ["TerminateInstanceInAutoScalingGroup"], made
        _says_for_whom(waiting, first, world.name)
        # Now what is launched may serve.
        default_version(shop, "1")
        assert ask(f"http://{replacement(shop, before)}:{seed.PORT}/chaos", method="POST", body=b'{"fail": ""}') == 200
        statuses = {name: world.finished(name) for name in ("bad-instance", "slow-pages")}
        assert wait_until(lambda: felt.felt(3).error_rate == 0 and felt.felt(3).median < 1, seconds=40, every=0.2)
        assert seed.is_well(shop), seed.health(shop)
    for name, status in statuses.items():
        assert outcome(status).startswith("Resolved/"), f"{name}: {story(status)}"
    assert outcome(statuses["bad-instance"]) == "Resolved/Runbook", story(statuses["bad-instance"])
    assert (statuses["slow-pages"].get("now") or {}).get("waitingFor") != "ResourceLocked"
    _one_after_the_other(world)
    # Whether the second one was still needed when its turn came is the machine's pace; the template was this test's.
    group = ("autoScalingGroups", f"{shop.region}/{seed.GROUP}")
    dump["launchTemplates"] = world.dump()["launchTemplates"]
    assert only_touched(world, dump) in ({}, {(*group, "desired"): 3, (*group, "min"): 3})


def _says_for_whom(waiting: dict[str, Any], first: dict[str, Any], namespace: str) -> None:
    holder = f"is being changed by plan {namespace}/{first['metadata']['name']}"
    (group,) = first["spec"]["touches"]
    assert waiting["now"]["because"] == f"{group} {holder}"
    (mitigated,) = [c for c in waiting["conditions"] if c["type"] == "Mitigated"]
    assert (mitigated["status"], mitigated["reason"]) == ("False", "ResourceLocked")
    assert mitigated["message"].endswith(holder)
    assert waiting["timeline"][-1]["reason"] == "ResourceLocked"


def _one_after_the_other(world: World) -> None:
    """Each plan that was begun on the group was begun after the one before it had ended."""
    begun = sorted((p["status"] for p in world.plans() if p["status"].get("startedAt")), key=lambda s: s["startedAt"])
    assert begun
    for former, later in pairwise(begun):
        assert former["finishedAt"] <= later["startedAt"], (former, later)
