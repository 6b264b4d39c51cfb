"""The evaluator's child: right answers, and a hostile expression costs only itself."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator

import pytest

from incident_operator.adapters import evaluator as module
from incident_operator.adapters.evaluating import BATCH_SECONDS
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
    assert "runbook bomb went beyond its limits" in answer.error
    (after,) = await evaluator.expressions(["1 + 1"], "input", VARIABLES, owner="r")
    assert after.value == 2


async def test_an_expression_that_iterates_for_ever_fails_alone(evaluator: Evaluator) -> None:
    """It names its runbook, and what stands beside it in the batch is answered."""
    nested = "true"
    for depth in range(9):
        nested = f"[0,1,2,3,4,5,6,7,8,9].all(v{depth}, {nested})"
    answers = await evaluator.expressions([nested, "1 + 1"], "input", VARIABLES, owner="bomb")
    assert "runbook bomb went beyond its limits" in answers[0].error
    assert answers[1].value == 2


async def test_an_endless_expression_fails_alone(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends it is the CPU time it took, not a clock on the wall."""
    monkeypatch.setattr(module, "HUNG_AFTER", 3600.0)
    variables = {**VARIABLES, "parameters": {"text": "ab" * 5_000_000}}
    endless = f"[{'1, ' * 1000}1].all(x, !parameters.text.matches('(a|b|ab)*c'))"
    (answer,) = await evaluator.expressions([endless], "input", variables, owner="endless")
    assert "endless" in answer.error
    (after,) = await evaluator.expressions(["1 + 1"], "input", VARIABLES, owner="r")
    assert after.value == 2


async def test_a_child_that_is_given_no_time_is_waited_for(evaluator: Evaluator) -> None:
    """A busy machine is no fault of the expression: refused, it would look like a wrong runbook."""
    await evaluator.expressions(["1"], "input", VARIABLES, owner="r")
    assert evaluator._child is not None
    evaluator._child.send_signal(signal.SIGSTOP)
    batch = asyncio.create_task(evaluator.expressions(["1 + 1"], "input", VARIABLES, owner="r"))
    await asyncio.wait({batch}, timeout=BATCH_SECONDS + 1)
    evaluator._child.send_signal(signal.SIGCONT)
    (answer,) = await batch
    assert answer.value == 2


async def test_a_plain_value_needs_no_child(evaluator: Evaluator) -> None:
    """Nothing to evaluate, nothing started."""
    answer = await evaluator.render({"a": [1, "b"]}, "input", VARIABLES, owner="r")
    assert answer.value == {"a": [1, "b"]}
    assert evaluator._child is None


async def test_who_stops_waiting_takes_the_answer_along(evaluator: Evaluator) -> None:
    """A run is deleted in the midst of its diagnosis: no other run may be given what was computed for it."""
    await evaluator.expressions(["1"], "input", VARIABLES, owner="r")
    child = evaluator._child
    assert child is not None
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(evaluator.expressions(["'of the one'"], "input", VARIABLES, owner="r"), 0.3)
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGCONT)
    for other in range(3):
        (answer,) = await evaluator.expressions([f"'of the other {other}'"], "input", VARIABLES, owner="r")
        assert answer.value == f"of the other {other}"


async def test_an_answer_to_another_batch_is_nobodys(evaluator: Evaluator) -> None:
    """It is an error rather than a value, and the batch after it is answered."""
    child = await evaluator._started()
    assert child.stdin is not None
    strange = {"batch": -1, "jobs": [{"expression": "'strange'"}], "scope": "input", "variables": VARIABLES}
    child.stdin.write(json.dumps(strange).encode() + b"\n")
    (answer,) = await evaluator.expressions(["'mine'"], "input", VARIABLES, owner="r")
    assert (answer.value, bool(answer.error)) == (None, True)
    (after,) = await evaluator.expressions(["'mine'"], "input", VARIABLES, owner="r")
    assert after.value == "mine"
