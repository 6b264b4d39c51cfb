"""A compromised API key: what the access log tells of it, what is written down, and what people disable."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.apigateway import ApiKey, ApiKeyInputs, DisableKey, members_of
from incident_operator.actions.base import Unclear
from incident_operator.actions.evidence import Collect, CollectRequests, EvidenceInputs, RequestEvidenceInputs
from incident_operator.actions.iam_credentials import AccessKey, KeyInputs, KeyPersistence
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.api.meta import Risk
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader
from tests.builders import NOW

KEY, OTHER = "a1b2c3d4e5", "z9y8x7w6v5"
ARN = f"arn:aws:apigateway:us-east-1::/apikeys/{KEY}"
THIEF, OURS = "203.0.113.7", "10.0.4.20"
WINDOW: dict[str, Any] = {
    "window_start": NOW - timedelta(hours=2),
    "window_end": NOW - timedelta(minutes=30),
    "own_networks": ("10.0.0.0/16",),
}
INPUTS = ApiKeyInputs(api_key_id=KEY, **WINDOW)
EVIDENCE = RequestEvidenceInputs(api_key_id=KEY, **WINDOW, evidence_bucket="evidence")
CHECK, DISABLE, COLLECT = ApiKey(), DisableKey(), CollectRequests()
FORMAT = {
    "requestId": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "who": "$context.identity.apiKeyId",
    "method": "$context.httpMethod",
    "path": "$context.resourcePath",
    "status": "$context.status",
}
GROUP = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/apigateway/partner-api"


def line(number: int, address: str = THIEF, key: str = KEY, **more: Any) -> dict[str, Any]:
    """Return a line of the access log, as listed."""
    said = {"requestId": f"{number:08d}", "ip": address, "who": key, "method": "GET", "path": "/customers"}
    at = NOW - timedelta(hours=1, seconds=-number)
    return {"timestamp": int(at.timestamp() * 1000), "message": json.dumps({**said, "status": "200", **more})}


def a_reader(*lines: dict[str, Any], log_format: str = json.dumps(FORMAT), **answers: Any) -> DictReader:
    """Return an account whose key is enabled and opens one stage, and an empty bucket for evidence."""
    values: dict[str, Any] = {
        "apigateway.get_api_key": {"id": KEY, "name": "partner-feed", "enabled": True},
        "apigateway.get_usage_plans": [{"id": "plan1", "stages": [{"apiId": "api1", "stage": "prod"}]}],
        "apigateway.get_usage": {KEY: 420},
        "apigateway.get_stage": {"logArn": GROUP, "logFormat": log_format},
        "logs.filter_log_events": list(lines),
        "s3.list_objects_v2": [],
        "s3.get_bucket_policy_status": NotFound("none", code="NoSuchBucketPolicy"),
    }
    return DictReader(answers={**values, **answers})


def disabling(reader: DictReader, inputs: ApiKeyInputs = INPUTS) -> PlanDraft | NotApplicable:
    """Return what the fix says of it."""
    return DISABLE.plan(inputs, DISABLE.observe(inputs, reader))


def found(reader: DictReader, inputs: ApiKeyInputs = INPUTS) -> Any:
    """Return what the check finds."""
    return CHECK.findings(inputs, CHECK.observe(inputs, reader))


def test_a_key_that_can_be_used_is_the_cause_and_its_use_is_told() -> None:
    """How often by the usage plan, from where by the access log; of another key's lines nothing."""
    reader = a_reader(line(1), line(2, status="429"), line(3, key=OTHER))
    (cause,) = found(reader)
    assert (cause.reason, cause.subject) == ("CompromisedApiKeyActive", "partner-feed")
    assert "420 requests counted" in cause.message
    assert f"2 logged in the window from 1 addresses, most from {THIEF}, 1 refused" in cause.message
    # A key's id is masked in what is stored for people.
    assert KEY not in cause.message
    output = CHECK.output(CHECK.observe(INPUTS, reader))
    assert (output.requests, output.refused, output.own, output.used) == (2, 1, 0, 420)  # type: ignore[attr-defined]
    asked = next(given for name, given, _ in reader.asked if name == "logs.filter_log_events")
    assert asked["logGroupName"] == "/aws/apigateway/partner-api"
    assert asked["filterPattern"] == f'"{KEY}"'


