"""What documents name is there: files, folders, modules."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.repo.files import ROOT, documents

_PACKAGE = ROOT / "operator" / "incident_operator"
_CODE = re.compile(r"`([^`\n]+)`")
#: A word of inline code that could be a path: a slash, and none of what URLs, ARNs and expressions have.
_PATH = re.compile(r"(?:[\w.*-]+/)+[\w.*-]*")
#: Files that a document tells the reader to write.
_TO_WRITE = {"operator/incident_operator/actions/sqs.py"}


def _named() -> Iterator[tuple[Path, str]]:
    """Yield document and path for inline code that starts in a folder of the repository or of the package."""
    folders = {path.name for base in (ROOT, _PACKAGE) for path in base.iterdir() if path.is_dir()}
    for document in documents():
        words = (word for code in _CODE.findall(document.read_text()) for word in code.split())
        for path in (word for word in words if _PATH.fullmatch(word)):
            name = path.removeprefix("incident-operator/")  # the checkout, as the page of installation calls it
            if name.split("/")[0] in folders and not name.startswith("."):
                yield document, name


def test_every_path_that_a_document_names_is_there() -> None:
    """Below the repository, or below the package as the layout abbreviates it."""
    named = list(_named())
    assert len(named) > 15
    gone = [
        f"{document.relative_to(ROOT)}: {path}"
        for document, path in named
        if path not in _TO_WRITE and not any(any(base.glob(path.rstrip("/"))) for base in (ROOT, _PACKAGE))
    ]
    assert gone == []
