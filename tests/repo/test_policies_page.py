"""docs/policies.md explains every condition and reason of a policy, and its defaults are those of the API."""

import ast
import re
from typing import get_args, get_type_hints

from incident_operator.api.meta import format_duration
from incident_operator.api.policy import Guardrails
from incident_operator.core.policy import CLOSE_CIRCUIT, NotReady, Stop
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs" / "policies.md").read_text()
_SOURCE = (ROOT / "operator" / "incident_operator" / "core" / "policy.py").read_text()


def _rows(header: str) -> dict[str, list[str]]:
    after = _PAGE.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in after.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def _said() -> dict[str, set[str]]:
    """Return the conditions that the core sets, each with the reasons written where it is set."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(_SOURCE)):
        name = getattr(getattr(node, "func", None), "id", "") if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in ("say", "with_condition"):
            first = 0 if name == "say" else 1
            type_, reason = node.args[first], node.args[first + 2]
            if isinstance(type_, ast.Constant):
                texts = {n.value for n in ast.walk(reason) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                found.setdefault(str(type_.value), set()).update(texts)
    return found


def test_every_condition_and_reason_is_explained() -> None:
    """And none that can't be seen; those that are computed are named by their types."""
    said = _said()
    said["Ready"] |= set(get_args(get_type_hints(NotReady)["reason"]))
    said["Remediating"] |= set(get_args(get_type_hints(Stop)["reason"])) - {"NotReady"}  # then Ready says why
    said["Healthy"] |= {"NoAnswer", "Failing", "Passing"}
    assert all(f'"{reason}"' in _SOURCE for reason in said["Healthy"])
    assert set(_rows("condition | True means | False means | Unknown means")) == set(said)
    told = {reason: set(cells[0].split(", ")) for reason, cells in _rows("reason | of | meaning").items()}
    assert told == {
        reason: {type_ for type_, reasons in said.items() if reason in reasons}
        for reason in set().union(*said.values())
    }


def test_the_guardrails_and_their_defaults_are_the_apis() -> None:
    """What is left out is as the page says."""
    rows = {name.strip("`"): cells[0] for name, cells in _rows("guardrail | default | what it does").items()}
    defaults = Guardrails()
    assert rows == {
        "cooldown": format_duration(defaults.cooldown),
        "maxRunsPerDay": str(defaults.max_runs_per_day),
        "maxConcurrentRuns": str(defaults.max_concurrent_runs),
        "stopAfterFailures": str(defaults.stop_after_failures),
        "windows": "none",
        "suspend": str(defaults.suspend).lower(),
    }


def test_the_word_that_closes_the_circuit_is_the_one_that_is_looked_for() -> None:
    """As it is printed."""
    assert f"kubectl annotate rpol NAME {CLOSE_CIRCUIT}=" in _PAGE
