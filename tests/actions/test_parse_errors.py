"""What log lines say, as tokens of a known grammar; never what else they hold (decision 19)."""

from typing import Any

import pytest

from incident_operator.actions.awslambda import Denial, ErrorFacts, ErrorInputs, Errors, parse_errors
from incident_operator.actions.base import Unclear
from incident_operator.actions.ports import NotFound
from tests.actions.reader import DictReader

USER = "User: arn:aws:sts::123456789012:assumed-role/mailer/birthday-mailer"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/people"
DYNAMODB = (
    "[ERROR] ClientError: An error occurred (AccessDeniedException) when calling the GetItem operation: "
    f"{USER} is not authorized to perform: dynamodb:GetItem on resource: {TABLE} because no identity-based policy "
    'allows the dynamodb:GetItem action\nTraceback (most recent call last):\n  File "/var/task/app.py", line 7'
)
S3 = (
    "[ERROR] ClientError: An error occurred (AccessDenied) when calling the GetObject operation: "
    f'{USER} is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::shop/mails/a.html" with an '
    "explicit deny in a resource-based policy"
)
KEY = "arn:aws:kms:us-east-1:123456789012:key/8b7e"
JSON = f'{{"message": "{USER} is not authorized to perform: kms:Decrypt on resource: \\"{KEY}\\" because no"}}'


def parsed(*lines: str) -> ErrorFacts:
    """Return what these lines say."""
    return parse_errors([{"message": line, "timestamp": 1768487400000 + n} for n, line in enumerate(lines)])


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:s3:::shop/<script>alert(1)</script>",
        "arn:aws:s3:::shop/\x1b[2Jmails",
        "arn:aws:s3:::shop/\u202egpj.exe",
        "arn:aws:s3:::shop/`id`",
    ],
)
def test_a_name_with_markup_in_it_is_none(resource: str) -> None:
    """A function logs what it likes: what no resource is called is no denial, cut or whole."""
    facts = parsed(f"[ERROR] ClientError: {USER} is not authorized to perform: s3:GetObject on resource: {resource}")
    assert facts.denials == ()


def test_a_password_in_the_place_of_an_error_is_not_kept() -> None:
    """The line is counted all the same."""
    odd = "x7Kp2mQv9LsT4hRw8ZcN3bYd"
    called = f"[ERROR] An error occurred ({odd}) when calling the GetItem operation"
    assert parsed(f"[ERROR] login {odd}: refused", called).errors == {"Error": 2}


@pytest.mark.parametrize(
    ("line", "denial"),
    [
        (DYNAMODB, Denial(action="dynamodb:GetItem", resource=TABLE)),
        (S3, Denial(action="s3:GetObject", resource="arn:aws:s3:::shop/mails/a.html", explicit=True)),
        (JSON, Denial(action="kms:Decrypt", resource=KEY)),
        (
            DYNAMODB.replace(TABLE, f"{TABLE}/index/by-mail"),
            Denial(action="dynamodb:GetItem", resource=f"{TABLE}/index/by-mail"),
        ),
        (f"[ERROR] {USER} is not authorized to perform: ses:SendEmail", Denial(action="ses:SendEmail", resource="*")),
        (
            DYNAMODB.replace("arn:aws:dynamodb:us-east-1", "arn:aws-us-gov:dynamodb:us-gov-west-1"),
            Denial(
                action="dynamodb:GetItem", resource="arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/people"
            ),
        ),
    ],
)
def test_a_denial_is_action_and_resource(line: str, denial: Denial) -> None:
    """However the SDK or the logger wraps it; the same one twice is one with a count."""
    assert parsed(line).denials == (denial,)
    assert parsed(line, line).denials == (denial.model_copy(update={"count": 2}),)


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("2026-01-15T14:30:00.123Z 8b7e8f0c-3c0e-4c53 Task timed out after 3.00 seconds", {"timeouts": 1}),
        ("RequestId: 8b7e Error: Runtime exited with error: signal: killed\nRuntime.ExitError", {"out_of_memory": 1}),
        ("REPORT RequestId: 8b7e\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t", {"out_of_memory": 1}),
        ("REPORT RequestId: 8b7e\tMemory Size: 128 MB\tMax Memory Used: 127 MB\t", {}),
        (
            "An error occurred (MessageRejected) when calling the SendEmail operation: Email address is not verified.",
            {"refused": {"MessageRejected": 1}},
        ),
        ("[ERROR] KeyError: 'birthday'\nTraceback (most recent call last):", {"errors": {"KeyError": 1}}),
        ("[ERROR] 2026-01-15T14:30:00Z app.errors.BadTemplate: x", {"errors": {"app.errors.BadTemplate": 1}}),
        (
            "[ERROR] ClientError: An error occurred (ResourceNotFoundException) when calling the GetItem operation: x",
            {"errors": {"ResourceNotFoundException": 1}},
        ),
        ("START RequestId: 8b7e Version: 7", {}),
    ],
)
def test_other_lines_are_counted_by_kind(line: str, counted: dict[str, Any]) -> None:
    """Each line counts once, as one thing."""
    facts = parsed(line)
    seen = facts.model_dump(include={"timeouts", "out_of_memory", "errors", "refused", "denials"})
    assert {k: v for k, v in seen.items() if v} == counted


