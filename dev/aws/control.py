"""What tests ask of the simulator itself, under /_sim/: health, config, journal, dump, faults, mailboxes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from . import state
from .pipeline import Pipeline
from .wire import Environ, Reply, read_body

PREFIX = "/_sim/"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Answers requests under /_sim/. Shape: `config` is how this simulator was started."""

    pipeline: Pipeline
    config: Mapping[str, Any]

    def answer(self, environ: Environ) -> Reply:
        """Return the answer. Shape: JSON always; a bad request is 400 with `error`."""
        name = environ["PATH_INFO"].removeprefix(PREFIX)
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        routes: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "health"): lambda: {"status": "ok"},
            ("GET", "config"): lambda: dict(self.config),
            ("GET", "journal"): lambda: {"calls": self.pipeline.journal.read(query)},
            ("GET", "dump"): lambda: self._dump(query["account"]),
            ("POST", "fault"): lambda: self._fault(json.loads(read_body(environ))),
            ("POST", "mailboxes"): lambda: self._tell(name, json.loads(read_body(environ))),
            ("DELETE", "fault"): lambda: self._clear(),
        }
        route = routes.get((environ["REQUEST_METHOD"], name))
        if route is None:
            known = ", ".join(f"{method} {PREFIX}{path}" for method, path in routes)
            return _json(404, {"error": f"no such thing here; there is {known}"})
        try:
            return _json(200, route())
        except (KeyError, ValueError, TypeError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    def _dump(self, account: str) -> Any:
        with self.pipeline.lock:
            self.pipeline.delayed.settle()
            found = state.dump(account)
            for service in self.pipeline.services:
                found |= service.dump(account)
            return found

    def _fault(self, wanted: Any) -> dict[str, str]:
        self.pipeline.faults.add(wanted)
        return {"status": "ok"}

    def _tell(self, what: str, wanted: Any) -> dict[str, str]:
        with self.pipeline.lock:
            if not any(service.told(what, wanted) for service in self.pipeline.services):
                raise ValueError(f"no service has {what}")
        return {"status": "ok"}

    def _clear(self) -> dict[str, str]:
        self.pipeline.faults.clear()
        return {"status": "ok"}


def _json(status: int, value: Any) -> Reply:
    body = json.dumps(value, sort_keys=True, default=str).encode()
    return Reply(status=status, headers=(("Content-Type", "application/json"),), body=body)
