"""SES: moto keeps identities and takes mails, this says what becomes of them.

A mail is delivered, bounces or is complained about seconds after it was sent; CloudWatch knows another minute later.
Addresses of SES's own mailbox simulator do what their names say; those of a domain that the simulator was told about
(POST /_sim/mailboxes) do what was told; all others take the mail. Everything is counted by recipient, as quotas are.
moto counts since its start in one data point, calls what it refused a reject, and knows no bounce. Source: "SES API
Reference", GetSendStatistics and SendDataPoint; "SES Developer Guide", mailbox simulator, monitoring with CloudWatch.
"""

import email
import email.policy
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import getaddresses, parseaddr
from typing import Any

from moto.ses.models import ses_backends

from ..identity import Principal
from ..permissions import Need
from ..telemetry import METRICS_DELAY
from ..wire import Call, Reply
from .service import Forward, Handler, Needs, Parts, Service

_NAMESPACE = "AWS/SES"
FEEDBACK_DELAY = timedelta(seconds=5)
_KEPT = timedelta(days=14)
#: Of one data point, in seconds.
_PERIOD = 15 * 60
_SIMULATOR = "simulator.amazonses.com"
_BOUNCED, _COMPLAINED, _DELIVERED = ("Bounce",), ("Delivery", "Complaint"), ("Delivery",)
#: By local part; `+label` behind it is the sender's own.
_MAILBOXES = {
    "bounce": _BOUNCED,
    "complaint": _COMPLAINED,
    "success": _DELIVERED,
    "ooto": _DELIVERED,
    "suppressionlist": _BOUNCED,
}
_OUTCOMES = {"Bounce": _BOUNCED, "Complaint": _COMPLAINED, "Delivery": _DELIVERED}
#: What a data point counts, by what happens to a mail.
_COUNTED = {"Bounce": "Bounces", "Complaint": "Complaints", "Reject": "Rejects"}
#: Of the file that is harmless and that every scanner takes for a virus: SES rejects it.
_VIRUS = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
_SENDING = (
    ("ses", "SendEmail"),
    ("ses", "SendRawEmail"),
    ("ses", "SendTemplatedEmail"),
    ("ses", "SendBulkTemplatedEmail"),
    ("sesv2", "SendEmail"),
)
_RECIPIENTS = ("ToAddresses", "CcAddresses", "BccAddresses")

Where = tuple[str, str]


