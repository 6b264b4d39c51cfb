"""The queue's promises that no end-to-end test can show surely."""

from incident_operator.runtime.queue import Queue

ITEM = ("IncidentRun", ("space", "run"))


async def test_a_failed_item_waits_as_long_as_the_server_asks() -> None:
    """`Retry-After` counts where it is longer than our own pause, which grows with each failure in a row."""
    queue = Queue(lambda: 0.0)
    assert queue.retry(ITEM, at_least=7.0) == 7.0
    assert queue.retry(ITEM) == 0.4
    assert queue.retry(ITEM, at_least=0.1) == 0.8
    queue.succeeded(ITEM)
    assert queue.retry(ITEM) == 0.2


async def test_what_was_begun_comes_before_what_was_not_and_once() -> None:
    """Namespaces still take turns, and what waited already only moves ahead."""
    queue = Queue(lambda: 0.0)
    new, begun, other = ITEM, ("IncidentRun", ("space", "begun")), ("IncidentRun", ("elsewhere", "run"))
    for item in (new, begun, other):
        queue.add(item)
    queue.add(begun, begun=True)
    assert queue.depth == 3
    assert [await queue.get() for _ in range(3)] == [begun, other, new]
    queue.add(new)
    queue.add(new, begun=True)
    queue.add(begun)
    queue.done(begun)
    queue.done(new)
    assert [await queue.get(), await queue.get()] == [new, begun]
    assert queue.depth == 0
