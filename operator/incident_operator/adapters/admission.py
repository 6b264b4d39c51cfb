"""The proof that admission is on: what a person's word is worth rests on it.

An intervention counts because the API server proved its author (`manifests/admission`). Whether those policies are in
force shows in one way only: try a forged one, as a dry run, and be refused in their words. Source: design §2, gate
AdmissionUnproven; facts on the control plane.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

from ..api.meta import API_VERSION
from .clock import Clock
from .kube import Forbidden, Invalid, Kube, KubeError, NotFound, Unreachable

log = logging.getLogger(__name__)

#: With these words the policy `incident-interventions` refuses a borrowed name, and nothing else does.
REFUSAL = "people speak for themselves only"
#: How long a proof is believed, and how often it is made.
FRESH_FOR = timedelta(seconds=60)
#: A creationTimestamp is cut to the second: the object may be this much younger than it says.
_CUT = timedelta(seconds=1)
_INSTALL = "kubectl apply -k manifests/admission"


class AdmissionProof:
    """What this process knows of admission."""

    def __init__(self, kube: Kube, clock: Clock, operator_namespace: str) -> None:
        self._kube, self._clock, self._namespace = kube, clock, operator_namespace
        #: The last answer, for a metric; False before the first.
        self.proven = False
        self._at: datetime | None = None
        self._monotonic = 0.0
        self._said: str | None = ""

    async def prove(self) -> str | None:
        """Forge an intervention in the operator's namespace, as a dry run; None if it was refused in our words.

        Otherwise: why nothing is proven, and what to do. Does not raise: no answer proves nothing either.
        """
        # Before the request: what is proven is what was in force after this instant.
        at, monotonic = self._clock.now(), self._clock.monotonic()
        why = await self._try()
        self.proven = why is None
        self._at, self._monotonic = (at, monotonic) if why is None else (None, 0.0)
        if why != self._said:
            log.log(logging.INFO if why is None else logging.ERROR, "admission: %s", why or "in force")
            self._said = why
        return why

    async def in_force(self, after: datetime | None = None) -> str | None:
        """Return None if admission is proven, else why not; a proof of the last minute is enough.

        `after` is the creation of the intervention that is judged: a proof from before it says nothing about it.
        """
        if (
            self._at is not None
            and self._clock.monotonic() - self._monotonic < FRESH_FOR.total_seconds()
            and (after is None or self._at >= after + _CUT)
        ):
            return None
        return await self.prove()

    async def keep_proving(self) -> None:
        """Prove every minute until cancelled."""
        while True:
            await self.prove()
            await asyncio.sleep(FRESH_FOR.total_seconds())

    async def _try(self) -> str | None:
        path = self._kube.path("Intervention", self._namespace)
        try:
            await self._kube.request("POST", path, query={"dryRun": "All"}, body=forged(self._namespace))
        except (Forbidden, Invalid) as error:
            if REFUSAL in str(error):
                return None
            if isinstance(error, Forbidden) and "cannot create resource" in str(error):
                return (
                    f"the operator may not try it: grant its account create on interventions.ops.shopsmart.com in "
                    f"namespace {self._namespace} (manifests/base/rbac.yaml). The API server: {error}"
                )
            return (
                f"a forged intervention is refused, but not by our policy, so nothing is known of it: {_INSTALL}, and "
                f"let the other pass what is named {_NAME} in namespace {self._namespace}. The API server: {error}"
            )
        except NotFound as error:
            return f"the kinds or the namespace {self._namespace} are not there: install them first. {error}"
        except Unreachable as error:
            return f"it could not be tried: {error}"
        except KubeError as error:
            return f"it could not be tried; the API server answers {error.status}: {error}"
        return (
            "the API server takes an intervention under a borrowed name: ValidatingAdmissionPolicy "
            f"incident-interventions or its binding is not in force. Install both: {_INSTALL}"
        )


_NAME = "admission-proof"


def forged(namespace: str) -> dict[str, Any]:
    """Return an intervention whose responder nobody is. Shape: valid by its schema, so that admission is asked."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Intervention",
        "metadata": {"name": _NAME, "namespace": namespace},
        "spec": {
            "target": {"kind": "RemediationPlan", "name": _NAME, "uid": _NAME},
            "verb": "Reject",
            "responder": "nobody:incident-operator-proof",
        },
    }
