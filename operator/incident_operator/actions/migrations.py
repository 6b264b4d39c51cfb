"""Whether a migration runs in the database, asked of the database itself: before the first call, and before each next.

What a diagnosis found is as old as people take to agree. A migration is told by its application's name, or by a lock
that only a change of the schema or maintenance takes: the runbook database-performance asks the same.
"""

from typing import Annotated

from pydantic import Field

from ..core.draft import NotApplicable
from .base import ActionModel, ReasonInfo
from .ports import Reader, ReadError

#: Shape: one row. `maximum` is what is left for roles without a reserve: what an application can have.
SESSIONS = """SELECT count(*) AS used,
  (SELECT sum(CASE WHEN s.name = 'max_connections' THEN s.setting::bigint ELSE - s.setting::bigint END)::bigint
   FROM pg_settings s WHERE s.name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections',
                                       'rds.rds_superuser_reserved_connections')) AS maximum,
  count(*) FILTER (WHERE
    a.application_name ILIKE ANY (ARRAY['%migrat%', '%flyway%', '%liquibase%', '%alembic%'])
    OR EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
      AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                     'AccessExclusiveLock'))) AS migrations
FROM pg_stat_activity a WHERE a.backend_type = 'client backend'"""

ConnectionName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", max_length=63, json_schema_extra={"literal": True})
]

REASONS = {
    "MigrationRunning": ReasonInfo(doc="A migration runs: replacing its instance would cut it in two."),
    "MigrationUnknown": ReasonInfo(doc="Whether a migration runs is not known."),
}


class Sessions(ActionModel):
    """The sessions of a database: how many are used of how many, and how many of them are migrations."""

    used: int
    maximum: int
    migrations: int


def read_sessions(connection: str | None, reader: Reader) -> Sessions | None:
    """Return the sessions as they are now; None where no connection is given.

    Errors: ReadError, also where the role is not told what others do: half of the sessions is no answer.
    """
    if connection is None:
        return None
    answer = reader.postgres(connection, SESSIONS)
    if not answer.sees_all:
        message = f"other roles' sessions are hidden from the role of {connection}: GRANT pg_monitor to it"
        raise ReadError("AccessDenied", message)
    try:
        (row,) = answer.rows
        return Sessions(used=int(row["used"]), maximum=int(row["maximum"]), migrations=int(row["migrations"]))
    except (ValueError, TypeError, KeyError):
        raise ReadError("MalformedAnswer", f"connection {connection} does not say how many sessions it has") from None


def migration(told: bool | None, sessions: Sessions | None) -> NotApplicable | None:
    """Return why nothing may be recycled; None where no migration runs. `told`: what the runbook knows of one."""
    if told or (sessions is not None and sessions.migrations):
        message = "a migration runs: recycling would cut it in two"
        return NotApplicable(reason="MigrationRunning", message=message, for_now=True)
    if told is None and sessions is None:
        message = "whether a migration runs is not known: recycling could cut it in two"
        return NotApplicable(reason="MigrationUnknown", message=message)
    return None
