"""What a disabled key does not end: a user's other ways in, and the sessions that were opened meanwhile.

Both are one inline policy of our own name that denies everything: taking it away again restores exactly what was. It
is inline because only ten managed policies fit on a user or role. Source: facts on AWS (section 4, row 21); IAM user
guide, "Revoke IAM role temporary security credentials".
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Guard, Hazard, Read, Repeat, Undo
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import Facts, FixAction, Inputs, ReasonInfo, register
from .iam_credentials import CALL_TIMEOUT, KeyFacts, KeyInputs, read_key
from .ports import NotFound, Reader, ReadError

QUARANTINE = "IncidentQuarantine"
_ISSUED = "aws:TokenIssueTime"
#: Whatever a simulation is asked about: everybody may do it, unless it is denied.
_PROBE = "sts:GetCallerIdentity"
#: IAM makes a policy known everywhere within seconds, seldom a minute.
_WAITS = Waits(wait=timedelta(seconds=60), every=timedelta(seconds=20), deadline=timedelta(minutes=10))


def _denying(statement: Mapping[str, Any]) -> dict[str, Any]:
    denied = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [{**denied, **statement}]}


def _denied_by(reader: Reader, arn: str, policy: str, **context: datetime) -> bool:
    """Tell whether our policy denies who has this ARN, by simulation. Errors: ReadError.

    Shape: `context` has the instant at which a session's credentials were issued, as `issued`.
    """
    arguments: dict[str, Any] = {"PolicySourceArn": arn, "ActionNames": [_PROBE]}
    if context:
        entry = {"ContextKeyName": _ISSUED, "ContextKeyType": "date"}
        arguments["ContextEntries"] = [{**entry, "ContextKeyValues": [context["issued"].isoformat()]}]
    results = reader.aws("iam", "simulate_principal_policy", arguments)
    return any(r["decision"] == "explicitDeny" and any(policy in p for p in r["policies"]) for r in results)


# --- iam.quarantine-user ----------------------------------------------------------------------------------------------


class UserFacts(KeyFacts):
    """A key, its user, and whether everything is denied to that user by our policy already."""

    quarantined: bool = False


class UserAfter(Facts):
    """Whether everything is denied to the user now, by simulation."""

    denied: bool = False


@register
class QuarantineUser(FixAction[KeyInputs, UserFacts]):
    """Deny everything to the user of a compromised key: all its keys, its console login and its own sessions."""

    name = "iam.quarantine-user"
    title = "Deny everything to the key's user"
    inputs_model = KeyInputs
    facts_model = UserFacts
    reads = (
        *("cloudtrail:LookupEvents", "iam:GetAccessKeyLastUsed", "iam:GetUser", "iam:GetUserPolicy"),
        *("iam:ListAccessKeys", "iam:SimulatePrincipalPolicy"),
    )
    writes = ("iam:PutUserPolicy", "iam:DeleteUserPolicy")
    risk = "Disruptive: whatever the user does is refused at once, with every key and in the console. Never automatic."
    undo = "Only on a person's word: the policy that was added is deleted."
    waits = _WAITS
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "KeyUnknown": ReasonInfo(doc="The account has no such key."),
        "AlreadyQuarantined": ReasonInfo(doc="Everything is denied to the user already, by a policy of ours."),
    }

    def observe(self, inputs: KeyInputs, reader: Reader) -> UserFacts:
        """Read the key and its user, and our policy, if it is there."""
        facts = read_key(inputs, reader)
        there = False
        if facts.user is not None:
            try:
                asked = {"UserName": facts.user, "PolicyName": QUARANTINE}
                there = reader.aws("iam", "get_user_policy", asked) == _denying({})
            except NotFound:
                there = False
        return UserFacts(**facts.model_dump(), quarantined=there)

    def plan(self, inputs: KeyInputs, facts: UserFacts) -> PlanDraft | NotApplicable:
        """One inline policy; a person agrees, and is told whether a service of ours uses the key."""
        if facts.user is None:
            return NotApplicable(reason="KeyUnknown", message=f"this account has no {inputs.label}")
        if facts.quarantined:
            message = f"everything is denied to user {facts.user}"
            return NotApplicable(reason="AlreadyQuarantined", message=message)
        target = {"UserName": facts.user, "PolicyName": QUARANTINE}

        def call(operation: str, permission: str, summary: str, **more: Any) -> Call:
            return Call(
                service="iam",
                operation=operation,
                arguments={**target, **more},
                permissions=(permission,),
                resources=(facts.user_arn,),
                repeat=Repeat.ABSOLUTE,
                timeout=CALL_TIMEOUT,
                summary=summary,
            )

        document = json.dumps(_denying({}), separators=(",", ":"), sort_keys=True)
        known = bool(inputs.own_networks and facts.calls)
        return PlanDraft(
            title=f"deny everything to user {facts.user}",
            calls=(call("put_user_policy", "iam:PutUserPolicy", f"add {QUARANTINE}", PolicyDocument=document),),
            touches=(facts.user_arn,),
            risk=Risk.DISRUPTIVE,
            region=inputs.region,
            verify=self.waits.verify(f"everything is denied to user {facts.user}, by simulation"),
            diff=(DiffLine(what=f"user {facts.user}", after=f"{QUARANTINE}: deny * on *"),),
            undo=Undo(
                calls=(call("delete_user_policy", "iam:DeleteUserPolicy", f"delete {QUARANTINE}"),),
                safe_when=f"{QUARANTINE} is still what was added",
                guards=(
                    Guard(read=Read(service="iam", operation="get_user_policy", arguments=target), path="Statement"),
                ),
            ),
            evidence_first=True,
            ask_because=(
                "ContainmentIsForPeople",
                *(("OwnServiceUsesKey",) if facts.own else ()),
                *(() if known else ("OwnUseUnknown",)),
            ),
        )

    def applied(self, call: Call, inputs: KeyInputs, facts: UserFacts) -> bool | None:
        """Tell by our policy."""
        return None if facts.user is None else facts.quarantined is (call.operation == "put_user_policy")

    def measure(self, inputs: KeyInputs, reader: Reader) -> UserAfter:
        """Ask the simulation."""
        arn = read_key(inputs, reader).user_arn
        return UserAfter(denied=bool(arn) and _denied_by(reader, arn, QUARANTINE))

    def judge(self, inputs: KeyInputs, before: UserFacts, after: UserAfter) -> Judgement:
        """By simulation alone: that nobody calls any more would prove nothing."""
        message = f"everything is {'' if after.denied else 'not '}denied to user {before.user}"
        return Judgement(outcome="Helped" if after.denied else None, measured=True, message=message)


# --- iam.revoke-sessions ----------------------------------------------------------------------------------------------


class SessionsInputs(Inputs):
    """Whose sessions, and until when they were opened. A session that is opened later is not touched."""

    role_arn: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", max_length=512)
    opened_before: datetime

    @field_validator("opened_before")
    @classmethod
    def _has_zone(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("openedBefore is an instant with a zone, such as 2026-01-15T14:00:00Z")
        return value.astimezone(UTC)

    @property
    def role_name(self) -> str:
        """The role's name: the last segment, since a role may have a path."""
        return self.role_arn.rsplit("/", 1)[-1]

    @property
    def policy_name(self) -> str:
        """The name of our policy: each instant has its own, so that none is overwritten."""
        return f"IncidentRevokeOlderSessions-{self.opened_before:%Y%m%dT%H%M%SZ}"

    @property
    def document(self) -> dict[str, Any]:
        """Our policy."""
        return _denying({"Condition": {"DateLessThan": {_ISSUED: f"{self.opened_before:%Y-%m-%dT%H:%M:%SZ}"}}})


