"""The CRD contract of `ops.shopsmart.com/v1alpha1`: frozen models, no logic."""

from .grant import ActionGrant
from .meta import API_VERSION, GROUP, VERSION, KubernetesObject
from .plan import RemediationPlan
from .run import IncidentRun
from .runbook import ClusterRunbook, Runbook

#: Every kind, in the order of the documentation.
KINDS: tuple[type[KubernetesObject], ...] = (Runbook, ClusterRunbook, IncidentRun, RemediationPlan, ActionGrant)

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "ActionGrant",
    "ClusterRunbook",
    "IncidentRun",
    "KubernetesObject",
    "RemediationPlan",
    "Runbook",
]
