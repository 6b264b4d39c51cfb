"""Roll an alias back, raise a limit: exact targets, exact undo, and the cases where it must not be done."""

from collections.abc import Mapping
from typing import Any

import pytest

from incident_operator.actions.awslambda_fixes import (
    EffectFacts,
    RollbackAlias,
    RollbackInputs,
    SetConfiguration,
    SetConfigurationInputs,
)
from incident_operator.actions.ports import NotFound
from incident_operator.actions.traffic import Traffic
from incident_operator.api.plan import Repeat
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.reader import DictReader

ARN = "arn:aws:lambda:us-east-1:123456789012:function:mailer"
ROLLBACK, SET = RollbackAlias(), SetConfiguration()


def a_function(
    *,
    alias: str = "7",
    versions: tuple[int, ...] = (5, 6, 7),
    weights: Mapping[str, float] | None = None,
    timeout: int = 3,
    memory: int = 128,
    reserved: int | None = None,
    live: Mapping[str, Any] | None = None,
) -> DictReader:
    """Return a function; `live` is where the served version differs from $LATEST."""
    latest = {
        "FunctionArn": ARN,
        "Role": "arn:aws:iam::123456789012:role/mailer",
        "Timeout": timeout,
        "MemorySize": memory,
        "CodeSha256": "sha-latest",
        "RevisionId": "r-1",
    }

    def configuration(arguments: Mapping[str, Any]) -> dict[str, Any]:
        served = arguments.get("Qualifier") is not None
        return {**latest, "FunctionArn": f"{ARN}:{arguments['Qualifier']}", **(live or {})} if served else latest

    routing = {"RoutingConfig": {"AdditionalVersionWeights": dict(weights)}} if weights else {}
    return DictReader(
        {
            "lambda.get_function_configuration": configuration,
            "lambda.get_function_concurrency": {} if reserved is None else {"ReservedConcurrentExecutions": reserved},
            "lambda.get_alias": {"Name": "LIVE", "FunctionVersion": alias, "RevisionId": "a-1", **routing},
            "lambda.list_versions_by_function": [{"Version": v} for v in ("$LATEST", *map(str, versions))],
        }
    )


def rolled_back(reader: DictReader, **inputs: Any) -> PlanDraft | NotApplicable:
    """Return the draft of a rollback."""
    given = RollbackInputs(**{"function_name": "mailer", "alias": "LIVE", **inputs})
    return ROLLBACK.plan(given, ROLLBACK.observe(given, reader))


def raised(reader: DictReader, setting: str = "timeout", **inputs: Any) -> PlanDraft | NotApplicable:
    """Return the draft of a raised limit."""
    given = SetConfigurationInputs(**{"function_name": "mailer", "alias": "LIVE", "setting": setting, **inputs})
    return SET.plan(given, SET.observe(given, reader))


# --- lambda.rollback-alias ---


@pytest.mark.parametrize(
    ("versions", "current", "target"),
    [
        ((5, 6, 7), "7", "6"),
        ((1, 2, 4), "4", "2"),
        ((9, 10, 11), "10", "9"),
        (tuple(range(1, 61)), "60", "59"),
        (tuple(range(1, 61)), "3", "2"),
    ],
    ids=["the one before", "a gap", "numbers, not words", "60 versions", "60 versions, an old one serves"],
)
def test_the_alias_goes_to_the_version_before(versions: tuple[int, ...], current: str, target: str) -> None:
    """The highest numeric version below the current one; the undo points back."""
    draft = rolled_back(a_function(alias=current, versions=versions))
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    assert call.arguments["FunctionVersion"] == target
    assert call.repeat == Repeat.GUARDED
    assert [v.argument for v in call.volatile] == ["RevisionId"]
    assert draft.undo is not None
    assert draft.undo.calls[0].arguments["FunctionVersion"] == current
    assert draft.touches == (ARN,)


