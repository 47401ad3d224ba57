"""Segments become Parquet files, and these larger ones: nothing is lost, and nothing is doubled, however often it is done."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.collect import keep
from reverse_etl.collect.contract import Record
from reverse_etl.collect.keep import Keeper, convert, drop, maintenance, merge, to_merge
from reverse_etl.collect.log import line_of
from reverse_etl.project.collected import Part, current, parts_of
from tests.collect.test_log import NOW, Fixed, no_file_beyond
from tests.shop import examples

SEGMENT = "20261129T211500"
FIRST = Part(SEGMENT, SEGMENT)


def of(*numbers: int, table: str = "t", source: str = "shop", text: str = "{}") -> bytes:
    """The line of a request with these records."""
    return line_of(source, table, NOW, [Record(f"id{n}", n, text) for n in numbers])


def segment_of(folder: Path, *lines: bytes, name: str = SEGMENT) -> Path:
    (folder / "log").mkdir(exist_ok=True)
    path = folder / "log" / f"{name}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def rows(folder: Path, table: str = "shop/t", columns: str = "record_id") -> list[Any]:
    """What who reads the current files of a table finds."""
    files = [str(folder / table / part.name) for part in current(parts_of(os.listdir(folder / table)))]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f"SELECT {columns} FROM read_parquet({files}) ORDER BY time").fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def said() -> list[str]:
    return []


# --- segments become files -------------------------------------------------------------------------------------------


def test_a_segment_becomes_a_file_of_each_table(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1, 2, text='{"a":1.10,"b":"é\n\\u0000"}'), of(3, table="u"), of(4))
    convert(tmp_path, SEGMENT, said.append)
    assert names(tmp_path) == [f"shop/t/{FIRST.name}", f"shop/u/{FIRST.name}"]
    assert rows(tmp_path, columns="time, received_at, record_id, record") == [
        (1, NOW, "id1", '{"a":1.10,"b":"é\n\\u0000"}'),
        (2, NOW, "id2", '{"a":1.10,"b":"é\n\\u0000"}'),
        (4, NOW, "id4", "{}"),
    ]
    assert rows(tmp_path, "shop/u") == ["id3"]
    assert said == []


def test_columns_have_the_types_that_readers_expect(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1))
    convert(tmp_path, SEGMENT, said.append)
    with duckdb.connect() as connection:
        file = tmp_path / "shop/t" / FIRST.name
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{file}')").fetchall()
    assert [row[:2] for row in described] == [
        ("time", "BIGINT"),
        ("received_at", "TIMESTAMP WITH TIME ZONE"),
        ("record_id", "VARCHAR"),
        ("record", "VARCHAR"),
    ]


def test_only_the_owner_can_read_what_is_kept(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1))
    convert(tmp_path, SEGMENT, said.append)
    made = [tmp_path / "shop", tmp_path / "shop/t", tmp_path / "shop/t" / FIRST.name]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700, 0o700, 0o600]


def test_doing_it_again_writes_the_same_file(tmp_path: Path, said: list[str]):
    """As after a kill between the last file and the end of the segment."""
    path = segment_of(tmp_path, of(1), of(2, table="u"))
    shutil.copy(path, tmp_path / "copy")
    convert(tmp_path, SEGMENT, said.append)
    before = (tmp_path / "shop/t" / FIRST.name).read_bytes()
    shutil.copy(tmp_path / "copy", path)
    convert(tmp_path, SEGMENT, said.append)
    assert (tmp_path / "shop/t" / FIRST.name).read_bytes() == before
    assert rows(tmp_path) == ["id1"]
    assert rows(tmp_path, "shop/u") == ["id2"]


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(of(3)[:-1], id="without its end"),
        pytest.param(of(3)[:40], id="cut off"),
        pytest.param(b"{", id="a byte"),
        pytest.param(b"\x00" * 100, id="zeros, after a loss of power"),
    ],
)
def test_a_last_line_without_its_end_is_nobodys(tmp_path: Path, said: list[str], torn: bytes):
    """Nobody was told that it had arrived. If it can be read all the same, it may stay."""
    segment_of(tmp_path, of(1), of(2), torn)
    convert(tmp_path, SEGMENT, said.append)
    assert rows(tmp_path)[:2] == ["id1", "id2"]
    assert said == []
    assert names(tmp_path / "log") == []


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b'{"source":"shop","ta\n', id="cut off"),
        pytest.param(b"\x00" * 50 + b"\n", id="zeros"),
        pytest.param(b"\xff\xfe{}\n", id="not UTF-8"),
        pytest.param(b"[]\n", id="an array"),
        pytest.param(b"1\n", id="a number"),
        pytest.param(b"null\n", id="null"),
        pytest.param(b"{}\n", id="nothing in it"),
        pytest.param(of(9).replace(b'"time":9', b'"time":"soon"'), id="no time"),
        pytest.param(of(9).replace(b"2026-11-29T", b"2026-13-29T"), id="no time of receipt"),
        pytest.param(of(9).replace(b'"id9"', b"null"), id="no id"),
        pytest.param(of(9).replace(b'"{}"', b"null"), id="no record"),
        pytest.param(of(9).replace(b"[", b"[null,"), id="null for a record"),
        pytest.param(of(source="shop"), id="no records"),
        pytest.param(of(9, source="../shop"), id="a source that is a path"),
        pytest.param(of(9, table=".."), id="a table that is a path"),
        pytest.param(of(9)[:-1] + of(8), id="two in one line"),
        pytest.param(b"[" * 10_000 + b"\n", id="deep"),
    ],
)
def test_a_damaged_line_is_set_aside_and_the_others_are_kept(tmp_path: Path, said: list[str], damaged: bytes):
    path = segment_of(tmp_path, of(1), damaged, of(2), b"\n", of(3))
    convert(tmp_path, SEGMENT, said.append)
    assert rows(tmp_path) == ["id1", "id2", "id3"]
    aside = tmp_path / "log" / f"{SEGMENT}.damaged"
    assert aside.read_bytes() == damaged
    assert aside.stat().st_mode & 0o777 == 0o600
    assert said == [f"1 damaged line of {path}: set aside in {SEGMENT}.damaged; the others are kept"]
    assert names(tmp_path) == [f"log/{SEGMENT}.damaged", f"shop/t/{FIRST.name}"]


def test_a_segment_without_records_just_goes(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, b"\n\n", b"{")
    convert(tmp_path, SEGMENT, said.append)
    assert names(tmp_path) == []


def test_folders_with_any_name_are_kept_in(tmp_path: Path, said: list[str]):
    """DuckDB takes some characters for patterns."""
    folder = tmp_path / "it's [a] *?"
    folder.mkdir()
    for name in ("20261129T200000", "20261129T200100"):
        segment_of(folder, of(1), name=name)
        convert(folder, name, said.append)
    merge(folder, NOW)
    assert names(folder / "shop/t")[-1] == "20261129T200100-20261129T200100.parquet"
    assert len(names(folder)) == 3


@pytest.mark.parametrize("room", [0, 100, 1000, 3000])
def test_a_full_disk_leaves_the_segment_and_no_half_file(tmp_path: Path, said: list[str], room: int):
    path = segment_of(tmp_path, *(of(n, text='{"n":"' + os.urandom(20).hex() + '"}') for n in range(200)), b"{")
    whole = path.read_bytes()
    with no_file_beyond(room), pytest.raises((OSError, duckdb.Error)) as raised:
        convert(tmp_path, SEGMENT, said.append)
    assert keep.reason(raised.value) == "File too large"
    assert path.read_bytes() == whole
    assert names(tmp_path) == [f"log/{SEGMENT}.jsonl"]
    convert(tmp_path, SEGMENT, said.append)
    assert rows(tmp_path) == [f"id{n}" for n in range(200)]


# --- files become larger ---------------------------------------------------------------------------------------------


def parts(*texts: str) -> list[Part]:
    return [Part(*(f"202611{text}" for text in one.split("-"))) for one in texts]


@pytest.mark.parametrize(
    ("there", "before", "merged"),
    [
        pytest.param(["29T200000-29T200000", "29T205959-29T205959"], None, [["29T200000-29T200000", "29T205959-29T205959"]], id="an hour that is over"),
        pytest.param(["29T210000-29T210000", "29T211000-29T211000"], None, [], id="this hour"),
        pytest.param(["29T200000-29T200000", "29T190000-29T190000"], None, [], id="one of each hour"),
        pytest.param(["28T200000-28T205900", "28T100000-28T100000"], None, [["28T100000-28T100000", "28T200000-28T205900"]], id="a day that is over"),
        pytest.param(["28T000000-28T235959"], None, [], id="a day that is one"),
        pytest.param(["28T000000-28T235959", "28T100000-28T100000"], None, [], id="one that is superseded"),
        pytest.param(["27T230000-28T010000", "28T020000-28T020000"], None, [], id="one of two days"),
        pytest.param(["28T200000-28T200000", "28T210000-28T210000", "29T200000-29T200000", "29T200100-29T200100"], None,
            [["28T200000-28T200000", "28T210000-28T210000"], ["29T200000-29T200000", "29T200100-29T200100"]], id="a day and an hour"),
        pytest.param(["29T200000-29T200000", "29T200100-29T200100", "29T200300-29T200300"], "20261129T200200",
            [["29T200000-29T200000", "29T200100-29T200100"]], id="none behind a segment of the log"),
        pytest.param(["30T200000-30T200000", "30T200100-30T200100"], None, [], id="in the future"),
    ],
)  # fmt: skip
def test_which_files_become_one(there: list[str], before: str | None, merged: list[list[str]]):
    assert to_merge(parts(*there), NOW, before) == [parts(*group) for group in merged]


def kept(folder: Path, *segments: str, table: str = "t") -> None:
    for name in segments:
        segment_of(folder, of(int(name[9:]), table=table), name=name)
        convert(folder, name, lambda text: None)


def test_merged_files_have_all_records_in_order_and_readers_see_each_once(tmp_path: Path):
    kept(tmp_path, "20261129T200300", "20261129T200100", "20261129T200200", "20261129T211000")
    merge(tmp_path, NOW)
    assert len(names(tmp_path)) == 5
    assert rows(tmp_path) == ["id200100", "id200200", "id200300", "id211000"]
    merge(tmp_path, NOW)
    assert len(names(tmp_path)) == 5
    merge(tmp_path, NOW + timedelta(days=1))
    assert rows(tmp_path) == ["id200100", "id200200", "id200300", "id211000"]
    assert "shop/t/20261129T200100-20261129T211000.parquet" in names(tmp_path)


def test_a_segment_that_could_not_be_converted_is_not_covered_by_a_later_merge(tmp_path: Path):
    """Or its records would never be read."""
    kept(tmp_path, "20261129T200100", "20261129T200300")
    late = segment_of(tmp_path, of(200200), name="20261129T200200")
    merge(tmp_path, NOW)
    convert(tmp_path, late.stem, lambda text: None)
    merge(tmp_path, NOW)
    assert rows(tmp_path) == ["id200100", "id200200", "id200300"]


def test_a_full_disk_leaves_what_would_be_merged(tmp_path: Path):
    kept(tmp_path, "20261129T200100", "20261129T200200")
    before = names(tmp_path)
    with no_file_beyond(100), pytest.raises(duckdb.Error):
        merge(tmp_path, NOW)
    assert names(tmp_path) == before


# --- what is old goes ------------------------------------------------------------------------------------------------


def written_at(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()))


def test_superseded_files_stay_for_an_hour_for_who_has_listed_them(tmp_path: Path):
    kept(tmp_path, "20261129T200100", "20261129T200200")
    merge(tmp_path, NOW)
    merged = tmp_path / "shop/t/20261129T200100-20261129T200200.parquet"
    written_at(merged, NOW)
    drop(tmp_path, NOW + timedelta(minutes=60), lambda source, table: None)
    assert len(names(tmp_path)) == 3
    drop(tmp_path, NOW + timedelta(minutes=61), lambda source, table: None)
    assert names(tmp_path) == ["shop/t/20261129T200100-20261129T200200.parquet"]
    assert rows(tmp_path) == ["id200100", "id200200"]


def test_files_go_when_their_table_keeps_them_no_longer_and_an_hour_has_passed(tmp_path: Path):
    for table in ("t", "u"):
        kept(tmp_path, "20261129T100000", "20261129T200000", table=table)
    keeps = {("shop", "t"): timedelta(hours=5), ("shop", "u"): None}
    now = datetime(2026, 11, 29, 16, 0, 1, tzinfo=UTC)
    drop(tmp_path, now - timedelta(seconds=1), lambda *table: keeps.get(table))
    assert len(names(tmp_path)) == 4
    drop(tmp_path, now, lambda *table: keeps.get(table))
    assert rows(tmp_path, "shop/t") == ["id200000"]
    assert rows(tmp_path, "shop/u") == ["id100000", "id200000"]


def test_what_a_killed_one_left_unfinished_goes_and_what_others_put_there_stays(tmp_path: Path):
    kept(tmp_path, "20261129T200100")
    unfinished = tmp_path / "shop/t/.20261129T200200-20261129T200200.parquet.unfinished"
    unfinished.touch()
    half = segment_of(tmp_path).with_suffix(".unfinished")
    half.touch()
    (tmp_path / "shop/t/notes.txt").touch()
    drop(tmp_path, NOW, lambda source, table: timedelta(hours=1))
    assert not unfinished.exists()
    assert not half.exists()
    assert (tmp_path / "shop/t/notes.txt").exists()


def test_damaged_lines_go_with_the_rest(tmp_path: Path):
    aside = segment_of(tmp_path).with_suffix(".damaged")
    aside.touch()
    written_at(aside, NOW - timedelta(days=2))
    drop(tmp_path, NOW, lambda source, table: timedelta(days=3))
    assert aside.exists()
    drop(tmp_path, NOW, lambda source, table: timedelta(days=1))
    assert not aside.exists()


# --- every minute ----------------------------------------------------------------------------------------------------


class Segments:
    """What the log says is over."""

    def __init__(self, over: str | None) -> None:
        self.over = over

    def __call__(self) -> str | None:
        return self.over


def keeper(folder: Path, said: list[str], over: str | None = SEGMENT) -> Keeper:
    return Keeper(folder, Segments(over), lambda source, table: None, Fixed(), said.append)


def test_the_segment_that_is_written_is_left_alone(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1))
    segment_of(tmp_path, of(2), name="20261129T211501")
    keeper(tmp_path, said).keep()
    assert rows(tmp_path) == ["id1"]
    assert names(tmp_path / "log") == ["20261129T211501.jsonl"]


def test_while_somebody_else_rewrites_files_nothing_is_done(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1))
    with maintenance(tmp_path) as is_ours:
        assert is_ours
        keeper(tmp_path, said).keep()
        assert names(tmp_path) == [".maintenance", f"log/{SEGMENT}.jsonl"]
    keeper(tmp_path, said).keep()
    assert rows(tmp_path) == ["id1"]
    assert said == []


def test_what_cannot_be_kept_is_said_once_and_so_is_its_end(tmp_path: Path, said: list[str]):
    segment_of(tmp_path, of(1))
    works = keeper(tmp_path, said)
    works.keep()
    segment_of(tmp_path, of(2))
    with no_file_beyond(0):
        works.keep()
        works.keep()
    works.keep()
    works.keep()
    assert said == [
        "cannot write Parquet files: File too large; the log has all records, and it is tried every minute",
        "Parquet files are written again",
    ]
    assert rows(tmp_path) == ["id2"]


# --- killed anywhere -------------------------------------------------------------------------------------------------


class KilledError(BaseException):
    """In place of a kill: nothing behind it is done, not even what `except Exception` would do."""


def steps(folder: Path, until: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do everything, up to that many changes of files; whether it came to its end."""
    left = until

    def limited(function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return function(*arguments, **more)

        return call

    with monkeypatch.context() as patch, suppress(KilledError):
        for name in ("replace", "unlink", "fsync", "mkdir"):
            patch.setattr(os, name, limited(getattr(os, name)))
        works = keeper(folder, [], "20261129T211500")
        works._clock.at = NOW + timedelta(days=1)  # type: ignore[attr-defined]
        works.keep()
        return True
    return False


def everything(folder: Path) -> list[str]:
    """What readers find now, and what the log still has."""
    found = rows(folder) if list(folder.glob("shop/t/*.parquet")) else []
    covered = parts_of(path.name for path in folder.glob("shop/t/*.parquet"))
    for path in sorted(folder.glob("log/*.jsonl")):
        if not any(part.first <= path.stem <= part.last for part in covered):
            found += [f"id{int(path.stem[9:])}"]
    return sorted(found)


@pytest.mark.long
def test_killed_after_any_step_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = ["20261129T200100", "20261129T200200", "20261129T210500", "20261129T211500"]
    wanted = sorted(f"id{int(name[9:])}" for name in made)
    for until in range(0, 200, examples(3, 1)):
        folder = tmp_path / str(until)
        folder.mkdir()
        for name in made:
            segment_of(folder, of(int(name[9:])), name=name)
        is_done = steps(folder, until, monkeypatch)
        assert everything(folder) == wanted
        keeper(folder, []).keep()
        assert rows(folder) == [f"id{n}" for n in sorted(int(name[9:]) for name in made)]
        if is_done:
            break
    assert is_done
    assert until > 20


def numbers(rows: Iterable[str]) -> list[int]:
    return [int(row[2:]) for row in rows]


@pytest.mark.long
def test_many_large_records_take_little_memory(tmp_path: Path, said: list[str]):
    """DuckDB may have 256 MB; 300 MB of records are merged within them."""
    text = '{"a":"' + "x" * 900_000 + '"}'
    for minute in range(6):
        name = f"20261129T200{minute}00"
        segment_of(tmp_path, *(of(minute * 100 + n, text=text) for n in range(50)), name=name)
        convert(tmp_path, name, said.append)
    merge(tmp_path, NOW)
    assert numbers(rows(tmp_path)) == [minute * 100 + n for minute in range(6) for n in range(50)]
