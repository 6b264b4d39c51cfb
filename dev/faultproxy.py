"""A plain-HTTP proxy before the API server and the simulator: every fault of a test comes from outside the product.

It names the requests that matter (writes to the API server's objects of ours, changing calls to AWS). At any of them a
`Fault` refuses, loses or delays the answer, or cuts the side off, and may do something besides, like killing the
operator at just that moment. It can also be an outage, or make every answer slow. Source: decision 31.
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
from werkzeug.test import EnvironBuilder

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host"})
_API_REFUSALS = {
    "409": "Conflict",
    "429": "TooManyRequests",
    "500": "InternalError",
    "504": "Timeout",
}
_AWS_MODES = {"429": "throttle", "500": "error", "504": "timeout"}
_AWS_CONFLICTS = {"iam": "ConcurrentModification", "lambda": "ResourceConflictException"}
_READS = re.compile(r"^(Get|List|Describe|Filter|Lookup|Simulate|AssumeRole|BatchGet|Query|Scan|Head)")


class Side(StrEnum):
    """Whose server a request is for."""

    API = "api"
    AWS = "aws"


class Harm(StrEnum):
    """What happens to a request. The numbers are answers: the server never sees the request."""

    CONFLICT = "409"
    THROTTLED = "429"
    FAILED = "500"
    TIMED_OUT = "504"
    #: The connection breaks, and the server has not seen the request.
    UNSENT = "unsent"
    #: The side is cut off from then on, for so many seconds: nothing comes back, neither an answer nor an error.
    CUT_OFF = "cut-off"
    #: The server has done it, and the connection breaks before the answer.
    LOST = "lost"
    #: The server has done it, and answers so many seconds later.
    LATE = "late"

    @property
    def done(self) -> bool:
        """Tell whether the server does what was asked."""
        return self in (Harm.LOST, Harm.LATE)


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
class Fault:
    """One fault: at the `nth` request of that name (from 1), or at `every` nth, harm is done and `act` is called.

    Shape: `what` is a request's name, its first word for all of a kind (`incidentruns/status`), or a side for all that
    changes there. Units: seconds, of CUT_OFF and LATE.
    """

    what: str
    harm: Harm
    nth: int = 1
    every: bool = False
    seconds: float = 0.0
    act: Callable[[], None] = lambda: None
    struck: threading.Event = field(default_factory=threading.Event)
    _met: int = 0

    def meets(self, seen: Seen) -> bool:
        """Count a request; tell whether this is where it strikes."""
        if self.what not in (seen.what, seen.what.partition(" ")[0], seen.side if seen.changes else None):
            return False
        self._met += 1
        return self._met % self.nth == 0 if self.every else self._met == self.nth

    def strike(self) -> None:
        """Do what comes with it."""
        self.act()
        self.struck.set()


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
        self._cut_off_until = dict.fromkeys(Side, 0.0)
        self._faults: list[Fault] = []
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

    def arm(self, *faults: Fault) -> None:
        """Let these happen from now on; of several at one request the first armed."""
        self._faults += faults

    def cut_off(self, side: Side, seconds: float) -> None:
        """Let nothing of a side through, as if its packets were lost: whoever waits is told when it is over."""
        self._cut_off_until[side] = self._loop.time() + seconds

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
            fault = self._met(_understand(side, request, body))
            if self._delay:
                await asyncio.sleep(self._delay)
            if fault is not None and not fault.harm.done:
                await asyncio.to_thread(fault.strike)  # it may take a while, and all else goes on
                if fault.harm == Harm.UNSENT:
                    return _drop(request)
                if fault.harm != Harm.CUT_OFF:
                    return _refused(side, request, body, fault.harm)
                self.cut_off(side, fault.seconds)
            if await self._gone(side):
                return _drop(request)
            return await self._forward(side, request, body, fault)

        return handle

    def _met(self, seen: Seen) -> Fault | None:
        if seen.changes:
            self.changes.append(seen)
        met = [fault for fault in self._faults if fault.meets(seen)]
        return met[0] if met else None

    async def _gone(self, side: Side) -> bool:
        """Tell whether a side can't be reached; while it is cut off, not even that is told."""
        pause = self._cut_off_until[side] - self._loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        return pause > 0 or side in self._down

    async def _forward(self, side: Side, request: web.Request, body: bytes, fault: Fault | None) -> web.StreamResponse:
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
                if fault is not None and fault.harm.done:
                    await asyncio.to_thread(fault.strike)
                    if fault.harm == Harm.LOST:
                        return _drop(request)
                    await asyncio.sleep(fault.seconds)
                return await self._relay(side, request, answer)
        except aiohttp.ClientConnectionError:
            return _drop(request)

    async def _relay(self, side: Side, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        if await self._gone(side):
            return _drop(request)
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP - {"content-encoding"}}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            if await self._gone(side):
                return _drop(request)
            await response.write(chunk)
        await response.write_eof()
        return response


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _refused(side: Side, request: web.Request, body: bytes, harm: Harm) -> web.Response:
    return _refused_by_api(harm) if side == Side.API else _refused_by_aws(request, body, harm)


