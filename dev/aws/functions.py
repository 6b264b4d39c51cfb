"""Versions, aliases and revisions of Lambda functions, where moto is more lenient than AWS."""

import copy
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from moto.awslambda.models import LambdaFunction, LambdaStorage, lambda_backends

from .clock import Clock
from .identity import Principal, lambda_may_assume, role_named
from .permissions import function_name
from .wire import Call, Refused, Reply

Forward = Callable[[], Reply]
_PAGE = 50
_UNRESERVED_MINIMUM, _ACCOUNT_CONCURRENCY = 100, 1000
_RANGES = {"Timeout": (1, 900), "MemorySize": (128, 10240)}
#: What makes a version differ from the one before.
_PUBLISHED = (
    "CodeSha256", "Handler", "MemorySize", "Role", "Runtime", "KMSKeyArn", "Timeout", "Environment", "Layers",
    "VpcConfig", "Description",
)  # fmt: skip


def storage(account: str, region: str) -> Any:
    """Return moto's store of functions."""
    return lambda_backends[account][region]._lambdas


def revision(function: Any) -> str:
    """Return a function version's RevisionId."""
    return str(vars(function).setdefault("revision", str(uuid.uuid4())))


def install() -> None:
    """Teach moto what it has not got: RevisionId in every configuration, and publishing as Lambda publishes."""
    configuration = LambdaFunction.get_configuration

    def with_revision(self: Any, on_create: bool = False) -> dict[str, Any]:
        return {**configuration(self, on_create), "RevisionId": revision(self)}

    LambdaFunction.get_configuration = with_revision  # type: ignore[method-assign]
    LambdaStorage.publish_version = _publish  # type: ignore[method-assign]


def _publish(self: Any, name_or_arn: str, description: str = "") -> Any:
    """Publish `$LATEST`; where nothing changed since the newest version, return that one, as Lambda does."""
    latest = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
    group = self._functions[latest.function_name]
    versions = group["versions"]
    if versions and _content(versions[-1], description) == _content(latest, description):
        return versions[-1]
    number = group["newest"] = max([group.get("newest", 0), *(int(v.version) for v in versions)]) + 1
    made = copy.copy(latest)
    made.code = dict(latest.code)
    made.revision = str(uuid.uuid4())
    made.set_version(number)
    if description:
        made.description = description
    versions.append(made)
    self._arns[made.function_arn] = made
    return made


def _content(function: Any, description: str) -> dict[str, Any]:
    found = {key: value for key, value in function.get_configuration().items() if key in _PUBLISHED}
    return {**found, "Description": description} if description else found


# --- calls ------------------------------------------------------------------------------------------------------------


def named(call: Call, principal: Principal) -> Any:
    """Return moto's function that a call is about. Errors: Refused when there is none."""
    name, qualifier = function_name(call.arguments["FunctionName"])
    return version_of(principal.account, call.region, name, qualifier or call.arguments.get("Qualifier"))


def version_of(account: str, region: str, name: str, qualifier: str | None) -> Any:
    """Return moto's function of a name and a version or alias. Errors: Refused when there is none."""
    store = storage(account, region)
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}" + (f":{qualifier}" if qualifier else "")
    group = store._functions.get(name)
    if group is None or group["latest"] is None:
        raise Refused("ResourceNotFoundException", f"Function not found: {arn}", status=404)
    if qualifier in (None, "$LATEST"):
        return group["latest"]
    alias = aliases_of(account, region, name).get(qualifier)
    wanted = alias.function_version if alias is not None else qualifier
    if wanted == "$LATEST":
        return group["latest"]
    found = next((v for v in group["versions"] if str(v.version) == wanted), None)
    if found is None:
        raise Refused("ResourceNotFoundException", f"Function not found: {arn}", status=404)
    return found


