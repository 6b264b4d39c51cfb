"""Who calls: an account's admin, an IAM user by access key, a session of an assumed role. STS is answered here.

`SIMADMIN<12 digits>` is the key id of that account's root: tests make accounts by naming them. Signatures are not
verified: who knows a key id is who it stands for.
"""

import json
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from moto.iam.models import iam_backends

from .policies import Match, Request, Source, matches, parsed
from .wire import Call, Refused, Reply

ADMIN_KEY = re.compile(r"SIMADMIN(\d{12})")
_LAMBDA = "lambda.amazonaws.com"
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")
_SESSION_POLICY_LIMIT = 2048
#: How long a session of one's own may last, in seconds, where none is said, and at most as the account's root.
_OWN_SHORTEST, _OWN_LONGEST, _OWN_DEFAULT, _ROOT_LONGEST = 900, 129_600, 43_200, 3_600


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller. Shape: `arn` as GetCallerIdentity says it; `role_arn` for sessions only; Anonymous signs nothing."""

    kind: Literal["Root", "IAMUser", "AssumedRole", "Anonymous"]
    account: str
    arn: str
    name: str
    role_arn: str = ""
    session_policies: tuple[str, ...] = ()
    #: Made for a running function, by Lambda itself.
    by_lambda: bool = False
    #: When the credentials were issued, of a role's session or of a user's own (GetSessionToken); None for a key.
    issued_at: datetime | None = None

    @property
    def admin(self) -> bool:
        """The account's root: no policy limits it."""
        return self.kind == "Root"

    @property
    def arns(self) -> tuple[str, ...]:
        """All ARNs a resource policy may call it by, the most exact one first."""
        return (self.arn, self.role_arn) if self.role_arn else (self.arn,)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Temporary credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime


@dataclass(kw_only=True)
class Sessions:
    """All sessions, of assumed roles and of users' own, by access key id."""

    now: Callable[[], datetime]
    _principals: dict[str, tuple[Principal, datetime]] = field(default_factory=dict)

    def open(self, principal: Principal, duration: timedelta) -> Credentials:
        """Return fresh credentials of a principal."""
        letters = string.ascii_uppercase + string.digits
        key = "ASIA" + "".join(secrets.choice(letters) for _ in range(16))
        issued = self.now()
        until = issued + duration
        self._principals[key] = replace(principal, issued_at=issued), until
        return Credentials(
            access_key_id=key,
            secret_access_key=secrets.token_urlsafe(30),
            session_token=secrets.token_urlsafe(120),
            expiration=until,
        )

    def principal(self, key: str) -> Principal | None:
        """Return the principal of a key; None for no session. Errors: Refused when it has expired."""
        found = self._principals.get(key)
        if found is None:
            return None
        if found[1] <= self.now():
            raise Refused("ExpiredToken", "The security token included in the request is expired", status=403)
        return found[0]


def resolve(key: str, sessions: Sessions) -> Principal | None:
    """Return who an access key id stands for; None for nobody. Errors: Refused for an expired session."""
    admin = ADMIN_KEY.fullmatch(key)
    if admin:
        account = admin[1]
        return Principal(kind="Root", account=account, arn=f"arn:aws:iam::{account}:root", name="root")
    session = sessions.principal(key)
    if session is not None:
        return session
    for account in list(iam_backends):
        for user in list(iam_backends[account]["aws"].users.values()):
            if any(k.access_key_id == key and k.status == "Active" for k in user.access_keys):
                return Principal(kind="IAMUser", account=account, arn=user.arn, name=user.name)
    return None


def role_named(arn: str) -> Any | None:
    """Return moto's role of an ARN; None when there is none."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or not parts[5].startswith("role/"):
        return None
    roles = iam_backends[parts[4]]["aws"].roles.values()
    return next((role for role in roles if role.arn == arn), None)


def session_of(role: Any, name: str, policies: tuple[str, ...] = (), *, by_lambda: bool = False) -> Principal:
    """Return a session of a role."""
    return Principal(
        kind="AssumedRole",
        account=role.account_id,
        arn=f"arn:aws:sts::{role.account_id}:assumed-role/{role.name}/{name}",
        name=name,
        role_arn=role.arn,
        session_policies=policies,
        by_lambda=by_lambda,
    )


def lambda_may_assume(role: Any) -> bool:
    """Tell whether a role's trust policy names the Lambda service."""
    return "Allow" in _trust(role, (_LAMBDA,), "") and "Deny" not in _trust(role, (_LAMBDA,), "")


def _trust(role: Any, principals: tuple[str, ...], account: str) -> dict[str, Match]:
    source = Source(id="trust", kind="Trust Policy", document=parsed(role.assume_role_policy_document))
    request = Request(
        action="sts:AssumeRole",
        resource=role.arn,
        principals=principals,
        account=account,
        context=(("aws:PrincipalArn", principals[-1]), ("aws:SecureTransport", "true")),
    )
    return {match.effect: match for match in matches(source, request, resource_based=True)}


