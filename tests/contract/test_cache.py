"""`redis.command` on a real server: what it answers, and every way in which it could be misused."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis

from dev.databases import Server
from dev.processes import wait_until
from incident_operator.actions.ports import ReadError, RedisAnswer
from incident_operator.adapters import cache
from incident_operator.adapters.connections import Slots, Target
from incident_operator.api.grant import Probes
from incident_operator.core.rediscommand import COMMANDS
from tests.contract.conftest import CANARY, Known

ANY_LOOPBACK = Probes(cidrs=("127.0.0.0/8",))


@pytest.fixture
def target(valkey: Known) -> Target:
    """Where checks connect."""
    return Target(host=valkey.server.host, port=valkey.server.port, password=CANARY, tls="disable")


@pytest.fixture
def shop(valkey: Known) -> Iterator["redis.Redis"]:
    """The service's own client, with one key in the cache."""
    with admin(valkey.server) as client:
        client.flushall()
        client.set("session:42", "secret of a customer", ex=600)
        yield client


def admin(server: Server) -> "redis.Redis":
    """Return a client that may do everything."""
    return redis.Redis(host=server.host, port=server.port, password=CANARY, decode_responses=True)


def asks(target: Target, command: str, **options: Any) -> RedisAnswer:
    """Ask as a check does."""
    given: dict[str, Any] = {"timeout": timedelta(seconds=2), "api_server": None, **options}
    return cache.ask(target, given.pop("probes", ANY_LOOPBACK), Slots(), command, **given)


def refused(target: Target, command: str, **options: Any) -> ReadError:
    """Ask, and return why there is no answer; nobody learns the password from it."""
    with pytest.raises(ReadError) as caught:
        asks(target, command, **options)
    assert CANARY not in f"{caught.value!r} {caught.value.message} {target!r} {target}"
    return caught.value


def test_single_values(target: Target, shop: "redis.Redis") -> None:
    """Numbers and tokens."""
    asked = {command: asks(target, command).value for command in ("PING", "dbsize", "TYPE session:42", "SLOWLOG LEN")}
    assert asked == {"PING": "PONG", "dbsize": 1, "TYPE session:42": "string", "SLOWLOG LEN": 0}
    assert asks(target, "EXISTS session:41").value == 0
    assert 0 < asks(target, "TTL session:42").value <= 600
    assert asks(target, "MEMORY USAGE session:42").value > 0


def test_named_values(target: Target, shop: "redis.Redis") -> None:
    """INFO, CONFIG GET and their kin, as identifiers that expressions can say."""
    memory = asks(target, "INFO memory").fields or {}
    assert memory["used_memory"] > 0
    assert all(name.isidentifier() for name in memory)
    assert (asks(target, "info keyspace").fields or {})["db0_keys"] == 1
    assert asks(target, "CONFIG GET maxmemory-policy").fields == {"maxmemory_policy": "noeviction"}
    assert (asks(target, "ROLE").fields or {})["role"] == "master"
    assert (asks(target, "MEMORY STATS").fields or {})["keys_count"] == 1


def test_clients_are_counted_not_listed(target: Target, shop: "redis.Redis") -> None:
    """What clients call themselves and do is free text; and in the hosts' subnets we would be taken for a host."""
    shop.client_setname("Eve")
    answer = asks(target, "CLIENT LIST")
    assert (answer.fields or {})["clients"] == len(answer.rows or ()) == 1
    assert (answer.rows or ())[0]["clients"] == 1
    assert "Eve" not in str(answer)


def test_latency_events_are_rows(target: Target, shop: "redis.Redis") -> None:
    """The server's own record of what was slow."""
    shop.config_set("latency-monitor-threshold", 1)
    # Some milliseconds: longer, and a busy machine would make it longer than the client waits.
    shop.eval("for i = 1, 20000 do redis.call('TIME') end return 1", 0)
    rows = asks(target, "LATENCY LATEST").rows or ()
    assert rows
    assert {"event", "at", "latest_ms", "max_ms"} == set(rows[0])


