"""Collectors that are killed at random moments, with clients that count, and what became of each record.

    make torture-collect        (200 kills; --kills, --seed)

Each collector is a process of its own, killed with SIGKILL after a random time, or a random number of responses, while
it writes, ends segments, converts and merges all the time: its minute is a hundredth of a second, its segments are
small, and its clock runs so fast that hours and days end. Every fifth begins on a disk that fills up. What it has
written is read with DuckDB alone at the end, and compared with what the clients were told:

    lost          records that were answered with 200, and are not there
    doubled       records that are there more than once
    refused       records that were answered with something else, and are there all the same
    torn          requests of which some records are there and some are not
    made up       records that nobody has sent
"""

import argparse
import http.client
import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import duckdb

from tests.canary import KEY
from tests.processes import Forked

CLIENTS = 4
TABLES = ("opt_outs", "events")
FASTER = 20_000  # than a clock: five hours a second


class FastClock:
    """A clock whose days last seconds. It goes on where the one of the process before was killed."""

    def __init__(self, began: float) -> None:
        self._began = began

    def now_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self._began, UTC) + timedelta(seconds=(time.time() - self._began) * FASTER)

    def wait(self, wait_s: float, stop: threading.Event) -> None:
        stop.wait(wait_s)


def collector(folder: str, began: float, every_s: float) -> None:
    """The process that is killed. Prints where it answers."""
    from reverse_etl.collect import keep, log, run, server
    from reverse_etl.collect.contract import Source, digest

    keep.EVERY_S, log.MAX_SEGMENT_BYTES = every_s, 20_000
    source = Source("shop", frozenset(TABLES), (digest(KEY),), rate_limit=1e9)
    with run.held(Path(folder)), server.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        def ready() -> None:
            print(port, flush=True)

        clock = FastClock(began)
        run.collect(Path(folder), {"shop": source}, lambda *_: None, listener, None, ready, print, clock)  # type: ignore[arg-type]


@dataclass
class Row:
    """What has become of everything."""

    killed: int = 0
    sent: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    full: int = 0  # requests that a full disk has refused
    kept: int = 0
    files: int = 0
    merged: int = 0  # files of more than one segment
    lost: int = 0
    doubled: int = 0
    refused: int = 0
    torn: int = 0
    made_up: int = 0

    @property
    def is_good(self) -> bool:
        return not any((self.lost, self.doubled, self.refused, self.torn, self.made_up))


@dataclass
class Counts:
    """What the clients know. The numbers of a request are that of its first record, and how many it has."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    number: Iterator[int] = field(default_factory=lambda: count(0, 1000))
    sent: dict[int, int] = field(default_factory=dict)
    answered: dict[int, int] = field(default_factory=dict)  # status
    port: int | None = None  # of the collector that runs
    is_over: bool = False

    def acknowledged(self) -> int:
        return sum(status == 200 for status in list(self.answered.values()))


def client(counts: Counts, chance: random.Random) -> None:
    """Send records, each once, and note what came back."""
    connection: http.client.HTTPConnection | None = None
    port = None
    while not counts.is_over:
        if counts.port is None:
            time.sleep(0.002)
            continue
        if connection is None or port != counts.port:
            port = counts.port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with counts.lock:
            first = next(counts.number)
        size = chance.choice([1, 1, 1, 5, 50])
        records = [{"n": first + n, "text": "é" * chance.randrange(40)} for n in range(size)]
        counts.sent[first] = size
        url = f"/postback/v3/event/shop/{chance.choice(TABLES)}{'?unwrap=events' if size > 1 else ''}"
        body = json.dumps({"events": records} if size > 1 else records[0])
        try:
            connection.request("POST", url, body, {"X-TD-Write-Key": KEY})
            response = connection.getresponse()
            response.read()
            counts.answered[first] = response.status
        except (OSError, http.client.HTTPException):
            connection.close()
            connection = None
            time.sleep(0.005)


def kept(folder: Path) -> tuple[Counter[int], int, int]:
    """How often each number is there, how many files are current, and how many of these are merged ones."""
    found: Counter[int] = Counter()
    files = merged = 0
    with duckdb.connect() as connection:
        for table in TABLES:
            spans = sorted(path.stem.split("-") for path in (folder / "shop" / table).glob("2*.parquet"))
            inner = [a for a in spans if any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in spans)]
            names = [str(folder / "shop" / table / f"{a}-{b}.parquet") for a, b in spans if [a, b] not in inner]
            merged += sum(a != b for a, b in spans if [a, b] not in inner)
            files += len(names)
            if names:
                sql = f"SELECT CAST(record ->> '$.n' AS BIGINT) FROM read_parquet({names})"
                found.update(number for (number,) in connection.execute(sql).fetchall())
    return found, files, merged


def torture(kills: int, seed: int, folder: Path, by_the_clock: bool = True) -> Row:
    chance = random.Random(seed)
    counts, row, began = Counts(), Row(), time.time()
    clients = [threading.Thread(target=client, args=(counts, random.Random(f"{seed} {n}"))) for n in range(CLIENTS)]
    for one in clients:
        one.start()
    try:
        while row.killed < kills:
            process = Forked(collector, str(folder), began, chance.choice([0.005, 0.02, 0.1]))
            if by_the_clock and chance.random() < 0.1:  # while it converts what the one before has left
                time.sleep(chance.uniform(0, 0.2))
            else:
                process.wait_until(lambda process=process: process.out.strip() != "")  # type: ignore[misc]
                counts.port = int(process.out.split()[-1])
                if chance.random() < 0.2:
                    limit = (chance.randrange(20_000), resource.RLIM_INFINITY)
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
                if by_the_clock and chance.random() < 0.7:
                    time.sleep(chance.uniform(0.0, 0.8))
                else:
                    until, at_most_s = counts.acknowledged() + chance.randrange(1, 150), time.monotonic() + 2
                    while counts.acknowledged() < until and time.monotonic() < at_most_s:
                        time.sleep(0.001)
            process.kill()
            process.wait()
            counts.port = None
            row.killed += 1
    finally:
        counts.is_over = True
        for one in clients:
            one.join()
    last = Forked(collector, str(folder), began, 60)
    last.wait_until(lambda: last.out.strip() != "")
    last.send_signal(signal.SIGTERM)
    assert last.wait() == 0, last.err
    assert list((folder / "log").iterdir()) == []
    compare(counts, folder, row)
    return row


def compare(counts: Counts, folder: Path, row: Row) -> None:
    found, row.files, row.merged = kept(folder)
    row.kept = sum(found.values())
    row.sent = sum(counts.sent.values())
    row.doubled = sum(times - 1 for times in found.values())
    for first, size in counts.sent.items():
        there = sum(number in found for number in range(first, first + size))
        status = counts.answered.get(first)
        row.torn += there not in (0, size)
        if status == 200:
            row.acknowledged += size
            row.lost += size - there
        elif status is None:
            row.unanswered += size
        else:
            assert status == 503, status
            row.full += 1
            row.refused += there
    row.made_up = len(found.keys() - {first + n for first, size in counts.sent.items() for n in range(size)})


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill collectors, and count what became of each record.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-collect-") as name:
        row = torture(asked.kills, asked.seed, Path(name) / "collected")
    print(f"seed {asked.seed}, {os.cpu_count()} cores, {socket.gethostname()}")
    print(f"| {' | '.join(name.replace('_', ' ') for name in vars(row))} |\n|{'---|' * len(vars(row))}")
    print(f"| {' | '.join(f'{value:,}' for value in vars(row).values())} |", flush=True)
    sys.exit(0 if row.is_good else 1)


if __name__ == "__main__":
    main()