@pytest.mark.parametrize(
    ("reader", "inputs", "reason"),
    [
        (a_function(), {"alias": None}, "NoAlias"),
        (a_function(alias="5", versions=(5, 6)), {}, "NoOlderVersion"),
        (a_function(alias="$LATEST", versions=(5, 6)), {}, "NoOlderVersion"),
        (a_function(alias="1", versions=(1,)), {}, "NoOlderVersion"),
    ],
    ids=["$LATEST serves", "the first version", "the alias points at $LATEST", "only one version"],
)
def test_without_a_version_before_there_is_no_rollback(reader: DictReader, inputs: dict[str, Any], reason: str) -> None:
    """There is nothing to go back to."""
    answer = rolled_back(reader, **inputs)
    assert isinstance(answer, NotApplicable)
    assert answer.reason == reason


def test_weights_are_taken_off_with_the_same_call() -> None:
    """A canary would go on serving the bad version; half moved is not moved."""
    reader = a_function(weights={"6": 0.1})
    draft = rolled_back(reader)
    assert isinstance(draft, PlanDraft)
    assert draft.calls[0].arguments["RoutingConfig"] == {"AdditionalVersionWeights": {}}
    inputs = RollbackInputs(function_name="mailer", alias="LIVE")
    moved = a_function(alias="6", weights={"7": 0.1})
    assert ROLLBACK.applied(draft.calls[0], inputs, ROLLBACK.observe(inputs, moved)) is False
    clean = a_function(alias="6")
    assert ROLLBACK.applied(draft.calls[0], inputs, ROLLBACK.observe(inputs, clean)) is True


def test_a_function_that_does_not_exist_is_no_plan() -> None:
    """The read says so; nothing is guessed."""
    reader = DictReader({"lambda.get_function_configuration": NotFound("lambda: there is none")})
    with pytest.raises(NotFound):
        rolled_back(reader)


def test_the_region_of_an_arn_is_where_it_is_done() -> None:
    """Another region of the grantable list: reads and calls go there."""
    reader = a_function()
    arn = ARN.replace("us-east-1", "eu-west-1")
    draft = rolled_back(reader, function_name=arn)
    assert isinstance(draft, PlanDraft)
    assert draft.region == "eu-west-1"
    assert {region for _, _, region in reader.asked} == {"eu-west-1"}


@pytest.mark.parametrize(
    ("invocations", "errors", "outcome", "measured"),
    [(20, 0, "Helped", True), (19, 0, None, True), (40, 1, None, True), (None, 0, None, False)],
)
def test_clean_invocations_prove_a_rollback(
    invocations: float | None, errors: float, outcome: str | None, measured: bool
) -> None:
    """None where nobody came: at the deadline that is Inconclusive, not NoEffect."""
    inputs = RollbackInputs(function_name="mailer", alias="LIVE")
    before = ROLLBACK.observe(inputs, a_function())
    after = EffectFacts(traffic=Traffic(invocations=invocations, errors=errors))
    judgement = ROLLBACK.judge(inputs, before, after)
    assert (judgement.outcome, judgement.measured) == (outcome, measured)


# --- lambda.set-configuration ---


@pytest.mark.parametrize(
    ("setting", "maximum", "now", "planned"),
    [
        ("timeout", 60, {"timeout": 3}, 6),
        ("timeout", 5, {"timeout": 3}, 5),
        ("memory", 1024, {"memory": 128}, 256),
        ("memory", 200, {"memory": 128}, 200),
    ],
)
def test_a_limit_is_doubled_up_to_the_maximum(setting: str, maximum: int, now: dict[str, Any], planned: int) -> None:
    """Decision 22: min(maximum, 2 × current), by configure, publish, move the alias; undone in reverse."""
    draft = raised(a_function(**now), setting, **{f"maximum_{setting}": maximum})
    assert isinstance(draft, PlanDraft)
    assert [c.operation for c in draft.calls] == ["update_function_configuration", "publish_version", "update_alias"]
    argument = {"timeout": "Timeout", "memory": "MemorySize"}[setting]
    assert draft.calls[0].arguments[argument] == planned
    assert draft.calls[1].arguments["CodeSha256"] == "sha-latest"
    assert draft.calls[2].arguments["FunctionVersion"] == {"fromResult": {"call": 1, "path": "Version"}}
    assert draft.calls[1].keep == ("Version",)
    assert draft.undo is not None
    assert [c.operation for c in draft.undo.calls] == ["update_alias", "update_function_configuration"]
    assert draft.undo.calls[0].arguments["FunctionVersion"] == "7"
    assert draft.undo.calls[1].arguments[argument] == now[setting]


