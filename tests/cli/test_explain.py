"""`explain`: the catalogue in words, from its classes."""

import pytest

from incident_operator.actions.base import FixAction
from incident_operator.actions.catalogue import catalogue
from incident_operator.cli.catalogue_view import explained, facts, markdown
from tests.cli.test_lint import incident


def test_an_action_is_explained_from_its_class() -> None:
    """Inputs, reasons, permissions, risk and undo."""
    code, out, err = incident("kubectl incident explain iam.restore-role-access")
    action = catalogue()["iam.restore-role-access"]
    assert isinstance(action, FixAction)
    assert (code, err) == (0, "")
    for shown in (*action.reasons, *action.reads, *action.writes, action.risk, action.undo, "requiredAccess"):
        assert shown in out


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_the_terminal_and_the_page_tell_the_same(name: str) -> None:
    """Whatever the class tells is in both, word for word but for how it is drawn."""
    action = catalogue()[name]
    shown, page = (_words("\n".join(lines(name, action))) for lines in (explained, markdown))
    for fact in facts(action):
        for told in (fact.text, *fact.names, *(cell for row in fact.rows for cell in row)):
            assert _words(told) in shown
            assert _words(told) in page


def _words(text: str) -> str:
    """Return a text as it is read: without what draws it."""
    return " ".join(text.replace("`", "").replace("\\|", "|").split())


@pytest.mark.parametrize("name", sorted(n for n, a in catalogue().items() if isinstance(a, FixAction)))
def test_a_fix_tells_all_that_people_ask_before_they_agree(name: str) -> None:
    """What it may cost, does, is judged by and waits for, and how it is put back: none is left to the plan alone."""
    told = {fact.title: fact.text for fact in facts(catalogue()[name])}
    for title in ("Risk", "Undo", "Plan", "Judged", "Waits"):
        assert told[title], title
        assert "Each plan says" not in told[title], title


def test_waits_are_told_with_what_a_plan_may_add() -> None:
    """A group's grace period is known only when it is read."""
    told = {fact.title: fact.text for fact in facts(catalogue()["autoscaling.set-capacity"])}
    assert told["Waits"] == (
        "Judged 1m after the last call, then every 20s, for 20m at most; the group's grace period is waited for first, "
        "and 10m at least are left after it."
    )


def test_an_action_without_waits_leaves_them_to_its_plans() -> None:
    """Those of other distributions may say them in each plan alone."""
    action = catalogue()["autoscaling.set-capacity"]
    other = type("Other", (type(action),), {"waits": None})()
    assert {f.title: f.text for f in facts(other)}["Waits"] == "Each plan says its own: kubectl incident plan RUN"


def test_without_an_action_all_are_listed() -> None:
    """Checks and fixes, each once."""
    out = incident("kubectl incident explain")[1]
    assert [name for name in catalogue() if out.count(f"  {name} ") != 1] == []


def test_an_unknown_action_names_the_nearest() -> None:
    """A typing error is not left to be guessed."""
    code, _, err = incident("kubectl incident explain iam.restore-access")
    assert (code, err.splitlines()[0]) == (1, "error: there is no action 'iam.restore-access'")
    assert err.splitlines()[1].startswith("  there are: iam.restore-role-access")
