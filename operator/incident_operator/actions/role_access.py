"""What a role was denied, which policies decide it, and who changed them: read by the check and the fix of `iam`.

The verdict on identity policies is AWS's own simulation; resource policies are read and judged here, which is at best
"likely": a real invocation decides. Source: facts on AWS (section 4, rows 1, 5, 6), decisions 20, 24.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from ..api.meta import parse_instant
from .awslambda import Denial
from .base import ActionModel, Facts, Inputs
from .policies import Pair, added, allows, resource_policy
from .ports import NotFound, Reader

#: Until then CloudTrail may not show a change. Source: decision 24.
TRAIL_DELAY = timedelta(minutes=15)
#: How far back a change can be what broke it.
TRAIL_WINDOW = timedelta(days=7)
CALL_TIMEOUT = timedelta(seconds=10)


class RequiredAccess(ActionModel):
    """Access that the function is known to need: declared by the run, not guessed."""

    actions: tuple[str, ...] = Field(min_length=1, max_length=32)
    resources: tuple[str, ...] = Field(min_length=1, max_length=32)


class AccessInputs(Inputs):
    """A role, and what it was denied or needs."""

    role_arn: str = Field(pattern=r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/.+)?$")
    denials: tuple[Denial, ...] = ()
    required_access: tuple[RequiredAccess, ...] = ()
    region: str | None = None

    @property
    def role_name(self) -> str:
        """The role's name: the last segment, since a role may have a path."""
        return self.role_arn.rsplit("/", 1)[-1]

    def pairs(self) -> tuple[Pair, ...]:
        """Return what was denied, then what is declared; each once."""
        found = [Pair(action=d.action, resource=d.resource) for d in self.denials]
        found += [Pair(action=a, resource=r) for n in self.required_access for a in n.actions for r in n.resources]
        return tuple(dict.fromkeys(found))[:24]


class Access(ActionModel):
    """One pair, as every policy that has a say sees it."""

    action: str
    resource: str
    identity: Literal["allowed", "implicitDeny", "explicitDeny"]
    boundary_denies: bool = False
    #: What the bucket's, table's or key's own policy says; None where there is none to ask.
    resource_policy: Literal["Allows", "Denies", "Silent"] | None = None
    denied_in_log: bool = False
    #: The policy whose explicit Deny it is.
    denied_by: str = ""

    @property
    def explicit(self) -> bool:
        """Somebody says no in so many words."""
        return self.identity == "explicitDeny" or self.resource_policy == "Denies"

    @property
    def missing(self) -> bool:
        """Nobody says no, nobody says yes."""
        return self.identity == "implicitDeny" and not self.explicit and self.resource_policy != "Allows"

    @property
    def pair(self) -> Pair:
        """Action and resource."""
        return Pair(action=self.action, resource=self.resource)


class Change(ActionModel):
    """A change that explains the present: its result is what stands now."""

    event: str
    subject: str
    actor: str
    at: datetime | None = None


class FormerVersion(ActionModel):
    """A customer-managed policy of the role whose former version allows what is missing."""

    policy_arn: str
    current: str
    former: str
    #: What going back would give, as the former version writes it.
    gives: tuple[tuple[str, str], ...] = ()


class AccessFacts(Facts):
    """The role's access, and who changed it."""

    access: tuple[Access, ...] = ()
    changes: tuple[Change, ...] = ()
    #: What was changed by an event that CloudTrail does not show (yet): a resource whose present policy is not the
    #: newest event's result, a policy of the role whose other version allows what is missing.
    unseen: tuple[str, ...] = ()
    former: FormerVersion | None = None
    protected: tuple[str, ...] = ()
    own_policy: Any = None
    looked_at: datetime

    @property
    def missing(self) -> tuple[Access, ...]:
        """What can be given back."""
        return tuple(a for a in self.access if a.missing)


