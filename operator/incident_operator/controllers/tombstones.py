"""What keeps a replayed manifest from acting twice: a PostIncidentReview that names the runs of an incident.

A backup that is restored, or a Git history that is applied again, brings back a run's manifest with another uid. Only
where the manifest itself says when the incident was detected can it be told from a new incident. Source: decision 3.
"""

from ..adapters.kube import Conflict
from ..api.meta import Metadata, format_instant
from ..api.review import PostIncidentReview, PostIncidentReviewSpec
from ..api.run import IncidentRun
from ..core.planning import RESTORE_STATUS
from ..core.redact import redact
from ..core.review import begun, review_name
from ..core.run import Refusal, is_observe_only
from .context import Context

KIND = "PostIncidentReview"
_TRIES = 5


async def handled(context: Context, run: IncidentRun, incident_type: str) -> Refusal | None:
    """Write down that this run acts on its incident, of this type; a refusal where one of its name did already.

    A run that changes nothing, or does not say when the incident was detected, is not written down.
    Errors: those of the API server.
    """
    incident = run.spec.incident
    if incident.ticket is None or incident.detected_at is None or is_observe_only(run):
        return None
    namespace = run.metadata.namespace or ""
    detected = format_instant(incident.detected_at)
    name = review_name(run)
    title = None if incident.title is None else redact(incident.title)
    review = PostIncidentReview(
        metadata=Metadata(name=name, namespace=namespace, annotations=RESTORE_STATUS),
        spec=PostIncidentReviewSpec(ticket=incident.ticket, detected_at=incident.detected_at, title=title),
    )
    stored = await context.kube.create_once(review)
    for _ in range(_TRIES):
        known = PostIncidentReview.model_validate(stored)
        same = next((r for r in known.status.runs if r.name == run.metadata.name), None)
        if same is not None and same.uid != run.metadata.uid:
            message = (
                f"a run {same.name} handled this incident ({incident.ticket}, detected {detected}) from "
                f"{format_instant(same.started_at)} on; nothing is done twice: for a new incident write its own "
                "detectedAt, to go on with this one use another name"
            )
            return Refusal(reason="AlreadyHandled", message=message)
        if same is not None:
            return None
        try:
            status = begun(known.status, run, incident_type, context.clock.now())
            await context.kube.write_status({**stored, "kind": KIND}, status.wire())
        except Conflict:
            stored = await context.kube.get(KIND, namespace, name)
            continue
        return None
    raise Conflict(f"{KIND} {name} is written by others all the time")
