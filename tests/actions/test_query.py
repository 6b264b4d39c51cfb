"""What a runbook may ask of AWS by name."""

import pytest

from incident_operator.actions.aws import Query, QueryInputs
from incident_operator.actions.base import Unclear
from incident_operator.actions.ports import NotFound, ReadError
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


ACL = QueryInputs(service="s3", operation="get_bucket_acl", arguments={"Bucket": "images"})


def test_what_is_not_there_is_not_well() -> None:
    """Because no rule of the runbook minds it."""
    facts = Query().observe(ACL, DictReader({"s3.get_bucket_acl": NotFound("images")}))
    answer = Query().findings(ACL, facts)
    assert isinstance(answer, Unclear)
    assert (answer.reason, answer.found) == ("NotFound", ())


def test_a_rule_judges_the_whole_of_a_list_that_is_not_kept() -> None:
    """What should not be in it may stand last."""
    grants = [{"grantee": "account", "permission": "READ", "number": i} for i in range(60)]
    facts = Query().observe(ACL, DictReader({"s3.get_bucket_acl": [*grants, {"grantee": "everybody"}]}))
    kept, judged = Query().output(facts), Query().judged(facts)
    assert (len(kept.answer), kept.count, kept.cut) == (3, 61, True)
    assert judged.answer[-1] == {"grantee": "everybody"}
    assert not judged.cut
    assert Query().findings(ACL, facts) == []


def test_an_answer_that_no_rule_sees_whole_is_unclear() -> None:
    """Three of thousands say nothing about the others."""
    facts = Query().observe(ACL, DictReader({"s3.get_bucket_acl": [{"grantee": "account"}] * 10_000}))
    answer = Query().findings(ACL, facts)
    assert isinstance(answer, Unclear)
    assert answer.reason == "AnswerTooLarge"
