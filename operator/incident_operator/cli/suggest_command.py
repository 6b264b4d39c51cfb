"""`kubectl incident suggest`: the runbooks that fit what people see, and why each is named."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ..actions.catalogue import catalogue
from ..api.runbook import ClusterRunbook, Runbook
from ..core.suggest import Candidate, Match, Suggestion, Suggestions, suggest
from .cluster import Cluster, Forbidden
from .errors import CommandError
from .follow import parsed
from .lint import is_ours, problems, read
from .lint_command import text_of
from .options import EXIT_RESOLVED, EXIT_UNRESOLVED
from .text import clean, some

_MODELS: dict[str, type[Runbook] | type[ClusterRunbook]] = {"ClusterRunbook": ClusterRunbook, "Runbook": Runbook}
#: How many texts say why a runbook is named.
_SHOWN = 5


def suggest_runbooks(cluster: Cluster | None, question: str, *, files: Sequence[str], output: str) -> int:
    """Print the runbooks of the cluster, else of the files, that fit; return the exit code.

    Errors: CommandError where there is no runbook at all, or none may be read.
    """
    candidates = list(_of_files(files) if cluster is None else _of_cluster(cluster))
    if not candidates:
        place = ", ".join(files) if cluster is None else f"the cluster and namespace {cluster.namespace}"
        raise CommandError(f"there is no runbook in {place}", "kubectl apply --server-side -k manifests/runbooks")
    usable = [c for c in candidates if c.spec.maintenance is None or c.spec.maintenance.archived is None]
    for archived in (c for c in candidates if c not in usable):
        click.echo(f"left out: {_named(archived)} is archived", err=True)
    candidates = usable
    found = suggest(question, candidates)
    rest = sorted(
        (c for c in candidates if c not in [s.candidate for s in found.ranked]), key=lambda c: (c.kind, c.name)
    )
    if output == "json":
        click.echo(json.dumps(_document(question, found, rest), indent=2))
    else:
        click.echo("\n".join(_page(found, rest)))
    return EXIT_RESOLVED if found.ranked else EXIT_UNRESOLVED


def _of_cluster(cluster: Cluster) -> Iterator[Candidate]:
    """Yield what may be read; of what may not be, tell. Errors: Forbidden where nothing may be."""
    refused: list[Forbidden] = []
    for kind, model in _MODELS.items():
        try:
            listing = cluster.list(kind, cluster.namespace)
        except Forbidden as error:
            refused.append(error)
            continue
        yield from (_candidate(parsed(model, item)) for item in listing.items)
    if len(refused) == len(_MODELS):
        raise refused[0]
    for refusal in refused:
        click.echo(f"left out: {clean(refusal)}", err=True)


def _of_files(files: Sequence[str]) -> Iterator[Candidate]:
    """Yield the runbooks of files. Errors: CommandError where one can't be read or does not hold."""
    for file in files:
        documents, wrong = read("<stdin>" if file == "-" else file, text_of(file))
        runbooks = [d for d in documents if is_ours(d) and d.value.get("kind") in _MODELS]
        wrong = wrong or problems(runbooks)
        if wrong:
            raise CommandError(wrong[0].text(), f"all that is wrong with it: kubectl incident lint {file}")
        for document in runbooks:
            yield _candidate(_MODELS[document.value["kind"]].model_validate(document.value))


def _candidate(runbook: Runbook | ClusterRunbook) -> Candidate:
    actions = catalogue()
    reasons = [rule.reason for check in runbook.spec.checks for rule in check.findings]
    for check in runbook.spec.checks:
        reasons += sorted(actions[check.action].reasons) if check.action in actions else []
    return Candidate(
        kind=runbook.kind,
        name=runbook.metadata.name,
        namespace=runbook.metadata.namespace or "",
        spec=runbook.spec,
        reasons=tuple(reasons),
    )


def _page(found: Suggestions, rest: Sequence[Candidate]) -> Iterator[str]:
    for number, suggestion in enumerate(found.ranked, 1):
        yield f"{number}. {_named(suggestion.candidate)} (score {suggestion.score:.2f})"
        yield from (f"   {match.where} ({_words(match)}): {clean(match.text)}" for match in suggestion.matches[:_SHOWN])
        hidden = len(suggestion.matches) - _SHOWN
        if hidden > 0:
            yield f"   and {some(hidden, 'more text')}"
        yield f"   runbookRef: {{kind: {suggestion.candidate.kind}, name: {suggestion.candidate.name}}}"
    if found.unmatched:
        yield f"matched nothing: {', '.join(map(clean, found.unmatched))}"
    if not found.ranked:
        yield "No runbook matches. There are:"
        yield from (f"  {_named(candidate)}" for candidate in rest)


def _named(candidate: Candidate) -> str:
    name = f"{candidate.namespace}/{candidate.name}" if candidate.namespace else candidate.name
    return f"{candidate.kind} {name}: {clean(candidate.spec.title)}"


def _words(match: Match) -> str:
    return ", ".join(map(clean, match.words))


def _document(question: str, found: Suggestions, rest: Sequence[Candidate]) -> dict[str, Any]:
    return {
        "question": clean(question),
        "runbooks": [_suggested(suggestion) for suggestion in found.ranked],
        "unmatched": [clean(word) for word in found.unmatched],
        "ignored": [clean(word) for word in found.common],
        "others": [_reference(candidate) for candidate in rest],
    }


def _suggested(suggestion: Suggestion) -> dict[str, Any]:
    matches = [
        {"where": m.where, "text": clean(m.text), "words": [clean(word) for word in m.words]}
        for m in suggestion.matches
    ]
    return {**_reference(suggestion.candidate), "score": suggestion.score, "matches": matches}


def _reference(candidate: Candidate) -> dict[str, str]:
    place = {"namespace": candidate.namespace} if candidate.namespace else {}
    return {"kind": candidate.kind, "name": candidate.name, **place, "title": clean(candidate.spec.title)}
