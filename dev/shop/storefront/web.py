"""What an instance of the storefront runs: `python -m dev.shop.storefront.web`, started by the simulator's EC2.

It gets one line of JSON on its standard input and ends when that ends (see `dev.aws.services.instances`). It imports
little, for an instance has to be up in no time. Its configuration:

port            where it listens, on its instance's address
release         what it says of itself
healthPath      where it says that it is well; any other such path is 404
slots           how many pages it makes at a time
pageSeconds     how long one page takes: `slots / pageSeconds` pages a second are all it can do, then customers queue
fail            `pages` or `all` (health too) fail from the beginning; none without
agent           `{namespace, metric, everySeconds, lagSeconds}`: its monitoring agent, which may lag; none without
database        `{dsn, pool, leakEvery}`: pages read from it; each n-th keeps its connection for ever; none without
cache           `{host, port, cling}`: carts are there; a clinging client never leaves its first node; none without

`POST /chaos` with `{"fail": "pages" | "all" | ""}` makes this one instance fail, until it is told otherwise; with
`{"leak": "idle" | "transaction"}` its pool keeps one connection for ever, idle or inside a transaction. Only who asks
the instance itself is heard, not what comes through the load balancer.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

_PRODUCTS = {"1": "Kettle", "2": "Lamp", "3": "Chair"}
_MEASURE_SECONDS = 60.0
_FLOOR_SECONDS = 0.2


class Busy:
    """The slots pages are made in, and the share of them in use."""

    def __init__(self, slots: int) -> None:
        self._slots, self._free = slots, threading.Semaphore(slots)
        self._lock = threading.Lock()
        self._used = 0.0
        self._since = time.monotonic()
        self._running: dict[int, float] = {}

    def __enter__(self) -> None:
        """Wait for a slot."""
        self._free.acquire()
        with self._lock:
            self._running[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        with self._lock:
            begun = self._running.pop(threading.get_ident())
            self._used += time.monotonic() - max(begun, self._since)
        self._free.release()

    def percent(self) -> float:
        """Return how much of the slots was in use since the last call."""
        with self._lock:
            now = time.monotonic()
            used = self._used + sum(now - max(begun, self._since) for begun in self._running.values())
            seconds, self._since, self._used = now - self._since, now, 0.0
        return min(100.0, 100 * used / (seconds * self._slots)) if seconds > 0 else 0.0


class Storefront:
    """The shop as one instance has it. Shape: `fail` is empty, `pages` or `all`."""

    def __init__(self, configuration: Mapping[str, Any], address: str = "") -> None:
        self.configuration = configuration
        self.busy = Busy(int(configuration.get("slots", 2)))
        self.fail = str(configuration.get("fail", ""))
        self._carts: dict[str, list[str]] = {}
        self._database: Any = None
        self._cache: Any = None
        if configuration.get("database") or configuration.get("cache"):
            from . import backends  # their clients take longer to import than all the rest

            if configuration.get("database"):
                self._database = backends.Database(source=address, **configuration["database"])
            if configuration.get("cache"):
                self._cache = backends.Cache(source=address, **configuration["cache"])

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and body of a request."""
        healthy = path == self.configuration.get("healthPath", "/health")
        if self.fail == "all" or (self.fail and not healthy):
            return 500, {"error": "InternalServerError"}
        if healthy:
            return 200, {"status": "ok", "release": self.configuration.get("release", "")}
        with self.busy:
            time.sleep(float(self.configuration.get("pageSeconds", 0.02)))
        try:
            return self._page(method, path, body)
        except Exception as error:  # a page that fails is a 500, whatever it failed of
            return 500, {"error": type(error).__name__}

    def chaos(self, asked: Mapping[str, Any]) -> tuple[int, Any]:
        """Fail from now on, or leak a connection, as asked; return status and body."""
        if "leak" not in asked:
            self.fail = str(asked["fail"])
            return 200, {"fail": self.fail}
        try:
            return 200, {"leaked": self._database.leak(in_transaction=asked["leak"] == "transaction")}
        except Exception as error:  # no connection is left to leak, in the pool or in the server
            return 500, {"error": type(error).__name__}

    def close(self) -> None:
        """Leave database and cache."""
        for backend in (self._database, self._cache):
            if backend is not None:
                backend.close()

    def _page(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        kind, _, name = path.strip("/").partition("/")
        if not kind:
            return 200, {"products": sorted(_PRODUCTS)}
        if kind == "products" and name in _PRODUCTS:
            if self._database is not None:
                self._database.read()
            return 200, {"product": _PRODUCTS[name]}
        if kind == "cart" and name:
            if method == "POST":
                self._add(name, str(json.loads(body)["product"]))
            return 200, {"cart": self._cart(name)}
        return 404, {"error": "NotFound"}

    def _cart(self, name: str) -> list[str]:
        if self._cache is not None:
            return list(self._cache.items(name))
        return self._carts.get(name, [])

    def _add(self, name: str, product: str) -> None:
        if self._cache is not None:
            self._cache.add(name, product)
        else:
            self._carts.setdefault(name, []).append(product)


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    storefront: ClassVar[Storefront]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path == "/chaos" and self.command == "POST" and "X-Forwarded-For" not in self.headers:
            status, answer = self.storefront.chaos(json.loads(body))
        else:
            status, answer = self.storefront.answer(self.command, path, body)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Release", str(self.storefront.configuration.get("release", "")))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class names it so
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Listens for the load balancer and for health checks."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; anything else is printed as ever."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def say(what: Mapping[str, Any]) -> None:
    """Tell the simulator."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def measure(storefront: Storefront, scale: float) -> None:
    """Say the utilization again and again; the agent says it too, later than it was measured where it lags."""
    agent = storefront.configuration.get("agent")
    every = max(_MEASURE_SECONDS / scale, _FLOOR_SECONDS)
    waiting: list[tuple[float, Mapping[str, Any]]] = []
    put_next = time.monotonic()
    while True:
        time.sleep(every)
        percent, now = storefront.busy.percent(), time.monotonic()
        say({"utilization": percent})
        if not agent:
            continue
        if now >= put_next:
            put_next = now + max(float(agent.get("everySeconds", 60)) / scale, _FLOOR_SECONDS)
            at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            put = {"namespace": agent["namespace"], "metric": agent["metric"], "value": percent, "at": at}
            waiting.append((now + float(agent.get("lagSeconds", 0)) / scale, put))
        while waiting and waiting[0][0] <= now:
            say({"put": waiting.pop(0)[1]})


def main() -> None:
    """Serve until standard input ends."""
    told = json.loads(sys.stdin.readline())
    storefront = Storefront(told["configuration"], told["address"])
    Handler.storefront = storefront
    server = Server((told["address"], int(told["configuration"]["port"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=measure, args=(storefront, float(told["timeScale"])), daemon=True).start()
    say({"ready": True})
    sys.stdin.read()
    os._exit(0)  # with whatever requests are in flight: the machine is gone


if __name__ == "__main__":
    main()
