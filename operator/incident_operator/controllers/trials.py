"""Trials of runbooks: every check asked, every fix planned, every permission simulated, and nothing kept or changed.

One after the other in this process, each with one question at a time: of the threads of effects they hold at most one,
so that no incident waits for them.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter

from ..actions.base import FixAction
from ..actions.catalogue import catalogue
from ..actions.reads import READS
from ..actions.vantage import DOCUMENT, PROBE
from ..actions.vantage import READS as READS_FROM_INSTANCES
from ..adapters.kube import NotFound
from ..adapters.store import Raw
from ..api.grant import ActionGrant, AwsGrant
from ..api.meta import Metadata, Severity
from ..api.run import IncidentDetails, IncidentRun, IncidentRunSpec, RunbookReference
from ..api.runbook import Check, ClusterRunbook, Fix, Runbook, RunbookSpec, Trial, Validation
from ..core.draft import PlanDraft
from ..core.maintenance import FixTrial, Tried, report
from ..core.run import CheckResult
from ..core.runbook import bind_parameters, dependencies, with_closeout
from .context import Context
from .observing import LEAD, Scope, ask_check, grant_for, try_fix
from .resolving import grants_of


class Trials:
    """All trials of this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = asyncio.Semaphore(1)

    async def validate(self, runbook: Runbook | ClusterRunbook, stored: Raw, revision: str) -> Validation:
        """Return the report of a runbook without problems, once it is its turn. Errors: those of the API server."""
        async with self._turn:
            spec, problems, _ = self._context.runbooks.read(revision, stored)
            trial = spec.maintenance.trial if spec.maintenance is not None else None
            tried = None if trial is None or problems else await self._try(runbook, spec, trial)
            return report(spec, problems, tried, runbook.metadata.generation, self._context.clock.now())

    async def _try(
        self,
        runbook: Runbook | ClusterRunbook,
        spec: RunbookSpec,
        trial: Trial,
    ) -> Tried:
        context, namespace = self._context, runbook.metadata.namespace or trial.namespace or ""
        parameters, wrong = bind_parameters(spec, trial.parameters)
        if wrong:
            return Tried(namespace=namespace, problem=("ParametersInvalid", "; ".join(p.message for p in wrong[:4])))
        try:
            grants = await grants_of(context, namespace)
        except NotFound:
            return Tried(namespace=namespace, problem=("NamespaceMissing", f"there is no namespace {namespace}"))
        if not grants:
            message = f"no ActionGrant selects namespace {namespace}"
            return Tried(namespace=namespace, problem=("GrantMissing", message))
        now, whole = context.clock.now(), with_closeout(spec)
        scope = Scope(
            run=_run_of(runbook, namespace, trial),
            runbook=whole,
            parameters=parameters,
            grants=grants,
            since=now - context.settings.scaled(LEAD),
            now=now,
            dependencies=dependencies(whole),
            memo=context.aws.memo(),
        )
        checks = await self._ask(scope)
        fixes, drafts = await self._plan(scope, checks)
        permissions = await self._permissions(spec, grants, drafts)
        return Tried(
            namespace=namespace,
            checks=tuple(checks[check.name].status for check in spec.checks),
            closing=tuple(checks[check.name].status for check in whole.checks if check not in spec.checks),
            fixes=fixes,
            permissions=permissions,
        )

    async def _ask(self, scope: Scope) -> dict[str, CheckResult]:
        named = {check.name: check for check in scope.runbook.checks}
        checks: dict[str, CheckResult] = {}
        for name in TopologicalSorter(scope.dependencies).static_order():
            checks[name] = await ask_check(self._context, scope, named[name], checks)
        return checks

    async def _plan(
        self, scope: Scope, checks: Mapping[str, CheckResult]
    ) -> tuple[tuple[FixTrial, ...], list[tuple[AwsGrant, PlanDraft]]]:
        trials, drafts = [], []
        for fix in scope.runbook.fixes:
            tried, draft = await try_fix(self._context, scope, fix, checks)
            trials.append(tried)
            grant = scope.grant_for(fix.action)
            if draft is not None and grant is not None and grant.spec.aws is not None:
                drafts.append((grant.spec.aws, draft))
        return tuple(trials), drafts

    async def _permissions(
        self, spec: RunbookSpec, grants: Sequence[ActionGrant], drafts: Iterable[tuple[AwsGrant, PlanDraft]]
    ) -> dict[str, bool | None]:
        """Return what the grants' roles may do of all that the runbook needs, in words; None can't be simulated.

        What an action declares is allowed where it is on something: reads on everything or on what the grant lists of
        the service, calls on what it lists. The calls of a plan must be allowed exactly as planned.
        """
        found: dict[str, bool | None] = {}
        for aws, role, permissions, places in _needs(spec, grants):
            name = role.rpartition("/")[2]
            for permission, may in (await self._somewhere(aws, role, permissions, places)).items():
                found[f"{permission} ({name})"] = may
        for aws, draft in drafts:
            name = aws.role_arn.rpartition("/")[2]
            for call in draft.calls:
                for resource in call.resources:
                    for permission, may in (await self._may(aws, aws.role_arn, call.permissions, resource)).items():
                        found[f"{permission} on {resource} ({name})"] = may
        return found

    async def _somewhere(
        self, aws: AwsGrant, role: str, permissions: Sequence[str], places: Sequence[str]
    ) -> dict[str, bool | None]:
        """Return whether each permission is allowed on one of the places of its service; nothing without one."""
        answers: dict[str, list[bool | None]] = {}
        for place in places:
            asked = [p for p in permissions if _is_of(place, p) and True not in answers.get(p, ())]
            for permission, may in (await self._may(aws, role, asked, place)).items():
                answers.setdefault(permission, []).append(may)
        return {p: True if True in said else None if None in said else False for p, said in answers.items()}

    async def _may(self, aws: AwsGrant, role: str, permissions: Sequence[str], resource: str) -> dict[str, bool | None]:
        if not permissions:
            return {}
        context = self._context
        try:
            return await context.pool.run(
                context.aws.may, aws, role, permissions, resource, timeout=context.settings.observe_timeout
            )
        except TimeoutError:
            return dict.fromkeys(permissions)


