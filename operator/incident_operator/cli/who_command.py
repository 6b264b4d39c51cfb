"""`kubectl incident who`: whom the EscalationPolicy wants told of an incident, when, and who was. Nothing is sent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from ..adapters.clock import Clock
from ..api.escalation import Contact, EscalationPolicy
from ..api.incident import Incident
from ..api.meta import Severity, format_instant
from ..api.run import IncidentRun, RunPhase
from ..core.calendar import UnknownTimeZone
from ..core.escalation import (
    Engagement,
    Page,
    SeverityChange,
    Standing,
    engagements,
    next_page,
    respond_by,
    rung_starts,
    standing,
)
from ..core.incident import detected_at as incident_detected_at
from ..core.redact import redact_json
from ..core.run import detected_at
from ..settings import OPERATOR_NAMESPACE
from .cluster import Cluster, ClusterError, Forbidden, Missing
from .errors import CommandError
from .follow import parsed
from .incident_view import closing, facts, messages
from .incidents import incident_or_run
from .text import clean, length

POLICY = "default"


@dataclass(frozen=True, kw_only=True)
class Told:
    """Everything the page says, computed once."""

    about: IncidentRun | Incident
    policy: EscalationPolicy
    severity: Severity
    detected_at: datetime
    now: datetime
    respond_by: datetime
    standing: Standing
    rungs: tuple[Page, ...]
    page: Page | None

    @property
    def resolved(self) -> bool:
        """Tell whether the incident is over: it is shown as it stood then."""
        return over_at(self.about) is not None


def over_at(about: IncidentRun | Incident) -> datetime | None:
    """Return when it was over; None while it is not."""
    if isinstance(about, Incident):
        return about.status.times.resolved
    return about.status.finished_at if about.status.phase == RunPhase.RESOLVED else None


def show_who(cluster: Cluster, name: str, *, output: str, clock: Clock | None = None) -> None:
    """Print who is to be told. Errors: Missing where there is nothing of that name or no policy, ClusterError."""
    about = incident_or_run(cluster, name, IncidentRun.resource.kind)
    policy = _policy(cluster)
    try:
        told = tell(about, policy, (clock or Clock()).now())
    except UnknownTimeZone as error:
        where = f"kubectl edit escpol -n {policy.metadata.namespace} {policy.metadata.name}"
        raise CommandError(f"spec.timeZone: {error}", where) from error
    if output == "json":
        click.echo(json.dumps(redact_json(document(told)), indent=2))
        return
    for text in lines(told):
        click.echo(text)


def tell(about: IncidentRun | Incident, policy: EscalationPolicy, now: datetime) -> Told:
    """Return who is to be told as of now, or as of the end where it is over. Errors: UnknownTimeZone."""
    spec, changes, acknowledged = policy.spec, list[SeverityChange](), None
    if isinstance(about, Incident):
        first, detected = about.spec.severity, incident_detected_at(about, now)
        changes = [SeverityChange(severity=s.severity, at=s.at) for s in about.status.severities[1:]]
        severity, acknowledged = about.status.severity or first, about.status.acknowledged_at
    else:
        first = severity = about.status.severity or about.spec.incident.severity
        detected = detected_at(about, now)
    over = over_at(about)
    found = engagements(spec, first, detected, changes)
    paged = next((e for e in found if spec.paging and e.role.name == spec.paging.role), None)
    return Told(
        about=about,
        policy=policy,
        severity=severity,
        detected_at=detected,
        now=over or now,
        respond_by=respond_by(severity, detected, spec),
        standing=standing(found, over or now),
        rungs=rung_starts(spec, severity, paged.at) if paged and acknowledged is None else (),
        page=next_page(spec, severity, paged.at, now, acknowledged) if paged and over is None else None,
    )


def _policy(cluster: Cluster) -> EscalationPolicy:
    """Return the policy of the namespace, else that of the operator's. Errors: Missing, ClusterError."""
    kind = EscalationPolicy.resource.kind
    for namespace in (cluster.namespace, OPERATOR_NAMESPACE):
        try:
            found: EscalationPolicy = parsed(EscalationPolicy, cluster.get(kind, namespace, POLICY))
            return found
        except Missing:
            continue
        except Forbidden as error:
            hint = (
                f"ask for the right to get escalationpolicies in {namespace} (ClusterRole incident-viewer),\n"
                f"or put an EscalationPolicy {POLICY} into namespace {cluster.namespace}"
            )
            raise ClusterError(str(error), hint) from error
    raise Missing(
        f"there is no EscalationPolicy {POLICY} in namespace {cluster.namespace} or {OPERATOR_NAMESPACE}",
        f"apply the shipped one: kubectl apply -n {cluster.namespace} -f manifests/base/escalation-policy.yaml",
    )


