"""IAM: what a role was denied and why; give back what was taken, exactly, and only where nobody meant to take it.

Source: facts on AWS (section 4, rows 6, 7), decisions 14, 24.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Guard, Hazard, Read, Repeat, Undo
from ..core.draft import GrantedAccess, Judgement, NotApplicable, PlanDraft, Removal, Waits
from ..core.planning import is_protected
from .awslambda import Denial, ErrorInputs, read_errors
from .base import CheckAction, Facts, FixAction, Found, Output, ReasonInfo, Unclear, register
from .policies import document_of
from .ports import Reader
from .role_access import (
    CALL_TIMEOUT,
    Access,
    AccessFacts,
    AccessInputs,
    FormerVersion,
    exact,
    explaining,
    own_name,
    read_access,
)
from .traffic import Traffic, measure

# --- iam.role-access --------------------------------------------------------------------------------------------------


class AccessOutput(Output):
    """Counts, and the missing pairs for fixes."""

    checked: int
    allowed: int
    missing: tuple[str, ...] = ()
    explicit: int = 0


@register
class RoleAccess(CheckAction[AccessInputs, AccessFacts]):
    """May the role do what it was denied or needs, and who took it away?"""

    name = "iam.role-access"
    title = "Role, policies, boundary and resource policies"
    inputs_model = AccessInputs
    facts_model = AccessFacts
    reads = (
        "iam:SimulatePrincipalPolicy",
        "iam:ListAttachedRolePolicies",
        "iam:GetPolicy",
        "iam:ListPolicyVersions",
        "iam:GetPolicyVersion",
        "iam:GetRolePolicy",
        "s3:GetBucketPolicy",
        "dynamodb:GetResourcePolicy",
        "kms:GetKeyPolicy",
        "cloudtrail:LookupEvents",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "RoleLacksPermission": ReasonInfo(doc="No policy allows what the role needs.", root_cause=True),
        "ExplicitDeny": ReasonInfo(doc="A policy denies it in so many words: on purpose.", root_cause=True),
        "BoundaryDenies": ReasonInfo(doc="The role's permissions boundary does not allow it.", root_cause=True),
        "AccessRemovedOnPurpose": ReasonInfo(doc="A protected actor took the access away.", root_cause=True),
    }

    def observe(self, inputs: AccessInputs, reader: Reader) -> AccessFacts:
        """Simulate, read resource policies, ask CloudTrail."""
        return read_access(inputs, reader)

    def output(self, facts: AccessFacts) -> AccessOutput:
        """Return counts and the missing pairs."""
        return AccessOutput(
            checked=len(facts.access),
            allowed=sum(not (a.missing or a.explicit or a.boundary_denies) for a in facts.access),
            missing=tuple(f"{a.action} {a.resource}" for a in facts.missing[:6]),
            explicit=sum(a.explicit for a in facts.access),
        )

    def findings(self, inputs: AccessInputs, facts: AccessFacts) -> Sequence[Found] | Unclear:
        """Say per pair why it is denied, and by whom where CloudTrail shows it."""
        found: list[Found] = []
        unknown = False
        for access in facts.access:
            reason, message = _verdict(inputs, facts, access)
            if not reason:
                continue
            change = explaining(facts, access)
            if change is not None:
                when = f"{change.at:%Y-%m-%d %H:%M:%S}Z" if change.at else "an unknown time"
                message += f"; {change.event} by {change.actor} at {when}"
            elif reason == "RoleLacksPermission":
                unknown = True
            found.append(
                Found(
                    reason=reason,
                    message=message,
                    subject=access.resource,
                    actor=change.actor if change else None,
                    at=change.at if change else None,
                )
            )
        if unknown:
            return Unclear(
                reason="ActorUnknown",
                message="CloudTrail does not show (yet) who took the access away",
                found=tuple(found),
                retry_at=facts.looked_at,
            )
        return found


def _verdict(inputs: AccessInputs, facts: AccessFacts, access: Access) -> tuple[str, str]:
    what = f"{inputs.role_name} may not {access.action} on {access.resource}"
    if access.explicit:
        return "ExplicitDeny", f"{what}: an explicit Deny in {access.denied_by or 'a policy'}"
    if access.boundary_denies:
        return "BoundaryDenies", f"{what}: its permissions boundary does not allow it"
    if access.missing:
        change = explaining(facts, access)
        if change is not None and is_protected(change.actor, facts.protected):
            return "AccessRemovedOnPurpose", f"{what}: a protected actor took it away"
        return "RoleLacksPermission", f"{what}: no policy allows it"
    return "", ""


# --- iam.restore-role-access ------------------------------------------------------------------------------------------


class RestoreInputs(AccessInputs):
    """The function whose invocations prove it, and an agreed probe event, if any."""

    function_name: str = Field(min_length=1)
    alias: str | None = None
    min_invocations: int = Field(3, ge=1)
    probe_event: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """How people call the function."""
        return f"{self.function_name}:{self.alias}" if self.alias else self.function_name


class RestoreEffect(Facts):
    """What the function met since the access was given back."""

    traffic: Traffic
    denials: tuple[Denial, ...] = ()


@register
class RestoreRoleAccess(FixAction[RestoreInputs, AccessFacts]):
    """Give back what was taken: the policy's former version, else exactly what is missing under our own name."""

    name = "iam.restore-role-access"
    title = "Restore the role's access"
    inputs_model = RestoreInputs
    facts_model = AccessFacts
    reads = (*RoleAccess.reads, "cloudwatch:GetMetricData", "logs:FilterLogEvents")
    writes = ("iam:SetDefaultPolicyVersion", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "lambda:InvokeFunction")
    risk = "Low: users do not notice. It gives access, so it asks beyond what the grant calls restorable."
    undo = "The version that was the default is the default again, or the policy that was added is deleted."
    waits = Waits(wait=timedelta(seconds=60), every=timedelta(seconds=20), deadline=timedelta(minutes=10))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ExplicitDeny": ReasonInfo(doc="An Allow can't beat a Deny, and somebody wrote it on purpose."),
        "BoundaryDenies": ReasonInfo(doc="An Allow can't pass the boundary."),
        "NothingMissing": ReasonInfo(doc="The role has the access."),
    }

    def observe(self, inputs: RestoreInputs, reader: Reader) -> AccessFacts:
        """Read the same as the check."""
        return read_access(inputs, reader)

    def plan(self, inputs: RestoreInputs, facts: AccessFacts) -> PlanDraft | NotApplicable:
        """Prefer the former version of the policy: it restores what was, and is undone exactly."""
        denied = [a for a in facts.access if a.explicit]
        missing = facts.missing
        if denied and not missing:
            first = denied[0]
            message = f"{first.action} is denied explicitly by {first.denied_by or 'a policy'}: its owner must lift it"
            return NotApplicable(reason="ExplicitDeny", message=message)
        if any(a.boundary_denies for a in missing):
            message = f"the permissions boundary of {inputs.role_name} does not allow it: giving access would not help"
            return NotApplicable(reason="BoundaryDenies", message=message)
        if not missing:
            message = f"{inputs.role_name} has all the access that was asked for"
            return NotApplicable(reason="NothingMissing", message=message)
        removals = tuple(self._removal(facts, a) for a in missing)
        if facts.former is not None:
            return self._former_version(inputs, facts.former, removals)
        return self._own_policy(inputs, facts, removals)

    def _removal(self, facts: AccessFacts, access: Access) -> Removal:
        change = explaining(facts, access)
        if change is None or change.actor == "unknown":
            return Removal(actor=None)
        return Removal(actor=change.actor, at=change.at, event=change.event)

    def _former_version(self, inputs: RestoreInputs, former: FormerVersion, removals: tuple[Removal, ...]) -> PlanDraft:
        name = former.policy_arn.rsplit("/", 1)[-1]

        def choose(version: str) -> Call:
            return Call(
                service="iam",
                operation="set_default_policy_version",
                arguments={"PolicyArn": former.policy_arn, "VersionId": version},
                permissions=("iam:SetDefaultPolicyVersion",),
                resources=(former.policy_arn,),
                repeat=Repeat.ABSOLUTE,
                timeout=CALL_TIMEOUT,
                summary=f"make {version} the default of policy {name}",
            )

        gives = "; ".join(f"+ {a} on {r}" for a, r in former.gives)
        return self._draft(
            inputs,
            title=f"restore policy {name} of {inputs.role_name} to {former.former}",
            calls=(choose(former.former),),
            touches=(former.policy_arn,),
            undo=Undo(
                calls=(choose(former.current),),
                safe_when=f"the default is still {former.former}",
                guards=(
                    Guard(
                        read=Read(service="iam", operation="get_policy", arguments={"PolicyArn": former.policy_arn}),
                        path="DefaultVersionId",
                    ),
                ),
            ),
            diff=DiffLine(what=f"policy {name}", before=former.current, after=f"{former.former}: {gives}"[:2048]),
            grants=tuple(GrantedAccess(role=inputs.role_arn, action=a, resource=r) for a, r in former.gives),
            removals=removals,
        )

    def _own_policy(self, inputs: RestoreInputs, facts: AccessFacts, removals: tuple[Removal, ...]) -> PlanDraft:
        pairs = exact([a.pair for a in facts.missing], inputs)
        name = own_name([a.pair for a in facts.missing], inputs)
        target: dict[str, Any] = {"RoleName": inputs.role_name, "PolicyName": name}
        document = json.dumps(document_of(pairs), separators=(",", ":"), sort_keys=True)

        def call(operation: str, permission: str, summary: str, **arguments: Any) -> Call:
            return Call(
                service="iam",
                operation=operation,
                arguments={**target, **arguments},
                permissions=(permission,),
                resources=(inputs.role_arn,),
                repeat=Repeat.ABSOLUTE,
                timeout=CALL_TIMEOUT,
                summary=summary,
            )

        put = call("put_role_policy", "iam:PutRolePolicy", f"add inline policy {name}", PolicyDocument=document)
        delete = call("delete_role_policy", "iam:DeleteRolePolicy", f"delete inline policy {name}")
        gives = "; ".join(f"+ {p.action} on {p.resource}" for p in pairs)
        return self._draft(
            inputs,
            title=f"give {inputs.role_name} back {len(pairs)} permission{'s' if len(pairs) != 1 else ''}",
            calls=(put,),
            touches=(inputs.role_arn,),
            undo=Undo(
                calls=(delete,),
                safe_when=f"{name} is still what was added",
                guards=(
                    Guard(read=Read(service="iam", operation="get_role_policy", arguments=target), path="Statement"),
                ),
            ),
            diff=DiffLine(what=f"role {inputs.role_name}", before=None, after=f"{name}: {gives}"[:2048]),
            grants=tuple(GrantedAccess(role=inputs.role_arn, action=p.action, resource=p.resource) for p in pairs),
            removals=removals,
        )

    def _draft(
        self,
        inputs: RestoreInputs,
        *,
        title: str,
        calls: tuple[Call, ...],
        touches: tuple[str, ...],
        undo: Undo,
        diff: DiffLine,
        grants: tuple[GrantedAccess, ...],
        removals: tuple[Removal, ...],
    ) -> PlanDraft:
        if inputs.probe_event is not None:
            calls = (*calls, self._probe(inputs))
        return PlanDraft(
            title=title,
            calls=calls,
            touches=touches,
            risk=Risk.LOW,
            hazards=(Hazard.GRANTS_ACCESS,),
            region=inputs.region,
            verify=self.waits.verify(f"{inputs.min_invocations} invocations of {inputs.label}, none denied"),
            diff=(diff,),
            undo=undo,
            grants=grants,
            removals=removals,
        )

    def _probe(self, inputs: RestoreInputs) -> Call:
        """Return the agreed probe: once, as a call of the plan, under its approval. Source: decision 21."""
        account, region = inputs.role_arn.split(":")[4], inputs.region
        name = inputs.function_name
        arn = name if name.startswith("arn:") else f"arn:aws:lambda:{region}:{account}:function:{name}"
        return Call(
            service="lambda",
            operation="invoke",
            arguments={
                "FunctionName": name,
                **({"Qualifier": inputs.alias} if inputs.alias else {}),
                "Payload": json.dumps(inputs.probe_event),
            },
            permissions=("lambda:InvokeFunction",),
            resources=(arn, f"{arn}:*"),
            repeat=Repeat.ONCE,
            timeout=timedelta(seconds=30),
            keep=("StatusCode", "FunctionError"),
            summary=f"invoke {inputs.label} with the agreed probe event",
        )

    def applied(self, call: Call, inputs: RestoreInputs, facts: AccessFacts) -> bool | None:
        """Tell by the access itself: what was missing is there, or is still missing."""
        if call.operation in ("set_default_policy_version", "put_role_policy"):
            return not facts.missing
        if call.operation == "delete_role_policy":
            return bool(facts.missing)
        return None

    def measure(self, inputs: RestoreInputs, reader: Reader) -> RestoreEffect:
        """Read invocations and denials from a minute after the call: policies take a while to be known everywhere."""
        start = reader.since + reader.scaled(timedelta(seconds=60))
        if start >= reader.now:
            return RestoreEffect(traffic=Traffic())
        log = read_errors(
            ErrorInputs(function_name=inputs.function_name, alias=inputs.alias, region=inputs.region),
            reader,
            start,
            reader.now,
        )
        traffic = measure(reader, inputs.function_name, inputs.alias, start, reader.now, inputs.region)
        return RestoreEffect(traffic=traffic, denials=log.denials)

    def judge(self, inputs: RestoreInputs, before: AccessFacts, after: RestoreEffect) -> Judgement:
        """Enough invocations, and none denied what was given back. Denials of other things are another finding."""
        given = {(a.action, a.resource) for a in before.missing}
        still = [d for d in after.denials if (d.action, d.resource) in given]
        made = after.traffic.invocations or 0
        if still:
            message = f"{still[0].action} is still denied on {still[0].resource}"
            return Judgement(outcome=None, measured=True, message=message)
        if made < inputs.min_invocations:
            return Judgement(
                outcome=None,
                measured=False,
                message=f"{made:g} of {inputs.min_invocations} invocations of {inputs.label} seen since",
                waiting_for=f"traffic on {inputs.label}",
            )
        message = f"{made:g} invocations of {inputs.label} since, none denied what was given back"
        return Judgement(outcome="Helped", measured=True, message=message)