def read_access(inputs: AccessInputs, reader: Reader) -> AccessFacts:
    """Read all that decides on the pairs. Errors: ReadError."""
    pairs = inputs.pairs()
    if not inputs.role_arn or not pairs:
        return AccessFacts(looked_at=reader.now)
    denied = {Pair(action=d.action, resource=d.resource) for d in inputs.denials}
    policies = _Policies(inputs, reader)
    policies.prefetch(pairs)
    simulated = _simulate(inputs.role_arn, pairs, reader)
    access = []
    for pair in pairs:
        verdict = simulated.get(pair, {})
        own = policies.resource_policy(pair.resource)
        said = resource_policy(own, inputs.role_arn, pair) if own is not None else None
        access.append(
            Access(
                action=pair.action,
                resource=pair.resource,
                identity=verdict.get("decision", "implicitDeny"),
                boundary_denies=verdict.get("allowedByBoundary") is False,
                resource_policy=said,
                denied_in_log=pair in denied,
                denied_by=_subject_of(pair.resource)
                if said == "Denies"
                else ", ".join(verdict.get("policies", ()) if verdict.get("decision") == "explicitDeny" else ()),
            )
        )
    suspects = [a for a in access if a.missing or a.explicit]
    missing = [a.pair for a in access if a.missing]
    if suspects:
        _prefetch_events(inputs, reader, suspects)
    if missing:
        policies.prefetch_versions()
    former = policies.former_version(missing) if missing else None
    changes, unseen = _changes(inputs, reader, policies, suspects) if suspects else ([], [])
    return AccessFacts(
        access=tuple(access),
        changes=tuple(changes),
        unseen=tuple(unseen),
        former=former,
        protected=reader.protected_actors,
        own_policy=policies.own(own_name(missing, inputs)) if missing and former is None else None,
        looked_at=reader.now,
    )


def _simulate(role_arn: str, pairs: Sequence[Pair], reader: Reader) -> dict[Pair, Mapping[str, Any]]:
    """Ask AWS for its verdict, all actions on one resource at a time."""
    by_resource: dict[str, list[str]] = {}
    for pair in pairs:
        by_resource.setdefault(pair.resource, []).append(pair.action)
    asked: dict[str, dict[str, Any]] = {}
    for resource, actions in by_resource.items():
        asked[resource] = {"PolicySourceArn": role_arn, "ActionNames": sorted(actions)}
        if resource != "*":
            asked[resource]["ResourceArns"] = [resource]
    reader.prefetch("iam", "simulate_principal_policy", *asked.values())
    return {
        Pair(action=result["action"], resource=resource): result
        for resource, arguments in asked.items()
        for result in reader.aws("iam", "simulate_principal_policy", arguments)
    }


def _subject_of(resource: str) -> str:
    """Return the ARN whose own policy decides on a resource: the bucket of an object, the table of an index."""
    parts = resource.split(":", 5)
    if len(parts) == 6 and parts[2] == "s3":
        return f"{':'.join(parts[:5])}:{parts[5].split('/', 1)[0]}"
    if len(parts) == 6 and parts[2] == "dynamodb":
        return f"{':'.join(parts[:5])}:{'/'.join(parts[5].split('/')[:2])}"
    return resource


