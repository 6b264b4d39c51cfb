"""How long a diagnosis takes: ours, the same reads by warm boto3 one after another, the document's own commands."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore import xform_name

from dev.controlplane.kubectl import Kubectl
from dev.shop.alarm import wait_until_felt
from dev.shop.examples import examples
from dev.shop.faults import FAULTS, heal_all
from dev.shop.shop import Shop, load
from dev.stack import SHOP_LABELS, Stack
from incident_operator.adapters.clock import Clock
from incident_operator.api.meta import parse_instant

from .figures import Figure, ratio
from .place import STATE, TIME_SCALE, a_namespace, an_operator, the_stack

LATENCIES = ("40ms", "0ms")
FAULT = FAULTS["inc-2023-1247"]
#: The document's Lambda section, steps 1 to 3, as it is written but for the role's name (it cuts the wrong part).
DOCUMENT = """
set -euo pipefail
aws lambda get-function --function-name $FUNCTION
aws logs filter-log-events --log-group-name /aws/lambda/$FUNCTION --start-time $START --filter-pattern "ERROR"
ROLE_ARN=$(aws lambda get-function --function-name $FUNCTION --query 'Configuration.Role' --output text)
ROLE_NAME=${ROLE_ARN##*/}
aws iam list-attached-role-policies --role-name $ROLE_NAME
aws iam list-role-policies --role-name $ROLE_NAME
aws iam get-role --role-name $ROLE_NAME --query 'Role.AssumeRolePolicyDocument'
aws dynamodb describe-table --table-name $TABLE
aws s3 ls s3://$BUCKET/
aws sts get-caller-identity
"""


def measure(rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Return the figures of every latency."""
    figures: list[Figure] = []
    for latency in LATENCIES:
        stack = the_stack(shop=True, latency=latency)
        shop = load(stack.state_dir)
        say(f"diagnosis at {latency}: breaking {shop.function}")
        try:
            FAULT.break_(shop)
            wait_until_felt(shop, time_scale=TIME_SCALE)
            figures += _at(latency, stack, shop, rounds, say)
        finally:
            heal_all(shop)
    return figures


def _at(latency: str, stack: Stack, shop: Shop, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    ours, sequential, document, counts = [], [], [], []
    aws = _command_line(say)
    with a_namespace(stack, SHOP_LABELS) as namespace, an_operator(stack, namespace) as operator:
        operator.wait_leading()
        _diagnose(stack, namespace, "warm-up")
        clients: dict[tuple[str, str], Any] = {}
        for number in range(rounds):
            say(f"diagnosis at {latency}: round {number + 1} of {rounds}")
            mark = _journal(stack, shop, 0)[-1]["sequence"]
            ours.append(_diagnose(stack, namespace, f"round-{number}"))
            reads = [c for c in _journal(stack, shop, mark) if c["principal"].endswith("/incident-operator-read")]
            counts.append(float(len(reads)))
            _ask_all(shop, reads, clients)
            sequential.append(_timed(lambda: _ask_all(shop, reads, clients)))  # noqa: B023 (called at once)
            document.append(_timed(lambda: _run_document(stack, shop, aws)))
    two = 0.5 if latency != "0ms" else None
    ten = 0.1 if latency != "0ms" else None
    return [
        Figure(name=f"diagnosis, {latency}", unit="s", samples=ours),
        Figure(name=f"  its reads, {latency}", unit="calls", samples=counts),
        Figure(name=f"  same reads, warm boto3, {latency}", unit="s", samples=sequential),
        Figure(name=f"  the document's commands, {latency}", unit="s", samples=document),
        ratio(f"diagnosis / boto3, {latency}", ours, sequential, at_most=two),
        ratio(f"diagnosis / document, {latency}", ours, document, at_most=ten),
    ]


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _diagnose(stack: Stack, namespace: str, name: str) -> float:
    """Apply an observe-only run and return the seconds from its start to its diagnosis, by its own status."""
    manifest = json.loads(json.dumps(examples()[FAULT.example].manifest))
    manifest["metadata"] = {"name": name, "namespace": namespace}
    manifest["spec"]["automation"] = {"askUpTo": "None"}
    admin = Kubectl(stack.kubeconfig())
    admin.run("apply", "-f", "-", stdin=json.dumps(manifest))
    admin.run("wait", f"incidentrun/{name}", "-n", namespace, "--for=condition=Finished", "--timeout=60s")
    status = admin.json("get", "incidentrun", name, "-n", namespace)["status"]
    return (parse_instant(status["diagnosedAt"]) - parse_instant(status["startedAt"])).total_seconds()


def _journal(stack: Stack, shop: Shop, after: int) -> list[dict[str, Any]]:
    url = f"{stack.aws_endpoint}/_sim/journal?account={shop.account}&after={after}"
    with urllib.request.urlopen(url) as answer:  # noqa: S310
        return list(json.load(answer)["calls"])


def _ask_all(shop: Shop, reads: list[dict[str, Any]], clients: dict[tuple[str, str], Any]) -> None:
    """Make the same reads, one after another, with clients that are kept."""
    for read in reads:
        key = (read["service"], read["region"])
        if key not in clients:
            admin = shop.keys["admin"]
            clients[key] = boto3.client(
                read["service"],
                region_name=read["region"],
                endpoint_url=shop.endpoint,
                aws_access_key_id=admin.access_key_id,
                aws_secret_access_key=admin.secret_access_key,
            )
        client = clients[key]
        try:
            getattr(client, xform_name(read["operation"]))(**read["arguments"])
        except client.exceptions.ClientError as error:
            # "There is none" is an answer too, as long and as good.
            if read["outcome"] == "OK":
                raise RuntimeError(f"{read['operation']} answered otherwise: {error}") from error


def _command_line(say: Callable[[str], None]) -> Path:
    """Return the AWS CLI, in an environment of its own: it pins another botocore than ours."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incident-operator/awscli"
    program = cache / "bin/aws"
    if not program.exists():
        say("installing the AWS CLI into the user's cache, for the comparison (once)")
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--allow-existing", str(cache)], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--python", str(cache / "bin/python"), "awscli>=1.44,<2"], check=True
        )
    return program


def _run_document(stack: Stack, shop: Shop, aws: Path) -> None:
    """Run the document's commands with bash. The wrapper keeps every one of them off real AWS."""
    wrapper = STATE / "bin/aws"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec "{aws}" --endpoint-url "{shop.endpoint}" "$@"\n')
    wrapper.chmod(0o700)
    start = str(int((Clock().now().timestamp() - 600) * 1000))
    names: Mapping[str, str] = {"FUNCTION": shop.function, "TABLE": shop.table, "BUCKET": shop.bucket, "START": start}
    env = {**os.environ, **stack.aws_env("admin"), **names, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", DOCUMENT], env=env, check=True, capture_output=True)
