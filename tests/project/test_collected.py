"""Files of what was collected: their names, which of them count, and the SELECT over them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from reverse_etl.project.collected import Part, current, parts_of, segment, select, time_of

AT = datetime(2026, 11, 29, 21, 15, 0, 999_999, tzinfo=UTC)
COLUMNS = {"external_id": "external_id", "user": "user.id", "odd": "a/b~c"}


def names(*parts: str) -> list[str]:
    """Short names of hours and minutes, such as 2100-2115, as names of files."""
    return [f"20261129T{first}00-20261129T{last}00.parquet" for first, last in (part.split("-") for part in parts)]


def test_segment_is_named_by_the_second_of_its_opening_in_utc():
    assert segment(AT) == segment(AT.astimezone(timezone(timedelta(hours=9)))) == "20261129T211500"
    assert time_of("20261129T211500") == datetime(2026, 11, 29, 21, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("20261129T211459", "20261129T211500"),
        ("20261129T211500", "20261129T211501"),
        ("20261231T235959", "20270101T000000"),
    ],
)
def test_segment_is_later_than_the_one_before_even_if_the_clock_is_not(before: str, name: str):
    assert segment(AT, before) == name


@pytest.mark.parametrize(
    "name",
    ["x.parquet", ".tmp-1.parquet", "20261129T211500.parquet", "20261129T211600-20261129T211500.parquet", "notes.txt"],
)
def test_file_with_another_name_is_not_one_of_a_table(name: str):
    assert parts_of([name, *names("2115-2115")]) == [Part("20261129T211500", "20261129T211500")]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], []),
        (["2100-2100", "2101-2101"], ["2100-2100", "2101-2101"]),
        (["2100-2100", "2101-2101", "2100-2159"], ["2100-2159"]),
        (["2100-2100", "2130-2130", "2100-2159", "2000-2359"], ["2000-2359"]),
        (["2100-2159", "2200-2200", "2130-2159"], ["2100-2159", "2200-2200"]),
    ],
    ids=["none", "side by side", "merged", "merged twice", "same end"],
)
def test_file_within_the_range_of_another_one_does_not_count(there: list[str], expected: list[str]):
    for order in (there, there[::-1]):
        assert [part.name for part in current(parts_of(names(*order)))] == names(*expected)


def test_file_is_over_when_its_last_segment_is_older_than_records_are_kept():
    (part,) = parts_of(names("2100-2115"))
    kept = timedelta(days=1)
    assert [part.is_over(AT + later, kept) for later in (timedelta(days=1, seconds=-1), timedelta(days=1))] == [
        False,
        True,
    ]
    assert not part.is_over(AT + timedelta(days=10_000), None)


def write(path: Path, records: Sequence[str]) -> str:
    """A Parquet file as the collector writes it."""
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 1764450900::BIGINT AS time, '2026-11-29T21:15:00Z'::TIMESTAMPTZ AS received_at, "
            "'id-' || n AS record_id, record FROM (SELECT unnest($records::VARCHAR[]) AS record, "
            "generate_subscripts($records::VARCHAR[], 1) AS n)) TO $path (FORMAT parquet)",
            {"records": list(records), "path": str(path)},
        )
    return str(path)


def test_declared_columns_are_texts_and_the_record_keeps_its_types(tmp_path: Path):
    records = ['{"external_id":7,"user":{"id":true},"a/b~c":{"x":1}}', '{"external_id":null,"user":1}', "not JSON"]
    sql = select([write(tmp_path / "it's.parquet", records)], COLUMNS)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        rows = connection.execute(f"SELECT * EXCLUDE (time, received_at) FROM ({sql}) ORDER BY record_id").fetchall()
    assert rows == [
        ("id-1", records[0], "7", "true", '{"x":1}'),
        ("id-2", records[1], None, None, None),
        ("id-3", None, None, None, None),
    ]


def test_table_without_files_has_the_same_columns_and_no_rows(tmp_path: Path):
    with duckdb.connect() as connection:
        there, none = (
            connection.sql(select(files, COLUMNS)) for files in ([write(tmp_path / "x.parquet", ["{}"])], [])
        )
        assert (none.columns, none.types) == (there.columns, there.types)
        assert none.columns == ["time", "received_at", "record_id", "record", "external_id", "user", "odd"]
        assert none.fetchall() == []
