"""`kubectl incident watch`: from scenes to a live screen, or to lines, until the run ends."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..adapters.clock import Clock
from ..api.run import IncidentRun, RunPhase
from .changes import Scene, changes
from .cluster import Cluster, ClusterError
from .follow import Follower, Lost, run_label, scene_of
from .look import Look, line
from .options import EXIT_NOT_RUN, EXIT_RESOLVED, EXIT_TIMEOUT, EXIT_UNRESOLVED
from .render import screen, summary

_EXITS = {RunPhase.RESOLVED: EXIT_RESOLVED, RunPhase.FAILED: EXIT_NOT_RUN, RunPhase.EXPIRED: EXIT_NOT_RUN}
#: How often the clocks on a live screen move, seconds.
_TICK = 1.0


def exit_code(run: IncidentRun) -> int:
    """Return how `watch` ends for a run that has ended."""
    return _EXITS.get(run.status.phase, EXIT_UNRESOLVED)


class Lines:
    """Shows every change as a line on stdout, trouble with the connection on stderr."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before = Scene()

    def show(self, scene: Scene) -> None:
        """Print what is new."""
        for change in changes(self._before, scene, self._clock.now()):
            click.echo(change.line())
        self._before = scene

    def tick(self) -> None:
        """Nothing moves between changes."""

    def lost(self, message: str) -> None:
        """Say that the server is lost."""
        click.echo(f"{message}; asking again", err=True)

    def waiting(self, name: str) -> None:
        """Say what is waited for."""
        click.echo(f"there is no IncidentRun {name} yet: waiting for it", err=True)

    def end(self, lines: Iterable[Text]) -> None:
        """Print the end."""
        for text in lines:
            click.echo(text.plain)


class Screen:
    """Keeps a terminal up to date; leaves the whole last scene behind."""

    def __init__(self, console: Console, live: Live, clock: Clock) -> None:
        self._console, self._live, self._clock = console, live, clock
        self._look = Look(ascii_only="utf" not in console.encoding.lower())
        self._scene = Scene()
        self._trouble = ""

    def show(self, scene: Scene) -> None:
        """Paint a new scene."""
        self._scene, self._trouble = scene, ""
        self.tick()

    def tick(self) -> None:
        """Paint the same scene: its clocks have moved."""
        width, height = self._console.size
        lines = screen(self._scene, self._clock.now(), look=self._look, size=(width, height - 2))
        if self._trouble:
            lines.append(line((self._trouble, "red")))
        self._live.update(Group(*lines), refresh=True)

    def lost(self, message: str) -> None:
        """Say below the last scene that the server is lost."""
        self._trouble = f"{message}; asking again"
        self.tick()

    def waiting(self, name: str) -> None:
        """The empty scene says it."""
        self.tick()

    def end(self, lines: Iterable[Text]) -> None:
        """Leave the last scene, whole, and the end below it."""
        self._live.stop()
        whole = screen(self._scene, self._clock.now(), look=self._look)
        self._console.print(Group(*whole, Text(), *lines))


def watch_run(
    cluster: Cluster, name: str, *, timeout: timedelta | None, wait: bool, live: bool, clock: Clock | None = None
) -> int:
    """Follow a run until it ends; return the exit code. Errors: ClusterError, Missing where there is no such run."""
    clock = clock or Clock()
    console = Console(highlight=False)
    painting: AbstractContextManager[Live | None] = nullcontext()
    if live:
        painting = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
    with painting as canvas, Follower(cluster, cluster.namespace, name) as follower:
        shown = Lines(clock) if canvas is None else Screen(console, canvas, clock)
        return _until_ended(cluster, follower, shown, name, timeout=timeout, wait=wait, clock=clock)


def _until_ended(
    cluster: Cluster,
    follower: Follower,
    shown: Lines | Screen,
    name: str,
    *,
    timeout: timedelta | None,
    wait: bool,
    clock: Clock,
) -> int:
    deadline = clock.monotonic() + timeout.total_seconds() if timeout is not None else None
    scene = Scene()
    connected = told = False
    for news in follower.scenes(every=_TICK):
        if isinstance(news, Lost):
            if not connected and not wait:
                raise ClusterError(news.message, "is it running, and is this the right context?")
            shown.lost(news.message)
        elif news is None:
            shown.tick()
        else:
            connected = True
            if scene.run is not None and _is_gone(scene.run, news.run):
                raise ClusterError(f"IncidentRun {name} was deleted while it was watched")
            if news.run is None:
                if not wait:
                    raise cluster.missing("IncidentRun", cluster.namespace, name)
                if not told:
                    shown.waiting(name)
                    told = True
                continue
            scene = news
            if scene.run is not None and scene.run.status.finished_at is not None:
                scene = _whole(cluster, scene)
                shown.show(scene)
                return _ended(scene, shown)
            shown.show(scene)
        if deadline is not None and clock.monotonic() >= deadline:
            click.echo(f"{name} has not ended within --timeout; it goes on: watch it again", err=True)
            return EXIT_TIMEOUT
    raise AssertionError("scenes never end by themselves")


def _is_gone(run: IncidentRun, now: IncidentRun | None) -> bool:
    return now is None or now.metadata.uid != run.metadata.uid


def _whole(cluster: Cluster, scene: Scene) -> Scene:
    """Return the scene with the plans as they are stored: the run's end may overtake a plan's in the two watches."""
    assert scene.run is not None  # noqa: S101  (the caller has it)
    listing = cluster.list("RemediationPlan", cluster.namespace, labelSelector=run_label(scene.run.metadata.name))
    return scene_of((scene.run.wire(),), listing.items)


def _ended(scene: Scene, shown: Lines | Screen) -> int:
    assert scene.run is not None  # noqa: S101  (the caller has it)
    shown.end(summary(scene.run, scene.plans))
    sys.stdout.flush()
    return exit_code(scene.run)
