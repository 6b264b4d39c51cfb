"""The repository's own files, as Git tracks them."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Return every tracked file that is there, by name."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return tuple(sorted(path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()))


def texts() -> Iterator[tuple[str, str]]:
    """Yield name and text of every tracked file; those that are no text are left out."""
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            yield str(path.relative_to(ROOT)), data.decode()


def documents() -> tuple[Path, ...]:
    """Return the tracked Markdown files: what people read."""
    return tuple(path for path in tracked() if path.suffix == ".md")
