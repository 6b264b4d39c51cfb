"""Where the bench runs: its own stack, namespaces, and operators that are started as a Deployment would start them."""

import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.controlplane.kubectl import Kubectl
from dev.loopback import ROOT, free_ports
from dev.operators import resources
from dev.processes import Daemon, StartError, recorded, tail, wait_until
from dev.stack import OPERATOR_NAMESPACE, Stack

STATE = ROOT / ".dev/bench"
TIME_SCALE = 20.0
Say = Callable[[str], None]
#: CPU seconds of an idle second.
_IDLE = 0.05


@dataclass(frozen=True, kw_only=True)
class Place:
    """A state directory and who is told of progress."""

    state: Path = STATE
    say: Say = lambda _: None

    def stack(self, *, shop: bool, latency: str = "0ms") -> Stack:
        """Return the bench's stack, up, without an operator; the simulated AWS comes with the shop."""
        return self._stack(shop=shop, latency=latency).up()

    def _stack(self, *, shop: bool, latency: str = "0ms") -> Stack:
        return Stack(
            self.state,
            operator=False,
            shop=shop,
            aws=shop,
            time_scale=TIME_SCALE,
            latency=latency,
            cluster="own",
            say=lambda text: self.say(text.strip()),
        )

    def down(self) -> None:
        """End everything and forget what was stored."""
        self._stack(shop=False).down()

    def end(self, name: str) -> None:
        """End one process of the stack, if it runs."""
        for daemon in recorded(self.state):
            if daemon.name == name:
                daemon.stop()

    def pid(self, name: str) -> int:
        """Return the pid of a process of the stack. Errors: LookupError."""
        pid = Daemon(name=name, command=(), state_dir=self.state).pid()
        if pid is None:
            raise LookupError(f"{name} does not run in {self.state}")
        return pid


def a_namespace(stack: Stack, labels: Mapping[str, str]) -> str:
    """Make a namespace and return its name. It goes with the stack: deleting it would disturb what is measured next."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    Kubectl(stack.kubeconfig()).apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}]
    )
    return name


class Operator:
    """One operator process for one namespace, started with the interpreter, as in production."""

    def __init__(self, stack: Stack, namespace: str, *options: str) -> None:
        (port,) = free_ports(stack.address, 1)
        self._http = f"{stack.address}:{port}"
        arguments = [
            "--namespaces",
            namespace,
            "--operator-namespace",
            OPERATOR_NAMESPACE,
            "--http-address",
            self._http,
        ]
        self._daemon = Daemon(
            name="operator",
            command=[
                *(sys.executable, "-m", "incident_operator", "run", *arguments),
                *("--time-scale", f"{TIME_SCALE:g}", "--log-level", "WARNING", *options),
            ],
            state_dir=stack.state_dir,
            # Compiled once and for all, as an image is, whatever the caller's environment says.
            env={
                **stack.operator_env(),
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(stack.state_dir / "pycache"),
            },
        )

    @property
    def pid(self) -> int:
        """The process id. Errors: StartError with its last log lines when it does not run."""
        pid = self._daemon.pid()
        if pid is None:
            raise StartError(f"the operator ended. Its last log lines:\n{tail(self._daemon.log)}")
        return pid

    def __enter__(self) -> "Operator":
        self._daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop(seconds=15)

    def metrics(self) -> dict[str, float]:
        """Return its metrics by name and labels, as Prometheus writes them; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self._http}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("incident_operator_"): float(value) for name, _, value in lines}

    def metric(self, name: str) -> float:
        """Return one metric, named without the operator's prefix. Errors: KeyError."""
        return self.metrics()[name]

    def until(
        self, condition: Callable[[dict[str, float]], bool], what: str, *, seconds: float, every: float = 0.05
    ) -> None:
        """Wait until the metrics meet a condition. Errors: StartError that names what was waited for."""

        def met() -> bool:
            found = self.metrics()
            return (bool(found) and condition(found)) or self._daemon.pid() is None

        in_time = wait_until(met, seconds=seconds, every=every)
        if not in_time or self._daemon.pid() is None:
            raise StartError(f"{what}: not within {seconds:g} s. Its last log lines:\n{tail(self._daemon.log)}")

    def leading(self) -> "Operator":
        """Wait until it leads and knows everything."""
        self.until(lambda m: m.get("leader") == 1.0, "the operator leads", seconds=30)
        return self

    def idle(self) -> "Operator":
        """Wait until it has nothing to do. Errors: StartError.

        That is a second with less than 5 % of a processor, in which nothing is queued and the watches bring nothing: a
        machine that is busy with others gives it little to use, too.
        """

        def news() -> float:
            found = self.metrics()
            return sum(value for name, value in found.items() if name.startswith("watch_events_total"))

        def rests() -> bool:
            (before, _), heard = self.usage, news()
            time.sleep(1)
            return self.usage[0] - before < _IDLE and news() == heard > 0 and self.metric("queue_depth") == 0

        if not wait_until(rests, seconds=60):
            raise StartError(
                f"the operator is still busy after a minute. Its last log lines:\n{tail(self._daemon.log)}"
            )
        return self

    @property
    def usage(self) -> tuple[float, float]:
        """CPU seconds so far and resident MiB now."""
        seconds, memory = resources(self.pid)
        return seconds, memory / 2**20

    @property
    def peak(self) -> float:
        """The largest resident memory so far, in MiB (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise LookupError("the kernel does not tell the peak memory")
