"""The reasons that the code can give, read from its source: what the documents must explain.

A reason that is not written where it is given is followed to where it is; where that can't be, the source says so by
failing here: name the expression in `elsewhere`, and read its reasons where they are written.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from incident_operator.api.intervention import Verb
from incident_operator.cli.words import WORDS
from tests.repo.files import ROOT

_PACKAGE = ROOT / "operator" / "incident_operator"
_CORE, _CONTROLLERS, _ADAPTERS = "core/**/*.py", "controllers/*.py", "adapters/*.py"


@dataclass(frozen=True)
class _Call:
    """A call in the source, and the function (or module) that it stands in."""

    name: str
    node: ast.Call
    within: ast.AST

    def argument(self, position: int, keyword: str) -> set[str]:
        """Return the texts that an argument can be; in braces, an expression whose text is not to be seen here."""
        named = next((k.value for k in self.node.keywords if k.arg == keyword), None)
        node = named if named is not None else next(iter(self.node.args[position : position + 1]), None)
        return set() if node is None else _texts(node, self.within)


def _files(*patterns: str) -> Iterator[tuple[Path, ast.Module]]:
    for pattern in patterns:
        found = sorted(_PACKAGE.glob(pattern))
        assert found, f"no file is {pattern} any more: tell this module where its reasons are now"
        for path in found:
            yield path, ast.parse(path.read_text(), str(path))


def _calls(name: str, *patterns: str) -> list[_Call]:
    found = [call for _, tree in _files(*patterns) for call in _calls_of(tree, tree) if call.name == name]
    assert found, f"nobody calls {name} in {', '.join(patterns)} any more: tell this module what is called now"
    return found


def _calls_of(node: ast.AST, within: ast.AST) -> Iterator[_Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            function = child.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield _Call(name, child, within)
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else within
        yield from _calls_of(child, inner)


def _texts(node: ast.expr, within: ast.AST) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return _texts(node.body, within) | _texts(node.orelse, within)
    if isinstance(node, ast.Name):
        values = [
            assigned.value
            for assigned in ast.walk(within)
            if isinstance(assigned, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == node.id for t in assigned.targets)
        ]
        if values:
            return set().union(*(_texts(value, within) for value in values))
    return {f"{{{ast.unparse(node)}}}"}


def _read(found: Iterable[str], *elsewhere: str) -> set[str]:
    """Return the reasons, without the expressions that are read elsewhere. Errors: AssertionError for any other."""
    texts = set(found) - {""}
    open_ = {text for text in texts if text.startswith("{")}
    assert open_ == {f"{{{expression}}}" for expression in elsewhere}, "an expression's reasons are read nowhere"
    return texts - open_


def _returned(function: str, pattern: str) -> set[str]:
    """Return what stands first in the tuples that a function returns: a reason, with its message."""
    return {
        text
        for _, tree in _files(pattern)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
        for returned in ast.walk(node)
        if isinstance(returned, ast.Return) and isinstance(returned.value, ast.Tuple)
        for text in _texts(returned.value.elts[0], node)
    }


def endings() -> set[str]:
    """Return every outcome a run can end with: given to `end`, or returned by the function that says why."""
    found = {text for call in _calls("end", "core/run/*.py") for text in call.argument(3, "reason")}
    # A Resolution, why it was refused (`refusals`), and what `_why_unresolved` says.
    given = _read(found, "str(resolution)", "refusal.reason", "reason")
    return given | _read(_returned("_why_unresolved", "core/run/choosing.py"))


def refusals() -> set[str]:
    """Return why a run is not accepted."""
    calls = _calls("Refusal", _CORE, _CONTROLLERS)
    return _read({text for call in calls for text in call.argument(0, "reason")}, "view.refusal.reason")


def gates() -> set[str]:
    """Return the names of the facts that block."""
    made = {text for call in _calls("GateVerdict", _CORE, _CONTROLLERS, _ADAPTERS) for text in call.argument(0, "name")}
    return _read(made, "name") | _read(
        {text for call in _calls("_blocks", "core/gates.py") for text in call.argument(0, "name")}
    )


def soft_gates() -> set[str]:
    """Return the names of the gates that people may override."""
    soft = [c for c in _calls("_blocks", "core/gates.py") if any(k.arg == "hard" for k in c.node.keywords)]
    return _read({text for call in soft for text in call.argument(0, "name")})


def plan_reasons() -> set[str]:
    """Return why plans are in their state, but for gates and reads whose own name is the reason."""
    core, controllers = "core/plan/*.py", "controllers/plan_effects.py"
    ends = {text for call in _calls("end", core) for text in call.argument(1, "reason")}
    found = _read(ends, "stop.reason", "view.replanned.reason", "lasting[0].name")
    found |= _read({text for call in _calls("Stop", core) for text in call.argument(0, "reason")})
    found |= _read({text for call in _calls("changed", controllers) for text in call.argument(0, "reason")} - _UNREAD)
    found |= _read({t for c in _calls("Replanned", _CORE, _CONTROLLERS) for t in c.argument(2, "reason")}, "reason")
    found |= _read({text for call in _calls("put_back", core) for text in call.argument(1, "reason")}, "stop.reason")
    found |= _read(
        {text for call in _calls("write", core) for text in call.argument(99, "reason")},
        "reason",  # of `end` and `put_back`, which are read above
    )
    return found | _read(_written_with_a_state("core/run/again.py"))


#: Just before the first call something could not be read: the plan's reason is that of a check's Error.
_UNREAD = {"{error.reason}", "Timeout"}


def _written_with_a_state(pattern: str) -> set[str]:
    """Return the reasons of statuses that are written as a dict: those of plans, whose `state` is a PlanState."""
    found = set[str]()
    for _, tree in _files(pattern):
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                fields = {
                    k.value: v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)
                }
                if {"state", "reason"} <= fields.keys() and ast.unparse(fields["state"]).startswith("PlanState."):
                    found |= _texts(fields["reason"], tree)
    return found


def refused_answers() -> set[str]:
    """Return why a person's word does not count."""
    calls = _calls("refused", _CORE, _CONTROLLERS)
    given = _read({text for call in calls for text in call.argument(1, "reason")}, "*reason_message")
    return given | _read(_returned("_void", "core/approval.py"))


