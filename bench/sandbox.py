"""How fast the sandbox is: its start, and requests of 75 objects x 20 attributes while the page is open.

python -m bench.sandbox [--rate 300] [--seconds 20] [--users 100000]

Requests are paced, over some connections as a client would hold them; the page is what a browser with it open asks:
sums each second, and the list of requests.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

RETL = [sys.executable, "-m", "reverse_etl", "sandbox", "--port", "0"]
CONNECTIONS = 8


def start(folder: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any], float]:
    """A running sandbox, its ready file, and the seconds from exec to ready."""
    ready = folder / "ready.json"
    began = time.perf_counter()
    process = subprocess.Popen(
        [*RETL, "--ready-file", ready, "--file", folder / "braze.sqlite"], stdout=subprocess.DEVNULL
    )
    while not ready.exists():
        if process.poll() is not None:
            raise SystemExit(f"the sandbox ended with {process.returncode}")
        time.sleep(0.002)
    return process, json.loads(ready.read_text()), time.perf_counter() - began


def body(first: int, users: int) -> bytes:
    objects = [
        {"external_id": f"u{(first + n) % users}", **{f"attribute_{k}": f"value {first + n} {k}" for k in range(20)}}
        for n in range(75)
    ]
    return json.dumps({"attributes": objects}, separators=(",", ":")).encode()


def load(port: int, rate: float, seconds: float, users: int) -> tuple[list[float], list[int], float]:
    """Latencies, statuses, and how long it took."""
    bodies = [body(n * 75, users) for n in range(min(400, users // 75))]
    total, lock = int(rate * seconds), threading.Lock()
    latencies: list[float] = []
    statuses: list[int] = []
    numbers = iter(range(total))
    began = time.perf_counter()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(max(0, began + number / rate - time.perf_counter()))
            sent = time.perf_counter()
            connection.request("POST", "/users/track", bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            answer.read()
            with lock:
                latencies.append(time.perf_counter() - sent)
                statuses.append(answer.status)

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, statuses, time.perf_counter() - began


def watch(port: int, stop: threading.Event, waits: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while not stop.wait(1):
        for path in ("/_sandbox/pulse", "/_sandbox/log?"):
            began = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            waits.append(time.perf_counter() - began)


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox")
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--users", type=int, default=100_000)
    wanted = parser.parse_args()
    starts = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as name:
            process, _, took = start(Path(name))
            process.terminate()
            process.wait()
            starts.append(took)
    print(f"start: {statistics.median(starts):.2f} s (median of 5; {min(starts):.2f} to {max(starts):.2f})")
    with tempfile.TemporaryDirectory() as name:
        process, ready, _ = start(Path(name))
        stop, waits = threading.Event(), list[float]()
        page = threading.Thread(target=watch, args=(ready["port"], stop, waits))
        page.start()
        latencies, statuses, took = load(ready["port"], wanted.rate, wanted.seconds, wanted.users)
        stop.set()
        page.join()
        used = cpu_s(process.pid) / took
        process.terminate()
        process.wait()
    latencies.sort()
    middle, last = statistics.median(latencies) * 1000, latencies[int(len(latencies) * 0.99)] * 1000
    accepted = f"{statuses.count(201)} of {len(statuses)} accepted"
    print(f"{len(statuses) / took:.0f} requests/s of 75 x 20 for {took:.1f} s, {accepted}")
    print(f"answer: {middle:.1f} ms median, {last:.1f} ms p99; {used:.2f} cores")
    print(f"page: {statistics.median(waits) * 1000:.1f} ms median, {max(waits) * 1000:.1f} ms at most")


if __name__ == "__main__":
    main()
