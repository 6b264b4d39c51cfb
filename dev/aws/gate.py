"""An endpoint that moves: a TCP proxy on an address of its own that connects each client to whoever is meant now.

It stands for a DNS name that AWS points elsewhere: whoever is connected stays where they are, whoever connects anew
comes to the new place. Onwards it connects from the client's own address, so that a server sees its clients.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from dev.loopback import free_ports

#: Host and port.
Place = tuple[str, int]
_CHUNK = 65536
_CONNECT_SECONDS = 2.0


class Gates:
    """All endpoints of a simulator, in one thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gates", daemon=True)
        self._thread.start()

    def open(self, host: str, leads_to: Callable[[], Place | None]) -> "Gate":
        """Open an endpoint; `leads_to` is asked for each client, and None turns it away."""
        return asyncio.run_coroutine_threadsafe(Gate.make(host, leads_to), self._loop).result(10)

    def shut(self, gate: "Gate") -> None:
        """Close an endpoint, and whoever goes through it."""
        asyncio.run_coroutine_threadsafe(gate.close(), self._loop).result(10)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Gate:
    """One endpoint."""

    def __init__(self, place: Place, leads_to: Callable[[], Place | None]) -> None:
        self.place, self._leads_to = place, leads_to
        self._server: asyncio.Server | None = None
        self._clients = set[asyncio.Task[None]]()

    @classmethod
    async def make(cls, host: str, leads_to: Callable[[], Place | None]) -> "Gate":
        """Listen on a free port."""
        gate = cls((host, free_ports(host, 1)[0]), leads_to)
        gate._server = await asyncio.start_server(gate._enter, *gate.place)
        return gate

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        try:
            # A server that is down or a client that goes away ends the connection, as on any way.
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._lead(reader, writer)
        finally:
            writer.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = self._leads_to()
        if place is None:
            return
        source = (writer.get_extra_info("peername")[0], 0)
        onwards = asyncio.open_connection(*place, local_addr=source)
        there, back = await asyncio.wait_for(onwards, _CONNECT_SECONDS)
        ways = [asyncio.ensure_future(_carry(reader, back)), asyncio.ensure_future(_carry(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.close()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
