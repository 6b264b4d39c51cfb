"""`incident-operator run`: the operator's process."""

import asyncio
import logging
import os
import socket
import sys
import uuid
from datetime import timedelta

import click

from .api.meta import parse_duration
from .core.redact import redact
from .settings import Settings


class DurationType(click.ParamType[timedelta]):
    """A duration as the CRDs read it."""

    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration. Errors: a usage error that shows a valid one."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()


class RedactingFormatter(logging.Formatter):
    """Log lines and tracebacks without credentials, whoever wrote them (invariant I6)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, redacted."""
        return redact(super().format(record))


@click.group()
@click.version_option(package_name="incident-operator")
def main() -> None:
    """The Incident Operator."""


@main.command()
@click.option("--namespaces", default="", help="Only these namespaces, by commas; default all.")
@click.option("--operator-namespace", default="incident-system", show_default=True, help="Where the Lease is.")
@click.option("--identity", default="", help="This replica's name in the Lease; default host name and a random part.")
@click.option("--time-scale", default=1.0, show_default=True, help="Divides waits; 1 in production.")
@click.option("--lease-duration", type=DURATION, default="15s", show_default=True)
@click.option("--call-timeout", type=DURATION, default="10s", show_default=True)
@click.option("--http-address", default="0.0.0.0:8080", show_default=True, help="Health and metrics.")
@click.option("--workers", default=16, show_default=True)
@click.option(
    "--loopback-channels", is_flag=True, help="Let channels lead to this machine itself: for development only."
)
@click.option("--log-level", default="INFO", show_default=True)
def run(
    namespaces: str,
    operator_namespace: str,
    identity: str,
    time_scale: float,
    lease_duration: timedelta,
    call_timeout: timedelta,
    http_address: str,
    workers: int,
    loopback_channels: bool,
    log_level: str,
) -> None:
    """Watch, decide, act: run the operator until it is told to stop."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    for noisy in ("kopf", "botocore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    host, _, port = http_address.rpartition(":")
    if time_scale <= 0:
        raise click.BadParameter("the time scale is above 0; 1 is real time", param_hint="--time-scale")
    settings = Settings(
        identity=identity or f"{os.environ.get('POD_NAME') or socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        namespaces=tuple(n.strip() for n in namespaces.split(",") if n.strip()),
        operator_namespace=operator_namespace,
        time_scale=time_scale,
        lease_duration=lease_duration,
        call_timeout=call_timeout,
        http_host=host or "0.0.0.0",  # noqa: S104
        http_port=int(port),
        workers=workers,
        loopback_channels=loopback_channels,
    )
    from .runtime.app import App  # imported late: `--help` answers without the client libraries

    async def go() -> int:
        return await App(settings).run()

    code = asyncio.run(go())
    logging.shutdown()
    # Not `sys.exit`: that waits for every thread, and a read that nobody needs any more may take a minute.
    os._exit(code)


if __name__ == "__main__":
    main(prog_name="incident-operator")
