"""A wrong runbook is refused at its place, with what to write instead."""

from typing import Any

import pytest

from incident_operator.core.catalogue import ActionInfo
from incident_operator.core.expressions import ExpressionError, evaluate, render, split
from incident_operator.core.runbook import bind_inputs, bind_parameters, dependencies, validate, with_closeout
from tests.builders import a_runbook

CATALOGUE = {
    "lambda.invocations": ActionInfo(
        name="lambda.invocations",
        title="",
        kind="Check",
        inputs_schema={"properties": {"functionName": {}, "sql": {"literal": True}}, "required": []},
        reasons=frozenset({"RoleLacks"}),
    ),
    "iam.restore-role-access": ActionInfo(
        name="iam.restore-role-access",
        title="",
        kind="Fix",
        inputs_schema={"properties": {"denials": {}}, "required": ["denials"]},
        reasons=frozenset(),
    ),
}


def a_step(**changes: Any) -> list[dict[str, Any]]:
    """Return the steps of a valid runbook with these changes to its one step."""
    step: dict[str, Any] = {
        "name": "assess",
        "title": "Assess",
        "expectedBy": "5m",
        "checks": [{"name": "users", "action": "lambda.invocations"}],
        "fixes": [
            {
                "name": "restoreAccess",
                "action": "iam.restore-role-access",
                "onFindings": ["RoleLacks"],
                "inputs": {"denials": "${checks.users.output.denials}"},
            }
        ],
    }
    return [{**step, **changes}]


def test_a_valid_runbook_has_no_problems() -> None:
    """The builder's runbook, with what its fix needs."""
    assert validate(a_runbook(steps=a_step()), CATALOGUE) == ()


@pytest.mark.parametrize(
    ("check", "field", "message"),
    [
        ({"action": "lambda.invocation"}, "spec.steps[0].checks[0].action", "did you mean lambda.invocations?"),
        ({"action": "iam.restore-role-access"}, "spec.steps[0].checks[0].action", "is a fix"),
        ({"inputs": {"functionNam": "x"}}, "spec.steps[0].checks[0].inputs.functionNam", "did you mean functionName?"),
        ({"inputs": {"sql": "${parameters.x}"}}, "spec.steps[0].checks[0].inputs.sql", "literal"),
        ({"inputs": {"functionName": "${1 +}"}}, "spec.steps[0].checks[0].inputs.functionName", "Syntax error"),
        ({"inputs": {"functionName": "${1"}}, "spec.steps[0].checks[0].inputs.functionName", "not closed"),
        ({"inputs": {"functionName": "${parameters.nope}"}}, "spec.steps[0].checks[0].inputs.functionName", "nope"),
        (
            {"inputs": {"functionName": "${checks.other.output}"}},
            "spec.steps[0].checks[0].inputs.functionName",
            "other",
        ),
        (
            {"findings": [{"when": "1 + 1", "reason": "Odd", "message": "m"}]},
            "spec.steps[0].checks[0].findings[0].when",
            "true or false",
        ),
    ],
)
def test_each_mistake_is_named_at_its_field(check: dict[str, Any], field: str, message: str) -> None:
    """One mistake, one problem, at the place where it is."""
    runbook = a_runbook(steps=a_step(checks=[{"name": "users", "action": "lambda.invocations", **check}]))
    found = [p for p in validate(runbook, CATALOGUE) if p.field == field]
    assert found
    assert message in found[0].message


def test_a_syntax_error_has_its_position() -> None:
    """Line and column count from 1 in the expression."""
    checks = [{"name": "users", "action": "lambda.invocations", "inputs": {"functionName": "${foo.bar}"}}]
    (problem,) = [p for p in validate(a_runbook(steps=a_step(checks=checks)), CATALOGUE) if "foo" in p.message]
    assert (problem.line, problem.column) == (1, 4)


def test_checks_that_read_each_other_are_refused() -> None:
    """A circle has no first check."""
    checks = [
        {"name": "users", "action": "lambda.invocations", "inputs": {"functionName": "${checks.b.output.x}"}},
        {"name": "b", "action": "lambda.invocations", "inputs": {"functionName": "${checks.users.output.x}"}},
    ]
    assert any("circle" in p.message for p in validate(a_runbook(steps=a_step(checks=checks)), CATALOGUE))


ALARM = {"name": "alarm", "action": "lambda.invocations", "inputs": {"functionName": "${checks.users.output.x}"}}


def test_checks_of_the_close_out_read_those_of_the_steps() -> None:
    """They are asked after them, in a last step of their own; a diagnosis knows nothing of them."""
    closeout = {"checks": [ALARM], "alarms": ["alarm"], "watchAlso": ["users", "alarm"]}
    runbook = a_runbook(steps=a_step(), closeout=closeout)
    assert validate(runbook, CATALOGUE) == ()
    assert dependencies(runbook) == {"users": frozenset()}
    whole = with_closeout(runbook)
    assert dependencies(whole) == {"users": frozenset(), "alarm": frozenset({"users"})}
    assert [check.name for check in whole.checks] == [check.name for check in runbook.every_check] == ["users", "alarm"]
    assert with_closeout(a_runbook(steps=a_step())) == a_runbook(steps=a_step())


