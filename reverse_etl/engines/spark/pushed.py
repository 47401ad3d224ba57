"""Spark as a warehouse that compares itself: only rows that may have changed come to retl. See `sieve.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from reverse_etl.engines.duckdb.changes import write_changes
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Common, Comparison, First, Side
from reverse_etl.engines.pulled import PulledEngine, Rows
from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.engines.spark.sieve import (
    IN_MODEL,
    IS_PINNED,
    OF_STATE,
    OWN,
    PINNED_KEYS,
    Sieve,
    counts_gone,
    sieve,
    unfit,
)
from reverse_etl.engines.spark.tables import SparkTables, current_rows
from reverse_etl.engines.spark.tested import accepted, columns_tested, may_fail
from reverse_etl.errors import Location, Problem, ProjectError, RetlError
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import Pointer, pointer_of
from reverse_etl.plan.tables import ABSENT_SINCE, META, OPEN_RUN, PINS, RUN_ID, SIFTED, SLICE
from reverse_etl.project.models import Compiled
from reverse_etl.project.spec_collect import FOREVER
from reverse_etl.records.layout import Layout
from reverse_etl.records.mapping import typed_keys
from reverse_etl.sql.quoting import identifier, literal

_VIEW, _OLD = "retl_sifted", "retl_old"
_OWN_TYPES = {name: "VARCHAR" if name == RUN_ID else "TIMESTAMPTZ" for name in OWN}


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
        self.tables.try_out()
        return super().write_first(layout, model, comparison, first)

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        refuse_undone(layout)
        pointer = pointer_of(dict(self.workbench.execute(f"SELECT key, value FROM {META}").fetchall()))
        if pointer is None or pointer.base is None:
            self.tables.try_out()
            return super().write_changes(layout, model, comparison)
        if set(comparison.retyped) & set(layout.key):
            what = f"{layout.sync.name}: diff: engine does not know another type of the primary key"
            raise ProjectError(what, self.where, "CAST it back in the model", code="P148")
        self.tables.check(pointer)
        with self._explained(model):
            return self._write_changes(layout, model, comparison, pointer)

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
        import pyarrow

        self.workbench.execute(f"CREATE TEMP TABLE {_OLD} AS FROM {SLICE} LIMIT 0")
        key = [name for name in layout.key if name in comparison.known]
        for batch in self.tables.sent_before(pointer, comparison.known, key, self._long_ago(retention)):
            self.workbench.register(_VIEW, pyarrow.Table.from_batches([batch]))
            self.workbench.execute(f"INSERT INTO {_OLD} BY NAME FROM {_VIEW}").fetchall()
            self.workbench.unregister(_VIEW)
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
                if isinstance(rows.error, Exception):
                    raise self.reader.explained(rows.error, model) from None
                raise
            finally:
                self._end_results()
                self.workbench.unregister(_VIEW)
        except RetlError as error:
            raise self.tables.missing(pointer) or error from None
        types = {name: of.text for name, of in comparison.known.items()}
        types |= {name: "VARCHAR[]" if name == "_retl_unsure" else of for name, of in _OWN_TYPES.items()}
        listed = ", ".join(
            f"CAST({short} AS {types[name]}) AS {identifier(name)}" for name, short in made.of_state.items()
        )
        key = ", ".join(short for name, short in made.of_state.items() if name in made.key)
        once = f"QUALIFY row_number() OVER (PARTITION BY {key}) = 1"
        self.workbench.execute(
            f"CREATE TABLE {SLICE} AS SELECT {listed} FROM {SIFTED} WHERE {OF_STATE} IS NOT NULL {once}"
        )

    def _count(self, model: Compiled) -> int:
        sql = f"SELECT count(*) AS rows FROM (\n{model.sql}\n) AS __model"
        return sum(int(row["rows"]) for batch in self.reader.stream(sql) for row in batch.to_pylist())


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
