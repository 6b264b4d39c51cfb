"""How long the diagnosis of each further playbook takes, beside the document's own commands on the same simulator.

Lambda's has a section of its own (`diagnosis`). Each playbook's department is seeded and broken, an observe-only run
is applied, and by its own status the first finding and the whole diagnosis are timed. Then the document's reading
commands of that playbook are typed by bash, one after another, with the shop's names put in; those that change
something are left out. A command that fails does not end the script: how many fail is a figure, and each is named.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.processes import inherited, wait_until
from dev.shop.examples import examples
from dev.shop.granting import LABEL
from dev.shop.images import grant as images_grant
from dev.shop.images import seed as images
from dev.shop.images.faults import FAULTS as IMAGES_FAULTS
from dev.shop.images.traffic import Browsers
from dev.shop.network import grant as network_grant
from dev.shop.network.faults import give_rule_back, remove_rule
from dev.shop.network.place import CACHE, WEB
from dev.shop.network.seed import seed as seed_network
from dev.shop.network.traffic import traffic as web_servers
from dev.shop.orders import grant as orders_grant
from dev.shop.orders.database import INSTANCE, database
from dev.shop.orders.hosts import METRICS, Hosts
from dev.shop.orders.seed import seed as seed_orders
from dev.shop.partners import grant as partners_grant
from dev.shop.partners import seed as partners
from dev.shop.partners.faults import FAULTS as PARTNERS_FAULTS
from dev.shop.sessions import grant as sessions_grant
from dev.shop.sessions.faults import FAULTS as SESSIONS_FAULTS
from dev.shop.sessions.hosts import hosts as session_hosts
from dev.shop.sessions.place import GROUP as CACHE_GROUP
from dev.shop.sessions.place import cache, hosts_network
from dev.shop.sessions.seed import seed as seed_sessions
from dev.shop.shop import Shop, load
from dev.shop.storefront import faults as storefront_faults
from dev.shop.storefront import grant as storefront_grant
from dev.shop.storefront import seed as storefront
from dev.shop.storefront.traffic import Traffic
from dev.stack import Stack
from incident_operator.adapters.clock import Clock
from incident_operator.api.meta import parse_instant

from . import baseline
from .baseline import BaselineError
from .figures import Figure, ratio
from .place import TIME_SCALE, Operator, Place, a_namespace

#: What is asked of a diagnosis: findings within seconds, the whole within a minute. Seconds.
FIRST_WITHIN, WHOLE_WITHIN = 10.0, 60.0
_CAUSE_SECONDS = 120.0
#: What a shell ends with where there is no such program.
_NOT_FOUND = "127"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A department that is broken, and how its run and the document look into it.

    Shape: `cause` is the reason that a right diagnosis finds; `commands` are the document's, `env` the names they use.
    """

    parameters: Mapping[str, Any]
    grant: Mapping[str, Any]
    cause: str
    commands: Sequence[str]
    env: Mapping[str, str]
    objects: Sequence[Mapping[str, Any]] = ()
    connections: Mapping[str, Any] = field(default_factory=dict)


#: Opens a scene, given the shop, the state directory, and the label of the namespaces of its runs.
Opened = Callable[[Shop, Path, str], contextlib.AbstractContextManager[Scene]]


def _await(condition: Callable[[], bool], what: str) -> None:
    """Wait for it. Errors: BaselineError that says what did not happen."""
    if not wait_until(condition, seconds=_CAUSE_SECONDS, every=0.2):
        raise BaselineError(f"{what}: not within {_CAUSE_SECONDS:g} s")


@contextlib.contextmanager
def _storefront(shop: Shop, state: Path, fault: str) -> Iterator[Shop]:
    """Seed the storefront, let customers come, break it; heal it afterwards."""
    seeded = storefront.seed(shop, state, time_scale=TIME_SCALE)
    # The group looks on: while it replaces in a loop, what a diagnosis meets is another thing each time.
    scaling = seeded.client("autoscaling", "web-sre")
    scaling.update_auto_scaling_group(AutoScalingGroupName=storefront.GROUP, HealthCheckType="EC2")
    broken = storefront_faults.named(fault)
    with Traffic(address=storefront.address(seeded), rate=4):
        broken.break_(seeded)
        yield seeded
    broken.heal(seeded)


