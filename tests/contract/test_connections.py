"""A run's connections: which Secrets are taken, what is wrong with the others, and how many connect at a time."""

import base64
import socket
import threading
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from dev.loopback import free_ports
from incident_operator.actions.ports import ReadError
from incident_operator.adapters import probe
from incident_operator.adapters.connections import SECRET_TYPE, Connections, Slots, Target
from incident_operator.api.grant import Probes
from tests.contract.conftest import CANARY


def connections(data: Mapping[str, str], type_: str = SECRET_TYPE) -> Connections:
    """Return connections whose one Secret, `shopsmart-db`, holds this."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return Connections({"database": "shopsmart-db"}, lambda name: {"type": type_, "data": encoded}, Slots())


def refused(data: Mapping[str, str], *, type_: str = SECRET_TYPE, name: str = "database") -> ReadError:
    """Return why a Secret is not taken; nothing that is in it is told."""
    with pytest.raises(ReadError) as caught:
        connections(data, type_).target(name, "PostgreSQL")
    assert CANARY not in f"{caught.value!r} {caught.value.message}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_a_url_is_read_into_its_parts() -> None:
    """Percent signs decoded; TLS that proves the server unless it says otherwise."""
    url = f"postgresql://reader:{CANARY}%2F%40@db.shop:6432/orders"
    assert connections({"url": url}).target("database", "PostgreSQL") == Target(
        host="db.shop", port=6432, user="reader", password=f"{CANARY}/@", database="orders", tls="verify"
    )


def test_keys_are_read_too() -> None:
    """The same in single keys, with the default port."""
    target = connections({"host": "cache.shop", "password": CANARY, "tls": "disable"}).target("database", "Redis")
    assert target == Target(host="cache.shop", port=6379, password=CANARY, tls="disable")


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("postgresql://h/d?sslmode=require", "encrypt"),
        ("postgresql://h/d?sslmode=disable", "disable"),
        ("postgres://h/d", "verify"),
    ],
)
def test_tls_is_what_the_url_says(url: str, tls: str) -> None:
    """`prefer` is not on the list: it falls back to plain text."""
    assert connections({"url": url}).target("database", "PostgreSQL").tls == tls


def test_a_target_shows_its_place_only() -> None:
    """Whoever prints it."""
    target = connections({"url": f"postgresql://{CANARY}:{CANARY}@h/{CANARY}"}).target("database", "PostgreSQL")
    assert (
        f"{target!r} {target}" == "Target(host='h', port=5432, tls='verify') Target(host='h', port=5432, tls='verify')"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"url": f"mysql://u:{CANARY}@h/d"}, "postgres://"),
        ({"url": f"postgresql://u:{CANARY}@h:port/d"}, "can't be read"),
        ({"url": f"postgresql://u:{CANARY}@h/d?sslmode=prefer"}, "sslmode="),
        ({"url": f"postgresql://u:{CANARY}@h/d?options=-c%20x=y"}, "nothing else"),
        ({"url": f"postgresql://u:{CANARY}@h1,h2/d"}, "one name"),
        ({"host": "/var/run/postgresql", "password": CANARY}, "one name"),
        ({"host": "h", "port": CANARY}, "port"),
        ({"host": "h", "tls": CANARY}, "tls"),
        ({"host": "h", "ca.crt": CANARY}, "PEM"),
        ({"host": "h", "service": CANARY}, "'service'"),
        ({"password": CANARY}, "host"),
    ],
)
def test_a_wrong_secret_is_named_without_what_is_in_it(data: dict[str, str], message: str) -> None:
    """The Secret's name, the key, and what it must be."""
    error = refused(data)
    assert error.reason == "ConnectionInvalid"
    assert "shopsmart-db" in error.message
    assert message in error.message


def test_only_secrets_of_our_type_are_opened() -> None:
    """A run must not point the operator at any Secret that happens to be readable."""
    error = refused({"host": "h", "password": CANARY}, type_="Opaque")
    assert error.reason == "ConnectionInvalid"
    assert SECRET_TYPE in error.message


def test_a_connection_that_the_run_does_not_name() -> None:
    """With what to add."""
    error = refused({}, name="cache")
    assert error.reason == "ConnectionMissing"
    assert "spec.connections.cache.secretRef.name" in error.message


def test_a_target_is_asked_by_two_at_a_time() -> None:
    """The operator must not be what fills the slots; others wait for their turn, and not for ever."""
    slots, entered = Slots(per_target=2), threading.Semaphore(0)
    release = threading.Event()

    def hold() -> None:
        with slots.taken("db:5432", seconds=1):
            entered.release()
            release.wait(10)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(entered.acquire(timeout=5) for _ in threads)
        with pytest.raises(ReadError, match="db:5432") as caught, slots.taken("db:5432", seconds=0.05):
            pass
        assert caught.value.reason == "Timeout"
        with slots.taken("other:5432", seconds=0.05):
            pass
    finally:
        release.set()
        for thread in threads:
            thread.join()
    with slots.taken("db:5432", seconds=1):
        pass


def test_tcp_tells_refusal_from_connection() -> None:
    """A port that listens, and one that does not."""
    admitted: dict[str, Any] = {"timeout": timedelta(seconds=10), "api_server": None}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        began = monotonic()
        took = probe.connect("127.0.0.1", port, Probes(cidrs=("127.0.0.0/8",)), **admitted)
        assert timedelta() < took <= timedelta(seconds=monotonic() - began)
        with pytest.raises(ReadError) as caught:
            probe.connect("127.0.0.1", port, Probes(hosts=("elsewhere",)), **admitted)
        assert caught.value.reason == "NotGranted"
        with pytest.raises(ReadError) as caught:
            probe.connect(
                "127.0.0.1",
                port,
                Probes(cidrs=("127.0.0.0/8",)),
                timeout=timedelta(seconds=10),
                api_server=("localhost", port),
            )
        assert "API server" in caught.value.message
    (closed,) = free_ports("127.0.0.1", 1)
    with pytest.raises(ReadError) as caught:
        probe.connect("127.0.0.1", closed, Probes(cidrs=("127.0.0.0/8",)), **admitted)
    assert caught.value.reason == "Refused"


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("0.0.0.1", "::", "224.0.0.1", "ff02::1", "fe80::1", "255.255.255.255"),
    ],
)
def test_no_grant_admits_a_metadata_address(host: str) -> None:
    """In no notation."""
    widest = Probes(hosts=(host,), cidrs=("0.0.0.0/0", "::/0"))
    with pytest.raises(ReadError) as caught:
        probe.admitted_address(host, 80, widest)
    assert caught.value.reason == "NotGranted"
