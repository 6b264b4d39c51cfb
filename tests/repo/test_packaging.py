"""Locks, versions, licence and changelog agree with each other."""

import re
import tomllib
from typing import Any

import pytest

import incident_operator
from incident_operator.api import crd
from tests.repo.files import ROOT

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_LOCKS = ("requirements.lock", "requirements-dev.lock")


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(lock: str) -> dict[str, str]:
    return {_normal(name): version for name, version in _PIN.findall((ROOT / lock).read_text())}


@pytest.mark.parametrize("lock", _LOCKS)
def test_every_locked_package_has_hashes_and_no_address(lock: str) -> None:
    """What is installed is what was resolved, wherever it is fetched from."""
    text = (ROOT / lock).read_text()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)[1:]
    assert len(blocks) == len(_pins(lock)) > 10
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_development_runs_on_the_versions_of_production() -> None:
    """The small lock is a part of the large one."""
    small, large = _pins(_LOCKS[0]), _pins(_LOCKS[1])
    assert {name: large.get(name) for name in small} == small


@pytest.mark.parametrize(("lock", "extra"), [(_LOCKS[0], None), (_LOCKS[1], "dev")])
def test_every_declared_dependency_is_locked(lock: str, extra: str | None) -> None:
    """`make lock` was not forgotten."""
    project = _project()
    declared = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    names = {_normal(re.split(r"[\[<>=~! ;]", line)[0]) for line in declared}
    assert names - set(_pins(lock)) == set()


def test_the_version_is_one() -> None:
    """The package, its metadata and the changelog speak of the same version."""
    version = _project()["version"]
    assert incident_operator.__version__ == version
    released = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert not released or released[0] == version


def test_the_changelog_has_an_unreleased_section_first() -> None:
    """What changes is told where the next release will be made from."""
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0].strip("[]") == "Unreleased"


def test_the_licence_is_the_declared_one() -> None:
    """Apache-2.0, in full."""
    text = (ROOT / "LICENSE").read_text()
    assert _project()["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_crds_are_what_the_models_say() -> None:
    """`crds/` is generated, never edited: `make crds`."""
    stored = {path.name: path.read_text() for path in (ROOT / "crds").iterdir()}
    assert stored == crd.manifests(), "crds/ is not what api/ says: make crds"
