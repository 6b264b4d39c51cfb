"""The bench's command line."""

import json
import platform
import sys
import time
from pathlib import Path

import click

from . import diagnosis, engine
from .figures import table
from .place import STATE, the_stack

SECTIONS = ("diagnosis", "engine", "start")


@click.command()
@click.option("--only", type=click.Choice(SECTIONS), multiple=True, help="Only these sections.")
@click.option("--rounds", default=5, show_default=True, help="Of the diagnosis; the others take three at most.")
@click.option("--runs", default=1000, show_default=True, help="Of the engine's section.")
@click.option("--settled", default=10_000, show_default=True, help="Stored before a start.")
@click.option("--live", default=100, show_default=True, help="Live at a start.")
@click.option("--output", type=click.Path(path_type=Path), default=STATE / "bench.json", show_default=".dev/bench")
def main(only: tuple[str, ...], rounds: int, runs: int, settled: int, live: int, output: Path) -> None:
    """Measure everything in one run; print a table, write JSON."""
    wanted = only or SECTIONS
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)

    figures = []
    try:
        if "engine" in wanted:
            figures += engine.throughput(min(rounds, 3), runs, say)
        if "start" in wanted:
            figures += engine.start(min(rounds, 3), settled, live, say)
        if "diagnosis" in wanted:
            figures += diagnosis.measure(rounds, say)
    finally:
        the_stack(shop=False).down()
    click.echo(table(figures))
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": sys.platform}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine, "figures": [f.json() for f in figures]}, indent=2) + "\n")
    click.echo(f"\nwritten to {output}")


if __name__ == "__main__":
    main(prog_name="python -m dev.bench")
