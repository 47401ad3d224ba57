"""Files as the collector writes them, for tests of those who read them."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from reverse_etl.project.collected import LOG, LOG_SUFFIX, STORED, Part

AT = datetime(2026, 11, 29, 21, 15, tzinfo=UTC)
COLLECT: dict[str, Any] = {
    "sources": {
        "postback": {
            "keys": ["{{ env_var('POSTBACK_KEY') }}"],
            "tables": {"unsubscribes": {"columns": ["external_id", "email", "changed_at"], "keep": "forever"}},
        }
    }
}


def line(*records: Mapping[str, Any], at: datetime = AT, table: str = "unsubscribes") -> str:
    """The line of a request in the log."""
    found = [{"record_id": f"l{n}", "time": int(at.timestamp()), "record": _text(one)} for n, one in enumerate(records)]
    received = at.isoformat(timespec="microseconds")
    return json.dumps({"source": "postback", "table": table, "received_at": received, "records": found}) + "\n"


def keep_log(folder: Path, segment: str, *lines: str) -> Path:
    """A segment of the log."""
    path = folder / LOG / f"{segment}{LOG_SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def keep(
    folder: Path,
    *records: Mapping[str, Any] | str,
    segments: tuple[str, str] = ("20261129T211500", "20261129T211500"),
    at: datetime = AT,
    source: str = "postback",
    table: str = "unsubscribes",
) -> Path:
    """A Parquet file of a table in the folder of what is collected; the ids are those of the records, or their numbers."""
    path = folder / source / table / Part(*segments).name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, [(int(at.timestamp()), at, _id(one, n), _text(one)) for n, one in enumerate(records, 1)])
    return path


def write(path: Path, rows: Iterable[tuple[int, datetime, str, str]]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in STORED.items())
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE found ({columns})")
        columns = ", ".join(f"unnest(${name}::{kind}[])" for name, kind in STORED.items())
        values = zip(STORED, map(list, zip(*rows, strict=True)), strict=True)
        connection.execute(f"INSERT INTO found SELECT {columns}", dict(values))
        connection.execute("COPY found TO $path (FORMAT parquet)", {"path": str(path)})


def records(folder: Path, source: str = "postback", table: str = "unsubscribes") -> list[str]:
    """The texts of all records in the Parquet files of a table, superseded ones as well."""
    files = sorted(map(str, (folder / source / table).glob("*.parquet")))
    if not files:
        return []
    with duckdb.connect() as connection:
        found = connection.execute("SELECT record FROM read_parquet($files) ORDER BY ALL", {"files": files}).fetchall()
    return [text for (text,) in found]


def _id(record: Mapping[str, Any] | str, number: int) -> str:
    return str(record.get("id", f"r{number}")) if isinstance(record, Mapping) else f"r{number}"


def _text(record: Mapping[str, Any] | str) -> str:
    return record if isinstance(record, str) else json.dumps(record)
