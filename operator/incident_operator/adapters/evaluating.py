"""The child of `adapters.evaluator`: evaluates batches from standard input within limits. It loads little."""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ..core.expressions import ExpressionError, Scope, evaluate, render

MEMORY_BYTES = 1 << 30
#: CPU time that one batch may take: on a machine with other things to do it is given longer, not refused.
BATCH_SECONDS = 5.0
#: What CEL says of an expression that iterates too often.
_OWN_LIMIT = "Iteration budget exceeded"


def _answer(job: Mapping[str, Any], scope: Scope, variables: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if "expression" in job:
            return {"value": evaluate(job["expression"], scope, variables)}
        return {"value": render(job["template"], scope, variables)}
    except ExpressionError as error:
        return {"beyond": True} if _OWN_LIMIT in error.message else {"error": error.message}
    except MemoryError:
        return {"beyond": True}


def serve() -> None:
    """Answer batches from standard input until it ends: the child's side."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin.buffer:
        # Ends this process, even where CEL holds the interpreter.
        signal.setitimer(signal.ITIMER_PROF, BATCH_SECONDS)
        batch = json.loads(line)
        answers = [_answer(job, batch["scope"], batch["variables"]) for job in batch["jobs"]]
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps({"batch": batch["batch"], "answers": answers}).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
