"""Whatever a server answers, a request has a result, and is not counted as accepted unless the answer confirms that."""

import gzip
import itertools
import json
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import urllib3

from reverse_etl.braze import client
from reverse_etl.braze.answers import Answer, NoAnswer, NotSent, Outcome, json_object, judge
from reverse_etl.braze.client import MAX_RESPONSE_BYTES, Connection, Deadlines
from reverse_etl.braze.rate_limit_headers import exhausted_wait_s, throttled_wait_s
from reverse_etl.braze.workspace import Workspace
from reverse_etl.delivery.retry import RetryPolicy
from tests.proxy import Raw
from tests.shop import EVENTS, Retl, Shop, examples, some

RECORDS = 1  # in a request, so that none is divided
GOOD = {"message": "success", "events_processed": RECORDS}
SEEN = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"


def verdict(status: int, body: bytes | None) -> Any:
    return judge(Answer(status, {}, body), RECORDS, {"events"}, ["events_processed"])


def said(**changed: Any) -> bytes:
    return json.dumps({**GOOD, **changed}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "failed", "message": "success"}',
        b'{"message": "success", "x": NaN}',
        b'{"message": "success", "x": -Infinity}',
        b'\xef\xbb\xbf{"message": "success"}',
        '{"message": "success"}'.encode("utf-16"),
        b'{"message": "success", "x": "\xff"}',
        b'{"message": "success"} {}',
        b'{"message": "success", "x": ' + b"9" * 5000 + b"}",
        b'{"message": "success", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"message": "success\\u0000"}',
        b'{"message": ["success"]}',
        b'["success"]',
        b"",
        None,
    ],
    ids=range(14),
)
def test_success_that_can_be_read_in_more_than_one_way_is_none(body: bytes | None):
    assert (json_object(body) or {}).get("message") != "success"
    assert verdict(201, body).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("count", [True, False, 1.0, "1", [1], {"n": 1}, -1, 10**4299, 0, 2])
def test_count_that_is_not_the_number_of_records_confirms_nothing(count: Any):
    assert verdict(201, said(events_processed=count)).outcome is Outcome.UNPLACED


@pytest.mark.parametrize(
    "errors",
    [5, True, "no", {"index": 0}, [5], [None], [[]], [{}], [{"index": 0}], [{"index": True, "input_array": "events"}],
     [{"index": 0, "input_array": ["events"]}], [{"index": 0, "input_array": {}}], [{"index": 3, "input_array": "events"}],
     [{"index": -1, "input_array": "events"}], [{"index": 1.0, "input_array": "events"}], [{"index": 10**4000, "input_array": "events"}]],
    ids=range(16),
)  # fmt: skip
def test_error_that_identifies_no_record_leaves_all_in_doubt(errors: Any):
    assert (verdict(201, said(errors=errors)).outcome, verdict(201, said(errors=errors)).rejected) == (
        Outcome.UNPLACED,
        {},
    )
    assert verdict(400, said(errors=errors)).outcome is Outcome.REFUSED


@pytest.mark.parametrize("status", [100, 101, 103, 199, 203, 299, 408, 500, 599, 999])
def test_status_that_tells_nothing_is_no_refusal(status: int):
    assert verdict(status, said()).outcome is Outcome.UNKNOWN


def test_text_of_a_server_is_one_line_that_can_be_printed_and_stored():
    text = 'bad "\ud800", \x00\x1b[2J\r\n\u202e\u2028 value ' + "x" * 400
    result = verdict(
        400, json.dumps({"message": text, "errors": [{"type": text, "input_array": "events", "index": 0}]}).encode()
    )
    cleaned = ('bad " ",  [2J  value ' + "x" * 400)[:300]
    assert (result.why, result.rejected) == (f"Braze returned 400: {cleaned}", {0: cleaned})
    assert verdict(400, said(message={"a": 1})).why == "Braze returned 400"


@pytest.mark.parametrize(
    "date",
    ["Mon, 01 Jan 0001 00:00:00 -0000", "Mon, 01 Jan 9999 23:59:59 -9999", f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT",
     "1", "", "GMT", "Mon, 99 Foo 2026 99:99:99", "nan", "inf", "-1", "1e400", "9" * 400, "\uff11\uff12", "0x10"],
)  # fmt: skip
def test_header_of_a_rate_limit_never_breaks_a_run(date: str):
    for name in ("retry-after", "x-ratelimit-reset"):
        for now in (date, "Mon, 30 Nov 2026 00:00:00 GMT"):
            headers = {name: date, "date": now, "x-ratelimit-remaining": "0"}
            assert 0.05 <= throttled_wait_s(headers) <= 60
            assert 0 <= exhausted_wait_s(headers) <= 60


# --- over the wire ---------------------------------------------------------------------------------------------------