class _Policies:
    """The policies that have a say, each read once."""

    def __init__(self, inputs: AccessInputs, reader: Reader) -> None:
        self._inputs, self._reader = inputs, reader
        self._attached: list[Mapping[str, Any]] | None = None

    def prefetch(self, pairs: Sequence[Pair]) -> None:
        """Begin to read what is attached to the role, and the policies of the resources."""
        self._reader.prefetch("iam", "list_attached_role_policies", {"RoleName": self._inputs.role_name})
        for subject in dict.fromkeys(_subject_of(pair.resource) for pair in pairs):
            if read := _policy_read(subject, self._inputs.region):
                service, operation, arguments, region = read
                self._reader.prefetch(service, operation, arguments, region=region)

    def prefetch_versions(self) -> None:
        """Begin to read all versions of what is attached: which of them took access away is not known before."""
        listed = [{"PolicyArn": arn} for arn in self._attached_arns()]
        self._reader.prefetch("iam", "get_policy", *listed)
        self._reader.prefetch("iam", "list_policy_versions", *listed)
        for arn in self._attached_arns():
            self._reader.prefetch(
                "iam", "get_policy_version", *({"PolicyArn": arn, "VersionId": v} for v in self.versions(arn))
            )

    def resource_policy(self, resource: str) -> Any:
        """Return a resource's own policy: `{}` where it has none, None for kinds that have no such policy."""
        read = _policy_read(_subject_of(resource), self._inputs.region)
        if read is None:
            return None
        service, operation, arguments, region = read
        try:
            return self._reader.aws(service, operation, arguments, region=region)
        except NotFound:
            return {}

    @property
    def attached(self) -> list[Mapping[str, Any]]:
        """The customer-managed policies of the role: name, ARN, default version, number of attachments."""
        if self._attached is None:
            listed = [{"PolicyArn": arn} for arn in self._attached_arns()]
            self._reader.prefetch("iam", "get_policy", *listed)
            self._attached = [self._reader.aws("iam", "get_policy", policy) for policy in listed]
        return self._attached

    def _attached_arns(self) -> list[str]:
        listed = self._reader.aws("iam", "list_attached_role_policies", {"RoleName": self._inputs.role_name})
        return [p["arn"] for p in listed if ":iam::aws:policy/" not in p["arn"]]

    def former_version(self, missing: Sequence[Pair]) -> FormerVersion | None:
        """Return the newest former version, of one policy of this role alone, that allows all that is missing."""
        for policy in self.attached:
            if policy.get("AttachmentCount", 1) > 1:
                continue
            arn, current = policy["Arn"], policy["DefaultVersionId"]
            older = [v for v in self.versions(arn) if _number(v) < _number(current)]
            for former in sorted(older, key=_number, reverse=True)[:4]:
                document = self.version(arn, former)
                if all(allows(document, pair) for pair in missing):
                    gives = added(self.version(arn, current), document)
                    return FormerVersion(
                        policy_arn=arn,
                        current=current,
                        former=former,
                        gives=tuple((p.action, p.resource) for p in gives),
                    )
        return None

    def own(self, name: str) -> Any:
        """Return our own inline policy as it stands; None where there is none."""
        try:
            arguments = {"RoleName": self._inputs.role_name, "PolicyName": name}
            return self._reader.aws("iam", "get_role_policy", arguments)
        except NotFound:
            return None

    def versions(self, arn: str) -> list[str]:
        """Return the ids of a policy's versions."""
        return [v["VersionId"] for v in self._reader.aws("iam", "list_policy_versions", {"PolicyArn": arn})]

    def version(self, arn: str, version: str) -> Any:
        """Return one version's document."""
        return self._reader.aws("iam", "get_policy_version", {"PolicyArn": arn, "VersionId": version})


def _policy_read(subject: str, region: str | None) -> tuple[str, str, dict[str, Any], str | None] | None:
    """Return the read of a resource's own policy; None for kinds that have none.

    Shape: service, operation, arguments, region; `region` is of a bucket, whose ARN names none.
    """
    parts = subject.split(":", 5)
    if len(parts) < 6 or "*" in subject:
        return None
    where = parts[3] or None
    return {
        "s3": ("s3", "get_bucket_policy", {"Bucket": parts[5]}, region),
        "dynamodb": ("dynamodb", "get_resource_policy", {"ResourceArn": subject}, where),
        "kms": ("kms", "get_key_policy", {"KeyId": subject, "PolicyName": "default"}, where),
    }.get(parts[2])


def _number(version: str) -> int:
    return int(version.removeprefix("v")) if version.removeprefix("v").isdigit() else 0


