"""Who is to be left out of what was collected, and Parquet files without their records.

    erased/20261129T211500123456-1f2e3d4c.json     whom, as keyed hashes, and until when

The collector leaves them out of what it makes Parquet files of. A file goes when no record can come any more that was
received before.
"""

import errno
import hmac
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from reverse_etl.collect.log import segments
from reverse_etl.collect.parquet import connected, write
from reverse_etl.collect.persons import Is, Named, named_in
from reverse_etl.project.collected import ERASED, STORED, time_of
from reverse_etl.records.identity import HASH_DIGITS
from reverse_etl.sql.quoting import literal
from reverse_etl.state.persons import kind_of, values_of
from reverse_etl.system.platforms import flush_folder
from reverse_etl.system.private_files import private_files, write_whole

_KEPT = timedelta(minutes=10)  # of an erasure, as records may reach the log after it that were received before it
_AT_ONCE = 10_000  # records in memory
_MOST_SOUGHT = 1_000  # identifiers that DuckDB looks for in the texts of records before these are read


@dataclass(frozen=True)
class Erasing:
    """Who is to be left out, of the records received before `at`."""

    at: datetime
    is_theirs: Is


def hasher(key: bytes) -> Callable[[str], str]:
    """What makes a hash of an identifier: that of `records/identity.py`."""
    return lambda text: hmac.new(key, text.encode(), sha256).hexdigest()[:HASH_DIGITS]


def erasings(folder: Path) -> list[Erasing]:
    """Who was erased lately. Raises OSError, also if a file is damaged."""
    return [_read(path) for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted((folder / ERASED).glob("*.json"))


def _read(path: Path) -> Erasing:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        hashed, hashes = hasher(bytes.fromhex(values["key"])), frozenset(values["hashes"])
        return Erasing(datetime.fromisoformat(values["at"]), lambda text: hashed(text) in hashes)
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(errno.EIO, f"{path.name} is damaged: remove it, and run `retl forget` again") from error


def announce(folder: Path, texts: Collection[str], at: datetime) -> Path:
    """Write down who is to be left out."""
    key = secrets.token_bytes(32)
    values = {"at": at.isoformat(), "key": key.hex(), "hashes": sorted(map(hasher(key), texts))}
    path = folder / ERASED / f"{at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    with private_files():
        path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(values))
    for place in (path.parent, folder):
        flush_folder(place)
    return path


def drop_erasings(folder: Path, now: datetime) -> None:
    """Forget who was erased, once no record can come that was received before. Raises OSError."""
    first = min(map(time_of, segments(folder)), default=now)
    for path in _files(folder):
        if _read(path).at < min(first, now - _KEPT):
            path.unlink(missing_ok=True)


def strip(file: Path, whom: Sequence[Erasing]) -> int:
    """Rewrite a Parquet file without the records about persons; how many these were. Raises OSError, duckdb.Error."""
    gone = {row for one in whom for _, row, named in records([file], one.at) if named.is_about(one.is_theirs)}
    without(file, gone)
    return len(gone)


def records(
    files: Sequence[Path], before: datetime, sought: Collection[str] | None = None
) -> Iterator[tuple[Path, int, Named]]:
    """The records in Parquet files that were received before a time, each with its file and the number of its row.

    With `sought`, only those in whose text one of these identifiers may be. Raises duckdb.Error.
    """
    if not files:
        return
    with connected() as connection:
        rows_of = f"SELECT filename, file_row_number, record FROM {_read_parquet(files)}"
        connection.execute(f"{rows_of} WHERE received_at < $before AND {_may_name(sought)}", {"before": before})
        while rows := connection.fetchmany(_AT_ONCE):
            for file, row, text in rows:
                named = named_in(text)
                if named is not None:
                    yield Path(file), row, named


def _may_name(sought: Collection[str] | None) -> str:
    """SQL for whether one of these identifiers may be in a record: its text has the value, or what JSON escapes."""
    if sought is None or len(sought) > _MOST_SOUGHT or not all(map(str.isascii, sought)):
        return "true"
    phones = values_of({text for text in sought if kind_of(text) == "phone"})
    words = [*map(re.escape, values_of(sought)), *(r"[^0-9]*".join(phone) for phone in phones)]
    return f"(contains(record, '\\') OR regexp_matches(record, {literal('(?i)' + '|'.join(sorted(words)))}))"


def without(file: Path, gone: Collection[int]) -> None:
    """Rewrite a Parquet file without some rows, under its name."""
    if not gone:
        return
    with connected() as connection:
        connection.execute("CREATE TEMP TABLE gone AS SELECT unnest($rows::BIGINT[]) AS row", {"rows": sorted(gone)})
        kept = "file_row_number NOT IN (SELECT row FROM gone)"
        rows = f"SELECT {', '.join(STORED)} FROM {_read_parquet([file])} WHERE {kept}"
        write(connection, rows, file)


def _read_parquet(files: Sequence[Path]) -> str:
    listed = ", ".join(literal(str(file.absolute())) for file in files)
    return f"read_parquet([{listed}], filename = true, file_row_number = true, hive_partitioning = false)"
