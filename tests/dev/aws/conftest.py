"""One simulator for the session, in a process of its own; each test makes an account by naming it."""

import io
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[3]
REGION = "us-east-1"
_accounts = itertools.count(100000000000 + os.getpid() % 1000 * 1000)


def start(*options: str) -> subprocess.Popen[str]:
    """Start a simulator; its first line says where. An option that is given again counts."""
    return subprocess.Popen(
        [sys.executable, "-m", "dev.aws", "--time-scale", "3000", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def where(process: subprocess.Popen[str]) -> str:
    """Return the address a simulator says it is ready at."""
    assert process.stdout is not None
    return process.stdout.readline().split()[1]


def stop(process: subprocess.Popen[str]) -> int:
    """End a simulator; return its exit status."""
    process.terminate()
    status = process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    return status


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The address of a simulator whose ingestion delays are all at their floor of 200 ms."""
    process = start()
    yield where(process)
    assert stop(process) == 0


@pytest.fixture(scope="session")
def unhurried_url() -> Iterator[str]:
    """The address of a simulator whose own delays last for seconds: a busy machine sees what is so meanwhile."""
    process = start("--time-scale", "60")
    yield where(process)
    assert stop(process) == 0


@dataclass(kw_only=True)
class Caller:
    """Clients of one caller."""

    url: str
    key: str
    token: str | None = None
    _made: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service: str, region: str = REGION) -> Any:
        """Return a client that tries once."""
        if (service, region) not in self._made:
            self._made[service, region] = _session(region).client(
                service,
                endpoint_url=self.url,
                aws_access_key_id=self.key,
                aws_secret_access_key="any",  # noqa: S106 signatures are not verified
                aws_session_token=self.token,
                config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
            )
        return self._made[service, region]

    def assume(self, role_arn: str, name: str = "tester", policy: Any = None) -> "Caller":
        """Return a session of a role."""
        more = {"Policy": json.dumps(policy)} if policy is not None else {}
        made = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=name, **more)["Credentials"]
        return Caller(url=self.url, key=made["AccessKeyId"], token=made["SessionToken"])

    def own_session(self) -> "Caller":
        """Return a session of this caller's own."""
        made = self.client("sts").get_session_token()["Credentials"]
        return Caller(url=self.url, key=made["AccessKeyId"], token=made["SessionToken"])


_sessions: dict[str, Any] = {}


def _session(region: str) -> Any:
    return _sessions.setdefault(region, boto3.session.Session(region_name=region))


def allow(action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    """Return a policy of one Allow."""
    return document("Allow", action, resource, **more)


def document(effect: str, action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    """Return a policy of one statement."""
    statement = {"Effect": effect, "Action": action, "Resource": resource, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def zipped(source: str) -> bytes:
    """Return a deployment package with one module, `app`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", source)
    return packed.getvalue()


@dataclass(kw_only=True)
class Account:
    """An account of one test, seen by its admin."""

    id: str
    admin: Caller

    def client(self, service: str, region: str = REGION) -> Any:
        """Return an admin's client."""
        return self.admin.client(service, region)

    def role(self, name: str, *policies: Any, path: str = "/", trust: Any = None) -> str:
        """Make a role that Lambda and the account may assume; return its ARN."""
        principal = trust or {"Service": "lambda.amazonaws.com", "AWS": f"arn:aws:iam::{self.id}:root"}
        trusting = {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
        made = self.client("iam").create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trusting))
        for index, policy in enumerate(policies):
            self.client("iam").put_role_policy(
                RoleName=name, PolicyName=f"inline{index}", PolicyDocument=json.dumps(policy)
            )
        return str(made["Role"]["Arn"])

    def table(self, name: str = "orders", **more: Any) -> str:
        """Make a table with key `k`; return its ARN."""
        made = self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            **more,
        )
        return str(made["TableDescription"]["TableArn"])

    def function(self, source: str, role: str, name: str = "fn", **more: Any) -> Any:
        """Deploy a function whose handler is `app.handler`."""
        return self.client("lambda").create_function(
            FunctionName=name,
            Role=role,
            Handler="app.handler",
            Runtime="python3.11",
            Code={"ZipFile": zipped(source)},
            **more,
        )

    def invoke(self, name: str = "fn", event: Any = None, **more: Any) -> tuple[Any, Any]:
        """Invoke; return FunctionError and the parsed payload."""
        made = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), **more)
        return made.get("FunctionError"), json.loads(made["Payload"].read())

    def ask(self, path: str, **query: str) -> Any:
        """Ask the simulator itself."""
        asked = "&".join(f"{k}={v}" for k, v in {"account": self.id, **query}.items())
        with urllib.request.urlopen(f"{self.admin.url}/_sim/{path}?{asked}") as answer:  # noqa: S310 loopback
            return json.load(answer)

    def fault(self, **wanted: Any) -> None:
        """Ask for a fault in this account."""
        body = json.dumps({"account": self.id, **wanted}).encode()
        request = urllib.request.Request(f"{self.admin.url}/_sim/fault", data=body, method="POST")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310 loopback


@pytest.fixture
def account(url: str) -> Account:
    """A fresh account."""
    return _an_account(url)


@pytest.fixture
def unhurried(unhurried_url: str) -> Account:
    """A fresh account where what takes its time does."""
    return _an_account(unhurried_url)


def _an_account(url: str) -> Account:
    number = str(next(_accounts))
    return Account(id=number, admin=Caller(url=url, key=f"SIMADMIN{number}"))


def eventually(read: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return the first truthy value of `read`, within a time that a busy machine has enough of."""
    limit = time.monotonic() + seconds
    while True:
        found = read()
        if found or time.monotonic() > limit:
            return found
        time.sleep(0.05)
