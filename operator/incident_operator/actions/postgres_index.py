"""PostgreSQL: an index that a person names, built while the table is used."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Repeat, Undo
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from ..core.indexing import MAX_STATEMENT, Index, parse_index
from .base import Facts, FixAction, ReasonInfo, register
from .connected import SYMPTOMS
from .ports import Reader, ReadError
from .postgres_backends import CALL_TIMEOUT, PLACE_REASONS, Place, PlacedInputs, misplaced, read_place

#: The server ends a build by itself after so long.
BUILD = timedelta(hours=2)

#: Shape: $1 schema, $2 table, $3 index, $4 seconds from which a transaction is long.
_STATE = """SELECT
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'm')) AS tables,
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
   WHERE n.nspname = $1 AND c.relname = $3 AND t.relname = $2) AS indexes,
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = $3) AS named,
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   JOIN pg_index i ON i.indexrelid = c.oid
   WHERE n.nspname = $1 AND c.relname = $3 AND i.indisvalid) AS valid,
  (SELECT count(*) FROM pg_stat_progress_create_index p
   JOIN pg_class t ON t.oid = p.relid JOIN pg_namespace n ON n.oid = t.relnamespace
   WHERE n.nspname = $1 AND t.relname = $2) AS building,
  (SELECT coalesce(sum(s.idx_scan), 0)::bigint FROM pg_stat_user_indexes s
   WHERE s.schemaname = $1 AND s.indexrelname = $3) AS scans,
  (SELECT count(*) FROM pg_stat_activity a
   WHERE a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - make_interval(secs => $4)) AS long,
  (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type IS NULL) AS hidden"""


class IndexInputs(PlacedInputs):
    """The statement as a person wrote it, and from when a transaction is too long to start behind it."""

    statement: Annotated[str, Field(max_length=MAX_STATEMENT)]
    long_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60

    @field_validator("statement")
    @classmethod
    def _one_index(cls, value: str) -> str:
        parse_index(value)
        return value

    @property
    def index(self) -> Index:
        """What the statement would build."""
        return parse_index(self.statement)


class IndexFacts(Facts):
    """What there is. Shape: counts; `named` is anything of the index's name, `indexes` one of that very table."""

    place: Place
    tables: int = 0
    indexes: int = 0
    named: int = 0
    valid: int = 0
    building: int = 0
    scans: int = 0
    long: int = 0
    hidden: int = 0
    symptom: str | None = None

    @property
    def remnant(self) -> bool:
        """Whether a build failed and left an index that is not used, but is kept up to date."""
        return self.indexes > 0 and not self.valid and not self.building