def test_without_an_alias_one_call_does_it() -> None:
    """$LATEST serves: nothing is published."""
    draft = raised(a_function(), alias=None, maximum_timeout=60)
    assert isinstance(draft, PlanDraft)
    assert [c.operation for c in draft.calls] == ["update_function_configuration"]


@pytest.mark.parametrize(("reserved", "maximum", "planned"), [(5, 100, 10), (5, 7, 7), (0, 100, 1)])
def test_a_reserve_is_raised_by_one_absolute_call(reserved: int, maximum: int, planned: int) -> None:
    """A reserve of zero switches a function off: it becomes one, not zero again."""
    draft = raised(a_function(reserved=reserved), "concurrency", maximum_concurrency=maximum)
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    assert (call.arguments["ReservedConcurrentExecutions"], call.repeat) == (planned, Repeat.ABSOLUTE)
    assert draft.undo is not None
    assert draft.undo.calls[0].arguments["ReservedConcurrentExecutions"] == reserved


@pytest.mark.parametrize(
    ("reader", "setting", "inputs", "reason"),
    [
        (a_function(), "timeout", {}, "NoMaximum"),
        (a_function(), "memory", {"maximum_timeout": 60}, "NoMaximum"),
        (a_function(timeout=60), "timeout", {"maximum_timeout": 60}, "AtMaximum"),
        (a_function(timeout=90), "timeout", {"maximum_timeout": 60}, "AtMaximum"),
        (a_function(reserved=100), "concurrency", {"maximum_concurrency": 100}, "AtMaximum"),
        (a_function(), "concurrency", {"maximum_concurrency": 100}, "NoReserve"),
        (a_function(live={"CodeSha256": "sha-live"}), "timeout", {"maximum_timeout": 60}, "UnreleasedCode"),
    ],
    ids=["no maximum", "another one's", "at it", "above it", "reserve at it", "no reserve", "unreleased code"],
)
def test_a_limit_is_not_raised(reader: DictReader, setting: str, inputs: dict[str, Any], reason: str) -> None:
    """Never without a maximum, never above it, never by releasing code that is not live."""
    answer = raised(reader, setting, **inputs)
    assert isinstance(answer, NotApplicable)
    assert answer.reason == reason
    assert answer.reason in SET.reasons


@pytest.mark.parametrize(
    ("setting", "effect", "outcome"),
    [
        ("timeout", EffectFacts(traffic=Traffic(invocations=20)), "Helped"),
        ("timeout", EffectFacts(traffic=Traffic(invocations=20), timeouts=1), None),
        ("timeout", EffectFacts(traffic=Traffic(invocations=20), out_of_memory=1), "Helped"),
        ("memory", EffectFacts(traffic=Traffic(invocations=20), out_of_memory=1), None),
        ("concurrency", EffectFacts(traffic=Traffic(invocations=20, throttles=1)), None),
        ("concurrency", EffectFacts(traffic=Traffic(invocations=20)), "Helped"),
    ],
)
def test_each_limit_has_its_own_signal(setting: str, effect: EffectFacts, outcome: str | None) -> None:
    """Another fault is another finding, not this fix's failure."""
    given = SetConfigurationInputs(function_name="mailer", alias="LIVE", setting=setting)
    before = SET.observe(given, a_function())
    assert SET.judge(given, before, effect).outcome == outcome
