"""The part of a department that lives outside AWS: a process of the stack's that begins with the first fault.

It holds what no call to AWS makes: hosts with connections of their own, their customers, a database. The process is
recorded as the stack's others are, so `make down` ends it. It is asked over HTTP on this machine's own address.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

from dev.controlplane.certificates import write_private
from dev.loopback import address
from dev.processes import Daemon, recorded
from dev.stack import SHOP_PROCESS, SOURCES, stamp

from .shop import Shop, ShopError

READY_SECONDS = 120.0
#: What is asked may wait for customers to be refused.
_ANSWER_SECONDS = 180.0
Answer = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a process offers. Shape: `answers` by word, each from and to what JSON can say; `told` is what it is."""

    answers: Mapping[str, Answer]
    told: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Living:
    """One department's process, as commands see it."""

    name: str
    state_dir: Path

    @property
    def file(self) -> Path:
        """Where it writes down how it is reached, and what else is to be known of it; for its owner alone."""
        return self.state_dir / f"{SHOP_PROCESS}{self.name}.json"

    def daemon(self, shop: Shop) -> Daemon:
        """Return the process, which is outdated once its sources or the simulator's life are others."""
        command = [sys.executable, "-m", "dev.shop", "live", self.name, "--state-dir", str(self.state_dir)]
        aws = next((str(d.pid()) for d in recorded(self.state_dir) if d.name == "aws"), "")
        env = {
            **SOURCES,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Not the caller's: a command from another shell must not take it for outdated.
            "NO_PROXY": address(),
        }
        outdated = stamp(f"dev/shop/{self.name}", "dev/shop/living.py") + aws + shop.endpoint
        return Daemon(name=SHOP_PROCESS + self.name, command=command, state_dir=self.state_dir, env=env, stamp=outdated)

    def is_alive(self, shop: Shop) -> bool:
        """Tell whether it runs as it should."""
        return self.daemon(shop).is_current() and self.file.exists()

    def begin(self, shop: Shop) -> None:
        """Start it unless it runs, and wait until it can be asked. Errors: dev.processes.StartError."""
        if self.is_alive(shop):
            return
        daemon = self.daemon(shop)
        daemon.stop()
        self.file.unlink(missing_ok=True)
        daemon.start()
        daemon.wait_ready(self.file.exists, seconds=READY_SECONDS)

    def end(self) -> None:
        """End it."""
        Daemon(name=SHOP_PROCESS + self.name, command=(), state_dir=self.state_dir).stop()
        self.file.unlink(missing_ok=True)

    def told(self) -> dict[str, Any]:
        """Return what it wrote down. Errors: ShopError where it does not run."""
        if not self.file.exists():
            raise ShopError(f"the {self.name} do not run: break a fault of theirs first")
        return dict(json.loads(self.file.read_text()))

    def ask(self, word: str, **arguments: Any) -> Any:
        """Ask it, and return its answer. Errors: ShopError."""
        url = f"{self.told()['url']}/{word}"
        try:
            answer = urllib3.request("POST", url, json=arguments, timeout=_ANSWER_SECONDS, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise ShopError(f"the {self.name} do not answer ({type(error).__name__}): see their log in logs/") from None
        said = answer.json()
        if answer.status != 200:
            raise ShopError(f"the {self.name}: {said}")
        return said


def live(name: str, state_dir: Path, begun: "contextlib.AbstractContextManager[Life]") -> None:
    """Be a department's process until told to stop."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    file = Living(name=name, state_dir=state_dir).file
    with begun as life, _served(life) as url:
        write_private(file, json.dumps({**life.told, "url": url}) + "\n")
        try:
            stopped.wait()
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _served(life: Life) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = life.answers.get(self.path.removeprefix("/"))
            try:
                status, said = (404, "nobody knows that word") if answer is None else (200, answer(json.loads(body)))
            except Exception as error:  # whoever asked is told, and the hosts live on
                status, said = 500, f"{type(error).__name__}: {error}"
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the log is for what goes wrong."""

    server = ThreadingHTTPServer((address(), 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="asked", daemon=True)
    thread.start()
    try:
        yield f"http://{address()}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