def _changes(
    inputs: AccessInputs, reader: Reader, policies: _Policies, suspects: Sequence[Access]
) -> tuple[list[Change], list[str]]:
    """Return the changes whose result is what stands now, and what was changed by events that are not shown."""
    found: list[Change] = []
    unseen: list[str] = []
    missing = [a.pair for a in suspects if a.missing]
    blamed = [policy for policy in policies.attached if _took_away(policies, policy, missing)]
    reader.prefetch(
        "cloudtrail", "lookup_events", *(_lookup(reader, p["Arn"]) for p in blamed), region=reader.global_region
    )
    for policy in blamed:
        event = _explains_policy(_events(reader, policy["Arn"]), policy)
        if event is not None:
            found.append(_change(event, policy["Arn"]))
        else:
            unseen.append(policy["Arn"])
    for event in _events(reader, inputs.role_name):
        if event["name"] in ("DeleteRolePolicy", "DetachRolePolicy", "PutRolePolicy", "PutRolePermissionsBoundary"):
            found.append(_change(event, inputs.role_arn))
            break
    for subject in dict.fromkeys(_subject_of(a.resource) for a in suspects):
        document = policies.resource_policy(subject)
        if document is None:
            continue
        name, region = _in_trail(subject, inputs.region)
        events = [e for e in _events(reader, name, region) if e["name"] in _WRITES_POLICY | _DELETES_POLICY | _CREATES]
        if events and _written(events[0]) != (document or None):
            unseen.append(subject)
            continue
        accesses = [a for a in suspects if _subject_of(a.resource) == subject]
        if _took(events, inputs.role_arn, accesses):
            found.append(_change(events[0], subject))
    return found[:6], unseen[:6]


def _prefetch_events(inputs: AccessInputs, reader: Reader, suspects: Sequence[Access]) -> None:
    """Begin to look up who changed the role and the resources that have policies of their own."""
    reader.prefetch("cloudtrail", "lookup_events", _lookup(reader, inputs.role_name), region=reader.global_region)
    for subject in dict.fromkeys(_subject_of(a.resource) for a in suspects):
        if _policy_read(subject, inputs.region):
            name, region = _in_trail(subject, inputs.region)
            where = region or reader.global_region
            reader.prefetch("cloudtrail", "lookup_events", _lookup(reader, name), region=where)


def _in_trail(subject: str, region: str | None) -> tuple[str, str | None]:
    """Return what CloudTrail calls a resource, and in which region it has its events."""
    return (subject.rsplit(":", 1)[-1] if ":s3:" in subject else subject), subject.split(":")[3] or region


def _lookup(reader: Reader, resource: str) -> dict[str, Any]:
    """Return what is asked of CloudTrail; from a full minute on, so that the check and the fix ask the same."""
    return {
        "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": resource}],
        "StartTime": (reader.now - reader.scaled(TRAIL_WINDOW)).replace(second=0, microsecond=0).isoformat(),
    }


def _events(reader: Reader, resource: str, region: str | None = None) -> list[Mapping[str, Any]]:
    """Return the successful changes of a resource that CloudTrail shows, newest first; of IAM's where none is given."""
    where = region or reader.global_region
    events = reader.aws("cloudtrail", "lookup_events", _lookup(reader, resource), region=where)
    changes = [e for e in events if not e["readOnly"] and not e["error"]]
    return sorted(changes, key=lambda e: str(e["at"]), reverse=True)