def _is_of(place: str, permission: str) -> bool:
    """Tell whether a place (an ARN pattern, or everything) can be of a permission's service."""
    return place == "*" or place.split(":")[2:3] in ([permission.split(":")[0]], ["*"])


def _needs(
    spec: RunbookSpec, grants: Sequence[ActionGrant]
) -> Iterator[tuple[AwsGrant, str, tuple[str, ...], tuple[str, ...]]]:
    """Yield what the runbook's actions declare: grant, role, permissions, and where they may be."""
    reads: dict[str, set[str]] = {}
    writes: dict[str, set[str]] = {}
    entries: list[Check | Fix] = [*spec.every_check, *spec.fixes]
    for entry in entries:
        grant, action = grant_for(grants, entry.action), catalogue()[entry.action]
        if grant is None:
            continue
        of_grant = reads.setdefault(grant.metadata.name, set())
        of_grant |= set(action.reads)
        of_grant |= set(action.reads_from_instances if grant.spec.probes.instances else ())
        listed = READS.get((str(entry.inputs.get("service")), str(entry.inputs.get("operation"))))
        if entry.action == "aws.query" and listed is not None:
            of_grant |= set(listed.permissions)
        if isinstance(action, FixAction):
            writes.setdefault(grant.metadata.name, set()).update(action.writes)
    for grant in grants:
        aws, name = grant.spec.aws, grant.metadata.name
        if aws is None:
            continue
        if reads.get(name):
            yield aws, aws.read_role_arn or aws.role_arn, tuple(sorted(reads[name])), ("*", *aws.resources)
        if grant.spec.probes.instances and reads.get(name, set()) >= set(READS_FROM_INSTANCES):
            document = f"arn:{aws.role_arn.split(':')[1]}:ssm:{aws.regions[0]}:{aws.account}:document/{DOCUMENT}"
            yield aws, aws.read_role_arn or aws.role_arn, (PROBE,), (document,)
        if writes.get(name):
            yield aws, aws.role_arn, tuple(sorted(writes[name])), aws.resources


def _run_of(runbook: Runbook | ClusterRunbook, namespace: str, trial: Trial) -> IncidentRun:
    """Return the run that a trial is made as: a drill that is stored nowhere."""
    title = f"trial of {runbook.metadata.name}"[:256]
    return IncidentRun(
        kind="IncidentRun",
        metadata=Metadata(name=f"trial-{runbook.metadata.name}"[:253], namespace=namespace),
        spec=IncidentRunSpec(
            incident=IncidentDetails(title=title, severity=Severity.P3),
            runbook_ref=RunbookReference(
                kind="ClusterRunbook" if runbook.kind == "ClusterRunbook" else "Runbook", name=runbook.metadata.name
            ),
            parameters=trial.parameters,
            connections=trial.connections,
            drill=True,
        ),
    )
