"""The script of an afternoon: rows as dicts, JSON, a pool of threads with a session each."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any

import duckdb
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from bench.peers.measure import ROWS_PER_REQUEST, Job, job, report

THREADS = int(os.environ.get("SCRIPT_THREADS", "16"))
RETRY = Retry(total=8, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=["POST"], backoff_factor=0.5)
local = threading.local()


def batches(job: Job) -> Iterator[list[dict[str, Any]]]:
    with duckdb.connect(str(job.database), read_only=True) as connection:
        cursor = connection.execute(f'SELECT * FROM "{job.table}" LIMIT {job.rows}')
        columns = [column[0] for column in cursor.description]
        while rows := cursor.fetchmany(ROWS_PER_REQUEST):
            yield [dict(zip(columns, row, strict=True)) for row in rows]


def as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


def session() -> requests.Session:
    """This thread's."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.mount("https://", HTTPAdapter(max_retries=RETRY))
        local.session.headers.update({"Authorization": "Bearer none", "Content-Type": "application/json"})
    made: requests.Session = local.session
    return made


def post(job: Job, rows: list[dict[str, Any]]) -> int:
    """How many rows were taken; raises if Braze does not take them."""
    body = json.dumps({"attributes": rows}, default=as_json)
    session().post(job.endpoint, data=body, timeout=30, verify=str(job.ca_file)).raise_for_status()
    return len(rows)


def main() -> None:
    todo = job()
    sent = requests_made = 0
    with ThreadPoolExecutor(THREADS) as pool:
        running: set[Future[int]] = set()
        for rows in batches(todo):
            running.add(pool.submit(post, todo, rows))
            requests_made += 1
            if len(running) >= 4 * THREADS:  # or the whole table would wait in memory
                done, running = wait(running, return_when=FIRST_COMPLETED)
                sent += sum(future.result() for future in done)
        sent += sum(future.result() for future in running)
    report("script", todo, sent, requests_made)


if __name__ == "__main__":
    main()
