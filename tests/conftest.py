"""How the suite is spread over processes: whole modules, but the slow end-to-end tests one by one, slowest first.

They mostly wait: for telemetry, for stability, for a Lease to run out. See `make test`.
"""

import pytest

#: Modules that keep both processors busy by themselves: never side by side.
BUSY = ("test_kill_matrix", "test_network_faults")
#: Modules that have a cluster to themselves.
ALONE = ("test_admission_proof", "test_install", "test_rights")
#: Modules whose tests share nothing but the stack, the slowest first.
ONE_BY_ONE = (
    "test_availability",
    "test_people",
    "test_trouble",
    "test_faults",
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what shares fixtures of a module, and put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        order = (*BUSY, *ONE_BY_ONE)
        return order.index(item.path.stem) if item.path.stem in order else len(order)

    for item in items:
        module = item.path.stem
        if module not in ONE_BY_ONE:
            group = "busy" if module in BUSY else "alone" if module in ALONE else str(item.path)
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=rank)
