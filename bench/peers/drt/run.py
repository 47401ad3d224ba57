"""drt: a project with a DuckDB profile and a rest_api sync in batch mode, run by `drt run` in a process of its own.

A sync is one request after another. DRT_SYNCS=N (with `drt run --threads N`) cuts the table into N syncs by key, which
is the way its own options offer to have more than one on the way.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.peers.measure import ROWS_PER_REQUEST, Job, job, report

SYNCS = int(os.environ.get("DRT_SYNCS", "1"))

PROJECT = """\
name: bench
profile: bench
"""

PROFILES = """\
bench:
  type: duckdb
  database: {database}
"""

SYNC = """\
name: users_{part}
model: |
  SELECT * FROM (SELECT * FROM "{table}" LIMIT {rows}) WHERE hash(external_id) % {parts} = {part}
destination:
  type: rest_api
  url: {endpoint}
  method: POST
  headers:
    Content-Type: application/json
    Authorization: Bearer none
  body_mode: batch
  max_records_per_request: {rows_per_request}
  batch_template: '{{"attributes": {{{{ rows | tojson_safe }}}}}}'
sync:
  mode: full
  batch_size: {batch_size}
  rate_limit:
    requests_per_second: 1000
  retry:
    max_attempts: 8
  on_error: fail
"""


def write_project(todo: Job, folder: Path) -> None:
    (folder / ".drt").mkdir()
    (folder / "syncs").mkdir()
    (folder / "drt_project.yml").write_text(PROJECT)
    (folder / ".drt" / "profiles.yml").write_text(PROFILES.format(database=todo.database))
    for part in range(SYNCS):
        sync = SYNC.format(
            part=part,
            parts=SYNCS,
            table=todo.table,
            rows=todo.rows,
            endpoint=todo.endpoint,
            rows_per_request=ROWS_PER_REQUEST,
            batch_size=100 * ROWS_PER_REQUEST,  # each batch opens a connection of its own
        )
        (folder / "syncs" / f"users_{part}.yml").write_text(sync)


def run(todo: Job, folder: Path) -> list[dict[str, Any]]:
    """What drt says of each sync; raises if it fails."""
    command = [Path(sys.executable).with_name("drt"), "run", "--output", "json", "--threads", str(SYNCS)]
    environment = {**os.environ, "HOME": str(folder), "SSL_CERT_FILE": str(todo.ca_file)}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"drt run exited with {done.returncode}\n{done.stdout[:2000]}")
    syncs: list[dict[str, Any]] = json.loads(done.stdout)["syncs"]
    return syncs


def main() -> None:
    todo = job()
    with tempfile.TemporaryDirectory() as folder:
        write_project(todo, Path(folder))
        syncs = run(todo, Path(folder))
    rows = [int(sync["rows_synced"]) for sync in syncs]
    report("drt", todo, sum(rows), sum(-(-count // ROWS_PER_REQUEST) for count in rows))


if __name__ == "__main__":
    main()
