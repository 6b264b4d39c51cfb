"""The bench's command line."""

import json
import os
import platform
import time
from pathlib import Path

import click

from dev.shop.shop import ShopError
from dev.stack import FAILURES

from . import diagnosis, engine, playbooks, policies
from .figures import Figure, table
from .place import STATE, Place

SECTIONS = ("engine", "start", "policies", "diagnosis", "playbooks")


@click.command()
@click.option("--only", type=click.Choice(SECTIONS), multiple=True, help="Only this section; may be repeated.")
@click.option("--rounds", default=5, show_default=True, help="Of the diagnosis; the others take three at most.")
@click.option("--runs", default=1000, show_default=True, help="Of the engine's section.")
@click.option("--settled", default=10_000, show_default=True, help="Stored before a start.")
@click.option("--live", default=100, show_default=True, help="Live at a start.")
@click.option("--policies", "count", default=2000, show_default=True, help="Of the policies' section.")
@click.option("--latency", multiple=True, default=diagnosis.LATENCIES, show_default=True, help="Of the simulated AWS.")
@click.option(
    "--playbook", type=click.Choice(list(playbooks.PLAYBOOKS)), multiple=True, help="Only this one; may be repeated."
)
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE, show_default=".dev/bench")
def main(
    only: tuple[str, ...],
    rounds: int,
    runs: int,
    settled: int,
    live: int,
    count: int,
    latency: tuple[str, ...],
    playbook: tuple[str, ...],
    state_dir: Path,
) -> None:
    """Measure everything in one run: print a table, write bench.json into the state directory."""
    began = time.monotonic()
    place = Place(
        state=state_dir.resolve(),
        say=lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True),
    )
    load = os.getloadavg()[0]
    few = min(rounds, 3)
    sections = {
        "engine": lambda: engine.throughput(place, few, runs),
        "start": lambda: engine.start(place, few, settled, live),
        "policies": lambda: policies.measure(place, count),
        "diagnosis": lambda: diagnosis.measure(place, rounds, latency),
        # At one latency only: breaking each department takes longer than what is measured.
        "playbooks": lambda: playbooks.measure(place, few, latency[0], playbook),
    }
    figures: list[Figure] = []
    try:
        for name in SECTIONS:
            if name in (only or SECTIONS):
                figures += sections[name]()
    except (ShopError, diagnosis.BaselineError, *FAILURES) as error:
        raise click.ClickException(str(error)) from error
    finally:
        place.down()
    click.echo(table(figures))
    machine = {"processors": os.cpu_count(), "loadBefore": load, "python": platform.python_version()}
    written = state_dir / "bench.json"
    written.write_text(json.dumps({"machine": machine, "figures": [f.json() for f in figures]}, indent=2) + "\n")
    click.echo(f"\n{os.cpu_count()} processors, load {load:.1f} before; written to {os.path.relpath(written)}")


if __name__ == "__main__":
    main(prog_name="python -m dev.bench")
