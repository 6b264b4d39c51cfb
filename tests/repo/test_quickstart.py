"""What the README promises, in a checkout of its own: copied, so that it meets no stack that is already up."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.build import binaries
from tests.repo.commands import blocks
from tests.repo.files import ROOT, tracked


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of the tracked files with this checkout's environment; its stack is ended with the module."""
    binaries()  # built once per machine, before the clocks of these tests start
    copy = tmp_path_factory.mktemp("checkout")
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    borrow_environment(copy / ".venv")
    yield copy
    sh(copy, "make down", seconds=60)


def borrow_environment(venv: Path) -> None:
    """Make a `.venv` out of this checkout's, with a stamp of its own: `make setup` must not install into ours."""
    venv.mkdir()
    for part in (ROOT / ".venv").iterdir():
        if part.name != ".stamp":
            (venv / part.name).symlink_to(part)
    (venv / ".stamp").touch()


def sh(folder: Path, script: str, *, seconds: float) -> str:
    """Run a script as a new user's shell would; return what it printed. Errors: AssertionError with all of it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "PATH", "LANG", "TERM", "TMPDIR", "XDG_CACHE_HOME", "KUBEBUILDER_ASSETS")
    }
    with subprocess.Popen(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            pytest.fail(f"{script}\nhas not ended after {seconds} s:\n{out}")
    assert process.returncode == 0, f"{script}\nended {process.returncode}:\n{out}"
    return out


def test_setup_of_a_checkout_that_is_set_up_is_quick(checkout: Path) -> None:
    """`make setup` does nothing twice."""
    assert "Nothing to be done" in sh(checkout, "make setup", seconds=60)


def test_the_demo_ends_with_a_resolved_incident(checkout: Path) -> None:
    """From nothing to Resolved, and the story is told."""
    told = sh(checkout, "make demo", seconds=900)
    assert "Resolved" in told
    assert "the on-call engineer is paged" in told
    assert "Subject: [RESOLVED] P1 Incident" in told
    assert re.search(r"incident +Resolved ", told)
    assert "# Post-Incident Review: INC-2023-1247" in told


def test_the_readme_works_as_it_is_printed(checkout: Path) -> None:
    """The block of the README, line by line, then what the operations page says to type about the same run."""
    (block,) = [b for b in blocks() if b.document == "README.md" and b.commands[0] == "make up"]
    *lines, heal, down = block.commands
    assert (heal, down) == ("make heal FAULT=all", "make down")
    asked = """
        kubectl incident watch inc-2023-1247
        kubectl incident plan inc-2023-1247
        kubectl describe incidentrun inc-2023-1247
        kubectl wait --for=condition=Finished incidentrun/inc-2023-1247 --timeout=30m
        kubectl get incidentruns
        kubectl get incidents
        kubectl incident who inc-2023-1247
        kubectl incident timeline inc-2023-1247
        kubectl get postincidentreviews
        kubectl incident review inc-2023-1247
        kubectl incident message inc-2023-1247
    """
    fresh = "source .dev/env; kubectl delete incidentruns --all --wait; make heal FAULT=all"
    sh(checkout, f"make up; {fresh}", seconds=300)
    out = sh(checkout, "\n".join([*lines, asked, heal, down]), seconds=600)
    assert re.search(r"^Resolved/Runbook after ", out, re.MULTILINE)
    assert "condition met" in out
    assert "# Post-Incident Review: INC-2023-1247" in out
    assert "[RESOLVED] P1 Incident" in out
    assert len(re.findall(r"^inc-2023-1247\s+P1\s.*\bResolved\b", out, re.MULTILINE)) == 2


def test_the_examples_page_works_as_it_is_printed(checkout: Path) -> None:
    """Its block, line by line, with the stack up."""
    (block,) = [b for b in blocks() if b.document == "examples/README.md" and b.commands[0] == "source .dev/env"]
    out = sh(checkout, "\n".join(["make up", *block.commands]), seconds=600)
    assert re.search(r"^Resolved/Runbook after ", out, re.MULTILINE)
