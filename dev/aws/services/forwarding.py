"""The data plane of load balancers: listeners that forward HTTP requests, all in one thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout, TCPConnector, web

from .firewall import Request

_CONNECT_SECONDS = 5.0
#: What belongs to one connection, not to the message that it carries.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"})
_SAID = {403: "Forbidden", 502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
Count = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a listener does.

    Shape: `targets` are addresses and ports; empty where nobody is registered. `allows` is what the web ACL says of a
    request; None where there is none.
    """

    account: str
    region: str
    address: str
    port: int
    dimensions: tuple[tuple[tuple[str, str], ...], ...]
    targets: tuple[tuple[str, int], ...]
    idle_seconds: float
    allows: Callable[[Request], bool] | None = None


class Forwarder:
    """All listeners. Shape: `count(route, by_target=…, **values)` is told of each request and each answer."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._routes: Mapping[str, Route] = {}
        self._sites: dict[str, tuple[tuple[str, int], web.ServerRunner]] = {}
        self._turn: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: ClientSession | None = None

    def serve(self, routes: Mapping[str, Route]) -> None:
        """Do from now on what these routes say; listeners come and go with them. Any thread may call it."""
        wanted = {arn: (route.address, route.port) for arn, route in routes.items()}
        changed = wanted != {arn: (route.address, route.port) for arn, route in self._routes.items()}
        self._routes = routes
        if not changed:
            return
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="load-balancers", daemon=True).start()
        # Not waited for: the caller holds the simulator's lock.
        asyncio.run_coroutine_threadsafe(self._listen(wanted), self._loop)

    def close(self) -> None:
        """Close all listeners."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _listen(self, wanted: Mapping[str, tuple[str, int]]) -> None:
        for arn, (where, runner) in list(self._sites.items()):
            if wanted.get(arn) != where:
                del self._sites[arn]
                await runner.cleanup()
        for arn, where in wanted.items():
            if arn not in self._sites:
                runner = web.ServerRunner(web.Server(self._handler(arn), access_log=None))
                await runner.setup()
                await web.TCPSite(runner, *where, shutdown_timeout=0.2).start()
                self._sites[arn] = where, runner

    def _handler(self, arn: str) -> Callable[[web.BaseRequest], Any]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            route = self._routes.get(arn)
            if route is None:
                return web.Response(status=503, text=_SAID[503])
            return await self._forward(arn, route, request)

        return handle

    async def _forward(self, arn: str, route: Route, request: web.BaseRequest) -> web.Response:
        if route.allows is not None and not route.allows(_seen(request)):
            # Before a target is chosen, so it is no request of the load balancer's.
            self._count(route, HTTPCode_ELB_4XX_Count=1.0)
            return web.Response(status=403, text=_SAID[403])
        self._count(route, by_target=bool(route.targets), RequestCount=1.0)
        if not route.targets:
            return self._own(route, 503)
        turn = self._turn[arn] = self._turn.get(arn, -1) + 1
        address, port = route.targets[turn % len(route.targets)]
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP]
        body = await request.read()
        begun = asyncio.get_running_loop().time()
        try:
            async with self._client().request(
                request.method,
                f"http://{address}:{port}{request.raw_path}",
                headers=[*headers, ("X-Forwarded-For", request.remote or "")],
                data=body or None,
                allow_redirects=False,
                timeout=ClientTimeout(connect=_CONNECT_SECONDS, sock_read=route.idle_seconds),
            ) as answer:
                content = await answer.read()
        except TimeoutError:
            return self._own(route, 504)
        except (ClientConnectionError, ClientError, OSError):
            return self._own(route, 502)
        seconds = asyncio.get_running_loop().time() - begun
        self._count(
            route,
            by_target=True,
            TargetResponseTime=seconds,
            **{f"HTTPCode_Target_{answer.status // 100}XX_Count": 1.0},
        )
        passed = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
        return web.Response(status=answer.status, headers=passed, body=content)

    def _own(self, route: Route, status: int) -> web.Response:
        """Answer where no target did."""
        self._count(route, HTTPCode_ELB_5XX_Count=1.0, **{f"HTTPCode_ELB_{status}_Count": 1.0})
        return web.Response(status=status, text=_SAID[status])

    def _client(self) -> ClientSession:
        if self._session is None:
            # A connection per request: a target that was just terminated must not look alive through an old one.
            connector = TCPConnector(force_close=True, limit=0)
            self._session = ClientSession(connector=connector, auto_decompress=False)
        return self._session

    async def _end(self) -> None:
        for _, runner in self._sites.values():
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()


def _seen(request: web.BaseRequest) -> Request:
    """Return a request as a web ACL sees it."""
    return Request(
        source=request.remote or "",
        method=request.method,
        uri=request.path,
        headers=tuple(request.headers.items()),
        version=f"HTTP/{request.version.major}.{request.version.minor}",
    )
