"""Words for people: instants, lengths of time, marks; and the one door through which foreign text reaches a terminal.

Everything the API server hands out was written by somebody else. `clean` makes it one harmless line: no control
characters (they could repaint a terminal), no direction overrides, no line breaks, no credentials.
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..api.meta import format_duration
from ..core.redact import redact

#: How a state looks: mark, mark in ASCII, style. Unknown is never shown as healthy.
MARKS: Mapping[str, tuple[str, str, str]] = {
    "Pending": ("·", ".", "dim"),
    "Running": ("…", "~", "cyan"),
    "Passed": ("✔", "+", "green"),
    "Failed": ("✘", "x", "red"),
    "Error": ("!", "!", "magenta"),
    "Inconclusive": ("?", "?", "yellow"),
    "NotNeeded": ("·", ".", "dim"),
    "NotApplicable": ("·", ".", "dim"),
    "Blocked": ("■", "#", "yellow"),
    "Proposed": ("○", "o", "cyan"),
    "Approved": ("○", "o", "cyan"),
    "Applying": ("▶", ">", "cyan"),
    "Verifying": ("…", "~", "cyan"),
    "Helped": ("✔", "+", "green"),
    "NoEffect": ("✘", "x", "yellow"),
    "Worse": ("✘", "x", "red"),
    "Reverting": ("◀", "<", "yellow"),
    "Reverted": ("◀", "<", "yellow"),
    "UndoBlocked": ("!", "!", "red"),
    "Rejected": ("✘", "x", "yellow"),
    "Superseded": ("·", ".", "dim"),
    "Expired": ("·", ".", "dim"),
    "Unknown": ("?", "?", "yellow"),
    "Intended": ("▶", ">", "cyan"),
    "Succeeded": ("✔", "+", "green"),
    "Observed": ("✔", "+", "green"),
}
_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def clean(text: Any) -> str:
    """Return foreign text as one line that can't command a terminal."""
    return redact(" ".join("".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in str(text)).split()))


def clean_lines(text: Any) -> list[str]:
    """Return redacted text line by line, indentation kept, each line harmless."""
    lines = str(text).replace("\t", "    ").splitlines()
    return ["".join(c for c in line if unicodedata.category(c) not in _INVISIBLE).rstrip() for line in lines]


def mark(state: str, *, ascii_only: bool = False) -> tuple[str, str]:
    """Return the mark of a state and its style; a state this version does not know is a question mark."""
    sign, plain, style = MARKS.get(state, ("?", "?", "yellow"))
    return (plain if ascii_only else sign), style


def clock(at: datetime) -> str:
    """Return the time of day in UTC: `14:30:05Z`."""
    return f"{at.astimezone(UTC):%H:%M:%S}Z"


def length(value: timedelta) -> str:
    """Return a length of time as people say it: two units at most, `800ms`, `42s`, `3m12s`, `2h5m`, `3d`."""
    if value < timedelta():
        return "-" + length(-value)
    if value < timedelta(seconds=1):
        return format_duration(value) if value >= timedelta(milliseconds=1) else "0s"
    seconds = int(value.total_seconds())
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts)


def until(at: datetime, now: datetime) -> str:
    """Return an instant and how far away it is: `14:40:00Z (in 3m12s)`, `14:40:00Z (5s ago)`."""
    away = at - now
    return f"{clock(at)} (in {length(away)})" if away >= timedelta() else f"{clock(at)} ({length(-away)} ago)"


def some(count: int, noun: str) -> str:
    """Return `1 call`, `2 calls`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


#: Where the AWS CLI calls a service otherwise than its API's model does.
_NAMES = {"s3": "s3api", "config": "configservice", "codedeploy": "deploy"}


def command_line(service: str, operation: str) -> str:
    """Return service and operation, both as words with hyphens, as their command line has them.

    Shape: `aws s3api put-bucket-policy`; what is no call of AWS is named as what it is, `postgres cancel-backends`.
    """
    program = [] if service == "postgres" else ["aws"]
    return clean(" ".join([*program, _NAMES.get(service, service), operation]))
