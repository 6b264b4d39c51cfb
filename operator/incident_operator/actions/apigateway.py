"""API keys of API Gateway: who calls with a key that is known to be compromised, and end its use.

How often a key was used is what its usage plans count; who used it, from where, is what the stages' access logs say, if
their format has the key's id. A key's value is never read. Source: facts on AWS (section 4), on verification; API
Gateway developer guide, "Variables for access logging".
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Guard, Read, Repeat, Undo
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Output, ReasonInfo, Unclear, register
from .credentials import EFFECT_AFTER, RECORD_DELAY, Count, CredentialInputs, from_where, masked, top
from .ports import NotFound, Reader

CALL_TIMEOUT = timedelta(seconds=10)
#: As many lines of a log are read at most (the listed read's bound).
MAX_LINES = 2000
#: What is asked of an access log, and what it is called there.
_VARIABLES = {
    "key": "$context.identity.apiKeyId",
    "address": "$context.identity.sourceIp",
    "status": "$context.status",
    "id": "$context.requestId",
    "method": "$context.httpMethod",
    "path": "$context.resourcePath",
}
#: What each may look like: nothing else is kept (decision 19).
_GRAMMAR = {
    "address": re.compile(r"[0-9a-fA-F.:]{3,45}"),
    "status": re.compile(r"[1-5][0-9]{2}"),
    "id": re.compile(r"[0-9a-fA-F-]{8,64}"),
    "method": re.compile(r"[A-Z]{3,7}"),
    "path": re.compile(r"/[A-Za-z0-9_{}+./-]{0,120}"),
}


class ApiKeyInputs(CredentialInputs):
    """A key of an API. None: the incident is about another credential, and API Gateway is not asked.

    Shape: `own_api_keys` are the ids of keys that services of our own use, whatever the logs show.
    """

    own_api_keys: tuple[str, ...] = Field((), max_length=64)

    @property
    def key_id(self) -> str:
        """The key's id; empty where none is named."""
        return self.api_key_id or ""

    @property
    def label(self) -> str:
        """How people call the key."""
        return masked(self.api_key_id, "API key")


class Request(ActionModel):
    """One request with the key, as an access log has it. Shape: what the log does not tell is empty."""

    at: datetime
    id: str = ""
    address: str = ""
    method: str = ""
    path: str = ""
    status: str = ""

    @property
    def refused(self) -> bool:
        """It was answered with an error."""
        return self.status[:1] in ("4", "5")


class RequestLog(ActionModel):
    """What the access logs tell of a key. Shape: oldest first.

    `complete`: every stage of the key's plans has a log that says which key called, and from where; `more`: there are
    more lines than were read.
    """

    requests: tuple[Request, ...] = ()
    complete: bool = False
    more: bool = False


def stages_of(key_id: str, region: str | None, reader: Reader) -> tuple[Mapping[str, str], ...]:
    """Return the stages that a key's usage plans give it. Errors: ReadError."""
    plans = reader.aws("apigateway", "get_usage_plans", {"keyId": key_id}, region=region)
    found = {(s["apiId"], s["stage"]): s for plan in plans for s in plan["stages"]}
    return tuple(found[name] for name in sorted(found))


def read_requests(
    inputs: ApiKeyInputs, reader: Reader, start: datetime, end: datetime, stages: Sequence[Mapping[str, str]]
) -> RequestLog:
    """Read what the access logs have of a key between two instants. Errors: ReadError."""
    found: list[Request] = []
    more, complete = False, bool(stages)
    for stage in stages:
        where = {"restApiId": stage["apiId"], "stageName": stage["stage"]}
        log = reader.aws("apigateway", "get_stage", where, region=inputs.region)
        members = members_of(log["logFormat"])
        group = log["logArn"].partition(":log-group:")[2].removesuffix(":*")
        told = bool(group) and {"key", "address", "status"} <= set(members)
        complete = complete and told
        if not told:
            continue
        arguments = {
            "logGroupName": group,
            "startTime": int(start.timestamp() * 1000),
            "endTime": int(end.timestamp() * 1000) + 1,
            "filterPattern": f'"{inputs.key_id}"',
        }
        lines = reader.aws("logs", "filter_log_events", arguments, region=inputs.region)
        more = more or len(lines) >= MAX_LINES
        found.extend(parse_requests(lines, members, inputs.key_id))
    return RequestLog(
        requests=tuple(sorted(found, key=lambda r: (r.at, r.id))),
        complete=complete,
        more=more,
    )


