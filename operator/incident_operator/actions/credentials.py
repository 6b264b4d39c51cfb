"""What is asked of a credential that is known to be compromised: which one, when, and from where our own calls come.

An access key of an IAM user and a key of an API are two things (`iam_credentials`, `apigateway`); one incident is about
either, or both. Whichever is not named is not asked about.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pydantic import Field, model_validator

from .base import ActionModel, Inputs

#: From when on a disabled credential must be refused everywhere, and until when records of its use are waited for.
EFFECT_AFTER = timedelta(minutes=1)
RECORD_DELAY = timedelta(minutes=15)
#: As many events of a credential are written down at most (of CloudTrail: read; the listed read's bound).
MAX_EVENTS = 100
#: A longer window has more events than can be looked at.
MAX_WINDOW = timedelta(days=7)


class CredentialInputs(Inputs):
    """Which credential, a bounded window in UTC, and the networks that are our own (NAT gateways included), as CIDRs.

    Shape: an access key's id, an API key's id, or both: at least one.
    """

    access_key_id: str | None = Field(None, pattern=r"^AKIA[A-Z0-9]{16}$")
    api_key_id: str | None = Field(None, pattern=r"^[a-z0-9]{10}$")
    window_start: datetime
    window_end: datetime
    own_networks: tuple[str, ...] = Field((), max_length=32)
    region: str | None = None

    @model_validator(mode="after")
    def _is_bounded(self) -> "CredentialInputs":
        if self.access_key_id is None and self.api_key_id is None:
            raise ValueError("say which key: accessKeyId of an IAM user's, apiKeyId of an API's, or both")
        if self.window_start.tzinfo is None or self.window_end.tzinfo is None:
            raise ValueError("the window is two instants with a zone, such as 2026-01-15T14:00:00Z")
        if not self.window_start < self.window_end <= self.window_start + MAX_WINDOW:
            raise ValueError(f"the window ends after it begins, and within {MAX_WINDOW.days} days")
        for network in self.own_networks:
            ipaddress.ip_network(network)
        return self

    def is_own(self, address: str) -> bool:
        """Tell whether an address is of a network of our own."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in ipaddress.ip_network(network) for network in self.own_networks)


class Count(ActionModel):
    """How often something was seen."""

    what: str
    times: int


def top(texts: Iterable[str]) -> tuple[Count, ...]:
    """Return the five that were seen most."""
    return counted(texts)[:5]


def counted(texts: Iterable[str]) -> tuple[Count, ...]:
    """Return how often each was seen, the most frequent first."""
    found = sorted(Counter(text for text in texts if text).items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Count(what=what[:80], times=times) for what, times in found)


def from_where(addresses: Sequence[Count]) -> str:
    """Return where calls came from, in words; empty where nothing is known."""
    return f" from {len(addresses)} addresses, most from {addresses[0].what}" if addresses else ""


def masked(key_id: str | None, what: str) -> str:
    """Return how people call a key: by its last four characters. Shape: `what` is "key" or "API key"."""
    return f"{what} …{key_id[-4:]}" if key_id else f"no {what}"
