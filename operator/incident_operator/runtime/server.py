"""Health and metrics over HTTP. Ready is not leading: a standby is ready to take over."""

from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric


class Metrics:
    """The operator's own metrics, named as controller-runtime names its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "incident_operator_reconcile_total",
            "Reconciles by kind and result",
            ("kind", "result"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "incident_operator_reconcile_seconds",
            "Time of one reconcile, by kind",
            ("kind",),
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
        )

    def watch(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        """Read these values when they are asked for: `{name: (help, value)}`."""

        class Collector:
            def collect(self) -> Iterator[Metric]:
                for name, (documentation, value) in gauges.items():
                    yield GaugeMetricFamily(f"incident_operator_{name}", documentation, value=value())

        self.registry.register(Collector())


class Server:
    """`/healthz`, `/readyz`, `/metrics`."""

    def __init__(self, metrics: Metrics, ready: Callable[[], str | None], host: str, port: int) -> None:
        self._metrics, self._ready, self._host, self._port = metrics, ready, host, port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Errors: OSError where the address is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
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
        return web.Response(body=generate_latest(self._metrics.registry), content_type="text/plain")