def agreed_answers() -> dict[str, str]:
    """Return how the operator calls a word that took effect: by the command that says it."""
    (function,) = (
        node
        for _, tree in _files("core/approval.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "agreed"
    )
    (past,) = (node for node in ast.walk(function) if isinstance(node, ast.Dict))
    commands = {word.verb: word.name for word in WORDS}
    words = {
        commands[Verb[ast.unparse(key).removeprefix("Verb.")]]: _texts(value, function)
        for key, value in zip(past.keys, past.values, strict=True)
        if key is not None
    }
    made = {
        text
        for call in _calls("Answer", _CORE, _CONTROLLERS)
        if any(k.arg == "effective" and ast.unparse(k.value) == "True" for k in call.node.keywords)
        for text in call.argument(2, "reason")
    }
    given = {verb: next(iter(_read(texts))) for verb, texts in words.items()}
    assert _read(made, "past[word.spec.verb]") <= set(given.values()), "an answer of another name is given"
    return given


def conditions() -> dict[str, set[str]]:
    """Return the conditions of runs: type → the statuses it is set to."""
    found = dict[str, set[str]]()
    for call in _calls("with_condition", "core/run/*.py"):
        (type_,) = _read(call.argument(1, "type_"))
        status = ast.unparse(call.node.args[2])
        values = {"True": {"True"}, "False": {"False"}, "None": {"Unknown"}}.get(status, {"True", "False"})
        found[type_] = found.get(type_, set()) | values
    return found


def asks() -> set[str]:
    """Return why a person must agree to a plan: what the core adds, and what actions add."""
    found: set[str] = set()
    for call in _calls("append", "core/planning.py"):
        if getattr(call.within, "name", "") == "reasons_to_ask":
            found |= call.argument(0, "")
    for _, tree in _files("actions/*.py"):
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "ask_because":
                for told in (node, *_returned_by(node, tree)):
                    found |= {
                        n.value for n in ast.walk(told) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                    }
    return _read(found)


def _returned_by(node: ast.AST, module: ast.Module) -> Iterator[ast.Return]:
    """Yield what the functions of the same module return that are called in an expression."""
    called = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef) and function.name in called:
            yield from (n for n in ast.walk(function) if isinstance(n, ast.Return))
