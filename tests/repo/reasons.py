"""The reasons that the code can give, read from its source: what the documents must explain."""

import ast
from collections.abc import Iterator

from tests.repo.files import ROOT

_PACKAGE = ROOT / "operator" / "incident_operator"


def _calls(*files: str) -> Iterator[tuple[str, ast.Call]]:
    for name in files:
        for path in sorted(_PACKAGE.glob(name)):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Call):
                    function = node.func
                    yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""), node


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _argument(call: ast.Call, position: int, keyword: str) -> str | None:
    named = next((k.value for k in call.keywords if k.arg == keyword), None)
    return _text(named if named is not None else (call.args[position] if len(call.args) > position else None))


def endings() -> set[str]:
    """Return every outcome a run can end with: written at `_end`, or returned by the function that says why."""
    found = {_argument(call, 3, "reason") for name, call in _calls("core/run.py") if name == "_end"}
    for node in ast.walk(ast.parse((_PACKAGE / "core" / "run.py").read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "_why_unresolved":
            tuples = (r.value for r in ast.walk(node) if isinstance(r, ast.Return))
            found |= {_text(t.elts[0]) for t in tuples if isinstance(t, ast.Tuple)}
    return {reason for reason in found if reason}


def refusals() -> set[str]:
    """Return why a run is not accepted."""
    found = {_argument(c, 0, "reason") for name, c in _calls("core/*.py", "controllers/*.py") if name == "Refusal"}
    return {reason for reason in found if reason}


def gates() -> set[str]:
    """Return the names of the facts that block."""
    found = {_argument(call, 0, "name") for name, call in _calls("core/gates.py") if name == "_blocks"}
    return {name for name in found if name}


def plan_reasons() -> set[str]:
    """Return why plans end."""
    ends = {_argument(call, 1, "reason") for name, call in _calls("core/plan.py") if name == "end"}
    again = {_argument(c, 1, "reason") for name, c in _calls("core/*.py", "controllers/*.py") if name == "Replanned"}
    return {reason for reason in ends | again if reason}


def asks() -> set[str]:
    """Return why a person must agree to a plan: what the core adds, and what actions add."""
    found: set[str] = set()
    tree = ast.parse((_PACKAGE / "core" / "planning.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "reasons_to_ask":
            appended = (c for c in ast.walk(node) if isinstance(c, ast.Call))
            found |= {text for c in appended if c.args and (text := _text(c.args[0]))}
    for _, call in _calls("actions/*.py"):
        for keyword in call.keywords:
            if keyword.arg == "ask_because":
                found |= {text for node in ast.walk(keyword.value) if (text := _text(node))}
    return found
