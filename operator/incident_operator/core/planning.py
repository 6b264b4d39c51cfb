"""From an action's draft to a plan: account, role, tier, hash and name. Source: decisions 13, 14, 24."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

from ..api.grant import ActionGrant
from ..api.meta import API_VERSION, Metadata, OwnerReference, Risk
from ..api.plan import (
    Call,
    Guard,
    Hazard,
    Permission,
    Precondition,
    RemediationPlan,
    RemediationPlanSpec,
    RunReference,
    Tier,
)
from ..api.run import IncidentRun
from ..api.runbook import Fix
from .draft import GrantedAccess, GrantedPath, PlanDraft
from .risk import covers, matches

HASH_VERSION = 1
_TIER = {Risk.NONE: Tier.LOW, Risk.LOW: Tier.LOW, Risk.DISRUPTIVE: Tier.DISRUPTIVE, Risk.DESTRUCTIVE: Tier.DESTRUCTIVE}


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's RFC 8785 canonical form, in hex."""
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def _hashed_call(call: Call) -> dict[str, Any]:
    wire = call.wire()
    for volatile in call.volatile:
        wire["arguments"].pop(volatile.argument, None)
    wire.pop("volatile", None)
    wire.pop("summary", None)
    return wire


def hash_draft(draft: PlanDraft, grant: ActionGrant, *, fix: str, confidential: bool = False) -> str:
    """Return the hash of what would be executed, without what may differ between two looks at the same world.

    Errors: ValueError for a grant without AWS.
    Source: decision 13: not candidates, diff, permission, attempt, title, nor volatile arguments. Why people must
    agree, and so who, is hashed too: they agreed to a plan of that tier.
    """
    aws = grant.spec.aws
    if aws is None:
        raise ValueError(f"ActionGrant {grant.metadata.name} has no aws section")
    asks = reasons_to_ask(draft, grant)
    return digest(
        {
            "fix": fix,
            "askBecause": sorted(asks),
            "tier": tier_of(draft, asks, confidential=confidential),
            "calls": [_hashed_call(c) for c in draft.calls],
            "preconditions": [p.wire() for p in draft.preconditions],
            "touches": sorted(draft.touches),
            "risk": draft.risk,
            "hazards": sorted(draft.hazards),
            "verify": draft.verify.wire(),
            "undo": {"calls": [_hashed_call(c) for c in draft.undo.calls]} if draft.undo else None,
            "account": aws.account,
            "region": draft.region or aws.regions[0],
            "role": aws.role_arn,
        }
    )


def is_restorable(access: GrantedAccess | GrantedPath, grant: ActionGrant) -> bool:
    """Tell whether the grant lets a machine give this access back, or open this way again."""
    if isinstance(access, GrantedPath):
        wanted = (access.source, access.target, access.port)
        return any((path.source, path.target, path.port) == wanted for path in grant.spec.restorable.paths)
    return any(
        matches(access.role, (entry.role,))
        and any(covers(a.lower(), access.action.lower()) for a in entry.actions)
        and any(covers(r, access.resource) for r in entry.resources)
        for entry in grant.spec.restorable.access
    )


def reasons_to_ask(draft: PlanDraft, grant: ActionGrant) -> tuple[str, ...]:
    """Return why a person must agree to a draft that gives access. Source: decision 24."""
    reasons = list(draft.ask_because)
    if Hazard.GRANTS_ACCESS in draft.hazards:
        protected = grant.spec.aws.protected_actors if grant.spec.aws else ()
        if any(r.actor and is_protected(r.actor, protected) for r in draft.removals):
            reasons.append("AccessRemovedOnPurpose")
        if not draft.removals or any(r.actor is None for r in draft.removals):
            reasons.append("ActorUnknown")
        if not draft.grants or not all(is_restorable(a, grant) for a in draft.grants):
            reasons.append("BeyondRestorable")
    return tuple(dict.fromkeys(reasons))


