"""A plain-HTTP proxy before the API server and the simulator: every fault of a test comes from outside the product.

It names the requests that matter (writes to the API server's objects of ours, changing calls to AWS) and can kill the
operator at one of them: before it is forwarded, or after the server did it and before the answer is relayed.
It can also be an outage, or make every answer slow. Source: decision 31.
"""

import asyncio
import contextlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import yaml
from aiohttp import web

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host"})
_READS = re.compile(r"^(Get|List|Describe|Filter|Lookup|Simulate|AssumeRole|BatchGet|Query|Scan|Head)")


class Side(StrEnum):
    """Whose server a request is for."""

    API = "api"
    AWS = "aws"


class Moment(StrEnum):
    """When a fault strikes: the server has not seen the request, or has done it and nobody was told."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as the proxy understands it. `changes`: it would write one of our objects, or change AWS.

    Shape: `what` is the same for the same turn of the story in any world: `incidentruns/status Remediating`,
    `SetDefaultPolicyVersion`.
    """

    side: Side
    method: str
    what: str
    changes: bool


@dataclass(kw_only=True)
class Strike:
    """One fault: at the `nth` changing request of that name (from 1), `act` is called, the connection dropped."""

    what: str
    nth: int
    moment: Moment
    act: Callable[[], None]
    struck: threading.Event = field(default_factory=threading.Event)


class FaultProxy:
    """Two listeners, one before each server. Use as a context manager; its methods are for other threads."""

    def __init__(self, host: str, *, api: str, api_ca: Path | None, aws: str) -> None:
        self._host = host
        self._upstream = {Side.API: api.rstrip("/"), Side.AWS: aws.rstrip("/")}
        self._ssl: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(api_ca)) if api_ca else False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._ports: dict[Side, int] = {}
        self._down: set[Side] = set()
        self._delay = 0.0
        self._strike: Strike | None = None
        #: The changing requests so far, in the order of their arrival.
        self.changes: list[Seen] = []

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def url(self, side: Side) -> str:
        """Where to reach one side through the proxy."""
        return f"http://{self._host}:{self._ports[side]}"

    def kubeconfig(self, source: Path, target: Path) -> Path:
        """Write a copy of a kubeconfig that goes through the proxy, with the same credentials."""
        config = yaml.safe_load(source.read_text())
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": self.url(Side.API)}
        target.write_text(yaml.safe_dump(config))
        target.chmod(0o600)
        return target

    def strike(self, what: str, nth: int, moment: Moment, act: Callable[[], None]) -> Strike:
        """Arm one fault, counted from the proxy's start; returns it, to wait for `struck`."""
        self._strike = Strike(what=what, nth=nth, moment=moment, act=act)
        return self._strike

    @contextlib.contextmanager
    def outage(self, *sides: Side) -> Iterator[None]:
        """Be a server that is gone: every connection is dropped, also open watches at their next event."""
        self._down |= set(sides)
        try:
            yield
        finally:
            self._down -= set(sides)

    def slow(self, seconds: float) -> None:
        """Delay every request."""
        self._delay = seconds

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._runners = []
        for side in Side:
            application = web.Application(client_max_size=64 * 2**20)
            application.router.add_route("*", "/{path:.*}", self._handler(side))
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            site = web.TCPSite(runner, self._host, 0)
            await site.start()
            self._runners.append(runner)
            self._ports[side] = runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._session.close()
        for runner in self._runners:
            await runner.cleanup()

    def _handler(self, side: Side) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            seen = _understand(side, request, body)
            strike = self._count(seen)
            if self._delay:
                await asyncio.sleep(self._delay)
            if side in self._down:
                return _drop(request)
            if strike is not None and strike.moment == Moment.BEFORE:
                return _hit(strike, request)
            return await self._forward(side, request, body, strike)

        return handle

    def _count(self, seen: Seen) -> Strike | None:
        if not seen.changes:
            return None
        self.changes.append(seen)
        strike = self._strike
        if strike is None or strike.what != seen.what or strike.struck.is_set():
            return None
        return strike if sum(s.what == seen.what for s in self.changes) == strike.nth else None

    async def _forward(
        self, side: Side, request: web.Request, body: bytes, strike: Strike | None
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        if side == Side.AWS:
            headers["Host"] = request.headers["Host"]
        try:
            async with self._session.request(
                request.method,
                f"{self._upstream[side]}{request.raw_path}",
                headers=headers,
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=5),
            ) as answer:
                if strike is not None:
                    await answer.read()
                    return _hit(strike, request)
                return await self._relay(side, request, answer)
        except aiohttp.ClientConnectionError:
            return _drop(request)

    async def _relay(self, side: Side, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP - {"content-encoding"}}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            if side in self._down:
                return _drop(request)
            await response.write(chunk)
        await response.write_eof()
        return response


def _hit(strike: Strike, request: web.Request) -> web.StreamResponse:
    strike.act()
    strike.struck.set()
    return _drop(request)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _understand(side: Side, request: web.Request, body: bytes) -> Seen:
    if side == Side.API:
        return _api_request(request, body)
    operation = _aws_operation(request, body)
    return Seen(side=side, method=request.method, what=operation, changes=not _READS.match(operation))


def _api_request(request: web.Request, body: bytes) -> Seen:
    # Of a namespace: runbooks of the cluster are many operators' to report on.
    ours = "/apis/ops.shopsmart.com/" in request.path and "/namespaces/" in request.path
    changes = ours and request.method in ("POST", "PUT", "PATCH", "DELETE")
    if not changes:
        return Seen(side=Side.API, method=request.method, what=request.path, changes=False)
    plural, _, rest = request.path.rpartition("/namespaces/")[2].partition("/")[2].partition("/")
    what = f"{request.method} {plural}"
    if rest.endswith("/status"):
        status = json.loads(body).get("status") or {}
        written = next((str(status[key]) for key in ("phase", "state") if key in status), "+".join(sorted(status)))
        what = f"{plural}/status {written}"
    return Seen(side=Side.API, method=request.method, what=what, changes=changes)


def _aws_operation(request: web.Request, body: bytes) -> str:
    """Return the operation's name where the protocol tells it, else method and path; GET reads."""
    if target := request.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if "/operation/" in request.path:
        return request.path.rpartition("/operation/")[2]
    if request.content_type == "application/x-www-form-urlencoded":
        return parse_qs(body.decode()).get("Action", ["Get"])[0]
    if request.method in ("GET", "HEAD"):
        return f"Get {request.path}"
    return f"{request.method} {request.path}"
