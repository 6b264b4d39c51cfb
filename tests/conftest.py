"""How the suite is spread over processes: whole modules, but the slow end-to-end tests one by one, slowest first.

They mostly wait: for telemetry, for stability, for a Lease to run out. See `make test`.
"""

import pytest

#: Modules whose tests share nothing but the stack, the slowest first.
ONE_BY_ONE = (
    "test_kill_matrix",
    "test_network_faults",
    "test_availability",
    "test_people",
    "test_trouble",
    "test_faults",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what shares fixtures of a module, and put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        name = item.path.stem
        return ONE_BY_ONE.index(name) if name in ONE_BY_ONE else len(ONE_BY_ONE)

    for item in items:
        if item.path.stem not in ONE_BY_ONE:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    items.sort(key=rank)
