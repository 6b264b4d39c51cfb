"""The checks of connections: what they find, and that their outputs stay small."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from incident_operator.actions.base import Unclear
from incident_operator.actions.cache import CommandInputs, SendCommand
from incident_operator.actions.connected import within
from incident_operator.actions.ports import ReadError, RedisAnswer, Rows
from incident_operator.actions.postgres import Query, QueryInputs
from incident_operator.actions.tcp import Connect, ConnectInputs
from tests.actions.reader import DictReader

ELAPSED = timedelta(milliseconds=12)
LIMIT = 2048


class ConnectedReader(DictReader):
    """Answers what it was given, or raises it."""

    def __init__(self, answer: Any) -> None:
        super().__init__({})
        self.answer = answer

    def _give(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def postgres(self, *args: Any, **options: Any) -> Rows:
        """Return the rows."""
        rows: Rows = self._give()
        return rows

    def redis(self, *args: Any, **options: Any) -> RedisAnswer:
        """Return the answer."""
        answer: RedisAnswer = self._give()
        return answer

    def tcp(self, *args: Any, **options: Any) -> timedelta:
        """Return how long it took."""
        elapsed: timedelta = self._give()
        return elapsed


QUERY = QueryInputs(connection="database", statement="SELECT count(*) AS used FROM pg_stat_activity")
COMMAND = CommandInputs(connection="cache", command="INFO memory")
CONNECT = ConnectInputs(host="db.shop", port=5432)


def rows(*given: dict[str, Any], truncated: bool = False) -> Rows:
    """Return an answer of PostgreSQL."""
    return Rows(rows=given, truncated=truncated, withheld=0, sees_all=True, elapsed=ELAPSED)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ({"command": "PING"}, RedisAnswer(elapsed=ELAPSED)),
        ({"command": "INFO memory"}, RedisAnswer(elapsed=ELAPSED, fields={"other": 1})),
    ],
    ids=["no value", "none of the fields"],
)
def test_an_answer_without_what_is_asked_for_is_none(command: dict[str, str], answer: RedisAnswer) -> None:
    """A text that is no token is dropped: what is left of the answer may be nothing."""
    fields = ["used_memory"] if "INFO" in command["command"] else []
    inputs, check = CommandInputs(connection="cache", fields=tuple(fields), **command), SendCommand()
    found = check.findings(inputs, check.observe(inputs, ConnectedReader(answer)))
    assert isinstance(found, Unclear)
    assert (found.reason, found.found) == ("NothingAnswered", ())


def test_the_first_row_can_be_named() -> None:
    """A rule says `output.first.used`; nulls stay nulls, so that a rule may ask for them."""
    facts = Query().observe(QUERY, ConnectedReader(rows({"used": 97, "oldest": None}, {"used": 3, "oldest": None})))
    output = Query().output(facts).wire()
    assert output["first"] == {"used": 97, "oldest": None}
    assert (output["count"], output["truncated"], output["seconds"]) == (2, False, 0.012)
    assert Query().findings(QUERY, facts) == []


def test_rules_judge_rows_that_are_not_kept() -> None:
    """What is bad may be in the last of many."""
    many = rows(*[{"client": f"10.0.0.{i}", "held": i} for i in range(100)])
    facts = Query().observe(QUERY.model_copy(update={"max_rows": 100}), ConnectedReader(many))
    assert len(Query().output(facts).rows) < 100
    judged = Query().judged(facts)
    assert judged.rows[-1]["held"] == 99
    assert not judged.truncated


def test_no_rows_have_no_first() -> None:
    """`has(output.first)` is false then."""
    output = Query().output(Query().observe(QUERY, ConnectedReader(rows()))).wire()
    assert "first" not in output
    assert output["count"] == 0


@pytest.mark.parametrize("columns", [1, 8, 32])
@pytest.mark.parametrize("count", [1, 100])
def test_the_output_stays_within_its_limit(columns: int, count: int) -> None:
    """However wide and long the rows are; what is left out is said."""
    row = {f"column_{i:02}_{'x' * 50}": "y" * 64 for i in range(columns)}
    facts = Query().observe(QUERY, ConnectedReader(rows(*[row] * count)))
    output = Query().output(facts)
    assert len(json.dumps(output.wire())) <= LIMIT
    assert output.truncated == (len(output.rows) < count)
    assert len(json.dumps(facts.wire())) <= 16 * 1024


def test_a_long_answer_of_redis_is_cut_or_picked_from() -> None:
    """`fields` names what is needed of an INFO."""
    answer = RedisAnswer(elapsed=ELAPSED, fields={f"field_{i:03}": i for i in range(300)})
    cut = SendCommand().output(SendCommand().observe(COMMAND, ConnectedReader(answer)))
    assert cut.truncated
    assert len(json.dumps(cut.wire())) <= LIMIT
    picking = COMMAND.model_copy(update={"fields": ("field_299", "absent")})
    picked = SendCommand().output(SendCommand().observe(picking, ConnectedReader(answer)))
    assert picked.wire() == {"fields": {"field_299": 299}, "truncated": False, "seconds": 0.012}


@pytest.mark.parametrize("reason", ["ConnectionSlotsExhausted", "StartingUp"])
def test_an_error_that_is_the_symptom_is_a_finding(reason: str) -> None:
    """It says what is wrong with the service, not that we could not look."""
    reader = ConnectedReader(ReadError(reason, "db.shop:5432 has no connection slot left", code="53300"))
    (found,) = Query().findings(QUERY, Query().observe(QUERY, reader))  # type: ignore[misc]
    assert found.reason == reason
    (found,) = SendCommand().findings(COMMAND, SendCommand().observe(COMMAND, reader))  # type: ignore[misc]
    assert found.reason == reason


@pytest.mark.parametrize("reason", ["AccessDenied", "Unreachable", "NotGranted", "RoleTooPowerful"])
def test_any_other_error_stays_one(reason: str) -> None:
    """Neither healthy nor broken."""
    reader = ConnectedReader(ReadError(reason, "no"))
    for check, inputs in ((Query(), QUERY), (SendCommand(), COMMAND)):
        with pytest.raises(ReadError):
            check.observe(inputs, reader)


def test_tcp_a_refusal_is_found_and_silence_is_unclear() -> None:
    """Silence may be due to where the operator stands."""
    check = Connect()
    refused = check.observe(CONNECT, ConnectedReader(ReadError("Refused", "no")))
    assert [f.reason for f in check.findings(CONNECT, refused)] == ["ConnectionRefused"]  # type: ignore[union-attr]
    silent = check.observe(CONNECT, ConnectedReader(ReadError("Timeout", "no")))
    unclear = check.findings(CONNECT, silent)
    assert isinstance(unclear, Unclear)
    assert check.output(silent).wire() == {"connected": False, "outcome": "Timeout"}
    connected = check.observe(CONNECT, ConnectedReader(ELAPSED))
    assert check.output(connected).wire() == {"connected": True, "outcome": "Connected", "seconds": 0.012}
    assert check.findings(CONNECT, connected) == []
    with pytest.raises(ReadError):
        check.observe(CONNECT, ConnectedReader(ReadError("NotGranted", "no")))


@pytest.mark.parametrize(
    "inputs",
    [
        {"statement": "DROP TABLE a"},
        {"statement": "SELECT $1 AS n"},
        {"statement": "SELECT 1 AS n", "timeout": "10m"},
        {"statement": "SELECT 1 AS n", "maxRows": 101},
    ],
)
def test_inputs_are_judged_again_when_they_are_used(inputs: dict[str, Any]) -> None:
    """A runbook that was read by an older operator is no way around."""
    with pytest.raises(ValidationError):
        QueryInputs.model_validate({"connection": "database", **inputs})


def test_within_counts_what_is_stored() -> None:
    """By the length of the JSON."""
    assert within([{"a": 1}, {"b": 2}], 12) == ({"a": 1},)
