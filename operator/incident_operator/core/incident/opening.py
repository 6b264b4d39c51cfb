"""Which incident a run is of, and how one is opened for a run that names none."""

from ...api.incident import Incident, IncidentSpec
from ...api.meta import Metadata
from ...api.run import IncidentRun
from ..planning import RESTORE_STATUS
from ..redact import redact
from ..review import review_name
from ..run import detected_at, is_observe_only


def has_incident(run: IncidentRun) -> bool:
    """Tell whether people are to be told of a run's incident: of one that only looks around, nobody is."""
    details = run.spec.incident
    return details.name is not None or details.ticket is not None or not is_observe_only(run)


def incident_name(run: IncidentRun) -> str:
    """Return the name of a run's incident, which is that of its review, too.

    Shape: the one it names; else runs with the same ticket and the same written detection are of one incident.
    """
    return review_name(run)


def incident_of(run: IncidentRun) -> Incident:
    """Return the incident to open for a run, with what the run says of it; redacted, for titles are free text."""
    details = run.spec.incident
    return Incident(
        metadata=Metadata(name=incident_name(run), namespace=run.metadata.namespace, annotations=dict(RESTORE_STATUS)),
        spec=IncidentSpec(
            title=redact(details.title or run.metadata.name)[:256],
            ticket=details.ticket,
            severity=details.severity,
            # Written, not derived again later: a restored object is created anew.
            detected_at=detected_at(run, run.metadata.creation_timestamp) if run.metadata.creation_timestamp else None,
            drill=run.spec.drill,
        ),
    )
