"""A reader that answers listed reads from a dict, and remembers what it was asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from incident_operator.actions.ports import ConnectFrom, FromInstance, HttpAnswer
from incident_operator.actions.reads import READS
from tests.builders import NOW


@dataclass
class DictReader:
    """Implements `actions.ports.Reader`.

    Shape: `answers` by "service.operation"; a value is the projection, a callable gets the arguments, an exception
    is raised. What is not there fails the test: an observation reads nothing by accident.
    """

    answers: Mapping[str, Any]
    since: datetime = NOW - timedelta(minutes=15)
    now: datetime = NOW
    account: str = "123456789012"
    region: str = "us-east-1"
    global_region: str = "us-east-1"
    protected_actors: tuple[str, ...] = ()
    asked: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)

    def scaled(self, wait: timedelta) -> timedelta:
        """Return the wait: real time."""
        return wait

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """Return the answer. Errors: PermissionError for what is not listed; what the answer raises."""
        if (service, operation) not in READS:
            raise PermissionError(f"{service}.{operation} is not a listed read")
        name, given = f"{service}.{operation}", dict(arguments or {})
        self.asked.append((name, given, region))
        if name not in self.answers:
            raise AssertionError(f"{name} was read and the test has no answer: {given}")
        answer: Any = self.answers[name]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def prefetch(self, service: str, operation: str, *arguments: Mapping[str, Any], region: str | None = None) -> None:
        """Begin nothing. Errors: PermissionError for what is not listed."""
        if (service, operation) not in READS:
            raise PermissionError(f"{service}.{operation} is not a listed read")

    def postgres_place(self, connection: str) -> str:
        """Return where a connection leads; `answers` has it by "place.<connection>"."""
        answer = self.answers.get(f"place.{connection}", AssertionError(f"{connection} leads nowhere in this test"))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """Refuse: nothing here probes."""
        raise AssertionError(f"{url} was probed")

    def tcp_from(
        self, asked: Sequence[ConnectFrom], *, timeout: timedelta, region: str | None = None
    ) -> tuple[FromInstance, ...]:
        """Answer for each instance of each place; `answers` has "from.<instance>": outcome, status, or why none."""
        made = []
        for one in asked:
            for instance in one.instances:
                said = self.answers[f"from.{instance}"]
                if isinstance(said, Exception):
                    raise said
                self.asked.append(("tcp_from", {"instance": instance, "place": f"{one.host}:{one.port}"}, region))
                if one.path:
                    self.asked[-1][1]["path"] = one.path
                if isinstance(said, int):
                    got = FromInstance(
                        instance=instance, host=one.host, port=one.port, outcome="Connected", status=said
                    )
                    made.append(got)
                    continue
                known = said in ("Connected", "Refused", "Timeout", "Unreachable")
                answer = {"outcome": said} if known else {"why": said}
                made.append(FromInstance(instance=instance, host=one.host, port=one.port, **answer))
        return tuple(made)
