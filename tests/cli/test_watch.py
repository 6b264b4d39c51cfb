"""`kubectl incident watch` as a process, against an API server that drops watches, forgets history and refuses."""

import subprocess

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import at, entry, plan, run


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the process and return its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Return stdout up to and with the line that has the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"the process ended without {text!r}:\n{''.join(lines)}{finish(process)[2]}")


def test_a_run_is_followed_to_its_end_through_a_dropped_watch_and_a_forgotten_history(
    api: FakeApi, command: Command
) -> None:
    """Every turn is told once, whatever happens to the connection, and Resolved is exit 0."""
    api.put(run("diagnosing"))
    process = command("watch", "inc-2024-0001")
    out = read_until(process, "diagnosing: 2 checks at once")
    api.wait_for_watches(2)
    api.put(run("diagnosed"), plan())
    out += read_until(process, "recovery")
    api.drop_watches()
    api.put(run("applying"), plan("Applying", calls=[entry(0, "Intended", 4)]))
    out += read_until(process, "type ")
    api.wait_for_watches(4)
    api.expire_watches()
    api.put(run("verifying"), plan("Helped", calls=[entry(0, "Succeeded", 4), entry(1, "Succeeded", 6)]))
    out += read_until(process, "watching that it stays so")
    api.put(run("resolved"))
    code, rest, _ = finish(process)
    out += rest
    assert code == 0
    told = ("Started ", "RoleLacksAccess ", "Diagnosed ", "Applying ", "Helped ", "Resolved ")
    assert [sum(f"  {reason}" in line[9:] for line in out.splitlines()) for reason in told] == [1] * len(told)
    assert "Resolved/Runbook after 6m10s" in out
    assert "changed: set BirthdayServiceAccess back to version v1: Helped" in out
    assert not any(c < " " and c != "\n" for c in out), "no control characters where nobody looks at a terminal"


@pytest.mark.parametrize(
    ("phase", "outcome", "code"),
    [
        ("Unresolved", "NotPermitted", 2),
        ("NothingFound", "NothingFound", 2),
        ("Cancelled", "Cancelled", 2),
        ("Expired", "StartDeadline", 3),
        ("Failed", "RevisionLost", 3),
    ],
)
def test_the_exit_code_says_how_the_run_ended(
    api: FakeApi, command: Command, phase: str, outcome: str, code: int
) -> None:
    """People needed is 2, not run is 3."""
    api.put(run("diagnosed", phase=phase, outcome=outcome, finishedAt=at(10), settled=True))
    status, out, _ = finish(command("watch", "inc-2024-0001"))
    assert (status, f"{phase}/{outcome}" in out) == (code, True)
    assert "changed: nothing" in out


def test_a_run_that_does_not_exist_names_what_does(api: FakeApi, command: Command) -> None:
    """A typing error is answered with the near names, not with a wait."""
    api.put(run("resolved"))
    code, out, err = finish(command("watch", "inc-2024-001"))
    assert (code, out) == (1, "")
    assert err == ("error: there is no IncidentRun 'inc-2024-001' in namespace shopsmart\n  there are: inc-2024-0001\n")


def test_a_run_of_another_namespace_is_found(api: FakeApi, command: Command) -> None:
    """Nobody is left to guess the namespace."""
    api.put(run("resolved"))
    code, _, err = finish(command("watch", "-n", "elsewhere", "inc-2024-0001"))
    assert code == 1
    assert "it is in namespace shopsmart: add -n shopsmart" in err


def test_wait_waits_for_a_run_that_is_not_there_yet(api: FakeApi, command: Command) -> None:
    """`--wait` says so and goes on when the run comes."""
    process = command("watch", "--wait", "inc-2024-0001")
    api.wait_for_watches(2)
    api.put(run("resolved"))
    code, out, err = finish(process)
    assert (code, "Resolved/Runbook" in out) == (0, True)
    assert "there is no IncidentRun inc-2024-0001 yet: waiting for it" in err


def test_timeout_ends_the_watch_and_says_that_the_run_goes_on(api: FakeApi, command: Command) -> None:
    """Exit 4 is the watch's end, not the run's."""
    api.put(run("applying"))
    code, out, err = finish(command("watch", "inc-2024-0001", "--timeout", "1s"))
    assert (code, "applying: set" in out) == (4, True)
    assert "it goes on: watch it again" in err


def test_a_deleted_run_ends_the_watch(api: FakeApi, command: Command) -> None:
    """Nothing is left to wait for."""
    api.put(run("applying"))
    process = command("watch", "inc-2024-0001")
    api.wait_for_watches(2)
    api.delete(run("applying"))
    code, _, err = finish(process)
    assert (code, err) == (1, "error: IncidentRun inc-2024-0001 was deleted while it was watched\n")


def test_a_server_that_does_not_answer_is_named(api: FakeApi, command: Command) -> None:
    """The first thing to know is which server was asked."""
    process_args = ("watch", "inc-2024-0001")
    api.close()
    code, _, err = finish(command(*process_args))
    assert (code, api.url in err) == (1, True)
    assert "Connection refused" in err


def test_kinds_that_are_not_installed_say_what_to_apply(api: FakeApi, command: Command) -> None:
    """A cluster without our kinds is told apart from a run that is not there."""
    api.served = False
    code, _, err = finish(command("watch", "inc-2024-0001"))
    assert (code, "kubectl apply --server-side -k crds/" in err) == (1, True)


def test_a_refusal_carries_the_servers_words_and_the_role_to_ask_for(api: FakeApi, command: Command) -> None:
    """Forbidden is no mystery."""
    api.refusal = (403, 'incidentruns is forbidden: User "mallory" cannot list')
    code, _, err = finish(command("watch", "inc-2024-0001"))
    assert (code, 'User "mallory" cannot list' in err, "incident-responder" in err) == (1, True, True)


@pytest.mark.parametrize("arguments", [("watch",), ("watch", "x", "--timeout", "soon"), ("plan", "x", "y", "--all")])
def test_wrong_usage_is_not_mistaken_for_an_unresolved_incident(command: Command, arguments: tuple[str, ...]) -> None:
    """Usage errors have their own exit code."""
    assert finish(command(*arguments))[0] == 64
