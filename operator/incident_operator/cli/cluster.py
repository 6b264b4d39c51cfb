"""The API server, as a kubeconfig knows it: the objects of this group, read and written, with errors that help.

The official client reads the kubeconfig (contexts, exec plugins, certificates) and carries the requests; importing it
takes half a second, so it is imported by the commands that need it.
"""

import difflib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ..api.kinds import KINDS
from ..api.meta import API_VERSION
from .errors import CommandError

Raw = dict[str, Any]
_RESOURCES = {kind.resource.kind: kind.resource for kind in KINDS}
_CONNECT = 5.0
_ANSWER = 15.0
#: The server ends a watch after this; a connection silent for longer is dead. Seconds.
WATCH = 60


#: Who a write comes from, in `managedFields`.
_MANAGER = "kubectl-incident"
#: How many objects are asked for at a time, where all are not held.
PAGE = 500
#: How often, and after how many seconds, a server that is busy is asked again: it fills its caches at first use.
_TRIES, _PAUSE = 6, 1.0
_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class ClusterError(CommandError):
    """Why the API server gave no answer that could be used; `hint` says what to type."""


class Unreachable(ClusterError):
    """No answer, or one that says to come back."""


class Busy(Unreachable):
    """The server did not look at the request, and says to ask again in a moment."""


class Forbidden(ClusterError):
    """RBAC or admission says no."""


class Missing(ClusterError):
    """No such object."""


class Gone(ClusterError):
    """The watch's resourceVersion is too old: list again."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Objects of one kind as they were at a resourceVersion."""

    items: tuple[Raw, ...]
    resource_version: str