class Mail(Service):
    """What becomes of mails. Shape: all by account and region, as SES keeps it."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._points: dict[Where, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._reputation: dict[Where, Counter[str]] = defaultdict(Counter)
        self._told: dict[tuple[str, str], tuple[str, ...]] = {}

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto takes and forgets, or counts wrongly."""
        return {**dict.fromkeys(_SENDING, self._send), ("ses", "GetSendStatistics"): self._statistics}

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of both versions of the API."""
        return {"ses": _needs, "sesv2": _needs}

    def told(self, what: str, wanted: Mapping[str, Any]) -> bool:
        """Learn what becomes of an account's mails to a domain: `{"account", "domain", "becomes"}`."""
        if what != "mailboxes":
            return False
        if wanted["becomes"] not in _OUTCOMES:
            raise ValueError(f"a mail becomes one of {', '.join(_OUTCOMES)}, not {wanted['becomes']}")
        self._told[str(wanted["account"]), str(wanted["domain"]).lower()] = _OUTCOMES[wanted["becomes"]]
        return True

    # --- calls ------------------------------------------------------------------------------------------------

    def _send(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        reply = forward()
        if reply.status < 400:
            raw = _raw(call)
            rejected = raw is not None and _is_infected(raw)
            for address in _recipients(call, raw):
                simulated, outcomes = self._becomes(principal.account, address)
                self._sent((principal.account, call.region), ("Reject",) if rejected else outcomes, simulated)
        return reply

    def _becomes(self, account: str, address: str) -> tuple[bool, tuple[str, ...]]:
        """Return whether an address is of SES's mailbox simulator, and what happens to a mail to it, in order."""
        local, _, domain = address.lower().rpartition("@")
        if domain == _SIMULATOR:
            return True, _MAILBOXES.get(local.split("+", 1)[0], _BOUNCED)
        return False, self._told.get((account, domain), _DELIVERED)

    def _sent(self, where: Where, outcomes: tuple[str, ...], simulated: bool) -> None:
        """Count a mail now, and later what became of it."""
        delayed, now = self.parts.delayed, self.parts.clock.now()
        at = now + self.parts.clock.scaled(FEEDBACK_DELAY)
        if outcomes != ("Reject",):
            self._point(where, now)["DeliveryAttempts"] += 1
        known = dict.fromkeys(outcomes, 1.0)

        def become() -> None:
            for outcome in outcomes:
                if outcome in _COUNTED:
                    self._point(where, at)[_COUNTED[outcome]] += 1
            if not simulated and "Reject" not in outcomes:
                known.update(self._rates(where, outcomes))

        delayed.later(METRICS_DELAY, lambda: self._measure(where, now, {"Send": 1.0}))
        delayed.later(FEEDBACK_DELAY, become)
        delayed.later(FEEDBACK_DELAY + METRICS_DELAY, lambda: self._measure(where, at, known))

    def _point(self, where: Where, at: datetime) -> Counter[str]:
        second = int(at.timestamp())
        return self._points[where][second - second % _PERIOD]

    def _rates(self, where: Where, outcomes: tuple[str, ...]) -> dict[str, float]:
        """Count a mail towards the reputation, unlike those to the mailbox simulator. Units: shares of one."""
        counts = self._reputation[where]
        counts.update(["mails", *outcomes])
        return {f"Reputation.{name}Rate": counts[name] / counts["mails"] for name in ("Bounce", "Complaint")}

    def _measure(self, where: Where, at: datetime, values: Mapping[str, float]) -> None:
        self.parts.metrics.add(*where, [()], at, namespace=_NAMESPACE, **values)

    def _statistics(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        points = self._points[principal.account, call.region]
        oldest = (self.parts.clock.now() - _KEPT).timestamp()
        for begun in [begun for begun in points if begun + _PERIOD <= oldest]:
            del points[begun]
        shown = [
            {
                "Timestamp": datetime.fromtimestamp(begun, UTC),
                **{name: counts[name] for name in ("DeliveryAttempts", *_COUNTED.values())},
            }
            for begun, counts in points.items()
        ]
        return call.answer({"SendDataPoints": shown})

    # --- state ------------------------------------------------------------------------------------------------

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return who may be written as, by region; what was sent is telemetry."""
        if account not in ses_backends:
            return {}
        found = {region: _identities(account, region) for region in sorted(ses_backends[account])}
        return {"mailIdentities": kept} if (kept := {region: one for region, one in found.items() if one}) else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the identities, for a call that changes them."""
        about = call.service in ("ses", "sesv2") and ("Identity" in call.operation or "Verif" in call.operation)
        return _identities(account, call.region) if about else None


def _identities(account: str, region: str) -> list[str]:
    return sorted(ses_backends[account][region].email_identities)


def _raw(call: Call) -> EmailMessage | None:
    """Return a mail that was sent as it goes over the wire; None for one that SES composes."""
    raw = call.arguments.get("RawMessage") or (call.arguments.get("Content") or {}).get("Raw")
    return email.message_from_bytes(raw["Data"], policy=email.policy.default) if raw else None


def _is_infected(mail: EmailMessage) -> bool:
    return any(_VIRUS in (part.get_payload(decode=True) or b"") for part in mail.walk())


def _recipients(call: Call, raw: EmailMessage | None) -> list[str]:
    """Return the addresses that a mail goes to: those of the call, else those of its headers."""
    said = call.arguments
    bulk = [one.get("Destination") or {} for one in said.get("Destinations") or () if isinstance(one, Mapping)]
    named = [one for one in said.get("Destinations") or () if isinstance(one, str)]
    for destination in (said.get("Destination") or {}, *bulk):
        named += [address for kind in _RECIPIENTS for address in destination.get(kind) or ()]
    if not named and raw is not None:
        named = [str(text) for header in ("To", "Cc", "Bcc") for text in raw.get_all(header, ())]
    return [address for _, address in getaddresses(named) if address]


def _needs(call: Call, account: str) -> Iterator[Need]:
    """Who sends needs the right for the identity that the sender's address is of, or is; the rest has no resource."""
    said, action = call.arguments, f"ses:{call.operation}"
    source = said.get("Source") or said.get("FromEmailAddress")
    if not source and (raw := _raw(call)) is not None:
        source = str(raw.get("From", ""))
    if source:
        address = parseaddr(source)[1]
        known = ses_backends[account][call.region].email_identities
        identity = address if address in known else address.rsplit("@", 1)[-1]
    elif call.service == "sesv2" and said.get("EmailIdentity"):
        identity = said["EmailIdentity"]
    else:
        yield Need(action=action, resource="*")
        return
    yield Need(action=action, resource=f"arn:aws:ses:{call.region}:{account}:identity/{identity}")
