"""The runbooks carry their sections of the document whole, and are rendered back for people who read."""

import re
from typing import Any

import pytest
import yaml

from tests.repo.files import ROOT
from tests.repo.runbook_pages import PAGES, page, runbooks

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "repo" / "document.yaml").read_text())
SHIPPED = runbooks()


def test_every_section_of_the_document_is_a_shipped_runbook() -> None:
    """And each of ours is one: a runbook of our own would need facts of its own here."""
    assert set(SHIPPED) == set(DOCUMENT)


def test_the_pages_are_the_runbooks() -> None:
    """Write them anew: make docs."""
    assert {path.stem: path.read_text() for path in PAGES.glob("*.md")} == {
        name: page(name, runbook) for name, runbook in SHIPPED.items()
    }


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_page_has_all_of_its_section(name: str) -> None:
    """Headings, steps with their minutes, symptoms, tickets and figures: each in the document's words."""
    fact, text = DOCUMENT[name], page(name, SHIPPED[name])
    assert f"# {fact['title']}\n" in text
    assert f"## Pattern: {fact['pattern']}\n" in text
    steps = re.findall(r"^#### Step \d+: (.*)$", text, re.MULTILINE)
    assert steps == fact["steps"]
    for symptom in fact.get("symptoms", ()):
        assert f"- {symptom}\n" in text
    tickets = re.findall(r"^\*\*Ticket #([A-Z]+-\d+-\d+)\*\*", text, re.MULTILINE)
    assert tickets == [told["ticket"] for told in fact["tickets"]]
    for figure in fact.get("notes", ()):
        assert figure in text.split("### Standard Resolution Playbook")[0]


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_track_record_is_the_documents(name: str) -> None:
    """Its tickets with its words and nothing made up, its figures, and no notes but its own."""
    fact, runbook = DOCUMENT[name], SHIPPED[name]
    assert [told.wire() for told in runbook.history] == fact["tickets"]
    assert runbook.knowledge is not None
    known = runbook.knowledge.wire()
    assert known.pop("source") == f"Incident Response Runbook 3.2, {fact['title']}"
    notes = known.pop("notes", [])
    assert known == fact.get("figures", {})
    assert all(any(figure in note for figure in fact.get("notes", ())) for note in notes)
