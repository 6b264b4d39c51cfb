"""PostgreSQL: sessions and statements that others wait for, and how they are ended.

Whom a fix may hit is decided twice by the same words (`ALLOWED`): here for the plan, and in the very statement that
hits. Never hit are superusers, replication, VACUUM and other maintenance, changes of the schema, and applications that
the run protects. The connection that looks and the one that acts are two, of two roles.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Repeat
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import ActionModel, Facts, FixAction, Inputs, ReasonInfo, register
from .connected import SYMPTOMS
from .ports import NotFound, Reader, ReadError

#: The server is never left with less than it can bear: of a plan so many sessions at most.
MAX_BACKENDS = 48
CALL_TIMEOUT = timedelta(seconds=10)
#: Applications that are never hit, as ILIKE patterns: what changes the schema, copies, or is typed by a person.
PROTECTED = ("%migrat%", "%flyway%", "%liquibase%", "%alembic%", "pg_dump%", "pg_basebackup%", "psql%")

#: Whom a signal may hit. Shape: of `pg_stat_activity a`; $1 are the users, $2 the patterns of protected applications.
#: A lock that only maintenance or a change of the schema takes tells a migration, whoever makes it.
ALLOWED = """a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.usename <> session_user
  AND a.usename = ANY ($1::text[]) AND NOT (a.application_name ILIKE ANY ($2::text[]))
  AND NOT EXISTS (SELECT 1 FROM pg_roles r WHERE r.oid = a.usesysid AND (r.rolsuper OR r.rolreplication))
  AND NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
    AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                   'AccessExclusiveLock'))"""
#: Who holds a slot and does nothing with it. Shape: $3 is for how many seconds at least.
IDLE = """a.state IN ('idle', 'idle in transaction', 'idle in transaction (aborted)')
  AND a.state_change < clock_timestamp() - make_interval(secs => $3)"""
#: Executions of one statement. Shape: $3 is its queryid, $4 for how many seconds at least.
RUNNING = """a.state = 'active' AND a.query_id = $3::bigint
  AND a.query_start < clock_timestamp() - make_interval(secs => $4)"""

#: Shape: `maximum` is what is left for roles without a reserve. A role that is no pg_monitor is not even told which
#: sessions of others are those of clients.
SLOTS = """SELECT count(*) FILTER (WHERE a.backend_type = 'client backend') AS used,
  count(*) FILTER (WHERE a.backend_type IS NULL) AS hidden,
  (SELECT sum(CASE WHEN s.name = 'max_connections' THEN s.setting::bigint ELSE - s.setting::bigint END)::bigint
   FROM pg_settings s WHERE s.name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections',
                                       'rds.rds_superuser_reserved_connections')) AS maximum,
  count(*) FILTER (WHERE a.wait_event_type = 'Lock') AS waiting
FROM pg_stat_activity a WHERE a.backend_type = 'client backend' OR a.backend_type IS NULL"""
_IDLE_NOW = f"""SELECT a.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint AS started, a.usename AS username,
  host(a.client_addr) AS client, a.state <> 'idle' AS transaction,
  count(*) OVER (PARTITION BY a.client_addr) AS held
FROM pg_stat_activity a
WHERE {ALLOWED} AND {IDLE}
ORDER BY held DESC, a.client_addr, a.state_change LIMIT 100"""  # noqa: S608  (constants)
_RUNNING_NOW = f"""SELECT a.pid, (extract(epoch FROM a.query_start) * 1000000)::bigint AS started,
  a.usename AS username, host(a.client_addr) AS client, false AS transaction, 0 AS held
FROM pg_stat_activity a
WHERE {ALLOWED} AND {RUNNING}
ORDER BY a.query_start LIMIT 100"""  # noqa: S608  (constants)

#: The calls. Shape: after those of `ALLOWED` and the condition, $4 and $5 are pids and starts, or $5 how many at most.
TERMINATE = f"""
WITH hit AS MATERIALIZED (
    SELECT a.pid FROM pg_stat_activity a
    JOIN unnest($4::int4[], $5::int8[]) AS w(pid, started)
      ON a.pid = w.pid AND (extract(epoch FROM a.backend_start) * 1000000)::int8 = w.started
    WHERE {ALLOWED} AND {IDLE})
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM hit
"""  # noqa: S608  (constants)
CANCEL = f"""
WITH hit AS MATERIALIZED (
    SELECT a.pid FROM pg_stat_activity a
    WHERE {ALLOWED} AND {RUNNING}
    ORDER BY a.query_start LIMIT $5)
SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM hit
"""  # noqa: S608  (constants)

_Connection = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", max_length=63, json_schema_extra={"literal": True})
]
_User = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.$-]{0,62}$")]
_Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:% -]{1,64}$")]

#: What every fix through a connection can answer.
PLACE_REASONS: Mapping[str, ReasonInfo] = {
    **SYMPTOMS,
    "InstanceMissing": ReasonInfo(doc="There is no such DB instance in the grant's account and region."),
    "ConnectionElsewhere": ReasonInfo(
        doc="The connections of the run do not lead to the endpoint of the DB instance that the plan would touch."
    ),
    "NotVisible": ReasonInfo(doc="The connection's role may not see what other sessions do: it is no pg_monitor."),
}


class PlacedInputs(Inputs):
    """Where to look and where to act: two connections of the run to one DB instance, which the plan touches."""

    connection: _Connection
    operator_connection: _Connection
    instance: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")] | None = None


class Place(ActionModel):
    """Where the connections lead, and where the instance is. Shape: `host:port`; `arn` None: there is none."""

    arn: str | None = None
    instance: str | None = None
    looking: str
    acting: str


def read_place(inputs: PlacedInputs, reader: Reader) -> Place:
    """Read where things are. Errors: ReadError."""
    looking, acting = (reader.postgres_place(name) for name in (inputs.connection, inputs.operator_connection))
    try:
        found = reader.aws(
            "rds", "describe_db_instances", {"DBInstanceIdentifier": inputs.instance}, region=inputs.region
        )
    except NotFound:
        return Place(looking=looking, acting=acting)
    return Place(arn=found["arn"], instance=found["place"], looking=looking, acting=acting)


def misplaced(inputs: PlacedInputs, place: Place) -> NotApplicable | None:
    """Return why nothing may be done through these connections; None where both lead to the instance."""
    if place.arn is None:
        return NotApplicable(reason="InstanceMissing", message=f"there is no DB instance {inputs.instance}")
    if not place.looking == place.acting == place.instance:
        message = (
            f"connection {inputs.connection} leads to {place.looking}, {inputs.operator_connection} to {place.acting}, "
            f"and {inputs.instance} is at {place.instance}"
        )
        return NotApplicable(reason="ConnectionElsewhere", message=message)
    return None


class BackendInputs(PlacedInputs):
    """Whose sessions may be hit. Shape: `protected_applications` are ILIKE patterns of application names."""

    users: Annotated[tuple[_User, ...], Field(min_length=1, max_length=16)]
    protected_applications: Annotated[tuple[_Pattern, ...], Field(max_length=16)] = PROTECTED
    max_backends: Annotated[int, Field(ge=1, le=MAX_BACKENDS)] = MAX_BACKENDS

    @property
    def whom(self) -> tuple[str, str]:
        """Users and protected applications, as PostgreSQL writes arrays; the patterns allow no quote or comma."""
        quoted = [",".join(f'"{one}"' for one in many) for many in (self.users, self.protected)]
        return f"{{{quoted[0]}}}", f"{{{quoted[1]}}}"

    @property
    def protected(self) -> tuple[str, ...]:
        """What the run protects, besides what is always protected."""
        return tuple(dict.fromkeys((*PROTECTED, *self.protected_applications)))


class Backend(ActionModel):
    """A session, or an execution of a statement. Shape: `started` in microseconds; `held` by its client in all."""

    pid: int
    started: int
    username: str | None = None
    client: str | None = None
    transaction: bool = False
    held: int = 0

    @property
    def identity(self) -> str:
        """What no other session ever has: a pid comes again, the instant of its start does not."""
        return f"{self.pid}.{self.started}"


class BackendFacts(Facts):
    """The sessions that a fix would hit, and how full the server is.

    Shape: `symptom` is why the server let nobody in: then nothing else is known. `hidden` sessions were not shown.
    """

    place: Place
    backends: tuple[Backend, ...] = ()
    used: int = 0
    maximum: int = 0
    waiting: int = 0
    hidden: int = 0
    symptom: str | None = None


def _read(inputs: BackendInputs, reader: Reader, statement: str, *arguments: str | float) -> BackendFacts:
    place = read_place(inputs, reader)
    try:
        (slots,) = reader.postgres(inputs.connection, SLOTS).rows
        found = reader.postgres(inputs.connection, statement, [*inputs.whom, *arguments], max_rows=100).rows
    except ReadError as error:
        if error.reason not in SYMPTOMS:
            raise
        return BackendFacts(place=place, symptom=error.reason)
    return BackendFacts(place=place, backends=tuple(Backend(**row) for row in found[:MAX_BACKENDS]), **slots)


def _unseen(inputs: BackendInputs, facts: BackendFacts) -> NotApplicable | None:
    """Return why the facts carry no plan; None where they do."""
    if facts.symptom is not None:
        message = (
            "the server lets the operator in no more than anybody else: give its roles pg_use_reserved_connections "
            "and reserve slots (reserved_connections), or end idle sessions by hand as rds_superuser"
        )
        return NotApplicable(reason=facts.symptom, message=message)
    if facts.hidden:
        message = f"{facts.hidden} sessions hide what they do: GRANT pg_monitor to the role of {inputs.connection}"
        return NotApplicable(reason="NotVisible", message=message)
    return misplaced(inputs, facts.place)


I = TypeVar("I", bound=BackendInputs)  # noqa: E741


class _BackendsFix(FixAction[I, BackendFacts]):
    """What both fixes share."""

    facts_model = BackendFacts
    reads = ("rds:DescribeDBInstances",)

    def _call(self, inputs: I, facts: BackendFacts, operation: str, summary: str, **arguments: Any) -> Call:
        given = {
            "connection": inputs.operator_connection,
            "place": facts.place.acting,
            "users": list(inputs.users),
            "protected": list(inputs.protected),
        }
        return Call(
            service="postgres",
            operation=operation,
            arguments={**given, **arguments},
            resources=(facts.place.arn or "",),
            # Whom it means is an identity or a condition that is looked at anew: made twice it hits nobody else.
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            keep=("signalled",),
            summary=summary,
        )

    def applied(self, call: Call, inputs: I, facts: BackendFacts) -> bool | None:
        """Say that it can't be told: making the call again is harmless."""
        return None if facts.symptom else not facts.backends


