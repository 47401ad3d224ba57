"""The files of one ledger: written before their run is committed, read, merged, and rewritten without a person.

    stage(), keep()     a run: lines, then requests; what is staged and not kept is nothing
    tidy()              days that are over become one file each, and what is too old goes
    erase()             all lines about somebody
    settle()            deletes what no run names any more, once that is committed; in a store, uploaded

A file is never changed: another one takes its place, and the runs name that. The names are in the state, so whoever
cannot commit it, be it killed or overtaken, has changed nothing.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from shutil import rmtree

from duckdb import DuckDBPyConnection

from reverse_etl.ledger.lines import (
    COLUMNS,
    COLUMNS_OF_REQUESTS,
    FORMAT,
    LINES,
    REQUESTS,
    Moved,
    flagged_sql,
    lines_sql,
    names_sql,
    requests_sql,
    who_of_line,
)
from reverse_etl.ledger.places import ENDS, InFolder, has_both, place_of_ledger, staging
from reverse_etl.plan.tables import RUNS
from reverse_etl.plan.workbench import execute
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import literal

KEEP = "30 days"
OFF = "0"
_AT_ONCE = 16  # so many files of small runs are merged while their day is not over
_SMALL_ROWS, _DAY_ROWS = 50_000, 1_000_000  # a run with more, or a day, has files of its own
_ACCEPTED = "coalesce(TRY_CAST(json_extract_string(counts, '$.delivery.accepted') AS BIGINT), 0)"
_NAMED = f"FROM {RUNS} WHERE ledger IS NOT NULL"


class Ledger:
    """The ledger of the state that is attached to `connection`."""

    def __init__(self, connection: DuckDBPyConnection, place: StatePlace) -> None:
        self._connection, self._place = connection, place
        self._files = place_of_ledger(place)
        self._stale = set[str]()  # names that the attached state has no more
        self._staged: Path | None = None

    # --- a run -------------------------------------------------------------------------------------------------------

    def stage(self, moved: Moved) -> bool:
        """Write the lines of the open run, whose rows the state has not moved yet; whether there are any."""
        has_rows, has_known, *flags = self._connection.execute(flagged_sql(moved)).fetchall()[0]
        columns = [name for name, is_flagged in zip(moved.tracked, flags, strict=True) if has_known or is_flagged]
        self._staged = staging(self._place)
        if self._write(self._staged / "lines", lines_sql(moved, columns, has_rows, has_known)):
            return True
        rmtree(self._staged)
        return False

    def keep(self, run_id: str, requests: str) -> str:
        """Put what was staged, and the requests of the run, in its place; returns the name that the run is to have."""
        assert self._staged, "nothing was staged"
        name = run_id if self._place.objects is None else self._new(run_id)
        self._write(self._staged / "requests", requests_sql(run_id, requests))
        self._put(name)
        return name

    # --- reading -----------------------------------------------------------------------------------------------------

    def names(self, run_ids: Collection[str] | None = None) -> list[str]:
        """The names of the files of these runs, or of all, the oldest first."""
        which = "" if run_ids is None else " AND list_contains($runs::VARCHAR[], run_id)"
        sql = f"SELECT ledger {_NAMED}{which} GROUP BY ledger ORDER BY min(finished_at), ledger"
        values = {} if run_ids is None else {"runs": list(run_ids)}
        return [name for (name,) in self._connection.execute(sql, values).fetchall()]

    @contextmanager
    def opened(self, run_ids: Collection[str] | None = None) -> Iterator[None]:
        """Inside the block, the views LINES and REQUESTS are those of these runs, or of all that there are."""
        names = self.names(run_ids)
        which = "" if run_ids is None else f" WHERE list_contains({names_sql(sorted(run_ids))}, run_id)"
        with self._files.brought(names) as folder:
            lines = f"SELECT * REPLACE ({who_of_line()} AS who) FROM {_read(folder, names, '.parquet', COLUMNS)}"
            requests = f"FROM {_read(folder, names, '.requests.parquet', COLUMNS_OF_REQUESTS)}"
            for view, rows in ((LINES, lines), (REQUESTS, requests)):
                self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {rows}{which}")
            try:
                yield
            finally:
                self._connection.execute(f"DROP VIEW {LINES}; DROP VIEW {REQUESTS}")

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def tidy(self, keep: str, now: datetime) -> None:
        """Name no more what is older than `keep`, and merge the files of days, in the transaction that is open."""
        before = set(self.names())
        self._expire(keep, now)
        for day, names in self._to_merge(now):
            self._merge(f"day-{day:%Y%m%d}", names)
        self._stale |= before - set(self.names())

    def has_expired(self, keep: str, now: datetime) -> bool:
        """Whether a file is older than `keep`. Most runs have changed nothing, and do not ask the state."""
        if not self._files.may_have_any():
            return False
        return bool(self._connection.execute(f"SELECT 1 {_expired(keep)} LIMIT 1", {"now": now}).fetchall())

    def count(self, gone: str) -> int:
        """How many lines are about somebody of `gone`, a SELECT of texts."""
        with self.opened():
            return int(self._connection.execute(f"SELECT count(*) FROM {LINES} WHERE who IN ({gone})").fetchall()[0][0])

    def erase(self, gone: str) -> int:
        """Drop all lines about somebody of `gone`, a SELECT of texts; returns how many these were."""
        erased = 0
        for name in self.names():
            with self._files.brought([name]) as folder:
                lines = _read(folder, [name], ".parquet", COLUMNS)
                is_gone = f"coalesce({who_of_line()} IN ({gone}), false)"
                counted = f"SELECT count(*) FROM {lines} WHERE {is_gone}"
                (found,) = self._connection.execute(counted).fetchall()[0]
                if found:
                    requests = _read(folder, [name], ".requests.parquet", COLUMNS_OF_REQUESTS)
                    self._replace([name], name, f"FROM {lines} WHERE NOT {is_gone}", f"FROM {requests}")
                    erased += found
        return erased

    def settle(self) -> None:
        """Delete files that no run names since they were replaced, or have expired."""
        self._files.delete(self._stale)
        self._stale.clear()

    def sweep(self) -> None:
        """Delete all files that no run names: a process that was killed has left them."""
        self._files.delete(self._files.strays(self.names()))

    def hand_over(self, to: StatePlace) -> None:
        """Put the files where the state is going to be; `settle` deletes what is left here."""
        files = place_of_ledger(to)
        for name in self.names():
            with self._files.brought([name]) as folder:
                if has_both(folder, name):
                    files.keep(name, folder)
            self._stale.add(name)

    def take_up(self, now: datetime) -> None:
        """Put the files of this folder into the store, if the state is that one's now; if not, keep them aside."""
        local = InFolder(self._place.folder)
        if self._place.objects is None or not local.may_have_any():
            return
        for name in set(self.names()) & local.names():
            if has_both(local.folder, name):
                self._files.keep(name, local.folder)
            local.delete([name])
        if local.names():
            local.folder.rename(self._place.folder / f"before-sharing-{now:%Y%m%dT%H%M%S%f}.ledger")
        else:
            local.folder.rmdir()

    def _expire(self, keep: str, now: datetime) -> None:
        expired = f"SELECT ledger {_expired(keep)}"
        self._connection.execute(f"UPDATE {RUNS} SET ledger = NULL WHERE ledger IN ({expired})", {"now": now})

    def _to_merge(self, now: datetime) -> Iterator[tuple[date, Sequence[str]]]:
        """The files of a day that become one: of a day that is over, all that are not large; of today, those of small
        runs, as soon as they are many."""
        found = self._connection.execute(
            f"""SELECT CAST(max(finished_at) AS DATE), ledger, sum({_ACCEPTED})
            {_NAMED} GROUP BY ledger ORDER BY max(finished_at), ledger"""
        ).fetchall()
        days = defaultdict[date, list[tuple[str, int]]](list)
        for day, name, rows in found:
            if rows <= _SMALL_ROWS or (name.startswith("day-") and rows <= _DAY_ROWS):
                days[day].append((name, rows))
        for day, files in days.items():
            if day == now.date():
                names = [name for name, _ in files if not name.startswith("day-")]
                if len(names) >= _AT_ONCE:
                    yield day, names
            elif len(files) > 1 and sum(rows for _, rows in files) <= _DAY_ROWS:
                yield day, [name for name, _ in files]

    def _merge(self, base: str, names: Sequence[str]) -> None:
        with self._files.brought(names) as folder:
            lines, requests = (
                f"FROM {_read(folder, names, end, columns)}"
                for end, columns in ((".parquet", COLUMNS), (".requests.parquet", COLUMNS_OF_REQUESTS))
            )
            self._replace(names, base, lines, requests)

    def _replace(self, names: Sequence[str], base: str, lines: str, requests: str) -> None:
        """Let the runs that name these files name a new one with these lines and requests."""
        name, self._staged = self._new(base), staging(self._place)
        self._write(self._staged / "lines", lines)
        self._write(self._staged / "requests", requests)
        self._put(name)
        self._connection.execute(
            f"UPDATE {RUNS} SET ledger = {literal(name)} WHERE list_contains({names_sql(names)}, ledger)"
        )
        self._stale.update(names)

    def _new(self, base: str) -> str:
        """A name that nobody has used."""
        return f"{base.partition('.')[0]}.{secrets.token_hex(4)}"

    def _write(self, path: Path, select: str) -> int:
        copied = execute(self._connection, f"COPY ({select}) TO {literal(str(path))} {FORMAT}").fetchall()
        return int(copied[0][0])

    def _put(self, name: str) -> None:
        assert self._staged, "nothing was staged"
        for end, staged in zip(ENDS, ("requests", "lines"), strict=True):
            (self._staged / staged).rename(self._staged / f"{name}{end}")
        self._files.keep(name, self._staged)
        rmtree(self._staged)


def _expired(keep: str) -> str:
    """SQL for the names of files of which every run is older than `keep`."""
    return f"{_NAMED} GROUP BY ledger HAVING max(finished_at) < CAST($now AS TIMESTAMPTZ) - INTERVAL {literal(keep)}"


def _read(folder: Path, names: Iterable[str], end: str, columns: dict[str, str]) -> str:
    """SQL for the rows of files, those that there are."""
    paths = [str(path) for name in names if (path := folder / f"{name}{end}").exists()]
    listed = ", ".join(columns)
    if paths:
        return f"(SELECT {listed} FROM read_parquet({names_sql(paths)}))"
    nothing = ", ".join(f"CAST(NULL AS {of}) AS {name}" for name, of in columns.items())
    return f"(SELECT {nothing} WHERE false)"
