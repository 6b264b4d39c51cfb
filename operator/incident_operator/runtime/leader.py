"""Lease election: one replica acts. A lost Lease ends the process; it is never taken off a running one.

`leaseTransitions` grows at every acquisition, also by the same identity: it is the *epoch* that every intent carries.
A Lease is lost in one of two ways: somebody else has it (`keep` finds out), or it was not renewed in time. The second
is a thread's to notice: the event loop may be busy, or wait for an answer that never comes.
Source: decision 15; the official asynchronous elector is unusable (facts on kopf, section 3).
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiohttp

from ..adapters.clock import Clock
from ..adapters.kube import AlreadyExists, Conflict, Kube, KubeError, NotFound
from ..api.meta import format_instant, parse_instant
from ..settings import Settings

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Somebody else leads, or the API server could not be told in time that we do."""


class Leader:
    """This process's side of the Lease."""

    def __init__(self, kube: Kube, clock: Clock, settings: Settings) -> None:
        self._kube, self._clock, self._settings = kube, clock, settings
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.operator_namespace}/leases"
        self._one = f"{self._path}/{settings.lease_name}"
        self._lease: dict[str, Any] | None = None
        self._until = 0.0
        self._seen: tuple[str, float] | None = None
        self._released = threading.Event()
        #: The least epoch that the next renewal writes, and that it has.
        self._floor = 0
        self._raised = asyncio.Event()

    @property
    def holder(self) -> str:
        """This process, as the Lease names it."""
        return self._settings.identity

    @property
    def name(self) -> str:
        """The name of the Lease."""
        return self._settings.lease_name

    @property
    def epoch(self) -> int:
        """The number of this acquisition; 0 before the first."""
        return int(self._lease["spec"]["leaseTransitions"]) if self._lease else 0

    def held(self) -> bool:
        """Tell whether the Lease is surely held: renewed within two thirds of its duration."""
        return self._clock.monotonic() < self._until

    async def acquire(self) -> int:
        """Wait until this process leads; return the epoch."""
        said = ""
        while True:
            try:
                if await self._try():
                    log.info("leading: lease %s, epoch %d", self._settings.lease_name, self.epoch)
                    return self.epoch
                message = "another replica leads: standing by"
            except Conflict:
                message = "another replica was faster: standing by"
            except KubeError as error:
                message = f"can't reach the Lease: {error}"
            if message != said:
                log.info(message)
                said = message
            await asyncio.sleep(self._retry)

    async def at_least(self, epoch: int) -> None:
        """Wait until the epoch of this acquisition is at least so high; the next renewal raises it.

        What is stored may be of a Lease that was lost, as after a restore: whoever leads now is newer all the same.
        """
        if self.epoch >= epoch:
            return
        log.warning("plans of epoch %d are stored, and the Lease is younger: going on as epoch %d", epoch - 1, epoch)
        self._floor = epoch
        await self._raised.wait()

    async def keep(self) -> None:
        """Renew until cancelled. Errors: LeaseLost when another replica has the Lease."""
        while True:
            await asyncio.sleep(self._retry)
            began = self._clock.monotonic()
            try:
                await self._put({"renewTime": self._micro(), "leaseTransitions": max(self.epoch, self._floor)})
            except KubeError as error:
                log.warning("the Lease is not renewed: %s", error)
            else:
                self._until = began + self._held_for
                if self.epoch >= self._floor:
                    self._raised.set()

    def watch_over(self, ended: Callable[[str], None]) -> None:
        """Have `ended` called, in a thread of its own, once the Lease was not renewed in time."""

        def watch() -> None:
            while (left := self._until - self._clock.monotonic()) > 0:
                if self._released.wait(left):
                    return
            if not self._released.is_set():
                ended("the Lease could not be renewed in time")

        threading.Thread(target=watch, name="lease-watchdog", daemon=True).start()

    async def release(self) -> None:
        """Let the next replica in at once; nothing is written under this Lease any more."""
        if self._lease is None or not self.held():
            return
        self._released.set()
        self._until = 0.0
        try:
            await self._put({"holderIdentity": "", "leaseDurationSeconds": 1})
        except (KubeError, LeaseLost) as error:
            log.warning("the Lease is not released, the next replica waits for it to run out: %s", error)
        else:
            log.info("the Lease is released")

    @property
    def _retry(self) -> float:
        return self._settings.lease_duration.total_seconds() * 2 / 15

    @property
    def _held_for(self) -> float:
        return self._settings.lease_duration.total_seconds() * 2 / 3

    @property
    def _timeout(self) -> aiohttp.ClientTimeout:
        """Of one request: there is time for two before the Lease counts as lost, over another connection."""
        return aiohttp.ClientTimeout(total=min(3.0, self._held_for / 2))

    async def _request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Make a request of the election itself, which asks nobody whether this process leads."""
        answer: dict[str, Any] = await self._kube.request(method, path, body=body, timeout=self._timeout, fenced=False)
        return answer

    async def _try(self) -> bool:
        began = self._clock.monotonic()
        try:
            lease = await self._request("GET", self._one)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._settings.lease_name, "namespace": self._settings.operator_namespace},
                "spec": self._spec(1),
            }
            try:
                self._lease = await self._request("POST", self._path, body)
            except AlreadyExists:
                return False
            self._until = began + self._held_for
            return True
        spec = lease["spec"]
        if spec.get("holderIdentity") and spec["holderIdentity"] != self.holder and not self._ran_out(lease):
            return False
        lease["spec"] = {**spec, **self._spec(int(spec.get("leaseTransitions") or 0) + 1)}
        self._lease = await self._request("PUT", self._one, lease)
        self._until = began + self._held_for
        return True

    def _ran_out(self, lease: dict[str, Any]) -> bool:
        """Tell whether a Lease stood still for its duration, by our own clock: clocks of two machines may differ."""
        spec, now = lease["spec"], self._clock.monotonic()
        mark = f"{lease['metadata']['resourceVersion']}"
        if self._seen is None or self._seen[0] != mark:
            renewed = parse_instant(spec["renewTime"]) if spec.get("renewTime") else None
            fresh = renewed is None or self._clock.now() - renewed < timedelta(hours=1)
            self._seen = (mark, now if fresh else now - 3600.0)
        return now - self._seen[1] >= float(spec.get("leaseDurationSeconds") or 15)

    async def _put(self, changes: dict[str, Any]) -> None:
        """Write into our Lease by its resourceVersion. Errors: LeaseLost; KubeError.

        A conflict may be with ourselves: the answer to an earlier write was lost. Who holds it decides.
        """
        assert self._lease is not None  # noqa: S101  (only a holder writes)
        mine = self._lease["spec"]["leaseTransitions"]
        try:
            self._lease = await self._request("PUT", self._one, {**self._lease, "spec": self._lease["spec"] | changes})
        except Conflict:
            stored = await self._request("GET", self._one)
            if (stored["spec"].get("holderIdentity"), stored["spec"].get("leaseTransitions")) != (self.holder, mine):
                raise LeaseLost("another replica took the Lease") from None
            self._lease = await self._request("PUT", self._one, {**stored, "spec": stored["spec"] | changes})
        except NotFound:
            raise LeaseLost("somebody deleted the Lease") from None

    def _spec(self, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._settings.lease_duration.total_seconds())),
            "acquireTime": self._micro(),
            "renewTime": self._micro(),
            "leaseTransitions": transitions,
        }

    def _micro(self) -> str:
        return format_instant(self._clock.now()).replace("Z", "000Z")
