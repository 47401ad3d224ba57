"""What is accepted is on disk before anybody is told, and what could not be written leaves no trace."""

import errno
import json
import os
import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reverse_etl.collect.contract import Record
from reverse_etl.collect.log import Log, last_segment, line_of, segments
from reverse_etl.system.clock import Clock

NOW = datetime(2026, 11, 29, 21, 15, tzinfo=UTC)


class Fixed(Clock):
    """A clock that stands where a test puts it."""

    def __init__(self) -> None:
        self.at = NOW

    def utc(self) -> datetime:
        return self.at


class Told:
    """What became of each line, in order."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str | None]] = []
        self._came = threading.Condition()

    def __call__(self, whose: Sequence[int], error: OSError | None) -> None:
        with self._came:
            self.found += [(one, error and error.strerror) for one in whose]
            self._came.notify_all()

    def until(self, number: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.found) >= number, timeout=60)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> Fixed:
    return Fixed()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As a full disk: nothing of a file is written behind so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def put(log: Log[int], told: Told, *lines: bytes) -> None:
    """Append lines one after another, each when the one before has been answered."""
    for line in lines:
        done = len(told.found)
        log.append(line, done)
        told.until(done + 1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "log").iterdir())}


def test_line_of_a_request():
    line = line_of("shop", "t", NOW, [Record("id1", 7, '{"a":"é\n"}'), Record("id2", 8, "{}")])
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "source": "shop",
        "table": "t",
        "received_at": "2026-11-29T21:15:00.000000Z",
        "records": [
            {"record_id": "id1", "time": 7, "record": '{"a":"é\n"}'},
            {"record_id": "id2", "time": 8, "record": "{}"},
        ],
    }


def test_lines_are_on_disk_when_their_senders_are_told(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        put(log, told, b"1\n", b"2\n")
        assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n2\n"}
    assert told.found == [(0, None), (1, None)]
    assert (tmp_path / "log/20261129T211500.jsonl").stat().st_mode & 0o777 == 0o600


def test_all_that_waits_is_written_at_the_end(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        for number in range(1000):
            log.append(b"%d\n" % number, number)
    assert told.found == [(number, None) for number in range(1000)]
    assert contents(tmp_path)["20261129T211500.jsonl"] == b"".join(b"%d\n" % number for number in range(1000))


def test_segments_have_increasing_names_even_if_the_clock_goes_back(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        assert log.rotate() is None
        put(log, told, b"1\n")
        assert log.rotate() == "20261129T211500"
        put(log, told, b"2\n")
        log.rotate()
        clock.at -= timedelta(days=1)
        put(log, told, b"3\n")
        assert log.rotate() == log.rotate() == "20261129T211502"
    assert segments(tmp_path) == ["20261129T211500", "20261129T211501", "20261129T211502"]


def test_a_new_log_begins_behind_all_that_is_there(tmp_path: Path, told: Told, clock: Fixed):
    kept = tmp_path / "shop" / "t" / "20261129T000000-20261129T220000.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with Log(tmp_path, told, clock) as log:
        put(log, told, b"1\n")
    assert last_segment(tmp_path) == "20261129T220001"


def test_what_a_killed_one_has_left_is_not_touched(tmp_path: Path, told: Told, clock: Fixed):
    (tmp_path / "log").mkdir()
    (tmp_path / "log/20261129T211500.jsonl").write_bytes(b"1\n2")
    with Log(tmp_path, told, clock) as log:
        put(log, told, b"3\n")
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n2", "20261129T211501.jsonl": b"3\n"}


def test_lines_that_a_full_disk_cuts_are_cut_off_whole(tmp_path: Path, told: Told, clock: Fixed):
    """And the next ones go to a new segment, as soon as there is room."""
    with Log(tmp_path, told, clock) as log:
        put(log, told, b"1\n")
        with no_file_beyond(50):
            put(log, told, b"x" * 100 + b"\n", b"y" * 100 + b"\n")
            assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n"}
            assert isinstance(log.failure, OSError)
            put(log, told, b"2\n")
            assert log.failure is None
        put(log, told, b"3\n")
    assert told.found == [(0, None), (1, "File too large"), (2, "File too large"), (3, None), (4, None)]
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n", "20261129T211501.jsonl": b"2\n3\n"}


def test_names_do_not_run_ahead_of_the_clock_while_the_disk_is_full(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        with no_file_beyond(0):
            put(log, told, *[b"1\n"] * 100)
        put(log, told, b"2\n")
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"2\n"}


def test_a_folder_that_is_gone_is_an_error_and_comes_back(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        (tmp_path / "log").rename(tmp_path / "elsewhere")
        put(log, told, b"1\n")
        (tmp_path / "elsewhere").rename(tmp_path / "log")
        put(log, told, b"2\n")
    assert told.found == [(0, "No such file or directory"), (1, None)]
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"2\n"}


def test_a_link_in_place_of_a_segment_is_not_followed(tmp_path: Path, told: Told, clock: Fixed):
    with Log(tmp_path, told, clock) as log:
        os.symlink(tmp_path / "elsewhere", tmp_path / "log/20261129T211500.jsonl")
        put(log, told, b"1\n", b"2\n")
    assert not (tmp_path / "elsewhere").exists()
    assert told.found[-1] == (1, None)


def test_a_segment_ends_when_it_is_large(tmp_path: Path, told: Told, clock: Fixed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reverse_etl.collect.log.MAX_SEGMENT_BYTES", 4)
    with Log(tmp_path, told, clock) as log:
        put(log, told, b"1\n", b"2\n", b"3\n")
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n2\n", "20261129T211501.jsonl": b"3\n"}


def test_nobody_is_told_before_the_disk_has_flushed_and_those_who_wait_share_a_flush(
    tmp_path: Path, told: Told, clock: Fixed, monkeypatch: pytest.MonkeyPatch
):
    flushed: list[tuple[int, bytes]] = []  # how many had been told, and what was in the file
    is_waited_for, has_begun = threading.Event(), threading.Event()

    def flush(file: int) -> None:
        has_begun.set()
        assert is_waited_for.wait(timeout=60)
        flushed.append((len(told.found), (tmp_path / "log/20261129T211500.jsonl").read_bytes()))

    monkeypatch.setattr(os, "fdatasync", flush)
    with Log(tmp_path, told, clock) as log:
        log.append(b"0\n", 0)
        assert has_begun.wait(timeout=60)
        for number in range(1, 100):
            log.append(b"%d\n" % number, number)
        is_waited_for.set()
        told.until(100)
    lines = [b"%d\n" % number for number in range(100)]
    assert flushed == [(0, lines[0]), (1, b"".join(lines))]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        pytest.param(OSError(errno.EIO, "Input/output error"), "Input/output error", id="a broken disk"),
        pytest.param(MemoryError(), "MemoryError", id="anything else"),
    ],
)
def test_what_was_written_and_could_not_be_flushed_is_cut_off(
    tmp_path: Path, told: Told, clock: Fixed, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
):
    """A file after that is not to be trusted: the next lines go to another one."""

    def fail(file: int) -> None:
        raise error

    with Log(tmp_path, told, clock) as log:
        put(log, told, b"1\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            put(log, told, b"2\n")
        put(log, told, b"3\n")
    assert told.found == [(0, None), (1, why), (2, None)]
    assert contents(tmp_path) == {"20261129T211500.jsonl": b"1\n", "20261129T211501.jsonl": b"3\n"}
