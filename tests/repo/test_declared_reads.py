"""An action declares every permission that it reads with: least-privilege policies are made from the declarations.

Found in the source: from an action's methods, through every function and class of the catalogue that they name, to
the reads that are asked for by name.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from incident_operator.actions.catalogue import catalogue
from incident_operator.actions.reads import READS
from tests.repo.files import ROOT


@dataclass
class Part:
    """A function or class: the reads it asks for by name, and the names it uses."""

    reads: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)


def _part(node: ast.AST) -> Part:
    part = Part()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            part.names.add(inner.id)
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "aws":
            service, operation = (a.value if isinstance(a, ast.Constant) else None for a in inner.args[:2])
            listed = READS.get((str(service), str(operation)))
            part.reads |= set(listed.permissions if listed else ())
    return part


def _parts() -> Mapping[str, Part]:
    folder = ROOT / "operator" / "incident_operator" / "actions"
    bodies = [node for path in sorted(folder.glob("*.py")) for node in ast.parse(path.read_text()).body]
    return {node.name: _part(node) for node in bodies if isinstance(node, ast.FunctionDef | ast.ClassDef)}


PARTS = _parts()


def _asked(name: str) -> set[str]:
    reached: set[str] = set()
    waiting = {name}
    while waiting:
        reached |= waiting
        waiting = {used for known in waiting for used in PARTS[known].names if used in PARTS} - reached
    return {permission for known in reached for permission in PARTS[known].reads}


def test_the_reads_of_the_source_are_found() -> None:
    """A search that finds nothing proves nothing."""
    assert "iam:GetPolicyVersion" in _asked("RestoreRoleAccess")
    assert len({read for part in PARTS.values() for read in part.reads}) > 10


@pytest.mark.parametrize("name", [name for name, action in catalogue().items() if type(action).__name__ in PARTS])
def test_an_action_declares_what_it_reads(name: str) -> None:
    """What is missing here would be missing in a role made by `kubectl incident iam-policy`."""
    action = catalogue()[name]
    assert _asked(type(action).__name__) - {*action.reads, *action.reads_from_instances} == set()
