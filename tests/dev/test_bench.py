"""The bench: every playbook has a row, and the document's own commands do not end at the first failure."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from dev.bench.figures import Figure, table
from dev.bench.playbooks import PLAYBOOKS, Scene, run_document
from dev.loopback import ROOT
from dev.stack import Stack


def a_scene(*commands: str) -> Scene:
    """Return a scene of which only the document's commands matter."""
    return Scene(parameters={}, grant={}, cause="Any", commands=commands, env={"NAME": "of the shop"})


def test_every_runbook_is_measured() -> None:
    """Lambda's in its own section, each other one here."""
    shipped = {file.stem for file in (ROOT / "manifests/runbooks").glob("*.yaml")} - {"kustomization"}
    assert {*PLAYBOOKS, "lambda-failures"} == shipped


def test_a_command_that_fails_is_named_and_the_others_are_run(tmp_path: Path) -> None:
    """In a folder of its own, which a former try has left nothing in."""
    stack = cast(Stack, SimpleNamespace(aws_env=lambda who: dict[str, Any]()))
    wrapper = tmp_path / "bin/aws"
    wrapper.parent.mkdir()
    scene = a_scene("echo $NAME >told", "no-such-command", "exit 3", '[ "$(cat told)" = "of the shop" ]')
    for _ in range(2):
        seconds, failed = run_document(stack, scene, wrapper)
        assert failed == ("no-such-command (not installed here)", "exit 3")
        assert seconds > 0


def test_what_a_figure_counts_is_named_in_text_and_json() -> None:
    """So that a reader sees which command of the document fails, and not only how many."""
    figure = Figure(name="those that fail", unit="of 2", samples=[1.0], notes=("no-such-command",))
    assert table([figure]).splitlines()[-1].strip() == "no-such-command"
    assert figure.json()["notes"] == ["no-such-command"]
    assert "notes" not in Figure(name="a time", unit="s", samples=[1.0]).json()