def _refused_by_api(harm: Harm) -> web.Response:
    """Return the Status that an API server answers. Source: apimachinery, `errors.NewConflict` and its neighbours."""
    reason, headers, details = _API_REFUSALS[harm], {}, {}
    if harm == Harm.THROTTLED:
        headers, details = {"Retry-After": "1"}, {"retryAfterSeconds": 1}
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"an injected fault: {reason}",
        "reason": reason,
        "details": details,
        "code": int(harm),
    }
    return web.json_response(status, status=int(harm), headers=headers)


def _refused_by_aws(request: web.Request, body: bytes, harm: Harm) -> web.Response:
    """Return the error as the service itself would, in the protocol of the call; of a gateway's 504, only that."""
    from dev.aws import faults, wire  # imported late: it brings moto along, which takes a while

    environ = EnvironBuilder(
        method=request.method, path=request.raw_path, headers=list(request.headers.items()), data=body
    ).get_environ()
    scope = wire.scope_of(environ)
    if scope is None:
        raise ValueError(f"{request.method} {request.path} is not signed: in which protocol is it to be refused?")
    call = wire.parse(environ, scope, body)
    if harm == Harm.CONFLICT:
        code = _AWS_CONFLICTS.get(call.service, "ConflictException")
        reply = call.refuse(wire.Refused(code, "an injected fault", status=409))
    else:
        reply = faults.broken(faults.Fault(mode=_AWS_MODES[harm]), call)
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def _understand(side: Side, request: web.Request, body: bytes) -> Seen:
    if side == Side.API:
        return _api_request(request, body)
    operation = _aws_operation(request, body)
    return Seen(side=side, method=request.method, what=operation, changes=not _READS.match(operation))


def _api_request(request: web.Request, body: bytes) -> Seen:
    if lock := _lock_request(request, body):
        return Seen(side=Side.API, method=request.method, what=lock, changes=True)
    if "/coordination.k8s.io/" in request.path:
        return Seen(side=Side.API, method=request.method, what=f"{request.method} leases", changes=False)
    # Of a namespace: runbooks of the cluster are many operators' to report on.
    ours = "/apis/ops.shopsmart.com/" in request.path and "/namespaces/" in request.path
    changes = ours and request.method in ("POST", "PUT", "PATCH", "DELETE")
    if not changes:
        return Seen(side=Side.API, method=request.method, what=request.path, changes=False)
    plural, _, rest = request.path.rpartition("/namespaces/")[2].partition("/")[2].partition("/")
    what = f"{request.method} {plural}"
    if rest.endswith("/status"):
        what = f"{plural}/status {_turn(json.loads(body).get('status') or {})}"
    return Seen(side=Side.API, method=request.method, what=what, changes=changes)


#: What a status write without a new phase or state is about, by the first of these fields that it has.
_TURNS = ("settled", "calls", "approvals", "diagnosis", "findings", "gates", "recovery")


def _turn(status: dict[str, Any]) -> str:
    """Return which turn of the story a status write is: its phase or state, else what it is about, in lower case."""
    told = next((str(status[key]) for key in ("phase", "state") if key in status), "")
    return told or next((key for key in _TURNS if key in status), "message")


def _lock_request(request: web.Request, body: bytes) -> str:
    """Return the name of a write to a lock Lease; empty for all else, the leader's own Lease too."""
    if "/leases" not in request.path or request.method not in ("POST", "DELETE"):
        return ""
    name = request.path.rpartition("/")[2] if request.method == "DELETE" else json.loads(body)["metadata"]["name"]
    return f"{request.method} locks" if name.startswith("lock-") else ""


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
