"""Every call: who, what, with which arguments, and how it ended. Tests read it at /_sim/journal."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .identity import Principal
from .permissions import redacted
from .wire import Call, plain

_KEPT = 50_000
_READING = (
    "Get", "List", "Describe", "Lookup", "Filter", "Simulate", "Head", "Query", "Scan", "BatchGet", "Search", "Select",
    "Assume", "Check", "Verify", "Decrypt", "Generate", "TransactGet", "StartQuery", "StopQuery", "Test", "Validate",
)  # fmt: skip
#: Called a test by AWS, and yet it does it.
_DOING = frozenset({"TestFailover"})


def is_mutating(operation: str) -> bool:
    """Tell whether a call changes something or has an effect outside, as an invocation has."""
    return operation in _DOING or not operation.startswith(_READING)


@dataclass(kw_only=True)
class Journal:
    """The newest calls, oldest first. Shape: `sequence` grows by one with each call and never repeats."""

    _entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 1

    def write(
        self,
        call: Call,
        principal: Principal | None,
        at: datetime,
        outcome: str,
        change: tuple[Any, Any] | None = None,
    ) -> None:
        """Add a call. Shape: `outcome` is OK or an error code; `change` what was changed, before and after."""
        entry = {
            "at": at.isoformat(),
            "account": principal.account if principal else None,
            "principal": principal.arn if principal else None,
            "accessKey": call.scope.access_key,
            "region": call.region,
            "service": call.service,
            "operation": call.operation,
            "arguments": plain(redacted(call.arguments)),
            "mutating": is_mutating(call.operation),
            "byFunction": bool(principal and principal.by_lambda),
            "outcome": outcome,
            "requestId": call.id,
        }
        if change is not None:
            entry["before"], entry["after"] = change
        with self._lock:
            entry["sequence"] = self._next
            self._next += 1
            self._entries.append(entry)

    def read(self, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return entries, oldest first. Shape: `account`, `since` (an instant), `after` (a sequence number)."""
        account, since, after = filters.get("account"), filters.get("since", ""), int(filters.get("after", "0"))
        start = datetime.fromisoformat(since.replace("Z", "+00:00")) if since else None
        with self._lock:
            entries = list(self._entries)
        return [
            e
            for e in entries
            if e["sequence"] > after
            and (account is None or e["account"] == account)
            and (start is None or datetime.fromisoformat(e["at"]) >= start)
        ]
