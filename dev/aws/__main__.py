"""`python -m dev.aws`: run the simulator until it is told to end."""

import argparse
import gc
import re
import signal
import sys
import threading
from pathlib import Path

from .loopback import check_loopback


def main(arguments: list[str] | None = None) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.aws", description="An AWS on loopback.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--time-scale", type=float, default=1.0, help="divides ingestion delays")
    parser.add_argument("--latency", type=_seconds, default=0.0, metavar="40ms", help="added to every answer")
    parser.add_argument("--state-dir", type=Path, help="where deployed code is unpacked")
    given = parser.parse_args(arguments)
    try:
        check_loopback(given.host)
        from .server import Settings, Simulator  # after the cheap checks: moto takes a second to import

        simulator = Simulator(
            Settings(
                host=given.host,
                port=given.port,
                time_scale=given.time_scale,
                latency=given.latency,
                state_dir=given.state_dir,
            )
        )
    except (ValueError, OSError, SystemExit) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread of its own: shutdown waits for the loop that this signal interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=simulator.stop).start())
    gc.collect()
    gc.freeze()  # moto is big and stays: no collection goes through it again
    sys.stdout.write(f"ready {simulator.url}\n")
    sys.stdout.flush()
    simulator.serve()
    return 0


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text)
    if found is None:
        raise argparse.ArgumentTypeError("a duration like 40ms or 0.5s")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


if __name__ == "__main__":
    sys.exit(main())