def lines(told: Told) -> Iterator[str]:
    """Yield the page, line by line."""
    about, policy, now = told.about, told.policy, told.now
    yield f"{about.metadata.namespace}/{about.metadata.name}  {told.severity}  {_title(about)}".rstrip()
    if isinstance(about, Incident):
        yield from facts(about)
    where = f"{policy.metadata.namespace}/{policy.metadata.name}"
    yield f"policy    {where}, {clean(policy.spec.time_zone)}: whom it wants told; nothing is sent by this command"
    yield f"detected  {_when(told.detected_at, now)}"
    yield f"respond   by {_when(told.respond_by, now)}"
    if told.resolved:
        yield f"resolved  {_when(now, now)}: as it stood then; nobody else has to be told"
    yield ""
    yield from _table(told)
    if told.rungs:
        yield ""
        yield from _ladder(told)
    if isinstance(about, Incident):
        yield from messages(about)
        yield from closing(about)


def _title(about: IncidentRun | Incident) -> str:
    if isinstance(about, Incident):
        return clean(about.spec.title)
    return clean(about.spec.incident.title or about.spec.incident.name or "")


def _table(told: Told) -> Iterator[str]:
    rows = [("ROLE", "STATE", "FROM", "RULE", "CONTACT")]
    for engagement, state in _stated(told):
        since = _when(engagement.at, told.now)
        contacts = "; ".join(map(reached, _contacts(told, engagement))) or "none in the policy: add to spec.contacts"
        rows.append((clean(engagement.role.name), state, since, engagement.cell, contacts))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _stated(told: Told) -> Iterator[tuple[Engagement, str]]:
    """Yield every engagement with what it is as of now."""
    for engagement in told.standing.engaged:
        yield engagement, "engaged"
    for engagement in told.standing.upcoming:
        state = "next" if engagement is told.standing.next else "later"
        yield engagement, "not needed" if told.resolved else state


def _ladder(told: Told) -> Iterator[str]:
    paging = told.policy.spec.paging
    assert paging is not None  # noqa: S101  (there are rungs)
    yield f"Pages for {clean(paging.role)}, until somebody acknowledges:"
    width = max(len(clean(rung.contact)) for rung in paging.rungs)
    by_name = {contact.name: contact for contact in told.policy.spec.contacts}
    for rung, start in zip(paging.rungs, told.rungs, strict=True):
        contact = by_name.get(rung.contact)
        every = f"from {_when(start.at, told.now)}, every {length(rung.repeat_every)}"
        yield f"  {clean(rung.contact):<{width}}  {every}" + (f"  {reached(contact)}" if contact else "")
    if told.page is not None:
        yield f"  next page, if nobody has acknowledged: {clean(told.page.contact)}, {_when(told.page.at, told.now)}"


def document(told: Told) -> dict[str, Any]:
    """Return the page as JSON."""
    states = {"engaged": told.standing.engaged, "upcoming": () if told.resolved else told.standing.upcoming}
    listed = {state: [_engagement(told, e) for e in found] for state, found in states.items()}
    return {
        told.about.kind[0].lower() + told.about.kind[1:]: {
            "namespace": told.about.metadata.namespace,
            "name": told.about.metadata.name,
        },
        "policy": {"namespace": told.policy.metadata.namespace, "name": told.policy.metadata.name},
        "severity": str(told.severity),
        "detectedAt": format_instant(told.detected_at),
        "asOf": format_instant(told.now),
        "respondBy": format_instant(told.respond_by),
        "resolved": told.resolved,
        **listed,
        "next": listed["upcoming"][0] if listed["upcoming"] else None,
        "paging": {
            "rungs": [_page(page) for page in told.rungs],
            "nextIfUnacknowledged": _page(told.page) if told.page else None,
        },
        **({"status": told.about.status.wire()} if isinstance(told.about, Incident) else {}),
    }


def _engagement(told: Told, engagement: Engagement) -> dict[str, Any]:
    return {
        "role": engagement.role.name,
        "at": format_instant(engagement.at),
        "rule": engagement.cell,
        "contacts": [contact.wire() for contact in _contacts(told, engagement)],
    }


def _page(page: Page) -> dict[str, Any]:
    return {"contact": page.contact, "at": format_instant(page.at)}


def _contacts(told: Told, engagement: Engagement) -> list[Contact]:
    """Return the contacts of a role, in its order."""
    by_name = {contact.name: contact for contact in told.policy.spec.contacts}
    return [by_name[name] for name in engagement.role.contacts if name in by_name]


def reached(contact: Contact) -> str:
    """Return how somebody is reached: `Primary platform-oncall@company.com`."""
    ways = (contact.email, contact.phone, contact.url, contact.how)
    return " ".join([clean(contact.name), ", ".join(clean(way) for way in ways if way)])


def _when(at: datetime, now: datetime) -> str:
    """Return an instant with its day, for these are days apart: `Fri 2026-01-16 09:00Z (in 18h30m)`."""
    away = at - now
    distance = "now" if not away else f"in {length(away)}" if at > now else f"{length(-away)} ago"
    return f"{at.astimezone(UTC):%a %Y-%m-%d %H:%MZ} ({distance})"
