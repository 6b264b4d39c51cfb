"""iam:SimulatePrincipalPolicy: identity policies and the boundary, without resource policies, as AWS does for roles."""

from typing import Any

from .authorization import boundary, decide, identity_sources
from .identity import Principal, role_named, session_of
from .policies import Match, Request, context_keys
from .wire import Call, Refused, Reply


def simulate(call: Call, caller: Principal) -> Reply:
    """Answer the call. Errors: Refused for a principal that does not exist, or what can't be simulated here."""
    arguments = call.arguments
    for member in ("ResourcePolicy", "PolicyInputList", "PermissionsBoundaryPolicyInputList"):
        if arguments.get(member):
            raise Refused("InvalidInput", f"the simulator does not take {member}")
    subject = _subject(arguments["PolicySourceArn"], caller)
    context = tuple(
        (str(entry["ContextKeyName"]), str(value))
        for entry in arguments.get("ContextEntries") or ()
        for value in (entry.get("ContextKeyValues") or ())[:1]
    )
    results = [
        _result(subject, action, resource, context)
        for action in arguments["ActionNames"]
        for resource in arguments.get("ResourceArns") or ["*"]
    ]
    return call.answer({"EvaluationResults": results, "IsTruncated": False})


def _subject(arn: str, caller: Principal) -> Principal:
    if ":role/" in arn:
        role = role_named(arn)
        if role is not None and role.account_id == caller.account:
            return session_of(role, "simulated")
    elif ":user/" in arn:
        name = arn.rsplit("/", 1)[-1]
        return Principal(kind="IAMUser", account=caller.account, arn=arn, name=name)
    raise Refused("NoSuchEntity", f"The principal {arn} cannot be found.", status=404)


def _result(subject: Principal, action: str, resource: str, context: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    request = Request(
        action=action,
        resource=resource,
        principals=subject.arns,
        account=subject.account,
        context=context,
        simulated=True,
    )
    sources = identity_sources(subject)
    decision, deciding = decide(sources, request)
    limits = boundary(subject)
    found: dict[str, Any] = {"EvalActionName": action, "EvalResourceName": resource}
    if limits is not None:
        verdict, within = decide([limits], request)
        allowed = verdict == "allowed"
        found["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": allowed}
        if verdict == "explicitDeny":
            decision, deciding = "explicitDeny", [*deciding, *within]
        elif not allowed and decision == "allowed":
            decision, deciding = "implicitDeny", []
    given = {key.lower() for key, _ in context}
    missing = [key for key in context_keys(sources, request) if key.lower() not in given]
    return {
        **found,
        "EvalDecision": decision,
        "MatchedStatements": [_statement(match) for match in deciding],
        "MissingContextValues": missing,
    }


def _statement(match: Match) -> dict[str, Any]:
    return {"SourcePolicyId": match.source.id, "SourcePolicyType": match.source.kind}