@pytest.mark.parametrize(
    "line",
    [
        "[ERROR] ValueError: password=hunter2-marker card 4111111111111111",
        "[ERROR] hunter2-marker <script>alert(1)</script>: x",
        f"{USER} is not authorized to perform: hunter2-marker on resource: {TABLE}",
        f"{USER} is not authorized to perform: dynamodb:GetItem on resource: hunter2-marker",
        f"{USER} is not authorized to perform: dynamodb:GetItem on resource: arn:hunter2-marker",
        f"{USER} is not authorized to perform: s3:* on resource: arn:aws:s3:::x hunter2-marker",
        f"{DYNAMODB} for user alice@example.com hunter2-marker",
        "An error occurred (hunter2-marker drop table) when calling the GetItem operation: x",
        "[ERROR] " + "A" * 5000 + ": hunter2-marker",
        "Task timed out after hunter2-marker seconds",
        "hunter2-marker\x00\x1b[31m[ERROR]",
    ],
)
def test_free_text_is_never_kept(line: str) -> None:
    """Whatever else a line holds: nothing of it reaches facts, output or findings."""
    facts = parsed(line)
    answer = Errors().findings(ErrorInputs(function_name="mailer"), facts)
    said = f"{facts.wire()} {Errors().output(facts).wire()} {answer}"
    assert "hunter2-marker" not in said
    assert "alice@example.com" not in said


def test_a_forged_resource_is_bounded() -> None:
    """A line is written by whoever can make the function log: no token of it is longer than an ARN can be."""
    facts = parsed(DYNAMODB.replace(TABLE, f"{TABLE}/" + "a" * 100_000))
    assert len(str(facts.wire())) < 2000
    assert facts.denials == ()
    assert facts.errors == {"AccessDeniedException": 1}


def test_many_kinds_stay_few() -> None:
    """At most eight kinds are kept, the most frequent first."""
    lines = [f"[ERROR] Kind{n}: x" for n in range(50)] + ["[ERROR] Kind7: x"] * 3
    facts = parsed(*lines)
    assert len(facts.errors) == 8
    assert next(iter(facts.errors.items())) == ("Kind7", 4)
    assert facts.lines == 53


def test_a_log_group_that_does_not_exist_yet_proves_nothing() -> None:
    """Inconclusive, never healthy: the function may not have run."""
    reader = DictReader({"logs.filter_log_events": NotFound("there is none")})
    inputs = ErrorInputs(function_name="arn:aws:lambda:eu-west-1:123456789012:function:mailer")
    answer = Errors().findings(inputs, Errors().observe(inputs, reader))
    assert isinstance(answer, Unclear)
    assert answer.reason == "LogGroupMissing"
    name, arguments, region = reader.asked[0]
    assert (name, arguments["logGroupName"], region) == (
        "logs.filter_log_events",
        "/aws/lambda/mailer",
        "eu-west-1",
    )
