"""Find the incident that a name means: its own, or that of a run at work on it."""

from ..api.incident import Incident
from ..api.run import IncidentRun
from ..core.incident import incident_name
from .cluster import Cluster, Missing
from .follow import parsed


def find_incident(cluster: Cluster, name: str) -> Incident:
    """Return an incident by its own name or that of a run. Errors: Missing that says what there is, ClusterError."""
    try:
        return _stored(cluster, name)
    except Missing:
        pass
    try:
        run: IncidentRun = parsed(IncidentRun, cluster.get("IncidentRun", cluster.namespace, name))
    except Missing:
        raise cluster.missing("Incident", cluster.namespace, name) from None
    try:
        return _stored(cluster, incident_name(run))
    except Missing:
        where = f"kubectl get escpol -n {cluster.namespace} or -n incident-system"
        hint = f"one is opened when a run starts, where there is an EscalationPolicy: {where}"
        raise Missing(f"run {name} has no incident", hint) from None


def _stored(cluster: Cluster, name: str) -> Incident:
    found: Incident = parsed(Incident, cluster.get("Incident", cluster.namespace, name))
    return found
