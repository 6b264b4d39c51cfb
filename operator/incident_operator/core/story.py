"""The run's story in bounds: timeline, size of status. Source: decision 26."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..api.run import IncidentRunStatus, TimelineEntry
from .redact import redact

MAX_STATUS_BYTES = 64 * 1024
_FIRST, _LAST = 20, 60


@dataclass(frozen=True)
class Tell:
    """Post a Kubernetes Event: an effect of decisions."""

    reason: str
    message: str
    warning: bool = False


def told(
    timeline: Sequence[TimelineEntry], now: datetime, reason: str, message: str, source: str = ""
) -> tuple[TimelineEntry, ...]:
    """Return the timeline with one more turn, redacted; the same turn twice in a row is told once."""
    message = redact(message)[:1024]
    if timeline and timeline[-1].reason == reason and timeline[-1].message == message:
        return tuple(timeline)
    entry = TimelineEntry(at=now, reason=reason, message=message, source=source[:256])
    return (*timeline, entry)


def told_anew(
    timeline: Sequence[TimelineEntry], now: datetime, reason: str, message: str, source: str = ""
) -> tuple[TimelineEntry, ...]:
    """Return the timeline with this turn, unless it is what was said last of the same reason and source."""
    last = next((t for t in reversed(timeline) if (t.reason, t.source) == (reason, source[:256])), None)
    added = told(timeline, now, reason, message, source)
    return tuple(timeline) if last is not None and last.message == added[-1].message else added


def within_bounds(status: IncidentRunStatus) -> IncidentRunStatus:
    """Return the status at ≤ 64 KiB: first the middle of the timeline goes, then long messages; never outputs."""
    truncated = set(status.truncated)
    if len(status.timeline) > _FIRST + _LAST:
        status = status.model_copy(update={"timeline": bounded_timeline(status.timeline)})
        truncated.add("timeline: the middle was dropped")
    if size(status) > MAX_STATUS_BYTES:
        status = status.model_copy(
            update={
                "timeline": tuple(t.model_copy(update={"message": t.message[:300]}) for t in status.timeline),
                "findings": tuple(f.model_copy(update={"message": f.message[:300]}) for f in status.findings),
            }
        )
        truncated.add("messages: cut at 300 characters")
    return status.model_copy(update={"truncated": tuple(sorted(truncated))}) if truncated else status


def bounded_timeline(timeline: Sequence[TimelineEntry]) -> tuple[TimelineEntry, ...]:
    """Return a timeline without its middle where it is too long: how it began, and what is new."""
    if len(timeline) <= _FIRST + _LAST:
        return tuple(timeline)
    return (*timeline[:_FIRST], *timeline[-_LAST:])


def size(status: IncidentRunStatus) -> int:
    """Return the stored size in bytes, as `wire` has it."""
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())
