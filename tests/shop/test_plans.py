"""Plans for what really runs: every undo restores the earlier state, and gates judge numbers that were measured.

Undo, fix by fix: the executor makes the plan's calls, then those of its undo, and the simulator is as before. It goes
through what runs in production: the action reads under the grant, the plan is completed, and `PlanEffects` makes each
call under its own session policy, reads what the undo's guards rest on, and looks at them again before the undo. What
is left out is the API server: the journal is kept here.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from dev import databases
from dev.loopback import address
from dev.processes import wait_until
from dev.shop import policies
from dev.shop.faults import heal_all, named
from dev.shop.grant import grant
from dev.shop.granting import a_grant
from dev.shop.network.faults import remove_rule
from dev.shop.network.grant import grant as network_grant
from dev.shop.network.place import CACHE, PORT, WEB, Tiers, tiers_of
from dev.shop.network.seed import seed as seed_network
from dev.shop.partners import front
from dev.shop.partners.grant import grant as partners_grant
from dev.shop.partners.seed import PARTNER
from dev.shop.partners.seed import seed as seed_partners
from dev.shop.seed import make_role
from dev.shop.seed import seed as seed_birthday
from dev.shop.shop import Shop
from dev.shop.storefront import faults, seed
from incident_operator.actions.base import FixAction
from incident_operator.actions.catalogue import catalogue, fix_action
from incident_operator.adapters.aws import Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.pool import Pool
from incident_operator.api.grant import ActionGrant
from incident_operator.api.meta import Automation
from incident_operator.api.plan import CallState, GateVerdict, JournalEntry, Permission, PlanState, RemediationPlan
from incident_operator.api.run import IncidentRun
from incident_operator.api.runbook import Fix
from incident_operator.controllers.context import Context
from incident_operator.controllers.plan_effects import PlanEffects
from incident_operator.core.draft import PlanDraft
from incident_operator.core.gates import GateFacts, common_cause, downstream_budget, health_budget
from incident_operator.core.plan import Phase
from incident_operator.core.planning import complete
from incident_operator.settings import Settings
from tests.builders import a_run

Dump = Callable[[Shop], Any]
Gate = Callable[[GateFacts], GateVerdict | None]


class Executor(PlanEffects):
    """The product's own, whose grant and run are at hand instead of in an API server."""

    def __init__(self, context: Context, granted: ActionGrant) -> None:
        super().__init__(context)
        self._granted = granted

    async def grant(self, plan: RemediationPlan) -> ActionGrant | None:
        """Return the test's grant."""
        return self._granted

    async def _live_grant(self, plan: RemediationPlan) -> ActionGrant | None:
        return self._granted

    async def _run_of(self, plan: RemediationPlan) -> IncidentRun | None:
        return None


class Unlocked:
    """Locks that nobody else holds."""

    async def acquire(self, plan: RemediationPlan) -> None:
        """Take it."""


