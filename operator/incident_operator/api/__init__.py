"""The CRD contract of `ops.shopsmart.com/v1alpha1`: frozen models, no logic."""

from .escalation import EscalationPolicy
from .grant import ActionGrant
from .incident import Incident
from .intervention import Intervention
from .meta import API_VERSION, GROUP, VERSION, KubernetesObject
from .plan import RemediationPlan
from .policy import RemediationPolicy
from .review import PostIncidentReview
from .run import IncidentRun
from .runbook import ClusterRunbook, Runbook

#: Every kind, in the order of the documentation.
KINDS: tuple[type[KubernetesObject], ...] = (
    Runbook,
    ClusterRunbook,
    IncidentRun,
    RemediationPlan,
    Intervention,
    ActionGrant,
    Incident,
    EscalationPolicy,
    PostIncidentReview,
    RemediationPolicy,
)

#: Those the operator watches.
WATCHED: tuple[type[KubernetesObject], ...] = KINDS

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "WATCHED",
    "ActionGrant",
    "ClusterRunbook",
    "EscalationPolicy",
    "Incident",
    "IncidentRun",
    "Intervention",
    "KubernetesObject",
    "PostIncidentReview",
    "RemediationPlan",
    "RemediationPolicy",
    "Runbook",
]