def aliases_of(account: str, region: str, name: str) -> Mapping[str, Any]:
    """Return moto's aliases of a function, by name."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return storage(account, region)._aliases.get(arn, {})  # type: ignore[no-any-return]


def create_function(call: Call, principal: Principal, forward: Forward) -> Reply:
    """Create it; its role has to trust Lambda."""
    _check_ranges(call)
    role = role_named(call.arguments["Role"])
    if role is None or not lambda_may_assume(role):
        message = "The role defined for the function cannot be assumed by Lambda."
        raise Refused("InvalidParameterValueException", message)
    reply = forward()
    if reply.status < 400:
        name, _ = function_name(call.arguments["FunctionName"])
        revision(version_of(principal.account, call.region, name, None))
    return reply


def update_function(call: Call, principal: Principal, clock: Clock, forward: Forward) -> Reply:
    """Update code, configuration or concurrency, if the RevisionId given is still the latest."""
    _check_ranges(call)
    function = named(call, principal)
    _check_revision(call, revision(function))
    if call.operation == "PutFunctionConcurrency":
        _check_unreserved(call, principal, function)
    if call.arguments.get("DryRun"):
        return forward()
    before = function.revision, function.last_modified
    function.revision = str(uuid.uuid4())
    function.last_modified = f"{clock.now():%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "+0000"
    reply = forward()
    if reply.status >= 400:
        function.revision, function.last_modified = before
    return reply


def publish_version(call: Call, principal: Principal, forward: Forward) -> Reply:
    """Publish `$LATEST`, if its code and its revision are those that were meant."""
    function = named(call, principal)
    _check_revision(call, revision(function))
    code = call.arguments.get("CodeSha256")
    if code and code != function.code_sha_256:
        message = f"CodeSHA256 ({code}) is different from current CodeSHA256 in $LATEST ({function.code_sha_256})."
        raise Refused("InvalidParameterValueException", f"{message} Please try again with the CodeSHA256 in $LATEST.")
    return forward()


def update_alias(call: Call, principal: Principal, forward: Forward) -> Reply:
    """Move an alias, if the RevisionId given is still its latest."""
    name, _ = function_name(call.arguments["FunctionName"])
    alias = aliases_of(principal.account, call.region, name).get(call.arguments["Name"])
    if alias is None:
        return forward()
    _check_revision(call, alias.revision_id)
    before = alias.revision_id
    alias.revision_id = str(uuid.uuid4())
    reply = forward()
    if reply.status >= 400:
        alias.revision_id = before
    return reply


def list_versions(call: Call, principal: Principal) -> Reply:
    """List versions, at most fifty at a time, `$LATEST` first."""
    name, _ = function_name(call.arguments["FunctionName"])
    version_of(principal.account, call.region, name, None)
    found = list(storage(principal.account, call.region).list_versions_by_function(name))
    start = int(call.arguments.get("Marker") or 0)
    end = start + min(int(call.arguments.get("MaxItems") or _PAGE), _PAGE)
    shown = [{k: v for k, v in f.get_configuration().items() if v is not None} for f in found[start:end]]
    return call.answer({"Versions": shown, **({"NextMarker": str(end)} if end < len(found) else {})})


def _check_revision(call: Call, current: str) -> None:
    given = call.arguments.get("RevisionId")
    if given and given != current:
        message = (
            "The RevisionId provided does not match the latest RevisionId. Call the GetFunction/GetAlias API to "
            "retrieve the latest RevisionId for your resource."
        )
        raise Refused("PreconditionFailedException", message, status=412, Type="User")


def _check_ranges(call: Call) -> None:
    for member, (low, high) in _RANGES.items():
        value = call.arguments.get(member)
        if value is not None and not low <= int(value) <= high:
            where = f"Value '{value}' at '{member[0].lower()}{member[1:]}' failed to satisfy constraint"
            message = f"1 validation error detected: {where}: Member must have value between {low} and {high}"
            raise Refused("ValidationException", message)


def _check_unreserved(call: Call, principal: Principal, function: Any) -> None:
    others = sum(
        int(group["latest"].reserved_concurrency or 0)
        for name, group in storage(principal.account, call.region)._functions.items()
        if name != function.function_name and group["latest"] is not None
    )
    left = _ACCOUNT_CONCURRENCY - others - int(call.arguments["ReservedConcurrentExecutions"])
    if left < _UNRESERVED_MINIMUM:
        message = (
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{_UNRESERVED_MINIMUM}]."
        )
        raise Refused("InvalidParameterValueException", message)
