"""What a run refers to: runbook, revision, parameters, grants; or the first reason why it can't start."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..adapters.kube import NotFound
from ..api.grant import ActionGrant
from ..api.meta import parse_instant
from ..api.policy import RemediationPolicy
from ..api.run import IncidentRun
from ..api.runbook import Maintenance, RunbookSpec
from ..core.maintenance import freshness, leaves_reviewers_open, on_call
from ..core.policy import cooldown_until
from ..core.run import Refusal
from ..core.runbook import bind_parameters
from .context import Context
from .escalating import Policies
from .runbooks import revision_name
from .tombstones import handled


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Everything a run refers to, found and valid."""

    runbook: RunbookSpec
    revision: str
    parameters: Mapping[str, Any]
    dependencies: Mapping[str, frozenset[str]]
    grants: tuple[ActionGrant, ...]


async def resolve(context: Context, run: IncidentRun) -> Resolved | Refusal:
    """Find what a run refers to: live before it started, by its pinned revision afterwards."""
    pin = run.status.runbook
    namespace = run.metadata.namespace or ""
    if run.status.started_at is not None and pin is not None:
        spec = await context.revisions.load(namespace, pin.revision)
        if spec is None:
            return Refusal(reason="RevisionLost", message=f"ControllerRevision {pin.revision} is gone; apply a new run")
        revision = pin.revision
    else:
        ref = run.spec.runbook_ref
        key = (namespace if ref.kind == "Runbook" else "", ref.name)
        live = context.store.read(ref.kind, key, spec_and_revision)
        if live is None:
            near = context.store.names(ref.kind, namespace if ref.kind == "Runbook" else "")
            known = f"; known: {', '.join(near[:5])}" if near else "; none is installed"
            return Refusal(reason="RunbookNotFound", message=f"there is no {ref.kind} {ref.name!r}{known}")
        spec, revision = live
    runbook, problems, graph = context.runbooks.read(revision, spec)
    if problems:
        first = problems[0]
        return Refusal(reason="RunbookInvalid", message=f"{run.spec.runbook_ref.name}: {first.field}: {first.message}")
    archived = runbook.maintenance.archived if runbook.maintenance is not None else None
    if archived is not None and run.status.started_at is None:
        instead = f"; use {archived.replaced_by} instead" if archived.replaced_by else ""
        message = f"{run.spec.runbook_ref.kind} {run.spec.runbook_ref.name} is archived: {archived.reason}{instead}"
        return Refusal(reason="RunbookArchived", message=message)
    parameters, wrong = bind_parameters(runbook, run.spec.parameters)
    if wrong:
        return Refusal(reason="ParametersInvalid", message="; ".join(p.message for p in wrong[:4]))
    grants = await grants_of(context, namespace)
    if not grants and run.status.started_at is None:
        return Refusal(
            reason="GrantMissing",
            message=f"no ActionGrant selects namespace {namespace}: a platform admin grants what its runs may touch",
        )
    if run.status.started_at is None:
        refusal = await _joins(context, run) or await handled(context, run, runbook.incident_type)
        if refusal is not None:
            return refusal
        await context.revisions.ensure(namespace, revision, spec)
    return Resolved(runbook=runbook, revision=revision, parameters=parameters, dependencies=graph, grants=grants)


async def _joins(context: Context, run: IncidentRun) -> Refusal | None:
    """Return why a run can't join the incident that it names; None where it can, or names none."""
    name, namespace = run.spec.incident.name, run.metadata.namespace or ""
    if name is None:
        return None
    raw = context.store.get("Incident", (namespace, name))
    if raw is None:
        try:
            raw = await context.kube.get("Incident", namespace, name)
        except NotFound:
            message = f"there is no incident {name} in namespace {namespace}: describe a new one (title, severity)"
            return Refusal(reason="IncidentNotFound", message=message)
    if (raw.get("status") or {}).get("settled"):
        message = f"incident {name} is over for good: describe a new one (title, severity)"
        return Refusal(reason="IncidentClosed", message=message)
    return None


async def is_stale(context: Context, run: IncidentRun) -> bool:
    """Tell whether people stand no more behind a run's runbook as it is now: a review is overdue, or it is archived.

    A runbook that is gone is judged by what its pinned revision says, from the run's start on.
    """
    pin, namespace = run.status.runbook, run.metadata.namespace or ""
    if pin is None:
        return False
    now = context.clock.now()
    key = (namespace if pin.kind == "Runbook" else "", pin.name)
    raw, live = context.store.get(pin.kind, key), context.store.read(pin.kind, key, spec_and_revision)
    if raw is not None and live is not None:
        (spec, revision), installed = live, parse_instant(raw["metadata"]["creationTimestamp"])
    else:
        pinned = await context.revisions.load(namespace, pin.revision)
        if pinned is None:
            return False
        spec, revision, installed = pinned, pin.revision, run.status.started_at or now
    maintenance = context.runbooks.read(revision, spec)[0].maintenance
    others = await other_reviewers(Policies(context), key[0], maintenance)
    return freshness(maintenance, installed, now, others).fresh is False


async def other_reviewers(policies: Policies, namespace: str, maintenance: Maintenance | None) -> tuple[str, ...]:
    """Return who reviews a runbook that names nobody: those on call, by the EscalationPolicy of its namespace.

    That of the operator's namespace holds for a ClusterRunbook, whose namespace is "". Errors: KubeError.
    """
    if not leaves_reviewers_open(maintenance):
        return ()
    policy = await policies.stored(namespace or policies.context.settings.operator_namespace)
    return on_call(policy.spec if policy is not None else None)


def spec_and_revision(runbook: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a stored runbook's spec and the name of its revision."""
    spec = runbook["spec"]
    return spec, revision_name(runbook["kind"], runbook["metadata"]["name"], spec)


async def grants_of(context: Context, namespace: str) -> tuple[ActionGrant, ...]:
    """Return the grants that select a namespace, by name."""
    labels = await context.kube.namespace_labels(namespace)
    grants = context.store.read_all("ActionGrant", ActionGrant.model_validate)
    return tuple(sorted((g for g in grants if g.selects(labels)), key=lambda g: g.metadata.name))


def guardrails_of(context: Context, run: IncidentRun | None) -> tuple[datetime | None, bool]:
    """Return until when the policy that started a run rests, and whether its circuit is open; nothing without one."""
    policy = policy_of(context, run) if run is not None else None
    if policy is None:
        return None, False
    return cooldown_until(policy, context.settings.timing), policy.status.circuit is not None


def policy_of(context: Context, run: IncidentRun) -> RemediationPolicy | None:
    """Return the policy that started a run; None where none did, or it is gone."""
    for owner in run.metadata.owner_references:
        if owner.kind == RemediationPolicy.resource.kind:
            key = (run.metadata.namespace or "", owner.name)
            policy = context.store.read(owner.kind, key, RemediationPolicy.model_validate)
            if policy is not None and policy.metadata.uid == owner.uid:
                return policy
    return None
