"""Health, metrics and hooks over HTTP. Ready is not leading: a standby is ready to take over."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from .hooks import BODY_LIMIT, Hooks
from .metrics import Metrics


class Server:
    """`/healthz`, `/readyz`, `/metrics`, and `/hooks/slack` and `/hooks/pagerduty` where hooks are given."""

    def __init__(
        self,
        metrics: Metrics,
        ready: Callable[[], str | None],
        host: str,
        port: int,
        hooks: Hooks | None = None,
    ) -> None:
        self._metrics, self._ready, self._host, self._port = metrics, ready, host, port
        self._hooks = hooks
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Errors: OSError where the address is taken."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        if self._hooks is not None:
            self._hooks.add_to(app)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        why_not = self._ready()
        return web.Response(text="ok\n") if why_not is None else web.Response(text=f"{why_not}\n", status=503)

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(text=self._metrics.text(), headers=headers)
