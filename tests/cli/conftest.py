"""A fake API server and the command as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.fake_api import FakeApi

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """Serve our kinds on a loopback port."""
    server = FakeApi()
    yield server
    server.close()


@pytest.fixture
def command(api: FakeApi, tmp_path: Path) -> Iterator[Command]:
    """Start `kubectl-incident` with a kubeconfig for the fake server; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []
    kubeconfig = api.kubeconfig(tmp_path)

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "kubectl-incident"), *arguments],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
