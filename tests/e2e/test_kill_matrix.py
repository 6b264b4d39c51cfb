"""kill -9 at every write and at every changing call, before and after: the run ends as it would have.

A first run without a fault names the requests that matter; then each of them, at both moments, gets a world of its
own, an operator that is killed there by the proxy, and a second operator that must bring the run to the same end: no
call twice that may be made once, nothing in the world that the first run did not do. Source: decision 31.
"""

from collections.abc import Callable

import pytest

from dev.faultproxy import Fault, Harm, Side

from .cures import Playbook, cure, cure_all, turns
from .world import World

PLAYBOOKS = (
    Playbook(fault="inc-2023-1247", ends="Resolved/Runbook"),
    Playbook(fault="lambda-timeout", ends="Resolved/Runbook", asks=True),
)


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda p: p.fault)
def test_killed_anywhere_it_ends_the_same(playbook: Playbook, make_world: Callable[..., World]) -> None:
    """Every changing request of the first playbook, before and after; of another one, those that the first lacks."""
    whole = cure(make_world(through_proxy=True), playbook)
    assert whole.ends == playbook.ends, whole.told
    assert {seen.side for seen in whole.seen} == set(Side)
    first = PLAYBOOKS[0]
    known = set() if playbook is first else {seen.what for seen in cure(make_world(through_proxy=True), first).seen}
    own = [(what, nth) for what, nth in turns(whole.seen) if what not in known]
    assert own, "it asks for nothing of its own"
    points = [(what, nth, harm) for what, nth in own for harm in (Harm.UNSENT, Harm.LOST)]
    cases = [
        lambda operator, at=point: [Fault(what=at[0], nth=at[1], harm=at[2], act=operator.kill)] for point in points
    ]
    wrong = [
        f"killed at {what} ({nth}), {harm}: {problem}"
        for (what, nth, harm), found in zip(points, cure_all(make_world, playbook, whole, cases), strict=True)
        for problem in found
    ]
    assert not wrong, "\n".join(wrong)
