"""What became of each record of a run: its outbox beside its journal."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import lacks_room
from reverse_etl.errors import StateError
from reverse_etl.masking import of_request
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.sql.quoting import literal, statement

WITH_OUTCOMES = f"{OUTBOX} AS o LEFT JOIN retl_outcomes AS f ON f.seq = o.rowid"
_JOURNAL_COLUMNS = """{
    sent: 'BIGINT', first: 'BIGINT', last: 'BIGINT', objects: 'BIGINT', "at": 'DOUBLE', status: 'SMALLINT',
    answered: 'BIGINT', outcome: 'VARCHAR', why: 'VARCHAR', rejected: 'STRUCT(seq BIGINT, reason VARCHAR)[]',
    untaken: 'STRUCT(seq BIGINT, reason VARCHAR)[]'
}"""
_OUTCOMES = (
    "seq BIGINT, may_have_arrived BOOLEAN, may_duplicate BOOLEAN, outcome VARCHAR, reason VARCHAR, request BIGINT"
)
# The requests of the run, one row each; as in the ledger.
REQUESTS_MADE = f"""(
    SELECT sent.sent AS request, first_record.call AS path, answer.status AS status,
        coalesce(answer.outcome, 'in_doubt') AS outcome, make_timestamptz(CAST(sent."at" * 1e6 AS BIGINT)) AS sent_at,
        make_timestamptz(CAST(answer."at" * 1e6 AS BIGINT)) AS answered_at, sent.objects AS objects,
        coalesce(len(answer.rejected), 0) AS rejected
    FROM retl_journal AS sent
    LEFT JOIN retl_journal AS answer ON answer.answered = sent.sent
    JOIN {OUTBOX} AS first_record ON first_record.rowid = sent.first
    WHERE sent.sent > 0
)"""
_NOTHING = ("request", "path", "status", "outcome", "sent_at", "answered_at", "objects", "rejected")
NO_REQUESTS = f"(SELECT {', '.join(f'NULL AS {name}' for name in _NOTHING)} WHERE false)"
_REASONS = 3  # of unclear responses that are reported


@dataclass(frozen=True)
class DeliveryCounts:
    """What happened to the records of a run, and the requests it took.

    `possible_duplicates` are those of the accepted and unsent records that an earlier request of the run may have
    delivered already, and that are not safe to send twice: `on_in_doubt: resend` sends them again. `unclear` says, of
    records that are in doubt or unsent after an unclear response, what the response was: the most frequent reasons,
    without values of the records, and their numbers of records.
    """

    accepted: int = 0
    rejected: int = 0
    in_doubt: int = 0
    unsent: int = 0
    possible_duplicates: int = 0
    attributes: int = 0
    requests: int = 0
    unclear: Mapping[str, int] = field(default_factory=dict)


def find_outcomes(connection: DuckDBPyConnection, journal: Path, sends: bool) -> DeliveryCounts:
    """Store the outcome of every record that was to be sent, and count them; a run that sends nothing has none."""
    if not sends and not (journal.exists() and journal.stat().st_size):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_outcomes ({_OUTCOMES})")
        return DeliveryCounts()
    _read_journal(connection, journal)
    connection.execute(statement(__name__, "outcomes"))
    return _count_delivery(connection)


def _read_journal(connection: DuckDBPyConnection, path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)  # nothing was sent
    _cut_torn_line(path)
    source = f"read_json({literal(str(path))}, format = 'newline_delimited', columns = {_JOURNAL_COLUMNS})"
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_journal AS SELECT * FROM {source}")
    except duckdb.Error as error:
        if lacks_room(error):
            raise
        hint = "something else wrote to it: keep the folder as it is, and inspect the lines of the file"
        raise StateError(f"{path} is damaged: {str(error).splitlines()[0]}", hint=hint, code="S006") from error


def _cut_torn_line(path: Path) -> None:
    """A killed process may leave half a line at the end; nothing has relied on it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 1_000_000))
        tail = file.read()
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, size - torn)


def _count_delivery(connection: DuckDBPyConnection) -> DeliveryCounts:
    rows = connection.execute(
        f"""SELECT outcome, count(*), CAST(coalesce(sum(attributes), 0) AS BIGINT), count(*) FILTER (may_duplicate)
        FROM {WITH_OUTCOMES} WHERE outcome IS NOT NULL GROUP BY outcome"""
    ).fetchall()
    attributes = sum(written for outcome, _, written, _ in rows if outcome == "accepted")
    possible_duplicates = sum(doubted for outcome, _, _, doubted in rows if outcome != "in_doubt")
    (requests,) = connection.execute(
        "SELECT count(*) FILTER (sent > 0) - count(*) FILTER (outcome = 'not_sent') FROM retl_journal"
    ).fetchall()[0]
    counts = {outcome: count for outcome, count, *_ in rows}
    is_clear = not counts.keys() & {"in_doubt", "unsent"}
    return DeliveryCounts(
        attributes=attributes,
        requests=requests,
        possible_duplicates=possible_duplicates,
        unclear={} if is_clear else _unclear(connection),
        **counts,
    )


def _unclear(connection: DuckDBPyConnection) -> dict[str, int]:
    """The most frequent reasons why it is not known whether records arrived, without values, and how many they are."""
    unclear = "may_have_arrived AND outcome IN ('in_doubt', 'unsent')"
    rows = connection.execute(
        f"""SELECT reason, count(*) FROM retl_outcomes WHERE {unclear}
        GROUP BY reason ORDER BY count(*) DESC, reason LIMIT $most""",
        {"most": _REASONS},
    ).fetchall()
    found: Counter[str] = Counter()
    for reason, records in rows:
        about = f"SELECT body FROM {WITH_OUTCOMES} WHERE {unclear} AND reason = ?"
        bodies = connection.execute(about, [reason])
        found[of_request(reason, (body for (body,) in iter(bodies.fetchone, None)))] += records
    return dict(found)