@pytest.mark.parametrize(
    ("closeout", "field", "message"),
    [
        ({"alarms": ["alarms"], "checks": [ALARM]}, "spec.closeout.alarms[0]", "did you mean alarm?"),
        ({"watchAlso": ["nobody"]}, "spec.closeout.watchAlso[0]", "there is no check 'nobody'"),
        (
            {"alarms": ["alarm"], "checks": [{**ALARM, "action": "lambda.invocation"}]},
            "spec.closeout.checks[0].action",
            "did you mean lambda.invocations?",
        ),
        (
            {"alarms": ["alarm"], "checks": [{**ALARM, "action": "iam.restore-role-access"}]},
            "spec.closeout.checks[0].action",
            "is a fix",
        ),
        (
            {"alarms": ["alarm"], "checks": [{**ALARM, "inputs": {"functionName": "${checks.other.output}"}}]},
            "spec.closeout.checks[0].inputs.functionName",
            "there is no check 'other'",
        ),
        ({"alarms": ["users"], "checks": [{**ALARM, "name": "users"}]}, "spec.steps", "names are unique"),
        (
            {"alarms": ["alarm"], "checks": [{**ALARM, "inputs": {"functionName": "${checks.alarm.output.x}"}}]},
            "spec.steps",
            "circle",
        ),
    ],
)
def test_a_mistake_of_the_close_out_is_named_at_its_field(closeout: Any, field: str, message: str) -> None:
    """Before anybody needs it."""
    found = [p.message for p in validate(a_runbook(steps=a_step(), closeout=closeout), CATALOGUE) if p.field == field]
    assert any(message in text for text in found), found


def test_a_diagnosis_can_not_read_what_is_asked_at_the_close_out() -> None:
    """It is asked an hour later."""
    reading = [{"name": "users", "action": "lambda.invocations", "inputs": {"functionName": "${checks.alarm.output}"}}]
    alarm = {"name": "alarm", "action": "lambda.invocations"}
    runbook = a_runbook(steps=a_step(checks=reading), closeout={"checks": [alarm], "alarms": ["alarm"]})
    assert any("there is no check 'alarm'" in problem.message for problem in validate(runbook, CATALOGUE))


def test_dependencies_follow_templates() -> None:
    """A check waits for exactly those whose outputs its inputs read."""
    checks = [
        {"name": "users", "action": "lambda.invocations"},
        {"name": "b", "action": "lambda.invocations", "inputs": {"functionName": '${checks["users"].output.x}'}},
    ]
    graph = dependencies(a_runbook(steps=a_step(checks=checks)))
    assert graph == {"users": frozenset(), "b": frozenset({"users"})}


PARAMETERS = [
    {"name": "functionName", "type": "string", "pattern": "^[A-Za-z0-9-]+$", "required": True},
    {"name": "maximumTimeout", "type": "integer", "minimum": 1, "maximum": 900},
    {"name": "alias", "type": "string", "default": "LIVE"},
]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'functionName' is required"),
        ({"functionName": "f", "aliass": "x"}, "did you mean alias?"),
        ({"functionName": 7}, "takes a string"),
        ({"functionName": "a b"}, "must match"),
        ({"functionName": "f", "maximumTimeout": 901}, "at most 900"),
        ({"functionName": "f", "maximumTimeout": True}, "takes a integer"),
    ],
)
def test_wrong_parameters_are_told_with_the_right_ones(given: dict[str, Any], message: str) -> None:
    """Each refusal says what to write instead."""
    _, problems = bind_parameters(a_runbook(steps=a_step(), parameters=PARAMETERS), given)
    assert any(message in p.message for p in problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dbPassword", "hunter2"), ("endpoint", "https://shop:hunter2@db"), ("endpoint", "x7Kp2mQv9LsT4hRw8ZcN3bYd")],
)
def test_a_wrong_value_that_could_be_a_secret_is_not_repeated(name: str, value: str) -> None:
    """What is wrong with it is said all the same."""
    parameters = [{"name": name, "type": "string", "pattern": "^[a-z]+$"}]
    _, (problem,) = bind_parameters(a_runbook(steps=a_step(), parameters=parameters), {name: value})
    assert problem.message == f"parameter {name!r} must match ^[a-z]+$; the value does not"


def test_defaults_fill_in() -> None:
    """What is left out has its default, or is null."""
    values, problems = bind_parameters(a_runbook(steps=a_step(), parameters=PARAMETERS), {"functionName": "f"})
    assert (values, problems) == ({"functionName": "f", "maximumTimeout": None, "alias": "LIVE"}, ())


def test_inputs_of_a_parameters_name_are_bound_without_saying_so() -> None:
    """An input that says something keeps it."""
    info = CATALOGUE["lambda.invocations"]
    assert bind_inputs(info, {}, ["functionName", "other"]) == {"functionName": "${parameters.functionName}"}
    assert bind_inputs(info, {"functionName": "mine"}, ["functionName"]) == {"functionName": "mine"}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${parameters.n}", 3),
        ("n=${parameters.n}", "n=3"),
        ("$${HOME}", "${HOME}"),
        ("${ {'a': 1}['a'] }", 1),
        ("${'}'}", "}"),
        ('${"\\"}"}', '"}'),
        (["${parameters.n}", {"k": "${parameters.n + 1}"}], [3, {"k": 4}]),
        ("${parameters.?missing.orValue('none')}", "none"),
        ("${'X' in findings}", True),
    ],
)
def test_templates_keep_types_and_escapes(template: Any, value: Any) -> None:
    """A value that is exactly one expression keeps its type; anything else is text."""
    variables = {"parameters": {"n": 3}, "checks": {}, "findings": ["X"], "incident": {}, "now": ""}
    assert render(template, "input", variables) == value


def test_a_missing_key_is_an_error_not_a_false() -> None:
    """What can't be evaluated says so."""
    variables = {"parameters": {}, "checks": {}, "findings": [], "incident": {}, "now": ""}
    with pytest.raises(ExpressionError, match="Key not found"):
        evaluate("parameters.nope == 1", "input", variables)


def test_an_unclosed_template_is_refused() -> None:
    """With the column where it began."""
    with pytest.raises(ExpressionError, match="not closed") as caught:
        split("a ${b")
    assert caught.value.column == 3
