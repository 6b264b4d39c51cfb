"""Operators as real processes, started in milliseconds: forked from a parent that has imported everything once."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from dev.processes import StartError, tail, wait_until

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["dev.operator_warm"])


def _serve(arguments: Sequence[str], env: Mapping[str, str], log: str) -> None:
    os.environ.update(env)
    os.setsid()
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from incident_operator.__main__ import main

    main([*arguments], prog_name="incident-operator")


#: Before an operator that ended is started again. Seconds.
RESTART_AFTER = 0.2


class OperatorProcess:
    """One operator. Shape: `arguments` are those of `incident-operator run`; the environment names its servers.

    Like a Deployment's, it is started again whenever it ends, until `stop`: an operator ends itself when it loses its
    Lease, which a busy machine can bring about at any time. Each start has an identity of its own.
    """

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path, http: str) -> None:
        self._arguments = ("run", *arguments, "--http-address", http)
        self._env, self.log, self.http = dict(env), log, http
        self._process: ForkServerProcess | None = None
        self._stopping = threading.Event()
        self._keeping: threading.Thread | None = None
        #: Whether another is started in the place of one that ended.
        self.restarts = True
        #: How often it was started.
        self.starts = 0
        #: How each of its processes ended: an exit code, or a signal's number below 0.
        self.ends: list[int | None] = []

    @property
    def pid(self) -> int:
        """The process id. Errors: RuntimeError when it was never started."""
        if self._process is None or self._process.pid is None:
            raise RuntimeError("the operator was not started")
        return self._process.pid

    @property
    def identity(self) -> str:
        """The name of the process that runs now, as the Lease has it."""
        return f"{self.log.stem}-{self.starts}"

    def start(self) -> "OperatorProcess":
        """Start it, again after its end; does not wait until it leads."""
        self._stopping.clear()
        self._start_once()
        self._keeping = threading.Thread(target=self._keep, name="keep-operator", daemon=True)
        self._keeping.start()
        return self

    def _start_once(self) -> None:
        self.starts += 1
        arguments = (*self._arguments, "--identity", self.identity)
        self._process = _context.Process(target=_serve, args=(arguments, self._env, str(self.log)), daemon=True)
        self._process.start()

    def _keep(self) -> None:
        while self._process is not None:
            self._process.join()
            self.ends.append(self._process.exitcode)
            if not self.restarts or self._stopping.wait(RESTART_AFTER):
                return
            self._start_once()

    def wait_leading(self, seconds: float = 20.0) -> "OperatorProcess":
        """Wait until it leads and knows everything. Errors: StartError with its last log lines."""
        if not wait_until(lambda: self.metric("incident_operator_leader") == 1.0, seconds=seconds):
            raise StartError(f"the operator does not lead after {seconds:g} s:\n{tail(self.log)}")
        return self

    def metric(self, name: str) -> float | None:
        """Return one metric without labels; None while the operator does not answer."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.http}/metrics", timeout=2) as answer:
            for line in answer.read().decode().splitlines():
                if line.split(" ")[0] == name:
                    return float(line.split(" ")[1])
        return None

    def ready(self) -> bool:
        """Tell whether it says that it is ready."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        """End it at once; another is started in its place."""
        self.signal(signal.SIGKILL)

    def lose(self) -> None:
        """End it at once and for good, as a lost machine would."""
        self.restarts = False
        self.kill()

    def leave(self) -> None:
        """Ask it to end, as a rollout does, without waiting; no other is started in its place."""
        self.restarts = False
        self.signal(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still, as a frozen machine would."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended hears nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, seconds: float = 15.0) -> None:
        """Ask it to end and wait; kill it when it takes too long."""
        self._stopping.set()
        if self._process is None or self._keeping is None:
            return
        if self._process.is_alive():
            self._process.terminate()
            self.resume()  # one that stands still hears nothing
        self._keeping.join(seconds)
        if self._process.is_alive():
            self.kill()
        self._keeping.join(5)

    def __enter__(self) -> "OperatorProcess":
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()


def resources(pid: int) -> tuple[float, int]:
    """Return CPU seconds used so far and the resident memory now, in bytes, of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def now() -> float:
    """Monotonic seconds, for measuring."""
    return time.monotonic()
