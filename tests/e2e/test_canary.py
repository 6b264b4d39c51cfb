"""No secret leaves, wherever one can come from: planted in each place, looked for wherever the operator writes.

What a person wrote into a spec is theirs and may stay there; what the operator copies of it may not.
"""

import base64
import json
import re
import secrets
import string
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import yaml

from dev import databases
from dev.controlplane.kubectl import Kubectl
from dev.operators import OperatorProcess
from dev.processes import wait_until
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from dev.stack import OPERATOR_NAMESPACE

from .test_hostile import LEASE, connected, incident, log_lines
from .test_people import reverting
from .world import TIME_SCALE, World, outcome, story

FAULT = FAULTS["inc-2023-1247"]
NAME = "canary"
#: How often a read is tried: after so many errors of AWS it fails, once.
_ATTEMPTS = 5
#: Kinds whose spec a person writes.
PEOPLES = ("IncidentRun", "Runbook", "Intervention", "ActionGrant", "ClusterRunbook", "RemediationPolicy")


@dataclass
class Canaries:
    """Values that are nowhere else, and where each was planted."""

    planted: dict[str, str] = field(default_factory=dict)

    def bare(self, place: str) -> str:
        """Return a password of 24 characters, as a generator makes them."""
        kinds = (string.ascii_lowercase, string.digits, string.ascii_uppercase)
        value = "".join(secrets.choice(kinds[n % 3]) for n in range(24))
        self.planted[value] = f"{place}: a password"
        return value

    def text(self, place: str) -> str:
        """Return a text with a secret access key, a URL with a password, a bearer token and a named password."""
        letters = string.ascii_letters + string.digits
        key = f"aB3/{''.join(secrets.choice(letters) for _ in range(32))}+x9Z"
        token = secrets.token_urlsafe(30)
        self.planted |= {key: f"{place}: an access key", token: f"{place}: a bearer token"}
        url = f"postgres://shop:{self.bare(place)}@db:5432/orders"
        return f"{key} {url} Authorization: Bearer {token}\npassword={self.bare(place)}, see above"

    def found_in(self, text: str) -> set[str]:
        """Return which are in a text, also where it holds them in Base64 or escaped."""
        shown = [text, text.replace("\\/", "/")]
        for chunk in set(re.findall(r"[A-Za-z0-9+/]{16,}", text)):
            shown.append(base64.b64decode(chunk[: len(chunk) // 4 * 4]).decode(errors="replace"))
        whole = "\n".join(shown)
        return {where for value, where in self.planted.items() if value in whole}


@dataclass(kw_only=True)
class Scene:
    """A world with a canary in every place."""

    world: World
    operator: OperatorProcess
    canaries: Canaries
    cache: "redis.Redis"


@pytest.fixture
def scene(make_world: Callable[..., World]) -> Iterator[Scene]:
    """Return the scene; its operator leads."""
    canaries = Canaries()
    with ExitStack() as stacked:
        world = make_world()
        password = canaries.bare("a connection's Secret")
        postgres = stacked.enter_context(databases.postgres(world.stack.address))
        valkey = stacked.enter_context(databases.valkey(world.stack.address, password=password))
        with databases.admin(postgres) as admin:
            admin.execute(f"CREATE ROLE reader LOGIN PASSWORD '{password}'")
            admin.execute("CREATE TABLE orders (id bigint, note text, comment text)")
            row = (canaries.bare("a column"), canaries.text("a column"))
            admin.execute("INSERT INTO orders VALUES (1, %s, %s)", row)
            admin.execute("GRANT SELECT ON orders TO reader")
        cache = stacked.enter_context(redis.Redis(host=valkey.host, port=valkey.port, password=password))
        cache.set("session", canaries.bare("a value of Redis"))
        cache.client_setname(canaries.bare("a client's name"))
        connected(world, postgres, valkey, password)
        operator = stacked.enter_context(world.operator(**LEASE)).wait_leading()
        yield Scene(world=world, operator=operator, canaries=canaries, cache=cache)


def _runbook(world: World) -> dict[str, Any]:
    """Return the shipped runbook with a step that asks the connections, and a parameter."""
    shipped = world.admin.json("get", "clusterrunbook", "lambda-failures")["spec"]
    rows = "SELECT id, note, comment FROM public.orders"
    asks = {
        "rows": ("postgres.query", {"connection": "database", "statement": rows}),
        "broken": (
            "postgres.query",
            {"connection": "database", "statement": f"{rows} WHERE id = $1", "arguments": ["${parameters.note}"]},
        ),
        "clients": ("redis.command", {"connection": "cache", "command": "CLIENT LIST"}),
        "session": ("redis.command", {"connection": "cache", "command": "TYPE session"}),
        "table": (
            "aws.query",
            {"service": "dynamodb", "operation": "describe_table", "arguments": {"TableName": world.shop.table}},
        ),
    }
    checks = [{"name": name, "action": action, "inputs": inputs} for name, (action, inputs) in asks.items()]
    steps = [*shipped["steps"], {"name": "connections", "title": "Connections", "expectedBy": "25m", "checks": checks}]
    parameters = [*shipped["parameters"], {"name": "note", "type": "string"}]
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": NAME, "namespace": world.name},
        "spec": {**shipped, "steps": steps, "parameters": parameters},
    }


def _runs(scene: Scene) -> list[dict[str, Any]]:
    """Return the run that asks first, and one that is refused for a parameter."""
    canaries, run = scene.canaries, scene.world.manifest(FAULT.example, automation={"applyUpTo": "None"})
    run["metadata"]["name"] = NAME
    run["spec"]["incident"]["title"] = f"Mails fail: {canaries.text('the title')}"
    run["spec"]["incident"]["detectedAt"] = scene.world.admin.json("get", "namespace", scene.world.name)["metadata"][
        "creationTimestamp"
    ]
    run["spec"]["runbookRef"] = {"kind": "Runbook", "name": NAME}
    run["spec"]["parameters"]["note"] = canaries.bare("a parameter")
    run["spec"]["connections"] = {n: {"secretRef": {"name": f"{n}-secret"}} for n in ("database", "cache")}
    refused = json.loads(json.dumps(run))
    refused["metadata"]["name"] = "refused"
    refused["spec"]["incident"]["ticket"] = "INC-2024-9999"
    refused["spec"]["parameters"] |= {"alias": f"{canaries.bare('a wrong parameter')}!", "region": "x"}
    return [run, refused]


def _plant_in_aws(scene: Scene) -> None:
    """Put canaries into the function's environment and log, and into what AWS says of errors."""
    shop, canaries = scene.world.shop, scene.canaries
    client, name = shop.client("lambda"), shop.function
    known = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    known |= {"API_KEY": canaries.bare("the environment"), "DATABASE_URL": canaries.text("the environment")}
    client.update_function_configuration(FunctionName=name, Environment={"Variables": known})
    version = client.publish_version(FunctionName=name)["Version"]
    client.update_alias(FunctionName=name, Name=shop.alias, FunctionVersion=version)
    user = f"User: arn:aws:sts::{shop.account}:assumed-role/{shop.role}/{name}"
    denied = f"[ERROR] AccessDeniedException: {user} is not authorized to perform: dynamodb:GetItem on resource:"
    log_lines(
        scene.world,
        [
            f"{denied} {shop.table_arn} because no identity-based policy; {canaries.text('a denial')}",
            f"[ERROR] login {canaries.bare('an error')}: {canaries.text('an error')}",
            f"[ERROR] OperationalError: {canaries.text('a stack')}\nTraceback:\n  {canaries.bare('a stack')}",
            f"[ERROR] An error occurred ({canaries.bare('a code')}) when calling the GetItem operation",
        ],
    )
    _fault(scene, "dynamodb", "DescribeTable", times=_ATTEMPTS)
    _fault(scene, "iam", "SetDefaultPolicyVersion", times=1)


def _fault(scene: Scene, service: str, operation: str, *, times: int) -> None:
    message = f"no: {scene.canaries.bare('AWS')} {scene.canaries.text('AWS')}"
    wanted = {"mode": "error", "account": scene.world.shop.account, "message": message}
    body = json.dumps({**wanted, "service": service, "operation": operation, "times": times}).encode()
    url = f"{scene.world.stack.aws_endpoint}/_sim/fault"
    urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST")).close()  # noqa: S310


def _stored(who: Kubectl, namespace: str) -> list[dict[str, Any]]:
    """Return every object of a namespace, of every kind that can be listed, but for its Secrets."""
    listed = who.run("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = ",".join(kind for kind in listed if kind != "secrets")
    return list(who.json("get", kinds, "-n", namespace)["items"])


def _as_the_operator_wrote_it(stored: Mapping[str, Any]) -> str:
    """Return an object without what a person wrote of it."""
    if stored["kind"] not in PEOPLES:
        return json.dumps(stored)
    annotations = dict(stored["metadata"].get("annotations") or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    kept = {key: value for key, value in stored.items() if key != "spec"}
    return json.dumps({**kept, "metadata": {**stored["metadata"], "annotations": annotations}})


def _shown(scene: Scene) -> dict[str, str]:
    """Return all that the operator wrote or shows, by where."""
    world, admin = scene.world, scene.world.admin
    shown = {}
    for namespace in (world.name, OPERATOR_NAMESPACE):
        for stored in _stored(admin, namespace):
            about = f"{namespace} {stored['kind']} {stored['metadata']['name']}"
            shown[about] = _as_the_operator_wrote_it(stored)
    for stored in admin.json("get", "actiongrants,clusterrunbooks")["items"]:
        shown[f"{stored['kind']} {stored['metadata']['name']}"] = _as_the_operator_wrote_it(stored)
    for file in world.folder.glob("*.log"):
        shown[f"log {file.name}"] = file.read_text()
    with urllib.request.urlopen(f"http://{scene.operator.http}/metrics") as answer:
        shown["metrics"] = answer.read().decode()
    for run in (NAME, "refused"):
        described = admin.run("describe", "irun", run, "-n", world.name)
        shown[f"describe {run}"] = described[described.index("\nStatus:") :]
    shown["get"] = admin.run("get", "incidentruns,remediationplans", "-n", world.name, "-o", "wide")
    shown["watch"] = incident(world, "watch", NAME, "--lines")
    shown["plan"] = incident(world, "plan", NAME, "--all")
    for form in ("yaml", "json"):
        shown[f"plan -o {form}"] = incident(world, "plan", NAME, "--all", "-o", form)
    for plan in world.plans():
        shown[f"script {plan['metadata']['name']}"] = incident(world, "script", NAME, plan["metadata"]["name"])
    return shown


@contextmanager
def _the_whole_story(scene: Scene) -> Iterator[dict[str, Any]]:
    """Break it, let a run ask, people agree, and then have it put back; yield the run's last status."""
    world, canaries = scene.world, scene.canaries

    def said(verb: str, target: dict[str, Any], **spec: Any) -> None:
        word = world.say("bob", verb, target, reason=f"because {canaries.text(f'the reason of {verb}')}", **spec)
        answer = world.answer(word)
        assert answer["status"] == "True", answer

    with world.customers():
        FAULT.break_(world.shop)
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        for run in _runs(scene):
            world.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(run))
        plan = world.open_plan(NAME)
        said("Note", world.run(NAME))
        said("Pause", world.run(NAME))
        said("Resume", world.run(NAME))
        plan = world.open_plan(NAME)
        said("Approve", plan, tier=plan["spec"]["tier"])
        status = world.finished(NAME)
        assert outcome(status) == "Resolved/Runbook", story(status)
        (applied,) = [p for p in world.plans() if p["status"].get("startedAt")]
        back = reverting(world, applied)
        said("Approve", back, tier=back["spec"]["tier"])

        def is_back() -> bool:
            stored = world.admin.json("get", "remediationplan", "-n", world.name, back["metadata"]["name"])
            return bool(stored["status"].get("state") == "Reverted" and stored["status"].get("settled"))

        assert wait_until(is_back, seconds=60, every=0.25), world.log()
        yield status


def test_a_canary_is_found_nowhere(scene: Scene) -> None:
    """From the first look to the end of a revert; the same search finds it where it was planted."""
    world, canaries = scene.world, scene.canaries
    world.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(_runbook(world)))
    _plant_in_aws(scene)
    with _the_whole_story(scene) as status:
        checks = {c["name"]: c for step in status["steps"] for c in step.get("checks", ())}
        assert checks["rows"]["output"]["withheld"] == 2, checks["rows"]
        assert (checks["broken"]["state"], checks["broken"]["reason"]) == ("Error", "InvalidRequest"), checks["broken"]
        assert checks["clients"]["output"]["fields"]["clients"] >= 1, checks["clients"]
        assert checks["session"]["output"]["value"] == "string", checks["session"]
        for operation in ("DescribeTable", "SetDefaultPolicyVersion"):
            assert "Fault.error.before" in {c["outcome"] for c in world.journal() if c["operation"] == operation}
        assert "2 × Error, 1 × OperationalError" in story(status), story(status)
        assert "bob: because <redacted>" in json.dumps(status["timeline"])
        waiting = world.status("refused")
        assert waiting["now"]["waitingFor"] == "ParametersInvalid", waiting

        # The search finds what is there: in a Secret's Base64, and in what people wrote.
        secret = world.admin.json("get", "secret", "cache-secret", "-n", world.name)
        assert canaries.found_in(json.dumps(secret)) == {"a connection's Secret: a password"}
        places = {where.partition(":")[0] for where in canaries.found_in(json.dumps(world.run(NAME)["spec"]))}
        assert places == {"the title", "a parameter"}

        shown = _shown(scene)
        kinds = {about.split()[1] for about in shown if about.startswith(world.name)}
        assert {"IncidentRun", "RemediationPlan", "Intervention", "ControllerRevision", "Event"} <= kinds, kinds
        assert "PostIncidentReview" in kinds
        assert all(shown[about].strip() for about in shown), [about for about in shown if not shown[about].strip()]
        leaks = {about: sorted(canaries.found_in(text)) for about, text in shown.items() if canaries.found_in(text)}
        assert leaks == {}, json.dumps(leaks, indent=1)
