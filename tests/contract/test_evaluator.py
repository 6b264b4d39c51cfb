"""The evaluator's child: right answers, and a hostile expression costs only itself."""

from collections.abc import AsyncIterator

import pytest

from incident_operator.adapters.evaluator import Evaluator

VARIABLES = {"parameters": {"n": 3}, "checks": {}, "findings": [], "incident": {}, "now": ""}


@pytest.fixture
async def evaluator() -> AsyncIterator[Evaluator]:
    """Return an evaluator; its child ends with the test."""
    it = Evaluator()
    yield it
    await it.close()


async def test_a_batch_answers_each_expression(evaluator: Evaluator) -> None:
    """Values and failures stand side by side, in order."""
    answers = await evaluator.expressions(["parameters.n + 1", "parameters.zz"], "input", VARIABLES, owner="r")
    assert answers[0].value == 4
    assert "Key not found" in answers[1].error


async def test_a_memory_bomb_fails_alone(evaluator: Evaluator) -> None:
    """The child dies at its limit, the reason names the runbook, and the next batch is answered."""
    grown = "['x']" + "".join(f".map(v{i}, v{i}+v{i}+v{i}+v{i}+v{i}+v{i}+v{i}+v{i})" for i in range(12))
    (answer,) = await evaluator.expressions([f"size({grown}[0])"], "input", VARIABLES, owner="bomb")
    assert answer.error
    (after,) = await evaluator.expressions(["1 + 1"], "input", VARIABLES, owner="r")
    assert after.value == 2


async def test_a_plain_value_needs_no_child(evaluator: Evaluator) -> None:
    """Nothing to evaluate, nothing started."""
    answer = await evaluator.render({"a": [1, "b"]}, "input", VARIABLES, owner="r")
    assert answer.value == {"a": [1, "b"]}
    assert evaluator._child is None
