"""`make` explains itself."""

import os
import re
import subprocess

from tests.repo.files import ROOT

_TARGET = re.compile(r"^([a-z][a-z-]*):(?!=)(.*)$", re.MULTILINE)


def _targets() -> dict[str, str]:
    return dict(_TARGET.findall((ROOT / "Makefile").read_text()))


def _run(command: str) -> str:
    # Under `make test` this make would be a child of that one, and tell which directory it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    return done.stdout


def test_make_alone_prints_help_and_nothing_else() -> None:
    """A newcomer's first word is answered with all there is, one line each."""
    lines = _run("make").splitlines()
    assert [line.split()[1] for line in lines] == list(_targets())
    assert all(len(line.split()) > 3 for line in lines)
    assert _run("make help").splitlines() == lines


def test_every_target_says_what_it_does() -> None:
    """The help is the Makefile's own text."""
    assert [name for name, rest in _targets().items() if "## " not in rest] == []


def test_every_target_is_phony() -> None:
    """A file of the same name switches no target off."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(phony.group(1).split()) == sorted(_targets())
