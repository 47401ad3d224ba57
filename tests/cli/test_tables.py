"""Tables for programs: JSON with values of their types, and CSV."""

import csv
import json
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest

from tests.shop import Retl, Shop

# SQL, and its value in JSON.
VALUES: dict[str, tuple[str, Any]] = {
    "small": ("1::TINYINT", 1),
    "big": ("9223372036854775807", 9223372036854775807),
    "huge": ("170141183460469231731687303715884105727::HUGEINT", 170141183460469231731687303715884105727),
    "price": ("12.50::DECIMAL(18, 2)", Decimal("12.50")),
    "part": ("-0.5::DECIMAL(1, 1)", Decimal("-0.5")),
    "exact": ("12345678901234567890.123456789::DECIMAL(38, 9)", Decimal("12345678901234567890.123456789")),
    "ratio": ("0.1::DOUBLE", Decimal("0.1")),
    "large": ("1e300::DOUBLE", Decimal("1e+300")),
    "nan": ("'nan'::DOUBLE", "nan"),
    "endless": ("'-inf'::FLOAT", "-inf"),
    "yes": ("true", True),
    "nothing": ("NULL", None),
    "no_number": ("NULL::DECIMAL(5, 2)", None),
    "word": ("'say \"hi\"\n'", 'say "hi"\n'),
    "digits": ("'007'", "007"),
    "day": ("DATE '2026-11-23'", "2026-11-23"),
    "moment": ("TIMESTAMP '2026-11-23 08:15:00.123456'", "2026-11-23T08:15:00.123456"),
    "zoned": ("TIMESTAMPTZ '2026-11-23 08:15:00+09'", "2026-11-22T23:15:00Z"),
    "clock": ("TIME '08:15:00'", "08:15:00"),
    "span": ("INTERVAL 90 MINUTE", "01:30:00"),
    "id": ("'3f333df6-90a4-4fda-8dd3-9485d27cee36'::UUID", "3f333df6-90a4-4fda-8dd3-9485d27cee36"),
    "bytes": ("'\\xAA'::BLOB", "\\xAA"),
    "list": ("[1, NULL, 3]", [1, None, 3]),
    "empty": ("[]::INTEGER[]", []),
    "struct": (
        "{'a': 1.5::DECIMAL(3, 1), 'b': NULL, 'c d': [DATE '2026-01-01']}",
        {"a": Decimal("1.5"), "b": None, "c d": ["2026-01-01"]},
    ),
    "deep": ("[{'item': [['x'], NULL]}]", [{"item": [["x"], None]}]),
    "map": ("MAP {'k': 1, 'l': NULL}", {"k": 1, "l": None}),
    "json": ("'{\"b\": [1.50, null]}'::JSON", {"b": [Decimal("1.50"), None]}),
    "no_list": ("NULL::INTEGER[]", None),
}


def test_json_of_show_has_values_of_their_types_with_all_their_digits(shop: Shop, retl: Retl):
    columns = ", ".join(f'{sql} AS "{name}"' for name, (sql, _) in VALUES.items())
    shop.model("it", f"SELECT {columns} UNION ALL BY NAME SELECT 2 AS small")
    shown = retl("show", "it", "--output", "json", folder=shop.folder)
    assert shown.code == 0, shown.err
    first, second = json.loads(shown.out, parse_float=Decimal)
    assert first == {name: value for name, (_, value) in VALUES.items()}
    assert [type(first[name]) for name in VALUES] == [type(value) for _, value in VALUES.values()]
    assert second == {**dict.fromkeys(VALUES), "small": 2}
    assert '"exact": 12345678901234567890.123456789,' in shown.out


def test_model_without_rows_is_an_empty_list(shop: Shop, retl: Retl):
    shop.model("it", "SELECT 1 AS n WHERE false")
    assert retl("show", "it", "--output", "json", folder=shop.folder).out == "[]\n"
    assert retl("show", "it", "--output", "csv", folder=shop.folder).out == "n\n"


def test_csv_of_show_can_be_read_back(shop: Shop, retl: Retl):
    shop.model("it", "SELECT 1.50::DECIMAL(5, 2) AS n, 'a, \"b\"\nc' AS t, NULL AS nothing, [1, 2] AS l")
    shown = retl("show", "it", "--output", "csv", folder=shop.folder)
    assert list(csv.DictReader(StringIO(shown.out))) == [{"n": "1.50", "t": 'a, "b"\nc', "nothing": "", "l": "[1, 2]"}]


@pytest.mark.parametrize("command", ["ls", "status", "history", "rejects"])
def test_csv_of_a_table_has_what_its_json_has(shop: Shop, retl: Retl, command: str):
    sql = "SELECT 'u' || i AS external_id, CASE WHEN i = 1 THEN repeat('x', 300) END AS bio FROM range(3) r(i)"
    shop.sync("it", sql, skip_on_invalid_records=True, strict=True, tags=["a", "b"], schedule="@daily")
    none = retl(command, "--output", "csv", folder=shop.folder)
    assert (none.code, none.out.count("\n") >= 1) == (0, True)
    shop.run("it")
    rows = json.loads(retl(command, "--output", "json", folder=shop.folder).out)
    read = list(csv.DictReader(StringIO(retl(command, "--output", "csv", folder=shop.folder).out)))
    assert len(read) == len(rows) > 0
    for row, cells in zip(rows, read, strict=True):
        assert cells.keys() == row.keys()
        assert {name: cells[name] for name in row if not isinstance(row[name], dict | list)} == {
            name: "" if value is None else str(value)
            for name, value in row.items()
            if not isinstance(value, dict | list)
        }
        assert all(json.loads(cells[name]) == row[name] for name in row if isinstance(row[name], dict | list))