def is_protected(actor: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether an actor's ARN matches a protected pattern, by its session or by the role behind it.

    `arn:aws:sts::A:assumed-role/Audit/alice` also stands for `arn:aws:iam::A:role/Audit`.
    """
    names = [actor]
    parts = actor.split(":")
    if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        names.append(f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}")
    return any(matches(name, patterns) for name in names)


def tier_of(draft: PlanDraft, asks: tuple[str, ...], *, confidential: bool = False) -> Tier:
    """Return who must agree; of a confidential incident always the Security tier. Source: decision 14."""
    beyond = Hazard.GRANTS_ACCESS in draft.hazards and {"BeyondRestorable", "AccessRemovedOnPurpose"} & set(asks)
    if confidential or Hazard.EXPOSES_DATA in draft.hazards or beyond:
        return Tier.SECURITY
    return _TIER[draft.risk]


def plan_name(run: str, fix: str, attempt: int, hash_: str) -> str:
    """Return `<run>-<fix>-<attempt>-<hash8>`; a long run name is hashed. Source: decision 13."""
    tail = f"{fix.lower()}-{attempt}-{hash_[:8]}"
    if len(run) + len(tail) + 1 > 200:
        run = run[:100].rstrip("-.") + "-" + hashlib.sha256(run.encode()).hexdigest()[:10]
    return f"{run}-{tail}"


def complete(
    draft: PlanDraft,
    *,
    run: IncidentRun,
    fix: Fix,
    attempt: int,
    inputs: Mapping[str, Any],
    grant: ActionGrant,
    permission: Permission,
    confidential: bool = False,
) -> RemediationPlan:
    """Return the plan object to create: the draft plus account, region, role, tier, hash, name and owner.

    Errors: ValueError for a grant without AWS.
    """
    aws = grant.spec.aws
    if aws is None:
        raise ValueError(f"ActionGrant {grant.metadata.name} has no aws section")
    region = draft.region or aws.regions[0]
    asks = reasons_to_ask(draft, grant)
    hash_ = hash_draft(draft, grant, fix=fix.name, confidential=confidential)
    spec = RemediationPlanSpec(
        run_ref=RunReference(name=run.metadata.name, uid=run.metadata.uid),
        fix=fix.name,
        action=fix.action,
        attempt=attempt,
        title=draft.title,
        inputs=dict(inputs),
        calls=draft.calls,
        preconditions=draft.preconditions,
        touches=tuple(sorted(draft.touches)),
        risk=draft.risk,
        tier=tier_of(draft, asks, confidential=confidential),
        confidential=confidential,
        hazards=tuple(sorted(draft.hazards)),
        ask_because=asks,
        diff=draft.diff,
        permission=permission,
        verify=draft.verify,
        undo=draft.undo,
        irreversible=draft.irreversible,
        revert_if_worse=draft.revert_if_worse,
        candidates=draft.candidates,
        max_targets=draft.max_targets,
        capacity=draft.capacity,
        downstream=draft.downstream,
        common_cause=draft.common_cause,
        evidence_first=draft.evidence_first,
        needs_break_glass=draft.needs_break_glass,
        temporary=fix.temporary,
        deletion_policy=run.spec.deletion_policy,
        account=aws.account,
        region=region,
        role=aws.role_arn,
        hash=hash_,
        hash_version=HASH_VERSION,
    )
    owner = OwnerReference(api_version=API_VERSION, kind="IncidentRun", name=run.metadata.name, uid=run.metadata.uid)
    return _named(spec, run.metadata.name, run.metadata.namespace, owner)


#: Velero restores a status only where this is set: without it a restored plan would start anew.
RESTORE_STATUS = {"velero.io/restore-status": "true"}


def _named(spec: RemediationPlanSpec, run: str, namespace: str | None, *owners: OwnerReference) -> RemediationPlan:
    metadata = Metadata(
        name=plan_name(run, spec.fix, spec.attempt, spec.hash),
        namespace=namespace,
        labels={"ops.shopsmart.com/run": run[:63].rstrip("-."), "ops.shopsmart.com/fix": spec.fix},
        annotations=RESTORE_STATUS,
        owner_references=owners,
    )
    return RemediationPlan(metadata=metadata, spec=spec)


def revert_of(plan: RemediationPlan, attempt: int) -> RemediationPlan | None:
    """Return the plan that puts a settled plan back; None where it can't be: no undo, or nothing known to rest on.

    It rests on what the undo's guards read right after the fix: it is made only if all of it is still so. It has no
    owner: it may be wanted when the run is gone. Source: decision 16.
    """
    undo = plan.spec.undo
    if undo is None or not plan.status.calls or (undo.guards and not isinstance(plan.status.post_image, list)):
        return None
    images = plan.status.post_image or []
    calls = undo.calls
    spec = plan.spec.model_copy(
        update={
            "attempt": attempt,
            "title": f"put back: {plan.spec.title}"[:1024],
            "calls": calls,
            "preconditions": tuple(
                Precondition(read=guard.read, path=guard.path, equals=image)
                for guard, image in zip(undo.guards, images, strict=True)
            ),
            "diff": tuple(d.model_copy(update={"before": d.after, "after": d.before}) for d in plan.spec.diff),
            "verify": plan.spec.verify.model_copy(update={"signal": "the calls succeed: the former state is back"}),
            "hazards": (),
            "ask_because": (),
            "tier": Tier.SECURITY if plan.spec.confidential else _TIER[plan.spec.risk],
            "undo": None,
            "irreversible": f"it is itself the undo of {plan.metadata.name}; the fix can be planned anew",
            "revert_if_worse": False,
            "temporary": None,
            "revert_of": plan.metadata.name,
            "candidates": (),
            "max_targets": None,
            "evidence_first": False,
            "needs_break_glass": False,
        }
    )
    hashed = digest({"revertOf": plan.metadata.uid, "calls": [_hashed_call(c) for c in calls], "attempt": attempt})
    spec = spec.model_copy(update={"hash": hashed})
    return _named(spec, plan.spec.run_ref.name, plan.metadata.namespace)


def still_matching(plan: RemediationPlanSpec, draft: PlanDraft) -> tuple[str, ...]:
    """Return the approved candidates that still match, in the plan's order, at most as many as may be acted on.

    Source: decision 13: act on approved ∩ still matching, never more.
    """
    now = set(draft.candidates)
    kept = tuple(arn for arn in plan.candidates if arn in now)
    return kept if plan.max_targets is None else kept[: plan.max_targets]


def aimed(call: Call, plan: RemediationPlan) -> Call:
    """Return the call with its targets filled in, permitted on no candidate that is not one of them."""
    if not plan.spec.candidates:
        return call
    left_out = set(plan.spec.candidates) - set(plan.status.targets)
    return call.model_copy(
        update={
            "arguments": with_targets(call.arguments, plan.status.targets),
            "resources": tuple(arn for arn in call.resources if arn not in left_out),
        }
    )


def with_targets(value: Any, targets: Sequence[str]) -> Any:
    """Return a call's arguments with each `{fromTargets: {after, as}}` replaced by the list of targets.

    Shape: the ARNs as they are; with `after`, what follows its last occurrence; with `as`, each as an object of that
    one key: `{fromTargets: {after: /, as: Id}}` gives `[{Id: i-1}, {Id: i-2}]`.
    """
    if isinstance(value, Mapping):
        if set(value) == {"fromTargets"}:
            how = value["fromTargets"]
            names = [arn.rpartition(how["after"])[2] if "after" in how else arn for arn in targets]
            return [{how["as"]: name} for name in names] if "as" in how else names
        return {k: with_targets(v, targets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_targets(v, targets) for v in value]
    return value


def moved_guard(guards: Sequence[Guard], was: Any, now: Sequence[Any]) -> str:
    """Return what differs from what was read right after the fix, in words; empty where nothing does."""
    if not guards:
        return ""
    if not isinstance(was, list) or len(was) != len(guards):
        return "what the fix left was not recorded"
    for guard, before, after in zip(guards, was, now, strict=True):
        if before != after:
            return f"{guard.read.service}:{guard.read.operation} {guard.path} was changed since"
    return ""
