"""A way to a server from an address of one's own: libpq can't choose where it connects from."""

import contextlib
import select
import socket
import threading

_PATIENCE_SECONDS = 1.0


class Way:
    """Carries connections to `place`, a host and a port, from the address `source`, where it listens itself."""

    def __init__(self, source: str, place: tuple[str, int]) -> None:
        self.source, self._place = source, place
        self._listener = socket.create_server((source, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._relays: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        # Closing the listener ends it.
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._relays = [relay for relay in self._relays if relay.is_alive()]
                self._relays.append(threading.Thread(target=self._carry, args=(near,), daemon=True))
                self._relays[-1].start()

    def _carry(self, near: socket.socket) -> None:
        """Carry bytes both ways until an end is closed."""
        source = (self.source, 0)
        with near, contextlib.suppress(OSError), socket.create_connection(self._place, source_address=source) as far:
            others = {near: far, far: near}
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    others[ready].sendall(data)

    def close(self) -> None:
        """Take no more connections; those that are left end with their clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for relay in self._relays:
            relay.join(_PATIENCE_SECONDS)
