"""The simulator's state as tests compare it: canonical, without telemetry, revisions and instants (decision 33)."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.dynamodb.models import dynamodb_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends

from .functions import aliases_of, storage
from .permissions import function_name, table_arn
from .policies import parsed
from .wire import Call

_VOLATILE = ("RevisionId", "LastModified")


def managed_policy(account: str, arn: str) -> Any | None:
    """Return moto's managed policy; None when there is none."""
    return iam_backends[account]["aws"].managed_policies.get(arn)


def dump(account: str) -> dict[str, Any]:
    """Return all state of an account that a call can change, keys sorted, names as keys."""
    iam = iam_backends[account]["aws"]
    return {
        "functions": _per_region(lambda_backends, account, _functions),
        "roles": {role.name: _role(role) for role in sorted(iam.roles.values(), key=lambda r: r.name)},
        "users": {user.name: _user(user) for user in sorted(iam.users.values(), key=lambda u: u.name)},
        "policies": {
            arn: _policy(policy)
            for arn, policy in sorted(iam.managed_policies.items())
            if not arn.startswith("arn:aws:iam::aws:")
        },
        "buckets": {name: _bucket(bucket) for name, bucket in sorted(s3_backends[account]["aws"].buckets.items())},
        "tables": _per_region(dynamodb_backends, account, _tables),
        "keys": _per_region(kms_backends, account, _keys),
        "alarms": _per_region(cloudwatch_backends, account, _alarms),
    }


def _per_region(backends: Any, account: str, read: Any) -> dict[str, Any]:
    found = {region: read(account, region) for region in sorted(backends[account])}
    return {region: state for region, state in found.items() if state}


def _functions(account: str, region: str) -> dict[str, Any]:
    return {name: _function(account, region, name) for name in sorted(storage(account, region)._functions)}


def _function(account: str, region: str, name: str) -> dict[str, Any] | None:
    group = storage(account, region)._functions.get(name)
    if group is None or group["latest"] is None:
        return None
    return {
        "latest": _configuration(group["latest"]),
        "versions": {str(v.version): _configuration(v) for v in group["versions"]},
        "aliases": {
            alias.name: {
                "version": alias.function_version,
                "routing": (alias.routing_config or {}).get("AdditionalVersionWeights") or None,
            }
            for alias in sorted(aliases_of(account, region, name).values(), key=lambda a: a.name)
        },
        "reserved": group["latest"].reserved_concurrency,
    }


def _configuration(function: Any) -> dict[str, Any]:
    found = function.get_configuration()
    if found.get("Environment"):
        # Whether a variable changed is state, what it holds is nobody's business.
        values = found["Environment"]["Variables"]
        found["Environment"] = {name: sha256(text.encode()).hexdigest()[:12] for name, text in sorted(values.items())}
    return {key: found[key] for key in sorted(found) if key not in _VOLATILE and found[key] is not None}


def _role(role: Any) -> dict[str, Any]:
    return {
        "arn": role.arn,
        "trust": parsed(role.assume_role_policy_document),
        "boundary": role.permissions_boundary_arn or None,
        "inline": {name: parsed(text) for name, text in sorted(role.policies.items())},
        "attached": sorted(role.managed_policies),
    }


def _user(user: Any) -> dict[str, Any]:
    return {
        "inline": {name: parsed(text) for name, text in sorted(user.policies.items())},
        "attached": sorted(user.managed_policies),
        "keys": {key.access_key_id: key.status for key in user.access_keys},
        "console": bool(user.password),
    }


def _policy(policy: Any) -> dict[str, Any]:
    return {
        "default": policy.default_version_id,
        "versions": {version.version_id: parsed(version.document) for version in policy.versions},
    }


def _bucket(bucket: Any) -> dict[str, Any]:
    return {
        "policy": parsed(bucket.policy) or None,
        "objects": {key: bucket.keys[key].etag for key in sorted(bucket.keys)},
    }


def _tables(account: str, region: str) -> dict[str, Any]:
    backend = dynamodb_backends[account][region]
    found = {}
    for name, table in sorted(backend.tables.items()):
        policy = backend.resource_policies.get(table.table_arn)
        found[name] = {
            "policy": parsed(policy.policy_doc) if policy is not None else None,
            "items": len(table),
            "encryption": table.sse_specification,
        }
    return found


def _alarms(account: str, region: str) -> dict[str, Any]:
    """Return alarms as configured; their state is telemetry."""
    return {
        name: {
            "metric": [alarm.namespace, alarm.metric_name, {d.name: d.value for d in alarm.dimensions}],
            "threshold": alarm.threshold,
            "enabled": alarm.actions_enabled,
        }
        for name, alarm in sorted(cloudwatch_backends[account][region].alarms.items())
    }


def _keys(account: str, region: str) -> dict[str, Any]:
    return {
        key.id: {"policy": parsed(key.policy), "enabled": key.enabled, "aliases": sorted(key.aliases)}
        for key in sorted(kms_backends[account][region].keys.values(), key=lambda k: k.id)
    }


def touched(call: Call, account: str) -> Any:
    """Return the present state of what a changing call is about; None for what has no such state."""
    arguments: Mapping[str, Any] = call.arguments
    iam = iam_backends[account]["aws"]
    if call.service == "iam" and "RoleName" in arguments:
        role = next((r for r in iam.roles.values() if r.name == arguments["RoleName"]), None)
        return _role(role) if role is not None else None
    if call.service == "iam" and "PolicyArn" in arguments:
        policy = managed_policy(account, arguments["PolicyArn"])
        return _policy(policy) if policy is not None else None
    if call.service == "s3" and "Policy" in call.operation:
        bucket = s3_backends[account]["aws"].buckets.get(arguments.get("Bucket", ""))
        return {"policy": parsed(bucket.policy) or None} if bucket is not None else None
    if call.service == "dynamodb" and "ResourceArn" in arguments:
        backend = dynamodb_backends[account][call.region]
        policy = backend.resource_policies.get(table_arn(arguments["ResourceArn"], call.region, account))
        return {"policy": parsed(policy.policy_doc) if policy is not None else None}
    if call.service == "lambda" and "FunctionName" in arguments:
        return _function(account, call.region, function_name(arguments["FunctionName"])[0])
    if call.service == "kms" and "Policy" in call.operation:
        key = kms_backends[account][call.region].keys.get(arguments["KeyId"].rsplit("/", 1)[-1])
        return {"policy": parsed(key.policy)} if key is not None else None
    return None
