"""Evaluate expressions in a child process with limits on memory and time.

CEL has no memory limit of its own and holds the interpreter while it runs, so a hostile or careless expression is
contained where it can be killed: the child dies, its batch fails with a reason, and the operator goes on.
One batch is one round trip: a JSON line in, a JSON line out, with the number of the batch that it answers. A child that
owes an answer nobody waits for any more is ended: the next batch would be given it.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.expressions import Scope, has_template

log = logging.getLogger(__name__)

#: The child's program.
_CHILD = f"{__package__}.evaluating"
#: Real: when a child, also one that has only been started, counts as hung.
HUNG_AFTER = 60.0
_LINE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A value, or why there is none. Shape: `error` is empty exactly when `value` counts."""

    value: Any = None
    error: str = ""


class Evaluator:
    """One child, started when first needed and replaced when it dies."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._batches = 0
        #: How often a child had to be replaced.
        self.restarts = 0

    async def expressions(
        self, sources: Sequence[str], scope: Scope, variables: Mapping[str, Any], *, owner: str
    ) -> list[Answer]:
        """Evaluate expressions over the same variables. `owner` names the runbook in what is said of a failure."""
        return await self._batch([{"expression": source} for source in sources], scope, variables, owner)

    async def render(self, template: Any, scope: Scope, variables: Mapping[str, Any], *, owner: str) -> Answer:
        """Render a JSON template; one without `${` costs nothing."""
        if not has_template(template):
            return Answer(value=template)
        return (await self._batch([{"template": template}], scope, variables, owner))[0]

    async def _batch(
        self, jobs: list[dict[str, Any]], scope: Scope, variables: Mapping[str, Any], owner: str
    ) -> list[Answer]:
        async with self._lock:
            self._batches += 1
            batch = {"batch": self._batches, "jobs": jobs, "scope": scope, "variables": dict(variables)}
            answers = await self._answered(batch)
        if any(a.get("beyond") for a in answers):
            log.warning("expressions of runbook %s went beyond their limits of memory or time", owner)
        beyond = f"an expression of runbook {owner} went beyond its limits of memory or time: simplify it"
        return [Answer(value=a.get("value"), error=beyond if a.get("beyond") else a.get("error", "")) for a in answers]

    async def _answered(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what the child answers to this very batch, or that it went beyond its limits."""
        line = json.dumps(batch).encode() + b"\n"
        try:
            child = await self._started()
            assert child.stdin is not None  # noqa: S101  (opened as a pipe)
            assert child.stdout is not None  # noqa: S101  (opened as a pipe)
            child.stdin.write(line)
            async with asyncio.timeout(HUNG_AFTER):
                await child.stdin.drain()
                answer = json.loads(await child.stdout.readline())
            if answer["batch"] != batch["batch"]:
                raise ValueError("the child answers another batch")
        except asyncio.CancelledError:
            # Nobody waits for this answer any more, and the next batch must not be given it.
            await self.close()
            raise
        except (TimeoutError, ConnectionError, ValueError):
            self.restarts += 1
            await self.close()
            return [{"beyond": True} for _ in batch["jobs"]]
        answers: list[dict[str, Any]] = answer["answers"]
        return answers

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            self.restarts += self._child is not None
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _CHILD,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT,
            )
        return self._child

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()
            await child.wait()