def _explains_policy(events: Sequence[Mapping[str, Any]], policy: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the event that made the present version the default one."""
    current = policy["DefaultVersionId"]
    for event in events:
        made = event["name"] == "CreatePolicyVersion" and event["version"] == current
        chosen = event["name"] == "SetDefaultPolicyVersion" and event["parameters"].get("versionId") == current
        if chosen or (made and event["parameters"].get("setAsDefault") in (True, "true")):
            return event
    return None


def _took_away(policies: _Policies, policy: Mapping[str, Any], missing: Sequence[Pair]) -> bool:
    """Tell whether some other version of the policy allows what is missing: then the present one took it away."""
    arn, current = policy["Arn"], policy["DefaultVersionId"]
    others = (policies.version(arn, version) for version in policies.versions(arn) if version != current)
    return any(allows(document, pair) for document in others for pair in missing)


_WRITES_POLICY = frozenset({"PutBucketPolicy", "PutResourcePolicy", "PutKeyPolicy"})
_DELETES_POLICY = frozenset({"DeleteBucketPolicy", "DeleteResourcePolicy"})
_CREATES = frozenset({"CreateBucket", "CreateTable"})


def _took(changes: Sequence[Mapping[str, Any]], role_arn: str, accesses: Sequence[Access]) -> bool:
    """Tell whether the newest change of a resource's policy took access away: by a Deny, or by what it left out.

    A policy that never gave the access is not what took it away, however recent it is.
    """
    if not changes or changes[0]["name"] in _CREATES:
        return False
    denies = any(a.resource_policy == "Denies" for a in accesses)
    missing = [a.pair for a in accesses if a.missing]
    return denies or _may_have_allowed(changes[1:], role_arn, missing)


def _written(event: Mapping[str, Any]) -> Any:
    """Return the policy that a change left; None for a deletion, and for a resource that is new."""
    if event["name"] in _DELETES_POLICY | _CREATES:
        return None
    written = event["parameters"].get("bucketPolicy") or event["parameters"].get("policy")
    return json.loads(written) if isinstance(written, str) else written


def _may_have_allowed(earlier: Sequence[Mapping[str, Any]], role_arn: str, pairs: Sequence[Pair]) -> bool:
    """Tell whether the policy before allowed any of these; one that CloudTrail does not show any more may have."""
    if not earlier:
        return True
    if earlier[0]["name"] in _CREATES:
        return False
    return any(resource_policy(_written(earlier[0]), role_arn, pair) == "Allows" for pair in pairs)


def _change(event: Mapping[str, Any], subject: str) -> Change:
    at = event["at"]
    return Change(
        event=event["name"],
        subject=subject,
        actor=event["actor"] or "unknown",
        at=parse_instant(at) if isinstance(at, str) else at,
    )


def explaining(facts: AccessFacts, access: Access) -> Change | None:
    """Return the change that explains one pair; None where CloudTrail does not show it (yet).

    A Deny is explained by who wrote it. Where a former version of the role's policy allows what is missing, that
    policy's change is the explanation and no other, even while it can't be seen.
    """
    subject = _subject_of(access.resource)
    on_resource = next((c for c in facts.changes if c.subject == subject), None)
    on_role = next((c for c in facts.changes if c.subject != subject and ":iam:" in c.subject), None)
    if access.resource_policy == "Denies":
        return on_resource
    if access.identity == "explicitDeny":
        return on_role
    if facts.former is not None:
        return next((c for c in facts.changes if c.subject == facts.former.policy_arn), None)
    on_policy = next((c for c in facts.changes if ":policy/" in c.subject), None)
    if subject in facts.unseen or (on_policy is None and any(":policy/" in arn for arn in facts.unseen)):
        return None
    return on_resource or on_role


# --- what is given back ----------------------------------------------------------------------------------------------


def own_name(missing: Sequence[Pair], inputs: AccessInputs) -> str:
    """Return the name of our inline policy: of these pairs, so that another incident's stays apart."""
    text = json.dumps(sorted((p.action, p.resource) for p in exact(missing, inputs)))
    return f"incident-operator-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def exact(missing: Sequence[Pair], inputs: AccessInputs) -> list[Pair]:
    """Return what to give for what is missing: as declared by the run where it is, else exactly what was denied.

    A denial that names no resource is of the declared ones: `*` would be more than anybody asked for.
    """
    given: dict[Pair, None] = {}
    for pair in missing:
        declared = [
            Pair(action=pair.action, resource=resource)
            for need in inputs.required_access
            if pair.action in need.actions
            for resource in need.resources
            if pair.resource == "*" or _covers(resource, pair.resource)
        ]
        for chosen in declared or [pair]:
            given[chosen] = None
    return list(given)


def _covers(outer: str, inner: str) -> bool:
    return allows(
        {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": outer}]}, Pair(action="x", resource=inner)
    )