class Planned:
    """A fix as planned for the world as it is, and its journal."""

    def __init__(self, shop: Shop, manifest: Mapping[str, Any], action: str, inputs: Mapping[str, Any]) -> None:
        self._clock, self._granted = Clock(), ActionGrant.model_validate(manifest)
        self._gateway = Gateway(
            now=self._clock.now, scaled=lambda wait: wait, boto_session=boto3.session.Session(region_name=shop.region)
        )
        reader = self._gateway.reader(self._granted, since=self._clock.now() - timedelta(minutes=5), memo=None)
        fix = fix_action(action)
        given = fix.inputs_model.model_validate(inputs)
        draft = fix.plan(given, fix.observe(given, reader))
        assert isinstance(draft, PlanDraft), draft
        self.plan = complete(
            draft,
            run=a_run(),
            fix=Fix(name="fix", action=action, on_findings=("Any",)),
            attempt=1,
            inputs=inputs,
            grant=self._granted,
            permission=Permission(),
        )
        status = self.plan.status.model_copy(update={"state": PlanState.APPLYING, "targets": draft.candidates})
        self.plan = self.plan.model_copy(update={"status": status})

    def held_by(self, gate: Gate) -> str:
        """Return what a gate says of the plan; empty where it lets it through."""
        facts = GateFacts(
            plan=self.plan.spec,
            run_automation=Automation(),
            grant=self._granted,
            baseline=None,
            now=self._clock.now(),
        )
        verdict = gate(facts)
        return verdict.message if verdict is not None else ""

    async def apply(self) -> None:
        """Make the plan's calls, as the plan controller has them made. Errors: AssertionError for one that fails."""
        await self._make("Apply", len(self.plan.spec.calls))

    async def apply_first(self, count: int) -> None:
        """Make so many of the plan's calls and no more, as an operator that dies after them."""
        await self._make("Apply", count)

    async def undo(self) -> None:
        """See that all is as the fix left it, and make the undo's calls."""
        assert self.plan.spec.undo is not None
        guarded = await self._executor().check_undo(self.plan)
        assert guarded is not None
        assert (guarded.changed, guarded.gates) == ("", ())
        await self._make("Undo", len(self.plan.spec.undo.calls))

    async def changed(self) -> str:
        """Return what the guards find changed since the fix; empty where nothing is."""
        guarded = await self._executor().check_undo(self.plan)
        assert guarded is not None
        return guarded.changed

    async def _make(self, phase: Phase, count: int) -> None:
        for index in range(count):
            now = self._clock.now()
            intent = JournalEntry(
                phase=phase,
                index=index,
                state=CallState.INTENDED,
                intent_at=now,
                deadline=now + timedelta(seconds=30),
                epoch=1,
            )
            self._write(calls=(*self.plan.status.calls, intent))
            answered = await self._executor().execute(self.plan, phase, index, 1)
            assert answered.ok, f"{phase} {index}: {answered.code}"
            entry = intent.model_copy(update={"state": CallState.SUCCEEDED, "result": answered.result})
            self._write(calls=(*self.plan.status.calls[:-1], entry))
            if phase == "Apply":
                self._write(post_image=answered.post_image)

    def _write(self, **changes: Any) -> None:
        self.plan = self.plan.model_copy(update={"status": self.plan.status.model_copy(update=changes)})

    def _executor(self) -> Executor:
        context = SimpleNamespace(
            settings=Settings(identity="test"),
            clock=self._clock,
            aws=self._gateway,
            pool=Pool(2),
            leader=SimpleNamespace(held=lambda: True),
            locks=Unlocked(),
        )
        return Executor(cast(Context, context), self._granted)


@pytest.fixture(scope="module")
def module_shop(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Tiers]:
    """An account with the birthday service, the storefront, what partners are given, and the tiers' network."""
    folder = tmp_path_factory.mktemp("undo")
    shop = seed_birthday(Shop(account=str(220000000000 + os.getpid()), endpoint=endpoint), folder)
    shop = seed_partners(shop, folder)
    return seed_network(seed.seed(shop, folder, time_scale=3000))


@pytest.fixture
def place(module_shop: tuple[Shop, Tiers], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shop, Tiers]]:
    """The account, read and changed as the operator; what a test breaks is healed after it."""
    shop, tiers = module_shop
    key = shop.keys["operator"]
    for variable, value in {
        "AWS_ENDPOINT_URL": shop.endpoint,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }.items():
        monkeypatch.setenv(variable, value)
    yield shop, tiers
    heal_all(shop)
    for part in (seed.target_group, seed.group, seed.instances):
        part(shop)


def storefront_grant(shop: Shop) -> dict[str, Any]:
    """Return a grant for the storefront."""
    return a_grant(
        shop.account,
        name="storefront",
        label="web",
        description="The storefront.",
        resources=[
            f"arn:aws:autoscaling:{shop.region}:{shop.account}:autoScalingGroup:*",
            f"arn:aws:elasticloadbalancing:{shop.region}:{shop.account}:targetgroup/*",
            f"arn:aws:ec2:{shop.region}:{shop.account}:instance/*",
        ],
        actions=["autoscaling.*", "elbv2.*"],
        probes={"cidrs": ["127.0.0.0/8"], "ports": [seed.PORT]},
    )


def by_ec2(shop: Shop, **changes: Any) -> None:
    """Let the group not replace what its load balancer finds unhealthy: a test's world stays as it is."""
    shop.client("autoscaling", "web-sre").update_auto_scaling_group(
        AutoScalingGroupName=seed.GROUP, HealthCheckType="EC2", **changes
    )


def suspend(shop: Shop) -> None:
    """Keep the group from replacing, as a person would."""
    processes = ["ReplaceUnhealthy"]
    shop.client("autoscaling", "web-sre").suspend_processes(AutoScalingGroupName=seed.GROUP, ScalingProcesses=processes)


def wrong_path(shop: Shop) -> None:
    """Let the load balancer ask for what no release answers."""
    by_ec2(shop)
    arn = seed.target_group_arn(shop)
    shop.client("elbv2").modify_target_group(TargetGroupArn=arn, HealthCheckPath="/nowhere")


