"""What a run is going to do: read off its outbox, so that a dry run and a run cannot disagree."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MAX_BODY_BYTES, Kind
from reverse_etl.data_tests import DataTestResult
from reverse_etl.delivery.batches import Record, cut
from reverse_etl.diff import ACKNOWLEDGED, OUTBOX, RUN
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.sql.quoting import identifier

SHOWN_INVALID = 20
SHOWN_CHANGES = 5


@dataclass(frozen=True)
class InvalidRow:
    """A row that breaks a rule. It names the key and the column, never the value."""

    key: str
    column: str
    reason: str
    hint: str


@dataclass(frozen=True)
class InvalidReason:
    """How many rows break one rule."""

    column: str
    reason: str
    rows: int


@dataclass(frozen=True)
class SampleChange:
    """A row that is to be sent, with (acknowledged, new) for each column that goes out."""

    key: str
    kind: str
    columns: Mapping[str, Sequence[str | None]]


@dataclass(frozen=True)
class Plan:
    """Counts of a run before it is sent; rows of the model unless they say otherwise.

    `invalid` rows break a rule; `remembered` ones were rejected by Braze and have not changed since; `held` ones are in
    doubt; `adopted` ones are said to be in Braze already. `in_state` and `removed` are rows of the state. `to_send`
    records go out in `requests`, by path, and hold so many `bytes`; they write `attributes`, and cost `data_points`
    where the contract counts them. `since` is the cursor from which an incremental run
    reads. `data_tests` is what came of the sync's data tests.
    """

    run_id: str
    rows: int
    in_state: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    invalid: int = 0
    remembered: int = 0
    held: int = 0
    adopted: int = 0
    to_send: int = 0
    attributes: int = 0
    data_points: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    since: str | None = None
    data_tests: Sequence[DataTestResult] = ()

    @property
    def kept_back(self) -> int:
        """Rows that the model wants in Braze, and that this run does not send."""
        return self.invalid + self.remembered + self.held

    @property
    def counts(self) -> dict[str, Any]:
        """What is remembered of the plan when the run is over: nothing that names a row."""
        return asdict(replace(self, data_tests=[replace(result, keys=()) for result in self.data_tests]))


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """The plan that `asdict` made `values` of."""
    return Plan(**{**values, "data_tests": [DataTestResult(**result) for result in values.get("data_tests", ())]})


def read_plan(connection: DuckDBPyConnection, run_id: str, rows: int, in_state: int, sizes: Mapping[str, int]) -> Plan:
    """Count the outbox. `sizes` are the records per request, by path."""
    counted = connection.execute(
        f"""SELECT kind, action, count(*), CAST(sum(attributes) AS BIGINT), CAST(sum(data_points) AS BIGINT),
            CAST(coalesce(sum(strlen(body)), 0) AS BIGINT)
        FROM {OUTBOX} GROUP BY ALL"""
    ).fetchall()
    kinds = {kind: sum(n for k, _, n, *_ in counted if k == kind) for kind in ("added", "changed", "removed")}
    actions = {action: sum(n for _, a, n, *_ in counted if a == action) for _, action, *_ in counted}
    return Plan(
        run_id,
        rows,
        in_state,
        **kinds,
        unchanged=rows - kinds["added"] - kinds["changed"],
        invalid=actions.get("invalid", 0),
        remembered=actions.get("remembered", 0),
        held=actions.get("in_doubt", 0),
        adopted=actions.get("adopt", 0),
        to_send=actions.get("send", 0),
        attributes=sum(written for _, action, _, written, *_ in counted if action == "send"),
        data_points=sum(cost for _, action, _, _, cost, _ in counted if action == "send"),
        bytes=sum(weight for _, action, *_, weight in counted if action == "send"),
        requests=_requests(connection, sizes),
    )


def _requests(connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> dict[str, int]:
    """Requests by path: batches are cut by number, and by weight only where bodies are that heavy."""
    groups = connection.execute(
        f"""SELECT call, envelope, count(*), max(strlen(body)) FROM {OUTBOX}
        WHERE action = 'send' GROUP BY call, envelope ORDER BY ALL"""
    ).fetchall()
    requests = dict.fromkeys((call for call, *_ in groups), 0)
    if any(heaviest * sizes[call] > MAX_BODY_BYTES for call, _, _, heaviest in groups):
        for batch in cut(read_records(connection), sizes):
            requests[batch.call] += 1
        return requests
    for call, _, records, _ in groups:
        requests[call] += ceil(records / sizes[call])
    return requests


def read_records(connection: DuckDBPyConnection) -> Iterator[Record]:
    """The records that are to be sent, in the order of the outbox, a few thousand in memory at a time."""
    cursor = connection.cursor()  # of its own: another statement on the connection would spoil an open result
    cursor.execute(f"SELECT rowid, call, envelope, body, harmless FROM {OUTBOX} WHERE action = 'send'")
    while rows := cursor.fetchmany(5000):
        for row in rows:
            yield Record(*row)


def invalid_rows(connection: DuckDBPyConnection, limit: int = SHOWN_INVALID) -> list[InvalidRow]:
    """The first rows that break a rule."""
    rows = connection.execute(
        f"""SELECT key, column_name, reason, hint FROM {OUTBOX} JOIN {RUN}.main.rules ON number = problem
        WHERE action = 'invalid' ORDER BY key, column_name LIMIT {limit}"""
    ).fetchall()
    return [InvalidRow(*row) for row in rows]


def invalid_reasons(connection: DuckDBPyConnection) -> list[InvalidReason]:
    """The rules that rows of the outbox break, the one that most of them break first."""
    rows = connection.execute(
        f"""SELECT column_name, reason, count(*) AS times FROM {OUTBOX} JOIN {RUN}.main.rules ON number = problem
        WHERE action = 'invalid' GROUP BY ALL ORDER BY times DESC, column_name, reason"""
    ).fetchall()
    return [InvalidReason(*row) for row in rows]


def changes_by_column(connection: DuckDBPyConnection, layout: Layout) -> dict[str, int]:
    """How many records carry each tracked column, the most frequent first."""
    if not layout.tracked:
        return {}
    counts = ", ".join(f"count(*) FILTER ({identifier(f'changed.{name}')})" for name in layout.tracked)
    row = connection.execute(f"SELECT {counts} FROM {OUTBOX} WHERE action = 'send'").fetchall()[0]
    found = {name: count for name, count in zip(layout.tracked, row, strict=True) if count}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def sample_changes(connection: DuckDBPyConnection, layout: Layout, known: Collection[str]) -> list[SampleChange]:
    """A few records of each kind, the first by key, with what was acknowledged and what is new, column by column.

    `known` are the columns that the state has.
    """
    names = [name for name in (layout.tracked or layout.key) if name != ROW_NUMBER]
    old = ", ".join(f"CAST(t.{identifier(name)} AS VARCHAR)" if name in known else "NULL" for name in names)
    new = ", ".join(f"CAST(o.{identifier(f'new.{name}')} AS VARCHAR)" for name in names)
    goes = ", ".join(f"o.{identifier(f'changed.{name}')}" if name in layout.tracked else "true" for name in names)
    same = [f"t.{identifier(name)} IS NOT DISTINCT FROM o.{identifier(f'new.{name}')}" for name in layout.key]
    joined = f"LEFT JOIN {ACKNOWLEDGED} AS t ON {' AND '.join(same)}" if known else ""
    first = " UNION ALL ".join(
        f"(FROM {OUTBOX} WHERE action = 'send' AND kind = '{kind}' ORDER BY key LIMIT {SHOWN_CHANGES})" for kind in Kind
    )
    rows = connection.execute(
        f"""SELECT o.key, o.kind, [{goes}], [{old}], [{new}] FROM ({first}) AS o {joined} ORDER BY o.kind, o.key"""
    ).fetchall()
    changes = []
    for key, kind, *columns in rows:
        goes_out = [(name, pair) for name, goes, *pair in zip(names, *columns, strict=True) if goes]
        changes.append(SampleChange(key, kind, dict(goes_out)))
    return changes
