"""An address of this checkout's own: two checkouts side by side never meet, not even on a fixed port."""

import hashlib
import socket
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
