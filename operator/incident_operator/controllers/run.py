"""IncidentRun: read → decide → persist → perform."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.incident import Incident
from ..api.intervention import Intervention, Verb
from ..api.plan import PlanState, RemediationPlan
from ..api.run import IncidentRun, IncidentRunStatus
from ..core.approval import Answer, said_at
from ..core.incident import done_by_hand, has_incident, incident_name
from ..core.run import (
    FINALIZER,
    EndRound,
    FixResult,
    PlanFixes,
    Protect,
    Refusal,
    Round,
    RunChecks,
    RunEffect,
    RunView,
    StartRound,
    StorePlans,
    Tell,
    Unprotect,
    decide_run,
    is_observe_only,
    replaced,
    to_replace,
)
from .answering import answer, words_on
from .background import Background
from .context import Context
from .observing import Scope, ask_check, look_back_from, measure_impact, plan_fix
from .resolving import Resolved, resolve
from .reviewing import review
from .runbook import note_use

log = logging.getLogger(__name__)

KIND = "IncidentRun"


@dataclass
class Session(Background):
    """What this process knows of a run besides what is stored: lost at a restart, made again by looking."""

    round: Round | None = None
    scope: Scope | None = None
    #: Settled plans are in no watch: a run that had plans before this process asks for them once.
    plans_known: bool = False
    _read: IncidentRun | None = None

    def read(self, raw: dict[str, Any]) -> IncidentRun:
        """Return a stored run as a model, made once for each version of it."""
        known, metadata = self._read, raw["metadata"]
        version = (metadata["uid"], metadata["resourceVersion"])
        if known is None or (known.metadata.uid, known.metadata.resource_version) != version:
            known = self._read = IncidentRun.model_validate(raw)
        return known


class RunController:
    """Moves runs: the only writer of their status."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sessions: dict[Key, Session] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Decide and act until nothing is left to do now; return when to look again.

        Errors: those of the API server and of effects, for the queue to back off.
        """
        raw = self._context.store.get(KIND, key)
        if raw is None:
            self._forget(key)
            for incident in self._context.store.incidents_of(key):
                self._context.enqueue("Incident", incident)
            self._wake_plans(key)  # they learn that their run is over
            return None
        session = self._sessions.setdefault(key, Session())
        if session.failure is not None:
            session.round = None
        session.raise_failure()
        while True:
            run = session.read(raw)
            resolved = await resolve(self._context, run)
            plans = self._plans(run)
            active = run.status.active_plan
            in_doubt = key in self._context.store.plans_in_doubt
            if not session.plans_known or in_doubt or (active and active not in {p.metadata.name for p in plans}):
                await self._recall_plans(raw)
                session.plans_known = True
                plans = self._plans(run)
            view = await self._view(run, resolved, session, plans)
            now = self._context.clock.now()
            decision = decide_run(view, now)
            if decision.status != run.status:
                if decision.status.settled:
                    await review(self._context, run, decision.status, resolved, plans)
                    await note_use(self._context, run, decision.status)
                try:
                    raw = await self._context.kube.write_status(raw, decision.status.wire())
                except NotFound:
                    self._context.store.remove(KIND, key)
                    self._forget(key)
                    return None
                except Conflict:
                    self._context.store.put(KIND, await self._context.kube.get(KIND, *key))
                    return now
                self._context.store.put(KIND, raw)
                if decision.status.settled:
                    ended, severity = decision.status, run.spec.incident.severity
                    self._context.ends.count(str(ended.phase), ended.outcome or "", str(severity))
            self._hand_on(run, decision.status, is_news=decision.status != run.status)
            if decision.status.diagnosed_at != run.status.diagnosed_at:  # they say in their status what blocks them
                self._wake_plans(key)
            again = await self._perform(key, run, session, resolved, plans, decision.effects)
            stored = self._context.store.get(KIND, key)
            if stored is None and not decision.status.settled:  # deleted, once our finalizer was off
                self._context.enqueue(KIND, key)
                return None
            raw = stored or raw
            if decision.status.settled:
                for word in self._context.store.words_on(KIND, key):  # answered without the run
                    self._context.enqueue("Intervention", (key[0], word["metadata"]["name"]))
                self._context.kube.post_no_more(run.metadata.uid)
                self._forget(key)
                return None
            if again or (decision.wake_at is not None and decision.wake_at <= now and decision.status != run.status):
                continue
            return decision.wake_at

    async def _view(
        self, run: IncidentRun, resolved: Resolved | Refusal, session: Session, plans: tuple[RemediationPlan, ...]
    ) -> RunView:
        timing = self._context.settings.timing
        words = self._words(run, plans)
        newest = max((said_at(word) for word in words), default=None)
        admission = await self._context.admission.in_force(after=newest) if words else None
        if isinstance(resolved, Refusal):
            return RunView(
                run=run,
                refusal=resolved,
                plans=plans,
                timing=timing,
                round=session.round,
                words=words,
                admission=admission,
            )
        return RunView(
            run=run,
            runbook=resolved.runbook,
            revision=resolved.revision,
            dependencies=resolved.dependencies,
            plans=plans,
            round=session.round,
            words=words,
            admission=admission,
            timing=timing,
            observe_only=is_observe_only(run),
            by_hand=self._by_hand(run),
        )

    def _by_hand(self, run: IncidentRun) -> str | None:
        """Return what a person last wrote down to have done for the run's incident, since the run began."""
        if not has_incident(run) or run.status.started_at is None:
            return None
        key = (run.metadata.namespace or "", incident_name(run))
        incident = self._context.store.read("Incident", key, Incident.model_validate)
        return None if incident is None else done_by_hand(incident, run.status.started_at)

    def _words(self, run: IncidentRun, plans: tuple[RemediationPlan, ...]) -> tuple[Intervention, ...]:
        """Return what people said of the run, and of plans of it that can't hear any more."""
        namespace = run.metadata.namespace or ""
        words = list(words_on(self._context, KIND, (namespace, run.metadata.name)))
        for plan in plans:
            if plan.status.settled:
                said = words_on(self._context, "RemediationPlan", (namespace, plan.metadata.name))
                words += [word for word in said if word.spec.verb == Verb.KEEP]
        return tuple(sorted(words, key=lambda word: (said_at(word), word.metadata.name)))

    def _plans(self, run: IncidentRun) -> tuple[RemediationPlan, ...]:
        raw = self._context.store.plans_of(run.metadata.namespace or "", run.metadata.name)
        plans = (RemediationPlan.model_validate(p) for p in raw)
        return tuple(p for p in plans if p.spec.run_ref.uid == run.metadata.uid)

    async def _recall_plans(self, raw: dict[str, Any]) -> None:
        """Read the plans a run had before this process, settled ones too."""
        run, store = IncidentRun.model_validate(raw), self._context.store
        key = (run.metadata.namespace or "", run.metadata.name)
        if run.status.diagnosed_at is None and key not in store.plans_in_doubt:
            return
        label = f"ops.shopsmart.com/run={run.metadata.name[:63].rstrip('-.')}"
        async for plan in self._context.kube.stored("RemediationPlan", key[0], label_selector=label):
            store.put("RemediationPlan", plan)
        store.plans_in_doubt.discard(key)

    def _hand_on(self, run: IncidentRun, status: IncidentRunStatus, *, is_news: bool) -> None:
        """Wake what the stored status concerns: its incident, the plan with the baton, or all plans at the end.

        Also when this process did not write it: the answer to the write that gave the baton may have been lost.
        """
        namespace = run.metadata.namespace or ""
        if status.started_at is not None and has_incident(run):
            incident = (namespace, incident_name(run))
            if self._context.store.join(incident, (namespace, run.metadata.name)) or is_news:
                self._context.enqueue("Incident", incident)
        if status.active_plan is not None:
            self._context.enqueue("RemediationPlan", (namespace, status.active_plan))
        if status.settled:
            self._wake_plans((namespace, run.metadata.name))

    def _wake_plans(self, key: Key) -> None:
        for plan in self._context.store.plans_of(*key):
            self._context.enqueue("RemediationPlan", (key[0], plan["metadata"]["name"]))

    async def _perform(
        self,
        key: Key,
        run: IncidentRun,
        session: Session,
        resolved: Resolved | Refusal,
        plans: tuple[RemediationPlan, ...],
        effects: tuple[RunEffect, ...],
    ) -> bool:
        """Perform effects; True when there is something to decide at once."""
        again = False
        for effect in effects:
            match effect:
                case Tell(reason, message, warning):
                    about = {"kind": KIND, "metadata": run.metadata.wire()}
                    self._context.kube.post_event(about, reason, message, "Warning" if warning else "Normal")
                case StartRound(kind) if isinstance(resolved, Resolved):
                    session.round = Round(kind=kind, started_at=self._context.clock.now())
                    session.scope = Scope(
                        run=run,
                        runbook=resolved.runbook,
                        parameters=resolved.parameters,
                        grants=resolved.grants,
                        since=look_back_from(run, plans, self._context),
                        now=self._context.clock.now(),
                        dependencies=resolved.dependencies,
                        memo=self._context.aws.memo(),
                    )
                    again = True
                case RunChecks(names) if session.round is not None:
                    session.round = replace(session.round, running=session.round.running | set(names))
                    for name in names:
                        self._start(key, session, self._ask(key, session, name))
                case PlanFixes() if session.round is not None:
                    session.round = replace(session.round, planning=True)
                    self._start(key, session, self._plan(key, session, run))
                case StorePlans() if session.round is not None:
                    await self._store_plans(session.round, plans)
                    session.round = replace(session.round, stored=True)
                    again = True
                case EndRound():
                    session.round, session.scope = None, None
                case Answer():
                    await answer(self._context, key[0], effect)
                    again = True
                case Protect():
                    await self._with_finalizer(key, True)
                    again = True
                case Unprotect():
                    await self._with_finalizer(key, False)
                    again = True
                case _:
                    log.warning("nothing to do %s for: %s has no round", type(effect).__name__, key)
        return again

    async def _with_finalizer(self, key: Key, wanted: bool) -> None:
        """Put our finalizer on the run, or take it off. Errors: Conflict, to decide anew."""
        raw = self._context.store.get(KIND, key)
        if raw is None:
            return
        kept = [f for f in raw["metadata"].get("finalizers", ()) if f != FINALIZER]
        try:
            patched = await self._context.kube.patch_metadata(raw, finalizers=[*kept, FINALIZER] if wanted else kept)
        except NotFound:
            self._context.store.remove(KIND, key)
            return
        if patched["metadata"].get("deletionTimestamp") and not patched["metadata"].get("finalizers"):
            self._context.store.remove(KIND, key)
        else:
            self._context.store.put(KIND, patched)

    def _start(self, key: Key, session: Session, work: Coroutine[Any, Any, None]) -> None:
        session.start(work, lambda: self._context.go_on(KIND, key))

    async def _ask(self, key: Key, session: Session, name: str) -> None:
        round_, scope = session.round, session.scope
        if round_ is None or scope is None:
            return
        check = next(c for c in scope.runbook.checks if c.name == name)
        result = await ask_check(self._context, scope, check, round_.checks)
        now_round = session.round
        if now_round is None or now_round.started_at != round_.started_at:
            return
        session.round = replace(
            now_round, checks={**now_round.checks, name: result}, running=now_round.running - {name}
        )

    async def _plan(self, key: Key, session: Session, run: IncidentRun) -> None:
        round_, scope = session.round, session.scope
        if round_ is None or scope is None:
            return
        plans = self._plans(run)
        fixes: dict[str, FixResult] = {}
        results = await asyncio.gather(
            *(plan_fix(self._context, scope, fix, round_.checks, plans, run.status) for fix in scope.runbook.fixes)
        )
        for result in results:
            fixes[result.name] = result
        impact = await measure_impact(self._context, scope, round_.checks)
        if session.round is not None and session.round.started_at == round_.started_at:
            session.round = replace(session.round, fixes=fixes, planning=False, impact=impact)

    async def _store_plans(self, round_: Round, plans: tuple[RemediationPlan, ...]) -> None:
        """Create this round's plans; supersede open ones of the same fix that would not be made today."""
        for result in (round_.fixes or {}).values():
            if result.plan is None:
                continue
            for old in to_replace(plans, result.plan):
                await self._supersede(old, result.plan)
            self._context.store.put("RemediationPlan", await self._context.kube.create_once(result.plan))

    async def _supersede(self, plan: RemediationPlan, by: RemediationPlan) -> None:
        key = (plan.metadata.namespace or "", plan.metadata.name)
        stored = self._context.store.get("RemediationPlan", key)
        if stored is None:
            return
        status = replaced(plan, by, self._context.clock.now())
        self._context.store.put("RemediationPlan", await self._context.kube.write_status(stored, status.wire()))
        self._context.outcomes.count(str(PlanState.SUPERSEDED), str(plan.spec.risk))

    def _forget(self, key: Key) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.cancel()
