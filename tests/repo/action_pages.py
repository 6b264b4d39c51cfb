"""Writes docs/actions/ from the catalogue itself: `python -m tests.repo.action_pages`.

A page for each service, by what its actions' names begin with, and an index of all checks and fixes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from incident_operator.actions.base import Action, FixAction
from incident_operator.actions.catalogue import catalogue
from incident_operator.cli.catalogue_view import description, markdown, table
from tests.repo.files import ROOT

PAGES = ROOT / "docs" / "actions"
_INDEX = """\
# The catalogue

Every check and fix that a runbook can name, with its inputs, the reasons it can give and the IAM actions it needs.
These pages are written from the classes (`make docs`); a test fails when the two differ. `kubectl incident explain`
says the same on a terminal.

An input of the same name as a parameter of the runbook is bound to it without saying so. A *literal* input takes no
`${}`. A reason of kind Problem makes its check Failed; Info only tells. Durations are real ones; a plan says its own
calls, waits, signal and undo exactly, and that is what people agree to.
"""


def link(name: str) -> str:
    """Return where an action is explained, relative to docs/actions/."""
    return f"{_service(name)}.md#{name.replace('.', '')}"


def _service(name: str) -> str:
    return name.split(".", 1)[0]


def pages() -> Mapping[str, str]:
    """Return every page by its file name."""
    services: dict[str, list[str]] = defaultdict(list)
    for name in sorted(catalogue()):
        services[_service(name)].append(name)
    return {
        "README.md": _page(_index()),
        **{f"{service}.md": _page(_of_service(service, names)) for service, names in services.items()},
    }


def _page(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _index() -> Iterator[str]:
    yield _INDEX
    named = sorted(catalogue().items())
    checks = [(_named(name), _line(action)) for name, action in named if action.kind == "Check"]
    yield from ("## Checks", "", *table(("check", "what it asks"), checks), "")
    fixes = [
        (_named(name), _line(action), action.risk, action.undo)
        for name, action in named
        if isinstance(action, FixAction)
    ]
    yield from ("## Fixes", "", *table(("fix", "what it does", "risk", "undo"), fixes))


def _line(action: Action[Any, Any]) -> str:
    """Return the first line of what an action does."""
    return description(action).splitlines()[0]


def _named(name: str) -> str:
    return f"[{name}]({link(name)})"


def _of_service(service: str, names: list[str]) -> Iterator[str]:
    actions: Mapping[str, Action[Any, Any]] = catalogue()
    yield f"# Actions: {service}\n"
    yield "[All checks and fixes](README.md). Written from the classes: `make docs`.\n"
    for kind in ("Check", "Fix"):
        for name in names:
            if actions[name].kind == kind:
                yield from markdown(name, actions[name])


def write(folder: Path = PAGES) -> None:
    """Write every page; one of a service that is gone is deleted."""
    folder.mkdir(exist_ok=True)
    written = pages()
    for path in folder.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write()
