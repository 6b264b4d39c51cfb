"""The AWS gateway by itself: what is read ahead, and a machine where no client can be made."""

import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.ports import ReadError
from incident_operator.actions.reads import ListedRead
from incident_operator.adapters import aws
from incident_operator.adapters.aws import Gateway, GrantReader
from incident_operator.api.grant import AwsGrant
from tests.builders import NOW, a_grant

NAMES = ("one", "two", "three")


class Recorded(Gateway):
    """A gateway whose reads meet each other, are counted, and fail where they are told to."""

    def __init__(self, at_once: int = 1) -> None:
        super().__init__(now=lambda: NOW, scaled=lambda wait: wait)
        self.made: list[str] = []
        self._met = threading.Barrier(at_once)

    def read(self, grant: AwsGrant, region: str, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Answer with the role's name once as many reads are under way as were announced."""
        self._met.wait(timeout=10)
        self.made.append(arguments["RoleName"])
        if arguments["RoleName"] == "denied":
            raise ReadError("AccessDenied", "denied")
        return arguments["RoleName"]


def reader(gateway: Gateway) -> GrantReader:
    """Return a reader that shares its reads with nobody."""
    return gateway.reader(a_grant(), since=NOW - timedelta(minutes=15), memo=None)


def test_reads_ahead_are_made_at_once_and_each_once() -> None:
    """Three that only end together end, and asking for them makes no other."""
    gateway = Recorded(at_once=len(NAMES))
    reading = reader(gateway)
    reading.prefetch("iam", "get_role", *({"RoleName": name} for name in NAMES))
    assert [reading.aws("iam", "get_role", {"RoleName": name}) for name in NAMES] == list(NAMES)
    reading.prefetch("iam", "get_role", {"RoleName": "one"})
    assert sorted(gateway.made) == sorted(NAMES)


def test_a_read_ahead_that_fails_fails_for_whoever_asks() -> None:
    """Beginning it raises nothing; the answer is the error, every time."""
    reading = reader(Recorded())
    reading.prefetch("iam", "get_role", {"RoleName": "denied"})
    for _ in range(2):
        with pytest.raises(ReadError, match="denied"):
            reading.aws("iam", "get_role", {"RoleName": "denied"})


def test_nothing_is_read_ahead_in_a_region_that_is_not_granted() -> None:
    """Whoever asks is told; AWS is not."""
    gateway = Recorded()
    reading = reader(gateway)
    reading.prefetch("iam", "get_role", {"RoleName": "one"}, region="eu-north-1")
    with pytest.raises(ReadError, match="does not list region eu-north-1"):
        reading.aws("iam", "get_role", {"RoleName": "one"}, region="eu-north-1")
    assert gateway.made == []


@pytest.fixture
def no_profile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name an AWS profile that is not there, as a mistyped Deployment would."""
    monkeypatch.setenv("AWS_PROFILE", "nothere")
    aws._session.cache_clear()
    yield
    aws._session.cache_clear()


@pytest.mark.usefixtures("no_profile")
def test_a_missing_profile_is_said_at_the_start_and_by_every_read(caplog: pytest.LogCaptureFixture) -> None:
    """It is no reason to end: runs can say what is wrong."""
    with caplog.at_level(logging.WARNING):
        aws.prepare()
    assert "nothere" in caplog.text
    gateway = Gateway(now=lambda: NOW, scaled=lambda wait: wait)
    with pytest.raises(ReadError, match="ProfileNotFound"):
        reader(gateway).aws("iam", "get_role", {"RoleName": "one"})


def test_reading_sessions_are_shared_as_far_as_a_session_policy_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """STS takes 2,048 characters: more reads need more sessions, never a wildcard."""
    many = {
        (f"service{s}", f"read_{o}"): ListedRead(permissions=(f"service{s}:ReadOneThing{o}",), project=dict)
        for s in range(10)
        for o in range(30)
    }
    monkeypatch.setattr(aws, "READS", many)
    aws._readable.cache_clear()
    shares = {f"service{s}": aws._readable(f"service{s}", len(many)) for s in range(10)}
    aws._readable.cache_clear()
    assert all(len(aws.session_policy(may, ("*",))) <= aws.POLICY_LIMIT for may in shares.values())
    assert 1 < len(set(shares.values())) < 10
    for (service, _), listed in many.items():
        assert set(listed.permissions) <= set(shares[service])
