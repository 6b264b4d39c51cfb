"""A small API server for the commands: our kinds over real HTTP, read and written, with the faults of a real one.

It proves the client's side of the protocol (resource versions, chunked watch streams, 410, broken connections);
what a real API server answers is for the end-to-end tests.
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from incident_operator.api.kinds import KINDS
from incident_operator.api.meta import API_VERSION, KubernetesObject

_PLURALS = {kind.resource.plural: kind.resource.kind for kind in KINDS}
_ROOT = f"/apis/{API_VERSION}/"
_NAMESPACES = "/api/v1/namespaces"
_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
#: What the operator answers to a stored intervention: status, reason and message of Effective, or nothing.
Answer = Callable[[dict[str, Any]], tuple[str, str, str] | None]


class FakeApi:
    """Objects, their history, and the watches that wait for more of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._drops = 0
        self.refusal: tuple[int, str] | None = None
        self.served = True
        #: What may not be listed: namespaces, `*` for all at once, `namespaces` for their names.
        self.closed: set[str] = set()
        #: How often a next page is refused because the list is too old.
        self.stale_pages = 0
        #: How many objects each page had.
        self.pages: list[int] = []
        #: How many reads are told to come back in a moment.
        self.busy = 0
        #: What every write is refused with, if it is.
        self.write_refusal: tuple[int, str] | None = None
        #: Who asks, as the server knows them.
        self.person = "alice@shopsmart.com"
        #: What was written: method, path with query, body.
        self.writes: list[tuple[str, str, dict[str, Any]]] = []
        self.operator: Answer | None = None
        self.watch_starts = 0
        self._oldest = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.answer(self)

            def do_POST(self) -> None:
                api.write(self, "POST")

            def do_PATCH(self) -> None:
                api.write(self, "PATCH")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it)
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self.drop_watches()
        self._thread.join()

    def kubeconfig(self, folder: Path, *, namespace: str = "shopsmart") -> Path:
        """Write a kubeconfig for this server and return its path."""
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                    "users": [{"name": "someone", "user": {"token": "a-token"}}],
                    "contexts": [
                        {"name": "fake", "context": {"cluster": "fake", "user": "someone", "namespace": namespace}}
                    ],
                }
            )
        )
        return path

    def put(self, *objects: KubernetesObject) -> None:
        """Store objects: ADDED or MODIFIED for whoever watches."""
        for item in objects:
            self._store(item.wire())

    def _store(self, raw: dict[str, Any]) -> None:
        key = (raw["kind"], raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
        with self._changed:
            event = "MODIFIED" if key in self._objects else "ADDED"
            raw["metadata"]["resourceVersion"] = str(len(self._events) + 1)
            self._objects[key] = raw
            self._events.append((len(self._events) + 1, event, raw))
            self._changed.notify_all()

    def stored(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        with self._changed:
            return [raw for key, raw in self._objects.items() if key[0] == kind]

    def delete(self, item: KubernetesObject) -> None:
        """Remove an object: DELETED for whoever watches."""
        key = (item.kind, item.metadata.namespace or "", item.metadata.name)
        with self._changed:
            raw = self._objects.pop(key)
            self._events.append((len(self._events) + 1, "DELETED", raw))
            self._changed.notify_all()

    def drop_watches(self) -> None:
        """Break the connection of every watch, in the middle of the stream."""
        with self._changed:
            self._drops += 1
            self._changed.notify_all()

    def expire_watches(self) -> None:
        """Forget the history: every watch gets 410, as after a compaction."""
        with self._changed:
            self._oldest = len(self._events) + 1
            self._changed.notify_all()

    def wait_for_watches(self, count: int) -> None:
        """Return when so many watches have begun in all. Errors: TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.watch_starts >= count, timeout=60):
                raise TimeoutError(f"{self.watch_starts} watches began, not {count}")

    def write(self, request: BaseHTTPRequestHandler, method: str) -> None:
        """Answer one POST or PATCH: store it, and let the operator answer an intervention later."""
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        url = urlsplit(request.path)
        if url.path == _REVIEW:
            return _send(request, 201, {**body, "status": {"userInfo": {"username": self.person}}})
        self.writes.append((method, request.path, body))
        if self.write_refusal is not None:
            return _send(request, self.write_refusal[0], {"kind": "Status", "message": self.write_refusal[1]})
        parts = url.path.removeprefix(_ROOT).split("/")
        namespace = parts[1] if parts[0] == "namespaces" else ""
        plural, *name = parts[2:] if namespace else parts
        if method == "POST":
            number = len(self._events) + 1
            metadata = {
                **body["metadata"],
                "name": f"{body['metadata']['generateName']}{number:05}",
                "uid": f"uid-{number}",
                "creationTimestamp": "2026-01-15T14:31:00Z",
            }
            raw = {**body, "metadata": metadata}
        else:
            assert request.headers["Content-Type"] == "application/merge-patch+json"
            found = self._objects.get((_PLURALS[plural], namespace, name[0]))
            if found is None:
                details = {"kind": "Status", "message": f"{plural} {name[0]!r} not found", "details": {"name": name[0]}}
                return _send(request, 404, details)
            raw = _merged(found, body)
        self._store(raw)
        _send(request, 201 if method == "POST" else 200, raw)
        if raw["kind"] == "Intervention" and self.operator is not None:
            threading.Timer(0.05, self.answer_word, (raw, self.operator)).start()

    def answer_word(self, raw: dict[str, Any], operator: Answer) -> None:
        """Answer a stored intervention as the operator would."""
        answer = operator(raw)
        if answer is not None:
            status, reason, message = answer
            condition = {"type": "Effective", "status": status, "reason": reason, "message": message}
            conditions = [{**condition, "lastTransitionTime": "2026-01-15T14:31:01Z"}]
            self._store({**raw, "status": {"conditions": conditions, "settled": True}})

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET."""
        url = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.refusal is not None:
            return _send(request, self.refusal[0], {"kind": "Status", "message": self.refusal[1]})
        if self.busy:
            self.busy -= 1
            return _send(request, 429, {"kind": "Status", "message": "storage is (re)initializing"})
        if url.path == _NAMESPACES:
            return self._namespaces(request)
        if not url.path.startswith(_ROOT) or not self.served:
            return _send(request, 404, {"kind": "Status", "message": "the server could not find the resource"})
        parts = url.path.removeprefix(_ROOT).split("/")
        namespace = parts[1] if parts[0] == "namespaces" else ""
        plural, *name = parts[2:] if namespace else parts
        kind = _PLURALS[plural]
        if name:
            found = self._objects.get((kind, namespace, name[0]))
            missing = {"kind": "Status", "message": f"{plural} {name[0]!r} not found", "details": {"name": name[0]}}
            return _send(request, 200 if found else 404, found or missing)
        if query.get("watch"):
            return self._watch(request, kind, namespace, query)
        if (namespace or "*") in self.closed:
            return _send(request, 403, {"kind": "Status", "message": f"{plural} is forbidden: cannot list resource"})
        with self._changed:
            items = [o for key, o in self._objects.items() if _selected(key[0], o, kind, namespace, query)]
            version = str(len(self._events))
        # A real server leaves kind and apiVersion out of the items of a list.
        items = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
        begin, limit = int(query.get("continue", 0)), int(query.get("limit", len(items)))
        if begin and self.stale_pages:
            self.stale_pages -= 1
            return _send(request, 410, {"kind": "Status", "message": "The provided continue parameter is too old"})
        more = {"continue": str(begin + limit)} if begin + limit < len(items) else {}
        page = items[begin : begin + limit]
        self.pages.append(len(page))
        metadata = {"resourceVersion": version, **more}
        return _send(request, 200, {"kind": f"{kind}List", "metadata": metadata, "items": page})

    def _namespaces(self, request: BaseHTTPRequestHandler) -> None:
        if "namespaces" in self.closed:
            return _send(request, 403, {"kind": "Status", "message": "namespaces is forbidden: cannot list resource"})
        with self._changed:
            names = sorted({key[1] for key in self._objects if key[1]})
        items = [{"metadata": {"name": name}} for name in names]
        return _send(request, 200, {"kind": "NamespaceList", "metadata": {}, "items": items})

    def _watch(self, request: BaseHTTPRequestHandler, kind: str, namespace: str, query: dict[str, str]) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        at = int(query["resourceVersion"])
        ends = time.monotonic() + float(query["timeoutSeconds"])
        with self._changed:
            drops = self._drops
            self.watch_starts += 1
            self._changed.notify_all()
        while True:
            with self._changed:
                while not (len(self._events) > at or self._drops > drops or self._oldest > at):
                    if not self._changed.wait(ends - time.monotonic()):
                        request.wfile.write(b"0\r\n\r\n")
                        return
                if self._drops > drops:
                    request.close_connection = True
                    return
                gone = self._oldest > at
                news = self._events[at:]
                at = len(self._events)
            if gone:
                status = {"kind": "Status", "code": 410, "message": "too old resource version"}
                _chunk(request, {"type": "ERROR", "object": status})
                request.wfile.write(b"0\r\n\r\n")
                return
            for _, event, raw in news:
                if _selected(raw["kind"], raw, kind, namespace, query):
                    _chunk(request, {"type": event, "object": raw})


def _selected(found: str, raw: dict[str, Any], kind: str, namespace: str, query: dict[str, str]) -> bool:
    metadata = raw["metadata"]
    field, label = query.get("fieldSelector", ""), query.get("labelSelector", "")
    if found != kind or (namespace and metadata.get("namespace") != namespace):
        return False
    path, _, wanted = field.partition("=")
    if field and _at(raw, path.split(".")) != wanted:
        return False
    key, _, value = label.partition("=")
    return not label or metadata.get("labels", {}).get(key) == value


def _at(raw: Any, path: list[str]) -> Any:
    return _at(raw.get(path[0], {}), path[1:]) if path else raw


def _merged(stored: Any, patch: Any) -> Any:
    """Return an object with a merge patch applied."""
    if not isinstance(patch, dict) or not isinstance(stored, dict):
        return patch
    kept = {key: value for key, value in stored.items() if patch.get(key, value) is not None}
    return {**kept, **{k: _merged(stored.get(k, {}), v) for k, v in patch.items() if v is not None}}


def _chunk(request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
    line = json.dumps(event).encode() + b"\n"
    request.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    request.wfile.flush()


def _send(request: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