def members_of(log_format: str) -> Mapping[str, str]:
    """Return which member of a line says what, for a format that is a JSON object; none for any other format."""
    try:
        shape = json.loads(log_format)
    except ValueError:
        return {}
    if not isinstance(shape, dict):
        return {}
    by_variable = {value: member for member, value in shape.items() if isinstance(value, str)}
    return {name: by_variable[variable] for name, variable in _VARIABLES.items() if variable in by_variable}


def parse_requests(lines: Sequence[Mapping[str, Any]], members: Mapping[str, str], key_id: str) -> tuple[Request, ...]:
    """Return the requests of a key that lines tell of: only what matches a known grammar. Source: decision 19."""
    found = []
    for line in lines:
        try:
            said = json.loads(line["message"])
        except ValueError:
            continue
        if not isinstance(said, dict) or said.get(members["key"]) != key_id:
            continue
        tokens = {
            name: text
            for name, grammar in _GRAMMAR.items()
            if name in members and grammar.fullmatch(text := str(said.get(members[name], "")))
        }
        found.append(Request(at=datetime.fromtimestamp(line["timestamp"] / 1000, UTC), **tokens))
    return tuple(found)


class ApiKeyFacts(Facts):
    """A key of an API, and what was done with it in the window.

    Shape: `asked` is False where the run names no API key, and then there is nothing else; `enabled` is None where
    there is no such key; `used` is what the usage plans counted on the window's days; all else is of the access logs:
    `own` are the requests from our own networks, `logged` whether the logs tell of all stages that the key opens.
    """

    asked: bool = True
    arn: str = ""
    name: str = ""
    enabled: bool | None = None
    declared_own: bool = False
    stages: int = 0
    used: int = 0
    logged: bool = False
    more: bool = False
    requests: int = 0
    refused: int = 0
    own: int = 0
    addresses: tuple[Count, ...] = ()
    paths: tuple[Count, ...] = ()
    last_at: datetime | None = None

    @property
    def is_own(self) -> bool:
        """A service of our own uses the key: it is declared so, or was seen."""
        return self.declared_own or bool(self.own)


def read_api_key(inputs: ApiKeyInputs, reader: Reader) -> ApiKeyFacts:
    """Read the key's state, and its use in the window. Errors: ReadError."""
    if inputs.api_key_id is None:
        return ApiKeyFacts(asked=False)
    try:
        key = reader.aws("apigateway", "get_api_key", {"apiKey": inputs.key_id}, region=inputs.region)
    except NotFound:
        return ApiKeyFacts()
    days = {
        "startDate": f"{inputs.window_start.astimezone(UTC):%Y-%m-%d}",
        "endDate": f"{inputs.window_end.astimezone(UTC):%Y-%m-%d}",
    }
    plans = reader.aws("apigateway", "get_usage_plans", {"keyId": inputs.key_id}, region=inputs.region)
    used = 0
    for plan in plans:
        asked = {"usagePlanId": plan["id"], "keyId": inputs.key_id, **days}
        used += int(reader.aws("apigateway", "get_usage", asked, region=inputs.region).get(inputs.key_id, 0))
    stages = stages_of(inputs.key_id, inputs.region, reader)
    log = read_requests(inputs, reader, inputs.window_start, inputs.window_end, stages)
    return ApiKeyFacts(
        arn=f"arn:aws:apigateway:{inputs.region or reader.region}::/apikeys/{inputs.key_id}",
        name=_token(key.get("name", "")),
        enabled=bool(key["enabled"]),
        declared_own=inputs.key_id in inputs.own_api_keys,
        stages=len(stages),
        used=used,
        logged=log.complete,
        more=log.more,
        requests=len(log.requests),
        refused=sum(r.refused for r in log.requests),
        own=sum(inputs.is_own(r.address) for r in log.requests),
        addresses=top(r.address for r in log.requests),
        paths=top(f"{r.method} {r.path}".strip() for r in log.requests),
        last_at=log.requests[-1].at if log.requests else None,
    )


def _token(text: str) -> str:
    """Return a key's name where it is one; people may write anything there."""
    return text if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) else ""


