"""The stack on a laptop: control plane, simulated AWS, the shop, the operator. `make up`, `make down`, `make status`.

Everything it starts is recorded in its state directory, so that any later command finds and ends it. Bringing up what
is up is quick; a part whose sources or options changed is started anew.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from dev.admission import await_admission, policies
from dev.controlplane.build import BuildError, to_stderr
from dev.controlplane.certificates import write_private
from dev.controlplane.cluster import Cluster, answers
from dev.controlplane.current import CurrentCluster, labels
from dev.controlplane.kubeconfig import read_entries, write_kubeconfig
from dev.controlplane.kubectl import Kubectl, KubectlError, Manifest, documents, kustomized, labelled
from dev.loopback import ROOT, PortBook, address
from dev.processes import Daemon, StartError, file_lock, recorded, run_to_end, wait_until
from incident_operator.api.meta import API_VERSION

OPERATOR_NAMESPACE = "incident-system"
OPERATOR = "incident-operator"
SHOP_NAMESPACE = "shopsmart"
#: What the shop's grant selects namespaces by.
SHOP_LABELS = {"shopsmart.com/team": "birthday"}
REGION = "us-east-1"
#: How the processes of the shop's departments are called, which `make break` starts.
SHOP_PROCESS = "shop-"
READY_SECONDS = 60.0
#: A year: no development stack is older.
TOKEN_DURATION = "8760h"  # noqa: S105 (a duration)
#: What `up` can fail with; each message says what to do.
FAILURES = (BuildError, StartError, KubectlError, OSError)


class Stack:
    """All parts of one state directory.

    Shape: `operator=False`, `shop=False` and `aws=False` leave these out: tests start their own. The shop needs the
    simulated AWS. `cluster` is "own" or "current"; by default what CLUSTER says. `audit`: a cluster of our own keeps
    in `audit_log` what operators ask of it.
    """

    def __init__(
        self,
        state_dir: Path = ROOT / ".dev",
        *,
        operator: bool = True,
        shop: bool = True,
        aws: bool = True,
        time_scale: float = 20,
        latency: str = "0ms",
        cluster: str | None = None,
        audit: bool = False,
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        self.state_dir = state_dir.resolve()
        self._audited = f"system:serviceaccounts:{OPERATOR_NAMESPACE}" if audit else None
        self._with_operator, self._with_shop, self._with_aws = operator, shop, aws
        self._time_scale, self._latency, self._say = time_scale, latency, say
        self.address = address()
        self._ports = PortBook(self.state_dir / "ports.json", self.address)
        self._mode = cluster or os.environ.get("CLUSTER") or "own"
        self._cluster = self._cluster_of(self._recorded_mode() or self._mode)

    def _cluster_of(self, mode: str) -> Cluster | CurrentCluster:
        namespace = SHOP_NAMESPACE if self._with_shop else "default"
        if mode == "own":
            return Cluster(self.state_dir, self._say, namespace, self._audited)
        if mode == "current":
            return CurrentCluster(self.state_dir, self._say, namespace)
        raise KubectlError(f"CLUSTER is {mode!r}; it can be `own` (the default) or `current`")

    def kubeconfig(self, name: str = "admin") -> Path:
        """Return the kubeconfig of a person: admin, alice, bob, carol, mallory."""
        return self._cluster.kubeconfig(name)

    @property
    def operator_kubeconfig(self) -> Path:
        """The kubeconfig of the operator's ServiceAccount."""
        return self.state_dir / "kubeconfig-operator"

    @property
    def audit_log(self) -> Path:
        """Where a cluster of our own keeps what operators ask of it. Errors: LookupError where it keeps nothing."""
        if self._audited is None or not isinstance(self._cluster, Cluster):
            raise LookupError("this stack was made without `audit`")
        return self._cluster.audit_log

    @property
    def server(self) -> str | None:
        """The address of the API server; None before the first start."""
        return self._cluster.server

    @property
    def aws_endpoint(self) -> str:
        """The address of the simulated AWS. Errors: LookupError before the first start."""
        return f"http://{self.address}:{self._port('aws')}"

    @property
    def operator_url(self) -> str:
        """Where the operator serves /healthz, /readyz and /metrics. Errors: LookupError before the first start."""
        return f"http://{self.address}:{self._port('operator')}"

    def _port(self, name: str) -> int:
        port = self._ports.recorded(name)
        if port is None:
            raise LookupError(f"{name} was never started in {self.state_dir}: run `make up`")
        return port

    # --- up ---------------------------------------------------------------------------------------------------

    def up(self) -> "Stack":
        """Start what does not run, apply what the cluster lacks, and wait until all of it works.

        Errors: FAILURES. What this call started from nothing is ended again; what ran before is left running.
        """
        with self._lock():
            recorded_mode = self._recorded_mode()
            if recorded_mode and recorded_mode != self._mode:
                raise KubectlError(f"the stack is up with CLUSTER={recorded_mode}: `make down` first")
            cold = not recorded(self.state_dir)
            write_private(self._mode_file, json.dumps({"cluster": self._mode}))
            try:
                self._up()
            except BaseException:
                if cold:
                    self._down()
                raise
        return self

    def _up(self) -> None:
        simulator = self._simulator() if self._with_aws else None
        with ThreadPoolExecutor(1) as beside:
            # The shop is seeded while the control plane starts: neither needs the other.
            seeding = beside.submit(self._start_aws, simulator)
            with self._timed("control plane") as done:
                self._cluster.up()
                done(self.server or "")
            with self._timed("kinds, rules, runbooks") as done:
                done(self._apply())
            seeding.result()
        if self._with_shop:
            with self._timed("shop's traffic") as done:
                daemon = self._traffic(simulator)
                daemon.start()
                done(str(daemon.log))
        if self._with_operator:
            with self._timed("operator") as done:
                daemon = self._operator(simulator)
                daemon.start()
                daemon.wait_ready(lambda: answers(f"{self.operator_url}/readyz"), seconds=READY_SECONDS)
                done(str(daemon.log))
        self._write_env()

    def _start_aws(self, simulator: Daemon | None) -> None:
        if simulator is None:
            return
        with self._timed("AWS simulator") as done:
            if simulator.start():
                # What lived beside another one has nothing left to live on; the next fault makes it anew.
                for department in self._departments():
                    department.stop()
            simulator.wait_ready(lambda: answers(f"{self.aws_endpoint}/_sim/health"), seconds=READY_SECONDS)
            done(self.aws_endpoint)
        if self._with_shop:
            with self._timed("shop") as done:
                done(run_to_end(self._shop("seed"), env=self._shop_env(), timeout=READY_SECONDS))

    def _simulator(self) -> Daemon:
        daemon = Daemon(name="aws", command=(), state_dir=self.state_dir, env=SOURCES, stamp=stamp("dev/aws"))
        (port,) = self._ports.take("aws", running=daemon.pid() is not None)
        daemon.command = self._python(
            "dev.aws",
            *("--host", self.address, "--port", str(port)),
            *("--time-scale", f"{self._time_scale:g}", "--latency", self._latency),
            *("--state-dir", str(self.state_dir)),
        )
        return daemon

    def _traffic(self, simulator: Daemon | None) -> Daemon:
        command = self._shop("traffic")
        outdated = stamp("dev/shop/traffic.py", "dev/shop/shop.py") + _life(simulator)
        return Daemon(name="traffic", command=command, state_dir=self.state_dir, env=self._shop_env(), stamp=outdated)

    def _operator(self, simulator: Daemon | None) -> Daemon:
        outdated = stamp("operator", "dev/supervisor.py") + _life(simulator)
        daemon = Daemon(name="operator", command=(), state_dir=self.state_dir, stamp=outdated)
        (port,) = self._ports.take("operator", running=daemon.pid() is not None)
        program = self._python(
            "incident_operator",
            "run",
            *("--http-address", f"{self.address}:{port}"),
            *("--operator-namespace", OPERATOR_NAMESPACE),
            *("--time-scale", f"{self._time_scale:g}"),
            "--loopback-channels",
        )
        daemon.command = [*self._python("dev.supervisor", "--"), *program]
        daemon.env = self.operator_env()
        return daemon

    def _python(self, module: str, *arguments: str) -> list[str]:
        if (
            importlib.util.find_spec(f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module)
            is None
        ):
            raise StartError(f"the part {module} is not in this checkout")
        return [sys.executable, "-m", module, *arguments]

    def operator_env(self) -> dict[str, str]:
        """Return the environment in which an operator of this stack runs, on top of `processes.inherited()`."""
        return {**SOURCES, **self.aws_env("operator"), "KUBECONFIG": str(self.operator_kubeconfig)}

    def aws_env(self, who: str) -> dict[str, str]:
        """Return the AWS environment of one identity of the shop: `admin`, `operator`, ...

        Nothing leads out of the simulator: no profile, no instance metadata. Without a shop there are no credentials.
        """
        keys = self.shop().get(who, {})
        credentials = {
            "AWS_ACCESS_KEY_ID": keys.get("access_key_id"),
            "AWS_SECRET_ACCESS_KEY": keys.get("secret_access_key"),
        }
        return {
            **({"AWS_ENDPOINT_URL": self.aws_endpoint} if self._with_aws else {}),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            # botocore would send even loopback through a proxy of the environment's.
            "NO_PROXY": ",".join(filter(None, (self.address, os.environ.get("NO_PROXY")))),
            **{name: value for name, value in credentials.items() if value},
        }

    def shop(self) -> dict[str, Any]:
        """Return what the shop's seed wrote down; empty without a shop."""
        file = self.state_dir / "shop.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def _shop(self, command: str) -> list[str]:
        return self._python("dev.shop", command, "--state-dir", str(self.state_dir))

    def _shop_env(self) -> dict[str, str]:
        # Its credentials are in shop.json: the environment's part is to keep it off real AWS.
        return {**SOURCES, **self.aws_env("none")}

    # --- what the cluster gets --------------------------------------------------------------------------------

    def _apply(self) -> str:
        """Apply kinds, rights, admission, runbooks and the shop's grant; return what there is, in words."""
        kubectl = Kubectl(self.kubeconfig())
        kinds = kustomized(ROOT / "crds")
        ours = labels(self.state_dir)
        base: list[Manifest] = []
        own: list[Manifest] = []
        for manifest in kustomized(ROOT / "manifests/dev"):
            (own if manifest["apiVersion"] == API_VERSION else base).append(labelled(manifest, ours))
        instances = own + [labelled(manifest, ours) for manifest in self._instances()]
        admission = [labelled(manifest, ours) for manifest in policies(kubectl)]
        self._refuse_strangers(base + admission)
        kubectl.apply(kinds + base)
        kubectl.run("wait", "--for=condition=Established", "crd", *(m["metadata"]["name"] for m in kinds))
        self._await_kinds(kubectl, kinds)
        kubectl.apply(admission)
        self._refuse_strangers(instances)
        kubectl.apply(instances)
        self._write_operator_kubeconfig(kubectl)
        await_admission(kubectl, admission, OPERATOR_NAMESPACE)
        runbooks = sum(manifest["kind"] == "ClusterRunbook" for manifest in instances)
        rules = sum(manifest["kind"].endswith("AdmissionPolicy") for manifest in admission)
        return f"{len(kinds)} kinds, {rules} admission policies, {runbooks} runbooks"

    def apply(self, manifests: list[Manifest]) -> bool:
        """Apply what a department of the shop needs, as this stack's; False where there is no cluster.

        Errors: KubectlError.
        """
        if not self.kubeconfig().exists():
            return False
        ours = [labelled(manifest, labels(self.state_dir)) for manifest in manifests]
        self._refuse_strangers([manifest for manifest in ours if "namespace" not in manifest["metadata"]])
        Kubectl(self.kubeconfig()).apply(ours)
        return True

    def _refuse_strangers(self, manifests: list[Manifest]) -> None:
        if isinstance(self._cluster, CurrentCluster):
            self._cluster.refuse_strangers(manifests)

    def _instances(self) -> list[Manifest]:
        """Return what can be applied only once our kinds are known."""
        if not self._with_shop:
            return kustomized(ROOT / "manifests/runbooks")
        # Tried there on a schedule; where there is no shop, nothing is known that they could be tried on.
        grant = documents((ROOT / "dev/shop/grant.yaml").read_text())
        return [_namespace(SHOP_NAMESPACE, SHOP_LABELS), *grant, *kustomized(ROOT / "manifests/dev/runbooks")]

    def _await_kinds(self, kubectl: Kubectl, kinds: list[Manifest]) -> None:
        """Wait until the API server really serves our kinds: "established" comes a moment earlier.

        Until it describes them, a responder's `kubectl apply` fails; until their caches are filled, lists and watches
        are answered 429.
        """
        (group,) = {f"apis/{kind['spec']['group']}/{kind['spec']['versions'][0]['name']}" for kind in kinds}
        names = [kind["spec"]["names"] for kind in kinds]

        def served() -> bool:
            if not all(self._cluster.answers(f"/{group}/{n['plural']}?resourceVersion=0&limit=1") for n in names):
                return False
            try:
                described = kubectl.run("get", "--raw", f"/openapi/v3/{group}")
            except KubectlError:
                return False
            return all(f'"{n["kind"]}"' in described for n in names)

        if not wait_until(served, seconds=30):
            raise StartError("the API server does not serve our kinds 30 s after they were established")

    def _write_operator_kubeconfig(self, kubectl: Kubectl) -> None:
        """Give the operator its ServiceAccount's token, unless it has one that works."""
        file = self.operator_kubeconfig
        if file.exists() and _works(Kubectl(file)):
            return
        token = kubectl.run("create", "token", OPERATOR, "-n", OPERATOR_NAMESPACE, f"--duration={TOKEN_DURATION}")
        cluster, _ = read_entries(self.kubeconfig())
        write_kubeconfig(file, cluster, {"token": token.strip()}, name=OPERATOR, namespace=OPERATOR_NAMESPACE)

    def _departments(self) -> list[Daemon]:
        """Return the processes that `make break` started."""
        return [daemon for daemon in recorded(self.state_dir) if daemon.name.startswith(SHOP_PROCESS)]

    # --- down, status, env ------------------------------------------------------------------------------------

    def down(self) -> list[str]:
        """End every process and forget all state but logs and ports; return the names of what ran."""
        if not self.state_dir.exists():
            return []
        with self._lock():
            return self._down()

    def _down(self) -> list[str]:
        ours = {"etcd", "kube-apiserver", "kube-controller-manager"}
        others = [daemon for daemon in recorded(self.state_dir) if daemon.name not in ours]
        # First who changes things, last what the others live on.
        others.sort(key=lambda d: (d.name != "operator", d.name == "aws"))
        ended = [daemon.name for daemon in others if daemon.stop()]
        if self._cluster.down():
            ended.append("control plane")
        runs = (self.state_dir / "runs").glob("*.yaml")  # of ids that are no more
        for file in (self.operator_kubeconfig, self.env_file, self.state_dir / "shop.json", self._mode_file, *runs):
            file.unlink(missing_ok=True)
        return ended

    def status(self) -> list[tuple[str, bool, str]]:
        """Return each part that should run: its name, whether it works, and where it is or what its log says."""
        rows = [("control plane", self._cluster.running(), self.server or "never started")]
        probes = {"aws": "aws_endpoint", "operator": "operator_url"}
        paths = {"aws": "/_sim/health", "operator": "/readyz"}
        known = {daemon.name: daemon for daemon in recorded(self.state_dir)}
        for name in ("aws", "traffic", "operator"):
            if name not in known:
                continue
            url = getattr(self, probes[name]) if name in probes else ""
            works = known[name].pid() is not None and (not url or answers(url + paths[name]))
            rows.append((name, works, f"{url}  {known[name].log}".strip()))
        rows += [(daemon.name, daemon.pid() is not None, str(daemon.log)) for daemon in self._departments()]
        return rows

    @property
    def env_file(self) -> Path:
        """The shell file that a program sources to reach the stack."""
        return self.state_dir / "env"

    def _write_env(self) -> None:
        values = {**self.aws_env("admin"), "KUBECONFIG": str(self.kubeconfig())}
        if self._with_operator:
            values["METRICS_URL"] = f"{self.operator_url}/metrics"
        write_private(self.env_file, env_text(values))

    # --- own state --------------------------------------------------------------------------------------------

    @property
    def _mode_file(self) -> Path:
        return self.state_dir / "stack.json"

    def _recorded_mode(self) -> str | None:
        return json.loads(self._mode_file.read_text())["cluster"] if self._mode_file.exists() else None

    def _lock(self) -> "contextlib.AbstractContextManager[None]":
        return file_lock(
            self.state_dir / "lock", waiting=lambda: self._say(f"waiting for another command on {self.state_dir}")
        )

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[Callable[[str], None]]:
        """Tell how long a part took, and what the body said of it."""
        began = time.monotonic()
        told = [""]
        yield lambda text: told.__setitem__(0, text)
        self._say(f"{time.monotonic() - began:6.1f} s  {part:24} {told[0]}")


