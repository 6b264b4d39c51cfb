"""Channels: what carries messages to people, one file for each type. See docs/channels.md."""

from .credential import credential_of
from .delivery import Delivery, Reason, State
from .messenger import Messenger

__all__ = ["Delivery", "Messenger", "Reason", "State", "credential_of"]