def test_text_that_is_no_token_is_not_kept() -> None:
    """Whatever somebody sends as a path or an address: decision 19."""
    facts = CHECK.observe(INPUTS, a_reader(line(1, ip="<script>", path="/a b?password=secret")))
    assert (facts.requests, facts.addresses, [p.what for p in facts.paths]) == (1, (), ["GET"])


def test_disabling_is_one_call_people_agree_to_and_the_undo_is_exact() -> None:
    """Guarded by the key's own state."""
    draft = disabling(a_reader(line(1)))
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.touches, draft.ask_because) == (Risk.DISRUPTIVE, (ARN,), ("ContainmentIsForPeople",))
    (call,) = draft.calls
    change = {"op": "replace", "path": "/enabled", "value": "false"}
    assert call.arguments == {"apiKey": KEY, "patchOperations": [change]}
    assert (call.permissions, call.resources) == (("apigateway:PATCH",), (ARN,))
    assert draft.undo is not None
    (back,) = draft.undo.calls
    assert back.arguments == {"apiKey": KEY, "patchOperations": [{**change, "value": "true"}]}
    assert [(g.read.operation, g.path) for g in draft.undo.guards] == [("get_api_key", "enabled")]
    # No machine puts it back.
    assert not draft.revert_if_worse
    assert KEY not in draft.title + call.summary + back.summary
    disabled = DISABLE.observe(
        INPUTS, a_reader(**{"apigateway.get_api_key": {"id": KEY, "name": "", "enabled": False}})
    )
    enabled = DISABLE.observe(INPUTS, a_reader())
    assert [DISABLE.applied(call, INPUTS, facts) for facts in (enabled, disabled)] == [False, True]
    assert [DISABLE.applied(back, INPUTS, facts) for facts in (enabled, disabled)] == [True, False]


@pytest.mark.parametrize(
    ("reason", "reader", "inputs"),
    [
        ("OwnServiceUsesKey", a_reader(line(1), line(2, address=OURS)), INPUTS),
        ("OwnServiceUsesKey", a_reader(line(1)), INPUTS.model_copy(update={"own_api_keys": (OTHER, KEY)})),
        ("KeyUnknown", a_reader(**{"apigateway.get_api_key": NotFound("no", code="NotFoundException")}), INPUTS),
        ("AlreadyDisabled", a_reader(**{"apigateway.get_api_key": {"id": KEY, "enabled": False}}), INPUTS),
    ],
    ids=["seen from our own networks", "declared", "unknown", "disabled"],
)
def test_why_a_key_is_not_disabled(reason: str, reader: DictReader, inputs: ApiKeyInputs) -> None:
    """A key that a service of our own uses is never disabled, whoever else uses it."""
    draft = disabling(reader, inputs)
    assert isinstance(draft, NotApplicable)
    assert draft.reason == reason
    findings = found(reader, inputs)
    if reason == "KeyUnknown":
        assert isinstance(findings, Unclear)
    elif reason == "AlreadyDisabled":
        assert findings == []
    else:
        assert [f.reason for f in findings] == ["OwnServiceUsesKey", "CompromisedApiKeyActive"]


@pytest.mark.parametrize(
    ("reader", "networks"),
    [
        (a_reader(line(1)), ()),
        (a_reader(), ("10.0.0.0/16",)),
        (a_reader(line(1), log_format="$context.requestId $context.status"), ("10.0.0.0/16",)),
        (a_reader(line(1), **{"apigateway.get_stage": {"logArn": "", "logFormat": ""}}), ("10.0.0.0/16",)),
        (a_reader(*(line(n) for n in range(2000))), ("10.0.0.0/16",)),
    ],
    ids=["no networks named", "no request seen", "no JSON", "no log", "more than were read"],
)
def test_whoever_is_asked_is_told_that_own_use_is_unknown(reader: DictReader, networks: tuple[str, ...]) -> None:
    """Silence of a log is no proof that nobody of ours calls."""
    draft = disabling(reader, INPUTS.model_copy(update={"own_networks": networks}))
    assert isinstance(draft, PlanDraft)
    assert draft.ask_because == ("ContainmentIsForPeople", "OwnUseUnknown")


def test_a_stage_that_does_not_log_who_called_is_said() -> None:
    """A format without the key's id tells of nobody."""
    silent = json.dumps({k: v for k, v in FORMAT.items() if k != "who"})
    assert [f.reason for f in found(a_reader(line(1), log_format=silent))] == [
        "KeyUseNotLogged",
        "CompromisedApiKeyActive",
    ]
    assert members_of("[1]") == members_of("no JSON") == {}


