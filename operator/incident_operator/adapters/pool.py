"""Threads for effects that block: bounded, with a limit of time on what is waited for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")


class Pool:
    """Bounded threads.

    A thread can't be cancelled: after its time the result is no longer waited for, and the client's own timeouts
    end it.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="effect")
        self._lock = threading.Lock()
        #: How many threads there may be, how many are in use, and how much waits for one.
        self.threads, self.in_flight, self.queued = threads, 0, 0

    async def run(self, fn: Callable[..., T], *args: object, timeout: timedelta) -> T:
        """Return what `fn` returns. Errors: those of `fn`; TimeoutError."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._counted, fn, args)
        with self._lock:
            self.queued += 1
        async with asyncio.timeout(timeout.total_seconds()):
            return await asyncio.shield(future)

    def _counted(self, fn: Callable[..., T], args: tuple[object, ...]) -> T:
        with self._lock:
            self.queued, self.in_flight = self.queued - 1, self.in_flight + 1
        try:
            return fn(*args)
        finally:
            with self._lock:
                self.in_flight -= 1

    def close(self) -> None:
        """Take no more work; what is under way ends by its own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
