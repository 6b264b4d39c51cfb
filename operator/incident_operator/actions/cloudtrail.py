"""CloudTrail: who changed what. It shows changes minutes late: its silence about the last 15 minutes is no news."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from ..api.meta import Duration, parse_instant
from ..api.runbook import FindingKind
from .base import ActionModel, CheckAction, Facts, Found, Inputs, Output, ReasonInfo, Unclear, register
from .ports import Reader


class ChangesInputs(Inputs):
    """Whose changes, and how far back."""

    resources: tuple[str, ...] = Field(min_length=1, max_length=12)
    window: Duration = timedelta(hours=24)
    region: str | None = None


class RecentChange(ActionModel):
    """One change that succeeded."""

    event: str
    resource: str
    actor: str
    at: datetime


class ChangesFacts(Facts):
    """Newest first; changes after `complete_until` may be missing."""

    changes: tuple[RecentChange, ...] = ()
    complete_until: datetime


class ChangesOutput(Output):
    """The newest five, of all."""

    changes: tuple[RecentChange, ...] = ()
    total: int = 0
    complete_until: datetime


def _region_of(resource: str, reader: Reader) -> str | None:
    """Return where CloudTrail has an ARN's events; None for a plain name."""
    if not resource.startswith("arn:"):
        return None
    _, _, service, region, *_ = resource.split(":")
    return reader.global_region if service == "iam" else region or None


@register
class RecentChanges(CheckAction[ChangesInputs, ChangesFacts]):
    """Who changed these resources lately?"""

    name = "cloudtrail.recent-changes"
    title = "Recent changes"
    inputs_model = ChangesInputs
    facts_model = ChangesFacts
    reads = ("cloudtrail:LookupEvents",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "RecentChange": ReasonInfo(doc="Somebody changed it within the window.", kind=FindingKind.INFO),
    }

    def observe(self, inputs: ChangesInputs, reader: Reader) -> ChangesFacts:
        """Look up the changes of each resource."""
        start = reader.now - reader.scaled(inputs.window)
        found = []
        for resource in dict.fromkeys(r for r in inputs.resources if r):
            arguments = {
                "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": resource}],
                "StartTime": start.replace(microsecond=0).isoformat(),
            }
            where = _region_of(resource, reader) or inputs.region
            for event in reader.aws("cloudtrail", "lookup_events", arguments, region=where):
                if not event["readOnly"] and not event["error"]:
                    at = event["at"]
                    found.append(
                        RecentChange(
                            event=event["name"],
                            resource=resource,
                            actor=event["actor"] or "unknown",
                            at=parse_instant(at) if isinstance(at, str) else at,
                        )
                    )
        found.sort(key=lambda c: c.at, reverse=True)
        return ChangesFacts(changes=tuple(found[:20]), complete_until=reader.now - reader.scaled(timedelta(minutes=15)))

    def output(self, facts: ChangesFacts) -> ChangesOutput:
        """Return the newest changes."""
        return ChangesOutput(changes=facts.changes[:5], total=len(facts.changes), complete_until=facts.complete_until)

    def findings(self, inputs: ChangesInputs, facts: ChangesFacts) -> Sequence[Found] | Unclear:
        """Name the newest changes: facts for people, not problems."""
        return [
            Found(
                reason="RecentChange",
                message=f"{c.event} on {c.resource} by {c.actor} at {c.at:%Y-%m-%d %H:%M:%S}Z",
                subject=c.resource,
                actor=c.actor,
                at=c.at,
            )
            for c in facts.changes[:3]
        ]
