"""The verdict on a call, in AWS's own words.

Within one account a call is allowed by the caller's policies or by the resource's own; an explicit Deny anywhere
wins. A boundary and session policies limit both, but for a resource policy that names the very session.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends

from .identity import Principal, role_named
from .permissions import Need, key_arn, needs, table_arn
from .policies import Match, Request, Source, is_public, matches, parsed
from .wire import Call, Refused

_XML = frozenset({"iam", "sts", "s3", "ses", "cloudwatch", "rds", "autoscaling", "elbv2", "elb", "elasticache", "sns"})
_DECRYPTING = frozenset({"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"})


def check(call: Call, principal: Principal) -> None:
    """Let an allowed call pass. Errors: Refused as AWS would deny it, or for a policy it can't evaluate."""
    if principal.admin:
        return
    hidden = _hidden_by_listing(call)
    for need in (*needs(call, principal.account), *_key_needs(call, principal.account), *hidden):
        why = why_not(need, principal)
        if why:
            raise _denied(call, principal, need, why)


def why_not(need: Need, principal: Principal) -> str:
    """Return why a principal may not, ready to follow the resource in a message; empty when it may."""
    if principal.admin:
        return ""
    request = _request(need, principal)
    if principal.kind == "Anonymous" and _is_shut(need.resource):
        return "because public access is blocked"
    identity = [m for s in identity_sources(principal) for m in matches(s, request)]
    limits = boundary(principal)
    within_boundary = matches(limits, request) if limits is not None else []
    sessions = [matches(s, request) for s in session_sources(principal)]
    document = resource_document(need.resource)
    own = matches(document, request, resource_based=True) if document is not None else []
    denied_by = {
        "an identity-based policy": identity,
        "a permissions boundary": within_boundary,
        "a session policy": [m for found in sessions for m in found],
        "a resource-based policy": own,
    }
    for kind, found in denied_by.items():
        if any(m.effect == "Deny" for m in found):
            return f"with an explicit deny in {kind}"
    named = {m.named for m in own}
    if "session" in named:
        return ""
    if need.action.startswith("kms:") and not named:
        # A key's policy decides; it leaves it to the account's own policies only by naming the account.
        return f"because no resource-based policy allows the {need.action} action"
    by_resource = bool(named & {"identity", "anyone"})
    if not by_resource and not _allow(identity):
        return f"because no identity-based policy allows the {need.action} action"
    if limits is not None and not _allow(within_boundary):
        return f"because no permissions boundary allows the {need.action} action"
    if not all(_allow(found) for found in sessions):
        return f"because no session policy allows the {need.action} action"
    return ""


def _request(need: Need, principal: Principal) -> Request:
    nobody = principal.kind == "Anonymous"
    return Request(
        action=need.action,
        resource=need.resource,
        principals=() if nobody else principal.arns,
        account="" if nobody else principal.account,
        context=(
            *(() if nobody else (("aws:PrincipalArn", principal.role_arn or principal.arn),)),
            *(() if nobody else (("aws:PrincipalAccount", principal.account),)),
            # The simulator stands for AWS's TLS endpoint, whatever carries the bytes on loopback.
            ("aws:SecureTransport", "true"),
            *((("aws:TokenIssueTime", principal.issued_at.isoformat()),) if principal.issued_at is not None else ()),
            *((f"s3:ExistingObjectTag/{tag}", value) for tag, value in _object_tags(need.resource).items()),
        ),
    )


def _object_tags(arn: str) -> Mapping[str, str]:
    """Return the tags of the object that an ARN is of; none where there is no object."""
    if not arn.startswith("arn:aws:s3:::"):
        return {}
    name, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
    bucket = bucket_named(name)
    found = bucket.keys.get(key) if bucket is not None and key else None
    if found is None:
        return {}
    tags: Mapping[str, str] = s3_backends[bucket.account_id]["aws"].tagger.get_tag_dict_for_resource(found.arn)
    return tags


