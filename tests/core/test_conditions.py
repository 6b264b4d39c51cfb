"""Conditions as people and `kubectl wait` expect them."""

from datetime import timedelta

import pytest

from incident_operator.core.conditions import is_true, with_condition
from tests.builders import NOW

LATER = NOW + timedelta(minutes=5)


@pytest.mark.parametrize(("status", "since"), [(False, LATER), (None, LATER), (True, NOW)])
def test_the_transition_time_moves_only_when_the_status_does(status: bool | None, since: object) -> None:
    """A new reason or message is no transition."""
    first = with_condition((), "Accepted", True, "Accepted", "follows it", NOW, 1)
    (condition,) = with_condition(first, "Accepted", status, "Changed", "otherwise", LATER, 2)
    assert condition.last_transition_time == since
    assert (condition.reason, condition.message, condition.observed_generation) == ("Changed", "otherwise", 2)


def test_each_type_is_there_once_in_order_of_appearance() -> None:
    """A list that is a map by type: setting one leaves the others and their places alone."""
    conditions = with_condition((), "Accepted", True, "A", "", NOW)
    conditions = with_condition(conditions, "Diagnosed", True, "D", "", NOW)
    conditions = with_condition(conditions, "Accepted", False, "B", "", LATER)
    assert [(c.type, c.status) for c in conditions] == [("Accepted", "False"), ("Diagnosed", "True")]


def test_unknown_is_not_true() -> None:
    """None is Unknown on the wire, and never counts as True; nor does a condition that is missing."""
    conditions = with_condition((), "Resolved", None, "Unmeasured", "", NOW)
    assert conditions[0].status == "Unknown"
    assert not is_true(conditions, "Resolved")
    assert not is_true((), "Resolved")
    assert is_true(with_condition((), "Resolved", True, "Runbook", "", NOW), "Resolved")


def test_a_message_is_cut_and_redacted() -> None:
    """What the schema would refuse is cut; what nobody may read is hidden."""
    (condition,) = with_condition((), "Accepted", False, "Wrong", "password=hunter2 " + "x" * 2000, NOW)
    assert len(condition.message) == 1024
    assert "hunter2" not in condition.message
