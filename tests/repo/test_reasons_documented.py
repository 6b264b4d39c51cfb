"""What the operator can say is explained: in docs/operations.md and by the commands, in the same words."""

import re
from collections.abc import Iterable, Mapping

import pytest

from incident_operator.api.plan import PlanState
from incident_operator.api.run import CheckState, FixState, Resolution, RunPhase
from incident_operator.cli import glossary
from incident_operator.cli.options import (
    EXIT_ERROR,
    EXIT_NOT_RUN,
    EXIT_RESOLVED,
    EXIT_TIMEOUT,
    EXIT_UNRESOLVED,
    EXIT_USAGE,
)
from incident_operator.cli.words import WORDS
from incident_operator.core.approval import SOFT
from tests.repo import action_pages, reasons
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs" / "operations.md").read_text()
_COMMANDS = (ROOT / "docs" / "cli.md").read_text()


def _table(header: str) -> dict[str, list[str]]:
    """Return the rows of the table whose header row begins so: first cell → the others."""
    after = _PAGE.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in after.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("phase | meaning | what to do", RunPhase),
        ("outcome | phase | meaning", reasons.endings() | {str(r) for r in Resolution}),
        ("gate | meaning | what to do", reasons.gates()),
    ],
)
def test_every_value_has_a_row_and_every_row_a_value(header: str, expected: Iterable[str]) -> None:
    """Nothing is unexplained, and nothing is explained that can't be seen."""
    assert set(_table(header)) == {str(value) for value in expected}


def _tables() -> Iterable[tuple[str, set[str]]]:
    yield "## Why a run does not start, or Failed", reasons.refusals()
    yield "## States of a check", {str(s) for s in CheckState}
    yield "## States of a fix", {str(s) for s in FixState}
    yield "## States of a plan", {str(s) for s in PlanState}
    yield "## Reasons of a plan", reasons.plan_reasons()
    yield "Why a person must agree, besides the risk", reasons.asks()


def _rows_below(heading: str, page: str = _PAGE) -> dict[str, str]:
    section = page.split(heading, 1)[1].split("|---|---|", 1)[1].split("\n\n", 1)[0]
    cells = (line.strip("| ").split(" | ", 1) for line in section.strip().splitlines())
    return {key: meaning for key, meaning in cells}


@pytest.mark.parametrize(("heading", "expected"), list(_tables()))
def test_every_reason_and_state_is_in_its_section(heading: str, expected: set[str]) -> None:
    """The sets are read from the code."""
    assert len(expected) > 2
    assert set(_rows_below(heading)) == expected


def _column(header: str, number: int) -> dict[str, str]:
    return {key: cells[number] for key, cells in _table(header).items()}


@pytest.mark.parametrize(
    ("shown", "documented"),
    [
        ({key: end.meaning for key, end in glossary.ENDINGS.items()}, _column("outcome | phase | meaning", 1)),
        (glossary.GATES, _column("gate | meaning | what to do", 0)),
        (glossary.REFUSALS, _rows_below("## Why a run does not start, or Failed")),
        (glossary.PLAN_STATES, _rows_below("## States of a plan")),
        (glossary.PLAN_REASONS, _rows_below("## Reasons of a plan")),
        (glossary.ASKS, _rows_below("Why a person must agree, besides the risk")),
        (glossary.ANSWERS, _rows_below("Why it is not in effect:", _COMMANDS)),
    ],
)
def test_the_commands_and_the_page_use_the_same_words(shown: Mapping[str, str], documented: Mapping[str, str]) -> None:
    """One truth, in two places."""
    assert shown == documented


def test_the_exit_codes_are_the_documented_ones() -> None:
    """Scripts rest on them."""
    sentence = " ".join(_PAGE.split("`kubectl incident watch` ends with ")[1].split("\n\n")[0].split())
    assert sentence == (
        f"{EXIT_RESOLVED} for Resolved; {EXIT_UNRESOLVED} for Unresolved, NothingFound and Cancelled; "
        f"{EXIT_NOT_RUN} for Failed and Expired; {EXIT_TIMEOUT} when its `--timeout` passes first; "
        f"{EXIT_ERROR} for an error of its own; {EXIT_USAGE} for wrong usage."
    )


def test_every_condition_that_is_set_is_documented() -> None:
    """By the name that `kubectl wait` takes, in each status that it is set to and in no other."""
    shown = _table("condition | True means | False means | Unknown means")
    told = {
        name: {status for status, text in zip(("True", "False", "Unknown"), cells, strict=True) if text != "–"}
        for name, cells in shown.items()
    }
    assert told == reasons.conditions()


def test_the_gates_that_may_be_overridden_say_so_and_no_others() -> None:
    """Three places: how the gate is made, what an approval may name, and what the page says to type."""
    offered = {gate for gate, cells in _table("gate | meaning | what to do").items() if "`--override " in cells[1]}
    assert all(f"`--override {gate}`" in _table("gate | meaning | what to do")[gate][1] for gate in offered)
    assert offered == reasons.soft_gates() == SOFT


def test_every_answer_to_a_word_is_documented() -> None:
    """Why a word does not count is in the glossary; how one that does is called, in the table of what can be said."""
    assert set(glossary.ANSWERS) == reasons.refused_answers()
    table = _table("word | answer | what it does | when it is too late")
    assert {word: cells[0] for word, cells in table.items()} == reasons.agreed_answers()
    assert set(table) == {word.name for word in WORDS}


def test_the_catalogues_pages_are_what_the_catalogue_says() -> None:
    """Write them anew: make docs."""
    assert {path.name: path.read_text() for path in action_pages.PAGES.iterdir()} == action_pages.pages()
