"""Each peer once, against a sink of its own, and whether the rows arrived: python -m bench.peers.compare [--help]

Makes what is missing: environments (venvs.py), a certificate, and a table in .bench/.
"""

import argparse
import json
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.peers.venvs import PEERS, ROOT, python_of

PEER_S = 600  # the longest a peer may take

TABLE = """
CREATE TABLE users AS
SELECT
    'user-' || lpad(i::VARCHAR, 9, '0') AS external_id,
    {integers},
    {texts},
    {doubles},
    TIMESTAMP '2026-01-01' + INTERVAL (i) SECOND AS seen_at,
    TIMESTAMP '2020-01-01' + INTERVAL (i * 61) SECOND AS joined_at,
    i % 2 = 0 AS is_member,
    i % 3 = 0 AS wants_mail,
    [i % 7, i % 11, i % 13]::INTEGER[] AS favourites,
    {{'a': (i % 1000)::INTEGER, 'b': left(md5(i::VARCHAR), 8)}} AS preferences
FROM range({rows}) AS numbers(i)
"""


def make_table(path: Path, rows: int) -> None:
    """20 columns beside external_id, the same for every number of rows; done once."""
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    sql = TABLE.format(
        rows=rows,
        integers=",\n    ".join(f"(hash(i + {n}) % 1000000)::BIGINT AS count_{n}" for n in range(5)),
        texts=",\n    ".join(f"left(md5((i * 5 + {n})::VARCHAR), 12) AS text_{n}" for n in range(5)),
        doubles=",\n    ".join(f"(hash(i * 4 + {n}) % 1000000) / 100.0::DOUBLE AS amount_{n}" for n in range(4)),
    )
    sql = f"SET enable_progress_bar = false; {sql}"
    script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    subprocess.run([python_of("bench"), "-c", script, path, sql], check=True)


@contextmanager
def sink(certificate: Path, *options: str) -> Iterator[str]:
    """The URL of a sink that runs as long as this."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        keys = ["--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem")]
        command = [str(python_of("bench")), "-m", "bench.sink", "--ready-file", str(ready), *keys, *options]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    sys.exit("the sink did not start")
                time.sleep(0.02)
            yield f"https://127.0.0.1:{json.loads(ready.read_text())['port']}"
        finally:
            process.terminate()
            process.wait()


def stats(url: str, certificate: Path) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(certificate / "ca.pem"))
    with urllib.request.urlopen(f"{url}/stats", context=context) as answer:
        seen: dict[str, Any] = json.load(answer)
    return seen


def run_peer(peer: str, database: Path, rows: int, certificate: Path, sink_options: list[str]) -> dict[str, Any]:
    """What the peer said of itself, with what the sink saw."""
    python = python_of(peer)
    with sink(certificate, *sink_options) as url:
        place = ["--database", str(database), "--url", url, "--ca-file", str(certificate / "ca.pem")]
        command = [str(python), "-m", f"bench.peers.{peer}.run", *place, "--table", "users", "--rows", str(rows)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=PEER_S)
        seen = stats(url, certificate)
    if done.returncode != 0:
        sys.exit(f"{peer} exited with {done.returncode}; the sink took {seen['rows']} of {rows} rows")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {
        **said,
        "rows_per_s": round(said["rows"] / said["wall_s"]),
        "sink_rows": seen["rows"],
        "sink_requests": seen["requests"],
        "refused": seen["refused"],
        "body_mb": round(seen["body_bytes"] / 1e6, 1),
        "busiest_s": max(seen["per_second"].values(), default=0),
        "sink_cpu_s": round(seen["sink_cpu_s"], 2),
        "all_arrived": said["rows"] == seen["rows"] == rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.peers.compare")
    parser.add_argument("peers", nargs="*", help=f"of {', '.join(PEERS)}; all if none is named")
    parser.add_argument("--rows", type=int, default=75_000)
    parser.add_argument("--latency", type=float, default=0.1, help="of the sink, seconds")
    parser.add_argument("--requests", type=int, default=3000, help="that the sink takes in 3 seconds")
    options = parser.parse_args()
    database, certificate = ROOT / ".bench" / f"users-{options.rows}.duckdb", ROOT / ".bench" / "certificate"
    make_table(database, options.rows)
    if not (certificate / "ca.pem").exists():
        subprocess.run([python_of("bench"), "-m", "bench.certificate", certificate], cwd=ROOT, check=True)
    for peer in options.peers or PEERS:
        sink_options = ["--latency", str(options.latency), "--requests", str(options.requests)]
        print(json.dumps(run_peer(peer, database, options.rows, certificate, sink_options)), flush=True)


if __name__ == "__main__":
    main()
