"""One test's world on the shared stack: its namespace, its AWS account with a shop, its grant, its own operator."""

import contextlib
import json
import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.faultproxy import FaultProxy, Side
from dev.loopback import free_ports
from dev.operators import OperatorProcess
from dev.processes import wait_until
from dev.shop.examples import examples
from dev.shop.grant import grant
from dev.shop.seed import seed
from dev.shop.shop import DEFAULT_ACCOUNT, Shop
from dev.shop.traffic import Traffic
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.settings import Settings

TIME_SCALE = 60.0
RUN_SECONDS = 90.0
_ADMIN_CALLS = "SIMADMIN"


@dataclass(kw_only=True)
class World:
    """Everything of one test.

    Shape: `name` is the namespace and is part of every cluster-scoped name; `account` is its own.
    """

    stack: Stack
    name: str
    shop: Shop
    folder: Path
    proxy: FaultProxy | None = None
    _stacked: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def admin(self) -> Kubectl:
        """The cluster's admin."""
        return Kubectl(self.stack.kubeconfig())

    @property
    def alice(self) -> Kubectl:
        """A responder: what a test does as a user, she does."""
        return Kubectl(self.stack.kubeconfig("alice"))

    # --- the operator -----------------------------------------------------------------------------------------

    def operator(self, name: str = "operator", proxy: FaultProxy | None = None, **options: Any) -> OperatorProcess:
        """Return an operator for this namespace alone, not started; through a proxy where there is one."""
        kubeconfig, aws = self.stack.operator_kubeconfig, self.stack.aws_endpoint
        proxy = proxy or self.proxy
        if proxy is not None:
            kubeconfig = proxy.kubeconfig(kubeconfig, self.folder / f"kubeconfig-{name}")
            aws = proxy.url(Side.AWS)
        key = self.shop.keys["operator"]
        env = {
            **self.stack.aws_env("none"),
            "KUBECONFIG": str(kubeconfig),
            "AWS_ENDPOINT_URL": aws,
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
            **options.pop("env", {}),
        }
        given = {
            "namespaces": self.name,
            "operator-namespace": OPERATOR_NAMESPACE,
            "time-scale": f"{TIME_SCALE:g}",
            # Short, but not so short that a busy machine loses them by itself.
            "lease-duration": "6s",
            "call-timeout": "6s",
            **options,
        }
        flags = [f"--{name}" for name, value in given.items() if value is True]
        valued = {name: value for name, value in given.items() if value is not True}
        arguments = [*flags, *(text for name, value in valued.items() for text in (f"--{name}", str(value)))]
        (port,) = free_ports(self.stack.address, 1)
        http = f"{self.stack.address}:{port}"
        operator = OperatorProcess(arguments, env, self.folder / f"{name}.log", http)
        self._stacked.callback(operator.stop)
        return operator

    def another_proxy(self) -> FaultProxy:
        """Return a further proxy, for a further operator: who goes through it is known, and can be cut off alone."""
        return self._stacked.enter_context(_proxy(self.stack))

    def lease(self) -> dict[str, Any]:
        """Return the Lease of this world's operators."""
        name = Settings(identity="", namespaces=(self.name,)).lease_name
        return dict(self.admin.json("get", "lease", "-n", OPERATOR_NAMESPACE, name))

    # --- runs -------------------------------------------------------------------------------------------------

    def manifest(self, example: str, **spec: Any) -> dict[str, Any]:
        """Return an example as this world's: its namespace, account and bucket, and fields of the spec replaced."""
        text = json.dumps(examples()[example].manifest).replace(DEFAULT_ACCOUNT, self.shop.account)
        found = json.loads(text.replace("arn:aws:s3:::birthday-email-templates/", f"arn:aws:s3:::{self.shop.bucket}/"))
        found["metadata"]["namespace"] = self.name
        found["spec"].update(spec)
        return dict(found)

    def apply(self, manifest: Mapping[str, Any]) -> str:
        """`kubectl apply` it, as alice; return what kubectl says. Errors: KubectlError."""
        return self.alice.run("apply", "-f", "-", stdin=yaml.safe_dump(dict(manifest)))

    def person(self, who: str) -> Kubectl:
        """Return a person's kubectl."""
        return Kubectl(self.stack.kubeconfig(who))

    def say(self, who: str, verb: str, target: Mapping[str, Any], **spec: Any) -> str:
        """Let a person say something of a stored object; return the intervention's name. Errors: KubectlError."""
        about = {"kind": target["kind"], "name": target["metadata"]["name"], "uid": target["metadata"]["uid"]}
        word = {
            "apiVersion": target["apiVersion"],
            "kind": "Intervention",
            "metadata": {"generateName": f"{verb.lower()}-", "namespace": self.name},
            "spec": {"target": about, "verb": verb, **spec},
        }
        said = self.person(who).run("create", "-f", "-", "-o", "name", stdin=yaml.safe_dump(word))
        return said.strip().partition("/")[2]

    def answer(self, word: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait until an intervention is answered; return its condition Effective."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            stored = self.admin.json("get", "intervention", "-n", self.name, word)
            for condition in (stored.get("status") or {}).get("conditions", ()):
                found.update(condition)
            return bool(found)

        if not wait_until(answered, seconds=seconds, every=0.25):
            raise AssertionError(f"nobody answered {word}:\n{self.log()}")
        return found

    def open_plan(self, run: str, fix: str = "") -> dict[str, Any]:
        """Wait until people are asked about a plan of a run, and return it."""
        self.wait_for(run, lambda status: status.get("phase") == "AwaitingApproval")
        found: list[dict[str, Any]] = []

        def there() -> bool:
            states = ("Proposed", "Approved")
            found[:] = [
                plan
                for plan in self.plans()
                if plan["spec"]["runRef"]["name"] == run
                and fix in ("", plan["spec"]["fix"])
                and (plan.get("status") or {}).get("state", "Proposed") in states
            ]
            return bool(found)

        if not wait_until(there, seconds=60, every=0.25):
            raise AssertionError(f"no plan of {run} is open:\n{story(self.status(run))}\n{self.log()}")
        return found[0]

    def run(self, name: str) -> dict[str, Any]:
        """Return a run as stored."""
        return dict(self.admin.json("get", "incidentrun", "-n", self.name, name))

    def status(self, name: str) -> dict[str, Any]:
        """Return a run's status; empty before the first."""
        return dict(self.run(name).get("status") or {})

    def plans(self) -> list[dict[str, Any]]:
        """Return every plan of the namespace."""
        return list(self.admin.json("get", "remediationplans", "-n", self.name)["items"])

    def wait_for(self, name: str, condition: Callable[[dict[str, Any]], bool], seconds: float = RUN_SECONDS) -> Any:
        """Wait until a run's status meets a condition, and return it. Errors: AssertionError with the story so far."""
        status: dict[str, Any] = {}

        def met() -> bool:
            status.clear()
            status.update(self.status(name))
            return condition(status)

        if not wait_until(met, seconds=seconds, every=0.25):
            raise AssertionError(f"{name} did not get there in {seconds:g} s:\n{story(status)}\n{self.log()}")
        return dict(status)

    def finished(self, name: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait until a run is settled, and return its status."""
        with contextlib.suppress(KubectlError):
            waiting = ("wait", f"incidentrun/{name}", "-n", self.name, "--for=condition=Finished")
            self.admin.run(*waiting, f"--timeout={seconds:.0f}s", timeout=seconds + 30)
        status = self.status(name)
        assert status.get("settled"), f"{name} did not end in {seconds:g} s:\n{story(status)}\n{self.log()}"
        return status

    def log(self) -> str:
        """Return the ends of the operators' logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}" for file in logs) or "(no operator ran)"

    # --- the world outside ------------------------------------------------------------------------------------

    def asked(self, path: str) -> Any:
        """Return what the simulator says of the account."""
        url = f"{self.stack.aws_endpoint}/_sim/{path}?account={self.shop.account}"
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            return json.load(answer)

    def journal(self) -> list[dict[str, Any]]:
        """Return every call to the account."""
        return list(self.asked("journal")["calls"])

    def changes_by_operator(self) -> list[dict[str, Any]]:
        """Return the calls that change something and were made under a role of the operator's.

        A probe from an instance is none: just that document, just a connection's parameters, under the reading role.
        """
        return [
            call
            for call in self.journal()
            if call["mutating"]
            and "IncidentOperator" in call["principal"]
            and call["operation"] != "AssumeRole"
            and not _is_probe(call)
        ]

    def probes(self) -> list[dict[str, Any]]:
        """Return the commands by which the operator let instances connect."""
        return [call for call in self.journal() if _is_probe(call)]

    def dump(self) -> Any:
        """Return the canonical state of the account."""
        return self.asked("dump")

    @contextlib.contextmanager
    def customers(self, rate: float = 5) -> Iterator[Traffic]:
        """Let customers come."""
        with Traffic(shop=self.shop, rate=rate) as traffic:
            yield traffic

    def close(self) -> None:
        """End what was started, and forget what is not the namespace's."""
        self._stacked.close()


def _is_probe(call: Mapping[str, Any]) -> bool:
    """Tell whether a call is the one command of SSM that observing may send, to the letter."""
    arguments = call["arguments"]
    return (
        (call["service"], call["operation"]) == ("ssm", "SendCommand")
        and "assumed-role/IncidentOperatorRead/" in call["principal"]
        and arguments.get("DocumentName") == "IncidentOperator-Probe"
        and bool(arguments.get("DocumentHash"))
        and set(arguments.get("Parameters", ())) == {"host", "port", "seconds"}
        and not set(arguments)
        - {
            *("DocumentName", "DocumentVersion", "DocumentHash", "DocumentHashType"),
            *("InstanceIds", "Parameters", "TimeoutSeconds"),
        }
    )


def story(status: Mapping[str, Any]) -> str:
    """Return a status's timeline and checks, for the message of a failed test."""
    lines = [f"phase {status.get('phase')} outcome {status.get('outcome')} now {status.get('now')}"]
    lines += [f"  {e['at']} {e['reason']}: {e['message']}" for e in status.get("timeline", [])]
    for step in status.get("steps", []):
        lines += [f"  check {c['name']} {c['state']} {c.get('message', '')}" for c in step.get("checks", [])]
        lines += [f"  fix {f['name']} {f['state']} {f.get('message', '')}" for f in step.get("fixes", [])]
    return "\n".join(lines)


def impact(status: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many requests failed, of how many, as a run measured it. Errors: AssertionError if it did not.

    Shape: the summary says these very numbers; where nothing was measured there is no impact, never one of zero.
    """
    found = status.get("impact")
    assert found is not None, f"no impact was measured:\n{story(status)}"
    failed, total = float(found["failed"]), float(found["total"])
    assert 0 <= failed <= total
    assert f"({failed:g} of {total:g})" in found["summary"]
    assert total > 0
    return failed, total


def outcome(status: Mapping[str, Any]) -> str:
    """Return phase/outcome, as the examples write it."""
    return f"{status.get('phase')}/{status.get('outcome')}"


@contextlib.contextmanager
def a_world(stack: Stack, folder: Path, *, through_proxy: bool = False, **shop: Any) -> Iterator[World]:
    """Make a namespace, an account with a shop in it, and a grant between the two; forget them afterwards."""
    name = f"e2e-{uuid.uuid4().hex[:10]}"
    account = f"{300000000000 + uuid.uuid4().int % 600000000000}"
    admin = Kubectl(stack.kubeconfig())
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"shopsmart.com/team": name}},
    }
    admin.apply([space, grant(account, name, name)])
    with contextlib.ExitStack() as stacked:
        stacked.callback(admin.run, "delete", "actiongrant", name, "--ignore-not-found")
        stacked.callback(admin.run, "delete", "namespace", name, "--wait=false")
        seeded = seed(Shop(account=account, endpoint=stack.aws_endpoint, **shop), folder)
        proxy = None
        if through_proxy:
            proxy = stacked.enter_context(_proxy(stack))
        world = World(stack=stack, name=name, shop=seeded, folder=folder, proxy=proxy)
        stacked.callback(world.close)
        yield world


def _proxy(stack: Stack) -> FaultProxy:
    ca = stack.state_dir / "pki/ca.crt"
    return FaultProxy(stack.address, api=stack.server or "", api_ca=ca, aws=stack.aws_endpoint)


def clean_environment() -> None:
    """Keep the tests' own AWS clients off anything real."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update({"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull})
