"""Follow a run and its plans for as long as it takes: list, watch, and list again whenever a watch drops.

One thread per kind keeps its objects and puts every new state of them into one queue; whoever shows them takes the
newest. A lost server is news like any other, and is asked again, with growing pauses, until the caller stops.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..api.plan import RemediationPlan
from ..api.run import IncidentRun
from .changes import Scene, age
from .cluster import Cluster, ClusterError, Gone, Raw, Unreachable

_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class State:
    """All objects of a kind that are followed, as they are now."""

    kind: str
    items: tuple[Raw, ...]


@dataclass(frozen=True)
class Lost:
    """The server can't be reached; it is asked again."""

    message: str


@dataclass(frozen=True)
class Refused:
    """An error that asking again does not cure."""

    error: Exception


News = State | Lost | Refused


class Follower:
    """Follows one run by name, and the plans that carry its label."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._news: queue.Queue[News] = queue.Queue()
        self._stopped = threading.Event()
        self._selectors = {
            "IncidentRun": {"fieldSelector": f"metadata.name={name}"},
            "RemediationPlan": {"labelSelector": run_label(name)},
        }

    def __enter__(self) -> "Follower":
        for kind in self._selectors:
            threading.Thread(target=self._follow, args=(kind,), name=f"follow-{kind}", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()

    def scenes(self, every: float) -> Iterator[Scene | Lost | None]:
        """Yield the scene whenever it changes, Lost when the server is, None when nothing came for `every` seconds.

        Shape: the first scene comes when both kinds were listed. Errors: ClusterError that asking again won't cure.
        """
        state: dict[str, tuple[Raw, ...]] = {}
        while True:
            try:
                news = [self._news.get(timeout=every)]
            except queue.Empty:
                yield None
                continue
            while not self._news.empty():
                news.append(self._news.get())
            for item in news:
                if isinstance(item, Refused):
                    raise item.error
                if isinstance(item, State):
                    state[item.kind] = item.items
            if len(state) == len(self._selectors) and any(isinstance(item, State) for item in news):
                yield scene_of(state["IncidentRun"], state["RemediationPlan"])
            elif isinstance(news[-1], Lost):
                yield news[-1]

    def _follow(self, kind: str) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._watch(kind)
                failures = 0
            except (Gone, Unreachable) as error:
                if isinstance(error, Unreachable):
                    self._news.put(Lost(str(error)))
                self._stopped.wait(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
            except Exception as error:  # handed to whoever reads the scenes, who raises it
                self._news.put(Refused(error))
                return

    def _watch(self, kind: str) -> None:
        """List, then follow until the server ends the watch; every state goes into the queue."""
        selectors = self._selectors[kind]
        listing = self._cluster.list(kind, self._namespace, **selectors)
        items = {item["metadata"]["name"]: item for item in listing.items}
        self._news.put(State(kind, tuple(items.values())))
        for event, raw in self._cluster.watch(kind, self._namespace, listing.resource_version, selectors=selectors):
            if self._stopped.is_set():
                return
            if event == "BOOKMARK":
                continue
            if event == "DELETED":
                items.pop(raw["metadata"]["name"], None)
            else:
                items[raw["metadata"]["name"]] = raw
            self._news.put(State(kind, tuple(items.values())))


def run_label(name: str) -> str:
    """Return the label selector of a run's plans."""
    return f"ops.shopsmart.com/run={name[:63].rstrip('-.')}"


def scene_of(runs: tuple[Raw, ...], plans: tuple[Raw, ...]) -> Scene:
    """Return the scene of one run and those plans that are its own, oldest first. Errors: ClusterError."""
    if not runs:
        return Scene()
    run = parsed(IncidentRun, runs[0])
    own = [parsed(RemediationPlan, p) for p in plans if p["spec"]["runRef"].get("uid") == run.metadata.uid]
    return Scene(run=run, plans=tuple(sorted(own, key=age)))


def parsed(model: Any, raw: Raw) -> Any:
    """Return the api model of a stored object. Errors: ClusterError where a newer operator wrote it."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ClusterError(
            f"{raw.get('kind')} {raw['metadata']['name']}: {place}: {first['msg']}",
            "it was written by another version of the operator: update kubectl-incident",
        ) from error