def one_is_bad(shop: Shop) -> None:
    """Let one instance fail, and wait until the load balancer knows."""
    faults.named("web-one-bad-instance").break_(shop)
    assert wait_until(lambda: "unhealthy" in seed.health(shop).values(), seconds=30, every=0.1), seed.health(shop)


def desk(shop: Shop) -> None:
    """Let partners' people have a role, which they assume by themselves."""
    make_role(shop, DESK, policies.trust(principal=f"arn:aws:iam::{shop.account}:root"))


def ago(minutes: int) -> datetime:
    """Return the instant so many minutes ago."""
    return Clock().now() - timedelta(minutes=minutes)


def come_too_often(shop: Shop) -> None:
    """Let one client send more requests than the rate-based rule's limit; it counts them."""
    with front.served(shop) as host:
        assert {front.get(host, front.SCRAPER) for _ in range(front.LIMIT + 20)} == {200}
        assert wait_until(lambda: counted(shop, host), seconds=60, every=0.2), "the rule counts nobody"


def counted(shop: Shop, host: str) -> bool:
    """Ask once more, and tell whether WAF has a sample of a request that the rate-based rule counted."""
    front.get(host, front.SCRAPER)
    waf = shop.client("wafv2")
    (acl,) = [a for a in waf.list_web_acls(Scope="REGIONAL")["WebACLs"] if a["Name"] == front.WEB_ACL]
    window = {"StartTime": ago(5), "EndTime": ago(0)}
    asked = {"WebAclArn": acl["ARN"], "RuleMetricName": front.RATE_RULE, "Scope": "REGIONAL"}
    return bool(waf.get_sampled_requests(**asked, TimeWindow=window, MaxItems=1)["SampledRequests"])


