"""dlt: a pipeline from DuckDB, as arrow, to a custom destination that posts 75 rows at a time.

A load job is a file, and files are what dlt loads in parallel: the extracted rows are cut into about as many files as
there are workers. dlt's own HTTP client retries, obeys Retry-After and keeps a session per thread.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.peers.measure import ROWS_PER_REQUEST, Job, job, report

if TYPE_CHECKING:
    import pyarrow

WORKERS = int(os.environ.get("DLT_WORKERS", "64"))  # the best of 20 (dlt's default), 64 and 128


def configure(rows: int, folder: str) -> None:
    """Settings that a user has in .dlt/config.toml; dlt reads them when it is imported."""
    per_file = max(ROWS_PER_REQUEST, -(-rows // WORKERS // ROWS_PER_REQUEST) * ROWS_PER_REQUEST)
    os.environ.update(
        {
            "DLT_DATA_DIR": folder,
            "DLT_PROJECT_DIR": folder,
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "LOAD__WORKERS": str(WORKERS),
            "DATA_WRITER__FILE_MAX_ITEMS": str(per_file),
            "DATA_WRITER__BUFFER_MAX_ITEMS": str(per_file),
        }
    )


def run(todo: Job, folder: str) -> None:
    import dlt
    import duckdb
    from dlt.common.json import json  # orjson; it knows timestamps
    from dlt.sources.helpers.requests import Client

    client = Client(
        request_timeout=30,
        request_max_attempts=8,
        session_attrs={"headers": {"Authorization": "Bearer none", "Content-Type": "application/json"}},
    )
    counted = threading.Lock()
    sent = {"rows": 0, "requests": 0}

    @dlt.resource(name="users")
    def users() -> "Iterator[pyarrow.RecordBatch]":
        with duckdb.connect(str(todo.database), read_only=True) as connection:
            query = f'SELECT * FROM "{todo.table}" LIMIT {todo.rows}'
            per_file = int(os.environ["DATA_WRITER__FILE_MAX_ITEMS"])
            yield from connection.sql(query).to_arrow_reader(per_file)

    @dlt.destination(name="braze", batch_size=ROWS_PER_REQUEST, loader_file_format="parquet")
    def braze(items: "pyarrow.RecordBatch", table: Any) -> None:
        body = json.dumpb({"attributes": items.to_pylist()})
        client.post(todo.endpoint, data=body, verify=str(todo.ca_file))
        with counted:
            sent["rows"] += len(items)
            sent["requests"] += 1

    pipeline = dlt.pipeline("bench_users", destination=braze, pipelines_dir=folder)
    pipeline.run(users()).raise_on_failed_jobs()
    report("dlt", todo, sent["rows"], sent["requests"])


def main() -> None:
    todo = job()
    with tempfile.TemporaryDirectory() as folder:
        configure(todo.rows, folder)
        run(todo, folder)


if __name__ == "__main__":
    main()
