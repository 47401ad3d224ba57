"""The command line and the last line that every peer shares. Only the standard library: each peer has its own."""

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

USERS_TRACK = "/users/track"
ROWS_PER_REQUEST = 75


@dataclass(frozen=True)
class Job:
    """Send the first `rows` rows of `table` to `url`."""

    database: Path
    table: str
    url: str
    ca_file: Path
    rows: int
    started: float

    @property
    def endpoint(self) -> str:
        return self.url.rstrip("/") + USERS_TRACK


def job() -> Job:
    """What the command line asks for; the clock runs from here."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--url", required=True, help="https://127.0.0.1:PORT")
    parser.add_argument("--ca-file", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    return Job(options.database.resolve(), options.table, options.url, options.ca_file.resolve(), options.rows, started)


def report(peer: str, job: Job, rows: int, requests: int) -> None:
    """Print the result as one JSON line: time, CPU of this process and its children, peak of the larger of them."""
    wall_s = time.perf_counter() - job.started
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak_mb = max(usage.ru_maxrss for usage in usages) * (1 if sys.platform == "darwin" else 1024) / 1e6
    line = {
        "peer": peer,
        "rows": rows,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        "peak_mb": round(peak_mb, 1),
        "requests": requests,
    }
    print(json.dumps(line), flush=True)
