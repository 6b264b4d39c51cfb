"""What the decisions for an incident may know, and what they can ask to be done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ...api.escalation import EscalationPolicySpec
from ...api.incident import EngagementState, Incident, IncidentPhase, IncidentStatus
from ...api.intervention import Intervention
from ...api.run import IncidentRun
from ..approval import Answer
from ..schedule import Timing
from ..story import Tell

#: Who did it, where no person did.
MACHINE = "incident-operator"
#: How long after its resolution a run that joins opens an incident again, where it does not say.
REOPEN_WITHIN = timedelta(hours=24)
#: The document's hour for closing out.
CLOSE_OUT_WITHIN = timedelta(hours=1)
#: After the resolution: when metrics are looked at again. Source: the document's first duty.
LOOKS_AFTER = (timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60))

#: How long the last look may take before its duties count as overdue: it is due when they are.
ASKING = timedelta(minutes=5)
#: The duties that checks of the runbook's close-out can prove: duty → the runbook's field.
PROVEN_BY: Mapping[str, str] = {"alertsWorking": "alarms", "secondaryImpacts": "watchAlso"}

#: Phases in which people are still needed.
LIVE = frozenset({IncidentPhase.OPEN, IncidentPhase.ACKNOWLEDGED, IncidentPhase.MITIGATED})
#: Ends by a person's word: it was none of its own.
DISMISSED = frozenset({IncidentPhase.DUPLICATE, IncidentPhase.FALSE_POSITIVE})
HANDED = frozenset({EngagementState.SENT, EngagementState.DELIVERED})


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What became of one try to tell somebody. Shape: `due_at` is that of the engagement when it was tried."""

    key: str
    due_at: datetime
    at: datetime
    state: Literal["Sent", "Delivered", "Failed", "Retry"]
    reason: str
    about: str = ""
    retry_after: timedelta | None = None
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the checks of one duty answered. Shape: `message` is what was seen, in words."""

    state: Literal["Passing", "Failing", "Unknown"]
    message: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the recovery checks of the incident's runbook answered after its end.

    Shape: `duties` are the further duties that were asked about at the last look, by name.
    """

    at: datetime
    state: Literal["Passing", "Failing", "Unknown"]
    message: str
    duties: Mapping[str, Proof] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IncidentView:
    """All that the decision may know.

    Shape: `runs` are those of the incident that are live or have just ended. `policy` is None with a `no_policy` that
    says why. `handed` are outcomes that are not stored yet; `sending` the keys of engagements under way. `words` are
    what people said and nobody answered, oldest first; `admission` says why it is not proven that they were checked.
    `missing` are incidents that a word names and that do not exist.
    """

    incident: Incident
    runs: tuple[IncidentRun, ...] = ()
    #: Names of runs that were deleted before they ended.
    gone: frozenset[str] = frozenset()
    words: tuple[Intervention, ...] = ()
    admission: str | None = None
    policy: EscalationPolicySpec | None = None
    no_policy: str | None = None
    handed: tuple[Handed, ...] = ()
    sending: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    look: Look | None = None
    #: Whether the recovery checks can be asked after the end, and are not being asked.
    can_look: bool = False
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True)
class Send:
    """Hand an engagement to its channel."""

    key: str


@dataclass(frozen=True)
class AskRecovery:
    """Ask the recovery checks of the run that ended last; None where no run was at work on it.

    Shape: `last` is the look that proves the duties of the runbook's close-out, too. `began` is when the incident did,
    or when it was opened again.
    """

    run: str | None
    last: bool
    began: datetime


IncidentEffect = Send | AskRecovery | Tell | Answer


@dataclass(frozen=True, kw_only=True)
class IncidentDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: IncidentStatus
    effects: tuple[IncidentEffect, ...] = ()
    wake_at: datetime | None = None


def detected_at(incident: Incident, now: datetime) -> datetime:
    """Return when the incident was detected: as written, else the object's creation."""
    return incident.spec.detected_at or incident.metadata.creation_timestamp or now


def by_key(status: IncidentStatus) -> Mapping[str, int]:
    """Return the place of each engagement in the status."""
    return {engagement.key: place for place, engagement in enumerate(status.engagements)}
