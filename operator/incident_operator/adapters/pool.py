"""Threads for effects that block: bounded, with a limit of time on what is waited for."""

import asyncio
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

    async def run(self, fn: Callable[..., T], *args: object, timeout: timedelta) -> T:
        """Return what `fn` returns. Errors: those of `fn`; TimeoutError."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: fn(*args))
        async with asyncio.timeout(timeout.total_seconds()):
            return await asyncio.shield(future)

    def close(self) -> None:
        """Take no more work; what is under way ends by its own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
