"""One stack for all end-to-end tests of a run, in `.dev/test`; never that of `make up`. Source: decision 30."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dev.loopback import ROOT
from dev.stack import Stack

from .rights import asked, beyond, granted
from .world import TIME_SCALE, World, a_world, clean_environment


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Return the stack: control plane, simulator and runbooks; no shop and no operator.

    At its end, what all operators of all tests asked of the API server is compared with their rights.
    """
    clean_environment()
    say = request.config.get_terminal_writer().line
    folder = ROOT / ".dev/test"
    stack = Stack(folder, operator=False, shop=False, time_scale=TIME_SCALE, cluster="own", audit=True, say=say)
    stack.up()
    try:
        yield stack
        problems = beyond(granted(), asked(stack.audit_log))
        assert problems == [], "requests beyond the operator's rights, in some test: see manifests/base/rbac.yaml"
    finally:
        stack.down()


@pytest.fixture
def make_world(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Return a maker of worlds, also for several threads."""
    with ExitStack() as stacked:
        numbers = itertools.count(1)

        def make(**options: Any) -> World:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            return stacked.enter_context(a_world(stack, folder, **options))

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Return one world."""
    return make_world()
