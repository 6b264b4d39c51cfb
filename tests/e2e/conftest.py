"""One stack for all end-to-end tests of a run, in `.dev/test`; never that of `make up`. Source: decision 30."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.loopback import ROOT
from dev.processes import file_lock
from dev.stack import Stack

from .rights import asked, beyond, granted
from .world import TIME_SCALE, World, a_world, clean_environment


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Return the stack: control plane, simulator and runbooks; no shop and no operator.

    At its end, what all operators of all tests asked of the API server is compared with their rights.
    """
    with _a_stack(request, "test") as stack:
        yield stack


@pytest.fixture(scope="session")
def lone_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Return a stack for tests that watch, or change, what is the whole cluster's."""
    with _a_stack(request, "test-alone") as stack:
        yield stack


@contextmanager
def _a_stack(request: pytest.FixtureRequest, folder: str) -> Iterator[Stack]:
    clean_environment()
    say = request.config.get_terminal_writer().line
    options: dict[str, Any] = {"operator": False, "shop": False, "cluster": "own", "audit": True, "say": say}
    stack = Stack(ROOT / ".dev" / folder, time_scale=TIME_SCALE, **options)
    with shared(stack, ROOT / ".dev" / f"{folder}-users"):
        yield stack
        problems = beyond(granted(), asked(stack.audit_log))
        assert problems == [], "requests beyond the operator's rights, in some test: see manifests/base/rbac.yaml"


@contextmanager
def shared(stack: Stack, users: Path) -> Iterator[None]:
    """Bring the stack up together with the other processes of this run; the last one ends it."""
    mine = users / str(os.getpid())
    with file_lock(users / "lock"):
        mine.touch()
        stack.up()
    try:
        yield
    finally:
        with file_lock(users / "lock"):
            mine.unlink()
            if not any(Path(f"/proc/{user.name}").exists() for user in users.iterdir() if user.name != "lock"):
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
