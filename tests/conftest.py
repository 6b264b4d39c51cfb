"""How the suite is spread over processes: whole modules, but the slow end-to-end tests one by one, slowest first.

They mostly wait: for telemetry, for stability, for a Lease to run out. See `make test`.
"""

import gc
from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Modules that keep both processors busy by themselves: never side by side.
BUSY = (
    "test_kill_matrix",
    "test_network_faults",
    "test_database_performance",
    "test_autoscaling_failures",
    "test_alb_target_health",
)
#: Modules that have a cluster to themselves.
ALONE = ("test_admission_proof", "test_install", "test_rights")
#: Modules whose tests share nothing but the stack, the slowest first.
ONE_BY_ONE = (
    "test_availability",
    "test_people",
    "test_trouble",
    "test_faults",
    "test_histories",
)
_ORDER = (*BUSY, *ONE_BY_ONE)


def group_of(nodeid: str) -> str:
    """Return what is run by one process, in order: a test's own id, or a name shared by those that go together."""
    path = nodeid.partition("::")[0]
    module = PurePath(path).stem
    if module in ONE_BY_ONE:
        return nodeid
    return "busy" if module in BUSY else "alone" if module in ALONE else path


class Spread(LoadScopeScheduling):
    """Hands groups to whichever process is free. xdist's own `loadgroup` does nothing with pytest 9."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Spread:
    """Return our scheduler."""
    return Spread(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        return _ORDER.index(item.path.stem) if item.path.stem in _ORDER else len(_ORDER)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Let collections of garbage be few: going through what botocore knows of the services took a third of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 25, 25)
