"""What controllers make of an action that fails."""

import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from incident_operator.actions.ports import ReadError
from incident_operator.adapters.evaluator import Answer
from incident_operator.adapters.pool import Pool
from incident_operator.api.run import CheckState, CheckStatus, Impact
from incident_operator.controllers.observing import Scope, _of_the_catalogue, measure_impact
from incident_operator.core import expressions
from incident_operator.core.run.view import CheckResult
from tests.builders import NOW, a_run, a_runbook


async def _done(work: Any) -> Any:
    settings = SimpleNamespace(observe_timeout=timedelta(seconds=5))
    context: Any = SimpleNamespace(pool=Pool(1), settings=settings)
    return await _of_the_catalogue(context, "lambda.configuration", work)


async def test_what_an_action_does_not_foresee_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on with an Error that names the action; the traceback is the log's alone."""
    answer: dict[str, Any] = {}
    with caplog.at_level(logging.ERROR), pytest.raises(ReadError) as raised:
        await _done(lambda: answer["Configuration"])
    assert raised.value.reason == "InternalError"
    assert "lambda.configuration" in raised.value.message
    assert "Configuration'" not in raised.value.message
    assert "KeyError: 'Configuration'" in caplog.text


@pytest.mark.parametrize("error", [ReadError("AccessDenied", "denied"), TimeoutError()])
async def test_what_it_does_foresee_stays_what_it_is(error: Exception) -> None:
    """A denied read is no internal error."""

    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await _done(work)
    assert raised.value.args == error.args


async def test_an_answer_is_handed_on() -> None:
    """As it is."""
    assert await _done(lambda: 42) == 42


_MEASURED = {"failed": "checks.requests.output.failed", "total": "checks.requests.output.requests"}
_ESTIMATE = {"by": "reads", "failed": "checks.reads.output.refused", "total": "checks.reads.output.total"}


async def _impact(expressed: dict[str, Any] | None, **outputs: dict[str, Any]) -> Impact | None:
    """Return what is measured where checks have these outputs."""

    async def evaluate(sources: list[str], variables: Any, *, owner: str, scope: Any) -> list[Answer]:
        made = []
        for source in sources:
            try:
                made.append(Answer(value=expressions.evaluate(source, scope, variables)))
            except expressions.ExpressionError as error:
                made.append(Answer(error=str(error)))
        return made

    context: Any = SimpleNamespace(evaluate=evaluate)
    scope = Scope(
        run=a_run(),
        runbook=a_runbook(impact=expressed),
        parameters={},
        grants=(),
        since=NOW,
        now=NOW,
        dependencies={},
        memo=None,
    )
    checks = {
        name: CheckResult(status=CheckStatus(name=name, action="aws.query", state=CheckState.PASSED, output=output))
        for name, output in outputs.items()
    }
    return await measure_impact(context, scope, checks)


async def test_impact_is_what_checks_measured() -> None:
    """Requests that failed, of all; an estimate is not asked for then."""
    found = await _impact(
        {**_MEASURED, "estimate": _ESTIMATE},
        requests={"failed": 12, "requests": 48},
        reads={"refused": 3, "total": 3},
    )
    assert found == Impact(
        summary="25% of requests failed (12 of 48)", method="Measured", failed=12, total=48, percent=25
    )


@pytest.mark.parametrize("requests", [{}, {"failed": 0, "requests": 0}, {"failed": 3}, {"requests": 3}])
async def test_impact_without_a_measurement_is_unknown_unless_an_estimate_is_said(requests: dict[str, Any]) -> None:
    """Never 0 %; and an estimate is called one."""
    reads = {"refused": 3, "total": 3}
    assert await _impact(None, requests=requests, reads=reads) is None
    assert await _impact(_MEASURED, requests=requests, reads=reads) is None
    assert await _impact({**_MEASURED, "estimate": _ESTIMATE}, requests=requests, reads={}) is None
    found = await _impact({**_MEASURED, "estimate": _ESTIMATE}, requests=requests, reads=reads)
    assert found == Impact(
        summary="about 100% of requests failed, estimated by reads (3 of 3)",
        method="Estimated",
        failed=3,
        total=3,
        percent=100,
    )
