"""The image, as far as it can be proven without a builder: the Dockerfile is read, and its steps are done by hand.

What is left out is Docker itself: the layers, and that the base image's tag can be pulled.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from incident_operator import __version__
from tests.repo.dockerfile import copied, instructions
from tests.repo.files import ROOT, tracked

PREFIX = "/opt/operator"
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def last_stage(name: str) -> list[list[str]]:
    """Return the words of each instruction of that name in the image that is shipped."""
    steps = instructions()
    return [step.words for step in steps if step.name == name and step.stage == steps[-1].stage]


def test_the_base_image_is_a_fixed_and_slim_python_that_is_supported() -> None:
    """The same in both stages, down to the patch release, and the oldest Python that the project supports."""
    bases = [step.words[0] for step in instructions() if step.name == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    tag = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-[a-z]+", bases[0])
    assert tag is not None, f"{bases[0]}: name a patch release and a distribution"
    assert _PROJECT["requires-python"] == f">={tag[1]}"


def test_every_source_that_is_copied_is_there_and_let_through() -> None:
    """Tracked by Git, and not kept from the builder by .dockerignore; nothing else is let through."""
    names = {str(path.relative_to(ROOT)) for path in tracked()}
    sources = copied()
    missing = [s for s in sources if s not in names and not any(name.startswith(f"{s}/") for name in names)]
    assert len(sources) > 4
    assert missing == []
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == set(sources)
    assert [s for s in sources for rule in rules[1:] if not rule.startswith("!") and fnmatch(s, rule)] == []


def test_all_that_is_installed_is_locked_by_hash() -> None:
    """Each RUN that installs names a lock with hashes; the project itself brings nothing along."""
    installs = [step.text for step in instructions() if step.name == "RUN" and "pip install" in step.text]
    locks = [re.search(r"--require-hashes -r (\S+)$", text) for text in installs]
    assert [lock[1] for lock in locks if lock] == ["requirements-build.lock", "requirements.lock"]
    (own,) = (text for text, lock in zip(installs, locks, strict=True) if lock is None)
    assert own.endswith("--no-deps dist/*.whl")


def test_it_runs_as_a_number_that_is_not_root_without_a_shell() -> None:
    """The Deployment's own number; exec form, so that SIGTERM reaches the operator."""
    (user,) = last_stage("USER")
    security = pod_spec()["securityContext"]
    assert user == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert security["runAsUser"] > 0
    written = {step.name: step.text for step in instructions() if step.name in ("ENTRYPOINT", "CMD")}
    assert all(text.startswith("[") for text in written.values())


def test_the_entrypoint_is_the_console_script_and_the_deployment_leaves_it_alone() -> None:
    """The Deployment gives arguments only, and those that the image has by default."""
    (entrypoint,), (command,) = last_stage("ENTRYPOINT"), last_stage("CMD")
    assert len(entrypoint) == 1
    assert entrypoint[0] in _PROJECT["scripts"]
    (container,) = pod_spec()["containers"]
    assert "command" not in container
    assert container["args"][: len(command)] == command
    (port,) = last_stage("EXPOSE")
    assert [str(p["containerPort"]) for p in container["ports"]] == port


def test_the_manifests_name_the_version_that_is_built() -> None:
    """An image of another version would meet kinds that it does not know."""
    kustomization = yaml.safe_load((ROOT / "manifests/base/kustomization.yaml").read_text())
    (container,) = pod_spec()["containers"]
    assert kustomization["images"] == [{"name": container["image"], "newTag": __version__}]
    first = (ROOT / "Dockerfile").read_text().splitlines()[0]
    assert first.endswith(f"docker build -t <registry>/incident-operator:{__version__} .")


def pod_spec() -> dict[str, object]:
    """Return the Deployment's pod."""
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())
    spec: dict[str, object] = deployment["spec"]["template"]["spec"]
    return spec


# --- what the builder would do, done by hand ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Do the build stage's COPY and RUN instructions in a folder of their own; return what the image gets of it.

    `pip` of the base image is played by uv into an environment of its own, so that a warm cache makes it seconds.
    """
    folder = tmp_path_factory.mktemp("image")
    place, tools, prefix = folder / "build", folder / "tools", folder / "operator"
    place.mkdir()
    uv = str(Path(sys.executable).with_name("uv"))
    sh([uv, "venv", "-q", "--python", sys.executable, str(tools)], place)
    for step in instructions():
        if step.stage > 0:
            break
        if step.name == "COPY":
            for source in step.words[:-1]:
                copy(source, place)
        if step.name == "RUN":
            command = step.text.replace(PREFIX, str(prefix)).replace("--no-cache-dir ", "")
            if command.startswith("pip "):
                command = f"{uv} {command} --python {tools}"
            sh(["sh", "-c", command], place, PATH=f"{tools / 'bin'}:{os.environ['PATH']}")
    yield prefix
    shutil.rmtree(folder)


def copy(source: str, place: Path) -> None:
    """Copy what Git tracks of a file or folder."""
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if name == source or name.startswith(f"{source}/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place / name)


def sh(command: list[str], cwd: Path, **more: str) -> str:
    """Run a command that knows nothing of this checkout; return what it printed. Errors: AssertionError with it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\nended {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_the_production_lock_suffices(image: Path, tmp_path: Path) -> None:
    """The operator, its evaluator's child and every module of the package import with nothing else installed."""
    walk = """
import importlib, pkgutil, incident_operator
assert incident_operator.__file__.startswith(__import__("sys").prefix), incident_operator.__file__
for module in pkgutil.walk_packages(incident_operator.__path__, "incident_operator."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import incident_operator.__main__
print("all")
"""
    assert sh([str(image / "bin/python"), "-W", "error::ImportWarning", "-c", walk], tmp_path) == "all\n"
    installed = sh([str(Path(sys.executable).with_name("uv")), "pip", "freeze", "-q", "--python", str(image)], tmp_path)
    names = {line.partition("==")[0].partition(" @")[0] for line in installed.splitlines()}
    assert "moto" not in names
    assert "incident-operator" in names


def test_the_entrypoint_answers(image: Path, tmp_path: Path) -> None:
    """With the arguments of the Deployment, too, as far as they can be asked without a cluster."""
    (entrypoint,) = last_stage("ENTRYPOINT")
    program = str(image / "bin" / entrypoint[0])
    assert __version__ in sh([program, "--version"], tmp_path)
    told = sh([program, "run", "--help"], tmp_path)
    for argument in pod_spec()["containers"][0]["args"][1:]:  # type: ignore[index]
        assert argument.partition("=")[0] in told


def test_every_module_is_compiled(image: Path) -> None:
    """Nothing has to be written where the file system is read-only, and a start compiles nothing."""
    sources = [path for path in image.rglob("site-packages/incident_operator/**/*.py")]
    assert len(sources) > 40
    uncompiled = [p for p in sources if not list((p.parent / "__pycache__").glob(f"{p.stem}.*.pyc"))]
    assert uncompiled == []
