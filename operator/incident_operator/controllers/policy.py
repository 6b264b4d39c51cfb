"""RemediationPolicy: read → decide → persist → perform. Each waits in the queue for its next turn, without a timer."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..actions.catalogue import infos
from ..adapters.kube import Conflict, Forbidden, Invalid, NotFound
from ..adapters.store import Key
from ..api.grant import ActionGrant
from ..api.policy import RemediationPolicy, StartedRun
from ..api.run import IncidentRun
from ..core.health import HealthPlan, plan_health
from ..core.policy import (
    AskHealth,
    CreateRun,
    NotReady,
    PolicyEffect,
    PolicyView,
    Sample,
    decide_policy,
    run_name,
    run_of,
)
from ..core.runbook import bind_parameters
from ..core.schedule import latest
from ..core.story import Tell
from .context import Context
from .observing import Scope, ask_in_order, grant_for
from .resolving import grants_of, spec_and_revision

log = logging.getLogger(__name__)

KIND = "RemediationPolicy"
RUN = "IncidentRun"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Everything a policy refers to, found and valid."""

    health: HealthPlan
    parameters: Mapping[str, Any]
    grants: tuple[ActionGrant, ...] = ()


@dataclass
class Session:
    """What this process knows of a policy besides what is stored: lost at a restart, made again by looking."""

    since: datetime
    sample: Sample | None = None
    looked_at: datetime | None = None
    task: asyncio.Task[None] | None = None
    failure: Exception | None = None
    #: What the spec and the runbook came to, and which of them.
    judged: tuple[tuple[str, int, str], Resolved | NotReady] | None = None


