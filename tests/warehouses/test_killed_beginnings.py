"""kill -9 of what writes the first table of acknowledged rows in Spark, a first run or a baseline: the next one of it
records each row once, and drops what was left."""

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.spark.pushed import PushedEngine
from reverse_etl.engines.spark.tables import SparkTables
from reverse_etl.state.elsewhere import Elsewhere
from reverse_etl.state.open_run import OpenRun
from tests.processes import Forked, command
from tests.shop import Shop, examples, some
from tests.warehouses.conftest import Sail, Warehouse, comparing
from tests.warehouses.test_comparing import KEEPS, acknowledged, pointer, tables

SYNC, BASELINE = ("sync",), ("state", "baseline", "--yes")
STEPS: Mapping[str, tuple[tuple[str, ...], type, str]] = {
    "first run, a table is tried": (SYNC, SparkTables, "drop"),
    "first run, before its table": (SYNC, SparkTables, "write"),
    "first run, after its table": (SYNC, SparkTables, "write"),
    "first run, before it is committed": (SYNC, Elsewhere, "take_out"),
    "first run, after it": (SYNC, Elsewhere, "tidy"),
    "baseline, a table is tried": (BASELINE, SparkTables, "drop"),
    "baseline, amid its table": (BASELINE, PushedEngine, "_asked"),
    "baseline, before rows are judged": (BASELINE, PushedEngine, "_take_suspects"),
    "baseline, after that": (BASELINE, OpenRun, "complete"),
    "baseline, before it is committed": (BASELINE, Elsewhere, "take_out"),
    "baseline, after the table of judged rows": (BASELINE, SparkTables, "write"),
    "baseline, after it": (BASELINE, Elsewhere, "tidy"),
}
MOVES: Mapping[str, tuple[tuple[str, ...], type, str]] = {
    "move, a table is tried": (("state", "move"), SparkTables, "drop"),
    "move, after its table": (("state", "move"), SparkTables, "write"),
}
ROWS: dict[str, list[Any]] = {
    "external_id": [*(f"u{n}" for n in range(20)), "", "odd"],
    "n": list(range(22)),
    "gender": ["F"] * 21 + ["unknown"],  # which Braze would drop
}


def killed_at(step: str, wait_s: float, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl`, which is killed at a step; amid one, after so many seconds."""
    _, of, name = {**STEPS, **MOVES}[step]
    whole, times = getattr(of, name), count(1)

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dies_after(*given: Any) -> None:
        whole(*given)
        die()

    def dies_at_the_end(*given: Any) -> None:
        if next(times) > 1:  # it is done when a state is opened, too
            die()
        whole(*given)

    def dies_amid(*given: Any) -> Iterator[Any]:
        threading.Timer(wait_s, die).start()
        yield from whole(*given)

    def dies_before(of: SparkTables, names: Sequence[str]) -> None:
        if names:
            die()

    ways = {"_asked": dies_amid, "tidy": dies_at_the_end, "write": dies_after, "drop": dies_before}
    setattr(of, name, die if "before" in step else ways.get(name, die))
    command(folder, environ, *arguments)


@pytest.mark.long
def test_rows_are_recorded_once_and_no_table_is_left(shop: Shop, lasting: Sail, schema: str, seed: int):
    comparing(shop, lasting, schema)
    spark, draw, live = Warehouse("sail-engine", shop), random.Random(seed), set[str]()
    for number, step in enumerate(some(STEPS, every=3) * examples(1, 10)):
        sync, (words, *_) = f"it{number}", STEPS[step]
        shop.syncs = []
        shop.sync(
            sync, f"SELECT * FROM {spark.put('people', pyarrow.table(ROWS))}", skip_on_invalid_records=True, **KEEPS
        )
        before, environ = len(shop.sent()), {**os.environ, **shop.environ}
        how = step, draw.random() * 0.1, shop.folder, environ, *words, sync
        with Forked(killed_at, *how) as process:
            assert process.wait() == -signal.SIGKILL, (step, process.err)
        if words == SYNC:
            assert [shop.run().errors, shop.run().plan.to_send] == [[], 0], step
        elif not step.endswith("after it"):
            with Forked(command, shop.folder, environ, *words, sync) as process:
                assert process.wait() == 0, (step, process.err)
        result = shop.run()
        assert (result.errors, result.plan.to_send) == ([], 0), step
        assert [row[0] for row in acknowledged(shop, lasting, sync)] == sorted({*ROWS["external_id"]} - {""}), step
        bodies = shop.sent()[before:]
        sent = Counter(one["external_id"] for body in bodies for one in json.loads(body)["attributes"])
        assert sent == (Counter(ROWS["external_id"]) - Counter([""]) if words == SYNC else Counter()), step
        shop.sync(sync, (shop.folder / f"models/{sync}.sql").read_text().replace("*", "*, 1 AS one"), **KEEPS,
                  skip_on_invalid_records=True)  # fmt: skip
        assert shop.run().errors == [], step
        live |= {table.name for table in pointer(shop, sync).tables}
        assert tables(lasting, schema) == live, step


@pytest.mark.long
@pytest.mark.parametrize("step", MOVES)
def test_rows_move_once_and_no_table_is_left(shop: Shop, lasting: Sail, schema: str, step: str):
    shop.engine = {"type": "spark", "remote": lasting.address}
    spark = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT * FROM {spark.put('people', pyarrow.table(ROWS))}", skip_on_invalid_records=True, **KEEPS)
    shop.run()
    comparing(shop, lasting, schema)
    environ, words = {**os.environ, **shop.environ}, (*MOVES[step][0], "it")
    with Forked(killed_at, step, 0.0, shop.folder, environ, *words) as process:
        assert process.wait() == -signal.SIGKILL, process.err
    assert len(tables(lasting, schema)) == 1
    with Forked(command, shop.folder, environ, *words) as process:
        assert process.wait() == 0, process.err
    assert (shop.run().plan.to_send, len(acknowledged(shop, lasting))) == (0, 21)
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
