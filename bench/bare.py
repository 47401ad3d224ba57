"""The yardstick of sending: a bare loop of `requests` on ready-made bodies. It reads nothing and remembers nothing.

    python -m bench.bare --url https://127.0.0.1:PORT --requests 30000 --threads 160

Every thread has a session of its own; certificates are trusted as REQUESTS_CA_BUNDLE says.
"""

import argparse
import threading
from itertools import islice

import requests

from bench.bare_body import body


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.bare")
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=160)
    options = parser.parse_args()
    ready, turns, lock, failed = body(), iter(range(options.requests)), threading.Lock(), list[int]()

    def work() -> None:
        with requests.Session() as session:
            session.headers["Content-Type"] = "application/json"
            while True:
                with lock:
                    if not list(islice(turns, 1)):
                        return
                answer = session.post(f"{options.url}/users/track", data=ready)
                if answer.status_code != 201:
                    failed.append(answer.status_code)

    threads = [threading.Thread(target=work) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} requests were not taken")


if __name__ == "__main__":
    main()