class TerminateInputs(BackendInputs):
    """For how long a session must have done nothing; and below which share of the slots the server is well."""

    idle_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    below: Annotated[float, Field(gt=0, le=1)] = 0.8


@register
class TerminateBackends(_BackendsFix[TerminateInputs]):
    """End sessions that hold a slot and do nothing, the worst holder's first."""

    name = "postgres.terminate-backends"
    title = "End idle sessions"
    inputs_model = TerminateInputs
    statements = ("terminate_backends",)
    risk = "Disruptive: open transactions of these sessions are rolled back, and their clients connect anew."
    undo = "None: a session that was ended is gone."
    waits = Waits(wait=timedelta(seconds=30), every=timedelta(seconds=30), deadline=timedelta(minutes=5))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **PLACE_REASONS,
        "NobodyIdle": ReasonInfo(doc="No session that may be ended has been idle for long enough."),
    }

    def observe(self, inputs: TerminateInputs, reader: Reader) -> BackendFacts:
        """Read who is idle. Errors: ReadError."""
        return _read(inputs, reader, _IDLE_NOW, inputs.idle_seconds)

    def plan(self, inputs: TerminateInputs, facts: BackendFacts) -> PlanDraft | NotApplicable:
        """Plan one call for all of them: each is looked at again by pid, start and state."""
        unseen = _unseen(inputs, facts)
        if unseen is not None:
            return unseen
        if not facts.backends:
            message = f"no session of {', '.join(inputs.users)} has been idle for {inputs.idle_seconds} s"
            return NotApplicable(reason="NobodyIdle", message=message, for_now=True)
        arn = facts.place.arn or ""
        by_client: dict[str, int] = {}
        for backend in facts.backends:
            client = backend.client or "local"
            by_client[client] = by_client.get(client, 0) + 1
        count = len(facts.backends)
        summary = f"end sessions of {', '.join(inputs.users)} on {inputs.instance} that are idle"
        return PlanDraft(
            title=f"{summary} for {inputs.idle_seconds} s: {min(count, inputs.max_backends)}",
            calls=(
                self._call(
                    inputs,
                    facts,
                    "terminate_backends",
                    summary,
                    backends={"fromTargets": {"after": "/"}},
                    idleSeconds=inputs.idle_seconds,
                ),
            ),
            touches=(arn,),
            risk=Risk.DISRUPTIVE,
            region=inputs.region,
            candidates=tuple(f"{arn}/backend/{backend.identity}" for backend in facts.backends),
            max_targets=inputs.max_backends,
            verify=self.waits.verify(
                f"these sessions are gone, and less than {inputs.below:.0%} of the slots are used",
            ),
            diff=(
                DiffLine(what="slots used", before=f"{facts.used} of {facts.maximum}"),
                *(
                    DiffLine(what=f"idle sessions from {client}", before=str(number), after="0")
                    for client, number in list(by_client.items())[:16]
                ),
            ),
            irreversible="a session that was ended is gone; its client connects anew",
        )

    def judge(self, inputs: TerminateInputs, before: BackendFacts, after: BackendFacts) -> Judgement:
        """Helped: none of those that were listed is left that could be hit, and there is room again."""
        if after.symptom is not None:
            return Judgement(outcome=None, measured=True, message="the server has no slot left for the operator")
        known = {backend.identity for backend in before.backends[: inputs.max_backends]}
        left = sum(backend.identity in known for backend in after.backends)
        message = f"{left} of {len(known)} sessions are left, {after.used} of {after.maximum} slots are used"
        well = not after.hidden and not left and after.used < inputs.below * after.maximum
        return Judgement(outcome="Helped" if well else None, measured=not after.hidden, message=message)