@pytest.mark.parametrize(
    ("minutes", "enabled", "late", "log", "outcome", "measured"),
    [
        (16, False, (), True, "Helped", True),
        (16, False, (line(9, status="403"),), True, "Helped", True),
        (16, False, (line(9),), True, None, True),
        (16, True, (), True, None, True),
        (5, False, (), True, None, False),
        # Nobody can tell: that is no success.
        (16, False, (), False, None, False),
    ],
)
def test_it_helped_once_the_access_log_shows_that_nobody_got_in(
    minutes: int, enabled: bool, late: Any, log: bool, outcome: str | None, measured: bool
) -> None:
    """Read at fifteen minutes, of requests later than one."""
    state = {"id": KEY, "name": "partner-feed", "enabled": enabled}
    reader = a_reader(*late, log_format=json.dumps(FORMAT) if log else "", **{"apigateway.get_api_key": state})
    reader.since = NOW - timedelta(minutes=minutes)
    judged = DISABLE.judge(INPUTS, DISABLE.observe(INPUTS, a_reader(line(1))), DISABLE.measure(INPUTS, reader))
    assert (judged.outcome, judged.measured) == (outcome, measured)


def test_evidence_counts_all_addresses_and_has_the_newest_hundred_requests() -> None:
    """One object, named by its digest; the same requests give the same plan."""
    lines = [*(line(n) for n in range(120)), line(200, address="203.0.113.8")]
    draft = COLLECT.plan(EVIDENCE, COLLECT.observe(EVIDENCE, a_reader(*lines)))
    assert isinstance(draft, PlanDraft)
    assert (draft.risk, draft.ask_because, draft.undo) == (Risk.LOW, (), None)
    (call,) = draft.calls
    assert call.arguments["Key"].startswith(f"api-requests/{KEY}/")
    assert hashlib.sha256(call.arguments["Body"].encode()).hexdigest() in call.arguments["Key"]
    head, *rows = [json.loads(text) for text in call.arguments["Body"].splitlines()]
    assert (head["requests"], head["addresses"]) == (121, {THIEF: 120, "203.0.113.8": 1})
    assert (len(rows), rows[-1][2]) == (100, "203.0.113.8")
    assert draft == COLLECT.plan(EVIDENCE, COLLECT.observe(EVIDENCE, a_reader(*reversed(lines))))
    # A plan keeps the facts: they stay small.
    assert len(call.arguments["Body"]) < 16 * 1024


@pytest.mark.parametrize("action", [CHECK, DISABLE, COLLECT], ids=lambda action: action.name)
@pytest.mark.parametrize("reason", ["AccessDenied", "Timeout", "MalformedAnswer"])
def test_a_read_that_fails_is_neither_health_nor_a_finding(action: Any, reason: str) -> None:
    """Whichever read it is."""
    inputs = EVIDENCE if action is COLLECT else INPUTS
    whole = a_reader(line(1))
    action.observe(inputs, whole)
    for name in {name for name, _, _ in whole.asked}:
        with pytest.raises(ReadError):
            action.observe(inputs, a_reader(line(1), **{name: ReadError(reason, "no answer")}))


def test_a_credential_that_is_not_named_is_not_asked_about() -> None:
    """Its checks pass with nothing read, and its fixes find nothing to do; one of the two is always named."""
    reader = DictReader(answers={})
    key = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", **WINDOW}
    about_iam = ApiKeyInputs(**key)
    assert CHECK.findings(about_iam, CHECK.observe(about_iam, reader)) == ()
    requests = RequestEvidenceInputs(**key, evidence_bucket="evidence")
    about_api = KeyInputs(api_key_id=KEY, **WINDOW)
    for check in (AccessKey(), KeyPersistence()):
        assert check.findings(about_api, check.observe(about_api, reader)) == ()
    events = EvidenceInputs(api_key_id=KEY, **WINDOW, evidence_bucket="evidence")
    nothing = [
        disabling(reader, about_iam),
        COLLECT.plan(requests, COLLECT.observe(requests, reader)),
        Collect().plan(events, Collect().observe(events, reader)),
    ]
    assert [n.reason for n in nothing if isinstance(n, NotApplicable)] == [
        "KeyUnknown",
        "NothingToCollect",
        "NothingToCollect",
    ]
    assert reader.asked == []
    with pytest.raises(ValueError, match="say which key"):
        ApiKeyInputs(**WINDOW)
