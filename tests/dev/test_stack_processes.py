"""Processes are started once, found again, restarted when outdated, and ended with all their children."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.loopback import ROOT, PortBook, address, free_ports
from dev.processes import Daemon, StartError, recorded, started_at, wait_until
from dev.supervisor import FIRST_PAUSE, LONGEST_PAUSE, pause_before

SLEEPS = ("sleep", "300")


def daemon(state_dir: Path, *command: str) -> Daemon:
    """Return a daemon of the test's own."""
    return Daemon(name="part", command=command or SLEEPS, state_dir=state_dir)


def test_a_part_is_started_once_and_found_by_a_later_command(tmp_path: Path) -> None:
    """A second start changes nothing; whoever looks later finds and ends it."""
    part = daemon(tmp_path)
    assert part.start()
    pid = part.pid()
    assert pid is not None
    assert not daemon(tmp_path).start()
    (found,) = recorded(tmp_path)
    assert found.pid() == pid
    assert found.stop()
    assert started_at(pid) is None
    assert recorded(tmp_path) == []


@pytest.mark.parametrize("changed", [{"command": ("sleep", "301")}, {"env": {"A": "2"}}, {"stamp": "new sources"}])
def test_an_outdated_part_is_started_anew(tmp_path: Path, changed: dict[str, object]) -> None:
    """Another command, environment or source makes what runs outdated."""
    part = daemon(tmp_path)
    part.start()
    before = part.pid()
    assert before is not None
    for name, value in changed.items():
        setattr(part, name, value)
    try:
        assert part.start()
        assert part.pid() not in (before, None)
        assert started_at(before) is None
    finally:
        part.stop()


def test_children_end_with_their_part_even_when_it_died_before(tmp_path: Path) -> None:
    """The group is ended, also when its leader was killed."""
    part = daemon(tmp_path, "bash", "-c", "sleep 300 & echo $!; wait")
    part.start()
    part.wait_ready(lambda: part.log.read_text().strip() != "", seconds=5)
    child, leader = int(part.log.read_text()), part.pid()
    assert leader is not None
    assert started_at(child) is not None
    subprocess.run(["kill", "-9", str(leader)], check=True)
    assert wait_until(lambda: part.pid() is None, seconds=5)
    assert part.stop()
    assert started_at(child) is None


def test_a_pid_that_now_belongs_to_another_is_left_alone(tmp_path: Path) -> None:
    """A reused pid is neither taken for ours nor killed."""
    part = daemon(tmp_path)
    part.start()
    record = tmp_path / "run" / "part.json"
    mark = started_at(part.pid() or 0)
    assert mark is not None
    genuine = record.read_text()
    record.write_text(genuine.replace(f'"{mark}"', '"1"'))
    assert part.pid() is None
    assert not part.stop()
    record.write_text(genuine)
    assert part.pid() is not None
    assert part.stop()


def test_a_part_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error names the part and holds its last log lines."""
    part = daemon(tmp_path, "sh", "-c", "echo the disk is on fire >&2; exit 3")
    part.start()
    with pytest.raises(StartError, match=r"(?s)part ended.*the disk is on fire"):
        part.wait_ready(lambda: False, seconds=5)


def test_a_part_never_sees_the_callers_cloud_or_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_* and KUBECONFIG of the caller are not inherited: only what the stack gives is used."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("KUBECONFIG", "/somewhere/production")
    part = daemon(tmp_path, "sh", "-c", "env; sleep 300")
    part.env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    part.start()
    part.wait_ready(lambda: "AWS_ENDPOINT_URL" in part.log.read_text(), seconds=5)
    part.stop()
    assert "production" not in part.log.read_text()


def test_ports_are_kept_while_a_part_runs_and_taken_again_where_free(tmp_path: Path) -> None:
    """A part that comes back has its old port, unless somebody took it."""
    book = PortBook(tmp_path / "ports.json", "127.0.0.1")
    first = book.take("a", "b")
    assert len(set(first)) == 2
    assert book.take("a", "b", running=True) == first
    assert book.take("a", "b") == first
    (third,) = book.take("c")
    assert third not in first
    assert book.recorded("a") == first[0]
    assert book.recorded("d") is None


def test_parts_that_start_at_once_keep_each_others_ports(tmp_path: Path) -> None:
    """Taking is one step for all threads, and who reads meanwhile finds the whole book."""
    book = PortBook(tmp_path / "ports.json", "127.0.0.1")
    names = [f"part-{number}" for number in range(40)]

    def take(name: str) -> int | None:
        (port,) = book.take(name)
        return port if book.recorded(name) == port else None

    with ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(take, names))
    assert [book.recorded(name) for name in names] == ports


def test_a_port_that_somebody_took_is_replaced() -> None:
    """The preferred port is given only if it is free."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_ports("127.0.0.1", 1, (taken,)) != [taken]


def test_two_checkouts_have_two_addresses(tmp_path: Path) -> None:
    """The address follows from the place, and stays."""
    assert address() == address(ROOT)
    assert address(tmp_path / "a") == address(tmp_path / "a")
    if address() != "127.0.0.1":
        assert address(tmp_path / "a") != address(tmp_path / "b")


def test_restarts_wait_longer_each_time_up_to_a_bound() -> None:
    """Backoff doubles and is bounded."""
    pauses = [pause_before(attempt) for attempt in range(1, 12)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_the_supervisor_restarts_says_why_and_ends_with_its_program(tmp_path: Path) -> None:
    """A crash is told with its last lines; SIGTERM reaches the program, which ends in its own way."""
    marker = tmp_path / "started"
    script = f"""
if [ ! -e {marker} ]; then touch {marker}; echo lost the lease; exit 3; fi
trap 'echo ended in order; exit 0' TERM
echo second life
while :; do sleep 0.05; done
"""
    command = (sys.executable, "-m", "dev.supervisor", "--", "sh", "-c", script)
    part = daemon(tmp_path, *command)
    part.env = {"PYTHONPATH": str(ROOT)}
    part.start()
    part.wait_ready(lambda: "second life" in part.log.read_text(), seconds=10)
    supervisor = part.pid()
    assert supervisor is not None
    subprocess.run(["kill", "-TERM", str(supervisor)], check=True)  # the supervisor alone, not its group
    assert wait_until(lambda: part.pid() is None, seconds=5)
    part.stop()
    text = part.log.read_text()
    assert "ended with exit code 3" in text
    assert "supervisor:   | lost the lease" in text
    assert text.rstrip().endswith("ended in order")
