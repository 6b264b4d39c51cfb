"""One control plane of this checkout's own: etcd, kube-apiserver, kube-controller-manager on loopback.

No kubelet and no scheduler: pods never run, everything that is API works, and garbage collection, namespaces and
service accounts are the real ones. What it stores is gone with `down`.
"""

import csv
import datetime as dt
import io
import json
import secrets
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dev.loopback import PortBook, address
from dev.processes import Daemon, StartError

from .build import binaries, to_stderr
from .certificates import write_certificates, write_private
from .kubeconfig import cluster_entry, write_kubeconfig

ADMIN = "admin"
#: People by name with their groups. The admin passes every authorizer check: never a person in a test.
PEOPLE: dict[str, tuple[str, ...]] = {
    ADMIN: ("system:masters",),
    "alice": ("responders",),
    "bob": ("responders",),
    "carol": ("responders",),
    "mallory": (),
}
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
)
START_SECONDS = 60.0
#: What is stored goes with it, and with watches open an API server takes its time.
STOP_SECONDS = 1.5
#: One line for each request when it was answered, and for a watch one more when it begins (ResponseStarted).
AUDIT_POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}


class Cluster:
    """A control plane whose files are in `state_dir`. Not for two processes at once: the stack holds a lock.

    Shape: `audited` names the group whose requests are kept in `audit_log`; None keeps nobody's.
    """

    def __init__(
        self,
        state_dir: Path,
        say: Callable[[str], None] = to_stderr,
        namespace: str = "default",
        audited: str | None = None,
    ) -> None:
        self._dir = state_dir.resolve()
        self._audited = audited
        self._say = say
        self._namespace = namespace
        self.address = address()
        self._ports = PortBook(self._dir / "ports.json", self.address)
        self._pki = self._dir / "pki"
        self._etcd_data = self._dir / "etcd"

    def kubeconfig(self, name: str = ADMIN) -> Path:
        """Return where the kubeconfig of one of PEOPLE is."""
        return self._dir / f"kubeconfig-{name}"

    @property
    def audit_log(self) -> Path:
        """Where each request of the audited group is one JSON line, without bodies. It goes with what is stored."""
        return self._dir / "audit.jsonl"

    @property
    def server(self) -> str | None:
        """Return the address of the API server; None before the first start."""
        port = self._ports.recorded("apiserver")
        return f"https://{self.address}:{port}" if port else None

    def daemons(self) -> list[Daemon]:
        """Return the three processes in the order in which they start, as far as they are known."""
        return [
            Daemon(name=n, command=(), state_dir=self._dir)
            for n in ("etcd", "kube-apiserver", "kube-controller-manager")
        ]

    def running(self) -> bool:
        """Tell whether all three processes run."""
        return all(daemon.pid() is not None for daemon in self.daemons())

    def up(self) -> bool:
        """Start what does not run and wait until it can be used; return whether anything was started.

        Errors: BuildError, StartError with the last log lines of what failed; then nothing is left running.
        """
        if self.running() and self.answers("/readyz"):
            return False
        folder = binaries(self._say)
        try:
            self._start(folder)
        except (StartError, OSError):
            self._stop()
            raise
        return True

    def _start(self, folder: Path) -> None:
        self._write_credentials()
        etcd, apiserver, manager = self.daemons()
        client, peer = self._ports.take("etcd", "etcd-peer", running=etcd.pid() is not None)
        (port,) = self._ports.take("apiserver", running=apiserver.pid() is not None)
        for name in PEOPLE:
            self._write_kubeconfig(name, port)
        etcd.command = self._etcd_command(folder, client, peer)
        etcd.start()
        apiserver.command = self._apiserver_command(folder, client, port)
        apiserver.start()
        etcd.wait_ready(lambda: answers(f"http://{self.address}:{client}/health"), seconds=START_SECONDS)
        apiserver.wait_ready(lambda: self.answers("/readyz"), seconds=START_SECONDS)
        manager.command = self._manager_command(folder)
        manager.start()
        # Its port is closed; that its controllers work shows in what they make.
        manager.wait_ready(
            lambda: self.answers("/api/v1/namespaces/default/serviceaccounts/default"), seconds=START_SECONDS
        )

    def _etcd_command(self, folder: Path, client: int, peer: int) -> Sequence[str]:
        serve, speak = (f"http://{self.address}:{port}" for port in (client, peer))
        return (
            str(folder / "etcd"),
            f"--data-dir={self._etcd_data}",
            f"--listen-client-urls={serve}",
            f"--advertise-client-urls={serve}",
            f"--listen-peer-urls={speak}",
            f"--initial-advertise-peer-urls={speak}",
            f"--initial-cluster=default={speak}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _apiserver_command(self, folder: Path, etcd: int, port: int) -> Sequence[str]:
        return (
            str(folder / "kube-apiserver"),
            f"--etcd-servers=http://{self.address}:{etcd}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={port}",
            # No node ever asks for the service "kubernetes", and a loopback address is no valid endpoint.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._pki / 'server.crt'}",
            f"--tls-private-key-file={self._pki / 'server.key'}",
            f"--cert-dir={self._pki}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._pki / 'sa.key'}",
            f"--service-account-signing-key-file={self._pki / 'sa.key'}",
            f"--token-auth-file={self._tokens}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--shutdown-delay-duration=0s",
            *self._audit_options(),
        )

    def _audit_options(self) -> Sequence[str]:
        """Return the flags that keep the audited group's requests, each before it is answered."""
        if self._audited is None:
            return ()
        policy = self._dir / "audit-policy.json"
        rules = [{"level": "Metadata", "userGroups": [self._audited]}, {"level": "None"}]
        policy.write_text(json.dumps({**AUDIT_POLICY, "rules": rules}))
        return (
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=1024",  # megabytes: never rotated, one file tells all
        )

    def _manager_command(self, folder: Path) -> Sequence[str]:
        return (
            str(folder / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig()}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self._pki / 'sa.key'}",
            # As clusters do: admission knows the garbage collector from the admin.
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )

    @property
    def _tokens(self) -> Path:
        return self._pki / "tokens.csv"

    def _write_credentials(self) -> None:
        """Write keys, certificates and tokens where there are none: they live as long as what etcd stores."""
        if not (self._pki / "ca.crt").exists():
            write_certificates(self._pki, self.address, dt.datetime.now(dt.UTC))  # noqa: TID251 (no decision: TLS)
        if not self._tokens.exists():
            rows = io.StringIO()
            for uid, (name, groups) in enumerate(PEOPLE.items(), 1):
                csv.writer(rows).writerow([secrets.token_urlsafe(32), name, f"dev-{uid}", ",".join(groups)])
            write_private(self._tokens, rows.getvalue())

    def token(self, name: str) -> str:
        """Return a person's bearer token. Errors: KeyError for an unknown name."""
        with self._tokens.open(newline="") as file:
            return {row[1]: row[0] for row in csv.reader(file)}[name]

    def _write_kubeconfig(self, name: str, port: int) -> None:
        cluster = cluster_entry(f"https://{self.address}:{port}", self._pki / "ca.crt")
        user = {"token": self.token(name)}
        write_kubeconfig(self.kubeconfig(name), cluster, user, name=name, namespace=self._namespace)

    def answers(self, path: str) -> bool:
        """Tell whether the API server answers a GET of the admin's with success."""
        if self.server is None or not self._tokens.exists():
            return False
        headers = {"Authorization": f"Bearer {self.token(ADMIN)}"}
        return answers(self.server + path, headers=headers, authority=self._pki / "ca.crt")

    def _stop(self) -> bool:
        # Clients first: each would only log that its server is gone.
        return any([daemon.stop(seconds=STOP_SECONDS) for daemon in reversed(self.daemons())])

    def down(self) -> bool:
        """End every process and forget what was stored; return whether anything ran. The logs stay."""
        ran = self._stop()
        for folder in (self._etcd_data, self._pki):
            shutil.rmtree(folder, ignore_errors=True)
        self.audit_log.unlink(missing_ok=True)
        for name in PEOPLE:
            self.kubeconfig(name).unlink(missing_ok=True)
        return ran


def fetch(url: str, *, headers: dict[str, str] | None = None, authority: Path | None = None) -> Any:
    """Return the JSON (or text) that a GET answers, past any proxy of the environment's.

    Errors: OSError (urllib's are of that kind) for anything but success.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if authority is not None:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority))))
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 (our own addresses)
    with urllib.request.build_opener(*handlers).open(request, timeout=5) as answer:
        text = answer.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def answers(url: str, *, headers: dict[str, str] | None = None, authority: Path | None = None) -> bool:
    """Tell whether a GET answers with success."""
    try:
        fetch(url, headers=headers, authority=authority)
    except OSError:
        return False
    return True
