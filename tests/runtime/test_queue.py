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