#: A role that people of partners have, and whom people want blocked.
DESK, SUSPECT = "partner-desk", "203.0.113.7/32"
#: What is broken first, the fix, and its inputs: each is undone to the letter.
CASES: dict[str, tuple[Callable[[Shop], object], str, Callable[[Shop, Tiers], dict[str, Any]]]] = {
    "rollback": (
        lambda shop: named("lambda-bad-deploy").break_(shop),
        "lambda.rollback-alias",
        lambda shop, _: {"functionName": shop.function, "alias": shop.alias},
    ),
    "own policy": (
        lambda shop: named("inc-2023-0892").break_(shop),
        "iam.restore-role-access",
        lambda shop, _: {
            "roleArn": shop.role_arn,
            "requiredAccess": [{"actions": ["s3:GetObject"], "resources": [f"arn:aws:s3:::{shop.bucket}/*"]}],
            "functionName": shop.function,
            "alias": shop.alias,
            "region": shop.region,
        },
    ),
    "health check path": (
        wrong_path,
        "elbv2.set-health-check-path",
        lambda *_: {"targetGroup": seed.TARGET_GROUP, "declaredPath": seed.HEALTH_PATH},
    ),
    "targets": (one_is_bad, "elbv2.deregister-targets", lambda *_: {"targetGroup": seed.TARGET_GROUP}),
    "suspended": (lambda _: None, "autoscaling.suspend-processes", lambda *_: {"autoScalingGroup": seed.GROUP}),
    "resumed": (
        suspend,
        "autoscaling.resume-processes",
        lambda *_: {"autoScalingGroup": seed.GROUP},
    ),
    "rule": (
        lambda shop: remove_rule(shop, tiers_of(shop)),
        "ec2.restore-security-group-rule",
        lambda _, tiers: {"vpcId": tiers.vpc, "paths": [{"from": WEB, "to": CACHE, "port": PORT}]},
    ),
    "user": (
        lambda _: None,
        "iam.quarantine-user",
        lambda shop, _: {
            "accessKeyId": shop.keys[PARTNER].access_key_id,
            "windowStart": ago(5).isoformat(),
            "windowEnd": ago(0).isoformat(),
        },
    ),
    "sessions": (
        desk,
        "iam.revoke-sessions",
        lambda shop, _: {
            "roleArn": f"arn:aws:iam::{shop.account}:role/{DESK}",
            "openedBefore": ago(1).isoformat(),
        },
    ),
    "addresses": (
        front.web_acl,
        "waf.block-addresses",
        lambda *_: {"webAcl": front.WEB_ACL, "addresses": [SUSPECT]},
    ),
    "rate": (
        come_too_often,
        "waf.rate-limit",
        lambda *_: {"webAcl": front.WEB_ACL, "abusiveRequests": front.LIMIT // 2},
    ),
}

#: Fixes whose undo is seen elsewhere.
ELSEWHERE = {
    "lambda.set-configuration": "tests/e2e/test_people.py",
    "apigateway.disable-key": "tests/e2e/test_security_incident.py",
    "s3.merge-bucket-policy": "tests/e2e/test_s3_access.py",
    "postgres.create-index": "tests/contract/test_sql_calls.py",
    "autoscaling.set-capacity": "below",
    "autoscaling.recycle-through-zero": "below",
}


def test_every_undo_is_seen() -> None:
    """Every fix of the catalogue that says how it is undone is one of these."""
    undone = {
        a.name for a in catalogue().values() if isinstance(a, FixAction) and not a.undo.startswith(("None", "Never"))
    }
    assert undone == {action for _, action, _ in CASES.values()} | set(ELSEWHERE)


def granted(action: str, shop: Shop, tiers: Tiers) -> dict[str, Any]:
    """Return the grant of the team that an action is of."""
    if action in ("iam.quarantine-user", "iam.revoke-sessions") or action.startswith("waf."):
        return partners_grant(shop.account)
    match action.partition(".")[0]:
        case "lambda" | "iam":
            return grant(shop.account)
        case "ec2":
            return network_grant(shop.account, "network", "network", tiers)
        case _:
            return storefront_grant(shop)


def state(shop: Shop, dump: Dump) -> Any:
    """Return the dump, and which targets are registered: a dump does not say which instances there are."""
    return {**dump(shop), "targets": sorted(seed.health(shop))}


@pytest.mark.parametrize("case", CASES)
async def test_the_undo_restores_the_earlier_state_exactly(case: str, place: tuple[Shop, Tiers], dump: Dump) -> None:
    """The fix changes something, and its undo changes that back and nothing else."""
    (shop, tiers), (break_, action, inputs) = place, CASES[case]
    break_(shop)
    before = state(shop, dump)
    planned = Planned(shop, granted(action, shop, tiers), action, inputs(shop, tiers))
    await planned.apply()
    if case == "targets":
        assert wait_until(lambda: state(shop, dump) != before, seconds=30, every=0.1), "it drains first"
    assert state(shop, dump) != before
    await planned.undo()
    assert state(shop, dump) == before


async def test_the_quarantine_ends_a_session_that_outlives_the_key(place: tuple[Shop, Tiers]) -> None:
    """Who had opened a session of the user's own goes on when the key is dead, and is refused from the quarantine on.

    What the machine checks is what such a session feels; the undo gives back what the user had.
    """
    shop, _ = place
    iam, key = shop.client("iam"), shop.keys[PARTNER].access_key_id
    given = shop.client("sts", PARTNER).get_session_token()["Credentials"]
    session = boto3.client(
        "dynamodb",
        region_name=shop.region,
        endpoint_url=shop.endpoint,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    action, inputs = "iam.quarantine-user", CASES["user"][2](shop, place[1])
    iam.update_access_key(UserName=PARTNER, AccessKeyId=key, Status="Inactive")
    try:
        assert session.describe_table(TableName=shop.table)["Table"]["TableName"] == shop.table
        planned = Planned(shop, granted(action, shop, place[1]), action, inputs)
        await planned.apply()
        with pytest.raises(ClientError, match="with an explicit deny in an identity-based policy"):
            session.describe_table(TableName=shop.table)
        await planned.undo()
        assert session.describe_table(TableName=shop.table)["Table"]["TableName"] == shop.table
    finally:
        iam.update_access_key(UserName=PARTNER, AccessKeyId=key, Status="Active")


async def test_capacity_that_was_added_stays_and_the_minimum_is_as_it_was(
    place: tuple[Shop, Tiers], dump: Dump
) -> None:
    """The one undo that is not to the letter, as it says itself: nothing scales in what users may need."""
    shop, _ = place
    by_ec2(shop)
    before = state(shop, dump)
    inputs = {"autoScalingGroup": seed.GROUP, "desired": seed.DESIRED + 1}
    planned = Planned(shop, storefront_grant(shop), "autoscaling.set-capacity", inputs)
    await planned.apply()
    group = f"{shop.region}/{seed.GROUP}"
    applied = dump(shop)["autoScalingGroups"][group]
    assert (applied["min"], applied["desired"]) == (seed.DESIRED + 1, seed.DESIRED + 1)
    await planned.undo()
    after = dump(shop)
    assert after["autoScalingGroups"][group].pop("desired") == seed.DESIRED + 1
    before["autoScalingGroups"][group].pop("desired")
    before.pop("targets")
    assert after == before


async def test_nothing_is_undone_over_what_a_person_changed_since(place: tuple[Shop, Tiers]) -> None:
    """The guards say what was changed, so that no call is made."""
    shop, _ = place
    planned = Planned(shop, storefront_grant(shop), "autoscaling.suspend-processes", {"autoScalingGroup": seed.GROUP})
    await planned.apply()
    assert await planned.changed() == ""
    scaling = shop.client("autoscaling", "web-sre")
    scaling.suspend_processes(AutoScalingGroupName=seed.GROUP, ScalingProcesses=["Terminate"])
    assert "SuspendedProcesses" in await planned.changed()


# --- to zero and back -------------------------------------------------------------------------------------------------


def nobody_is_served(shop: Shop) -> Planned:
    """Let every target fail and every request with it; return what going through zero plans then."""
    wrong_path(shop)
    assert wait_until(lambda: set(seed.health(shop).values()) == {"unhealthy"}, seconds=30, every=0.1)
    cloudwatch = shop.client("cloudwatch")
    data = [{"MetricName": name, "Value": 50.0} for name in ("Requests", "Failed")]
    cloudwatch.put_metric_data(Namespace="Zero", MetricData=data)
    inputs = {"namespace": "Zero", "requestsMetric": "Requests", "failedMetric": "Failed", "migrationRunning": False}
    planned = storefronts(shop, "autoscaling.recycle-through-zero", **inputs)
    planned.plan = planned.plan.model_copy(
        update={"metadata": planned.plan.metadata.model_copy(update={"uid": "0f6e-through-zero"})}
    )
    return planned


def size(shop: Shop) -> tuple[int, int, int, int]:
    """Return minimum, maximum and desired capacity of the group, and how many instances it has."""
    scaling = shop.client("autoscaling")
    (group,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[seed.GROUP])["AutoScalingGroups"]
    return group["MinSize"], group["MaxSize"], group["DesiredCapacity"], len(group["Instances"])


def nets(shop: Shop) -> list[dict[str, Any]]:
    """Return the group's scheduled actions."""
    scaling = shop.client("autoscaling")
    found = scaling.describe_scheduled_actions(AutoScalingGroupName=seed.GROUP)["ScheduledUpdateGroupActions"]
    return [dict(action) for action in found]


async def test_aws_restores_the_group_when_the_operator_dies_at_zero(place: tuple[Shop, Tiers]) -> None:
    """Two calls are made and then nobody is there: what the first one left in AWS has the former size back.

    Its time is not waited for but moved to the next moment, as it is in AWS's own books.
    """
    shop, _ = place
    planned = nobody_is_served(shop)
    before = size(shop)
    assert before[3] > 0
    old = set(seed.health(shop))
    await planned.apply_first(2)
    assert wait_until(lambda: size(shop) == (0, before[1], 0, 0), seconds=60, every=0.1), size(shop)
    (net,) = nets(shop)
    assert net["ScheduledActionName"] == "incident-operator-restore-0f6e-through-zero"
    assert (net["MinSize"], net["MaxSize"], net["DesiredCapacity"]) == before[:3]
    shop.client("autoscaling").put_scheduled_update_group_action(
        AutoScalingGroupName=seed.GROUP,
        **{name: net[name] for name in ("ScheduledActionName", "MinSize", "MaxSize", "DesiredCapacity")},
        StartTime=Clock().now() + timedelta(seconds=2),
    )
    assert wait_until(lambda: size(shop) == before, seconds=60, every=0.1), size(shop)
    assert nets(shop) == []
    assert wait_until(lambda: not old & set(seed.health(shop)), seconds=60, every=0.1), "they are other instances"


async def test_setting_the_schedule_twice_sets_one(place: tuple[Shop, Tiers]) -> None:
    """An interrupted first call is made again under the same name."""
    shop, _ = place
    planned = nobody_is_served(shop)
    await planned.apply_first(1)
    await planned.apply_first(1)
    assert len(nets(shop)) == 1
    shop.client("autoscaling").delete_scheduled_action(
        AutoScalingGroupName=seed.GROUP, ScheduledActionName=nets(shop)[0]["ScheduledActionName"]
    )


async def test_the_way_back_and_the_undo_leave_the_group_as_it_was(place: tuple[Shop, Tiers], dump: Dump) -> None:
    """The former size to the letter, and no schedule left; also where a person wants it back in the middle."""
    shop, _ = place
    planned = nobody_is_served(shop)
    before = dump(shop)["autoScalingGroups"]
    await planned.apply_first(2)
    assert dump(shop)["autoScalingGroups"] != before
    await planned.undo()
    assert dump(shop)["autoScalingGroups"] == before
    again = nobody_is_served(shop)
    await again.apply()
    assert dump(shop)["autoScalingGroups"] == before
    assert wait_until(lambda: size(shop)[3] == size(shop)[2], seconds=60, every=0.1), size(shop)


async def test_a_schedule_that_aws_refuses_leaves_the_group_alone(place: tuple[Shop, Tiers]) -> None:
    """A size that it does not take: no other call is made, so the group never goes to zero."""
    shop, _ = place
    planned = nobody_is_served(shop)
    before = size(shop)
    first, *rest = planned.plan.spec.calls
    wrong = first.model_copy(update={"arguments": {**first.arguments, "MinSize": before[1] + 1}})
    planned.plan = planned.plan.model_copy(
        update={"spec": planned.plan.spec.model_copy(update={"calls": (wrong, *rest)})}
    )
    with pytest.raises(AssertionError, match="Apply 0: ValidationError"):
        await planned.apply()
    assert (size(shop), nets(shop)) == (before, [])


# --- gates ------------------------------------------------------------------------------------------------------------


def storefronts(shop: Shop, action: str, **inputs: Any) -> Planned:
    """Return what a fix plans for the storefront as it is."""
    return Planned(shop, storefront_grant(shop), action, {"autoScalingGroup": seed.GROUP, **inputs})


def test_recycling_is_held_by_how_many_instances_really_serve(place: tuple[Shop, Tiers]) -> None:
    """Two serve, and one of them would go: too few for the group's minimum of two, enough for one of one."""
    shop, _ = place
    recycled = {"hosts": sorted(seed.addresses(shop).values())[:1], "migrationRunning": False}
    planned = storefronts(shop, "autoscaling.recycle-instances", **recycled)
    assert planned.held_by(health_budget) == "1 would be healthy of 2 now; at least 2 must be"
    by_ec2(shop, MinSize=1)
    assert storefronts(shop, "autoscaling.recycle-instances", **recycled).held_by(health_budget) == ""


def test_replacing_is_held_where_all_targets_really_fail_alike(place: tuple[Shop, Tiers]) -> None:
    """The load balancer says the same of each: another path cures that. Of one among others, it is the instance's."""
    shop, _ = place
    one_is_bad(shop)
    (bad,) = [identity for identity, health in seed.health(shop).items() if health == "unhealthy"]
    assert storefronts(shop, "autoscaling.replace-instances", instances=[bad]).held_by(common_cause) == ""
    for part in (seed.target_group, seed.group, seed.instances):
        part(shop)
    wrong_path(shop)
    assert wait_until(lambda: set(seed.health(shop).values()) == {"unhealthy"}, seconds=30, every=0.1)
    planned = storefronts(shop, "autoscaling.replace-instances", instances=list(seed.health(shop)))
    assert "fail alike" in planned.held_by(common_cause)


def test_scaling_out_is_held_by_what_postgresql_really_bears(place: tuple[Shop, Tiers]) -> None:
    """By its own count of sessions and its own limit, before and after sessions are opened."""
    shop, _ = place
    with databases.postgres(address(), settings={"max_connections": "20"}) as server, ExitStack() as opened:
        admin = opened.enter_context(databases.admin(server))

        def planned() -> Planned:
            used = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            most = admin.execute("SELECT setting::int FROM pg_settings WHERE name = 'max_connections'")
            (connections,), (maximum,) = used.fetchone() or (None,), most.fetchone() or (None,)
            numbers = {"connectionsUsed": connections, "connectionsMaximum": maximum}
            return storefronts(shop, "autoscaling.set-capacity", desired=seed.MAXIMUM, poolSize=5, **numbers)

        roomy = planned()
        assert roomy.held_by(downstream_budget) == ""
        for _ in range(6):
            opened.enter_context(databases.admin(server))
        tight = planned()
    assert roomy.plan.spec.downstream is not None
    assert tight.plan.spec.downstream is not None
    assert (roomy.plan.spec.downstream.added, roomy.plan.spec.downstream.maximum) == (10, 20)
    assert tight.plan.spec.downstream.used == roomy.plan.spec.downstream.used + 6
    assert "at most 80%" in tight.held_by(downstream_budget)
