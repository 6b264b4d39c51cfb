"""What a runbook may ask of AWS by name."""

import pytest

from incident_operator.actions.aws import Query, QueryInputs
from incident_operator.actions.ports import ReadError
from tests.actions.reader import DictReader


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("secretsmanager", "get_secret_value"),
        ("ssm", "get_parameter"),
        ("lambda", "get_function"),
        ("lambda", "__class__"),
        ("logs", "filter_log_events"),
    ],
)
def test_what_could_carry_a_secret_is_not_asked(service: str, operation: str) -> None:
    """Log lines neither: their answer would be kept as it is (decision 19)."""
    with pytest.raises(ReadError, match=f"{service}.{operation} is not a listed read; of {service}: ") as refused:
        Query().observe(QueryInputs(service=service, operation=operation), DictReader({}))
    assert refused.value.reason == "InvalidRequest"
