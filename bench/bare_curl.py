"""The other yardstick of sending: libcurl on ready-made bodies, all connections in one thread. It is written in C.

    python -m bench.bare_curl --url https://127.0.0.1:PORT --requests 30000 --connections 160

Certificates are trusted as REQUESTS_CA_BUNDLE says. It runs in the environment of the bench.
"""

import argparse
import os

import pycurl  # type: ignore[import-not-found, unused-ignore]  # in the bench's environment, not here

from bench.bare_body import body


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.bare_curl")
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--connections", type=int, default=160)
    options = parser.parse_args()
    ready, multi, left, failed = body(), pycurl.CurlMulti(), options.requests, list[int]()

    def connection() -> "pycurl.Curl":
        one = pycurl.Curl()
        one.setopt(pycurl.URL, f"{options.url}/users/track")
        one.setopt(pycurl.CAINFO, os.environ["REQUESTS_CA_BUNDLE"])
        one.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        one.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
        one.setopt(pycurl.POST, 1)
        one.setopt(pycurl.POSTFIELDS, ready)
        one.setopt(pycurl.WRITEFUNCTION, len)
        return one

    free = [connection() for _ in range(options.connections)]
    busy = 0
    while left or busy:
        while free and left:
            multi.add_handle(free.pop())
            left, busy = left - 1, busy + 1
        multi.perform()
        _, ended, broken = multi.info_read()
        for one in (*ended, *(broken_one for broken_one, *_ in broken)):
            status = one.getinfo(pycurl.RESPONSE_CODE)
            if status != 201:
                failed.append(status)
            multi.remove_handle(one)
            free.append(one)
            busy -= 1
        if busy and not ended and not broken:
            multi.poll(1000) if hasattr(multi, "poll") else multi.select(1.0)
    if failed:
        raise SystemExit(f"{len(failed)} requests were not taken")


if __name__ == "__main__":
    main()
