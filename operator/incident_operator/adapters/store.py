"""The newest known object of each kind: fed by the watch and by the answers to our own writes.

A *word* is an intervention that nobody answered yet.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

#: Namespace ("" for cluster-scoped) and name.
Key = tuple[str, str]
Raw = dict[str, Any]
T = TypeVar("T")


def key_of(raw: Raw) -> Key:
    """Return an object's key."""
    return raw["metadata"].get("namespace", ""), raw["metadata"]["name"]


class Store:
    """Raw objects by kind and key, with plans by run and words by target. One loop's property: not for threads."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Raw]] = {}
        self._plans: dict[Key, set[Key]] = {}
        self._words: dict[tuple[str, Key], set[Key]] = {}
        #: Runs by incident, until their ends are written down there.
        self._joined: dict[Key, set[Key]] = {}
        #: Runs that a plan vanished from without a word of how it ended.
        self.plans_in_doubt: set[Key] = set()
        self._read: dict[tuple[str, Key], tuple[Raw, Any]] = {}

    def get(self, kind: str, key: Key) -> Raw | None:
        """Return the newest known object, None where there is none."""
        return self._objects.get(kind, {}).get(key)

    def all(self, kind: str) -> list[Raw]:
        """Return all known objects of a kind, in no order."""
        return list(self._objects.get(kind, {}).values())

    def read(self, kind: str, key: Key, parse: Callable[[Raw], T]) -> T | None:
        """Return what `parse` makes of an object, once for each version of it; None where there is no object.

        Errors: those of `parse`. Shape: always the same `parse` for a kind, with results that nobody changes.
        """
        raw = self.get(kind, key)
        if raw is None:
            return None
        known = self._read.get((kind, key))
        if known is None or known[0] is not raw:
            known = self._read[kind, key] = (raw, parse(raw))
        found: T = known[1]
        return found

    def read_all(self, kind: str, parse: Callable[[Raw], T]) -> list[T]:
        """Return what `parse` makes of all known objects of a kind, in no order; otherwise as `read`."""
        found = (self.read(kind, key, parse) for key in self._objects.get(kind, {}))
        return [one for one in found if one is not None]

    def names(self, kind: str, namespace: str) -> list[str]:
        """Return the names known in a namespace, sorted."""
        return sorted(name for ns, name in self._objects.get(kind, {}) if ns == namespace)

    def put(self, kind: str, raw: Raw) -> bool:
        """Keep an object unless a newer one is known; True if it was kept. A settled object is dropped.

        Source: resource versions of one object grow (API server since 1.35 documents them as comparable integers).
        """
        key = key_of(raw)
        known = self.get(kind, key)
        if (
            known is not None
            and _version(known) >= _version(raw)
            and known["metadata"]["uid"] == raw["metadata"]["uid"]
        ):
            return False
        if _is_settled(kind, raw):
            if kind == "RemediationPlan" and self._run_is_live(raw):
                self._keep(kind, key, raw)
                return True
            self.remove(kind, key)
            return True
        self._keep(kind, key, raw)
        return True

    def _keep(self, kind: str, key: Key, raw: Raw) -> None:
        self._objects.setdefault(kind, {})[key] = _without_managed_fields(raw)
        if kind == "RemediationPlan":
            self._plans.setdefault(_run_of(raw), set()).add(key)
        if kind == "Intervention":
            self._words.setdefault(target_of(raw), set()).add(key)

    def _run_is_live(self, plan: Raw) -> bool:
        """Tell whether a plan's run is still at work: it reads its settled plans' outcomes."""
        return _run_of(plan) in self._objects.get("IncidentRun", {})

    def remove(self, kind: str, key: Key) -> None:
        """Forget an object; with a run, its settled plans."""
        raw = self._objects.get(kind, {}).pop(key, None)
        self._read.pop((kind, key), None)
        if raw is None:
            return
        if kind == "RemediationPlan":
            _discard(self._plans, _run_of(raw), key)
        if kind == "Intervention":
            _discard(self._words, target_of(raw), key)
        if kind == "IncidentRun":
            self.plans_in_doubt.discard(key)
            for plan in list(self._plans.get(key, ())):
                stored = self.get("RemediationPlan", plan)
                if stored is not None and (stored.get("status") or {}).get("settled"):
                    self.remove("RemediationPlan", plan)

    def gone(self, kind: str, key: Key) -> None:
        """Take note of a DELETED event, which a watch by field selector also sends for what settled.

        Such an event shows a plan as it was before it settled: where the answer to the settling write was lost, how
        the plan ended must be asked, or its run would take the fix for one never tried.
        """
        raw = self.get(kind, key)
        if raw is not None and kind == "RemediationPlan":
            if (raw.get("status") or {}).get("settled"):
                return
            if self._run_is_live(raw):
                self.plans_in_doubt.add(_run_of(raw))
        self.remove(kind, key)

    def plans_of(self, namespace: str, run: str) -> list[Raw]:
        """Return the known plans of a run."""
        plans = self._objects.get("RemediationPlan", {})
        return [plans[key] for key in sorted(self._plans.get((namespace, run), ())) if key in plans]

    def join(self, incident: Key, run: Key) -> bool:
        """Take note that a run is of an incident, also beyond its end; True where that is news."""
        runs = self._joined.setdefault(incident, set())
        if run in runs:
            return False
        runs.add(run)
        return True

    def incidents_of(self, run: Key) -> list[Key]:
        """Return the incidents that a run is of, as far as they may not know its end."""
        return [incident for incident, runs in self._joined.items() if run in runs]

    def leave(self, incident: Key, run: Key) -> None:
        """Forget that a run is of an incident."""
        _discard(self._joined, incident, run)

    def joined(self, incident: Key) -> frozenset[Key]:
        """Return the runs of an incident whose ends it may not know yet."""
        return frozenset(self._joined.get(incident, ()))

    def words_on(self, kind: str, key: Key) -> list[Raw]:
        """Return the interventions on an object that nobody answered yet, oldest first."""
        known = self._objects.get("Intervention", {})
        found = [known[word] for word in self._words.get((kind, key), ()) if word in known]
        return sorted(found, key=lambda raw: (raw["metadata"].get("creationTimestamp") or "", _version(raw)))

    def count(self, kinds: Iterable[str]) -> int:
        """Return how many objects of these kinds are held."""
        return sum(len(self._objects.get(kind, {})) for kind in kinds)


def _without_managed_fields(raw: Raw) -> Raw:
    """Return an object without what nobody here reads: half of its size."""
    if "managedFields" not in raw["metadata"]:
        return raw
    return {**raw, "metadata": {k: v for k, v in raw["metadata"].items() if k != "managedFields"}}


def _is_settled(kind: str, raw: Raw) -> bool:
    """Tell whether nothing is left to do; a review that people took up again is not, whatever its status says yet."""
    reopened = kind == "PostIncidentReview" and not raw["spec"].get("complete")
    return bool((raw.get("status") or {}).get("settled")) and not reopened


def _version(raw: Raw) -> int:
    return int(raw["metadata"].get("resourceVersion") or 0)


def target_of(intervention: Raw) -> tuple[str, Key]:
    """Return kind and key of what an intervention is about."""
    target = intervention["spec"]["target"]
    return target["kind"], (intervention["metadata"].get("namespace", ""), target["name"])


def _discard(index: dict[T, set[Key]], of: T, key: Key) -> None:
    keys = index.get(of, set())
    keys.discard(key)
    if not keys:
        index.pop(of, None)


def _run_of(plan: Raw) -> Key:
    return plan["metadata"].get("namespace", ""), plan["spec"]["runRef"]["name"]