#: Lets `python -m` find this checkout's packages, wherever it is started.
SOURCES: Mapping[str, str] = {"PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"}


def stamp(*places: str) -> str:
    """Return a hash of all Python sources under some paths of the checkout: a change makes what runs outdated."""
    digest = hashlib.sha256()
    for place in places:
        root = ROOT / place
        for file in [root] if root.is_file() else sorted(root.rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()


def env_text(values: Mapping[str, str]) -> str:
    """Return a shell file that sets these, and puts this environment's programs first on PATH."""
    programs = shlex.quote(str(Path(sys.executable).parent))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    return "\n".join(["# Written by `make up`; source it.", f"export PATH={programs}:$PATH", *lines, ""])


def _life(simulator: Daemon | None) -> str:
    """Return what changes when the simulator starts anew: sessions of its last life are worth nothing."""
    return str(simulator.pid()) if simulator else ""


def _namespace(name: str, labels: Mapping[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def _works(kubectl: Kubectl) -> bool:
    try:
        return kubectl.may("watch", "incidentruns", "ops.shopsmart.com")
    except KubectlError:
        return False


@click.group()
@click.option("--state-dir", type=click.Path(path_type=Path), default=ROOT / ".dev", show_default=".dev")
@click.option("--time-scale", default=20.0, show_default=True, help="Divides waits; 1 is real time.")
@click.option("--latency", default="0ms", show_default=True, help="Of each answer of the simulated AWS.")
@click.pass_context
def main(context: click.Context, state_dir: Path, time_scale: float, latency: str) -> None:
    """The stack on a laptop."""
    try:
        context.obj = Stack(state_dir, time_scale=time_scale, latency=latency)
    except FAILURES as error:
        raise click.ClickException(str(error)) from error


@main.command("up")
@click.pass_obj
def up_command(stack: Stack) -> None:
    """Start everything that does not run."""
    began = time.monotonic()
    try:
        stack.up()
    except FAILURES as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{time.monotonic() - began:6.1f} s  up. Next:\n{next_steps(stack)}")


@main.command("down")
@click.pass_obj
def down_command(stack: Stack) -> None:
    """End everything; nothing is left running."""
    try:
        ended = stack.down()
    except FAILURES as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@main.command("status")
@click.pass_obj
def status_command(stack: Stack) -> None:
    """Tell what runs and where; exit code 1 if something that should run does not."""
    rows = stack.status()
    for name, works, where in rows:
        click.echo(f"{name:16} {'running' if works else 'NOT RUNNING':12} {where}")
    sys.exit(0 if all(works for _, works, _ in rows) else 1)


@main.command("env")
@click.pass_obj
def env_command(stack: Stack) -> None:
    """Print what a program needs to reach the stack: eval "$(python -m dev.stack env)"."""
    if not stack.env_file.exists():
        raise click.ClickException("the stack is not up: run `make up`")
    click.echo(stack.env_file.read_text(), nl=False)


def next_steps(stack: Stack) -> str:
    """Return what a newcomer types next."""
    inside = stack.env_file.is_relative_to(Path.cwd())
    shown = shlex.quote(str(stack.env_file.relative_to(Path.cwd()) if inside else stack.env_file))
    return "\n".join(
        f"  {command:58} # {why}"
        for command, why in (
            (f"source {shown}", "kubectl, aws and kubectl incident find the stack"),
            ("make faults", "what can be broken"),
            ("make break FAULT=inc-2023-1247", "break it"),
            ("kubectl apply -f examples/incident-run.yaml", "let the operator look at it"),
            ("kubectl get irun -A -w", "watch it"),
            ("make down", "end everything"),
        )
    )


if __name__ == "__main__":
    main(prog_name="python -m dev.stack")