ATTACKS = [
    *("KEYS *", "SCAN 0", "GET session:42", "MGET a b", "SET a b", "DEL session:42", "UNLINK session:42", "RENAME a b"),
    *("EVAL return(1) 0", "EVALSHA x 0", "FUNCTION LIST", "SCRIPT FLUSH", "FLUSHALL", "FLUSHDB", "CONFIG SET a b"),
    *("CONFIG GET *", "CONFIG GET requirepass", "CONFIG GET masterauth", "CONFIG REWRITE", "CONFIG RESETSTAT"),
    *("DEBUG SLEEP 10", "MONITOR", "SUBSCRIBE a", "SHUTDOWN", "REPLICAOF NO ONE", "FAILOVER", "CLIENT KILL ID 1"),
    *("CLIENT PAUSE 1000", "CLIENT INFO", "ACL LIST", "ACL WHOAMI", "SLOWLOG GET", "SLOWLOG RESET", "LATENCY RESET"),
    *(
        "MEMORY PURGE",
        "MIGRATE a 1 b 0 1",
        "RESTORE a 0 b",
        "MODULE LOAD x",
        "AUTH x",
        "HELLO 3",
        "SELECT 1",
        "INFO all",
    ),
    *(
        "PING\r\nFLUSHALL",
        "PING x",
        "EXISTS a b",
        "TTL a*",
        "TYPE ${parameters.key}",
        "INFO memory; FLUSHALL",
        "",
        "PIИG",
    ),
]


@pytest.mark.parametrize("command", ATTACKS)
def test_a_command_that_is_not_listed_is_never_sent(
    command: str, target: Target, shop: "redis.Redis", valkey: Known
) -> None:
    """The error says what may be sent, and the server saw nothing: it counted no command."""
    calls = "total_connections_received"
    before = shop.info("stats")[calls]
    error = refused(target, command)
    assert error.reason == "InvalidRequest"
    assert shop.info("stats")[calls] == before
    assert shop.get("session:42") == "secret of a customer"


def test_every_listed_command_only_reads(shop: "redis.Redis") -> None:
    """The server's own word: none of the list is marked as a write, and of keys none gives a value."""
    for name in COMMANDS:
        words = name.lower().split()
        info = shop.execute_command("COMMAND", "INFO", "|".join(words))
        (described,) = info.values() if isinstance(info, dict) else info
        flags = {str(flag) for flag in described["flags"]}
        assert not flags & {"write", "may_replicate", "pubsub"}, name


def test_a_user_that_may_not_is_denied(target: Target, shop: "redis.Redis") -> None:
    """A user of Redis's own access lists, with less than the list."""
    shop.execute_command("ACL", "SETUSER", "checks", "reset", "on", f">{CANARY}", "+ping")
    limited = replace(target, user="checks")
    try:
        assert asks(limited, "PING").value == "PONG"
        error = refused(limited, "INFO memory")
        assert (error.reason, error.code) == ("AccessDenied", "NOPERM")
        assert "ACL SETUSER" in error.message
    finally:
        shop.execute_command("ACL", "DELUSER", "checks")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": f"wrong-{CANARY}"}, "AccessDenied"),
        ({"user": "absent"}, "AccessDenied"),
        ({"password": None}, "AccessDenied"),
        ({"port": 1}, "Unreachable"),
        ({"tls": "encrypt"}, "Timeout"),
    ],
)
def test_a_connection_that_fails_says_why_without_the_secret(
    changes: dict[str, Any], reason: str, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error nor any log line, at any level, has the password."""
    caplog.set_level(logging.DEBUG)
    assert refused(replace(target, **changes), "PING").reason == reason
    assert CANARY not in caplog.text


def test_full_client_slots_are_told_apart(target: Target, valkey: Known) -> None:
    """No room for a client is the symptom itself."""
    with contextlib.ExitStack() as held:
        for _ in range(12):
            client = held.enter_context(socket.create_connection((valkey.server.host, valkey.server.port)))
            client.settimeout(2)
        error = refused(target, "PING")
        assert error.reason == "ConnectionSlotsExhausted"
    assert wait_until(lambda: _answers(target), seconds=30)


def _answers(target: Target) -> bool:
    try:
        return bool(asks(target, "PING").value == "PONG")
    except ReadError:
        return False


def test_a_silent_server_is_cut() -> None:
    """Something that accepts and says nothing does not hold a thread."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(
            Target(host="127.0.0.1", port=silent.getsockname()[1], tls="disable"),
            "PING",
            timeout=timedelta(milliseconds=300),
        )
    assert error.reason == "Timeout"


@pytest.mark.parametrize(
    ("host", "probes"),
    [(None, Probes(hosts=("cache.example",))), ("169.254.169.254", Probes(cidrs=("0.0.0.0/0",)))],
)
def test_where_the_grant_does_not_let_it_nothing_is_sent(host: str | None, probes: Probes, target: Target) -> None:
    """The same rules as for every probe."""
    assert refused(target if host is None else replace(target, host=host), "PING", probes=probes).reason == "NotGranted"
