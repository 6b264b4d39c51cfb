"""One plan at a time for each resource: a Lease per ARN, held from before the first call until the plan has ended.

A lock does not run out: a holder that is slow must not meet a second one. It is released by its plan's end (a temporary
fix that is in force changes nothing), and swept when the plan is gone or has ended. Source: design §4 ResourceLocked,
decision 25, invariant I5.
"""

import hashlib
import logging
from typing import Any

from ..api.meta import format_instant
from ..api.plan import GateVerdict, RemediationPlan
from ..core.plan import TERMINAL
from .clock import Clock
from .kube import AlreadyExists, Conflict, Kube, KubeError, NotFound

log = logging.getLogger(__name__)

_LABEL = "ops.shopsmart.com/lock"
_ARN = "ops.shopsmart.com/arn"
_PLAN = "ops.shopsmart.com/plan"


def lock_name(account: str, arn: str) -> str:
    """Return the Lease's name of a resource. The region is the ARN's own: IAM's are one for all regions."""
    parts = arn.split(":")
    region = parts[3] if len(parts) > 3 else ""
    return "lock-" + hashlib.sha256(f"{account}/{region}/{arn}".encode()).hexdigest()[:40]


class Locks:
    """The lock Leases, in the operator's namespace."""

    def __init__(self, kube: Kube, clock: Clock, namespace: str) -> None:
        self._kube, self._clock = kube, clock
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def acquire(self, plan: RemediationPlan) -> GateVerdict | None:
        """Lock everything a plan touches, in the order of the ARNs; or nothing, and say who holds what is missing."""
        taken: list[str] = []
        for arn in sorted(set(plan.spec.touches)):
            name = lock_name(plan.spec.account, arn)
            holder = await self._take(name, arn, plan)
            if holder is not None:
                for mine in taken:
                    await self._free(mine, plan.metadata.uid)
                return GateVerdict(name="ResourceLocked", message=f"{arn} is being changed by {holder}")
            taken.append(name)
        return None

    async def release(self, plan: RemediationPlan) -> None:
        """Free whatever a plan holds."""
        for arn in sorted(set(plan.spec.touches)):
            await self._free(lock_name(plan.spec.account, arn), plan.metadata.uid)

    async def sweep(self) -> None:
        """Free the locks of plans that are gone or settled: their operator ended before it could."""
        leases = await self._kube.request("GET", self._path, query={"labelSelector": f"{_LABEL}=true"})
        for lease in leases["items"]:
            metadata = lease["metadata"]
            namespace, _, name = metadata.get("annotations", {}).get(_PLAN, "").partition("/")
            holder = lease["spec"].get("holderIdentity", "")
            if await self._is_live(namespace, name, holder):
                continue
            log.info("lock %s is left over from plan %s/%s: freed", metadata["name"], namespace, name)
            await self._delete(metadata["name"], metadata["uid"])

    async def _is_live(self, namespace: str, name: str, uid: str) -> bool:
        try:
            plan = await self._kube.get("RemediationPlan", namespace, name)
        except NotFound:
            return False
        state = (plan.get("status") or {}).get("state")
        return plan["metadata"]["uid"] == uid and state not in TERMINAL

    async def _take(self, name: str, arn: str, plan: RemediationPlan) -> str | None:
        """Create one lock. Returns who else holds it; None when it is ours."""
        namespace, plan_name = plan.metadata.namespace or "", plan.metadata.name
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": {_LABEL: "true"},
                "annotations": {_ARN: arn, _PLAN: f"{namespace}/{plan_name}"},
            },
            "spec": {
                "holderIdentity": plan.metadata.uid,
                "acquireTime": format_instant(self._clock.now())[:-1] + "000Z",
            },
        }
        while True:
            try:
                await self._kube.request("POST", self._path, body=body)
            except AlreadyExists:
                held = await self._get(name)
                if held is None:
                    continue  # freed in between
                if held["spec"].get("holderIdentity") == plan.metadata.uid:
                    return None
                return f"plan {held['metadata'].get('annotations', {}).get(_PLAN, '?')}"
            return None

    async def _free(self, name: str, uid: str) -> None:
        lease = await self._get(name)
        if lease is not None and lease["spec"].get("holderIdentity") == uid:
            await self._delete(name, lease["metadata"]["uid"])

    async def _get(self, name: str) -> dict[str, Any] | None:
        try:
            lease: dict[str, Any] = await self._kube.request("GET", f"{self._path}/{name}")
        except NotFound:
            return None
        return lease

    async def _delete(self, name: str, uid: str) -> None:
        """Delete this very Lease, not one of its name that somebody made since."""
        try:
            await self._kube.request("DELETE", f"{self._path}/{name}", body={"preconditions": {"uid": uid}})
        except (NotFound, Conflict):
            return
        except KubeError as error:
            # It is swept later; until then others wait, which is safe.
            log.warning("lock %s is not freed: %s", name, error)