class RoleFacts(Facts):
    """A role, and whether its older sessions are revoked.

    Shape: `services` are those that its trust policy lets assume it; `ours`: we are calling as this very role.
    """

    exists: bool = True
    linked: bool = False
    services: tuple[str, ...] = ()
    ours: bool = False
    revoked: bool = False
    looked_at: datetime


class RoleAfter(Facts):
    """Whether older sessions are refused, and newer ones are not, by simulation."""

    older: bool = False
    newer: bool = False


@register
class RevokeSessions(FixAction[SessionsInputs, RoleFacts]):
    """Deny everything to the sessions of a role that were opened before an instant; newer ones work as before."""

    name = "iam.revoke-sessions"
    title = "Revoke the role's older sessions"
    inputs_model = SessionsInputs
    facts_model = RoleFacts
    reads = ("iam:GetRole", "iam:GetRolePolicy", "iam:SimulatePrincipalPolicy")
    writes = ("iam:PutRolePolicy", "iam:DeleteRolePolicy")
    risk = (
        "Disruptive: every older session of the role is refused, not only the thief's. Destructive for a role that "
        "services assume: they are out until they assume it anew. Never automatic."
    )
    undo = "Only on a person's word: the policy that was added is deleted."
    waits = _WAITS
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "RoleUnknown": ReasonInfo(doc="The account has no such role."),
        "ServiceLinkedRole": ReasonInfo(doc="The role is an AWS service's own: it takes no policy."),
        "OwnRole": ReasonInfo(doc="The operator itself reads as this role: it would shut itself out."),
        "InstantAhead": ReasonInfo(doc="The instant is still ahead: sessions that are yet to come would be refused."),
        "AlreadyRevoked": ReasonInfo(doc="The role's sessions from before this instant are refused already."),
    }

    def observe(self, inputs: SessionsInputs, reader: Reader) -> RoleFacts:
        """Read the role and our policy, if it is there. Errors: ReadError, also where nobody can tell who trusts it."""
        name = inputs.role_name
        try:
            role = reader.aws("iam", "get_role", {"RoleName": name})
        except NotFound:
            return RoleFacts(exists=False, looked_at=reader.now)
        services = role.get("TrustedServices", ())
        if services is None:
            raise ReadError("MalformedAnswer", f"the trust policy of {name} can't be read: who assumes it is not known")
        try:
            asked = {"RoleName": name, "PolicyName": inputs.policy_name}
            revoked = reader.aws("iam", "get_role_policy", asked) == inputs.document
        except NotFound:
            revoked = False
        caller = reader.aws("sts", "get_caller_identity")["Arn"]
        return RoleFacts(
            exists=role["Arn"] == inputs.role_arn,
            linked=role["Path"].startswith("/aws-service-role/"),
            services=tuple(services)[:8],
            ours=f":assumed-role/{name}/" in caller,
            revoked=revoked,
            looked_at=reader.now,
        )

    def plan(self, inputs: SessionsInputs, facts: RoleFacts) -> PlanDraft | NotApplicable:
        """One inline policy; a person agrees, and of a role that services assume it is an outage by design."""
        name, arn, before = inputs.role_name, inputs.role_arn, f"{inputs.opened_before:%Y-%m-%d %H:%M:%S}Z"
        why: Mapping[str, tuple[bool, str]] = {
            "RoleUnknown": (not facts.exists, f"this account has no role {arn}"),
            "ServiceLinkedRole": (facts.linked, f"{name} is a service's own role and takes no policy"),
            "OwnRole": (facts.ours, f"the operator itself reads as {name}"),
            "InstantAhead": (inputs.opened_before > facts.looked_at, f"{before} is still ahead"),
            "AlreadyRevoked": (facts.revoked, f"sessions of {name} opened before {before} are refused"),
        }
        for reason, (fits, message) in why.items():
            if fits:
                return NotApplicable(reason=reason, message=message)
        target = {"RoleName": name, "PolicyName": inputs.policy_name}

        def call(operation: str, permission: str, summary: str, **more: Any) -> Call:
            return Call(
                service="iam",
                operation=operation,
                arguments={**target, **more},
                permissions=(permission,),
                resources=(arn,),
                repeat=Repeat.ABSOLUTE,
                timeout=CALL_TIMEOUT,
                summary=summary,
            )

        document = json.dumps(inputs.document, separators=(",", ":"), sort_keys=True)
        who = f" (assumed by {', '.join(facts.services)})" if facts.services else ""
        return PlanDraft(
            title=f"revoke sessions of role {name} opened before {before}",
            calls=(call("put_role_policy", "iam:PutRolePolicy", f"add {inputs.policy_name}", PolicyDocument=document),),
            touches=(arn,),
            risk=Risk.DESTRUCTIVE if facts.services else Risk.DISRUPTIVE,
            hazards=(Hazard.OUTAGE,) if facts.services else (),
            verify=self.waits.verify("older sessions are refused and newer ones are not, by simulation"),
            diff=(DiffLine(what=f"role {name}{who}", after=f"{inputs.policy_name}: deny * on * to older sessions"),),
            undo=Undo(
                calls=(call("delete_role_policy", "iam:DeleteRolePolicy", f"delete {inputs.policy_name}"),),
                safe_when=f"{inputs.policy_name} is still what was added",
                guards=(
                    Guard(read=Read(service="iam", operation="get_role_policy", arguments=target), path="Statement"),
                ),
            ),
            evidence_first=True,
            ask_because=("ContainmentIsForPeople",),
        )

    def applied(self, call: Call, inputs: SessionsInputs, facts: RoleFacts) -> bool | None:
        """Tell by our policy."""
        return facts.revoked is (call.operation == "put_role_policy") if facts.exists else None

    def measure(self, inputs: SessionsInputs, reader: Reader) -> RoleAfter:
        """Ask the simulation for a session from just before the instant, and for one from now."""
        older = inputs.opened_before - timedelta(seconds=1)
        return RoleAfter(
            older=_denied_by(reader, inputs.role_arn, inputs.policy_name, issued=older),
            newer=_denied_by(reader, inputs.role_arn, inputs.policy_name, issued=reader.now),
        )

    def judge(self, inputs: SessionsInputs, before: RoleFacts, after: RoleAfter) -> Judgement:
        """Older ones are refused and newer ones are not; the other way round, it does harm."""
        name = inputs.role_name
        if after.newer:
            message = f"new sessions of {name} are refused as well"
            return Judgement(outcome="Worse", measured=True, message=message)
        message = f"older sessions of {name} are {'' if after.older else 'not '}refused, newer ones are not"
        return Judgement(outcome="Helped" if after.older else None, measured=True, message=message)