class ApiKeyOutput(Output):
    """The key and its use, in short."""

    asked: bool
    name: str = ""
    enabled: bool | None = None
    stages: int
    used: int
    logged: bool
    more: bool
    requests: int
    refused: int
    own: int
    addresses: tuple[Count, ...] = ()
    paths: tuple[Count, ...] = ()


_READS = ("apigateway:GET", "logs:FilterLogEvents")


@register
class ApiKey(CheckAction[ApiKeyInputs, ApiKeyFacts]):
    """Can a key of an API that is known to be compromised still be used, and who used it?"""

    name = "apigateway.key"
    title = "A compromised API key"
    inputs_model = ApiKeyInputs
    facts_model = ApiKeyFacts
    reads = _READS
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "CompromisedApiKeyActive": ReasonInfo(doc="The API key can still be used.", root_cause=True),
        "OwnServiceUsesKey": ReasonInfo(
            doc="Calls with the key came from our own networks: a service of ours may use it.", kind=FindingKind.INFO
        ),
        "KeyUseNotLogged": ReasonInfo(
            doc="A stage that the key opens has no access log that says which key called, and from where.",
            kind=FindingKind.INFO,
        ),
    }

    def observe(self, inputs: ApiKeyInputs, reader: Reader) -> ApiKeyFacts:
        """Read the key and its use."""
        return read_api_key(inputs, reader)

    def output(self, facts: ApiKeyFacts) -> ApiKeyOutput:
        """Return counts, and the five that were seen most."""
        shown = facts.model_dump(include=set(ApiKeyOutput.model_fields))
        return ApiKeyOutput.model_validate(shown)

    def findings(self, inputs: ApiKeyInputs, facts: ApiKeyFacts) -> Sequence[Found] | Unclear:
        """A key that is enabled is the problem, whether or not its use is seen."""
        if not facts.asked:
            return ()
        if facts.enabled is None:
            return Unclear(reason="KeyUnknown", message=f"there is no {inputs.label} in this account and region")
        found = []
        subject = facts.name or None
        if facts.is_own:
            seen = f"{facts.own} requests with it came from networks of our own"
            message = f"{inputs.label} is declared as one of our own" if facts.declared_own else seen
            found.append(Found(reason="OwnServiceUsesKey", message=message, subject=subject))
        if not facts.logged:
            message = f"the access logs do not tell who calls with {inputs.label}"
            found.append(Found(reason="KeyUseNotLogged", message=message, subject=subject))
        if facts.enabled:
            many = "at least " if facts.more else ""
            message = (
                f"{inputs.label} can be used: {facts.used} requests counted on the window's days; "
                f"{many}{facts.requests} logged in the window{from_where(facts.addresses)}, {facts.refused} refused"
            )
            found.append(Found(reason="CompromisedApiKeyActive", message=message, subject=subject, at=facts.last_at))
        return found


# --- apigateway.disable-key -------------------------------------------------------------------------------------------


class ApiKeyAfter(Facts):
    """The key after it was disabled.

    Shape: `served` are requests with it that were answered later than a minute after; `logged`: the access logs would
    tell; `complete`: they tell of all of them by now.
    """

    enabled: bool | None = None
    served: int = 0
    logged: bool = False
    complete: bool = False


