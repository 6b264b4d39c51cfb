"""What an endpoint answers: its shape, numbers and tokens are kept, whatever it sends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dev.loopback import address
from incident_operator.actions.ports import ReadError
from incident_operator.adapters.probe import get
from incident_operator.api.grant import Probes

_SECONDS = timedelta(seconds=5)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """Serve one body; yield its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((address(), 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address()}:{server.server_port}/health"
        server.shutdown()


@pytest.fixture
def asks() -> Callable[[bytes], Any]:
    """Return what is kept of a body."""

    def ask(body: bytes) -> Any:
        with answering(body) as url:
            return get(url, Probes(hosts=(address(),)), timeout=_SECONDS, parse_json=True).json

    return ask


def test_only_tokens_of_an_answer_are_kept(asks: Callable[[bytes], Any]) -> None:
    """Texts that anybody wrote are null, and so is what looks like a password (decision 19)."""
    body = b'{"status": "ok", "up": true, "n": 3, "note": "call Eve", "key": "x7Kp2mQv9LsT4hRw8ZcN3bYd", "a b": 1}'
    assert asks(body) == {"status": "ok", "up": True, "n": 3, "note": None, "key": None}


def test_numbers_are_those_that_a_status_can_hold(asks: Callable[[bytes], Any]) -> None:
    """What the API server would refuse, or store as another, would keep the run from being written."""
    body = b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 123456789012345678901234567890, "e": 1.5}'
    assert asks(body) == {"a": None, "b": None, "c": None, "d": None, "e": 1.5}


@pytest.mark.parametrize("body", [b"[" * 60_000, b"[" * 100 + b"]" * 100, b'{"a":' * 17 + b"1" + b"}" * 17, b"<html>"])
def test_an_answer_that_can_not_be_read_is_an_error(body: bytes, asks: Callable[[bytes], Any]) -> None:
    """An endpoint nests as deep as it likes: the check ends, not the operator."""
    with pytest.raises(ReadError) as refused:
        asks(body)
    assert refused.value.reason == "MalformedAnswer"
