"""docs/connections.md lists what the code lets through, and its example is one that works."""

import re

import yaml

from incident_operator.actions.catalogue import infos
from incident_operator.core.rediscommand import COMMANDS
from incident_operator.core.runbook import validate
from incident_operator.core.statement import FUNCTIONS
from tests.builders import a_runbook
from tests.core.test_runbook import a_step
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs" / "connections.md").read_text()


def test_the_functions_are_the_ones_that_may_be_called() -> None:
    """All of them, and no other."""
    listed = _PAGE.split("these functions and no others:\n\n", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"`(\w+)`", listed)) == FUNCTIONS


def test_the_commands_are_the_ones_that_may_be_sent() -> None:
    """With their arguments."""
    table = _PAGE.split("| command | argument |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("| ").split(" | ", 1) for line in table.splitlines()]
    listed = {command.strip("`"): set(re.findall(r"`([\w-]+)`", argument)) for command, argument in rows}
    assert listed == {name: set(command.choices) for name, command in COMMANDS.items()}


def test_the_acl_user_may_send_them_all() -> None:
    """Rights are written as Redis spells them."""
    rights = re.findall(r"\+([a-z|]+)", _PAGE.split("ACL SETUSER", 1)[1].split("`", 1)[0])
    assert sorted(rights) == sorted(name.lower().replace(" ", "|") for name in COMMANDS)


def test_the_check_that_is_shown_is_valid() -> None:
    """As a part of a runbook."""
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL) if b.startswith("- name: slots"))
    steps = a_step(checks=yaml.safe_load(block), fixes=[])
    runbook = a_runbook(steps=steps, recovery={"checks": ["slots"], "stableFor": "5m"})
    assert validate(runbook, infos()) == ()