@register
class DisableKey(FixAction[ApiKeyInputs, ApiKeyFacts]):
    """Disable a compromised API key; never one that a service of our own uses."""

    name = "apigateway.disable-key"
    title = "Disable the API key"
    inputs_model = ApiKeyInputs
    facts_model = ApiKeyFacts
    reads = _READS
    writes = ("apigateway:PATCH",)
    risk = "Disruptive: whoever uses the key is refused at once. Never automatic."
    undo = "Only on a person's word: the key is enabled again."
    waits = Waits(wait=RECORD_DELAY, every=timedelta(minutes=1), deadline=timedelta(minutes=30))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "KeyUnknown": ReasonInfo(doc="There is no such key in the account and region."),
        "AlreadyDisabled": ReasonInfo(doc="The key can't be used any more."),
        "OwnServiceUsesKey": ReasonInfo(
            doc="A service of our own uses the key, by declaration or by its requests: it would stop."
        ),
    }

    def observe(self, inputs: ApiKeyInputs, reader: Reader) -> ApiKeyFacts:
        """Read the same as the check."""
        return read_api_key(inputs, reader)

    def plan(self, inputs: ApiKeyInputs, facts: ApiKeyFacts) -> PlanDraft | NotApplicable:
        """One call; a person agrees, and is told where nobody knows who else uses the key."""
        if facts.enabled is None:
            return NotApplicable(reason="KeyUnknown", message=f"there is no {inputs.label} in this account and region")
        if not facts.enabled:
            return NotApplicable(reason="AlreadyDisabled", message=f"{inputs.label} is disabled")
        if facts.is_own:
            why = "it is declared so" if facts.declared_own else f"{facts.own} requests came from our own networks"
            message = f"a service of our own uses {inputs.label} ({why}): give that service another key first"
            return NotApplicable(reason="OwnServiceUsesKey", message=message)
        known = bool(inputs.own_networks and facts.logged and facts.requests and not facts.more)
        label = f"{inputs.label} ({facts.name})" if facts.name else inputs.label
        return PlanDraft(
            title=f"disable {label}",
            calls=(self._call(inputs, facts.arn, enabled=False),),
            touches=(facts.arn,),
            risk=Risk.DISRUPTIVE,
            region=inputs.region,
            verify=self.waits.verify(f"no request with {inputs.label} is answered later than a minute after"),
            diff=(DiffLine(what=label, before="enabled", after="disabled"),),
            undo=Undo(
                calls=(self._call(inputs, facts.arn, enabled=True),),
                safe_when="the key is still disabled",
                guards=(
                    Guard(
                        read=Read(service="apigateway", operation="get_api_key", arguments={"apiKey": inputs.key_id}),
                        path="enabled",
                    ),
                ),
            ),
            evidence_first=True,
            ask_because=("ContainmentIsForPeople", *(() if known else ("OwnUseUnknown",))),
        )

    def _call(self, inputs: ApiKeyInputs, arn: str, *, enabled: bool) -> Call:
        change = {"op": "replace", "path": "/enabled", "value": "true" if enabled else "false"}
        return Call(
            service="apigateway",
            operation="update_api_key",
            arguments={"apiKey": inputs.key_id, "patchOperations": [change]},
            permissions=("apigateway:PATCH",),
            resources=(arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            summary=f"{'enable' if enabled else 'disable'} {inputs.label}",
        )

    def applied(self, call: Call, inputs: ApiKeyInputs, facts: ApiKeyFacts) -> bool | None:
        """Tell by the key's state, of the call and of its undo."""
        if facts.enabled is None:
            return None
        return facts.enabled is (call.arguments["patchOperations"][0]["value"] == "true")

    def measure(self, inputs: ApiKeyInputs, reader: Reader) -> ApiKeyAfter:
        """Read the key's state, and the requests with it since a minute after."""
        try:
            key = reader.aws("apigateway", "get_api_key", {"apiKey": inputs.key_id}, region=inputs.region)
        except NotFound:
            return ApiKeyAfter()
        start = reader.since + reader.scaled(EFFECT_AFTER)
        log = RequestLog()
        if start < reader.now:
            log = read_requests(inputs, reader, start, reader.now, stages_of(inputs.key_id, inputs.region, reader))
        return ApiKeyAfter(
            enabled=bool(key["enabled"]),
            served=sum(not r.refused for r in log.requests),
            logged=log.complete,
            complete=reader.now >= reader.since + reader.scaled(RECORD_DELAY),
        )

    def judge(self, inputs: ApiKeyInputs, before: ApiKeyFacts, after: ApiKeyAfter) -> Judgement:
        """Disabled, and nobody was answered with it once the access logs tell everything."""
        label = inputs.label
        if after.enabled:
            message = f"{label} can be used again: somebody changed it since"
            return Judgement(outcome=None, measured=True, message=message)
        if after.served:
            message = f"{after.served} requests with {label} were answered later than a minute after"
            return Judgement(outcome=None, measured=True, message=message)
        if not after.complete or not after.logged:
            why = "do not tell of its requests" if after.complete else "do not tell everything yet"
            message = f"the access logs {why}"
            return Judgement(outcome=None, measured=False, message=message, waiting_for="the access logs")
        message = f"{label} can not be used, and no request with it was answered later than a minute after"
        return Judgement(outcome="Helped", measured=True, message=message)
