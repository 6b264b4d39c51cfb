"""Keeps one program running, as a Deployment would: restarts it with backoff and says why it ended.

usage: python -m dev.supervisor -- PROGRAM [ARGUMENT...]

The operator ends itself on a lost Lease and on long trouble with the API server; on a laptop nobody else restarts it.
SIGTERM and SIGINT are passed on, and the supervisor ends with the program.
"""

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
#: A program that lived this long starts its backoff anew. Seconds.
STEADY = 30.0
TAIL_LINES = 15


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before the restart after `attempt` quick ends in a row (1 is the first)."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))


class Supervisor:
    """Runs `command` again and again until it is told to stop."""

    def __init__(self, command: Sequence[str], say: Callable[[str], None]) -> None:
        self._command, self._say = command, say
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None

    def stop(self, *_: int | FrameType | None) -> None:
        """Pass a request to end on to the program, and start it no more."""
        self._stopping.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def run(self) -> int:
        """Keep the program running until `stop`; return its last exit code. Errors: OSError if it cannot be run."""
        quick_ends = 0
        while True:
            began = time.monotonic()
            code, last = self._run_once()
            lived = time.monotonic() - began
            if self._stopping.is_set():
                return max(code, 0)
            quick_ends = 1 if lived >= STEADY else quick_ends + 1
            pause = pause_before(quick_ends)
            self._say(f"supervisor: {_how(code)} after {lived:.1f} s; again in {pause:.1f} s. Its last lines:")
            for line in last or ["(it said nothing)"]:
                self._say(f"supervisor:   | {line}")
            if self._stopping.wait(pause):
                return max(code, 0)

    def _run_once(self) -> tuple[int, list[str]]:
        """Run the program to its end, its output passing through; return exit code and last lines."""
        last: deque[str] = deque(maxlen=TAIL_LINES)
        with subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as child:
            self._child = child
            if self._stopping.is_set():  # asked to end between the loop's look and the start
                child.terminate()
            for line in child.stdout or ():
                last.append(line.rstrip())
                self._say(line.rstrip())
        return child.returncode, list(last)


def _how(code: int) -> str:
    """Return how a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def main(arguments: Sequence[str]) -> int:
    """Supervise the program that stands after `--`."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    supervisor = Supervisor(command, lambda line: print(line, flush=True))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
