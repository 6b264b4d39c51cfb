"""Runbooks as judged and as pinned. A revision never changes, so what is known of one is kept."""

from collections.abc import Mapping
from typing import Any

from ..adapters.kube import Kube
from ..api.runbook import RunbookProblem, RunbookSpec
from ..core.catalogue import Catalogue
from ..core.planning import digest
from ..core.runbook import dependencies, validate

_PREFIX = {"Runbook": "rbk", "ClusterRunbook": "crbk"}
_KEEP = 512

Judged = tuple[RunbookSpec, tuple[RunbookProblem, ...], Mapping[str, frozenset[str]]]


def revision_name(kind: str, name: str, spec: Mapping[str, Any]) -> str:
    """Return the ControllerRevision's name of a runbook as stored. Source: decision 25."""
    return f"{_PREFIX[kind]}-{name}-{digest(spec)[:10]}"


class Runbooks:
    """Runbooks read and judged against the catalogue, by revision."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._judged: dict[str, Judged] = {}

    def read(self, revision: str, spec: Mapping[str, Any]) -> Judged:
        """Return the runbook, its problems, and its checks' dependencies (empty with problems)."""
        if revision not in self._judged:
            if len(self._judged) >= _KEEP:
                self._judged.clear()
            runbook = RunbookSpec.model_validate(spec)
            problems = validate(runbook, self._catalogue)
            self._judged[revision] = (runbook, problems, {} if problems else dependencies(runbook))
        return self._judged[revision]


class Revisions:
    """The pinned revisions of runbooks, as ControllerRevisions in the run's namespace."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    async def ensure(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        """Keep a revision, once."""
        if (namespace, name) not in self._known:
            await self._kube.ensure_revision(namespace, name, spec)
            self._keep(namespace, name, spec)

    async def load(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a revision's spec; None where it is gone."""
        known = self._known.get((namespace, name))
        if known is None:
            known = await self._kube.load_revision(namespace, name)
            if known is not None:
                self._keep(namespace, name, known)
        return known

    def _keep(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        if len(self._known) >= _KEEP:
            self._known.clear()
        self._known[namespace, name] = spec
