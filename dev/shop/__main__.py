"""`python -m dev.shop`: seed the shop, let customers come, break it and heal it."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from dev.loopback import ROOT

from . import departments
from . import seed as shop_seed
from .examples import examples
from .shop import DEFAULT_ACCOUNT, DEFAULT_REGION, Shop, ShopError, load
from .traffic import Traffic

_REPORT_SECONDS = 10
F = TypeVar("F", bound=Callable[..., Any])


def in_state_dir(command: F) -> F:
    """Give a command the option where `shop.json` is."""
    option = click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="SHOP_STATE_DIR",
        default=ROOT / ".dev",
        show_default=".dev",
        help="where shop.json is",
    )
    return option(command)


class _Group(click.Group):
    """Says in one line what AWS or the shop answered."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ShopError as error:
            raise click.ClickException(str(error)) from None
        except (ClientError, BotoCoreError) as error:
            raise click.ClickException(f"the simulated AWS: {error}") from None


@click.group(cls=_Group)
def main() -> None:
    """ShopSmart on the simulated AWS: the birthday service, and other departments where they are broken."""


@main.command()
@in_state_dir
@click.option("--account", default=DEFAULT_ACCOUNT, show_default=True, help="twelve digits")
@click.option("--region", default=DEFAULT_REGION, show_default=True)
@click.option("--endpoint", envvar="AWS_ENDPOINT_URL", required=True, help="the simulator's address")
def seed(state_dir: Path, account: str, region: str, endpoint: str) -> None:
    """Make the shop, or what is missing of it."""
    shop = Shop(account=account, region=region, endpoint=endpoint)
    if (state_dir / "shop.json").exists():
        known = load(state_dir, endpoint=endpoint)
        shop = known if known.account == account and known.region == region else shop
    seeded = shop_seed.seed(shop, state_dir)
    click.echo(f"{seeded.function}:{seeded.alias} in account {seeded.account}")


@main.command()
@in_state_dir
@click.option("--rate", default=5.0, show_default=True, help="invocations per second, at most")
def traffic(state_dir: Path, rate: float) -> None:
    """Invoke what serves, steadily, until told to stop."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Traffic(shop=load(state_dir, endpoint=os.environ.get("AWS_ENDPOINT_URL")), rate=rate) as stream:
        while not stopped.wait(_REPORT_SECONDS):
            click.echo(stream.told())
    click.echo(stream.told())


@main.command()
def faults() -> None:
    """List what can be broken, and what is right for each."""
    table = Table(box=None, pad_edge=False)
    for column in ("FAULT", "TICKET", "WHAT HAPPENS", "BY", "RUN", "ENDS"):
        table.add_column(column)
    known = examples()
    for fault in departments.FAULTS.values():
        example = known[fault.example]
        ends = f"{example.phase}/{example.outcome}" if example.phase != example.outcome else example.phase
        table.add_row(fault.name, fault.ticket, fault.title, fault.actor, example.path, ends)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)
    click.echo("\nbreak one with `make break FAULT=NAME`, heal it with `make heal FAULT=NAME` (or FAULT=all)")


@main.command("break")
@click.argument("name", required=False)
@in_state_dir
@click.option("--wait", is_flag=True, help="until customers fail, as the alarm sees it")
@click.option("--time-scale", default=20.0, show_default=True, help="the stack's")
def break_(name: str | None, state_dir: Path, wait: bool, time_scale: float) -> None:
    """Break the shop by a fault's name."""
    department = departments.department_of(name or "")
    fault = department.faults[name or ""]
    shop = load(state_dir)
    if not department.is_seeded(shop):
        shop = department.seed(shop, state_dir)
    done = fault.break_(shop)
    click.echo(f"{fault.name}: {fault.title} ({fault.actor})" + ("" if done else "; it was so already"))
    run = examples()[fault.example]
    if wait and run.phase != "NothingFound":
        # A run that starts before anybody fails finds users well, and then asks instead of acting.
        felt = department.felt(shop, time_scale)
        click.echo("  customers fail now" if felt else "  no customer failed within a minute: is the traffic on?")
    if grant := department.write_grant(shop, state_dir):
        click.echo(f"  let runs act:  kubectl apply -f {os.path.relpath(grant)}")
    click.echo(f"  apply a run:   kubectl apply -f {run.path}")
    click.echo(f"  watch it:      kubectl incident watch {run.manifest['metadata']['name']}")
    click.echo(f"  or put it back: make heal FAULT={fault.name}")


@main.command()
@click.argument("name", required=False)
@in_state_dir
def heal(name: str | None, state_dir: Path) -> None:
    """Make what a fault broke (or `all`) what it was seeded as."""
    departments.heal(load(state_dir), name or "")
    click.echo(f"{name}: as seeded")


@main.command()
@in_state_dir
@click.option("--event", default='{"userId": "u-1"}', show_default=True, help="JSON")
def invoke(state_dir: Path, event: str) -> None:
    """Invoke what serves once, as a customer does; exit code 1 where it fails."""
    try:
        given = json.loads(event)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--event") from None
    answer = load(state_dir).invoke(given)
    click.echo(json.dumps(answer.body) if answer.ok else answer.error)
    sys.exit(0 if answer.ok else 1)


if __name__ == "__main__":
    main()