def assume_role(call: Call, principal: Principal, sessions: Sessions, identity_allows: bool) -> Reply:
    """Answer sts:AssumeRole.

    Shape: `identity_allows` is what the caller's own policies say of it. A trust policy that names the caller is
    enough within an account; one that names only its account leaves it to the caller's policies.
    Errors: Refused.
    """
    arn, name = call.arguments.get("RoleArn", ""), call.arguments.get("RoleSessionName", "")
    policy = call.arguments.get("Policy")
    if not _SESSION_NAME.fullmatch(name):
        raise Refused("ValidationError", f"'{name}' at 'roleSessionName' does not satisfy [\\w+=,.@-]{{2,64}}")
    if policy is not None:
        _check_session_policy(policy)
    role = role_named(arn)
    trust = _trust(role, principal.arns, principal.account) if role is not None else {}
    allowed = trust.get("Allow")
    by_itself = allowed is not None and allowed.named in ("session", "identity", "anyone")
    same_account = role is not None and role.account_id == principal.account
    if (
        role is None
        or allowed is None
        or "Deny" in trust
        or not (identity_allows or (by_itself and same_account) or principal.admin)
    ):
        message = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        raise Refused("AccessDenied", message, status=403)
    duration = timedelta(seconds=int(call.arguments.get("DurationSeconds") or 3600))
    policies = (policy,) if policy else ()
    session = session_of(role, name, policies)
    made = sessions.open(session, duration)
    return call.answer(
        {
            "Credentials": _told(made),
            "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{name}", "Arn": session.arn},
            "PackedPolicySize": 6 if policy else None,
        }
    )


def get_session_token(call: Call, principal: Principal, sessions: Sessions) -> Reply:
    """Answer sts:GetSessionToken: a session of one's own, which needs no permission and outlives the key.

    It may do what its user may at the time of each call: only a policy ends it before its time. Without MFA, which
    the simulator has not, it can't call IAM. Source: IAM user guide, "Permissions for GetSessionToken", "Disabling
    permissions for temporary security credentials". Errors: Refused.
    """
    if principal.issued_at is not None:
        raise Refused("AccessDenied", "Cannot call GetSessionToken with session credentials", status=403)
    if call.arguments.get("SerialNumber") or call.arguments.get("TokenCode"):
        raise Refused("AccessDenied", "MultiFactorAuthentication failed: the simulator has no device", status=403)
    seconds = int(call.arguments.get("DurationSeconds") or _OWN_DEFAULT)
    if not _OWN_SHORTEST <= seconds <= _OWN_LONGEST:
        bounds = f"{_OWN_SHORTEST} to {_OWN_LONGEST}"
        raise Refused("ValidationError", f"Value '{seconds}' at 'durationSeconds' is not within {bounds}")
    if principal.admin:
        seconds = min(seconds, _ROOT_LONGEST)
    made = sessions.open(principal, timedelta(seconds=seconds))
    return call.answer({"Credentials": _told(made)})


def refuse_to_own_session(call: Call, principal: Principal) -> None:
    """Refuse what a session of one's own can't call without MFA. Errors: Refused."""
    if principal.issued_at is None or principal.kind == "AssumedRole":
        return
    own = call.name in (("sts", "GetCallerIdentity"), ("sts", "AssumeRole"), ("sts", "GetSessionToken"))
    if call.service == "iam" or (call.service == "sts" and not own):
        raise Refused("InvalidClientTokenId", "The security token included in the request is invalid", status=403)


def _told(made: Credentials) -> dict[str, Any]:
    return {
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.secret_access_key,
        "SessionToken": made.session_token,
        "Expiration": made.expiration.astimezone(UTC),
    }


def _check_session_policy(policy: str) -> None:
    if len(policy) > _SESSION_POLICY_LIMIT:
        message = f"Value at 'policy' failed to satisfy constraint: length <= {_SESSION_POLICY_LIMIT}"
        raise Refused("ValidationError", f"1 validation error detected: {message}")
    try:
        document = json.loads(policy)
        good = isinstance(document, dict) and "Statement" in document
    except ValueError:
        good = False
    if not good:
        raise Refused("MalformedPolicyDocument", "The session policy is not a valid JSON policy document")


def get_caller_identity(call: Call, principal: Principal) -> Reply:
    """Answer sts:GetCallerIdentity."""
    user = {"Root": principal.account, "IAMUser": f"AIDA{principal.name}"}.get(principal.kind)
    if user is None:
        role = role_named(principal.role_arn)
        user = f"{role.id if role is not None else 'AROAGONE'}:{principal.name}"
    return call.answer({"UserId": user, "Account": principal.account, "Arn": principal.arn})
