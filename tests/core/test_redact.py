"""What must never be shown is not, and what people need is."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_operator.__main__ import RedactingFormatter
from incident_operator.core.redact import MARK, is_clean, looks_random, redact, redact_json
from incident_operator.core.story import told
from tests.builders import NOW

KEY_ID = "AKIA" + "IOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjEJr" + "Ab1/+" * 30
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEow{'A' * 64}\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"credentials of {KEY_ID} are old", KEY_ID),
        (f"the key {SECRET} was used", SECRET),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", SECRET),
        (f"token {SESSION}", SESSION),
        (f"https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature={SIGNATURE}&versionId=3", SIGNATURE),
        (f"GET /k?AWSAccessKeyId={KEY_ID}&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D", "vjbyPxybdZaNmGa"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        (f"Authorization: AWS4-HMAC-SHA256 Credential=x/20260115, Signature={SIGNATURE}", SIGNATURE),
        ("sent Basic dXNlcjpwYXNzd29yZA== to it", "dXNlcjpwYXNzd29yZA"),
        (f"bearer {JWT}", "dBjftJeZ4CVP"),
        (f"got {JWT}", "dBjftJeZ4CVP"),
        ("postgres://shop:hunter2@db.internal:5432/orders", "hunter2"),
        ("postgres://shop:p@ss:word@db/orders", "p@ss"),
        ("redis://:hunter2@cache:6379", "hunter2"),
        ("host=db user=shop password=hunter2 dbname=orders", "hunter2"),
        ("password='two words' host=db", "two words"),
        ('{"dbPassword": "two words", "n": 1}', "two words"),
        (r"said {\"password\": \"hunter2\"}", "hunter2"),
        (r'{"password": "hun\"ter2"}', "ter2"),
        ("env:PGPASSWORD=hunter2", "hunter2"),
        ("api_key: 0123456789", "0123456789"),
        ("x-api-key=0123456789", "0123456789"),
        (PEM, "MIIEow"),
        (PEM[:60], "MIIEow"),
        ("https://hooks.slack.com/services/T000/B000/XXXXXXXX failed", "XXXXXXXX"),
        ("xoxb-123456789012-abcdefghijkl", "abcdefghijkl"),
    ],
)
def test_a_credential_is_hidden(text: str, secret: str) -> None:
    """Every kind of credential is replaced, wherever it stands, and redacting again changes nothing."""
    shown = redact(text)
    assert secret not in shown
    assert MARK in shown
    assert redact(shown) == shown
    assert not is_clean({"message": text})
    assert is_clean({"message": shown})


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::123456789012:role/service/lambda-execution-role",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:shop/db-AbCdEf",
        "arn:aws:sts::123456789012:assumed-role/SecurityAudit/alice",
        "request 8b7e8f0c-3c0e-4c53-9a77-0a4e4a3a8d1e",
        "code 6Kzq0Zb1wO2fK0a8s3v9yX1nT7uL5pQe4rM8jH2dG0c=",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        f"hash {SIGNATURE}",
        "the principal AROAIOSFODNN7EXAMPLE:alice",
        "User: arn:aws:sts::1:assumed-role/r/f is not authorized to perform: dynamodb:GetItem",
        "3 × ExpiredToken, 2 × InvalidToken",
        "Basic troubleshooting and a bearer of news",
        "kubectl incident watch -n shop inc-2024-0001",
        "https://shop.example:8443/health answers 503",
        "Secret shopsmart-db is missing",
        "s3:GetObject on arn:aws:s3:::shop-Templates/mails/2024/Birthday/en/index-v2.html",
    ],
)
def test_what_people_need_is_shown(text: str) -> None:
    """ARNs, ids, digests, error codes and the names of secrets are no secrets."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"password": "x", "user": "shop"}, {"password": MARK, "user": "shop"}),
        ({"a": [{"authToken": "x"}]}, {"a": [{"authToken": MARK}]}),
        ({"SecretString": "{}"}, {"SecretString": MARK}),
        ({"secretKeyRef": {"name": "shop", "key": "dsn"}}, {"secretKeyRef": {"name": "shop", "key": "dsn"}}),
        ({"secretName": "shop"}, {"secretName": "shop"}),
        ({"errors": {"ExpiredToken": 3}}, {"errors": {"ExpiredToken": 3}}),
        ({"token": None, "on": True}, {"token": None, "on": True}),
        ("password=x", f"password={MARK}"),
        (7, 7),
    ],
)
def test_json_is_redacted_by_key_and_by_text(value: Any, shown: Any) -> None:
    """A text under a key that names a secret is hidden whatever it looks like; numbers and structure stay."""
    assert redact_json(value) == shown


@pytest.mark.parametrize(
    ("token", "random"),
    [
        ("x7Kp2mQv9LsT4hRw8ZcN3bYd", True),
        ("shop.x7Kp2mQv9LsT4hRw8ZcN3bYd", True),
        ("x7Kp2mQv-9LsT4hRw_8ZcN3bYd", True),
        ("x7Kp2mQv", False),
        ("AmazonQBirthdayDemoLambdaV2", False),
        ("Oauth2AuthenticationException", False),
        ("7f3c2a10-1111-4222-8333-444455556666", False),
        ("2024-01-15T14:30:00.000Z", False),
        ("ip-10-0-0-1.ec2.internal", False),
        ("prod-Orders-DB-replica-2a", False),
    ],
)
def test_a_made_up_token_is_told_from_a_name(token: str, random: bool) -> None:
    """A password among tokens has no mark but that it is made up; ids, instants and names are none."""
    assert looks_random(token) is random


_fragments = st.sampled_from(
    [KEY_ID, SECRET, "password", "token: ", "=", '"', "'", "\\", " ", "://a:", "@h", "Bearer ", "x1", "\n", ":", MARK]
)


@given(st.lists(_fragments | st.text(max_size=6), max_size=14).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """Whatever the text, a second pass finds nothing more: stored text can be compared with told text."""
    once = redact(text)
    assert redact(once) == once


@given(st.text(alphabet="abcdefgh ", max_size=20), st.text(alphabet="abcdefgh ", max_size=20))
def test_a_key_id_never_survives(before: str, after: str) -> None:
    """An access key id between any words is hidden."""
    assert KEY_ID not in redact(f"{before} {KEY_ID} {after}")


def test_the_story_is_told_redacted() -> None:
    """A message with a credential enters the timeline without it, and twice in a row is told once."""
    once = told((), NOW, "CallFailed", "connecting to postgres://shop:hunter2@db failed")
    assert once[0].message == f"connecting to postgres://shop:{MARK}@db failed"
    assert told(once, NOW, "CallFailed", "connecting to postgres://shop:hunter2@db failed") == once


def test_log_lines_and_tracebacks_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """What a library logs goes through the same lock, its exception's text included."""
    try:
        raise ValueError(f"bad key {KEY_ID}")
    except ValueError:
        logging.getLogger("botocore").warning("password=%s", "hunter2", exc_info=True)
    line = RedactingFormatter("%(message)s").format(caplog.records[-1])
    assert "hunter2" not in line
    assert KEY_ID not in line
    assert "Traceback" in line