def _refreshed(shop: Shop) -> bool:
    found = shop.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=storefront.GROUP)
    return bool(found["InstanceRefreshes"][0]["Status"] == "Successful")


def _storefront_parameters(**more: Any) -> dict[str, Any]:
    return {"targetGroup": storefront.TARGET_GROUP, "autoScalingGroup": storefront.GROUP, **more}


@contextlib.contextmanager
def _target_health(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    with _storefront(shop, state, "inc-2023-3421") as seeded:

        def all_fail() -> bool:
            states = list(storefront.health(seeded).values())
            return states == ["unhealthy"] * storefront.DESIRED

        _await(all_fail, "every target is unhealthy")
        yield Scene(
            parameters=_storefront_parameters(declaredPath=storefront_faults.MOVED_PATH),
            grant=storefront_grant.grant(seeded.account, label, label),
            cause="HealthCheckPathStale",
            env={"GROUP": storefront.target_group_arn(seeded), "BALANCER": storefront.BALANCER},
            commands=(
                'aws elbv2 describe-target-health --target-group-arn "$GROUP"',
                'aws elbv2 describe-load-balancers --names "$BALANCER"',
                # It asks for addresses, and gets the ids of instances.
                'for ip in $(aws elbv2 describe-target-health --target-group-arn "$GROUP"'
                " --query 'TargetHealthDescriptions[].Target.Id' --output text); do"
                ' curl -sS -I --max-time 5 "http://$ip:8080/health" || exit 1; done',
            ),
        )


@contextlib.contextmanager
def _autoscaling(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    with _storefront(shop, state, "inc-2023-2890") as seeded:
        _await(lambda: _refreshed(seeded), "the release is on every instance")
        # As long as the runbook lets a metric be late, at the stack's pace.
        _await(lambda: not _agent_tells(seeded, timedelta(minutes=5) / TIME_SCALE), "the agent falls silent")
        metric = {"metricNamespace": storefront.AGENT_NAMESPACE, "metricName": storefront.AGENT_METRIC}
        yield Scene(
            parameters=_storefront_parameters(**metric),
            grant=storefront_grant.grant(seeded.account, label, label),
            cause="MetricStale",
            env={"GROUP": storefront.GROUP},
            commands=(
                'aws autoscaling describe-scaling-activities --auto-scaling-group-name "$GROUP" --max-items 10',
                'aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$GROUP"',
                'aws ec2 describe-instances --filters "Name=tag:aws:autoscaling:groupName,Values=$GROUP" --query'
                " 'Reservations[].Instances[?State.Name==`pending` || State.Name==`running`]"
                ".[InstanceId,State.Name,LaunchTime]'",
                "aws cloudwatch get-metric-statistics --namespace AWS/EC2 --metric-name CPUUtilization"
                ' --dimensions "Name=AutoScalingGroupName,Value=$GROUP"'
                " --start-time $(date -d '30 minutes ago' -u +%Y-%m-%dT%H:%M:%S)"
                " --end-time $(date -u +%Y-%m-%dT%H:%M:%S) --period 300 --statistics Average",
            ),
        )


def _agent_tells(shop: Shop, within: timedelta) -> bool:
    now = Clock().now()
    found = shop.client("cloudwatch").get_metric_statistics(
        Namespace=storefront.AGENT_NAMESPACE,
        MetricName=storefront.AGENT_METRIC,
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": storefront.GROUP}],
        StartTime=now - within,
        EndTime=now,
        Period=1,
        Statistics=["Average"],
    )
    return bool(found["Datapoints"])


@contextlib.contextmanager
def _s3(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    seeded, fault = images.seed(shop, state), IMAGES_FAULTS["inc-2023-0987"]
    fault.break_(seeded)
    browsers = Browsers(shop=seeded)
    _await(lambda: browsers.get(images.PRODUCTS[0]) == 403, "images are refused")
    bucket = images.bucket_of(seeded)
    yield Scene(
        parameters={**_example("s3-access.yaml")["parameters"], "bucket": bucket},
        grant=images_grant.grant(seeded.account, label, label),
        cause="PublicReadMissing",
        env={"BUCKET": bucket},
        commands=(
            'aws s3 ls "s3://$BUCKET/"',
            'aws s3api get-bucket-policy --bucket "$BUCKET"',
            # A role of the document's that has nothing to do with who reads the images: anybody.
            "aws iam get-role-policy --role-name ShopSmartEC2Role --policy-name S3AccessPolicy",
            'aws s3api get-bucket-acl --bucket "$BUCKET"',
        ),
    )
    fault.heal(seeded)


@contextlib.contextmanager
def _network(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    seeded, tiers = seed_network(shop)
    with web_servers(seeded, tiers) as web:
        remove_rule(seeded, tiers)
        if not web.wait_share(1):
            raise BaselineError("web servers reach the cache without its rule")
        host, port = web.endpoint
        yield Scene(
            parameters={**_example("network-rule-removed.yaml")["parameters"], "vpcId": tiers.vpc},
            grant=network_grant.grant(seeded.account, label, label, tiers),
            cause="SecurityGroupRuleMissing",
            env={
                "WEB": tiers.groups[WEB],
                "CACHE": tiers.groups[CACHE],
                "VPC": tiers.vpc,
                "HOST": host,
                "PORT": str(port),
            },
            commands=(
                'aws ec2 describe-security-groups --group-ids "$WEB" "$CACHE"',
                'aws ec2 describe-route-tables --filters "Name=vpc-id,Values=$VPC"',
                'aws ec2 describe-network-acls --filters "Name=vpc-id,Values=$VPC"',
                # From where the engineer sits, which is not where the web servers are.
                'telnet "$HOST" "$PORT" </dev/null',
            ),
        )
        give_rule_back(seeded, tiers)


@contextlib.contextmanager
def _security(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    seeded, clock = partners.seed(shop, state), Clock()
    start = clock.now() - timedelta(seconds=2)
    PARTNERS_FAULTS["sec-2023-0156"].break_(seeded)
    end = clock.now()
    trail, about = seeded.client("cloudtrail"), [{"AttributeKey": "Username", "AttributeValue": partners.PARTNER}]
    _await(
        lambda: "CreateAccessKey" in {e["EventName"] for e in trail.lookup_events(LookupAttributes=about)["Events"]},
        "CloudTrail shows it",
    )
    yield Scene(
        parameters={
            **_example("security-incident.yaml")["parameters"],
            "accessKeyId": seeded.keys[partners.PARTNER].access_key_id,
            "windowStart": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "windowEnd": f"{end:%Y-%m-%dT%H:%M:%S.%fZ}",
            "evidenceBucket": partners.evidence_bucket(seeded),
        },
        grant=partners_grant.grant(seeded.account, label, label),
        cause="PersistenceByActor",
        env={"ADDRESS": partners.SCRAPER},
        commands=(
            "aws logs filter-log-events --log-group-name CloudTrail/SecurityEvents"
            " --start-time $(date -d '24 hours ago' +%s)000"
            ' --filter-pattern "{ \\$.sourceIPAddress = \\"$ADDRESS\\" }"',
            'aws s3 cp s3://security-logs/access-logs/ . --recursive --exclude "*" --include "*$(date +%Y-%m-%d)*"',
        ),
    )


@contextlib.contextmanager
def _cache(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    seeded, fault = seed_sessions(shop), SESSIONS_FAULTS["inc-2023-1654"]
    with session_hosts(seeded) as fleet:
        if not fleet.wait_share():
            raise BaselineError("the sessions' hosts are not well")
        fault.act(seeded)
        if not fleet.wait_share(above=0.05):
            raise BaselineError("no host stays behind after the failover")
        example, found = _example(fault.example), cache(seeded)
        host, port = found.endpoint
        yield Scene(
            # The hosts' own addresses: the operator, which asks the cache as well, is none.
            parameters={**example["parameters"], "hosts": [hosts_network()]},
            grant=sessions_grant.grant(seeded.account, label, label),
            objects=sessions_grant.connections(seeded, label),
            connections=example["connections"],
            cause="FailoverDone",
            env={"NODE": found.primary, "GROUP": CACHE_GROUP, "HOST": host, "PORT": str(port)},
            commands=(
                'aws elasticache describe-cache-clusters --cache-cluster-id "$NODE" --show-cache-node-info',
                'aws elasticache describe-replication-groups --replication-group-id "$GROUP"',
                'redis-cli -h "$HOST" -p "$PORT" ping',
                'redis-cli -h "$HOST" -p "$PORT" info memory',
            ),
        )


@contextlib.contextmanager
def _database(shop: Shop, state: Path, label: str) -> Iterator[Scene]:
    with database() as base:
        seed_orders(shop, base)
        with Hosts(base, shop) as web:
            _await(lambda: len(web.felt) >= 8 and web.failing() == 0, "orders are looked up")
            if not web.leak():
                raise BaselineError("customers are not refused though the pool leaks")
            yield Scene(
                parameters={
                    "databaseInstance": INSTANCE,
                    "applicationUsers": ["app"],
                    "errorNamespace": METRICS,
                    "idleSeconds": 2,
                    "slowSeconds": 1,
                    "maxFailedPercent": 20,
                },
                grant=orders_grant.grant(shop.account, label, label, base),
                objects=orders_grant.secrets(label, base),
                connections=orders_grant.connections(),
                cause="ConnectionsExhausted",
                # The document names no role: the one that still gets in when the database is full.
                env={"DATABASE": base.url("incident_reader")},
                commands=(
                    'psql "$DATABASE" -c "SELECT count(*) as active_connections, state FROM pg_stat_activity'
                    ' WHERE state IS NOT NULL GROUP BY state"',
                    'psql "$DATABASE" -c "SELECT pid, now() - pg_stat_activity.query_start AS duration, query'
                    " FROM pg_stat_activity WHERE (now() - pg_stat_activity.query_start) > interval '5 minutes'\"",
                ),
            )


def _example(file: str) -> dict[str, Any]:
    """Return the spec of an example."""
    return dict(examples()[file].manifest["spec"])


#: By the runbook's name.
PLAYBOOKS: Mapping[str, Opened] = {
    "database-performance": _database,
    "alb-target-health": _target_health,
    "s3-access": _s3,
    "autoscaling-failures": _autoscaling,
    "cache-performance": _cache,
    "network-connectivity": _network,
    "security-incident": _security,
}


def measure(place: Place, rounds: int, latency: str, names: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of these playbooks, of all by default, on a simulated AWS of this latency."""
    program = baseline.command_line(place.say)
    place.end("aws")  # another latency is another simulator
    stack = place.stack(shop=True, latency=latency)
    wrapper = baseline.write_wrapper(place.state / "bin", program, load(stack.state_dir).endpoint)
    figures: list[Figure] = []
    for name in names or PLAYBOOKS:
        place.say(f"{name}: breaking it, and waiting until users feel it")
        namespace = a_namespace(stack, {LABEL: name})
        with PLAYBOOKS[name](load(stack.state_dir), stack.state_dir, name) as scene:
            # The grant selects by the label; Secrets are the namespace's.
            Kubectl(stack.kubeconfig()).apply([scene.grant, *_moved(scene.objects, namespace)])
            figures += _figures(name, latency, scene, _rounds(place, stack, name, namespace, scene, wrapper, rounds))
    return figures


def _moved(objects: Sequence[Mapping[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the objects as of a namespace."""
    return [{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in objects]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Seconds, one value a round; and the document's commands that failed in each."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    document: list[float] = field(default_factory=list)
    failed: list[tuple[str, ...]] = field(default_factory=list)


def _rounds(place: Place, stack: Stack, name: str, namespace: str, scene: Scene, wrapper: Path, rounds: int) -> Samples:
    """Let the two take turns, each after a first try that is not counted."""
    samples = Samples()
    with Operator(stack, namespace) as operator:
        operator.leading()
        diagnose(stack, name, namespace, scene, "warm-up")
        run_document(stack, scene, wrapper)
        for number in range(rounds):
            place.say(f"{name}: round {number + 1} of {rounds}")
            first, whole = diagnose(stack, name, namespace, scene, f"round-{number}")
            samples.first.append(first)
            samples.whole.append(whole)
            seconds, failed = run_document(stack, scene, wrapper)
            samples.document.append(seconds)
            samples.failed.append(failed)
    return samples


def diagnose(stack: Stack, name: str, namespace: str, scene: Scene, run: str) -> tuple[float, float]:
    """Apply an observe-only run; return the seconds from its start to its first finding and to its diagnosis.

    By its own status: a finding is there when its check has ended. Errors: BaselineError where the cause was not
    found: a wrong answer has no time.
    """
    manifest = {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "IncidentRun",
        "metadata": {"name": run, "namespace": namespace},
        "spec": {
            "incident": {"title": name, "severity": "P2"},
            "runbookRef": {"kind": "ClusterRunbook", "name": name},
            "parameters": dict(scene.parameters),
            **({"connections": dict(scene.connections)} if scene.connections else {}),
            "automation": {"applyUpTo": "None", "askUpTo": "None"},
        },
    }
    admin, about = Kubectl(stack.kubeconfig()), ("-n", namespace)
    admin.apply([manifest])
    with contextlib.suppress(KubectlError):
        admin.run("wait", f"incidentrun/{run}", *about, "--for=condition=Finished", "--timeout=120s", timeout=150)
    status = admin.json("get", "incidentrun", run, *about).get("status") or {}
    found = {finding["reason"] for finding in status.get("findings", ())}
    if scene.cause not in found or "diagnosedAt" not in status:
        checks = {c["name"]: f"{c['state']} {c.get('message', '')}" for s in status["steps"] for c in s["checks"]}
        raise BaselineError(f"{name}: the diagnosis found {sorted(found)}, not {scene.cause}: {checks}")
    began = parse_instant(status["startedAt"])
    failed = [c["finishedAt"] for step in status["steps"] for c in step.get("checks", ()) if c["state"] == "Failed"]
    first = min(parse_instant(at) for at in failed)
    return (first - began).total_seconds(), (parse_instant(status["diagnosedAt"]) - began).total_seconds()


def run_document(stack: Stack, scene: Scene, wrapper: Path) -> tuple[float, tuple[str, ...]]:
    """Run the document's commands, one after another; return the seconds, and the commands that failed.

    One whose program this machine lacks is told apart: that is the machine's fault, not the document's.
    """
    env = {
        **inherited(),
        **stack.aws_env("admin"),
        "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
        "AWS_PAGER": "",
        **scene.env,
    }
    folder = wrapper.parent.parent / "document"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines = (f"( {command} ) || echo {number} $? >>failed" for number, command in enumerate(scene.commands))
    script = "set -uo pipefail\n" + "\n".join(lines)
    began = time.monotonic()
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    file = folder / "failed"
    ends = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    if len(ends) == len(scene.commands) and "Could not connect" in done.stderr:
        raise BaselineError(f"the document's commands do not reach the simulator:\n{done.stderr.strip()[-400:]}")
    return seconds, tuple(
        scene.commands[int(number)] + (" (not installed here)" if code == _NOT_FOUND else "") for number, code in ends
    )


def _figures(name: str, latency: str, scene: Scene, samples: Samples) -> list[Figure]:
    at = f"{name}, {latency} latency"
    of, failed = f"of {len(scene.commands)}", dict.fromkeys(c for round_ in samples.failed for c in round_)
    return [
        Figure(name=f"{at}: first finding", unit="s", samples=samples.first, limit=FIRST_WITHIN),
        Figure(name=f"{at}: whole diagnosis", unit="s", samples=samples.whole, limit=WHOLE_WITHIN),
        Figure(name=f"{at}: document's commands", unit="s", samples=samples.document),
        Figure(
            name=f"{at}: of these, those that fail",
            unit=of,
            samples=[len(f) for f in samples.failed],
            notes=tuple(failed),
        ),
        ratio(f"{at}: diagnosis / document", samples.whole, samples.document),
    ]