class PolicyController:
    """Moves policies: the only writer of their status, and who starts their runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sessions: dict[Key, Session] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Decide and act until nothing is left to do now; return when to look again.

        Errors: those of the API server and of effects, for the queue to back off.
        """
        context = self._context
        session = self._sessions.setdefault(key, Session(since=context.clock.now()))
        if session.failure is not None:
            failure, session.failure = session.failure, None
            raise failure
        while True:
            raw = context.store.get(KIND, key)
            policy = context.store.read(KIND, key, RemediationPolicy.model_validate)
            if raw is None or policy is None:
                self._forget(key)
                return None
            resolved = await self._resolve(policy, session)
            view = PolicyView(
                policy=policy,
                since=session.since,
                not_ready=resolved if isinstance(resolved, NotReady) else None,
                sample=session.sample,
                busy=session.task is not None,
                looked_at=session.looked_at,
                runs=await self._runs(policy),
                timing=context.settings.timing,
            )
            decision = decide_policy(view, context.clock.now())
            if decision.status != policy.status:
                try:
                    context.store.put(KIND, await context.kube.write_status(raw, decision.status.wire()))
                except NotFound:
                    context.store.remove(KIND, key)
                    self._forget(key)
                    return None
                except Conflict:
                    context.store.put(KIND, await context.kube.get(KIND, *key))
                    return context.clock.now()
            session.sample = None
            if not await self._perform(key, policy, session, resolved, decision.effects):
                return decision.wake_at

    async def _resolve(self, policy: RemediationPolicy, session: Session) -> Resolved | NotReady:
        """Find what a policy refers to; the judgement of spec and runbook is made once for each version of them."""
        context, ref, namespace = self._context, policy.spec.remediation.runbook_ref, policy.metadata.namespace or ""
        key = (namespace if ref.kind == "Runbook" else "", ref.name)
        live = context.store.read(ref.kind, key, spec_and_revision)
        if live is None:
            return NotReady(reason="RunbookNotFound", message=f"there is no {ref.kind} {ref.name!r}")
        version = (policy.metadata.uid, policy.metadata.generation, live[1])
        if session.judged is None or session.judged[0] != version:
            session.judged = (version, self._judge(policy, *live))
        judged = session.judged[1]
        if isinstance(judged, NotReady):
            return judged
        grants = await grants_of(context, namespace)
        missing = next((c.action for c in judged.health.asked if grant_for(grants, c.action) is None), None)
        if missing is not None:
            message = f"no ActionGrant permits {missing} in namespace {namespace}; ask a platform admin for one"
            return NotReady(reason="GrantMissing", message=message)
        return Resolved(health=judged.health, parameters=judged.parameters, grants=grants)

    def _judge(self, policy: RemediationPolicy, spec: dict[str, Any], revision: str) -> Resolved | NotReady:
        name = policy.spec.remediation.runbook_ref.name
        runbook, problems, _ = self._context.runbooks.read(revision, spec)
        if problems:
            message = f"{name}: {problems[0].field}: {problems[0].message}"
            return NotReady(reason="RunbookInvalid", message=message)
        if runbook.maintenance is not None and runbook.maintenance.archived is not None:
            message = f"{name} is archived: {runbook.maintenance.archived.reason}"
            return NotReady(reason="RunbookArchived", message=message)
        parameters, wrong = bind_parameters(runbook, policy.spec.remediation.parameters)
        if wrong:
            return NotReady(reason="ParametersInvalid", message="; ".join(p.message for p in wrong[:4]))
        health = plan_health(policy.spec.health, runbook, infos())
        if isinstance(health, str):
            return NotReady(reason="HealthInvalid", message=health)
        return Resolved(health=health, parameters=parameters)

    async def _runs(self, policy: RemediationPolicy) -> dict[str, IncidentRun | None]:
        """Return the policy's runs as they are; a settled one is in no watch and is asked for."""
        found: dict[str, IncidentRun | None] = {}
        for run in policy.status.runs:
            key = (policy.metadata.namespace or "", run.name)
            raw = self._context.store.get(RUN, key)
            if raw is None:
                try:
                    raw = await self._context.kube.get(RUN, *key)
                except NotFound:
                    found[run.name] = None
                    continue
            found[run.name] = IncidentRun.model_validate(raw)
        return found

    async def _perform(
        self,
        key: Key,
        policy: RemediationPolicy,
        session: Session,
        resolved: Resolved | NotReady,
        effects: tuple[PolicyEffect, ...],
    ) -> bool:
        """Perform effects; True when there is something to decide at once."""
        again = False
        for effect in effects:
            match effect:
                case Tell():
                    self._tell(policy, effect)
                case CreateRun(run):
                    await self._create(policy, run)
                    again = True
                case AskHealth() if isinstance(resolved, Resolved):
                    self._start(key, session, policy, resolved)
        return again

    def _tell(self, policy: RemediationPolicy, tell: Tell) -> None:
        about = {"kind": KIND, "metadata": policy.metadata.wire()}
        self._context.kube.post_event(about, tell.reason, tell.message, "Warning" if tell.warning else "Normal")

    async def _create(self, policy: RemediationPolicy, run: StartedRun) -> None:
        """Create an episode's run. Errors: KubeError; a refusal is told on the policy."""
        try:
            created = await self._context.kube.create_once(run_of(policy, run))
        except (Invalid, Forbidden) as error:
            self._tell(policy, Tell("RunRefused", f"run {run.name} could not be created: {error}", warning=True))
            raise
        self._context.store.put(RUN, created)
        self._context.enqueue(RUN, (policy.metadata.namespace or "", run.name))

    def _start(self, key: Key, session: Session, policy: RemediationPolicy, resolved: Resolved) -> None:
        async def guarded() -> None:
            try:
                session.sample = await self._ask(policy, resolved)
            except Exception as error:  # handed to the next reconcile, which raises it for the queue to back off
                session.failure = error
            finally:
                session.looked_at, session.task = self._context.clock.now(), None
                self._context.enqueue(KIND, key)

        session.task = asyncio.create_task(guarded())

    async def _ask(self, policy: RemediationPolicy, resolved: Resolved) -> Sample:
        """Ask the health checks as the policy's run would, those that read others after them."""
        context, health = self._context, resolved.health
        now = context.clock.now()
        back = now - context.settings.scaled(policy.spec.health.look_back)
        next_run = StartedRun(name=run_name(policy, policy.status.episodes + 1), episode=0, started_at=now)
        scope = Scope(
            run=run_of(policy, next_run),
            runbook=health.runbook,
            parameters=resolved.parameters,
            grants=resolved.grants,
            since=latest((back, policy.status.last_run_ended_at)) or back,
            now=now,
            dependencies=health.dependencies,
            memo=context.aws.memo(),
        )
        results = await ask_in_order(context, scope, [check.name for check in health.asked])
        names = [check.name for check in policy.spec.health.checks]
        return Sample(at=now, checks=tuple(results[name].status for name in names))

    def _forget(self, key: Key) -> None:
        session = self._sessions.pop(key, None)
        if session is not None and session.task is not None:
            session.task.cancel()
