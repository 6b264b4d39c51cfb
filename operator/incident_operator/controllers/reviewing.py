"""The review of a run that ends, or of an incident that a person ends: drafted once, its facts kept current.

It is made just before the write that settles the run, for nobody would look at a settled run again. After a crash in
between, the run ends anew, finds its draft made, and only corrects the facts. `draftedAt` stands in the same write as
the draft: that it was made can't be lost, and what people write afterwards is never written over (invariant I9).
"""

import logging
from typing import Any

from pydantic import ValidationError

from ..adapters.kube import Conflict, Forbidden, Invalid, NotFound
from ..adapters.store import Key
from ..api.incident import Incident, IncidentPhase, IncidentStatus
from ..api.meta import Metadata
from ..api.plan import RemediationPlan
from ..api.review import Classification, PostIncidentReview, PostIncidentReviewSpec
from ..api.run import IncidentRun, IncidentRunStatus, Resolution
from ..core.planning import RESTORE_STATUS
from ..core.review import draft, facts, is_reviewed, review_name, undrafted
from ..core.review_by_hand import draft_by_hand, facts_by_hand, is_drafted_by_hand
from ..core.review_clock import decide_review
from ..core.run import Refusal
from .context import Context
from .resolving import Resolved

log = logging.getLogger(__name__)

KIND = "PostIncidentReview"
_TRIES = 5


async def review(
    context: Context,
    run: IncidentRun,
    ended: IncidentRunStatus,
    resolved: Resolved | Refusal,
    plans: tuple[RemediationPlan, ...],
) -> None:
    """Draft the review of a run that is about to be settled, or bring its facts up to date.

    What can't be cured by trying again (rights, CRDs of another version) is told, and keeps no run from its end.
    Errors: others of the API server, for the queue to back off.
    """
    run = run.model_copy(update={"status": ended})
    if not is_reviewed(run):
        return
    run = _as_people_rate_it(context, run)
    about = {"kind": "IncidentRun", "metadata": run.metadata.wire()}
    runbook = None if isinstance(resolved, Refusal) else resolved.runbook
    try:
        drafted = draft(run, plans, runbook, context.clock.now())
        name = await _stored(context, run, plans, drafted, runbook.incident_type if runbook else None)
    except (Forbidden, Invalid, NotFound, ValidationError) as error:
        log.exception("the review of %s/%s is not drafted", run.metadata.namespace, run.metadata.name)
        context.kube.post_event(about, "ReviewNotDrafted", f"the review can't be drafted: {error}", "Warning")
        return
    read = f"kubectl incident review -n {run.metadata.namespace} {name}"
    context.kube.post_event(about, "ReviewDrafted", f"the post-incident review is drafted, and yours to edit: {read}")


def _as_people_rate_it(context: Context, run: IncidentRun) -> IncidentRun:
    """Return a run with the severity that its incident has come to: the review is of the incident."""
    key = (run.metadata.namespace or "", review_name(run))
    incident = context.store.read("Incident", key, Incident.model_validate)
    if incident is None or incident.status.severity is None:
        return run
    severity = {"severity": incident.status.severity}
    spec = run.spec.model_copy(update={"incident": run.spec.incident.model_copy(update=severity)})
    return run.model_copy(update={"spec": spec, "status": run.status.model_copy(update=severity)})


async def _stored(
    context: Context,
    run: IncidentRun,
    plans: tuple[RemediationPlan, ...],
    drafted: PostIncidentReviewSpec,
    incident_type: str | None,
) -> str:
    """Store draft and facts, each by compare-and-swap; return the review's name."""
    namespace, name = run.metadata.namespace or "", review_name(run)
    for _ in range(_TRIES):
        try:
            raw = {**await _found_or_made(context, namespace, name, drafted), "kind": KIND}
            if raw["spec"].get("draftedAt") is None:
                written = await context.kube.add_to_spec(raw, undrafted(raw["spec"], drafted))
                raw = {**written, "kind": KIND}
            known, now = PostIncidentReview.model_validate(raw), context.clock.now()
            told = known.model_copy(
                update={"status": facts(known.status, run, plans, now, incident_type=incident_type)}
            )
            # With what its clock says of them, so that one write does.
            status = decide_review(told, now).status
            if status != known.status:
                await context.kube.write_status(raw, status.wire())
        except Conflict:  # a person writes it, too: read what they wrote
            continue
        return name
    raise Conflict(f"{KIND} {name} is written by others all the time")


async def record_end(context: Context, key: Key, incident: Incident) -> None:
    """Write into an incident's review what people said it was and how it ended; drafted where no run is going to.

    What its runs know, they write themselves when they end. Like `review`, it is made just before the write that ends
    the incident, and after a crash in between it is made again. What can't be cured by trying again is told, and keeps
    no incident from its end. Errors: others of the API server.
    """
    drafted = draft_by_hand(incident, context.clock.now()) if is_drafted_by_hand(incident) else None
    for _ in range(_TRIES):
        try:
            await _ended(context, key, incident, drafted)
        except NotFound:
            return
        except Conflict:  # its clock or a run writes it, too
            continue
        except (Forbidden, Invalid, ValidationError) as error:
            log.exception("the review of incident %s/%s is not written", *key)
            about = {"kind": "Incident", "metadata": incident.metadata.wire()}
            context.kube.post_event(about, "ReviewNotDrafted", f"the review can't be written: {error}", "Warning")
        return
    raise Conflict(f"{KIND} {key[1]} is written by others all the time")


async def _ended(context: Context, key: Key, incident: Incident, drafted: PostIncidentReviewSpec | None) -> None:
    """Store an incident's end in its review. Errors: NotFound where it has none, and others of the API server."""
    if drafted is None:
        raw = {**await context.kube.get(KIND, *key), "kind": KIND}
    else:
        raw = {**await _found_or_made(context, *key, drafted), "kind": KIND}
    known, now = PostIncidentReview.model_validate(raw), context.clock.now()
    if drafted is None or known.status.runs:
        status = known.status.model_copy(update=_said_by_people(incident.status))
    else:
        if known.spec.drafted_at is None:
            raw = {**await context.kube.add_to_spec(raw, undrafted(raw["spec"], drafted)), "kind": KIND}
            known = PostIncidentReview.model_validate(raw)
        facts_now = facts_by_hand(known.status, incident, now)
        # With what its clock says of them, so that one write does.
        status = decide_review(known.model_copy(update={"status": facts_now}), now).status
    if status != known.status:
        await context.kube.write_status(raw, status.wire())


def _said_by_people(incident: IncidentStatus) -> dict[str, Any]:
    changes: dict[str, Any] = {"severity": incident.severity}
    if incident.phase == IncidentPhase.DUPLICATE:
        changes |= {"classification": Classification.DUPLICATE, "duplicate_of": incident.duplicate_of}
    elif incident.phase == IncidentPhase.FALSE_POSITIVE:
        changes |= {"classification": Classification.FALSE_POSITIVE}
    elif incident.resolution is not None:
        changes |= {"restored_at": incident.resolution.at, "resolved_by": Resolution.MANUAL}
    return changes


async def _found_or_made(
    context: Context, namespace: str, name: str, drafted: PostIncidentReviewSpec
) -> dict[str, Any]:
    """Return the review as stored: a tombstone, one of an earlier run or, where there is none, this draft."""
    try:
        return await context.kube.get(KIND, namespace, name)
    except NotFound:
        review = PostIncidentReview(
            metadata=Metadata(name=name, namespace=namespace, annotations=RESTORE_STATUS), spec=drafted
        )
    return await context.kube.create_once(review)