def _is_shut(arn: str) -> bool:
    """Tell whether the public-access block keeps the public out, whatever the bucket's policy says."""
    bucket = bucket_named(arn.removeprefix("arn:aws:s3:::").partition("/")[0])
    block = bucket.public_access_block if bucket is not None else None
    return bool(block is not None and block.restrict_public_buckets and is_public(bucket.policy))


def _allow(found: Sequence[Match]) -> bool:
    return any(m.effect == "Allow" for m in found)


def decide(sources: Sequence[Source], request: Request) -> tuple[str, list[Match]]:
    """Return `allowed`, `implicitDeny` or `explicitDeny`, and the statements that decide it."""
    found = [m for source in sources for m in matches(source, request)]
    denies = [m for m in found if m.effect == "Deny"]
    if denies:
        return "explicitDeny", denies
    allows = [m for m in found if m.effect == "Allow"]
    return ("allowed" if allows else "implicitDeny"), allows


# --- the documents that have a say ------------------------------------------------------------------------------------


def identity_sources(principal: Principal) -> list[Source]:
    """Return the policies of a role or a user, a user's groups included. Errors: Refused for a role that is gone."""
    if principal.kind == "Anonymous":
        return []
    if principal.kind == "AssumedRole":
        role = role_named(principal.role_arn)
        if role is None:
            message = "The security token included in the request is invalid"
            raise Refused("InvalidClientTokenId", message, status=403)
        return list(_policies_of("role", role))
    backend = iam_backends[principal.account]["aws"]
    user = backend.users.get(principal.name)
    if user is None:
        raise Refused("NoSuchEntity", f"The user with name {principal.name} cannot be found.", status=404)
    holders = [("user", user), *(("group", group) for group in backend.groups.values() if user in group.users)]
    return [source for kind, holder in holders for source in _policies_of(kind, holder)]


def _policies_of(kind: str, holder: Any) -> Iterator[Source]:
    for name, document in holder.policies.items():
        yield Source(id=f"{kind}_{holder.name}_{name}", kind="IAM Policy", document=parsed(document))
    for policy in holder.managed_policies.values():
        yield Source(id=policy.name, kind="IAM Policy", document=parsed(default_document(policy)))


def default_document(policy: Any) -> str:
    """Return the default version's document of a managed policy."""
    return next(str(v.document) for v in policy.versions if v.version_id == policy.default_version_id)


def boundary(principal: Principal) -> Source | None:
    """Return a role's permissions boundary; None when it has none."""
    role = role_named(principal.role_arn) if principal.role_arn else None
    arn = role.permissions_boundary_arn if role is not None else None
    if not arn:
        return None
    policy = iam_backends[principal.account]["aws"].managed_policies.get(arn)
    document = parsed(default_document(policy)) if policy is not None else {}
    return Source(id=arn.rsplit("/", 1)[-1], kind="Permissions Boundary", document=document)


def session_sources(principal: Principal) -> list[Source]:
    """Return the policies a session was opened with."""
    return [Source(id="session", kind="Session Policy", document=parsed(p)) for p in principal.session_policies]


def resource_document(arn: str) -> Source | None:
    """Return the own policy of the bucket, table or key that an ARN is of; None where there is none."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or "*" in arn.split("/")[0]:
        return None
    _, _, service, region, account, rest = parts
    document: Any = None
    if service == "s3":
        bucket = bucket_named(rest.split("/", 1)[0])
        document = bucket.policy if bucket is not None else None
    elif service == "dynamodb":
        found = dynamodb_backends[account][region].resource_policies.get(table_arn(arn, region, account))
        document = found.policy_doc if found is not None else None
    elif service == "kms":
        key = kms_backends[account][region].keys.get(rest.removeprefix("key/"))
        document = key.policy if key is not None else None
    return Source(id=arn, kind="Resource Policy", document=parsed(document)) if document else None


def bucket_named(name: str) -> Any | None:
    """Return moto's bucket; names are of all accounts."""
    owner = s3_backends.bucket_accounts.get(name)
    return s3_backends[owner[1]][owner[0]].buckets.get(name) if owner else None


