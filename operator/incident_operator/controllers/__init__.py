"""One file per kind: read, decide, persist, perform."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from ..adapters.store import Key
from .context import Context
from .incident import IncidentController
from .intervention import InterventionController
from .plan import PlanController
from .policy import PolicyController
from .review import ReviewController
from .run import RunController
from .runbook import RunbookController
from .trials import Trials


class Controller(Protocol):
    """What the queue calls."""

    async def reconcile(self, key: Key) -> datetime | None:
        """Move one object as far as it goes now; return when to look again."""
        ...


def build(context: Context) -> Mapping[str, Controller]:
    """Return the controllers by kind."""
    trials = Trials(context)
    return {
        "IncidentRun": RunController(context),
        "RemediationPlan": PlanController(context),
        "RemediationPolicy": PolicyController(context),
        "Incident": IncidentController(context),
        "Intervention": InterventionController(context),
        "PostIncidentReview": ReviewController(context),
        "Runbook": RunbookController(context, "Runbook", trials),
        "ClusterRunbook": RunbookController(context, "ClusterRunbook", trials),
    }
