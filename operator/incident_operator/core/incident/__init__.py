"""Decisions for `Incident`: total, deterministic, without I/O or a clock of their own.

The people's side: `opening` names the incident of a run, `folding` takes in what runs came to, `words` what people
said, `engaging` whom to tell and `ways` how, `closing` the duties afterwards, `message` what is told.
"""

from .decide import decide_incident
from .engaging import upcoming
from .folding import ended_by_person
from .message import about_of, notice_of
from .opening import has_incident, incident_name, incident_of
from .view import (
    LIVE,
    PROVEN_BY,
    AskRecovery,
    Handed,
    IncidentDecision,
    IncidentEffect,
    IncidentView,
    Look,
    Proof,
    Send,
    detected_at,
)
from .ways import Ways
from .words import done_by_hand

__all__ = [
    "LIVE",
    "PROVEN_BY",
    "AskRecovery",
    "Handed",
    "IncidentDecision",
    "IncidentEffect",
    "IncidentView",
    "Look",
    "Proof",
    "Send",
    "Ways",
    "about_of",
    "decide_incident",
    "detected_at",
    "done_by_hand",
    "ended_by_person",
    "has_incident",
    "incident_name",
    "incident_of",
    "notice_of",
    "upcoming",
]
