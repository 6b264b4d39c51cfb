"""The process: server and election first, then, while leading, list, workers and watch.

A lost Lease ends the process at once: whoever took it must never meet a second writer. SIGTERM stops new work, waits
until the calls under way have their outcome in the journal, releases the Lease. Source: facts on kopf, section 3.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

from ..actions.catalogue import infos
from ..adapters.admission import AdmissionProof
from ..adapters.aws import Gateway, prepare
from ..adapters.clock import Clock
from ..adapters.evaluator import Evaluator
from ..adapters.kube import Kube, KubeError, NotFound
from ..adapters.locks import Locks
from ..adapters.notify import Messenger
from ..adapters.pool import Pool
from ..adapters.store import Key, Store
from ..api.plan import CallState
from ..controllers import Controller, build
from ..controllers.context import Context
from ..controllers.hearing import hear
from ..controllers.runbooks import Revisions, Runbooks
from ..core.heard import Heard
from ..settings import Settings
from .hooks import Hooks
from .leader import Leader, LeaseLost
from .metrics import Metrics, measure_leading, measure_standing
from .queue import Item, Queue
from .server import Server
from .watch import Watch

log = logging.getLogger(__name__)

EXIT_LEASE_LOST = 3
EXIT_FAILED = 1
PLAN = "RemediationPlan"


class App:
    """Everything of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = Clock()
        self._metrics = Metrics()
        self._why_not_ready: str | None = "starting"
        self._server = Server(
            self._metrics,
            lambda: self._why_not_ready,
            host=settings.http_host,
            port=settings.http_port,
            hooks=Hooks.from_environment(os.environ, self._hear, self._clock.now),
        )
        #: Only while this process leads: another one may not write.
        self._leading: Context | None = None
        self._queue = Queue(self._clock.monotonic, self._waited)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run until told to stop; return the exit code."""
        self._claim_signals()
        await self._server.start()
        try:
            kube = await Kube.connect(self._clock)
        except KubeError as error:
            log.error("%s", error)
            await self._server.stop()
            return EXIT_FAILED
        leader = Leader(kube, self._clock, self._settings)
        measure_standing(self._metrics, self._queue, leader, self._settings.workers)
        try:
            self._why_not_ready = None
            acquiring = asyncio.create_task(leader.acquire())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.to_thread(prepare)  # also while another leads: who takes over is ready for its first run
            await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not acquiring.done():
                acquiring.cancel()
                return 0
            await acquiring
            return await self._lead(kube, leader)
        finally:
            await kube.close()
            await self._server.stop()

    async def _lead(self, kube: Kube, leader: Leader) -> int:
        store, pool, evaluator = Store(), Pool(self._settings.effect_threads), Evaluator()
        admission = AdmissionProof(kube, self._clock, self._settings.operator_namespace)
        locks = Locks(kube, self._clock, self._settings.operator_namespace)
        messenger = Messenger(self._clock, kube.endpoint, loopback=self._settings.loopback_channels)
        context = Context(
            settings=self._settings,
            clock=self._clock,
            store=store,
            kube=kube,
            evaluator=evaluator,
            aws=Gateway(now=self._clock.now, scaled=self._settings.scaled),
            pool=pool,
            leader=leader,
            admission=admission,
            locks=locks,
            messenger=messenger,
            runbooks=Runbooks(infos()),
            revisions=Revisions(kube),
            enqueue=self._enqueue,
            go_on=self._go_on,
            stopping=self._stop.is_set,
        )
        controllers = build(context)
        watch = Watch(store, kube, self._enqueue, self._settings.namespaces)
        measure_leading(self._metrics, context, watch)
        kube.may_write = leader.held
        leader.watch_over(_end)
        keeping = asyncio.create_task(leader.keep())
        keeping.add_done_callback(_end_if_lost)
        try:
            await self._list(watch)
            self._leading = context
            await leader.at_least(_epoch_after(store, leader.epoch))
            watching = asyncio.create_task(watch.run(self._claim_signals))
            self._tasks.add(watching)
            for _ in range(self._settings.workers):
                self._start(self._work(controllers))
            self._start(kube.post_events())
            self._start(admission.keep_proving())
            self._start(watch.sweep(locks.sweep))
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            failed = watching.done()
            if failed:
                log.error("the watch ended", exc_info=watching.exception())
                self._stop.set()
            log.info("stopping: no new work, waiting for what is under way")
            await self._drain(store, leader)
            return EXIT_FAILED if failed else 0
        finally:
            self._leading = None
            await _cancelled(self._tasks)
            keeping.remove_done_callback(_end_if_lost)
            keeping.cancel()
            await leader.release()
            await evaluator.close()
            await messenger.close()
            pool.close()

    def _claim_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _list(self, watch: Watch) -> None:
        """List everything once, however long the API server takes to have our kinds."""
        while not self._stop.is_set():
            try:
                await watch.list_all()
            except NotFound:
                self._why_not_ready = "the CRDs are not installed: kubectl apply -f crds/"
            except KubeError as error:
                self._why_not_ready = f"the API server: {error}"
            else:
                self._why_not_ready = None
                return
            log.warning("not ready: %s", self._why_not_ready)
            await asyncio.sleep(1)

    async def _hear(self, heard: Heard) -> str | None:
        return "this replica does not lead" if self._leading is None else await hear(self._leading, heard)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    def _enqueue(self, kind: str, key: Key) -> None:
        if self._works_on(kind):
            self._queue.add((kind, key))

    def _go_on(self, kind: str, key: Key) -> None:
        if self._works_on(kind):
            self._queue.add((kind, key), begun=True)

    def _works_on(self, kind: str) -> bool:
        """Tell whether a kind is worked on now: while stopping, only plans, whose calls may be under way."""
        return kind == PLAN or not self._stop.is_set()

    async def _work(self, controllers: Mapping[str, Controller]) -> None:
        while True:
            item = await self._queue.get()
            try:
                if self._works_on(item[0]) and item[0] in controllers:
                    await self._reconcile(controllers[item[0]], item)
            finally:
                self._queue.done(item)

    async def _reconcile(self, controller: Controller, item: Item) -> None:
        kind, key = item
        began = self._clock.monotonic()
        try:
            wake_at = await controller.reconcile(key)
        except KubeError as error:
            pause = self._queue.retry(item, error.retry_after)
            self._failed(kind, error)
            log.warning("%s %s/%s: %s; again in %.1f s", kind, *key, error, pause)
        except Exception as error:
            pause = self._queue.retry(item)
            self._failed(kind, error)
            log.exception("%s %s/%s failed; again in %.1f s", kind, *key, pause)
        else:
            self._queue.succeeded(item)
            self._metrics.reconciles.labels(kind, "ok").inc()
            if wake_at is not None:
                self._queue.add_after(item, (wake_at - self._clock.now()).total_seconds() + 0.001)
        self._metrics.reconcile_seconds.labels(kind).observe(self._clock.monotonic() - began)

    def _failed(self, kind: str, error: Exception) -> None:
        self._metrics.reconciles.labels(kind, "error").inc()
        self._metrics.reconcile_errors.labels(kind, type(error).__name__).inc()

    def _waited(self, kind: str, seconds: float) -> None:
        self._metrics.queue_wait.labels(kind).observe(seconds)

    async def _drain(self, store: Store, leader: Leader) -> None:
        """Wait until everything begun is written, and every call has its outcome in its journal."""
        until = self._clock.monotonic() + self._settings.drain.total_seconds()
        while (calls := _calls_under_way(store, leader.epoch)) or self._queue.busy:
            if self._clock.monotonic() > until:
                log.warning("left to the next leader: %s", ", ".join(calls) or "what is being written")
                return
            await asyncio.sleep(0.05)


def _epoch_after(store: Store, epoch: int) -> int:
    """Return an epoch that no stored plan is ahead of: this one, or the one after the newest."""
    newest = max(((raw.get("status") or {}).get("epoch") or 0 for raw in store.all(PLAN)), default=0)
    return newest + 1 if newest > epoch else epoch


def _calls_under_way(store: Store, epoch: int) -> list[str]:
    """Return the plans whose newest call was intended in this epoch, and has no outcome in the journal yet."""
    found = []
    for raw in store.all(PLAN):
        newest = ((raw.get("status") or {}).get("calls") or [{}])[-1]
        if newest.get("state") == CallState.INTENDED and newest.get("epoch") == epoch:
            found.append(f"{raw['metadata'].get('namespace')}/{raw['metadata']['name']}")
    return found


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end_if_lost(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _end(str(error) if isinstance(error, LeaseLost) else f"{type(error).__name__}: {error}")


def _end(reason: str) -> None:
    """End the process at once, whatever else it does: no clean-up that would still write."""
    # In a thread of its own: a log that can't be written must keep nobody alive.
    telling = threading.Thread(target=log.error, args=("ending at once: %s", reason), daemon=True)
    telling.start()
    telling.join(0.5)
    os._exit(EXIT_LEASE_LOST)
