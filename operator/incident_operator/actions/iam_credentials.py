"""IAM users' access keys: who calls with a key that is known to be compromised, and end its use.

A key's id is no secret, but it is masked in all that is stored for people: a key is called by its last four characters
and its user. Nothing here ever makes a key valid again. Source: facts on AWS (section 4, row 21), on verification.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from ..api.meta import Risk, parse_instant
from ..api.plan import Call, DiffLine, Repeat
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Output, ReasonInfo, Unclear, register
from .credentials import EFFECT_AFTER, MAX_EVENTS, RECORD_DELAY, Count, CredentialInputs, from_where, masked, top
from .ports import NotFound, Reader, ReadError

CALL_TIMEOUT = timedelta(seconds=10)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")
#: What somebody does to stay in when the key is gone.
_PERSISTING = frozenset(
    {
        *("CreateAccessKey", "CreateUser", "CreateLoginProfile", "UpdateLoginProfile", "UpdateAccessKey"),
        *("AttachUserPolicy", "PutUserPolicy", "AddUserToGroup", "AttachRolePolicy", "PutRolePolicy", "CreateRole"),
        *("UpdateAssumeRolePolicy", "CreatePolicyVersion", "SetDefaultPolicyVersion", "CreateInstanceProfile"),
        *("CreateFunction20150331", "AddPermission20150331v2", "CreateServiceSpecificCredential"),
        *("GetSessionToken", "GetFederationToken"),
    }
)
#: Of these, who stays in is the key's own user: its sessions are valid until they end, whatever becomes of the key.
_OWN_SESSIONS = frozenset({"GetSessionToken", "GetFederationToken"})


class KeyInputs(CredentialInputs):
    """A key of an IAM user. None: the incident is about another credential, and IAM is not asked."""

    @property
    def key_id(self) -> str:
        """The key's id; empty where none is named."""
        return self.access_key_id or ""

    @property
    def label(self) -> str:
        """How people call the key."""
        return masked(self.access_key_id, "key")


def events_of(
    access_key_id: str, region: str | None, reader: Reader, start: datetime, end: datetime | None = None
) -> list[Mapping[str, Any]]:
    """Return what CloudTrail shows of a key's calls, oldest first, in its region and where IAM's are kept.

    Errors: ReadError.
    """
    arguments: dict[str, Any] = {
        "LookupAttributes": [{"AttributeKey": "AccessKeyId", "AttributeValue": access_key_id}],
        "StartTime": start.replace(microsecond=0).isoformat(),
    }
    if end is not None:
        arguments["EndTime"] = end.isoformat()
    found: dict[str, Mapping[str, Any]] = {}
    for where in dict.fromkeys((region or reader.region, reader.global_region)):
        for event in reader.aws("cloudtrail", "lookup_events", arguments, region=where):
            found[event["id"]] = {**event, "region": where}
    return sorted(found.values(), key=lambda event: (str(event["at"]), event["id"]))


class Persisted(ActionModel):
    """A call that lets somebody stay in without the key."""

    event: str
    subject: str = ""
    at: datetime


class KeyFacts(Facts):
    """A key, its user, and what was done with it in the window.

    Shape: `asked` is False where the run names no access key, and then there is nothing else; `user` and `status` are
    None where the account has no such key; `own` are the calls from our own networks; `made` are keys of the same user
    that were made with this one, and are active; `roles` are the ARNs of roles that were assumed with it, at most five;
    `settled`: CloudTrail shows all of the window by now; `more`: there are more events than were read; `console`: the
    user has a password for the console, None where that was not asked.
    """

    asked: bool = True
    user: str | None = None
    user_arn: str = ""
    status: str | None = None
    calls: int = 0
    refused: int = 0
    addresses: tuple[Count, ...] = ()
    operations: tuple[Count, ...] = ()
    own: int = 0
    persisted: tuple[Persisted, ...] = ()
    made: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    settled: bool = True
    more: bool = False
    last_at: datetime | None = None
    console: bool | None = None

    @property
    def active(self) -> bool:
        """The key can still be used, or one that was made with it."""
        return self.status == "Active" or bool(self.made)


