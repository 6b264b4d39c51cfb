"""Every kind of the group. Apart from the package, so that who needs one of them does not load them all."""

from .escalation import EscalationPolicy
from .grant import ActionGrant
from .incident import Incident
from .intervention import Intervention
from .meta import KubernetesObject
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
