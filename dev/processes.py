"""Long-lived child processes that outlive the command that started them.

A `Daemon` is a process in its own group, with a log file and a pid file. A pid alone does not name a process: the
file also holds when it started, so a reused pid is never taken for ours, nor killed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 15

#: Children of this process by pid: they must be reaped here, or they stay zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


class StartError(RuntimeError):
    """A process did not become ready; the message holds its last log lines."""


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = POLL_SECONDS) -> bool:
    """Return whether `condition` became true within `seconds`, asked every so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def started_at(pid: int) -> str | None:
    """Return an opaque mark of when `pid` started; None when there is no such live process.

    Shape: comparable for equality only. A zombie counts as gone.
    """
    if child := _children.get(pid):
        child.poll()
    proc = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command, in parentheses, may hold anything: fields are counted after the last one.
            fields = proc.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, mark = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else mark.strip()


def _group_alive(pgid: int) -> bool:
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        try:
            os.killpg(pgid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX" and int(fields[2]) == pgid:
                    return True
    return False


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log, indented; a note when there are none."""
    text = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"    {line[:400]}" for line in text[-lines:]) or "    (the log is empty)"


def inherited() -> dict[str, str]:
    """Return the caller's environment without what would lead a part to the caller's own cloud or cluster."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and k != "KUBECONFIG"}


@dataclass(kw_only=True)
class Daemon:
    """One background process. Shape: `state_dir` gets run/<name>.json and logs/<name>.log.

    `env` comes on top of `inherited()`; `stamp` is whatever else makes one that runs outdated, like its sources.
    """

    name: str
    command: Sequence[str]
    state_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stamp: str = ""

    @property
    def log(self) -> Path:
        """Where stdout and stderr go."""
        return self.state_dir / "logs" / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.state_dir / "run" / f"{self.name}.json"

    def pid(self) -> int | None:
        """Return the pid of the running process; None when it does not run."""
        record = self._record()
        return record[0] if record and started_at(record[0]) == record[1] else None

    def is_current(self) -> bool:
        """Tell whether it runs with this very command, environment and stamp."""
        return self.pid() is not None and self._read().get("fingerprint") == self._fingerprint

    @property
    def _fingerprint(self) -> str:
        """What the process is started with, hashed: the environment may hold credentials."""
        whole = json.dumps([list(self.command), sorted(self.env.items()), self.stamp])
        return hashlib.sha256(whole.encode()).hexdigest()

    def _read(self) -> dict[str, Any]:
        try:
            record = json.loads(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _record(self) -> tuple[int, str] | None:
        record = self._read()
        return (int(record["pid"]), str(record["startedAt"])) if "pid" in record else None

    def start(self) -> bool:
        """Start the process unless it runs as it should; return whether it was started.

        One that runs but is not current is ended first.
        """
        if self.is_current():
            return False
        self.stop()
        for folder in (self.log.parent, self._pid_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited(), **self.env},
                start_new_session=True,
            )
        _children[child.pid] = child
        mark = started_at(child.pid)
        written = self._pid_file.with_suffix(".tmp")
        record = {"pid": child.pid, "startedAt": mark, "command": list(self.command), "fingerprint": self._fingerprint}
        written.write_text(json.dumps(record))
        written.replace(self._pid_file)
        return True

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready()`.

        Errors: StartError when the process ended or time ran out, with its last log lines.
        """
        ended = False

        def settled() -> bool:
            nonlocal ended
            if ready():
                return True
            ended = self.pid() is None
            return ended

        in_time = wait_until(settled, seconds=seconds)
        if in_time and not ended:
            return
        why = "ended" if ended else f"was not ready within {seconds:.0f} s"
        self.stop()
        raise StartError(f"{self.name} {why}. Its last log lines ({self.log}):\n{tail(self.log)}")

    def stop(self, *, seconds: float = 10.0) -> bool:
        """End the process and its whole group; return whether there was anything to end."""
        record = self._record()
        if record is None:
            return False
        pid, mark = record
        alive = started_at(pid)
        # Its group may outlive the leader; a pid now in other hands is not ours to signal.
        ours = alive == mark or (alive is None and _group_alive(pid))
        if ours:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            if not wait_until(lambda: started_at(pid) is None and not _group_alive(pid), seconds=seconds):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                wait_until(lambda: not _group_alive(pid), seconds=5)
            if child := _children.pop(pid, None):
                child.wait()
        self._pid_file.unlink(missing_ok=True)
        return ours


def run_to_end(command: Sequence[str], *, env: Mapping[str, str], timeout: float) -> str:
    """Run a command and return the last line it printed.

    Errors: StartError with its last lines when it fails or takes longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            env={**inherited(), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"{' '.join(command)} did not end within {timeout:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        shown = "\n".join(f"    {line[:400]}" for line in lines[-LOG_TAIL_LINES:])
        raise StartError(f"{' '.join(command)} failed (exit {done.returncode}):\n{shown}")
    return lines[-1] if lines else ""


def recorded(state_dir: Path) -> list[Daemon]:
    """Return what was ever started in this state directory and not stopped, whether it still runs or not."""
    return [
        Daemon(name=file.stem, command=json.loads(file.read_text())["command"], state_dir=state_dir)
        for file in sorted((state_dir / "run").glob("*.json"))
    ]


@contextlib.contextmanager
def file_lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock among processes; `waiting` is called once if somebody else holds it.

    The kernel drops the lock with its holder, so a crash leaves nothing stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
