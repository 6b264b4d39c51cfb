"""Runbook and ClusterRunbook: read, judge, say Ready or where it is wrong."""

from datetime import datetime

from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.runbook import ClusterRunbook, Runbook
from ..core.conditions import with_condition
from .context import Context
from .runbooks import revision_name

_MODELS: dict[str, type[Runbook | ClusterRunbook]] = {"Runbook": Runbook, "ClusterRunbook": ClusterRunbook}


class RunbookController:
    """Writes the Ready condition of runbooks."""

    def __init__(self, context: Context, kind: str) -> None:
        self._context = context
        self._kind = kind

    async def reconcile(self, key: Key) -> datetime | None:
        """Judge the runbook when its spec is new. Errors: those of the API server."""
        raw = self._context.store.get(self._kind, key)
        if raw is None:
            return None
        stored = _MODELS[self._kind].model_validate(raw)
        generation = stored.metadata.generation
        revision = revision_name(self._kind, stored.metadata.name, raw["spec"])
        _, problems, _ = self._context.runbooks.read(revision, raw["spec"])
        now = self._context.clock.now()
        if problems:
            first = problems[0]
            message = f"{first.field}: {first.message}" + (f" (+{len(problems) - 1} more)" if problems[1:] else "")
            conditions = with_condition(
                stored.status.conditions, "Ready", False, "RunbookInvalid", message, now, generation
            )
        else:
            conditions = with_condition(
                stored.status.conditions, "Ready", True, "Valid", "every check and fix can be run", now, generation
            )
        status = stored.status.model_copy(
            update={
                "observed_generation": generation,
                "revision": revision,
                "problems": tuple(problems),
                "conditions": conditions,
            }
        )
        if status != stored.status:
            try:
                self._context.store.put(self._kind, await self._context.kube.write_status(raw, status.wire()))
            except Conflict:
                return now
            except NotFound:
                return None
        return None
