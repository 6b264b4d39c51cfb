"""A function that is named by an ARN is looked for where it is, and nowhere else."""

from typing import Any

import pytest
from pydantic import ValidationError

from incident_operator.actions.awslambda import FunctionInputs
from incident_operator.actions.catalogue import catalogue
from incident_operator.actions.ports import ReadError
from tests.actions.reader import DictReader

THEIRS = "arn:aws:lambda:eu-west-1:999999999999:function:mailer"
_OF_A_FUNCTION = [name for name, action in catalogue().items() if issubclass(action.inputs_model, FunctionInputs)]
_MORE: dict[str, Any] = {"setting": "timeout", "maximumTimeout": 10, "alias": "LIVE", "minInvocations": 1}


@pytest.mark.parametrize("name", _OF_A_FUNCTION)
def test_a_function_of_another_account_is_not_granted(name: str) -> None:
    """Nothing is read: a namesake of ours would answer for theirs."""
    action = catalogue()[name]
    fields = {field.alias or key for key, field in action.inputs_model.model_fields.items()}
    given = {"functionName": THEIRS, **{key: value for key, value in _MORE.items() if key in fields}}
    reader = DictReader({})
    with pytest.raises(ReadError, match="mailer is in account 999999999999; the ActionGrant is for account") as refused:
        action.observe(action.inputs_model.model_validate(given), reader)
    assert refused.value.reason == "NotGranted"
    assert reader.asked == []


@pytest.mark.parametrize("name", ["arn:", "arn:aws:lambda", "a b", "", f"{THEIRS}:LIVE:more", "arn:aws:s3:::mailer"])
def test_what_is_no_function_is_an_input_that_is_wrong(name: str) -> None:
    """Whatever a run says its name is, it is told so."""
    with pytest.raises(ValidationError):
        FunctionInputs(function_name=name)


@pytest.mark.parametrize("name", ["mailer", THEIRS, f"{THEIRS}:LIVE", "mailer:$LATEST"])
def test_names_and_arns_are_taken(name: str) -> None:
    """With a qualifier too."""
    assert FunctionInputs(function_name=name).name.startswith("mailer")
