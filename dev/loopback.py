"""An address of this checkout's own: two checkouts side by side never meet, not even on a fixed port."""

import hashlib
import json
import socket
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def address(place: Path = ROOT) -> str:
    """Return 127.a.b.1 by the hash of `place` where it can be bound (Linux), else 127.0.0.1."""
    digest = hashlib.sha256(str(place.resolve()).encode()).digest()
    own = f"127.{1 + digest[0] % 254}.{1 + digest[1] % 254}.1"
    with socket.socket() as probe:
        try:
            probe.bind((own, 0))
        except OSError:
            return "127.0.0.1"
    return own


def neighbours(place: Path = ROOT) -> list[str]:
    """Return the other addresses 127.a.b.2 to .254 of the checkout; none where only 127.0.0.1 can be bound."""
    own = address(place)
    if own == "127.0.0.1":
        return []
    return [f"{own.rpartition('.')[0]}.{last}" for last in range(2, 255)]


def free_ports(host: str, count: int, preferred: tuple[int, ...] = ()) -> list[int]:
    """Return `count` distinct ports free on `host`, the preferred ones where they still are."""
    held: list[socket.socket] = []
    try:
        for index in range(count):
            probe = socket.socket()
            held.append(probe)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, preferred[index] if index < len(preferred) else 0))
            except OSError:
                probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        for probe in held:
            probe.close()


class PortBook:
    """The ports of one state directory: a part that comes back gets the port it had, where that is still free.

    Not for two processes at once: whoever brings a stack up holds its lock. Its parts start in several threads.
    """

    _taking = threading.Lock()

    def __init__(self, file: Path, host: str) -> None:
        self._file, self._host = file, host

    def take(self, *names: str, running: bool = False) -> list[int]:
        """Return one port for each name: as recorded while the part is running, else one that is free."""
        with self._taking:
            known = self._read()
            if running and all(name in known for name in names):
                return [known[name] for name in names]
            # 0 stands for "any": a name that is new must not shift the others' preferences.
            ports = free_ports(self._host, len(names), tuple(known.get(name, 0) for name in names))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Replaced, not rewritten: who reads meanwhile finds the whole of it.
            written = self._file.with_suffix(".tmp")
            written.write_text(json.dumps({**known, **dict(zip(names, ports, strict=True))}, indent=1))
            written.replace(self._file)
            return ports

    def recorded(self, name: str) -> int | None:
        """Return the port that a part has or had."""
        return self._read().get(name)

    def _read(self) -> dict[str, int]:
        if not self._file.exists():
            return {}
        return {str(name): int(port) for name, port in json.loads(self._file.read_text()).items()}