class Wire:
    """A connection to a server that answers `parts`."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.server = Raw(lambda _: self.parts)

    def ask(self, *parts: bytes, timeout_s: float = 30) -> Answer | NotSent | NoAnswer:
        self.parts = list(parts)
        workspace = Workspace(self.server.url, "key", timeout_s)
        with closing(Deadlines()) as deadlines, closing(Connection(workspace, deadlines)) as connection:
            return connection.send("/users/track", b"{}")


@pytest.fixture
def wire() -> Iterator[Wire]:
    one = Wire()
    with one.server:
        yield one


def http(body: bytes, *headers: str, status: str = "201 Created", length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def test_answer_is_read_up_to_a_limit_and_its_status_still_counts(wire: Wire):
    full = said(x="")[:-2] + b"x" * (MAX_RESPONSE_BYTES - len(said(x=""))) + b'"}'
    assert len(full) == MAX_RESPONSE_BYTES
    assert wire.ask(http(full)) == Answer(201, {"content-length": str(len(full))}, full)
    for status in ("201 Created", "401 Unauthorized"):
        result = wire.ask(http(full + b" ", status=status))
        assert isinstance(result, Answer)
        assert (result.status, result.body) == (int(status[:3]), None)
    assert verdict(201, None).why == "Braze returned 201, but with a response that cannot be understood"


@pytest.mark.parametrize("layers", [1, 2], ids=["packed", "packed twice"])
def test_packed_answer_takes_no_more_memory_than_the_limit(wire: Wire, layers: int, monkeypatch: pytest.MonkeyPatch):
    packed = gzip.compress(bytes(50_000_000), 1)
    packed = gzip.compress(packed) if layers == 2 else packed
    most, read = 0, urllib3.HTTPResponse.read

    def counted(response: urllib3.HTTPResponse, size: int) -> bytes:
        nonlocal most
        piece = read(response, size)
        most = max(most, len(piece))
        return piece

    monkeypatch.setattr(urllib3.HTTPResponse, "read", counted)
    result = wire.ask(http(packed, f"Content-Encoding: {', '.join(['gzip'] * layers)}"))
    assert isinstance(result, Answer)
    assert (result.status, result.body, most) == (201, None, client._PIECE_BYTES)


def test_packed_answer_is_unpacked_and_what_cannot_be_is_not_understood(wire: Wire):
    assert wire.ask(http(gzip.compress(said()), "Content-Encoding: gzip")) == Answer(
        201, {"content-encoding": "gzip", "content-length": str(len(gzip.compress(said())))}, said()
    )
    for encoding, body in [("gzip", said()), ("deflate", b"\xff" * 9), ("gzip, " * 9 + "gzip", said())]:
        result = wire.ask(http(body, f"Content-Encoding: {encoding}"))
        assert isinstance(result, Answer)
        assert result.body is None


def test_interim_answers_are_not_the_answer(wire: Wire):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-RateLimit-Remaining: 0\r\n\r\n"
    assert wire.ask(interim + http(said())) == Answer(201, {"content-length": str(len(said()))}, said())


@pytest.mark.parametrize("more", [http(b'{"message": "other"}', status="400 Bad Request"), b"x", b"HTTP/1.1 100 "])
def test_what_follows_an_answer_belongs_to_no_request(more: bytes):
    """And the next request gets a connection of its own."""
    answers = iter([[http(said()) + more], [http(said(errors=None))]])
    with (
        Raw(lambda _: next(answers)) as server,
        closing(Deadlines()) as deadlines,
        closing(Connection(Workspace(server.url, "key"), deadlines)) as connection,
    ):
        results = [connection.send("/users/track", b"{}") for _ in range(2)]
    assert [result.body for result in results if isinstance(result, Answer)] == [said(), said(errors=None)]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 201 Created\r\n" + b"X: y\r\n" * 50_000 + b"Content-Length: 2\r\n\r\n{}",
        http(said(), "Transfer-Encoding: chunked"),
        http(said(), "Content-Length: 3"),
        b"HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["another protocol", "headers without an end", "two ways to end", "two lengths", "no length"],
)
def test_what_is_no_answer_confirms_nothing(wire: Wire, answer: bytes):
    assert isinstance(wire.ask(answer), NoAnswer)


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n", b"x"),
        (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 201 Created\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "body up to the end", "chunks", "header", "interim answers"],
)
def test_answer_that_drips_ends_with_its_time(head: bytes, drop: bytes):
    def drips(_: str) -> Iterator[bytes]:
        yield head
        while not over.wait(0.01):
            yield drop

    over = threading.Event()
    with Raw(drips) as server, closing(Deadlines()) as deadlines:
        with closing(Connection(Workspace(server.url, "key", 0.2), deadlines)) as connection:
            result = connection.send("/users/track", b"{}")
        over.set()
    assert isinstance(result, NoAnswer)
    assert result.why.startswith("no complete response within 0.2 s")


def test_answer_that_is_cut_off_says_so_and_names_no_time_that_has_not_passed():
    def cut(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n" + b"x" * 21

    with Raw(cut) as server, closing(Deadlines()) as deadlines:
        connection = Connection(Workspace(server.url, "key", 30), deadlines)
        result = connection.send("/users/track", b"{}")
    assert result == NoAnswer("no complete response: the connection was closed after 21 bytes of its body")


def test_any_answer_is_judged_and_only_a_whole_one_confirms_a_success(wire: Wire, seed: int):
    """What is drawn, and what must be known of it, share nothing with what judges it."""
    draw = random.Random(seed)
    seen = set()
    for _ in range(examples(300, 10_000)):
        raw, is_success = drawn(draw)
        result = wire.ask(raw)
        found = judge(result, RECORDS, {"events"}, ["events_processed"])
        seen.add(found.outcome)
        assert (found.outcome is Outcome.ACCEPTED) == is_success, (raw[:300], found)
        assert not isinstance(result, NotSent), raw[:300]
        found.why.encode()
        assert "\n" not in found.why + "".join(found.rejected.values())
    assert {Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.UNPLACED, Outcome.REFUSED, Outcome.FORBIDDEN} <= seen


def drawn(draw: random.Random) -> tuple[bytes, bool]:
    """An answer, and whether it confirms that all of RECORDS were accepted."""
    ways = [_confirmed, _odd_value, _odd_value, _odd_value, _odd_text, _odd_status, _odd_header, _broken]
    return draw.choice(ways)(draw)


def _confirmed(draw: random.Random) -> tuple[bytes, bool]:
    body: dict[str, Any] = draw.choice([GOOD, {"message": "success"}, {"message": "queued"}, {**GOOD, "errors": []}])
    text = json.dumps({**body, "new": _value(draw)}).encode()
    if draw.random() < 0.3:
        return http(gzip.compress(text), "Content-Encoding: gzip"), True
    if draw.random() < 0.3:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (text[:5], text[5:]))
        return http(chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False), True
    return http(text, status=draw.choice(["200 OK", "201 Created", "202 Accepted"])), True


def _odd_value(draw: random.Random) -> tuple[bytes, bool]:
    name = draw.choice(["message", "errors", "events_processed"])
    body = {**GOOD, name: _value(draw)}
    if name == "errors":
        index = draw.choice([None, True, "0", -1, 3, 10**30, 0.0, [0]])
        body["errors"] = draw.choice(
            [
                _value(draw) or 0,
                [{"index": index, "input_array": "events"}],
                [{"index": 0, "input_array": _value(draw)}],
            ]
        )
    if body[name] in (GOOD.get(name), "queued") and type(body[name]) is type(GOOD.get(name, "")):
        body[name] = {}
    if name == "events_processed" and body[name] is None:  # not reported
        body[name] = 2
    return http(json.dumps(body).encode(), status=draw.choice(["201 Created", "400 Bad Request"])), False


def _odd_text(draw: random.Random) -> tuple[bytes, bool]:
    text = json.dumps(GOOD).encode()
    return http(
        draw.choice(
            [
                text[: draw.randrange(len(text))],
                text + b"x",
                text[:-1] + b', "message": "success"}',
                b"\xef\xbb\xbf" + text,
                text.replace(b"1", draw.choice([b"NaN", b"Infinity", b"9" * 5000, b"01", b"1.0", b"-1"])),
                text.replace(b"success", draw.choice([b"\xff", b"\\ud800", b"\\u0000success", b"success\\n"])),
                draw.choice([b"[", b'{"a":', b'{"errors":[']) * draw.choice([10, 1000, 100_000]),
                draw.randbytes(draw.randrange(300)),
                b"<html>" + text,
                b"",
            ]
        )
    ), False


def _odd_status(draw: random.Random) -> tuple[bytes, bool]:
    status = draw.choice(
        [101, 103, 203, 204, 206, 299, 301, 304, 400, 401, 403, 404, 408, 413, 418, 429, 500, 503, 599, 999]
    )
    return http(json.dumps({**GOOD, "message": _value(draw)}).encode(), status=f"{status} Odd"), False


def _odd_header(draw: random.Random) -> tuple[bytes, bool]:
    """Around a status that is no success: what is in a header never breaks, and does not confirm, anything."""
    odd = draw.choice(
        ["", "-1", "nan", "9" * 400, "x" * 70_000, "Mon, 01 Jan 0001 00:00:00 -0000", "\xff\xfe", "a, b", "é\x00"]
    )
    name = draw.choice(
        [
            "Retry-After",
            "X-RateLimit-Reset",
            "Date",
            "Content-Type",
            "Content-Encoding",
            "Connection",
            "Location",
            "Set-Cookie",
        ]
    )
    status = draw.choice(["429 Slow", "503 Busy", "400 Bad", "302 Found"])
    return http(said(message="no"), *[f"{name}: {odd}"] * draw.choice([1, 2, 200]), status=status), False


def _broken(draw: random.Random) -> tuple[bytes, bool]:
    whole = http(json.dumps(GOOD).encode())
    return draw.choice(
        [
            whole[: draw.randrange(len(whole))],
            draw.randbytes(draw.randrange(200)),
            whole.replace(b"HTTP/1.1", draw.choice([b"HTTP/9.9", b"ICY", b"http/1.1", b"HTTP/1.1 2"])),
            whole.replace(b"201", draw.choice([b"abc", b"-1", b"99999", b"99", b""])),
            http(json.dumps(GOOD).encode()[:-1] + b"  ", "Transfer-Encoding: chunked", length=False),
            http(b"ffffffffffffffff\r\nx", "Transfer-Encoding: chunked", length=False),
            http(b"-5\r\nx", "Transfer-Encoding: chunked", length=False),
            whole.replace(b"Content-Length: ", b"Content-Length: 9"),
            http(b"\x1f\x8b" + draw.randbytes(50), "Content-Encoding: gzip"),
        ]
    ), False


def _value(draw: random.Random, depth: int = 0) -> Any:
    if depth < 3 and draw.random() < 0.3:
        return [_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    if depth < 3 and draw.random() < 0.3:
        return {draw.choice(["index", "type", "a"]): _value(draw, depth + 1)}
    return draw.choice(
        [None, True, False, 0, -1, 2**70, 0.5, 1e300, "", "x" * 5000, "failed", "\ud800", "\x00\x1b[2J\n", "é"]
    )


# --- in a run --------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "raw",
    some([
        http(b'{"message": "\\ud800\\u0000\\u001b[2J"}', status="400 Bad Request"),
        http(b"[" * 100_000),
        http(b'{"message": "success", "errors": [{"index": 0, "input_array": [], "type": {}}]}'),
        http(b'{"message": "success"}', "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 9999999999", f"Date: 1 Jan {'9' * 20} 0:0 GMT"),
    ]),
    ids=some(["half a character", "deep", "odd types", "odd date"]),
)  # fmt: skip
def test_no_answer_damages_what_a_run_leaves_behind(shop: Shop, retl: Retl, raw: bytes):
    with Raw(lambda _: [raw]) as server:
        shop.destination = {"endpoint": server.url}
        shop.sync("it", SEEN, **EVENTS)
        commands = [
            retl(*command.split(), folder=shop.folder)
            for command in ("sync it", "sync it", "debug", "rejects it", "status")
        ]
    printed = "".join(one.out + one.err for one in commands)
    assert [one.code for one in commands if one.code not in (0, 1)] == []
    assert [word for word in ("Traceback", "damaged", "\x1b", "\x00") if word in printed] == []


@pytest.mark.parametrize("record_type", ["attributes", "events"])
@pytest.mark.long
def test_run_ends_well_only_if_every_row_was_confirmed(shop: Shop, seed: int, record_type: str):
    """Whatever is answered to its requests: what is not confirmed is unsent, rejected or in doubt, and exit code 1."""
    draw, confirmed, lock = random.Random(seed), 0, threading.Lock()

    def answer(head: str) -> list[bytes]:
        nonlocal confirmed
        with lock:
            fine = http(said(), "Connection: close"), True  # which it is: otherwise the next request may meet its end
            raw, is_success = fine if draw.random() < well else drawn(draw)
            if head.startswith("POST"):
                confirmed += RECORDS * is_success
            return [raw]

    codes, shares = set(), itertools.cycle([1.0, 0.5, 0.0, 0.9])
    with Raw(answer) as server:
        shop.destination = {"endpoint": server.url, "max_objects_per_request": RECORDS}
        for share in itertools.islice(shares, examples(2, 80)):
            confirmed, well = 0, share
            options = {"mode": "users_track", "track_record_type": record_type}
            shutil.rmtree(shop.folder / ".retl", ignore_errors=True)
            shop.sync("it", SEEN.replace("'u1'", "'u' || i") + " FROM range(30) r(i)", **options)
            result = shop.run(policy=RetryPolicy(tries=3))
            told = result.delivery
            assert told.accepted == confirmed
            assert told.accepted + told.rejected + told.in_doubt + told.unsent == 30
            assert (result.exit_code == 0) == (confirmed == 30), result.errors
            codes.add(result.exit_code)
    assert codes == {0, 1}
