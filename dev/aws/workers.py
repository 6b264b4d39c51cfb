"""Processes that run deployed functions: one kept warm per function and version, more only while all are busy.

A worker is killed when its time is up, when it has been idle, and when its function has changed.
"""

import io
import json
import multiprocessing
import os
import select
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from . import worker_boot

_IDLE_SECONDS = 120.0
#: More warm processes than this cost more memory than they save time.
_WARM = 12
#: What importing a handler may take: it does not count against the function's timeout, as in Lambda.
_INIT_SECONDS = 10.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["dev.aws.worker_warm"])


def start_forkserver() -> None:
    """Start the process that all others are forked from: a cold start then imports nothing but the handler."""
    os.environ["MALLOC_ARENA_MAX"] = "1"  # what a function may have of memory is counted, not what threads reserve
    forkserver.ensure_running()


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A version of a function as it is to be run. Shape: two that are equal may share a process."""

    arn: str
    version: str
    handler: str
    code: bytes
    environment: tuple[tuple[str, str], ...]
    timeout: float
    memory: int
    role: str

    @property
    def key(self) -> str:
        """What a warm process is kept by."""
        return f"{self.arn}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run ended. Shape: exactly one of `value` with `error` None, or `error`. Units: seconds, MiB."""

    value: Any
    error: Mapping[str, Any] | None
    timed_out: bool
    lines: tuple[str, ...]
    seconds: float
    init_seconds: float | None
    peak_memory: int
    stream: str


class _Worker:
    """One process. Shape: for one invocation at a time."""

    def __init__(self, deployment: Deployment, environment: Mapping[str, str], scratch: Path, stream: str) -> None:
        self.deployment, self.stream = deployment, stream
        self.idle_since = time.monotonic()
        self._started = False
        self._folder = Path(tempfile.mkdtemp(prefix="code-", dir=scratch))
        with zipfile.ZipFile(io.BytesIO(deployment.code)) as archive:
            archive.extractall(self._folder)
        invocations, self._invocations = _context.Pipe(duplex=False)
        self._frames, frames = _context.Pipe(duplex=False)
        arguments = (str(self._folder), deployment.handler, deployment.memory, dict(environment), invocations, frames)
        self._process = _context.Process(target=worker_boot.main, args=arguments, daemon=True)
        self._process.start()
        invocations.close()
        frames.close()
        self._buffer = b""

    def run(self, line: Mapping[str, Any], timeout: float) -> Outcome:
        """Run one invocation. Shape: after an outcome that is not clean the worker is dead."""
        lines: list[str] = []
        init = None
        if not self._started:
            first = self._until("init", lines, _INIT_SECONDS)
            init = first["init"] if first else None
            self._started = True
        begun = time.monotonic()
        answer = self._until("peak", lines, timeout) if self._tell(line) else None
        seconds = time.monotonic() - begun
        error = (answer or {}).get("error")
        timed_out = answer is None and self.alive
        if answer is None:
            self.kill()
            error = _ended(str(line["requestId"]), timed_out, timeout)
        self.idle_since = time.monotonic()
        return Outcome(
            value=(answer or {}).get("ok"),
            error=error,
            timed_out=timed_out,
            lines=tuple(lines),
            seconds=min(seconds, timeout) if timed_out else seconds,
            init_seconds=init,
            # Who was killed for memory had used all of it.
            peak_memory=int((answer or {}).get("peak", self.deployment.memory * 1024)) // 1024,
            stream=self.stream,
        )

    def _tell(self, line: Mapping[str, Any]) -> bool:
        """Hand over an invocation; False when the process has died."""
        text = json.dumps(line).encode() + b"\n"
        try:
            while text:
                text = text[os.write(self._invocations.fileno(), text) :]
        except BrokenPipeError:
            return False
        return True

    def _until(self, member: str, lines: list[str], seconds: float) -> dict[str, Any] | None:
        """Return the next frame with a member, collecting log lines; None when time is up or the process has ended."""
        limit = time.monotonic() + seconds
        while (frame := self._frame(limit)) is not None:
            if "log" in frame:
                lines.append(frame["log"])
            elif member in frame:
                return frame
        return None

    def _frame(self, limit: float) -> dict[str, Any] | None:
        """Return the next frame; None when time is up or the process has ended."""
        descriptor = self._frames.fileno()
        while b"\n" not in self._buffer:
            left = limit - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            read = os.read(descriptor, 1 << 16)
            if not read:
                self._process.join()
                return None
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\n")
        frame: dict[str, Any] = json.loads(text)
        return frame

    @property
    def alive(self) -> bool:
        """Whether it can take another invocation."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process and remove its code."""
        self._process.kill()
        self._process.join()
        self._invocations.close()
        self._frames.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _ended(request: str, timed_out: bool, timeout: float) -> dict[str, Any]:
    if timed_out:
        message = f"RequestId: {request} Error: Task timed out after {timeout:.2f} seconds"
        return {"errorType": "Sandbox.Timedout", "errorMessage": message}
    message = f"RequestId: {request} Error: Runtime exited with error: signal: killed"
    return {"errorType": "Runtime.ExitError", "errorMessage": message}


@dataclass(kw_only=True)
class Workers:
    """All worker processes. Thread-safe. Shape: `environment_of` returns what a fresh process gets."""

    scratch: Path
    environment_of: Callable[[Deployment, str], Mapping[str, str]]
    _idle: dict[str, _Worker] = field(default_factory=dict)
    _all: set[_Worker] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, deployment: Deployment, stream: str, line: Mapping[str, Any]) -> Outcome:
        """Run one invocation on the warm worker, else on a fresh one."""
        worker = self._take(deployment) or self._start(deployment, stream)
        try:
            outcome = worker.run(line, deployment.timeout)
        except BaseException:
            self._end(worker)
            raise
        if worker.alive:
            self._give_back(worker)
        else:
            self._end(worker)
        return outcome

    def _take(self, deployment: Deployment) -> _Worker | None:
        with self._lock:
            worker = self._idle.pop(deployment.key, None)
        if worker is None:
            return None
        if worker.alive and worker.deployment == deployment:
            return worker
        self._end(worker)
        return None

    def _start(self, deployment: Deployment, stream: str) -> _Worker:
        worker = _Worker(deployment, self.environment_of(deployment, stream), self.scratch, stream)
        with self._lock:
            self._all.add(worker)
        return worker

    def _give_back(self, worker: _Worker) -> None:
        """Keep a worker warm; end the one it makes superfluous, or the one used longest ago."""
        with self._lock:
            ended = self._idle.pop(worker.deployment.key, None)
            self._idle[worker.deployment.key] = worker
            if len(self._idle) > _WARM:
                ended = self._idle.pop(next(iter(self._idle)))
        if ended is not None:
            self._end(ended)

    def _end(self, worker: _Worker) -> None:
        worker.kill()
        with self._lock:
            self._all.discard(worker)

    def reap(self) -> None:
        """End workers that have been idle too long."""
        now = time.monotonic()
        with self._lock:
            old = [key for key, worker in self._idle.items() if now - worker.idle_since > _IDLE_SECONDS]
            ended = [self._idle.pop(key) for key in old]
        for worker in ended:
            self._end(worker)

    def close(self) -> None:
        """End all."""
        with self._lock:
            workers, self._idle = list(self._all), {}
        for worker in workers:
            self._end(worker)
