"""Find the incident that a name means: its own, or that of a run at work on it."""

from ..api.incident import Incident
from ..api.run import IncidentRun
from ..core.incident import incident_name
from .cluster import Cluster, Missing
from .follow import parsed


def find_incident(cluster: Cluster, name: str) -> Incident:
    """Return an incident by its own name or that of a run. Errors: Missing that says what there is, ClusterError."""
    found = incident_or_run(cluster, name, Incident.resource.kind)
    if isinstance(found, Incident):
        return found
    where = f"kubectl get escpol -n {cluster.namespace} or -n incident-system"
    hint = f"one is opened when a run starts, where there is an EscalationPolicy: {where}"
    raise Missing(f"run {name} has no incident", hint)


def incident_or_run(cluster: Cluster, name: str, kind: str) -> Incident | IncidentRun:
    """Return the incident of a name, or of a run; the run where no incident was opened for it.

    Errors: Missing that says what there is of a kind, where there is neither; ClusterError.
    """
    try:
        return _stored(cluster, name)
    except Missing:
        pass
    try:
        run: IncidentRun = parsed(IncidentRun, cluster.get("IncidentRun", cluster.namespace, name))
    except Missing:
        raise cluster.missing(kind, cluster.namespace, name) from None
    try:
        return _stored(cluster, incident_name(run))
    except Missing:
        return run


def _stored(cluster: Cluster, name: str) -> Incident:
    found: Incident = parsed(Incident, cluster.get("Incident", cluster.namespace, name))
    return found
