"""An incident that lives through time: drives `decide_incident` as its controller does, with channels that answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from incident_operator.api.escalation import EscalationPolicySpec
from incident_operator.api.incident import Engagement, Incident, IncidentStatus
from incident_operator.api.intervention import Intervention
from incident_operator.api.run import IncidentRun
from incident_operator.core.approval import Answer
from incident_operator.core.incident import (
    AskRecovery,
    Handed,
    IncidentView,
    Look,
    Proof,
    Send,
    about_of,
    decide_incident,
)
from incident_operator.core.story import Tell
from tests.core.policies import a_policy

CHANNELS = (
    {"name": "Pager", "type": "PagerDuty", "secretRef": {"name": "pager"}},
    {"name": "Mail", "type": "Email", "secretRef": {"name": "mail"}},
    {"name": "Room", "type": "Slack", "secretRef": {"name": "slack"}},
    {"name": "Tickets", "type": "Webhook", "secretRef": {"name": "tickets"}},
)


def utc(text: str) -> datetime:
    """Return an instant written as `2026-01-16 22:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def reachable(zone: str = "UTC", channels: Sequence[Any] = CHANNELS, **spec: Any) -> EscalationPolicySpec:
    """Return the shipped policy with channels that have Secrets, and addresses for every role."""
    raw = a_policy(zone).wire()
    leads = {"Team Lead": "Lead", "Engineering Manager": "Manager", "VP Engineering": "Vp"}
    for role in raw["roles"]:
        if role["name"] in leads:
            role["contacts"] = [leads[role["name"]]]
    raw["contacts"] += [{"name": name, "kind": "Role", "email": f"{name.lower()}@a.example"} for name in leads.values()]
    return EscalationPolicySpec.model_validate({**raw, "channels": list(channels), **spec})


def delivered(engagement: Engagement) -> str:
    """Answer as channels do that work."""
    return "Sent" if engagement.channel == "Mail" else "Delivered"


@dataclass(frozen=True)
class ToldOf:
    """One message that arrived."""

    at: datetime
    occasion: str
    whom: str
    channel: str | None

    def __str__(self) -> str:
        return f"{self.at:%m-%d %H:%M} {self.occasion} {self.whom} {self.channel}"


@dataclass
class Life:
    """One incident, its clock, and everything that came of it."""

    detected: str
    severity: str = "P1"
    policy: EscalationPolicySpec | None = field(default_factory=reachable)
    spec: dict[str, Any] = field(default_factory=dict)
    answers_by: Callable[[Engagement], str] = delivered
    runs: tuple[IncidentRun, ...] = ()
    looks: str = "Passing"
    #: What the last look proves of further duties.
    duties: Mapping[str, Proof] = field(default_factory=dict)
    told: list[ToldOf] = field(default_factory=list)
    tells: list[Tell] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    missing: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    now: datetime = field(init=False)
    incident: Incident = field(init=False)
    wake_at: datetime | None = None
    _words: list[Intervention] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = utc(self.detected)
        self.incident = Incident.model_validate(
            {
                "metadata": {
                    "name": "inc-1",
                    "namespace": "shop",
                    "uid": "inc-uid",
                    "creationTimestamp": self.now.isoformat(),
                },
                "spec": {"title": "Checkout fails", "severity": self.severity, "detectedAt": self.now.isoformat()}
                | self.spec,
            }
        )

    @property
    def status(self) -> IncidentStatus:
        """Return the status as stored."""
        return self.incident.status

    def turn(self, look: Look | None = None) -> "Life":
        """Decide as often as there is something to do now."""
        handed: tuple[Handed, ...] = ()
        for _ in range(20):
            decision = decide_incident(self._view(handed, look), self.now)
            again = decide_incident(self._view(handed, look), self.now)
            assert again == decision, "the same view gives the same decision"
            self.incident = self.incident.model_copy(update={"status": decision.status})
            self.wake_at, handed, look, busy = decision.wake_at, (), None, False
            for effect in decision.effects:
                match effect:
                    case Send(key):
                        handed = (*handed, self._hand(key))
                        busy = True
                    case Tell():
                        self.tells.append(effect)
                    case Answer():
                        self.answers.append(effect)
                        self._words = [w for w in self._words if w.metadata.name != effect.word]
                    case AskRecovery(_, last, _):
                        duties = self.duties if last else {}
                        look = Look(at=self.now, state=self.looks, message="", duties=duties)  # type: ignore[arg-type]
                        busy = True
            if not busy:
                return self
        raise AssertionError("it never comes to rest")

    def _view(self, handed: tuple[Handed, ...], look: Look | None) -> IncidentView:
        return IncidentView(
            incident=self.incident,
            runs=self.runs,
            gone=self.gone,
            words=tuple(self._words),
            policy=self.policy,
            handed=handed,
            missing=self.missing,
            look=look,
            can_look=True,
        )

    def _hand(self, key: str) -> Handed:
        engagement = next(e for e in self.status.engagements if e.key == key)
        state = self.answers_by(engagement)
        if state in ("Sent", "Delivered"):
            self.told.append(ToldOf(self.now, engagement.occasion, engagement.whom, engagement.channel))
        return Handed(
            key=key,
            due_at=engagement.due_at,
            at=self.now,
            state=state,  # type: ignore[arg-type]
            reason="" if state in ("Sent", "Delivered") else "ServerError",
            about=about_of(self.incident, engagement),
        )

    def until(self, to: str | datetime) -> "Life":
        """Let time pass, looking whenever the decision wanted to."""
        end = utc(to) if isinstance(to, str) else to
        self.turn()
        for _ in range(10_000):
            if self.wake_at is None or self.wake_at > end:
                self.now = end
                return self.turn()
            assert self.wake_at > self.now, "it looks again at once, for ever"
            self.now = self.wake_at
            self.turn()
        raise AssertionError("it wakes all the time")

    def away_until(self, to: str) -> "Life":
        """Let time pass without an operator."""
        self.now = utc(to)
        return self.turn()

    def say(self, verb: str, who: str = "alice", **spec: Any) -> "Life":
        """Let a person say something now."""
        word = Intervention.model_validate(
            {
                "metadata": {
                    "name": f"{verb.lower()}-{len(self.answers)}-{who}",
                    "namespace": "shop",
                    "creationTimestamp": self.now.isoformat(),
                },
                "spec": {
                    "target": {"kind": "Incident", "name": "inc-1", "uid": "inc-uid"},
                    "verb": verb,
                    "responder": who,
                    **spec,
                },
            }
        )
        self._words.append(word)
        return self.turn()

    def heard(self, occasion: str | None = None, whom: str | None = None, channel: str | None = None) -> list[str]:
        """Return the messages that arrived, as texts, of an occasion, contact or channel."""
        return [
            str(one)
            for one in self.told
            if occasion in (None, one.occasion) and whom in (None, one.whom) and channel in (None, one.channel)
        ]

    def condition(self, type_: str) -> tuple[str, str]:
        """Return status and reason of a condition."""
        found = next(c for c in self.status.conditions if c.type == type_)
        return found.status, found.reason

    def reasons(self) -> list[str]:
        """Return the turns of the story."""
        return [entry.reason for entry in self.status.timeline]


def minutes(count: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=count)
