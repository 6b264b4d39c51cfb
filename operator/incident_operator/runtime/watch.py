"""What changed: kopf's `on.event` feeds the store and the queue, and does nothing else.

kopf is used for watching, authentication and its life cycle only; its timers, daemons, patches and peering are not
(facts on kopf say why). Settled runs, plans, words and reviews are in no watch, list or memory: a field selector leaves
them out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from ..adapters.kube import Kube, KubeError
from ..adapters.store import Key, Store, key_of
from ..adapters.tally import Tally
from ..api.kinds import WATCHED
from ..api.meta import GROUP, VERSION, KubernetesObject

log = logging.getLogger(__name__)

UNSETTLED = "status.settled!=true"
SETTLING = frozenset({"Incident", "IncidentRun", "RemediationPlan", "Intervention", "PostIncidentReview"})
#: What a watch by field selector can't see coming back, so that it is looked for whenever everything is listed: who
#: takes a review up again writes its spec, and its status says that it is settled until the operator has seen it.
REOPENED = {"PostIncidentReview": ("status.settled=true,spec.complete!=true",)}
#: Kinds whose change may let runs start or go on.
REFERRED = frozenset({"Runbook", "ClusterRunbook", "ActionGrant"})
SWEEP_SECONDS = 300.0


class _NothingStored(kopf.DiffBaseStorage):
    """No last-handled state: nothing here asks kopf for differences, and it would copy every object to find them."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Return that nothing of an object counts."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """Return that nothing is known of before."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""


class _NoProgress(kopf.ProgressStorage):
    """No progress of handlers: ours keep none, and kopf would copy every object to leave it out."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """Return that no handler has begun."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Store nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Purge nothing."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Return what is there."""
        return essence


class Watch:
    """Keeps the store current and asks for reconciles."""

    def __init__(
        self, store: Store, kube: Kube, enqueue: Callable[[str, Key], None], namespaces: tuple[str, ...]
    ) -> None:
        self._store, self._kube, self._enqueue, self._namespaces = store, kube, enqueue, namespaces
        self.seen = Tally("kind", "type")

    async def list_all(self) -> None:
        """Fill the store, so that nothing is decided on half of what there is, and ask for everything.

        Errors: KubeError.
        """
        for kind in WATCHED:
            await self._list(kind)

    async def sweep(self, leftovers: Callable[[], Awaitable[None]]) -> None:
        """List again every few minutes, until cancelled: finds what a broken watch missed.

        `leftovers` frees what operators left behind that ended before they could; first at once.
        """
        listed = True
        while True:
            try:
                await leftovers()
                if not listed:
                    await self.list_all()
            except KubeError as error:
                log.warning("the sweep is left out this time: %s", error)
            listed = False
            await asyncio.sleep(SWEEP_SECONDS)

    async def _list(self, kind: type[KubernetesObject]) -> None:
        name = kind.resource.kind
        found: set[Key] = set()
        scopes = self._namespaces if kind.resource.scope == "Namespaced" and self._namespaces else ("",)
        for namespace in scopes:
            selectors = (UNSETTLED if name in SETTLING else "", *REOPENED.get(name, ()))
            for selector in selectors:
                async for raw in self._kube.stored(name, namespace, field_selector=selector):
                    found.add(key_of(raw))
                    if self._store.put(name, raw):
                        self._enqueue(name, key_of(raw))
        for raw in self._store.all(name):
            if key_of(raw) not in found:
                self._store.gone(name, key_of(raw))
                self._enqueue(name, key_of(raw))

    def took(self, kind: str, event: str | None, raw: dict[str, Any]) -> None:
        """Take note of one event."""
        # An event without a type is of the list that a watch begins with.
        self.seen.count(kind, event or "LISTED")
        raw = {**raw, "kind": kind}
        key = key_of(raw)
        if event == "DELETED":
            self._store.gone(kind, key)
        elif not self._store.put(kind, raw):
            return
        self._enqueue(kind, key)
        if kind == "RemediationPlan":
            self._enqueue("IncidentRun", (key[0], raw["spec"]["runRef"]["name"]))
        if kind == "IncidentRun":  # its policy counts how it ended
            for owner in raw["metadata"].get("ownerReferences", ()):
                if owner["kind"] == "RemediationPolicy":
                    self._enqueue("RemediationPolicy", (key[0], owner["name"]))
        if kind in REFERRED:
            for run in self._store.all("IncidentRun"):
                if not (run.get("status") or {}).get("startedAt"):
                    self._enqueue("IncidentRun", key_of(run))
        if kind == "EscalationPolicy":
            for incident in self._store.all("Incident"):
                self._enqueue("Incident", key_of(incident))
            for runbooks in ("Runbook", "ClusterRunbook"):  # those on call review the ones that name nobody
                for runbook in self._store.all(runbooks):
                    self._enqueue(runbooks, key_of(runbook))
        if kind == "ActionGrant":  # halted, or let go on
            for plan in self._store.all("RemediationPlan"):
                self._enqueue("RemediationPlan", key_of(plan))

    async def run(self, spawned: Callable[[], None]) -> None:
        """Watch until cancelled; `spawned` is called once kopf has taken the signal handlers, to take them back.

        Errors: kopf's own, on long trouble with the API.
        """
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        settings.peering.standalone = True
        settings.posting.enabled = False
        settings.queueing.idle_timeout = 0.5
        settings.watching.chunk_size = 500
        settings.watching.server_timeout = 300
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 5
        settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21)
        settings.scanning.disabled = True
        settings.persistence.diffbase_storage = _NothingStored()
        settings.persistence.progress_storage = _NoProgress()

        @kopf.on.login(registry=registry)
        def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)

        for kind in WATCHED:
            if kind.resource.kind in SETTLING:
                settings.watching.field_selectors[kind.resource.plural] = UNSETTLED
            self._handle(registry, kind.resource.kind, kind.resource.plural)
        # Not `kopf.operator`: at its end it waits for every task of the process, ours too, and then cancels them.
        tasks = await kopf.spawn_tasks(
            registry=registry, settings=settings, clusterwide=not self._namespaces, namespaces=self._namespaces
        )
        spawned()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    def _handle(self, registry: kopf.OperatorRegistry, kind: str, plural: str) -> None:
        @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=kind)
        async def handle(event: Any, **_: Any) -> None:
            self.took(kind, event["type"], dict(event["object"]))
