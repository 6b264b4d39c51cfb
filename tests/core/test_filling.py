"""What of a call is known only when it is sent."""

from datetime import timedelta

import pytest

from incident_operator.core.filling import filled, from_now, named_for_plan
from incident_operator.core.schedule import Timing
from tests.builders import NOW, a_call, a_plan


@pytest.mark.parametrize(
    ("scale", "after", "due"),
    [
        (1, timedelta(0), "2026-01-15T14:40:00Z"),
        (60, timedelta(0), "2026-01-15T14:30:10Z"),
        (1, timedelta(milliseconds=1), "2026-01-15T14:40:01Z"),
    ],
)
def test_an_instant_is_counted_from_when_the_call_is_sent(scale: float, after: timedelta, due: str) -> None:
    """In whole seconds, never earlier; divided by the time scale as every wait is."""
    call = a_call().model_copy(update={"arguments": {"Deep": [{"At": from_now(timedelta(minutes=10))}]}})
    made = filled(call, a_plan(), NOW + after, Timing(scale=scale))
    assert made.arguments == {"Deep": [{"At": due}]}


def test_a_name_is_this_plans_alone_and_the_same_each_time() -> None:
    """So that a call that is made again sets the same thing."""
    call = a_call().model_copy(update={"arguments": {"Names": [named_for_plan("restore-")]}})
    names = [filled(call, a_plan(), NOW + timedelta(minutes=n), Timing()).arguments for n in (0, 7)]
    assert names == [{"Names": ["restore-plan-uid"]}] * 2


def test_nothing_is_named_after_a_plan_that_was_never_stored() -> None:
    """Two of them would share the name."""
    unstored = a_plan()
    unstored = unstored.model_copy(update={"metadata": unstored.metadata.model_copy(update={"uid": ""})})
    call = a_call().model_copy(update={"arguments": {"Name": named_for_plan("restore-")}})
    with pytest.raises(ValueError, match="was never stored"):
        filled(call, unstored, NOW, Timing())


def test_a_call_without_markers_is_as_it_was_approved() -> None:
    """To the letter."""
    assert filled(a_call(), a_plan(), NOW, Timing()) == a_call()
