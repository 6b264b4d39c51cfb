"""The CRD contract of `ops.shopsmart.com/v1alpha1`: frozen models, no logic."""

from .escalation import EscalationPolicy
from .grant import ActionGrant
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
    EscalationPolicy,
    PostIncidentReview,
    RemediationPolicy,
)

#: Those the operator watches: all but what only people read.
WATCHED: tuple[type[KubernetesObject], ...] = tuple(kind for kind in KINDS if kind is not EscalationPolicy)

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "WATCHED",
    "ActionGrant",
    "ClusterRunbook",
    "EscalationPolicy",
    "IncidentRun",
    "Intervention",
    "KubernetesObject",
    "PostIncidentReview",
    "RemediationPlan",
    "RemediationPolicy",
    "Runbook",
]
