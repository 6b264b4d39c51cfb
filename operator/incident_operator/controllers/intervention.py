"""Intervention: hand it to what it speaks of; answer it here where that is settled or gone."""

from datetime import datetime
from typing import Any

from ..adapters.kube import NotFound
from ..adapters.store import Key
from ..api.intervention import Intervention, Verb
from ..api.plan import PlanState, RemediationPlan
from ..core.approval import Answer, refused, said_at
from ..core.plan import TERMINAL
from ..core.planning import revert_of
from .answering import KIND, answer
from .context import Context

_RUN, _PLAN = "IncidentRun", "RemediationPlan"


class InterventionController:
    """Sees that every word is heard by somebody, and answered."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> datetime | None:
        """Enqueue the target, or answer for it. Errors: those of the API server."""
        raw = self._context.store.get(KIND, key)
        if raw is None:
            return None
        word = Intervention.model_validate(raw)
        target = word.spec.target
        named = (key[0], target.name)
        stored = await self._stored(target.kind, named)
        if stored is None:
            message = f"there is no {target.kind} {target.name} (any more)"
            await answer(self._context, key[0], refused(word, "TargetMissing", message))
            return None
        if stored["metadata"]["uid"] != target.uid:
            message = f"{target.name} is another {target.kind} of that name now: read it and say it anew"
            await answer(self._context, key[0], refused(word, "WrongUID", message))
            return None
        if not (stored.get("status") or {}).get("settled"):
            self._context.enqueue(target.kind, named)
            return None
        if target.kind != _PLAN:
            await answer(self._context, key[0], refused(word, "TooLate", _ended(target.kind, stored)))
            return None
        return await self._on_settled_plan(key, word, RemediationPlan.model_validate(stored))

    async def _stored(self, kind: str, key: Key) -> dict[str, Any] | None:
        known = self._context.store.get(kind, key)
        if known is not None:
            return known
        try:
            return await self._context.kube.get(kind, *key)
        except NotFound:
            return None

    async def _on_settled_plan(self, key: Key, word: Intervention, plan: RemediationPlan) -> datetime | None:
        """Answer for a plan that can't any more; Keep is for its run to hear, Revert makes a plan of its own."""
        namespace, state = key[0], plan.status.state
        if word.spec.verb == Verb.REVERT:
            why = await self._context.admission.in_force(after=said_at(word))
            if why is not None:
                return self._context.clock.now() + self._context.settings.admission_retry
            await answer(self._context, namespace, await self._revert(word, plan))
            return None
        run = (namespace, plan.spec.run_ref.name)
        if word.spec.verb == Verb.KEEP and self._context.store.get(_RUN, run) is not None:
            self._context.enqueue(_RUN, run)
            return None
        reason = "PlanChanged" if state == PlanState.SUPERSEDED else "TooLate"
        await answer(self._context, namespace, refused(word, reason, f"the plan is {state}: {plan.status.message}"))
        return None

    async def _revert(self, word: Intervention, plan: RemediationPlan) -> Answer:
        """Create the plan that puts a settled plan back; it needs its own approval (decision 16)."""
        if plan.status.started_at is None:
            return refused(word, "NothingToRevert", f"the plan is {plan.status.state}: it changed nothing")
        label = f"ops.shopsmart.com/run={plan.spec.run_ref.name[:63].rstrip('-.')}"
        namespace = plan.metadata.namespace or ""
        stored = self._context.kube.stored(_PLAN, namespace, label_selector=label)
        known = [RemediationPlan.model_validate(raw) async for raw in stored]
        known = [p for p in known if p.spec.run_ref.uid == plan.spec.run_ref.uid and p.spec.fix == plan.spec.fix]
        mine = [p for p in known if p.spec.revert_of == plan.metadata.name]
        live = next((p for p in mine if p.status.state not in TERMINAL), None)
        if live is None:
            fresh = revert_of(plan, max((p.spec.attempt for p in known), default=0) + 1)
            if fresh is None:
                why = plan.spec.irreversible or "what it left was not recorded, so nothing can be put back safely"
                return refused(word, "NothingToRevert", why)
            self._context.store.put(_PLAN, await self._context.kube.create_once(fresh))
            self._context.enqueue(_PLAN, (namespace, fresh.metadata.name))
            live = fresh
        message = (
            f"plan {live.metadata.name} puts it back once it is approved: "
            f"kubectl incident approve -n {namespace} {plan.spec.run_ref.name} {live.metadata.name}"
        )
        return Answer(word=word.metadata.name, effective=True, reason="Reverting", message=message)


def _ended(kind: str, target: dict[str, Any]) -> str:
    status = target.get("status") or {}
    if kind == _RUN:
        return f"the run has ended: {status.get('phase')}/{status.get('outcome')}"
    return f"the incident is {status.get('phase')}, and over for good: nothing can be added to it"
