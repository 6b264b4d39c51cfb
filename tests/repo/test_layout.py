"""The layout that keeps Python working, and files that name no machine and no registry."""

import re
import subprocess
import sys

from tests.repo.files import ROOT, texts

#: Written in parts, so that this file does not name them itself.
_REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
    )
)
_MACHINE_PATH = re.compile(r"(?<![\w.)>\]-])/(?:work|root|home/\w+|Users/\w+)/[\w.]")


def test_operator_is_a_source_root_and_no_package() -> None:
    """With an `operator/__init__.py` the folder would shadow the standard library's `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists(), (
        "operator/ is a source root: with an __init__.py, `python` started here imports it in place of the standard "
        "library's operator module and dies in collections. Put modules below operator/incident_operator/."
    )
    children = {p.name for p in (ROOT / "operator").iterdir()} - {"__pycache__"}
    assert children == {"incident_operator"}, "one package only: every other name here could shadow a module"


def test_no_test_folder_shadows_the_standard_library_either() -> None:
    """`tests/operator/` would do the same to tests that are run from their own folder."""
    assert not (ROOT / "tests" / "operator").exists()


def test_python_started_here_finds_its_own_operator_module() -> None:
    """What the layout is for, tried."""
    code = "import collections, operator; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.startswith(str(ROOT / "operator"))


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's business: mirrors and air gaps stay possible."""
    found = [f"{name}: {host}" for name, text in texts() for host in _REGISTRIES if host in text]
    assert found == []


def test_no_file_names_a_path_of_one_machine() -> None:
    """A checkout works wherever it lies."""
    found = [f"{name}: {hit.group()}" for name, text in texts() for hit in _MACHINE_PATH.finditer(text)]
    assert found == []


def test_the_guards_find_what_they_look_for() -> None:
    """A guard that can't fail guards nothing."""
    assert _MACHINE_PATH.search("cd /work" + "/main")
    assert _MACHINE_PATH.search("open('/home" + "/alice/x')")
    assert not _MACHINE_PATH.search("https://example.com/work" + "/main")