# --- what a call needs by the state of what it is about ---------------------------------------------------------------


def customer_key(arn: str | None, region: str, account: str) -> str | None:
    """Return the ARN of a customer-managed key given in any way; None for none and for AWS's own."""
    if not arn:
        return None
    full = key_arn(arn, region, account)
    _, _, _, where, owner, rest = full.split(":", 5)
    key = kms_backends[owner][where].keys.get(rest.removeprefix("key/"))
    return None if key is None or any(name.startswith("alias/aws/") for name in key.aliases) else full


def _key_needs(call: Call, account: str) -> Iterator[Need]:
    """Return what reading or writing something encrypted with a customer's key needs besides."""
    if call.service == "s3" and call.operation in ("GetObject", "HeadObject", "PutObject"):
        bucket = bucket_named(call.arguments["Bucket"])
        if bucket is None:
            return
        writing = call.operation == "PutObject"
        found = None if writing else bucket.keys.get(call.arguments["Key"])
        given = _write_key(call, bucket) if writing else getattr(found, "kms_key_id", None)
        key = customer_key(given, bucket.region_name, account)
        if key:
            yield Need(action="kms:GenerateDataKey" if writing else "kms:Decrypt", resource=key)
    if call.service == "dynamodb" and call.operation in _DECRYPTING and "TableName" in call.arguments:
        arn = table_arn(call.arguments["TableName"], call.region, account)
        table = dynamodb_backends[account][call.region].tables.get(arn.rsplit("/", 1)[-1])
        sse = (table.sse_specification or {}) if table is not None else {}
        key = customer_key(sse.get("KMSMasterKeyId"), call.region, account) if sse.get("Enabled") else None
        if key:
            yield Need(action="kms:Decrypt", resource=key)


def _write_key(call: Call, bucket: Any) -> str | None:
    if call.arguments.get("ServerSideEncryption") == "aws:kms":
        return call.arguments.get("SSEKMSKeyId")
    rule = (bucket.encryption or {}).get("Rule", {})
    rules = rule if isinstance(rule, list) else [rule]
    default = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
    return default.get("KMSMasterKeyID") if default.get("SSEAlgorithm") == "aws:kms" else None


def _hidden_by_listing(call: Call) -> list[Need]:
    """Return what it takes to learn that an object does not exist: without listing it looks denied."""
    if call.service != "s3" or call.operation not in ("GetObject", "HeadObject", "GetObjectTagging"):
        return []
    bucket = bucket_named(call.arguments["Bucket"])
    if bucket is None or call.arguments["Key"] in bucket.keys:
        return []
    return [Need(action="s3:ListBucket", resource=f"arn:aws:s3:::{call.arguments['Bucket']}")]


# --- how it is said ---------------------------------------------------------------------------------------------------


def _denied(call: Call, principal: Principal, need: Need, why: str) -> Refused:
    if principal.kind == "Anonymous":
        return Refused("AccessDenied", "Access Denied", status=403)
    where = _spoken(call, need)
    message = f"User: {principal.arn} is not authorized to perform: {need.action}{where} {why}"
    if call.service == "ec2":
        return Refused("UnauthorizedOperation", message, status=403)
    if call.service in _XML:
        return Refused("AccessDenied", message, status=403)
    if need.action.startswith("kms:") and call.service == "dynamodb":
        message = f"KMS key access denied error: {message}"
    return Refused("AccessDeniedException", message, status=403 if call.protocol.startswith("rest") else 400)


def _spoken(call: Call, need: Need) -> str:
    if need.resource == "*":
        return ""
    if call.service == "s3":
        return f' on resource: "{need.resource}"'
    if need.action.startswith("iam:") and need.resource.startswith("arn:"):
        kind, _, rest = need.resource.split(":", 5)[-1].partition("/")
        spoken = need.resource if kind == "policy" else rest.rsplit("/", 1)[-1]
        return f" on resource: {kind} {spoken}"
    return f" on resource: {need.resource}"
