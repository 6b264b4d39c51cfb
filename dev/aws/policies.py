"""What policy documents say of a principal, an action and a resource. Pure.

Conditions: those listed below are evaluated; any other is refused loudly, never guessed. Source: AWS's policy
evaluation logic for requests within one account.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from .wire import Refused

Effect = Literal["Allow", "Deny"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One policy document and where it stands. Shape: `kind` as iam:SimulatePrincipalPolicy names it."""

    id: str
    kind: str
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who wants what. Shape: `principals` are all ARNs the caller goes by, the most exact one first."""

    action: str
    resource: str
    principals: tuple[str, ...] = ()
    account: str = ""
    context: tuple[tuple[str, str], ...] = ()
    #: A simulation: keys it was not given are absent, whatever they are.
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Match:
    """A statement that speaks of a request."""

    source: Source
    effect: Effect
    #: How a resource policy's Principal names the caller.
    named: Literal["", "session", "identity", "account", "anyone"] = ""


def parsed(text: str | bytes | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a document given as text or parsed; an empty one for none."""
    if not text:
        return {}
    found = json.loads(text) if isinstance(text, str | bytes) else text
    return found if isinstance(found, Mapping) else {}


def listed(value: Any) -> list[Any]:
    """Return a policy element as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


@lru_cache(maxsize=4096)
def _pattern(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    text = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def like(text: str, pattern: str, *, ignore_case: bool = False) -> bool:
    """Tell whether a text matches a pattern of IAM: `*` and `?` only."""
    return _pattern(pattern, ignore_case).fullmatch(text) is not None


def matches(source: Source, request: Request, *, resource_based: bool = False) -> list[Match]:
    """Return the statements of a document that speak of a request. Errors: Refused for a condition not known."""
    found = []
    for statement in listed(source.document.get("Statement")):
        if not _covers(statement, request):
            continue
        named = _named(statement, request) if resource_based else ""
        if resource_based and not named:
            continue
        if holds(statement.get("Condition", {}), request):
            found.append(Match(source=source, effect=statement["Effect"], named=named))  # type: ignore[arg-type]
    return found


def _covers(statement: Mapping[str, Any], request: Request) -> bool:
    if "Action" in statement:
        acts = any(like(request.action, str(p), ignore_case=True) for p in listed(statement["Action"]))
    else:
        acts = not any(like(request.action, str(p), ignore_case=True) for p in listed(statement.get("NotAction")))
    if not acts:
        return False
    if "Resource" in statement:
        return any(like(request.resource, str(p)) for p in listed(statement["Resource"]))
    if "NotResource" in statement:
        return not any(like(request.resource, str(p)) for p in listed(statement["NotResource"]))
    return True


def _named(statement: Mapping[str, Any], request: Request) -> str:
    """Return how a statement's Principal names the caller; empty when it does not."""
    if "NotPrincipal" in statement:
        excluded = _principals(statement["NotPrincipal"])
        return "" if any(p in excluded for p in request.principals) else "anyone"
    wanted = _principals(statement.get("Principal"))
    if request.principals and request.principals[0] in wanted and ":assumed-role/" in request.principals[0]:
        return "session"
    if any(p in wanted for p in request.principals):
        return "identity"
    if "*" in wanted:
        return "anyone"
    if request.account and {request.account, f"arn:aws:iam::{request.account}:root"} & set(wanted):
        return "account"
    return ""


def _principals(value: Any) -> list[str]:
    if value == "*":
        return ["*"]
    if isinstance(value, Mapping):
        return [str(p) for kind in ("AWS", "Service") for p in listed(value.get(kind))]
    return []


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": like,
    "ArnLike": like,
    "ArnEquals": like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "DateLessThan": lambda value, wanted: _instant(value) < _instant(wanted),
    "DateGreaterThan": lambda value, wanted: _instant(value) > _instant(wanted),
}
#: Condition keys that a request of ours always answers. Others in `_ABSENT` are known to be absent from it.
_ABSENT = frozenset(
    {
        *("aws:sourceaccount", "aws:sourcearn", "sts:externalid", "kms:viaservice", "kms:calleraccount"),
        # Whoever signs nothing is nobody.
        *("aws:principalarn", "aws:principalaccount"),
        # Only what was issued for a while has an instant of issue.
        "aws:tokenissuetime",
    }
)
#: Keys that stand for as many as there are tags: absent where there is no such tag.
_TAGS = ("s3:existingobjecttag/",)


def holds(condition: Mapping[str, Any], request: Request) -> bool:
    """Tell whether a Condition block holds. Errors: Refused for an operator or a key not known here."""
    context = {k.lower(): v for k, v in request.context}
    for operator, keys in condition.items():
        compare = _OPERATORS.get(operator)
        if compare is None:
            raise _not_known(f"operator {operator}")
        for key, wanted in keys.items():
            value = context.get(key.lower())
            known = request.simulated or key.lower() in _ABSENT or key.lower().startswith(_TAGS)
            if value is None and not known:
                raise _not_known(f"key {key}")
            if value is None or not any(compare(value, _text(w)) for w in listed(wanted)):
                return False
    return True


def _instant(text: str) -> datetime:
    """Return an instant of a condition. Errors: Refused for what is none."""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise Refused("MalformedPolicyDocument", f"{text} is no instant") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_known(what: str) -> Refused:
    return Refused("PolicyNotEvaluable", f"a policy has a condition with {what}, which the simulator can't evaluate")


def context_keys(sources: Sequence[Source], request: Request) -> list[str]:
    """Return the condition keys of the statements that would speak of a request. Shape: sorted."""
    return sorted(
        {
            key
            for source in sources
            for statement in listed(source.document.get("Statement"))
            if _covers(statement, request)
            for keys in statement.get("Condition", {}).values()
            for key in keys
        }
    )


# --- what S3 calls public ---------------------------------------------------------------------------------------------

#: Condition keys that, with a value without wildcards, keep a policy that names everybody from being public.
#: Source: Amazon S3 user guide, "The meaning of public". An object's tag is not among them.
_LIMITING = frozenset(
    {
        "aws:sourcearn",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:sourceowner",
        "aws:sourceaccount",
        "aws:sourceip",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:dataaccesspointarn",
    }
)


def is_public(document: Any) -> bool:
    """Tell whether S3 calls a bucket policy public."""
    return any(
        statement.get("Effect") == "Allow" and _names_everybody(statement) and not _is_limited(statement)
        for statement in listed(parsed(document).get("Statement"))
    )


def _names_everybody(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    if isinstance(principal, Mapping):
        principal = [name for names in principal.values() for name in listed(names)]
    return "*" in listed(principal) or "NotPrincipal" in statement


def _is_limited(statement: Mapping[str, Any]) -> bool:
    return any(
        key.lower() in _LIMITING and not any("*" in str(value) or str(value).endswith("/0") for value in listed(values))
        for keys in statement.get("Condition", {}).values()
        for key, values in keys.items()
    )
