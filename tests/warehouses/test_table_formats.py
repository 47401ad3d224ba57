"""Acknowledged rows in tables of Delta and Iceberg, which Sail writes: `make test-table-formats` runs all of it so."""

import random

import pytest

from tests.warehouses.conftest import SPARK, Sail
from tests.warehouses.test_comparing import KEEPS, Both, both, drawn, other, tables  # noqa: F401

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(SPARK), reason="Apache Spark comes without them")]


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_acknowledged_rows_are_in_tables_as_the_catalog_makes_them(both: Both, lasting: Sail, schema: str, form: str):
    draw = random.Random(form)
    rows = drawn(draw, [f"u{n}" for n in range(12)])
    with lasting.making(form):
        for step in range(3):
            both.sync(rows, on_removed="clear", **KEEPS)
            both.run(threads=1)
            rows = other(draw, rows, step)
        assert both.run(threads=1).plan.to_send == 0
    made = tables(lasting, schema)
    assert len(made) == 3
    for name in made:
        described = lasting.sql(f"DESCRIBE TABLE EXTENDED {schema}.{name}")
        assert [row["data_type"] for row in described if row["col_name"] == "Provider"] == [form]
