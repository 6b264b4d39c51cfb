"""One simulator for all tests of the shop; each test that changes something has an account of its own."""

import itertools
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.shop.faults import heal_all
from dev.shop.seed import seed
from dev.shop.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
_accounts = itertools.count(200000000000 + os.getpid() % 1000 * 1000)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of a simulator whose telemetry comes at once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.aws", "--time-scale", "3000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()


@pytest.fixture
def a_shop(endpoint: str, tmp_path: Path) -> Callable[..., Shop]:
    """Return a maker of seeded shops, each in its own account unless one is named."""

    def make(**names: Any) -> Shop:
        return seed(Shop(**{"account": str(next(_accounts)), "endpoint": endpoint, **names}), tmp_path)

    return make


@pytest.fixture(scope="session")
def shared(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Return the shop that most tests share."""
    return seed(Shop(account=str(next(_accounts)), endpoint=endpoint), tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(shared: Shop) -> Iterator[Shop]:
    """Return a shop as seeded, with its function warm; what a test breaks is healed after it."""
    yield shared
    heal_all(shared)


def asked(shop: Shop, path: str) -> Any:
    """Return what the simulator itself says of the shop's account."""
    with urllib.request.urlopen(f"{shop.endpoint}/_sim/{path}?account={shop.account}") as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture
def dump() -> Callable[[Shop], Any]:
    """Return a reader of the canonical state of the shop's account."""
    return lambda shop: asked(shop, "dump")


@pytest.fixture
def journal() -> Callable[[Shop], list[dict[str, Any]]]:
    """Return a reader of every call made in the shop's account."""
    return lambda shop: list(asked(shop, "journal")["calls"])
