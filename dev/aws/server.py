"""The HTTP server: moto's request handler, our pipeline in front of moto's application, on loopback only."""

import os
import shutil
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from moto import backends as moto_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from . import filters, functions, permissions, storage_rules
from .clock import Clock
from .control import PREFIX, Control
from .faults import Faults
from .identity import Sessions
from .invocation import Invoker
from .journal import Journal
from .loopback import check_loopback
from .pipeline import Pipeline
from .services import Parts, Service, all_of
from .telemetry import Delayed, Metrics
from .trail import Trail
from .wire import Environ, Reply, warm
from .workers import Workers, start_forkserver


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run. Shape: `port` 0 means any free one. Units: `latency` in seconds."""

    host: str = "127.0.0.1"
    port: int = 0
    time_scale: float = 1.0
    latency: float = 0.0
    state_dir: Path | None = None


class _RequestHandler(MotoRequestHandler):
    """Keep connections open, answer without waiting for more to send, and say nothing of each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the journal has it."""


class Simulator:
    """A running simulator. Errors: ValueError for an address that is not loopback."""

    def __init__(self, settings: Settings) -> None:
        check_loopback(settings.host)
        filters.install()
        modules = frozenset(moto_backends.list_of_moto_modules())
        # moto looks at its folder for every request, which is a quarter of what one takes.
        vars(moto_backends)["list_of_moto_modules"] = lambda: modules
        functions.install()
        storage_rules.install()
        self._stopping = threading.Event()
        self._scratch = _scratch(settings.state_dir)
        lock, clock = threading.RLock(), Clock(scale=settings.time_scale)
        sessions, delayed, metrics = Sessions(now=clock.now), Delayed(clock=clock), Metrics()
        path = os.environ.get("PATH", "")
        self._workers = Workers(
            scratch=self._scratch,
            environment_of=lambda deployment, stream: invoker.environment(deployment, stream, self.url, path),
        )
        invoker = Invoker(
            clock=clock, sessions=sessions, delayed=delayed, metrics=metrics, workers=self._workers, lock=lock
        )
        self._services = all_of(
            Parts(clock=clock, delayed=delayed, metrics=metrics, lock=lock, stopping=self._stopping)
        )
        for service in self._services:
            permissions.declare(service.needs())
        self._pipeline = Pipeline(
            moto=DomainDispatcherApplication(create_backend_app),
            clock=clock,
            sessions=sessions,
            journal=Journal(),
            faults=Faults(),
            delayed=delayed,
            metrics=metrics,
            trail=Trail(delayed=delayed),
            invoker=invoker,
            lock=lock,
            stopping=self._stopping,
            services=self._services,
            latency=settings.latency,
        )
        self._server: BaseWSGIServer = make_server(
            settings.host, settings.port, self._application, threaded=True, request_handler=_RequestHandler
        )
        self.url = f"http://{settings.host}:{self._server.server_port}"
        config = {"url": self.url, "timeScale": settings.time_scale, "latencySeconds": settings.latency}
        self._control = Control(pipeline=self._pipeline, config=config)

    def serve(self) -> None:
        """Serve until `stop`."""
        threading.Thread(target=self._keep_house, daemon=True).start()
        for service in self._services:
            if service.beat is not None:
                threading.Thread(target=self._keep_service, args=(service, service.beat), daemon=True).start()
        try:
            self._server.serve_forever()
        finally:
            self._stopping.set()
            for service in self._services:
                service.close()
            self._workers.close()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def stop(self) -> None:
        """Make `serve` return."""
        self._stopping.set()
        self._server.shutdown()

    def _keep_house(self) -> None:
        start_forkserver()
        warm()
        while not self._stopping.wait(10):
            self._workers.reap()
            with self._pipeline.lock:
                self._pipeline.delayed.settle()

    def _keep_service(self, service: Service, beat: float) -> None:
        while not self._stopping.wait(beat):
            try:
                with self._pipeline.lock:
                    service.keep_house()
            except Exception:  # the log says what went wrong; health checks and the like go on
                traceback.print_exc()

    def _application(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith(PREFIX):
            reply: Reply | None = self._control.answer(environ)
        else:
            reply = self._served(environ) or self._pipeline.answer(environ)
        if reply is None:
            # No answer at all is what a caller gets whose request was lost on the way.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        head = environ["REQUEST_METHOD"] == "HEAD"
        headers = [(n, v) for n, v in reply.headers if n.lower() not in ("connection", "date", "server")]
        if not head:
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
            headers.append(("Content-Length", str(len(reply.body))))
        phrase = HTTPStatus(reply.status).phrase if reply.status in HTTPStatus._value2member_map_ else "Unknown"
        start_response(f"{reply.status} {phrase}", headers)
        return [] if head else [reply.body]

    def _served(self, environ: Environ) -> Reply | None:
        """Return what a service answers to a request that is no AWS call; None where none does."""
        if "HTTP_AUTHORIZATION" in environ:
            return None
        with self._pipeline.lock:
            return next((reply for service in self._services if (reply := service.serve(environ)) is not None), None)


def _scratch(state_dir: Path | None) -> Path:
    if state_dir is None:
        return Path(tempfile.mkdtemp(prefix="aws-simulator-"))
    state_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=state_dir))
