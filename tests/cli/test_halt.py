"""`halt` and `unhalt`: every grant that is named is tried, and each is told."""

from tests.builders import a_grant
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.test_say import finish


def test_a_halt_suspends_all_and_unhalt_lets_them_go(api: FakeApi, command: Command) -> None:
    """By a merge patch of spec.suspended alone; as printed in the page of operations."""
    api.put(a_grant())
    halt = "kubectl incident halt --all --reason INC-2023-1247"
    code, out, _ = finish(command(*halt.split()[2:]))
    assert (code, out.splitlines()[0]) == (0, "ActionGrant shop: suspended: INC-2023-1247")
    assert "Calls in flight end; nothing new begins" in out
    assert api.writes[-1][2] == {"spec": {"suspended": {"reason": "INC-2023-1247"}}}
    assert finish(command("unhalt", "shop"))[:2] == (0, "ActionGrant shop: not suspended\n")
    assert "suspended" not in api.stored("ActionGrant")[0]["spec"]


def test_one_that_fails_does_not_keep_the_others_from_being_halted(api: FakeApi, command: Command) -> None:
    """The exit code says that not all is done."""
    api.put(a_grant())
    code, out, err = finish(command("halt", "nope", "shop", "--reason", "r"))
    assert (code, "ActionGrant shop: suspended: r" in out) == (1, True)
    assert "ActionGrant nope: actiongrants 'nope' not found\n  see which there are: kubectl get actiongrants" in err


def test_who_may_not_is_told_whom_to_ask(api: FakeApi, command: Command) -> None:
    """Responders may not; platform admins may."""
    api.put(a_grant())
    api.write_refusal = (403, 'User "mallory" cannot patch resource "actiongrants"')
    code, _, err = finish(command("halt", "shop", "--reason", "r"))
    assert (code, "ask a platform admin" in err, 'User "mallory" cannot patch' in err) == (1, True, True)


def test_nothing_is_halted_by_accident(command: Command) -> None:
    """Neither a name nor --all is wrong usage, and so are both."""
    assert finish(command("halt", "--reason", "r"))[0] == 64
    assert finish(command("halt", "shop", "--all", "--reason", "r"))[0] == 64
    assert finish(command("halt", "shop"))[0] == 64
