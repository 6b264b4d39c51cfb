"""A TCP proxy before PostgreSQL: as `dev.faultproxy` does for its two sides, but at the statements of plan calls.

At one of them it does something from outside, like killing the operator, before the server sees the statement or once
the server has answered it. Nothing in the product knows of it. Source: decision 31.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

#: What only the calls of plans say to a server.
CANCEL = b"pg_cancel_backend(pid)"
TERMINATE = b"pg_terminate_backend(pid)"
DROP = b"DROP INDEX CONCURRENTLY"
CREATE = b"CREATE INDEX CONCURRENTLY"
_STATEMENTS = (CANCEL, TERMINATE, DROP, CREATE)


@dataclass(kw_only=True)
class Turn:
    """What happens once, at the next statement of this kind.

    Shape: `done`: the server has answered it; `lost`: the connection breaks then.
    """

    statement: bytes
    act: Callable[[], object]
    done: bool
    lost: bool = True
    struck: threading.Event = field(default_factory=threading.Event)

    def strike(self) -> None:
        """Do it."""
        self.act()
        self.struck.set()


class SqlProxy:
    """The proxy. Use as a context manager. Shape: `sent` are the statements that the server saw, in order."""

    def __init__(self, host: str, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server((host, 0), backlog=64)
        self.place: tuple[str, int] = (host, int(self._listener.getsockname()[1]))
        self.sent: list[bytes] = []
        self._turns: list[Turn] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "SqlProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def arm(self, turn: Turn) -> Turn:
        """Let it happen from now on."""
        self._turns.append(turn)
        return turn

    def _accept(self) -> None:
        # Closing the listener ends it.
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        """Carry bytes both ways until an end is closed, or a turn says so."""
        with near, contextlib.suppress(OSError), socket.create_connection(self._server) as far:
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is far:
                        near.sendall(data)
                    elif not self._asked(data, near, far):
                        return

    def _asked(self, data: bytes, near: socket.socket, far: socket.socket) -> bool:
        """Carry what a client says; return whether the connection goes on."""
        statement = next((known for known in _STATEMENTS if known in data), None)
        turn = next((t for t in self._turns if t.statement == statement), None)
        if turn is not None:
            self._turns.remove(turn)
            if not turn.done:
                turn.strike()
                return False
        far.sendall(data)
        if statement is not None:
            self.sent.append(statement)
        if turn is not None:
            answer = far.recv(65536)
            turn.strike()
            if turn.lost:
                return False
            near.sendall(answer)
        return True
