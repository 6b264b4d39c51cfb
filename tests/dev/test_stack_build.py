"""The control plane's binaries are built once, told about while they are, and never found half done."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.controlplane import build

BuildWith = Callable[..., Path]
#: Stands in for Go: says a version, counts its builds, and writes what `-o` asks for.
BUILDS = """
echo "$@" >> "$COUNTED"
while [ $# -gt 0 ]; do if [ "$1" = "-o" ]; then printf '#!/bin/sh\\n' > "$2"; chmod +x "$2"; fi; shift; done
echo "go: downloading k8s.io/api v0.36.3"
echo "k8s.io/api/core/v1"
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildWith:
    """Return a function that puts a Go of a given script first on PATH; the caches are the test's own."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))

    def with_script(script: str, version: str = "go1.26.0") -> Path:
        program = tmp_path / "bin" / "go"
        program.parent.mkdir(exist_ok=True)
        said = f'if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit 0; fi'
        program.write_text(f"#!/bin/sh\n{said}\n{script}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return tmp_path / "counted"

    return with_script


def test_two_callers_at_once_build_once_and_both_find_everything(go: BuildWith) -> None:
    """The lock lets one build; the other waits and finds the folder whole."""
    counted, said = go(BUILDS), list[str]()
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(build.binaries, [said.append, said.append])
    assert first == second
    assert {file.name for file in first.iterdir()} == set(build.NAMES)
    assert len(counted.read_text().splitlines()) == len(build.NAMES)
    assert build.binaries(said.append) == first
    assert len(counted.read_text().splitlines()) == len(build.NAMES)


def test_a_cache_that_lost_a_program_is_built_anew(go: BuildWith) -> None:
    """Half a folder is never used, and does not stand in the way."""
    counted = go(BUILDS)
    folder = build.binaries(lambda _: None)
    (folder / "etcd").unlink()
    assert build.binaries(lambda _: None) == folder
    assert (folder / "etcd").exists()
    assert len(counted.read_text().splitlines()) == 2 * len(build.NAMES)


def test_a_build_tells_where_it_is(go: BuildWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program ends in a line with its time and count, and there are lines in between."""
    monkeypatch.setattr(build, "REPORT_SECONDS", 0.05)
    said: list[str] = []
    go(BUILDS + "sleep 0.2\n")
    build.binaries(said.append)
    done = [line for line in said if line.endswith("1 packages compiled, 1 modules downloaded; done")]
    assert [line.split()[4] for line in done] == list(build.NAMES)
    assert any(line.endswith("; now k8s.io/api/core/v1") for line in said)


def test_a_failed_build_shows_its_last_lines_and_leaves_nothing_to_be_found(go: BuildWith, tmp_path: Path) -> None:
    """What the compiler said is in the error; the next call builds again."""
    counted = go('echo x >> "$COUNTED"; echo "dial tcp: lookup modules: no such host" >&2; exit 1\n')
    for builds in (1, 2):
        with pytest.raises(build.BuildError, match=r"no such host\n.*network access"):
            build.binaries(lambda _: None)
        assert len(counted.read_text().splitlines()) == builds


def test_an_old_go_without_network_is_told_what_to_do(
    go: BuildWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Go that is too old is never used, and the way out is in the message."""
    counted, said = go(BUILDS, version="go1.22.4"), list[str]()
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    with pytest.raises(build.BuildError, match="install Go, or set KUBEBUILDER_ASSETS"):
        build.binaries(said.append)
    assert any("Go 1.26 or newer is needed" in line and "is 1.22" in line for line in said)
    assert not counted.exists()


def test_given_binaries_are_used_and_missing_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBEBUILDER_ASSETS wins, whole or not at all."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in build.NAMES[:2]:
        (tmp_path / name).touch(mode=0o755)
    with pytest.raises(build.BuildError, match="which has no kube-controller-manager"):
        build.binaries()
    (tmp_path / build.NAMES[2]).touch(mode=0o755)
    assert build.binaries() == tmp_path


def test_the_version_is_stamped_and_part_of_the_key() -> None:
    """Without it kubectl cannot tell what it talks to; another version is another folder."""
    kubernetes = build.versions()["k8s.io/kubernetes"]
    assert f"gitVersion=v{kubernetes}" in build.ldflags("kube-apiserver")
    assert build.key().startswith(f"{kubernetes}-etcd{build.versions()['go.etcd.io/etcd/server/v3']}-")
