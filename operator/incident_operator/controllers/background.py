"""Work that goes on beside an object's reconciles; what fails in it is the next reconcile's to raise."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Background:
    """What is under way for one object. A base of the controllers' sessions."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    failure: Exception | None = None

    def start(self, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        """Begin work; `done` is called at its end, whatever came of it."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # handed to the next reconcile, which raises it for the queue to back off
                self.failure = error
            finally:
                done()

        task = asyncio.create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def raise_failure(self) -> None:
        """Raise what failed since this was asked last, once. Errors: that."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def cancel(self) -> None:
        """Cancel what is under way."""
        for task in self.tasks:
            task.cancel()
