"""Conditions as in the Kubernetes API conventions: one per type, the transition time moves only on change."""

from collections.abc import Iterable
from datetime import datetime

from ..api.meta import Condition
from .redact import redact


def with_condition(
    conditions: Iterable[Condition],
    type_: str,
    status: bool | None,
    reason: str,
    message: str,
    now: datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions with this one set; None is Unknown. Order of first appearance is kept."""
    wire = {True: "True", False: "False", None: "Unknown"}[status]
    kept, found = [], False
    for old in conditions:
        if old.type != type_:
            kept.append(old)
            continue
        found = True
        since = old.last_transition_time if old.status == wire else now
        kept.append(_condition(type_, wire, reason, message, since, generation))
    if not found:
        kept.append(_condition(type_, wire, reason, message, now, generation))
    return tuple(kept)


def _condition(
    type_: str, status: str, reason: str, message: str, since: datetime, generation: int | None
) -> Condition:
    return Condition.model_validate(
        {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": redact(message)[:1024],
            "last_transition_time": since,
            "observed_generation": generation,
        }
    )


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    """Tell whether a condition is there and True."""
    return any(c.type == type_ and c.status == "True" for c in conditions)
