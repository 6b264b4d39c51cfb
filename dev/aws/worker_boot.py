"""What runs a deployed handler, in a process of its own.

Imports the handler and writes the JSON frame `{"init": seconds}`. Then reads one JSON line per invocation, writes
`{"log": text}` as the handler prints, and `{"ok": value}` or `{"error": {...}}`.

Standard library only: what the bare interpreter has of memory is measured as this is imported.
"""

import importlib
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def data_bytes() -> int:
    """Return how much data this process has (Linux); 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("VmData"))


#: What the bare interpreter has; all else counts as the function's.
_BARE = data_bytes()


class Frames:
    """Where frames go; also stands in for stdout and stderr, a line per frame."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._rest = ""

    def send(self, **frame: Any) -> None:
        """Write one frame."""
        self._out.write(json.dumps(frame) + "\n")

    def write(self, text: str) -> int:
        """Take printed text."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self.send(log=line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines go out as they end."""

    def end_line(self) -> None:
        """Send what was printed without a newline."""
        if self._rest:
            self.send(log=self._rest)
            self._rest = ""


class Context:
    """The context object that a handler gets."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.aws_request_id = line["requestId"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.invoked_function_arn = line["arn"]
        self._deadline = line["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        """Return milliseconds until the function is killed."""
        return max(0, int((self._deadline - time.time()) * 1000))  # noqa: TID251 the handler's own clock


class LambdaFormat(logging.Formatter):
    """Log records as Lambda's Python runtime writes them."""

    request_id = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return `[LEVEL]<tab>time<tab>request id<tab>message`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        return f"[{record.levelname}]\t{stamp}\t{self.request_id}\t{record.getMessage()}"


def limit_memory(mebibytes: int) -> None:
    """Let the process have so much data more than the bare interpreter has."""
    limit = _BARE + mebibytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def described(error: BaseException) -> dict[str, Any]:
    """Return an error as the runtime reports it."""
    return {
        "errorMessage": str(error),
        "errorType": kind(error),
        "stackTrace": traceback.format_tb(error.__traceback__)[1:],
    }


class ImportModuleError(Exception):
    """The handler's module can't be imported."""


class HandlerNotFound(Exception):
    """The module has no such function."""


def loaded(handler: str) -> tuple[Any, BaseException | None]:
    """Return the handler, or why there is none: whoever invokes it is told."""
    module, _, name = handler.rpartition(".")
    try:
        return getattr(importlib.import_module(module.replace("/", ".")), name), None
    except ImportError as error:
        return None, ImportModuleError(f"Unable to import module '{module}': {error}")
    except AttributeError:
        return None, HandlerNotFound(f"Handler '{name}' missing on module '{module}'")
    except BaseException as error:
        return None, error


def kind(error: BaseException) -> str:
    """Return an error's type as the runtime names it."""
    own = isinstance(error, ImportModuleError | HandlerNotFound)
    return f"Runtime.{type(error).__name__}" if own else type(error).__name__


def main(
    folder: str, handler: str, memory: int, environment: Mapping[str, str], invocations: Connection, out: Connection
) -> None:
    """Serve invocations until there are no more. Units: memory in MiB."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    frames = Frames(os.dup(out.fileno()))
    os.dup2(2, 1)
    sys.stdout = sys.stderr = frames
    form = LambdaFormat()
    root = logging.StreamHandler(frames)
    root.setFormatter(form)
    logging.getLogger().addHandler(root)
    sys.path.insert(0, folder)
    os.chdir(folder)
    limit_memory(memory)
    started = time.monotonic()
    function, failed = loaded(handler)
    frames.end_line()
    frames.send(init=time.monotonic() - started)
    for text in os.fdopen(os.dup(invocations.fileno())):
        line = json.loads(text)
        form.request_id = line["requestId"]
        try:
            if failed is not None:
                raise failed
            value = function(line["event"], Context(line))
            answer = {"ok": value, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            json.dumps(answer)
        except MemoryError:
            # Lambda's sandbox kills a function that wants more than it has: nothing of it is heard any more.
            os.kill(os.getpid(), signal.SIGKILL)
        except BaseException as error:
            answer = {"error": described(error), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            shown = "".join(answer["error"]["stackTrace"]).rstrip("\n")
            frames.end_line()
            frames.send(log=f"[ERROR] {kind(error)}: {error}\nTraceback (most recent call last):\n{shown}")
        frames.end_line()
        frames.send(**answer)
