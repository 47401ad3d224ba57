"""Spark as a warehouse that compares itself: only rows that may have changed come to retl. See `sieve.py`."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from reverse_etl.engines.duckdb.changes import write_changes
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.diff import MODEL
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Common, Comparison, First, Side, Suspicion
from reverse_etl.engines.pulled import Pulled, PulledEngine, Rows
from reverse_etl.engines.spark.adopting import (
    is_wide,
    lines_sql,
    named_columns,
    staged_sql,
    stored_sql,
    suspects_sql,
    twins_sql,
)
from reverse_etl.engines.spark.reader import SparkReader, is_sparks, parts_of
from reverse_etl.engines.spark.sieve import (
    IN_MODEL,
    IS_PINNED,
    OF_STATE,
    PINNED_KEYS,
    Sieve,
    counts_gone,
    full_name,
    sieve,
    those_of,
    unfit,
)
from reverse_etl.engines.spark.tables import SparkTables, current_rows, table_of
from reverse_etl.engines.spark.tested import accepted, columns_tested, may_fail
from reverse_etl.errors import BusyError, Location, Problem, ProjectError, RetlError
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import ADOPTED, Adopted, Numbers, Pointer, RowTable, new_pointer, pointer_of
from reverse_etl.plan.tables import ABSENT_SINCE, META, OPEN_RUN, PINS, RUN_ID, SENT_AT, SIFTED, SLICE, UNSURE
from reverse_etl.plan.workbench import execute
from reverse_etl.project.models import Compiled
from reverse_etl.project.spec_collect import FOREVER
from reverse_etl.records.expressions import compared_user
from reverse_etl.records.layout import Layout
from reverse_etl.records.mapping import typed_keys
from reverse_etl.sql.quoting import identifier, literal, quoted

_VIEW, _OLD = "retl_sifted", "retl_old"
SUSPECTS = "retl_suspects"  # a view: keys of rows of a baseline that are judged
_OWN_TYPES = {SENT_AT: "TIMESTAMPTZ", RUN_ID: "VARCHAR", UNSURE: "VARCHAR[]", ABSENT_SINCE: "TIMESTAMPTZ"}


@dataclass(kw_only=True)
class PushedEngine(PulledEngine):
    """See `Engine`. A first run, all of whose rows are sent, is that of a pulled one."""

    tables: SparkTables
    where: Location

    def _leave(self) -> None:
        super()._leave()
        self.tables.close()

    def count_common(self, one: Side, other: Side, compared: object) -> Common | None:
        """Nobody counts: all users of both models would have to come to retl."""
        return None

    def run_data_tests(self, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
        """On the rows that may fail one: which of them do, DuckDB decides."""
        refuse_undone(layout)
        if not layout.sync.data_tests:
            return ()
        with self._explained(model):
            read = self._read(model, columns_tested(layout))
            sql = may_fail(layout, model.sql, read, partial(accepted, self.workbench, layout))
            self._views[sql, None, None] = local = self._as_view(model, read, sql)
            return run_data_tests(ModelQuery(self.workbench, layout, local.model))

    def write_first(self, layout: Layout, model: Compiled, comparison: Comparison, first: First) -> int | None:
        refuse_undone(layout)
        self._try_out()
        return super().write_first(layout, model, comparison, first)

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        refuse_undone(layout)
        pointer = pointer_of(self._meta())
        if pointer is None or pointer.base is None:
            self._try_out()
            return super().write_changes(layout, model, comparison)
        if set(comparison.retyped) & set(layout.key):
            what = f"{layout.sync.name}: diff: engine does not know another type of the primary key"
            raise ProjectError(what, self.where, "CAST it back in the model", code="P148")
        self.tables.check(pointer)
        with self._explained(model):
            return self._write_changes(layout, model, comparison, pointer)

    def write_baseline(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, suspicion: Suspicion
    ) -> Adopted | None:
        refuse_undone(layout)
        if any("retl_" in sql for sql in compared_user(layout, "s").values()):
            return None  # a document, which Spark does not compare
        self._try_out()
        run_id, at = self._run()
        kind = "staged" if is_wide(layout) else "base"
        staged = base = pointer.new_name(kind, run_id)
        made, there = [staged], full_name(self.tables.schema, staged)
        try:
            with self._explained(model):
                read = {one.name: one.there for one in self._read(model)}
                rows_there = staged_sql(layout, model.sql, read, run_id, at)
                list(self._asked(f"CREATE TABLE {there} AS {rows_there}", model))
                rows = self._number(f"SELECT count(*) AS rows FROM {there}", model)
                if rows == 0:
                    self.tables.drop(made)
                    return None
                came = self._take_suspects(layout, model, there, suspicion)
                if came:
                    self._let_come(layout, run_id, at)
                of_some = model.read_by(f"FROM {SIFTED}\n")
                write_changes(ModelQuery(self.workbench, layout, of_some), comparison)
                self.workbench.execute(f"DROP TABLE {SIFTED}")
                if kind == "staged":
                    base = pointer.new_name("base", run_id)
                    made.append(base)
                    stored = stored_sql(layout, there)
                    list(self._asked(f"CREATE TABLE {full_name(self.tables.schema, base)} AS {stored}", model))
        except BaseException:
            with suppress(RetlError):
                self.tables.drop(made)
            raise
        columns = {name: layout.column(name).type.text for name in layout.stored}
        pointer = replace(pointer, base=RowTable(base, rows, columns), numbers=Numbers(rows, rows))
        return Adopted(pointer, staged, named_columns(layout), lines_sql(layout, ADOPTED), rows - came)

    def _number(self, sql: str, model: Compiled) -> int:
        return sum(int(row["rows"]) for batch in self._asked(sql, model) for row in batch.to_pylist())

    def _asked(self, sql: str, model: Compiled) -> Iterator[Any]:
        """The rows of a statement about a model, as pyarrow.RecordBatch."""
        try:
            yield from self.reader.stream(sql)
        except Exception as error:
            if not is_sparks(error):
                raise
            raise self.reader.explained(error, model) from None

    def _try_out(self) -> None:
        """Under a name of the state, whose next run drops what a killed process leaves of it."""
        self.tables.try_out(new_pointer(self.tables.schema, "", self._meta()).prefix)

    def _meta(self) -> dict[str, str]:
        return dict(self.workbench.execute(f"SELECT key, value FROM {META}").fetchall())

    def _run(self) -> tuple[str, datetime]:
        """The id of the open run, and when it began."""
        ((run_id, us),) = self.workbench.execute(f"SELECT run_id, epoch_us(started_at) FROM {OPEN_RUN}").fetchall()
        return run_id, datetime.fromtimestamp(us / 1e6, UTC)

    def _take_suspects(self, layout: Layout, model: Compiled, table: str, suspicion: Suspicion) -> int:
        """Store the rows of a staged table that are not recorded as they are in SIFTED; how many these are."""
        assert isinstance(self.reader, SparkReader)
        workbench = self.workbench
        read = [Pulled(c.name, quoted(c.name, "spark"), identifier(c.name)) for c in layout.needed]
        columns = ", ".join(one.there for one in read)
        types = {column.name: column.type for column in layout.needed}
        local = self._as_view(model, read, f"SELECT {columns} FROM {table}")
        self._views[local.rows.sql, None, None] = local
        before, _, after = suspects_sql(layout, suspicion.sql).partition(MODEL)
        execute(workbench, f"CREATE TEMP TABLE {_OLD} AS {before}{local.model.sql}{after}", suspicion.values)
        listed = ", ".join(map(identifier, layout.key))
        for several, keys in twins_sql(layout, table):
            if self._number(several, model):
                self._insert(_OLD, self._asked(keys, model))
        typed = ", ".join(f"{identifier(name)} {of.text}" for name, of in types.items())
        workbench.execute(f"CREATE TABLE {SIFTED} ({typed})")
        found = workbench.sql(f"SELECT DISTINCT {listed} FROM {_OLD}").to_arrow_table()
        workbench.execute(f"DROP TABLE {_OLD}")
        of_key = {name: types[name] for name in layout.key}
        for part in parts_of(found):
            rows = those_of(f"SELECT {columns} FROM {table}", SUSPECTS, of_key)
            self.tables.explained(partial(self.reader.name_rows, SUSPECTS, part))
            self._insert(SIFTED, self._asked(rows, model))
        return int(workbench.execute(f"SELECT count(*) FROM {SIFTED}").fetchall()[0][0])

    def _insert(self, into: str, batches: Iterator[Any]) -> None:
        for batch in batches:
            self.workbench.register(_VIEW, table_of(batch))
            self.workbench.execute(f"INSERT INTO {into} BY NAME FROM {_VIEW}").fetchall()
            self.workbench.unregister(_VIEW)

    def _let_come(self, layout: Layout, run_id: str, at: datetime) -> None:
        """Store the acknowledged rows in SLICE that the rows of SIFTED are by now."""
        own = {RUN_ID: literal(run_id), SENT_AT: f"make_timestamptz({int(at.timestamp() * 1_000_000)})"}
        listed = [*map(identifier, layout.stored)]
        listed += [f"CAST({own.get(name, 'NULL')} AS {of}) AS {name}" for name, of in _OWN_TYPES.items()]
        self.workbench.execute(f"CREATE TABLE {SLICE} AS SELECT {', '.join(listed)} FROM {SIFTED}")

    def _write_changes(self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer) -> int:
        workbench, expects_gone = self.workbench, counts_gone(layout) and not comparison.all_rows
        made = self._pull(layout, model, comparison, pointer, finds_twins=not expects_gone)
        if expects_gone and self._count(model) != self._rows(comparison):
            # Every acknowledged row is that of at most one row of the model: or else a key is in the model twice.
            workbench.execute(f"DROP TABLE {SIFTED}; DROP TABLE {SLICE}")
            made = self._pull(layout, model, comparison, pointer, finds_twins=True)
        rows = self._rows(comparison) if expects_gone else self._count(model)
        read = ", ".join(f"{short} AS {identifier(name)}" for name, short in made.of_model.items())
        there = model.read_by(f"SELECT {read} FROM {SIFTED} WHERE {IN_MODEL} IS NOT NULL\n")
        in_state, absent = self._in_slice()
        of_slice = replace(comparison, acknowledged=SLICE, in_state=in_state, absent=absent)
        write_changes(ModelQuery(workbench, layout, there), of_slice)
        workbench.execute(f"DROP TABLE {SIFTED}")
        incremental = layout.sync.incremental
        if incremental and incremental.retention:
            self._let_go(layout, comparison, pointer, incremental.retention)
        return rows

    def _rows(self, comparison: Comparison) -> int:
        """How many rows the model has, if no two of them share a key: those that came, and one for each acknowledged
        row that did not, but for those that are noted as absent."""
        came = f"SELECT count({IN_MODEL}) FROM {SIFTED}"
        in_state, absent = self._in_slice()
        (rows,) = self.workbench.execute(came).fetchall()[0]
        return int(rows + (comparison.in_state - in_state) - (comparison.absent - absent))

    def _in_slice(self) -> tuple[int, int]:
        """How many acknowledged rows came along, and how many of these are noted as absent."""
        counts = f"SELECT count(*), count({identifier(ABSENT_SINCE)}) FROM {SLICE}"
        rows, absent = self.workbench.execute(counts).fetchall()[0]
        return int(rows), int(absent)

    def _pull(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, finds_twins: bool
    ) -> Sieve:
        """Store what Spark returns in SIFTED, and the acknowledged rows among it in SLICE."""
        key = [name for name in layout.key if name in comparison.known]
        current = current_rows(pointer, comparison.known, key)
        read = {one.name: one.there for one in self._read(model)}
        before = self._long_ago(layout.sync.keep_removed)
        if comparison.pinned:
            self._name_pinned(comparison, key)
        made = sieve(layout, model.sql, read, comparison, current, before, finds_twins)
        self._store(made, comparison, model, pointer)
        return made

    def _let_go(self, layout: Layout, comparison: Comparison, pointer: Pointer, retention: str) -> None:
        """Let the acknowledged rows come along, too, that were sent so long ago: the commit forgets those of them that
        the watermark has passed."""
        self.workbench.execute(f"CREATE TEMP TABLE {_OLD} AS FROM {SLICE} LIMIT 0")
        key = [name for name in layout.key if name in comparison.known]
        self._insert(_OLD, self.tables.sent_before(pointer, comparison.known, key, self._long_ago(retention)))
        same = " AND ".join(f"o.{name} IS NOT DISTINCT FROM t.{name}" for name in map(identifier, key))
        self.workbench.execute(f"INSERT INTO {SLICE} SELECT o.* FROM {_OLD} AS o ANTI JOIN {SLICE} AS t ON {same}")
        self.workbench.execute(f"DROP TABLE {_OLD}")

    def _name_pinned(self, comparison: Comparison, key: Sequence[str]) -> None:
        """Let the session know the keys of rows with a pinned cell."""
        assert isinstance(self.reader, SparkReader)
        types = {name: comparison.known[name] for name in key}
        keys = typed_keys(types, f"SELECT DISTINCT key AS text FROM {PINS}")
        self.tables.explained(
            partial(
                self.reader.name_rows,
                PINNED_KEYS,
                self.workbench.sql(f"SELECT *, true AS {IS_PINNED} FROM ({keys})").to_arrow_table(),
            )
        )

    def _long_ago(self, interval: str) -> datetime:
        """The time so long before the run began."""
        if interval == FOREVER:
            return datetime.fromtimestamp(0, UTC)
        before = f"started_at - INTERVAL {literal(interval)}"
        (us,) = self.workbench.execute(f"SELECT epoch_us({before}) FROM {OPEN_RUN}").fetchall()[0]
        return datetime.fromtimestamp(us / 1e6, UTC)

    def _store(self, made: Sieve, comparison: Comparison, model: Compiled, pointer: Pointer) -> None:
        try:
            rows = Rows(self.reader, made.sql, self.reader.schema(made.sql, model))
            self._end_results()
            self.workbench.register(_VIEW, rows)
            try:
                self.workbench.execute(f"CREATE TABLE {SIFTED} AS FROM {_VIEW}")
            except Exception:
                self._raise_what_ended(rows, model)
                raise
            finally:
                self._end_results()
                self.workbench.unregister(_VIEW)
        except BusyError:
            raise
        except RetlError as error:
            raise self.tables.missing(pointer) or error from None
        types = {name: of.text for name, of in comparison.known.items()}
        types |= _OWN_TYPES
        listed = ", ".join(
            f"CAST({short} AS {types[name]}) AS {identifier(name)}" for name, short in made.of_state.items()
        )
        key = ", ".join(short for name, short in made.of_state.items() if name in made.key)
        once = f"QUALIFY row_number() OVER (PARTITION BY {key}) = 1"
        self.workbench.execute(
            f"CREATE TABLE {SLICE} AS SELECT {listed} FROM {SIFTED} WHERE {OF_STATE} IS NOT NULL {once}"
        )

    def _count(self, model: Compiled) -> int:
        return self._number(f"SELECT count(*) AS rows FROM (\n{model.sql}\n) AS __model", model)


def refuse_undone(layout: Layout) -> None:
    """Raises ProjectError for what is not compared in Spark yet: no rows are sent without it."""
    sync = layout.sync
    inside, why_not = f'sync "{sync.name}": column', "which diff: engine does not compare"
    problems = [
        Problem(f'{inside} "{name}" {why}, {why_not}', sync.where(), _CAST, code="P148") for name, why in unfit(layout)
    ]
    if problems:
        raise ProjectError(problems)


_CAST = "return to_json() of it as a string, or use a target with diff: local"
