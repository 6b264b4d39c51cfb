"""What a simulated service is.

A service answers some calls itself and leaves the rest to moto, says what of its state tests compare, and does what
goes on without anybody's call: health checks, replacements, failovers.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..clock import Clock
from ..identity import Principal
from ..permissions import Need
from ..telemetry import Delayed, Metrics
from ..wire import Call, Environ, Reply

Forward = Callable[[], Reply]
Handler = Callable[[Call, Principal, Forward], Reply]
Needs = Callable[[Call, str], Iterator[Need]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a service may use of the simulator.

    Shape: `lock` serializes moto: hold it to look at moto's state outside a handler, never while waiting for anything;
    `stopping` is set when the simulator ends; `delayed` shows things later, scaled.
    """

    clock: Clock
    delayed: Delayed
    metrics: Metrics
    lock: threading.RLock
    stopping: threading.Event


class Service:
    """One service, or several that belong together. All methods but `needs` and `close` are called with the lock held.

    Shape: `beat` is how often `keep_house` is called, in seconds, unscaled; None for never.
    """

    beat: float | None = None

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what is not left to moto alone, by service and operation."""
        return {}

    def needs(self) -> Mapping[str, Needs]:
        """Return, by service, which IAM actions on which resources a call needs."""
        return {}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return an account's state as tests compare it, without what changes by itself; `{}` where there is none."""
        return {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the present state of what a changing call of this service is about; None for what has none."""
        return None

    def answered(self, call: Call, at: datetime, reply: Reply) -> None:
        """Learn how a call was answered that began at an instant; every call, for whoever measures some of them."""

    def told(self, what: str, wanted: Mapping[str, Any]) -> bool:
        """Learn how the world outside AWS is, from a test; return False for what is no concern of this service.

        Errors: KeyError or ValueError for what can't be so.
        """
        return False

    def serve(self, environ: Environ) -> Reply | None:
        """Answer a request that is no AWS call but to what the service serves; None for what it does not."""
        return None

    def keep_house(self) -> None:
        """Do what goes on by itself."""

    def close(self) -> None:
        """End what was started; the simulator ends."""
