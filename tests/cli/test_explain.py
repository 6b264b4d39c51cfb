"""`explain`: the catalogue in words, from its classes."""

from incident_operator.actions.base import FixAction
from incident_operator.actions.catalogue import catalogue
from tests.cli.test_lint import incident


def test_an_action_is_explained_from_its_class() -> None:
    """Inputs, reasons, permissions, risk and undo."""
    code, out, err = incident("kubectl incident explain iam.restore-role-access")
    action = catalogue()["iam.restore-role-access"]
    assert isinstance(action, FixAction)
    assert (code, err) == (0, "")
    for shown in (*action.reasons, *action.reads, *action.writes, action.risk, action.undo, "requiredAccess"):
        assert shown in out


def test_without_an_action_all_are_listed() -> None:
    """Checks and fixes, each once."""
    out = incident("kubectl incident explain")[1]
    assert [name for name in catalogue() if out.count(f"  {name} ") != 1] == []


def test_an_unknown_action_names_the_nearest() -> None:
    """A typing error is not left to be guessed."""
    code, _, err = incident("kubectl incident explain iam.restore-access")
    assert (code, err.splitlines()[0]) == (1, "error: there is no action 'iam.restore-access'")
    assert err.splitlines()[1].startswith("  there are: iam.restore-role-access")
