"""How somebody can be reached: by the policy's channels that have a Secret."""

from dataclasses import dataclass

from ...api.escalation import Channel, ChannelType, Contact, EscalationPolicySpec
from ...api.incident import EngagementState, IncidentStatus, Occasion
from .view import HANDED

#: Whose pages ring.
PAGES = frozenset({Occasion.PAGE, Occasion.APPROVAL})
#: Channels that many read.
BROADCAST = (ChannelType.SLACK, ChannelType.WEBHOOK)
#: After so many tries nobody waits any longer for a contact: the next one is paged.
_DOUBTFUL = 2


@dataclass(frozen=True)
class Ways:
    """The ways of one policy."""

    policy: EscalationPolicySpec

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Return the channels that can be used."""
        return tuple(c for c in self.policy.channels if c.secret_ref is not None)

    def of(self, *types: ChannelType) -> list[str]:
        """Return the names of the channels of these types."""
        return [c.name for c in self.channels if c.type in types]

    def contact(self, name: str) -> Contact | None:
        """Return a contact of the policy."""
        return next((c for c in self.policy.contacts if c.name == name), None)

    def by_mail(self, name: str) -> list[str]:
        """Return the channels that carry a message to a contact's address."""
        contact = self.contact(name)
        return self.of(ChannelType.EMAIL) if contact is not None and contact.email is not None else []

    def to_page(self, name: str) -> list[str]:
        """Return the channels by which a contact is paged."""
        return [*self.of(ChannelType.PAGER_DUTY), *self.by_mail(name)]

    def to_remind(self, owner: str | None, roles: int) -> list[tuple[Contact | None, Channel]]:
        """Return by which channels an owner, or the contacts of the first roles, are reached; else the rooms."""
        policy, mails = self.policy, [c for c in self.channels if c.type == ChannelType.EMAIL]
        names = [name for role in policy.roles[:roles] for name in role.contacts] if owner is None else []
        people = [c for c in policy.contacts if c.name in names or (owner is not None and owner in (c.name, c.email))]
        reached: list[tuple[Contact | None, Channel]] = [
            (contact, mail) for contact in people if contact.email is not None for mail in mails
        ]
        return reached or [(None, channel) for channel in self.channels if channel.type in BROADCAST]

    def unreachable(self, status: IncidentStatus) -> frozenset[str]:
        """Return the contacts of the ladder that no page gets to: without a way, or each way failed or is in doubt."""
        rungs = self.policy.paging.rungs if self.policy.paging is not None else ()
        return frozenset(rung.contact for rung in rungs if not self._gets_to(rung.contact, status))

    def _gets_to(self, contact: str, status: IncidentStatus) -> bool:
        tried = {e.channel: e for e in status.engagements if e.occasion in PAGES and e.whom == contact}
        return any(
            channel not in tried
            or not (tried[channel].state == EngagementState.FAILED or tried[channel].tries >= _DOUBTFUL)
            or tried[channel].state in HANDED
            for channel in self.to_page(contact)
        )
