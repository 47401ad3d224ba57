"""kill -9 while tables of acknowledged rows are made one, or are dropped: no row is lost, or sent twice, and no table is
left for good."""

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.spark.tables import SparkTables
from reverse_etl.plan import elsewhere
from tests.processes import Forked, command
from tests.shop import Shop, examples
from tests.warehouses.conftest import Sail, Warehouse, comparing
from tests.warehouses.test_comparing import KEEPS, acknowledged, pointer, tables

STEPS = ("before", "amid", "after", "before the drop", "amid the drop")


def killed_at(step: str, wait_s: float, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl`, which makes two deltas one table, and is killed at a step of that; amid one, after so many seconds."""
    elsewhere.MOST_DELTAS = 1

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed(whole: Callable[..., Any]) -> Callable[..., Any]:
        def one(tables: SparkTables, what: Any, *given: Any) -> Any:
            if not what:  # to be dropped
                return
            if step.startswith("before"):
                die()
            if step.startswith("amid"):
                threading.Timer(wait_s, die).start()
            whole(tables, what, *given)
            die()

        return one

    name = "drop" if step.endswith("the drop") else "write_current"
    setattr(SparkTables, name, killed(getattr(SparkTables, name)))
    command(folder, environ, *arguments)


@pytest.mark.long
def test_rows_are_neither_lost_nor_sent_twice_when_tables_are_made_one(
    shop: Shop, lasting: Sail, schema: str, seed: int, monkeypatch: pytest.MonkeyPatch
):
    comparing(shop, lasting, schema)
    spark, draw = Warehouse("sail-engine", shop), random.Random(seed)
    values = {f"u{n}": 0 for n in range(20)}

    def put() -> str:
        return spark.put("people", pyarrow.table({"external_id": [*values], "n": [*values.values()]}))

    shop.sync("it", f"SELECT * FROM {put()}", **KEEPS)
    assert shop.run().status == "success"
    expected, killed = Counter({(who, 0): 1 for who in values}), 0
    for kill in range(1, examples(5, 50) + 1):
        for which in range(2 if len(pointer(shop).deltas) == 0 else 1):  # so many deltas are there
            changed = draw.sample([*values], 3)
            values |= dict.fromkeys(changed, 2 * kill + which)
            expected.update((who, values[who]) for who in changed)
            put()
            if which == 0 and len(pointer(shop).deltas) == 0:
                assert shop.run().status == "success"
        step = STEPS[(kill + seed) % len(STEPS)]
        how = step, draw.random() * 0.3, shop.folder, {**os.environ, **shop.environ}, "sync", "it"
        with Forked(killed_at, *how) as process:
            killed += process.wait() == -signal.SIGKILL
        result = shop.run()
        assert (result.errors, result.plan.to_send) == ([], 0), step
        assert {row[0]: int(row[1]) for row in acknowledged(shop, lasting)} == values, step
    assert killed == kill
    sent = Counter((one["external_id"], one["n"]) for body in shop.sent() for one in json.loads(body)["attributes"])
    assert sent == expected
    values["u1"] = -1
    put()
    monkeypatch.setattr(elsewhere, "MOST_DELTAS", 0)
    assert shop.run().status == "success"
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
