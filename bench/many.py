"""Many syncs in one command, each of attributes of its own: to plan the next takes no time while the last is sent."""

import math
import shutil
from pathlib import Path

SYNCS, ROWS = 20, 200_000
UNCHANGED_SYNCS, UNCHANGED_ROWS = 100, 1_000
LISTED_SYNCS = 300
# In multiples of the 17 ms that a DuckDB takes, where this was asked for, to start, open a file and read it: 60 ms a
# sync, and for all of them 2, 2 and 0.5 s.
AT_MOST = {"sync": 3.5, "status": 118.0, "history": 118.0, "run-due": 29.0}
MODEL = "SELECT external_id, COLUMNS(* EXCLUDE (external_id)) AS 'p{number}_\\0' FROM users"


def limits_alone_s(requests_per_s: int) -> float:
    """How long the rate limit alone makes all of them take."""
    return SYNCS * math.ceil(ROWS / 75) / requests_per_s


def open_files(table: Path) -> str:
    """Python that starts as many DuckDBs as there are syncs of which nothing changes, each of which reads the table."""
    return f"""import duckdb
for _ in range({UNCHANGED_SYNCS}):
    with duckdb.connect() as connection:
        connection.execute("ATTACH '{table}' AS warehouse (READ_ONLY)")
        connection.execute("SELECT count(*), max(external_id) FROM warehouse.users").fetchall()
"""


def project(folder: Path, table: Path, syncs: int = SYNCS, schedule: str = "") -> Path:
    """A fresh project of so many syncs over a table."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    listed = []
    for number in range(syncs):
        (folder / "models" / f"people_{number}.sql").write_text(MODEL.format(number=number))
        how = "mode: users_track, track_record_type: attributes, primary_key: external_id"
        how += f", schedule: '{schedule}'" if schedule else ""
        listed.append(f"  - {{name: people_{number}, model: people_{number}, {how}}}\n")
    (folder / "syncs.yml").write_text(
        f"""version: 1
targets:
  bench:
    warehouse: {{type: duckdb, path: {table}}}
    destination: {{type: braze, endpoint: "{{{{ env_var('SINK') }}}}", api_key: "{{{{ env_var('KEY', 'k') }}}}"}}
syncs:
{"".join(listed)}"""
    )
    return folder
