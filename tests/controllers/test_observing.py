"""What controllers make of an action that fails."""

import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from incident_operator.actions.ports import ReadError
from incident_operator.adapters.pool import Pool
from incident_operator.controllers.observing import _of_the_catalogue


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
