"""Lease election: one replica acts. A lost Lease ends the process; it is never taken off a running one.

`leaseTransitions` grows at every acquisition, also by the same identity: it is the *epoch* that every intent carries.
Source: decision 15; the official asynchronous elector is unusable (facts on kopf, section 3).
"""

import asyncio
import logging
from datetime import timedelta
from typing import Any

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
        self._lease: dict[str, Any] | None = None
        self._until = 0.0
        self._seen: tuple[str, float] | None = None

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

    async def keep(self) -> None:
        """Renew until cancelled. Errors: LeaseLost."""
        while True:
            await asyncio.sleep(self._retry)
            try:
                if not await self._renew():
                    raise LeaseLost("another replica took the Lease")
            except Conflict as error:
                raise LeaseLost("another replica took the Lease") from error
            except KubeError as error:
                log.warning("the Lease is not renewed: %s", error)
            if not self.held():
                raise LeaseLost("the Lease could not be renewed in time")

    async def release(self) -> None:
        """Let the next replica in at once."""
        if self._lease is None or not self.held():
            return
        self._until = 0.0
        try:
            try:
                await self._put(self._let_go(self._lease))
            except Conflict:
                # A renewal that was cut off reached the server all the same: the Lease is newer, and still ours.
                newest = await self._kube.request("GET", f"{self._path}/{self._settings.lease_name}")
                if newest["spec"].get("holderIdentity") == self.holder:
                    await self._put(self._let_go(newest))
        except KubeError as error:
            log.warning("the Lease is not released, the next replica waits for it to run out: %s", error)

    @staticmethod
    def _let_go(lease: dict[str, Any]) -> dict[str, Any]:
        return {**lease, "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}

    @property
    def _retry(self) -> float:
        return self._settings.lease_duration.total_seconds() * 2 / 15

    @property
    def _held_for(self) -> float:
        return self._settings.lease_duration.total_seconds() * 2 / 3

    async def _try(self) -> bool:
        began = self._clock.monotonic()
        try:
            lease = await self._kube.request("GET", f"{self._path}/{self._settings.lease_name}")
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._settings.lease_name, "namespace": self._settings.operator_namespace},
                "spec": self._spec(1),
            }
            try:
                self._lease = await self._kube.request("POST", self._path, body=body)
            except AlreadyExists:
                return False
            self._until = began + self._held_for
            return True
        spec = lease["spec"]
        if spec.get("holderIdentity") and spec["holderIdentity"] != self.holder and not self._ran_out(lease):
            return False
        lease["spec"] = {**spec, **self._spec(int(spec.get("leaseTransitions") or 0) + 1)}
        self._lease = await self._put(lease)
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

    async def _renew(self) -> bool:
        began = self._clock.monotonic()
        if self._lease is None:
            return False
        self._lease["spec"]["renewTime"] = self._micro()
        self._lease = await self._put(self._lease)
        self._until = began + self._held_for
        return bool(self._lease["spec"]["holderIdentity"] == self.holder)

    async def _put(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Write the whole Lease by its resourceVersion. Errors: Conflict."""
        answer: dict[str, Any] = await self._kube.request(
            "PUT", f"{self._path}/{self._settings.lease_name}", body=lease
        )
        return answer

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