class Cluster:
    """One context of a kubeconfig. Thread-safe: the client's pool is."""

    def __init__(self, *, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        """Read the kubeconfig. Errors: ClusterError where there is none, or no such context."""
        from kubernetes import client, config
        from kubernetes.config.config_exception import ConfigException

        settings = client.Configuration()
        settings.retries = False
        where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            config.load_kube_config(kubeconfig, context, client_configuration=settings)
            contexts, active = config.list_kube_config_contexts(kubeconfig)
        except (ConfigException, TypeError, OSError) as error:
            hint = "set KUBECONFIG or pass --kubeconfig; `make up` writes one and names it in .dev/env"
            raise ClusterError(f"the kubeconfig {where} can't be used: {error}", hint) from error
        chosen = next((c for c in contexts if c["name"] == context), active) if context else active
        self.namespace = namespace or chosen.get("context", {}).get("namespace") or "default"
        self.server = str(settings.host)
        self._client = client.ApiClient(settings)

    def get(self, kind: str, namespace: str, name: str) -> Raw:
        """Return one object. Errors: Missing, ClusterError."""
        return self._json(f"{self._path(kind, namespace)}/{name}", kind)

    def list(self, kind: str, namespace: str | None = None, **selectors: str) -> Listing:
        """Return the objects of a namespace, or of all; selectors are query parameters. Errors: ClusterError."""
        raw = self._json(self._path(kind, namespace), kind, query=selectors)
        items = tuple({"apiVersion": API_VERSION, "kind": kind, **item} for item in raw.get("items") or ())
        return Listing(items=items, resource_version=raw.get("metadata", {}).get("resourceVersion", ""))

    def pages(self, kind: str, namespace: str | None = None) -> Iterator[tuple[Raw, ...]]:
        """Yield the objects of a namespace, or of all, page by page, so that nobody holds all of them.

        Errors: Gone when the list became too old on the way: ask for the pages anew; ClusterError.
        """
        query = {"limit": str(PAGE)}
        while True:
            raw = self._json(self._path(kind, namespace), kind, query=query)
            yield tuple({"apiVersion": API_VERSION, "kind": kind, **item} for item in raw.get("items") or ())
            rest = raw.get("metadata", {}).get("continue")
            if not rest:
                return
            query["continue"] = rest

    def namespaces(self) -> tuple[str, ...]:
        """Return the names of the cluster's namespaces. Errors: Forbidden, ClusterError."""
        raw = self._json("/api/v1/namespaces", "Namespace")
        return tuple(sorted(item["metadata"]["name"] for item in raw.get("items") or ()))

    def create(self, raw: Raw) -> Raw:
        """Create one object in its namespace and return it as stored. Errors: Forbidden, ClusterError."""
        path = self._path(raw["kind"], raw["metadata"].get("namespace"))
        query = {"fieldValidation": "Strict", "fieldManager": _MANAGER}
        return self._json(path, raw["kind"], method="POST", body=raw, query=query)

    def patch(self, kind: str, namespace: str, name: str, patch: Raw) -> Raw:
        """Merge-patch one object and return it as stored. Errors: Missing, Forbidden, ClusterError."""
        path = f"{self._path(kind, namespace)}/{name}"
        query = {"fieldValidation": "Strict", "fieldManager": _MANAGER}
        return self._json(path, kind, method="PATCH", body=patch, query=query)

    def whoami(self) -> str:
        """Return the name by which the API server knows whoever holds this kubeconfig. Errors: ClusterError."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self._json(_REVIEW, "SelfSubjectReview", method="POST", body=review)
        return str(answer["status"]["userInfo"]["username"])

    def watch(
        self, kind: str, namespace: str, since: str, *, selectors: Mapping[str, str], seconds: int = WATCH
    ) -> Iterator[tuple[str, Raw]]:
        """Yield `(ADDED | MODIFIED | DELETED, object)` until the server ends the watch, after so many seconds.

        Errors: Gone when the resourceVersion is too old, Unreachable when the connection breaks.
        """
        query = {
            "watch": "1",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **selectors,
        }
        with self._open(self._path(kind, namespace), kind, query, timeout=seconds + _ANSWER) as response:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    _refuse_event(event["object"])
                yield event["type"], event["object"]

    def missing(self, kind: str, namespace: str, name: str) -> Missing:
        """Return an error that names what is there instead, or the namespace where the object is."""
        here = sorted(item["metadata"]["name"] for item in self.list(kind, namespace).items)
        noun = _RESOURCES[kind].kind
        message = f"there is no {noun} {name!r} in namespace {namespace}"
        near = difflib.get_close_matches(name, here, n=3) or here[:5]
        if near:
            return Missing(message, f"there are: {', '.join(near)}")
        try:
            elsewhere = [i["metadata"] for i in self.list(kind).items]
        except ClusterError:
            return Missing(message, "the namespace has none; -n names another one")
        same = sorted(m["namespace"] for m in elsewhere if m["name"] == name)
        if same:
            return Missing(message, f"it is in namespace {same[0]}: add -n {same[0]}")
        others = sorted({m["namespace"] for m in elsewhere})
        hint = f"namespaces that have some: {', '.join(others[:5])}" if others else f"no namespace has any {noun}"
        return Missing(message, hint)

    def _path(self, kind: str, namespace: str | None) -> str:
        resource = _RESOURCES[kind]
        scope = f"/namespaces/{namespace}" if namespace and resource.scope == "Namespaced" else ""
        return f"/apis/{API_VERSION}{scope}/{resource.plural}"

    def _json(
        self,
        path: str,
        kind: str,
        *,
        method: str = "GET",
        body: Raw | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Raw:
        for _ in range(_TRIES - 1):
            try:
                return self._asked(path, kind, query or {}, method, body)
            except Busy:
                threading.Event().wait(_PAUSE)
        return self._asked(path, kind, query or {}, method, body)

    def _asked(self, path: str, kind: str, query: Mapping[str, str], method: str, body: Raw | None) -> Raw:
        with self._open(path, kind, query, timeout=_ANSWER, method=method, body=body) as response:
            answer: Raw = json.loads(response.read())
            return answer

    @contextmanager
    def _open(
        self,
        path: str,
        kind: str,
        query: Mapping[str, str],
        *,
        timeout: float,
        method: str = "GET",
        body: Raw | None = None,
    ) -> Iterator[Any]:
        """Yield the open answer of a request; its connection goes back to the pool, or is closed half-read."""
        from urllib3.exceptions import HTTPError

        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        method, url, headers, *_ = self._client.param_serialize(
            method, target, header_params=headers, auth_settings=["BearerToken"]
        )
        response = None
        try:
            response = self._client.call_api(method, url, headers, body, _request_timeout=(_CONNECT, timeout)).response
            if response.status >= 400:
                self._refuse(response.status, response.read(), kind, method, path)
            yield response
        except (HTTPError, OSError, ValueError) as error:
            hint = "is it running, and is this the right context? kubectl config get-contexts"
            if body is not None:
                hint = f"whether it was stored is not known: look before you say it again\n{hint}"
            raise Unreachable(f"the API server {self.server} does not answer: {_reason(error)}", hint) from error
        finally:
            if response is not None:
                response.close()

    def _refuse(self, status: int, body: bytes, kind: str, method: str, path: str) -> None:
        """Raise what an answer that is no success means."""
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        message = answer.get("message") or body.decode(errors="replace").strip()
        if status == 401:
            raise ClusterError(
                f"the API server {self.server} does not know you: {message}", "log in, or check --context"
            )
        if status == 403:
            raise Forbidden(f"the API server does not let you: {message}", "ask for the ClusterRole incident-responder")
        if status == 404 and not (answer.get("details") or {}).get("name"):
            raise ClusterError(
                f"the API server {self.server} does not serve {kind} ({API_VERSION})",
                "install the kinds: kubectl apply --server-side -k crds/",
            )
        if status == 404:
            raise Missing(message)
        if status == 410:
            raise Gone(message)
        if status == 429 or status >= 500:
            error = Busy if status == 429 else Unreachable
            raise error(f"the API server {self.server} answers {status}: {message}", "try again in a while")
        if method == "GET":
            raise ClusterError(f"the API server refuses {method} {path}: {status} {message}")
        # What it says about a write is about what was written.
        raise ClusterError(f"the API server refuses it: {message}")


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of a stream as they come."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def _refuse_event(status: Raw) -> None:
    if status.get("code") == 410:
        raise Gone(status.get("message", "too old"))
    raise Unreachable(f"the watch ended: {status.get('message', 'no reason given')}")


def _reason(error: Exception) -> str:
    """Return the shortest text that says why."""
    cause = getattr(error, "reason", None) or error.__cause__ or error
    return str(cause).split(": ", 1)[-1] or type(error).__name__
