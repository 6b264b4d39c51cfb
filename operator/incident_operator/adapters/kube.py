"""The API server: reads, creates, and status writes by compare-and-swap.

A status write is a merge-patch that carries the resourceVersion it was decided on: another writer in between is a
Conflict, never a lost update. `fieldValidation=Strict` refuses a field the schema lacks, and the answer must carry
what was written. Source: facts on the control plane; kopf's own patches are no compare-and-swap.
"""

import asyncio
import hashlib
import json
import logging
import os
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from kubernetes.aio import client, config
from pydantic_core import from_json

from ..api.kinds import KINDS
from ..api.meta import API_VERSION, GROUP, VERSION, KubernetesObject, format_instant
from ..core.redact import redact, redact_json
from .clock import Clock
from .store import Raw
from .tally import Tally

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_PLURALS = {kind.resource.kind: kind.resource for kind in KINDS}
_KINDS = {
    **{kind.resource.plural: kind.resource.kind for kind in KINDS},
    "controllerrevisions": "ControllerRevision",
    "events": "Event",
    "leases": "Lease",
    "namespaces": "Namespace",
    "secrets": "Secret",
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_LABELS_FOR = 30.0
#: Objects whose Events are remembered, to raise their counts.
_TOLD_OF = 2000
#: Events that may wait to be posted.
_UNPOSTED = 1000


class KubeError(Exception):
    """An answer of the API server that is no success; `message` is its own.

    Units: `retry_after` in seconds: how long it asks to be left alone.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Conflict(KubeError):
    """Somebody else wrote in between: read again and decide again."""


class AlreadyExists(KubeError):
    """An object of this name is there."""


class NotFound(KubeError):
    """No such object."""


class Invalid(KubeError):
    """The object breaks its schema: a defect of ours."""


class Forbidden(KubeError):
    """Our account may not do this: RBAC is missing."""


class Unreachable(KubeError):
    """No answer, or one that says to come back."""


class NotLeading(KubeError):
    """A write that was not sent: this process does not surely lead any more."""


def merge_patch(before: Any, after: Any) -> dict[str, Any]:
    """Return the RFC 7386 patch that turns one JSON object into the other; empty for equal ones."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            inner = merge_patch(before[key], value)
            if inner:
                patch[key] = inner
        elif value != before[key]:
            patch[key] = value
    return patch


def carries(stored: Any, intent: Any) -> bool:
    """Tell whether a stored JSON value has all that was meant to be written; the server may add, never drop."""
    if isinstance(intent, dict):
        return isinstance(stored, dict) and all(
            (key not in stored) if value is None else (key in stored and carries(stored[key], value))
            for key, value in intent.items()
        )
    if isinstance(intent, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(intent)
            # Nearly always nothing was added, which is quickly seen.
            and (stored == intent or all(carries(a, b) for a, b in zip(stored, intent, strict=True)))
        )
    return bool(stored == intent)


class Kube:
    """One connection pool to the API server, as the operator's account."""

    def __init__(self, api: client.ApiClient, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._labels: dict[str, tuple[float, dict[str, str]]] = {}
        #: By an object's uid: the name and the count of the Event that said a reason and a message.
        self._events: OrderedDict[str, dict[tuple[str, str], tuple[str, int]]] = OrderedDict()
        #: What to say of an object, or the uid of one that nothing more is said of; and how many are of the first.
        self._posting: asyncio.Queue[tuple[Raw, str, str, str] | str] = asyncio.Queue()
        self._unposted = 0
        #: Whether this process leads: asked just before a write is sent, also when it has stood still meanwhile.
        self.may_write: Callable[[], bool] = lambda: True
        self.events_dropped = 0
        self.writes = 0
        self.conflicts = 0
        #: Requests without success, by class of error; a dry run is refused on purpose and is not counted.
        self.errors = Tally("verb", "kind", "reason")

    @classmethod
    async def connect(cls, clock: Clock) -> "Kube":
        """Connect as kubeconfig or the pod's service account says. Errors: KubeError where there is neither."""
        await _load_config()
        configuration = client.Configuration.get_default_copy()
        configuration.connection_pool_maxsize = 64
        return cls(client.ApiClient(configuration), clock)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the API server."""
        parts = urlsplit(self._api.configuration.host)
        return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
        fenced: bool = True,
    ) -> Any:
        """Make one request and return the JSON answer. Errors: KubeError of the kind that fits.

        Shape: `fenced` False is the election's own: it writes before anybody leads.
        """
        query = query or {}
        try:
            return await self._answer(method, path, query, body, content_type, timeout, fenced)
        except KubeError as error:
            if "dryRun" not in query:
                self.errors.count(*asked(method, path), type(error).__name__)
            raise

    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
        fenced: bool,
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        if fenced and method != "GET" and not self.may_write():
            raise NotLeading(f"{method} {path} is not sent: the Lease is not surely held")
        try:
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            text = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise Unreachable(f"the API server does not answer: {type(error).__name__}") from error
        if answer.status < 400:
            # Values rarely come again: the library's cache of strings would keep those of thousands of past answers.
            return from_json(text, cache_strings="keys") if text else {}
        raise _error(answer.status, text, answer.headers)

    def path(self, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL path of one of our kinds."""
        resource = _PLURALS[kind]
        middle = f"/namespaces/{namespace}" if resource.scope == "Namespaced" and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"/apis/{GROUP}/{VERSION}{middle}/{resource.plural}{tail}"

    async def get(self, kind: str, namespace: str, name: str) -> Raw:
        """Return one object. Errors: NotFound."""
        raw: Raw = await self.request("GET", self.path(kind, namespace, name))
        return raw

    async def stored(
        self, kind: str, namespace: str = "", *, field_selector: str = "", label_selector: str = ""
    ) -> AsyncIterator[Raw]:
        """Yield all objects of a kind, 500 at a time."""
        token = ""
        while True:
            query: dict[str, Any] = {"limit": 500}
            if field_selector:
                query["fieldSelector"] = field_selector
            if label_selector:
                query["labelSelector"] = label_selector
            if token:
                query["continue"] = token
            page = await self.request("GET", self.path(kind, namespace), query=query)
            for raw in page["items"]:
                yield {**raw, "kind": kind, "apiVersion": API_VERSION}
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def create(self, raw: Raw) -> Raw:
        """Create one of our objects. Errors: AlreadyExists, Invalid."""
        body = {
            **raw,
            "metadata": {k: v for k, v in raw["metadata"].items() if v not in ("", [], {}) and k != "generation"},
        }
        path = self.path(raw["kind"], raw["metadata"].get("namespace", ""))
        self.writes += 1
        created: Raw = await self.request("POST", path, query={"fieldValidation": "Strict"}, body=body)
        return created

    async def create_once(self, new: KubernetesObject) -> Raw:
        """Create an object of ours, without its status; return it, or the one that has its name already.

        Errors: those of `create` but AlreadyExists; NotFound where that one is gone again.
        """
        wire = new.wire()
        wire.pop("status", None)
        try:
            return await self.create(wire)
        except AlreadyExists:
            return await self.get(new.kind, new.metadata.namespace or "", new.metadata.name)

    async def write_status(self, stored: Raw, status: Mapping[str, Any]) -> Raw:
        """Write a status by compare-and-swap and return the object as stored, redacted (invariant I6).

        Errors: Conflict where the object is newer than `stored`, NotFound, Invalid; KubeError where the answer lacks
        what was written.
        """
        patch = redact_json(merge_patch(stored.get("status") or {}, dict(status)))
        metadata = stored["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": patch}
        self.writes += 1
        try:
            written: Raw = await self.request(
                "PATCH",
                self.path(stored["kind"], metadata.get("namespace", ""), metadata["name"], "status"),
                query={"fieldValidation": "Strict"},
                body=body,
                content_type="application/merge-patch+json",
            )
        except Conflict:
            self.conflicts += 1
            raise
        if not carries(written.get("status") or {}, patch):
            raise KubeError(f"the API server did not keep the status of {metadata['name']}: are the CRDs current?")
        return written

    async def add_to_spec(self, stored: Raw, fields: Mapping[str, Any]) -> Raw:
        """Set fields of an object's spec by compare-and-swap and return it as stored, redacted (invariant I6).

        Errors: Conflict where the object is newer than `stored`, NotFound, Invalid.
        """
        metadata = stored["metadata"]
        self.writes += 1
        written: Raw = await self.request(
            "PATCH",
            self.path(stored["kind"], metadata.get("namespace", ""), metadata["name"]),
            query={"fieldValidation": "Strict"},
            body={"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": redact_json(dict(fields))},
            content_type="application/merge-patch+json",
        )
        return written

    async def patch_metadata(
        self,
        stored: Raw,
        *,
        finalizers: Sequence[str] | None = None,
        owner_references: Sequence[Mapping[str, Any]] | None = None,
    ) -> Raw:
        """Replace an object's finalizers or owners by compare-and-swap and return it as stored.

        Errors: Conflict where the object is newer than `stored`, NotFound.
        """
        metadata = stored["metadata"]
        changes: dict[str, Any] = {"resourceVersion": metadata["resourceVersion"]}
        if finalizers is not None:
            changes["finalizers"] = list(finalizers)
        if owner_references is not None:
            changes["ownerReferences"] = [dict(owner) for owner in owner_references]
        self.writes += 1
        written: Raw = await self.request(
            "PATCH",
            self.path(stored["kind"], metadata.get("namespace", ""), metadata["name"]),
            query={"fieldValidation": "Strict"},
            body={"metadata": changes},
            content_type="application/merge-patch+json",
        )
        return written

    async def namespace_labels(self, namespace: str) -> dict[str, str]:
        """Return a namespace's labels, at most half a minute old."""
        known = self._labels.get(namespace)
        now = self._clock.monotonic()
        if known is not None and now - known[0] < _LABELS_FOR:
            return known[1]
        raw = await self.request("GET", f"/api/v1/namespaces/{namespace}")
        labels: dict[str, str] = raw["metadata"].get("labels", {})
        self._labels[namespace] = (now, labels)
        return labels

    async def load_revision(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the runbook's spec that a ControllerRevision keeps; None where it is gone."""
        try:
            raw = await self.request("GET", f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions/{name}")
        except NotFound:
            return None
        spec: dict[str, Any] = raw["data"]["spec"]
        return spec

    async def ensure_revision(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Keep a runbook's spec as a ControllerRevision; one of this name is the same by its hash."""
        body = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": name, "namespace": namespace},
            "data": {"spec": dict(spec)},
            "revision": 1,
        }
        try:
            await self.request("POST", f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions", body=body)
        except AlreadyExists:
            return

    def post_event(self, about: Raw, reason: str, message: str, type_: str = "Normal") -> None:
        """Post a Kubernetes Event soon; the same words about the same object raise its count."""
        if self._unposted >= _UNPOSTED:
            self.events_dropped += 1
            return
        self._unposted += 1
        self._posting.put_nowait((about, reason, redact(message)[:1000], type_))

    def post_no_more(self, uid: str) -> None:
        """Forget, once all is posted, what was said of an object that has ended: nobody says it again."""
        self._posting.put_nowait(uid)

    async def post_events(self) -> None:
        """Post events until cancelled. A failed post is told to the log and counted; events are no truth."""
        while True:
            said = await self._posting.get()
            if isinstance(said, str):
                self._events.pop(said, None)
                continue
            self._unposted -= 1
            about, reason, message, type_ = said
            try:
                await self.tell(about, reason, message, type_)
            except KubeError as error:
                self.events_dropped += 1
                log.warning("event %s about %s not posted: %s", reason, about["metadata"]["name"], error)

    async def tell(self, about: Raw, reason: str, message: str, type_: str = "Normal") -> None:
        """Post an Event now; the same words about the same object raise its count. Errors: those of `request`."""
        message = redact(message)[:1000]
        metadata, now = about["metadata"], format_instant(self._clock.now())[:19] + "Z"
        uid = metadata.get("uid", "")
        told = self._events.get(uid, {})
        namespace = metadata.get("namespace") or "default"
        if (reason, message) in told:
            name, count = told[reason, message]
            body = {"count": count + 1, "lastTimestamp": now}
            path = f"/api/v1/namespaces/{namespace}/events/{name}"
            try:
                await self.request("PATCH", path, body=body, content_type="application/merge-patch+json")
            except NotFound:  # Events are kept for an hour or so
                del told[reason, message]
            else:
                told[reason, message] = (name, count + 1)
                return
        tail = hashlib.sha256("/".join((uid, reason, message, now)).encode()).hexdigest()[:12]
        name = f"{metadata['name'][:200]}.{tail}"
        body = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace"),
                "uid": metadata.get("uid"),
            },
            "reason": reason,
            "message": message,
            "type": type_,
            "source": {"component": "incident-operator"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self.request("POST", f"/api/v1/namespaces/{namespace}/events", body=body)
        self._events.setdefault(uid, told)[reason, message] = (name, 1)
        while len(self._events) > _TOLD_OF:
            self._events.popitem(last=False)


def asked(method: str, path: str) -> tuple[str, str]:
    """Return verb and kind of a request, as RBAC names the one and manifests the other; never a name."""
    parts = path.strip("/").split("/")
    parts = parts[2 if parts[0] == "api" else 3 :]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    kind = _KINDS.get(parts[0], "Other") if parts else "Other"
    return _VERBS.get(method, "get" if len(parts) > 1 else "list"), kind


async def _load_config() -> None:
    try:
        # Read here: the library looks at KUBECONFIG when it is imported.
        await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            message = f"no cluster to work on: set KUBECONFIG, or run in a pod with a service account ({error})"
            raise KubeError(message) from None


def _error(status: int, text: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        answer = json.loads(text)
        message, reason = answer.get("message", ""), answer.get("reason", "")
    except ValueError:
        message, reason = text[:200].decode(errors="replace"), ""
    if status == 409:
        return (AlreadyExists if reason == "AlreadyExists" else Conflict)(message, status)
    if status == 429 or status >= 500:
        after = headers.get("Retry-After", "")
        return Unreachable(
            message or f"the API server answers {status}", status, float(after) if after.isdecimal() else 0.0
        )
    kinds = {404: NotFound, 422: Invalid, 400: Invalid, 403: Forbidden}
    return kinds.get(status, KubeError)(message, status)
