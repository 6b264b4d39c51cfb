"""What became of a message. The reasons are explained in docs/channels.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class State(StrEnum):
    """Whether a message arrived, and if not, whether trying again can help."""

    DELIVERED = "Delivered"
    FAILED = "Failed"
    RETRY = "Retry"


class Reason(StrEnum):
    """Why a message is in its state."""

    SENT = "Sent"
    UPDATED = "Updated"
    NOT_FOR_THIS_CHANNEL = "NotForThisChannel"
    SOME_RECIPIENTS_REFUSED = "SomeRecipientsRefused"

    TIMEOUT = "Timeout"
    REFUSED = "Refused"
    UNREACHABLE = "Unreachable"
    ANSWER_LOST = "AnswerLost"
    RATE_LIMITED = "RateLimited"
    SERVER_ERROR = "ServerError"
    RECIPIENTS_DEFERRED = "RecipientsDeferred"

    UNAUTHORIZED = "Unauthorized"
    NOT_FOUND = "NotFound"
    REJECTED = "Rejected"
    REDIRECTED = "Redirected"
    TLS_FAILED = "TlsFailed"
    RECIPIENTS_REFUSED = "RecipientsRefused"
    ADDRESS_INVALID = "AddressInvalid"
    ADDRESS_FORBIDDEN = "AddressForbidden"
    CREDENTIAL_MISSING = "CredentialMissing"
    CREDENTIAL_INVALID = "CredentialInvalid"
    ACCESS_DENIED = "AccessDenied"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of a message.

    Shape: `message` is a sentence of ours for people, never a word of the provider's or of a credential; `reference` is
    what a later message of the incident names in `Notice.reference`; `refused` are the recipients who did not get it.
    """

    state: State
    reason: Reason
    message: str = ""
    retry_after: timedelta | None = None
    reference: str | None = None
    refused: tuple[str, ...] = ()


def delivered(reason: Reason = Reason.SENT, *, reference: str | None = None) -> Delivery:
    """Return that it arrived."""
    return Delivery(state=State.DELIVERED, reason=reason, reference=reference)


def failed(reason: Reason, message: str = "") -> Delivery:
    """Return that it did not arrive, and that no repetition would mend it."""
    return Delivery(state=State.FAILED, reason=reason, message=message)


def retry(reason: Reason, message: str = "", *, after: timedelta | None = None) -> Delivery:
    """Return that it may not have arrived, and is to be sent again, under the same key."""
    return Delivery(state=State.RETRY, reason=reason, message=message, retry_after=after)


class Undeliverable(Exception):
    """A message is not delivered; `delivery` says why. Raised within this package only."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason)
        self.delivery = delivery


def checked(
    credential: Mapping[str, str] | None, required: frozenset[str], optional: frozenset[str]
) -> Mapping[str, str]:
    """Return a credential whose keys are as they must be.

    Errors: Undeliverable CredentialMissing, or CredentialInvalid that names the key, never a value.
    """
    if credential is None:
        raise Undeliverable(failed(Reason.CREDENTIAL_MISSING, "the channel has no secretRef"))
    missing = sorted(required - {key for key, value in credential.items() if value})
    if missing:
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, f"the Secret lacks the key {missing[0]}"))
    unknown = sorted(set(credential) - required - optional)
    if unknown:
        known = ", ".join(sorted(required | optional))
        message = f"the Secret's key {unknown[0][:40]!r} is not one of {known}"
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, message))
    broken = sorted(key for key, value in credential.items() if key != "ca.crt" and not value.isprintable())
    if broken:
        message = f"the Secret's key {broken[0]} has a line break or a control character in it"
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, message))
    return credential