@register
class CreateIndex(FixAction[IndexInputs, IndexFacts]):
    """Build the index that a person named, concurrently; what a failed build left behind is removed."""

    name = "postgres.create-index"
    title = "Build an index"
    inputs_model = IndexInputs
    facts_model = IndexFacts
    reads = ("rds:DescribeDBInstances",)
    statements = ("create_index", "drop_index")
    risk = "Disruptive: the table is read twice, which takes I/O, and the build waits for older transactions."
    undo = "The index is dropped concurrently; so is the invalid remnant of a build that failed."
    waits = Waits(wait=timedelta(seconds=30), every=timedelta(minutes=1), deadline=BUILD)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        **PLACE_REASONS,
        "TableMissing": ReasonInfo(doc="There is no such table."),
        "IndexThere": ReasonInfo(doc="The index is there and valid."),
        "NameTaken": ReasonInfo(doc="Something else has the index's name."),
        "BuildUnderWay": ReasonInfo(doc="An index of this table is being built already."),
        "LongTransactions": ReasonInfo(
            doc="Transactions are open for so long that a build would only wait behind them: end them first."
        ),
    }

    def observe(self, inputs: IndexInputs, reader: Reader) -> IndexFacts:
        """Read table, index, builds and long transactions. Errors: ReadError."""
        place, index = read_place(inputs, reader), inputs.index
        try:
            (row,) = reader.postgres(
                inputs.connection, _STATE, [index.schema, index.table, index.name, inputs.long_seconds]
            ).rows
        except ReadError as error:
            if error.reason not in SYMPTOMS:
                raise
            return IndexFacts(place=place, symptom=error.reason)
        return IndexFacts(place=place, **row)

    def plan(self, inputs: IndexInputs, facts: IndexFacts) -> PlanDraft | NotApplicable:
        """Plan the build; before it, the removal of what a failed one left."""
        index = inputs.index
        table, name = f"{index.schema}.{index.table}", f"{index.schema}.{index.name}"
        for reason, holds, message in (
            (facts.symptom or "", facts.symptom is not None, "the server lets the operator in no more"),
            ("NotVisible", facts.hidden > 0, f"{facts.hidden} sessions hide what they do: it takes pg_monitor"),
            ("TableMissing", not facts.tables, f"there is no table {table}"),
            ("NameTaken", facts.named > facts.indexes, f"{name} is something else than an index of {table}"),
            ("IndexThere", facts.valid > 0, f"{name} is there and valid"),
            ("BuildUnderWay", facts.building > 0, f"an index of {table} is being built: wait for its end"),
            (
                "LongTransactions",
                facts.long > 0,
                f"{facts.long} transactions are open for more than {inputs.long_seconds} s: a build waits for them",
            ),
        ):
            if holds:
                return NotApplicable(reason=reason, message=message)
        refusal = misplaced(inputs, facts.place)
        if refusal is not None:
            return refusal
        build = self._call(inputs, facts, "create_index", f"build index {name} on {table}, concurrently")
        drop = self._call(inputs, facts, "drop_index", f"drop index {name}, concurrently")
        calls: tuple[Call, ...] = (build,)
        if facts.remnant:
            clean = self._call(inputs, facts, "drop_index", f"drop what a failed build left of {name}")
            calls = (clean.model_copy(update={"arguments": {**clean.arguments, "onlyInvalid": True}}), build)
        columns = ", ".join(column + (" DESC" if descending else "") for column, descending in index.columns)
        return PlanDraft(
            title=f"build index {name} on {table} ({columns})",
            calls=calls,
            touches=(facts.place.arn or "",),
            risk=Risk.DISRUPTIVE,
            region=inputs.region,
            verify=self.waits.verify(f"{name} is valid and used"),
            diff=(DiffLine(what=f"index {name}", before="invalid" if facts.remnant else None, after=columns),),
            undo=Undo(calls=(drop,), safe_when="no query rests on the index"),
            # A failed build leaves an index that costs every write and helps no read.
            revert_if_worse=True,
        )

    def _call(self, inputs: IndexInputs, facts: IndexFacts, operation: str, summary: str) -> Call:
        index = inputs.index
        arguments: dict[str, Any] = {
            "connection": inputs.operator_connection,
            "place": facts.place.acting,
            "schema": index.schema,
            "table": index.table,
            "index": index.name,
            "buildSeconds": int(BUILD.total_seconds()),
        }
        if operation == "create_index":
            arguments["method"] = index.method
            arguments["columns"] = [{"name": name, "descending": descending} for name, descending in index.columns]
        return Call(
            service="postgres",
            operation=operation,
            arguments=arguments,
            resources=(facts.place.arn or "",),
            # There, under way or absent is looked at anew: made twice it builds one index.
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            keep=("underWay",),
            summary=summary,
        )

    def applied(self, call: Call, inputs: IndexInputs, facts: IndexFacts) -> bool | None:
        """Tell by the index itself."""
        if facts.symptom is not None:
            return None
        if call.operation == "create_index":
            return bool(facts.indexes and (facts.valid or facts.building))
        return not facts.indexes

    def judge(self, inputs: IndexInputs, before: IndexFacts, after: IndexFacts) -> Judgement:
        """Helped: valid, and a query has used it. Worse: the build ended and left an invalid index."""
        name = f"{inputs.index.schema}.{inputs.index.name}"
        if after.symptom is not None:
            return Judgement(outcome=None, measured=False, message="the server has no slot left for the operator")
        if after.valid:
            used = after.scans > 0
            message = f"{name} is valid" + (
                f" and was used {after.scans} times" if used else ", and nobody has used it"
            )
            return Judgement(
                outcome="Helped" if used else None,
                measured=True,
                message=message,
                waiting_for=None if used else f"a query that uses {name}",
            )
        if after.remnant:
            return Judgement(outcome="Worse", measured=True, message=f"the build failed and left {name} invalid")
        if after.building:
            return Judgement(
                outcome=None, measured=True, message=f"{name} is being built", waiting_for="the end of the build"
            )
        return Judgement(outcome=None, measured=True, message=f"there is no {name}, and it is not being built")
