"""Faults at will: tests ask for them at POST /_sim/fault."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .wire import Call, Refused, Reply

MODES = ("error", "timeout", "malformed", "throttle")
_THROTTLING = {
    "s3": ("SlowDown", 503),
    "iam": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "lambda": ("TooManyRequestsException", 429),
}


@dataclass(kw_only=True)
class Fault:
    """What goes wrong, with which calls, and how often still.

    Shape: None matches any; `when` before or after; `message` is what an error says.
    """

    mode: str
    account: str | None = None
    service: str | None = None
    operation: str | None = None
    times: int = 1
    when: str = "before"
    seconds: float = 60.0
    message: str = "an injected fault"

    def meets(self, call: Call, account: str | None) -> bool:
        """Tell whether it is about a call."""
        return (
            self.times > 0
            and self.account in (None, "*", account)
            and self.service in (None, "*", call.service)
            and (self.operation in (None, "*") or _same(str(self.operation), call.operation))
        )


def _same(given: str, operation: str) -> bool:
    """Tell whether `get_role` or `GetRole` is meant."""
    return given.replace("_", "").lower() == operation.lower()


@dataclass(kw_only=True)
class Faults:
    """The faults asked for. Thread-safe."""

    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, wanted: Mapping[str, Any]) -> None:
        """Add one. Errors: ValueError for a mode or a member that is not known."""
        if wanted.get("mode") not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}")
        if wanted.get("when", "before") not in ("before", "after"):
            raise ValueError("when must be before or after")
        try:
            fault = Fault(**wanted)
        except TypeError as error:
            raise ValueError(str(error)) from None
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._faults.clear()

    def take(self, call: Call, account: str | None, when: str) -> Fault | None:
        """Return the fault that this call meets, and count it."""
        with self._lock:
            fault = next((f for f in self._faults if f.when == when and f.meets(call, account)), None)
            if fault is not None:
                fault.times -= 1
                self._faults = [f for f in self._faults if f.times > 0]
            return fault


def broken(fault: Fault, call: Call) -> Reply:
    """Return what a caller gets. Shape: after a timeout's wait this is an empty answer."""
    if fault.mode == "malformed":
        return Reply(status=200, headers=(("Content-Type", "text/plain"),), body=b"<<not an answer>>")
    if fault.mode == "throttle":
        code, status = _THROTTLING.get(call.service, ("ThrottlingException", 400))
        return call.refuse(Refused(code, "Rate exceeded", status=status))
    if fault.mode == "timeout":
        return Reply(status=504, headers=(), body=b"")
    return call.refuse(Refused("InternalFailure", fault.message, status=500))
