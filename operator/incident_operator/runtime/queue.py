"""The work queue: keyed, coalescing, fair by namespace, with delayed adds and backoff.

A key is never at two workers at once; asked for while it is worked on, it comes again afterwards. Namespaces take
turns, so a thousand runs of one do not keep another's waiting. Within a namespace what was begun comes first: it ends
soon and leaves the memory, where otherwise everything would be begun before anything ends. Kept by hand: see the facts
on kopf, "Ours".
"""

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count

from ..adapters.store import Key
from ..adapters.tally import Tally

#: Kind and key.
Item = tuple[str, Key]
_FIRST_BACKOFF, _LAST_BACKOFF = 0.2, 60.0


class Queue:
    """One loop's property.

    Units: seconds of the monotonic clock. Shape: `waited` is told, for each kind, how long a key was ready.
    """

    def __init__(self, clock: Callable[[], float], waited: Callable[[str, float], object] | None = None) -> None:
        self._clock, self._waited = clock, waited
        #: What was asked for and not there yet, and what failed.
        self.adds, self.retries = Tally("kind"), Tally("kind")
        #: By namespace, what was begun and what was not. An item of the second may be in the first as well.
        self._ready: OrderedDict[str, tuple[deque[Item], deque[Item]]] = OrderedDict()
        self._queued: dict[Item, float] = {}
        self._begun: set[Item] = set()
        self._busy: set[Item] = set()
        self._again: dict[Item, bool] = {}
        self._delayed: list[tuple[float, int, Item]] = []
        self._due: dict[Item, float] = {}
        self._failures: dict[Item, int] = {}
        self._number = count()
        self._changed = asyncio.Event()

    def add(self, item: Item, *, begun: bool = False) -> None:
        """Ask for an item now; one that was begun comes before those that were not."""
        self._due.pop(item, None)
        if item in self._busy:
            self._again[item] = begun or self._again.get(item, False)
            return
        if item in self._begun or (item in self._queued and not begun):
            return
        if item not in self._queued:
            self.adds.count(item[0])
            self._queued[item] = self._clock()
        if begun:
            self._begun.add(item)
        first, then = self._ready.setdefault(item[1][0], (deque(), deque()))
        (first if begun else then).append(item)
        self._changed.set()

    def add_after(self, item: Item, seconds: float) -> None:
        """Ask for an item later; of several such asks the earliest counts."""
        if seconds <= 0:
            self.add(item)
            return
        due = self._clock() + seconds
        if self._due.get(item, float("inf")) <= due:
            return
        self._due[item] = due
        heapq.heappush(self._delayed, (due, next(self._number), item))
        self._changed.set()

    def retry(self, item: Item, at_least: float = 0.0) -> float:
        """Ask for a failed item again, later each time in a row. Returns the seconds until then."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        self.retries.count(item[0])
        pause: float = max(at_least, min(_FIRST_BACKOFF * 2.0 ** min(failures, 20), _LAST_BACKOFF))
        self.add_after(item, pause)
        return pause

    def succeeded(self, item: Item) -> None:
        """Forget an item's failures."""
        self._failures.pop(item, None)

    async def get(self) -> Item:
        """Return the next item; the caller says `done` when it has worked on it."""
        while True:
            self._release()
            while self._ready:
                item = self._pop()
                since = self._queued.pop(item, None)
                if since is None:
                    continue  # it came as one that was begun
                self._begun.discard(item)
                if self._waited is not None:
                    self._waited(item[0], self._clock() - since)
                self._busy.add(item)
                return item
            self._changed.clear()
            pause = self._delayed[0][0] - self._clock() if self._delayed else None
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _pop(self) -> Item:
        """Take the next item of the namespace whose turn it is."""
        namespace, (first, then) = next(iter(self._ready.items()))
        item = (first or then).popleft()
        self._ready.move_to_end(namespace)
        if not first and not then:
            del self._ready[namespace]
        return item

    def done(self, item: Item) -> None:
        """Give an item back."""
        self._busy.discard(item)
        begun = self._again.pop(item, None)
        if begun is not None:
            self.add(item, begun=begun)

    def _release(self) -> None:
        """Move what is due to the ready items."""
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, item = heapq.heappop(self._delayed)
            if self._due.get(item) == due:
                self.add(item)

    @property
    def depth(self) -> int:
        """How many items are ready and waiting."""
        return len(self._queued)

    @property
    def busy(self) -> int:
        """How many items are being worked on."""
        return len(self._busy)

    @property
    def oldest_age(self) -> float:
        """How long the item that waits longest has waited, in seconds."""
        return self._clock() - min(self._queued.values()) if self._queued else 0.0