class CancelInputs(BackendInputs):
    """Which statement, and for how long an execution must have run. Shape: `queryid` as pg_stat_activity has it."""

    queryid: Annotated[str, Field(pattern=r"^-?[0-9]{1,20}$")]
    older_than_seconds: Annotated[int, Field(ge=1, le=86_400)] = 10


@register
class CancelBackends(_BackendsFix[CancelInputs]):
    """Cancel the executions of one statement that dominates; the sessions stay connected."""

    name = "postgres.cancel-backends"
    title = "Cancel a statement"
    inputs_model = CancelInputs
    statements = ("cancel_backends",)
    risk = "Low: these executions fail, as at a timeout of the client."
    undo = "None: a statement that was cancelled is made again by its client, or not."
    waits = Waits(wait=timedelta(seconds=20), every=timedelta(seconds=20), deadline=timedelta(minutes=3))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **PLACE_REASONS,
        "NothingToCancel": ReasonInfo(doc="No execution of the statement that may be cancelled runs for so long."),
    }

    def observe(self, inputs: CancelInputs, reader: Reader) -> BackendFacts:
        """Read who executes the statement. Errors: ReadError."""
        return _read(inputs, reader, _RUNNING_NOW, inputs.queryid, inputs.older_than_seconds)

    def plan(self, inputs: CancelInputs, facts: BackendFacts) -> PlanDraft | NotApplicable:
        """Plan one call: executions come and go, so what people agree to is the statement."""
        unseen = _unseen(inputs, facts)
        if unseen is not None:
            return unseen
        if not facts.backends:
            message = f"no execution of {inputs.queryid} has run for {inputs.older_than_seconds} s"
            return NotApplicable(reason="NothingToCancel", message=message)
        summary = f"cancel executions of statement {inputs.queryid} on {inputs.instance}"
        return PlanDraft(
            title=f"{summary} that run for more than {inputs.older_than_seconds} s",
            calls=(
                self._call(
                    inputs,
                    facts,
                    "cancel_backends",
                    summary,
                    queryid=inputs.queryid,
                    olderThanSeconds=inputs.older_than_seconds,
                    limit=inputs.max_backends,
                ),
            ),
            touches=(facts.place.arn or "",),
            risk=Risk.LOW,
            region=inputs.region,
            verify=self.waits.verify(
                # Without a number: executions come and go, and what people agreed to stays the same plan.
                "the cancelled executions are gone, and fewer than half as many run so long",
            ),
            diff=(
                DiffLine(
                    what=f"executions of {inputs.queryid} for more than {inputs.older_than_seconds} s",
                    before=str(len(facts.backends)),
                    after="0",
                ),
            ),
            irreversible="a statement that was cancelled is made again by its client, or not",
        )

    def judge(self, inputs: CancelInputs, before: BackendFacts, after: BackendFacts) -> Judgement:
        """Helped: what was cancelled is gone, and the statement did not come back as it was."""
        if after.symptom is not None:
            return Judgement(outcome=None, measured=True, message="the server has no slot left for the operator")
        known = {backend.identity for backend in before.backends}
        left = sum(backend.identity in known for backend in after.backends)
        now, was = len(after.backends), len(before.backends)
        message = f"{left} of {was} executions are left; {now} run for more than {inputs.older_than_seconds} s now"
        well = not after.hidden and not left and now * 2 < was
        return Judgement(outcome="Helped" if well else None, measured=not after.hidden, message=message)