def _state(inputs: KeyInputs, reader: Reader) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
    """Return a key's user and all keys of that user; None and none where there is no such key. Errors: ReadError."""
    try:
        user = reader.aws("iam", "get_access_key_last_used", {"AccessKeyId": inputs.key_id}).get("UserName")
        if not user:
            raise ReadError("MalformedAnswer", f"IAM does not say whose {inputs.label} is")
        keys = reader.aws("iam", "list_access_keys", {"UserName": user})
    except NotFound:
        return None, ()
    return (user, keys) if _status(keys, inputs.key_id) is not None else (None, ())


def _status(keys: Sequence[Mapping[str, Any]], key_id: str) -> str | None:
    return next((str(key["Status"]) for key in keys if key["AccessKeyId"] == key_id), None)


def _made_with(
    inputs: KeyInputs, user: str | None, keys: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return the keys of the user that calls with this one made: as old as such a call, to the second.

    A key that somebody else made meanwhile, to replace this one, is none of them.
    """
    made = [
        _at(event["at"])
        for event in events
        if event["name"] == "CreateAccessKey"
        and not event["error"]
        and event["parameters"].get("userName", user) == user
    ]
    return tuple(
        str(key["AccessKeyId"])
        for key in keys
        if key["AccessKeyId"] != inputs.key_id
        and any(abs(_at(key["CreateDate"]) - at) <= timedelta(seconds=2) for at in made)
    )


def _at(value: Any) -> datetime:
    return parse_instant(value) if isinstance(value, str) else value


def read_key(inputs: KeyInputs, reader: Reader) -> KeyFacts:
    """Read the key's state and its calls in the window. Errors: ReadError."""
    if inputs.access_key_id is None:
        return KeyFacts(asked=False)
    user, keys = _state(inputs, reader)
    events = events_of(inputs.key_id, inputs.region, reader, inputs.window_start, inputs.window_end)
    return KeyFacts(
        user=user,
        user_arn=reader.aws("iam", "get_user", {"UserName": user})["Arn"] if user else "",
        status=_status(keys, inputs.key_id),
        made=tuple(k for k in _made_with(inputs, user, keys, events) if _status(keys, k) == "Active"),
        calls=len(events),
        refused=sum(bool(e["error"]) for e in events),
        addresses=top(e["address"] for e in events),
        operations=top(f"{e['source'].removesuffix('.amazonaws.com')}:{e['name']}" for e in events),
        own=sum(inputs.is_own(e["address"]) for e in events),
        persisted=tuple(
            Persisted(
                event=e["name"],
                subject=_subject(e, user)[:128],
                at=_at(e["at"]),
            )
            for e in events
            if e["name"] in _PERSISTING and not e["error"]
        )[:8],
        roles=tuple(sorted(_roles(events)))[:5],
        settled=inputs.window_end <= reader.now - reader.scaled(RECORD_DELAY),
        more=len(events) >= MAX_EVENTS,
        last_at=_at(events[-1]["at"]) if events else None,
    )


def _subject(event: Mapping[str, Any], user: str | None) -> str:
    if event["name"] in _OWN_SESSIONS:
        return user or ""
    return str(event["parameters"].get("userName") or event["parameters"].get("roleName") or "")


def _roles(events: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the roles that calls opened sessions of: those live on when the key is disabled."""
    asked = {str(e["parameters"].get("roleArn", "")) for e in events if e["name"] == "AssumeRole" and not e["error"]}
    return {arn for arn in asked if _ROLE.fullmatch(arn)}


class KeyOutput(Output):
    """The key and its use, in short."""

    user: str | None = None
    status: str | None = None
    calls: int
    refused: int
    addresses: tuple[Count, ...] = ()
    operations: tuple[Count, ...] = ()
    own: int
    persisted: int
    made: int
    roles: tuple[str, ...] = ()
    more: bool


class _KeyCheck(CheckAction[KeyInputs, KeyFacts]):
    """What both checks of a key have in common."""

    inputs_model = KeyInputs
    facts_model = KeyFacts
    reads: ClassVar[tuple[str, ...]] = (
        *("cloudtrail:LookupEvents", "iam:GetAccessKeyLastUsed", "iam:GetUser", "iam:ListAccessKeys"),
    )

    def observe(self, inputs: KeyInputs, reader: Reader) -> KeyFacts:
        """Read the key and its calls."""
        return read_key(inputs, reader)

    def output(self, facts: KeyFacts) -> KeyOutput:
        """Return counts, and the five that were seen most."""
        return KeyOutput(
            user=facts.user,
            status=facts.status,
            calls=facts.calls,
            refused=facts.refused,
            addresses=facts.addresses,
            operations=facts.operations,
            own=facts.own,
            persisted=len(facts.persisted),
            made=len(facts.made),
            roles=facts.roles,
            more=facts.more,
        )


@register
class AccessKey(_KeyCheck):
    """Can a key that is known to be compromised still be used, and who used it?"""

    name = "iam.access-key"
    title = "A compromised access key"
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "CompromisedKeyActive": ReasonInfo(
            doc="The key can still be used, or one of the same user that was made with it.", root_cause=True
        ),
        "OwnServiceUsesKey": ReasonInfo(
            doc="Calls with the key came from our own networks: a service of ours may use it.", kind=FindingKind.INFO
        ),
        "SessionsOpenedWithKey": ReasonInfo(
            doc="Roles were assumed with the key: those sessions work until they end, whatever becomes of the key.",
            kind=FindingKind.INFO,
        ),
    }

    def findings(self, inputs: KeyInputs, facts: KeyFacts) -> Sequence[Found] | Unclear:
        """An active key is the problem, whether or not CloudTrail shows its use; so is one that was made with it.

        Of a dead key CloudTrail's silence leaves open whether others were made with it.
        """
        if not facts.asked:
            return ()
        if facts.status is None:
            return Unclear(reason="KeyUnknown", message=f"this account has no {inputs.label}")
        found = []
        if facts.own:
            message = f"{facts.own} calls with {inputs.label} came from networks of our own"
            found.append(Found(reason="OwnServiceUsesKey", message=message, subject=facts.user))
        for role in facts.roles:
            message = f"role {role.rsplit('/', 1)[-1]} was assumed with {inputs.label}: its sessions outlive the key"
            found.append(Found(reason="SessionsOpenedWithKey", message=message, subject=role))
        if facts.active:
            many = "at least " if facts.more else ""
            where = from_where(facts.addresses)
            message = (
                f"{_keys(inputs, facts)} of user {facts.user} can be used; "
                f"{many}{facts.calls} calls in the window{where}, {facts.refused} of them refused"
            )
            found.append(Found(reason="CompromisedKeyActive", message=message, subject=facts.user, at=facts.last_at))
        elif not facts.calls:
            # The key is dead; whether others were made with it, nobody knows.
            return _silent(inputs)
        return found


@register
class KeyPersistence(_KeyCheck):
    """Did who called with the key make themselves another way in?"""

    name = "iam.key-persistence"
    title = "Other ways in, made with the key"
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "PersistenceByActor": ReasonInfo(
            doc="With the key somebody made other credentials, policies, roles or sessions: disabling the key does not "
            "end that."
        ),
        "UserHasConsoleLogin": ReasonInfo(
            doc="The key's user can sign in to the console with a password as well. Whether somebody else knows it, "
            "nobody can tell; deleting it is for people, since no machine can put it back.",
            kind=FindingKind.INFO,
        ),
    }
    reads = (*_KeyCheck.reads, "iam:GetLoginProfile")

    def observe(self, inputs: KeyInputs, reader: Reader) -> KeyFacts:
        """Read the key and its calls, and whether its user can sign in to the console."""
        facts = read_key(inputs, reader)
        if facts.user is None:
            return facts
        try:
            reader.aws("iam", "get_login_profile", {"UserName": facts.user})
        except NotFound:
            return facts.model_copy(update={"console": False})
        return facts.model_copy(update={"console": True})

    def findings(self, inputs: KeyInputs, facts: KeyFacts) -> Sequence[Found] | Unclear:
        """Name each; none is no answer where the key is unknown, its calls are not shown, or not all were read."""
        if not facts.asked:
            return ()
        found = (*self._persisted(inputs, facts), *self._console(facts))
        if facts.status is None:
            return Unclear(reason="KeyUnknown", message=f"this account has no {inputs.label}", found=found)
        if not facts.calls:
            return replace(_silent(inputs), found=found)
        if not facts.settled:
            message = "CloudTrail shows calls up to fifteen minutes late: there may be others in the window"
            return Unclear(reason="WindowTooRecent", message=message, found=found)
        if facts.more:
            message = f"{inputs.label} made more calls than the {MAX_EVENTS} that were read"
            return Unclear(reason="MoreEvents", message=message, found=found)
        return found

    def _persisted(self, inputs: KeyInputs, facts: KeyFacts) -> tuple[Found, ...]:
        return tuple(
            Found(
                reason="PersistenceByActor",
                message=f"{p.event} with {inputs.label} on {p.subject or 'what CloudTrail names'} "
                f"at {p.at:%Y-%m-%d %H:%M:%S}Z",
                subject=p.subject or None,
                at=p.at,
            )
            for p in facts.persisted
        )

    def _console(self, facts: KeyFacts) -> tuple[Found, ...]:
        if not facts.console:
            return ()
        message = (
            f"user {facts.user} can sign in to the console with a password as well; only a person ends that for good: "
            f"aws iam delete-login-profile --user-name {facts.user}"
        )
        return (Found(reason="UserHasConsoleLogin", message=message, subject=facts.user),)


def _silent(inputs: KeyInputs) -> Unclear:
    """Return that nothing is known of what was done with a key: silence is no proof that nothing was."""
    return Unclear(reason="NoCalls", message=f"CloudTrail shows no call with {inputs.label} in the window (yet)")


def _keys(inputs: KeyInputs, facts: KeyFacts) -> str:
    """Return the keys that can be used, as people call them."""
    more = f"{len(facts.made)} made with it" if facts.made else ""
    return " and ".join(part for part in (inputs.label if facts.status == "Active" else "", more) if part)


# --- iam.disable-credentials ------------------------------------------------------------------------------------------


class KeyAfter(Facts):
    """The keys after they were disabled.

    Shape: `active` are those that are not Inactive; `successes` are calls with any of them later than a minute after;
    `complete`: CloudTrail shows all of them by now.
    """

    active: int = 0
    successes: int = 0
    complete: bool = False


@register
class DisableCredentials(FixAction[KeyInputs, KeyFacts]):
    """Make a compromised key Inactive, and those that were made with it.

    Sessions that were opened with them live until they end.
    """

    name = "iam.disable-credentials"
    title = "Disable the access key"
    inputs_model = KeyInputs
    facts_model = KeyFacts
    reads = _KeyCheck.reads
    writes = ("iam:UpdateAccessKey",)
    risk = "Disruptive: whatever uses the key is refused at once. Never automatic."
    undo = "Never by a machine: the key's owner makes a new one."
    waits = Waits(wait=RECORD_DELAY, every=timedelta(minutes=1), deadline=timedelta(minutes=30))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "KeyUnknown": ReasonInfo(doc="The account has no such key."),
        "AlreadyInactive": ReasonInfo(doc="The key can't be used any more."),
    }

    def observe(self, inputs: KeyInputs, reader: Reader) -> KeyFacts:
        """Read the same as the check."""
        return read_key(inputs, reader)

    def plan(self, inputs: KeyInputs, facts: KeyFacts) -> PlanDraft | NotApplicable:
        """One call a key; a person agrees, and is told whether a service of ours uses the key."""
        if facts.user is None:
            return NotApplicable(reason="KeyUnknown", message=f"this account has no {inputs.label}")
        if not facts.active:
            message = f"{inputs.label} of user {facts.user} is inactive"
            return NotApplicable(reason="AlreadyInactive", message=message)
        own = (inputs.key_id,) if facts.status == "Active" else ()
        known = bool(inputs.own_networks and facts.calls)
        return PlanDraft(
            title=f"disable {_keys(inputs, facts)} of user {facts.user}",
            calls=tuple(self._call(facts, key) for key in (*own, *facts.made)),
            touches=(facts.user_arn,),
            risk=Risk.DISRUPTIVE,
            region=inputs.region,
            verify=self.waits.verify(f"no call with {_keys(inputs, facts)} succeeds later than a minute after"),
            diff=(DiffLine(what=f"{_keys(inputs, facts)} of user {facts.user}", before="Active", after="Inactive"),),
            irreversible="a compromised key is never made valid again by a machine: its owner makes a new one",
            evidence_first=True,
            ask_because=(
                "ContainmentIsForPeople",
                *(("OwnServiceUsesKey",) if facts.own else ()),
                *(() if known else ("OwnUseUnknown",)),
            ),
        )

    def _call(self, facts: KeyFacts, key: str) -> Call:
        return Call(
            service="iam",
            operation="update_access_key",
            arguments={"UserName": facts.user, "AccessKeyId": key, "Status": "Inactive"},
            permissions=("iam:UpdateAccessKey",),
            resources=(facts.user_arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            summary=f"make key …{key[-4:]} of user {facts.user} inactive",
        )

    def applied(self, call: Call, inputs: KeyInputs, facts: KeyFacts) -> bool | None:
        """Tell by the status of the call's own key."""
        if facts.user is None:
            return None
        key = call.arguments["AccessKeyId"]
        return key not in facts.made and (key != inputs.key_id or facts.status == "Inactive")

    def measure(self, inputs: KeyInputs, reader: Reader) -> KeyAfter:
        """Read the keys' status, and the calls with any of them since a minute after."""
        user, keys = _state(inputs, reader)
        window = events_of(inputs.key_id, inputs.region, reader, inputs.window_start, inputs.window_end)
        ended = (inputs.key_id, *_made_with(inputs, user, keys, window))
        start = reader.since + reader.scaled(EFFECT_AFTER)
        events = [
            event for key in ended if start < reader.now for event in events_of(key, inputs.region, reader, start)
        ]
        return KeyAfter(
            active=sum(_status(keys, key) == "Active" for key in ended),
            successes=sum(not event["error"] for event in events),
            complete=reader.now >= reader.since + reader.scaled(RECORD_DELAY),
        )

    def judge(self, inputs: KeyInputs, before: KeyFacts, after: KeyAfter) -> Judgement:
        """Inactive, and nobody got in with it once CloudTrail shows everything."""
        what = _keys(inputs, before)
        if after.active:
            message = f"{after.active} of the keys can be used again: somebody changed it since"
            return Judgement(outcome=None, measured=True, message=message)
        if after.successes:
            message = f"{after.successes} calls with {what} succeeded later than a minute after"
            return Judgement(outcome=None, measured=True, message=message)
        if not after.complete:
            message = "CloudTrail does not show everything yet"
            return Judgement(outcome=None, measured=False, message=message, waiting_for="CloudTrail")
        message = f"{what} can not be used, and no call with it succeeded later than a minute after"
        return Judgement(outcome="Helped", measured=True, message=message)
