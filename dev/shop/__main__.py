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
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from dev.controlplane.certificates import write_private
from dev.controlplane.kubectl import KubectlError
from dev.loopback import ROOT
from dev.processes import StartError, file_lock
from dev.stack import SHOP_NAMESPACE, Stack

from . import departments
from . import seed as shop_seed
from .department import FELT_SECONDS, STILL_FELT_SECONDS, Department, Stage
from .examples import Example, examples
from .living import live
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
        except (ShopError, StartError, KubectlError) as error:
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


@main.command("live", hidden=True)
@click.argument("name")
@in_state_dir
def live_(name: str, state_dir: Path) -> None:
    """Be the process in which hosts and customers of a department live; `break` starts it."""
    made = departments.life_of(name)
    live(name, state_dir, made(load(state_dir)))


@main.command()
def faults() -> None:
    """List what can be broken, and what is right for each."""
    table = Table(box=None, pad_edge=False)
    for column in ("FAULT", "TICKET", "WHAT HAPPENS", "BY", "RUNBOOK", "ENDS"):
        table.add_column(column)
    known = examples()
    for department in departments.DEPARTMENTS:
        table.add_section()
        table.add_row(f"{department.title}:", *[""] * 5)
        for fault in department.faults.values():
            example = known[fault.example]
            runbook = example.manifest["spec"]["runbookRef"]["name"]
            ends = _ends(example) if example.fault == fault.name else fault.ends
            table.add_row(f"  {fault.name}", fault.ticket, fault.title, fault.actor, runbook, ends)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)
    click.echo("\nbreak one with `make break FAULT=NAME`, heal it with `make heal FAULT=NAME` (or FAULT=all)")


def _ends(example: Example) -> str:
    return f"{example.phase}/{example.outcome}" if example.phase != example.outcome else example.phase


@main.command("break")
@click.argument("name", required=False)
@in_state_dir
@click.option("--wait", is_flag=True, help="until customers fail, as the alarm sees it")
@click.option("--time-scale", default=20.0, show_default=True, help="the stack's")
def break_(name: str | None, state_dir: Path, wait: bool, time_scale: float) -> None:
    """Break the shop by a fault's name; a department that is not there is made first."""
    name = name or ""
    department = departments.department_of(name)
    stage = Stage(state_dir=state_dir.resolve(), time_scale=time_scale, say=click.echo)
    fault = department.faults[name]
    with file_lock(stage.state_dir / "shop.lock", lambda: click.echo("waiting for another command on the shop")):
        shop = departments.ready(department, stage, load(state_dir))
        done = department.break_(stage, shop, name)
    click.echo(f"{fault.name}: {fault.title} ({fault.actor})" + ("" if done else "; it was so already"))
    if wait and examples()[fault.example].phase != "NothingFound":
        # A run that starts before anybody fails finds users well, and then asks instead of acting.
        felt = department.felt(stage, shop, name, FELT_SECONDS if done else STILL_FELT_SECONDS)
        again = f"nobody suffers from it any more: `make heal FAULT={name}`, then break it anew"
        click.echo(f"  {department.seen if felt else department.unseen if done else again}")
    _say_next(stage, department, shop, name)


def _say_next(stage: Stage, department: Department, shop: Shop, name: str) -> None:
    """Let runs act where there is a cluster, and say what to type."""
    example, file, run = department.run_file(stage, shop, name)
    manifests = department.manifests(stage, shop)
    space, run_name = run["metadata"]["namespace"], run["metadata"]["name"]
    if manifests and Stack(stage.state_dir).apply(manifests):
        click.echo(f"  runs of it may act in namespace {space}")
    elif manifests:
        grants = stage.state_dir / f"{department.name}-grants.yaml"
        write_private(grants, yaml.safe_dump_all(manifests, sort_keys=False, width=110))
        click.echo(f"  let runs act:   kubectl apply -f {os.path.relpath(grants)}")
    there = "" if space == SHOP_NAMESPACE else f" -n {space}"
    click.echo(f"  apply a run:    kubectl apply -f {os.path.relpath(file)}")
    click.echo(f"  watch it:       kubectl incident watch{there} {run_name}")
    if example.people and example.fault == name:
        click.echo(f"  it asks people: kubectl incident plan{there} {run_name}")
    click.echo(f"  or put it back: make heal FAULT={name}")


@main.command()
@click.argument("name", required=False)
@in_state_dir
@click.option("--time-scale", default=20.0, show_default=True, help="the stack's")
def heal(name: str | None, state_dir: Path, time_scale: float) -> None:
    """Make what a fault broke (or `all`) what it was seeded as."""
    stage = Stage(state_dir=state_dir.resolve(), time_scale=time_scale, say=click.echo)
    with file_lock(stage.state_dir / "shop.lock", lambda: click.echo("waiting for another command on the shop")):
        healed = departments.heal(stage, load(state_dir), name or "")
    click.echo(f"{name}: as seeded" if healed else f"{name}: was never broken")


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
